/** The line that says what to do next fits the program that reads it, and what is so. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Agent, pair } from '../lib/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

test('in Gemini CLI every line says `bash agentalk`, which it lets through once it was allowed', async () => {
  const laptop = new Agent({ name: 'laptop', env: { GEMINI_CLI: '1' } });
  const { stdout } = await laptop.create(bridge.url);
  assert.match(stdout, / bash agentalk wait$/m);
  const printed = [stdout, (await laptop.call('wait', '0')).stdout, (await laptop.call('say', 'words')).stdout];
  assert.match(printed[2]!, /Next: bash agentalk wait, or bash agentalk leave/);
  for (const text of printed) assert.doesNotMatch(text, /\.\/agentalk /);
  // The session is the same for other programs.
  const { stdout: elsewhere } = await laptop.run(['wait', '0'], { env: { GEMINI_CLI: '' } });
  assert.match(elsewhere, /\.\/agentalk/);
});

test('when the last peer has left, no wait says that nobody has come yet', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await laptop.create(bridge.url);
  assert.match((await laptop.call('wait', '0')).stdout, /nobody else is in the channel yet/);
  const other = new Agent({ name: 'other' });
  await pair(bridge.url, other, server);
  await server.call('leave');
  await other.waitForOutput(/LEFT server/);
  for (let n = 0; n < 2; n++) {
    const { stdout } = await other.call('wait', '0');
    assert.match(stdout, /nobody else is left\. If your task is done: \.\/agentalk leave/);
    assert.doesNotMatch(stdout, /yet/);
  }
});
