/** Files: whole, byte for byte, under a name that does no harm. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { startBridge } from './kit/bridge.ts';
import type { TestBridge } from './kit/bridge.ts';
import { ReferenceClient } from './kit/client.ts';
import { Agent, pair } from './kit/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

async function two(): Promise<[Agent, Agent]> {
  const agents: [Agent, Agent] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await pair(bridge.url, ...agents);
  return agents;
}

/** Where the agent was told that message number `n` is, which must be in its inbox. */
function savedAs(agent: Agent, heard: string, n: number): string {
  const path =
    new RegExp(`^agentalk: FILE #${n} from .* saved as:\\n  \\| (.*)$`, 'm').exec(heard)?.[1] ?? assert.fail(heard);
  assert.equal(dirname(path), join(agent.folder, 'inbox'));
  assert.match(basename(path), /^[A-Za-z0-9._-]+$/);
  assert.ok(lstatSync(path).isFile());
  return path;
}

const bytesOf = (agent: Agent, path: string) =>
  agent.inbox().find((file) => file.path === path)?.bytes ?? assert.fail();

test('to all', async () => {
  const [laptop, server, tester] = [
    new Agent({ name: 'laptop' }),
    new Agent({ name: 'server' }),
    new Agent({ name: 'tester' }),
  ];
  await pair(bridge.url, laptop, server, tester);
  const contents = [
    ['one.bin', Buffer.from([0])],
    ['all.bin', Buffer.from(Array.from({ length: 256 }, (_, i) => i))],
    ['part.bin', randomBytes(65536)],
  ] as const;
  for (const [name, bytes] of contents) {
    writeFileSync(join(laptop.home, name), bytes);
    const { stdout } = await laptop.call('send_file', name);
    assert.ok(stdout.includes(`sent ${name}, ${bytes.length} bytes, `), stdout);
  }
  for (const agent of [server, tester]) {
    const heard = await agent.hears(/FILE #3 from laptop to all/);
    for (const [i, [name, bytes]] of contents.entries()) {
      const path = savedAs(agent, heard, i + 1);
      assert.ok(path.endsWith(name));
      assert.ok(bytes.equals(bytesOf(agent, path)));
    }
  }
});

test('300 KB, to all and to one', async () => {
  const [laptop, server] = await two();
  const bytes = randomBytes(300 * 1024 + 1);
  writeFileSync(join(laptop.home, 'large.bin'), bytes);
  await laptop.call('send_file', 'large.bin');
  await laptop.call('send_file', join(laptop.home, 'large.bin'), 'server');
  const heard = await server.hears(/FILE #2 from laptop to you alone/);
  for (const n of [1, 2]) assert.ok(bytes.equals(bytesOf(server, savedAs(server, heard, n))));
});

test('the same name again overwrites nothing', async () => {
  const [laptop, server] = await two();
  for (const text of ['first', 'second', 'first']) {
    writeFileSync(join(laptop.home, 'notes.txt'), text);
    await laptop.call('send_file', 'notes.txt');
  }
  await server.hears(/FILE #3/);
  assert.deepEqual(
    server.inbox().map(({ bytes }) => bytes.toString()),
    ['first', 'second', 'first'],
  );
});

test('a name that its own sender made awkward', async () => {
  const [laptop, server] = await two();
  const names = ['with space', '-rf', '$(id)', "it's", '.bashrc', 'ünï漢', 'new\nline', 'x'.repeat(200), '..', '%s'];
  const files = names.map((name) => (name === '..' ? 'a..b' : name));
  for (const name of files) {
    writeFileSync(join(laptop.home, name), name);
    await laptop.call('send_file', name);
  }
  const heard = await server.hears(new RegExp(`FILE #${files.length}`));
  for (const [i, name] of files.entries()) {
    assert.equal(bytesOf(server, savedAs(server, heard, i + 1)).toString(), name);
  }
});

test('a name that a hostile client made up', async () => {
  const evil = await ReferenceClient.create(bridge.url, 'evil');
  const server = new Agent({ name: 'server' });
  await server.join(evil.joinUrl);
  const names = [
    ...['../../../../evil', '/etc/evil', '..', '.', '../', '/', '-rf', '~', '*', '?', '$(touch ran)', '`touch ran`'],
    ...['a b', ';', '|', '&', '<', '>', '"', "'", '\\', '%s', 'x'.repeat(2000), '.env', 'agentalk.sh', '#', '!!'],
  ];
  const file = (name: string, body: string) => {
    const sha256 = createHash('sha256').update(body).digest('hex');
    return evil.numbered('*', 'file', { name, part: '1/1', size: String(body.length), sha256 });
  };
  const send = async (headers: Readonly<Record<string, string>>, body: string) =>
    evil.sendFrame('*', await evil.frame('*', headers, Buffer.from(body)));
  for (const [i, name] of names.entries()) await send(file(name, `contents ${i}`), `contents ${i}`);
  const heard = await server.hears(new RegExp(`FILE #${names.length} from evil`));
  for (const i of names.keys()) {
    assert.equal(bytesOf(server, savedAs(server, heard, i + 1)).toString(), `contents ${i}`);
  }
  assert.equal(server.inbox().length, names.length);

  // And what is no file: nothing of it is saved, and what follows still comes.
  await send(file('broken', 'a'), 'not what the sum says');
  await send({ ...file('endless', 'a'), part: '1/99999' }, 'a');
  const headers = file('last', 'z');
  const code = 'a[$(touch ran)]';
  for (const part of ['2/1', '0/1', '1/0', '1/1/1', `${code}/1`, `x/${code}`, `1/${code}`, code, '1', '/']) {
    await send({ ...headers, part }, 'no part');
  }
  for (const size of [code, '-1', '01']) await send({ ...headers, size }, 'no size');
  for (const sha256 of [code, '', '../../evil', 'A'.repeat(64)])
    await send({ ...headers, sha256 }, 'no sum').catch(String);
  await send(headers, 'z');
  await evil.say('after it');
  assert.match(await server.hears(/after it/), /TAMPERED/);
  const around = [server.home, server.folder, join(server.folder, 'inbox'), join(server.folder, 'in'), '/etc'];
  for (const folder of around)
    assert.deepEqual(
      readdirSync(folder).filter((name) => /^(ran|evil)$/.test(name)),
      [],
    );
  assert.deepEqual(
    server
      .inbox()
      .slice(names.length)
      .map(({ bytes }) => bytes.toString()),
    ['z', 'after it'],
  );
});

test('a folder or a link is no file, what a link points to is', async () => {
  const [laptop, server] = await two();
  mkdirSync(join(laptop.home, 'folder'));
  assert.notEqual((await laptop.begin('send_file', 'folder').ended).status, 0);
  symlinkSync('nowhere', join(laptop.home, 'dangling'));
  assert.notEqual((await laptop.begin('send_file', 'dangling').ended).status, 0);
  writeFileSync(join(laptop.home, 'real'), 'real');
  symlinkSync('real', join(laptop.home, 'link'));
  await laptop.call('send_file', 'link');
  await server.hears(/FILE #1 .*link/);
});
