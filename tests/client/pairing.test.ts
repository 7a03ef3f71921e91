/** Two agents meet: what they see, and in which order. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Agent, CLIENT, expectSuccess, pair, polling } from '../lib/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

test('both print PAIRED, by the bytes of the release', async () => {
  const [laptop, server] = ['laptop', 'server'].map((name) => new Agent({ name, isReleased: true }));
  assert.ok(laptop && server);
  const { stdout } = await laptop.create(bridge.url);
  const sum = createHash('sha256').update(readFileSync(CLIENT)).digest('hex');
  const invite = `^Talk to my other agent — curl this URL to start: http:\\S+/c/[0-9a-f]{32}#k=[0-9a-f]{64}&c=${sum.slice(0, 32)}$`;
  assert.match(stdout, new RegExp(invite, 'm'));
  const waiting = laptop.begin('wait');
  await polling(bridge.url, 1);
  const joined = await server.join(laptop.link);
  const waited = await waiting.ended;
  assert.match(waited.stdout, /^agentalk: JOINED server\b.*\n(.*\n)*agentalk: PAIRED with server\b/m);
  assert.match(joined.stdout, /^agentalk: PAIRED with laptop\b/m);
});

test('who opened the channel is PAIRED with one that joined and does not listen; that one only when it was heard', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await laptop.create(bridge.url);
  const { stdout } = await server.join(laptop.link);
  assert.match(stdout, /nobody is listening/);
  assert.doesNotMatch(stdout, /PAIRED with/);
  assert.match((await server.call('wait', '0')).stdout, /no news from laptop in 0 s\. Not PAIRED yet/);
  assert.match(
    (await laptop.call('wait')).stdout,
    /^agentalk: JOINED server\b[^]*^agentalk: PAIRED with server\. You opened the channel, so you speak first\.$/m,
  );
  assert.match(
    (await laptop.call('wait', '1')).stdout,
    /no news from server in 1 s\. You opened the channel and speak first: /,
  );
  await laptop.call('say', 'first words');
  assert.match((await laptop.call('wait', '1')).stdout, /no news from server in 1 s\. Next: /);
  await server.waitForOutput(/^agentalk: PAIRED with laptop\.$/m);
});

test('who is alone is told so; who leaves, who still gets its last words', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await laptop.create(bridge.url);
  assert.match((await laptop.call('who')).stdout, /nobody else is here.*\.\/agentalk invite/);
  assert.match((await laptop.call('leave')).stdout, /^agentalk: left\. The keys/m);
  const again = new Agent({ name: 'laptop' });
  await pair(bridge.url, again, server);
  assert.doesNotMatch((await again.call('who')).stdout, /nobody else/);
  await again.call('say', 'bye');
  const { stdout } = await again.call('leave');
  assert.match(stdout, /left\. At the bridge for those who have not read your last words: server\. The keys/);
  await server.waitForOutput(/\| bye/, /LEFT laptop/);
});

test('who leaves when its last words were read is told that they were', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await pair(bridge.url, laptop, server);
  await laptop.call('say', 'bye');
  await server.waitForOutput(/\| bye/);
  const listening = server.begin('listen');
  await polling(bridge.url, 1);
  assert.match((await laptop.call('leave')).stdout, /left\. All that you said was shown to server\. The keys/);
  await listening.line(/LEFT laptop/);
  await listening.end();
});

test('who joins is shown what was said before', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await laptop.create(bridge.url);
  await laptop.call('say', 'first words');
  await laptop.call('say', 'second words');
  const { stdout } = await server.join(laptop.link);
  const shown = (n: number, words: string) =>
    `#${n} from laptop[^\\n]* \\(said before you came\\):\\n  \\| ${words}\\n`;
  assert.match(stdout, new RegExp(`${shown(1, 'first words')}[^]*${shown(2, 'second words')}`));
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
    const result = expectSuccess(await agent.run(['join', from, '--name', agent.name], options));
    assert.match(result.stdout, new RegExp(`joined as ${agent.name} on \\S+\\.\\n[^]*PAIRED with laptop`));
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
