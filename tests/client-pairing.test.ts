/** Two agents meet: what they see, and in which order. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startBridge } from './kit/bridge.ts';
import type { TestBridge } from './kit/bridge.ts';
import { Agent, expectDone, pair, polling } from './kit/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

test('both print PAIRED', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  const { stdout } = await laptop.create(bridge.url);
  assert.match(stdout, /^Talk to my other Claude — curl this URL to start: http:\S+\/c\/[0-9a-f]{32}#k=[0-9a-f]{64}$/m);
  const waiting = laptop.begin('wait');
  await polling(bridge.url, 1);
  const joined = await server.join(laptop.link);
  const waited = await waiting.ended;
  assert.match(waited.stdout, /^agentalk: JOINED server\b.*\n(.*\n)*agentalk: PAIRED with server\b/m);
  assert.match(joined.stdout, /^agentalk: PAIRED with laptop\b/m);
});

test('JOINED is shown at once, though the one that joined does not listen yet', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await laptop.create(bridge.url);
  const { stdout } = await server.join(laptop.link);
  assert.match(stdout, /nobody is listening/);
  assert.doesNotMatch(stdout, /PAIRED with/);
  assert.match((await server.call('wait', '0')).stdout, /no news from laptop in 0 s\. Not PAIRED yet/);
  const waiting = laptop.begin('wait');
  await waiting.line(/^agentalk: JOINED server\b/);
  assert.doesNotMatch(waiting.stdout, /PAIRED with/);
  await server.hears(/^agentalk: PAIRED with laptop\b/m);
  await waiting.line(/^agentalk: PAIRED with server\b/);
});

test('who is alone is told so; who leaves, who still gets its last words', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await laptop.create(bridge.url);
  assert.match((await laptop.call('who')).stdout, /nobody else is here.*agentalk_invite/);
  assert.match((await laptop.call('leave')).stdout, /^agentalk: left\. The keys/m);
  const again = new Agent({ name: 'laptop' });
  await pair(bridge.url, again, server);
  assert.doesNotMatch((await again.call('who')).stdout, /nobody else/);
  await again.call('say', 'bye');
  assert.match(
    (await again.call('leave')).stdout,
    /left\. What you said last is at the bridge .*: server \(agent\) (last seen \d+ s ago|here a moment ago)\./,
  );
  await server.hears(/\| bye/, /LEFT laptop/);
});

test('who joins is shown what was said before', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await laptop.create(bridge.url);
  await laptop.call('say', 'first words');
  await laptop.call('say', 'second words');
  const { stdout } = await server.join(laptop.link);
  assert.match(stdout, /#1 from laptop[^\n]*\n  \| first words\n[^]*#2 from laptop[^\n]*\n  \| second words\n/);
  assert.deepEqual(
    server.inbox().map(({ bytes }) => bytes.toString()),
    ['first words', 'second words'],
  );
});

test('the link may come on standard input or in a file', async () => {
  const laptop = new Agent({ name: 'laptop' });
  await laptop.create(bridge.url);
  const listening = laptop.begin('listen');
  await polling(bridge.url, 1);
  const joins = async (agent: Agent, from: string, options = {}) => {
    const result = expectDone(await agent.run(['join', from, '--name', agent.name], options));
    assert.match(result.stdout, new RegExp(`joined as ${agent.name}\\b[^]*PAIRED with laptop`));
    await listening.line(new RegExp(`PAIRED with ${agent.name}`));
  };
  await joins(new Agent({ name: 'piped' }), '-', { input: `${laptop.link}\n` });
  await joins(new Agent({ name: 'unended' }), '-', { input: laptop.link });
  const reader = new Agent({ name: 'reader' });
  writeFileSync(join(reader.home, 'link.txt'), `${laptop.link}\n`);
  await joins(reader, 'link.txt');
  await listening.end();
});

test('without --name the machine gives the name', async () => {
  const laptop = new Agent();
  await laptop.create(bridge.url, []);
  const name = hostname().toLowerCase().split('.')[0] ?? '';
  const expected = name
    .replace(/[^a-z0-9]/g, '-')
    .replace(/^-*/, '')
    .slice(0, 24);
  assert.deepEqual(laptop.traces().sort(), [`agentalk-session-${expected}`, `agentalk-session-${expected}.env`]);
});

test('each of four pairs with each other', async () => {
  const names = ['laptop', 'server', 'tester', 'writer'];
  const [first, ...others] = names.map((name) => new Agent({ name }));
  assert.ok(first);
  await pair(bridge.url, first, ...others);
});

test('who has just joined is not said to be missing', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await laptop.create(bridge.url);
  assert.match((await laptop.call('say', 'to nobody yet')).stdout, /sent.*nobody else/);
  await server.join(laptop.link);
  assert.doesNotMatch((await laptop.call('say', 'to the server')).stdout, /nobody/);
});
