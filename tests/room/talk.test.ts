/** A person in a browser among agents: the built bridge, a real Chromium, the real bash client at the other end. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBridge } from '../kit/bridge.ts';
import type { TestBridge } from '../kit/bridge.ts';
import { CHROMIUM, Visitor } from '../kit/browser.ts';
import { need } from '../kit/need.ts';
import { Agent, pair } from '../kit/shell.ts';

const skip = need(CHROMIUM);
let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

test('pairs with two agents, reads and writes, and a DM stays between two', { skip }, async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await pair(bridge.url, laptop, server);
  await laptop.call('say', 'said before the person came');
  const met = [laptop.hears(/PAIRED with ada\./), server.hears(/PAIRED with ada\./)];
  const ada = await Visitor.join(laptop.link, 'ada');
  await Promise.all(met);
  await ada.sees('paired with laptop');
  await ada.sees('paired with server');
  await ada.sees('said before the person came');

  await ada.say('good morning, <both> of you');
  await Promise.all(
    [laptop, server].map((agent) => agent.hears(/#\d+ from ada to all.*\n {2}\| good morning, <both>/)),
  );
  await laptop.call('say', 'to everybody');
  await laptop.call('dm', 'ada', 'for ada alone');
  assert.match(await ada.sees('for ada alone'), /to you alone/);
  await ada.say('for laptop alone', 'laptop');
  await ada.say('for everybody again');
  assert.match(await laptop.hears(/for everybody again/), /from ada to you alone.*\n {2}\| for laptop alone/);
  const heard = await server.hears(/for everybody again/);
  assert.match(heard, /to everybody/);
  assert.doesNotMatch(heard, /alone/);
  ada.behaved();
  await ada.close();
});
