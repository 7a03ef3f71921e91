/** Files: whole, byte for byte, resumed where a call was ended, under a name that does no harm. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { decodeFileName, encodeFileName } from '../../sdk/encoding.ts';
import { ExampleSession } from '../lib/example-session.ts';
import { FaultProxy } from '../lib/fault-proxy.ts';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Agent, expectFailure, expectSuccess, pair, until } from '../lib/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const MIB = 2 ** 20;

async function two(url = bridge.url): Promise<[Agent, Agent]> {
  const agents: [Agent, Agent] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await pair(url, ...agents);
  return agents;
}

/** Where the agent was told that file number `n` is, which must be in its inbox. */
function savedAs(agent: Agent, heard: string, n: number): string {
  const path =
    new RegExp(`^agentalk: FILE #${n} from .* saved as:\\n  \\| (.*)$`, 'm').exec(heard)?.[1] ?? assert.fail(heard);
  assert.equal(dirname(path), join(agent.folder, 'inbox'));
  assert.ok(lstatSync(path).isFile());
  return path;
}

const bytesOf = (agent: Agent, path: string) =>
  agent.inbox().find((file) => file.path === path)?.bytes ?? assert.fail(`${path} is not in the inbox`);

/** Bytes under a folder, in files of a session alone. */
function bytesUnder(folder: string): number {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return names.reduce((sum, name) => sum + (lstatSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0), 0);
}

test('to all: empty, one byte, each byte, a whole piece, one byte more', async () => {
  const [laptop, server, tester] = ['laptop', 'server', 'tester'].map((name) => new Agent({ name }));
  assert.ok(laptop && server && tester);
  await pair(bridge.url, laptop, server, tester);
  const contents = [
    ['empty', Buffer.alloc(0)],
    ['one.bin', Buffer.from([0])],
    ['all.bin', Buffer.from(Array.from({ length: 256 }, (_, i) => i))],
    ['piece.bin', randomBytes(MIB)],
    ['more.bin', randomBytes(MIB + 1)],
  ] as const;
  for (const [name, bytes] of contents) {
    writeFileSync(join(laptop.home, name), bytes);
    const { stdout } = await laptop.call('send_file', name);
    assert.ok(stdout.includes(`sent ${name}, ${bytes.length} bytes, `), stdout);
  }
  for (const agent of [server, tester]) {
    const heard = await agent.waitForOutput(...contents.map((_, i) => new RegExp(`FILE #${i + 1} from laptop`)));
    for (const [i, [name, bytes]] of contents.entries()) {
      const path = savedAs(agent, heard, i + 1);
      assert.ok(path.endsWith(`/${i + 1}-laptop-${name}`), path);
      assert.ok(bytes.equals(bytesOf(agent, path)), name);
    }
  }
});

test('a wait gives a file two seconds for the message that explains it', async () => {
  const [laptop, server] = await two();
  for (const [i, size] of [0, 1, MIB + 1].entries()) {
    writeFileSync(join(laptop.home, 'data.bin'), randomBytes(size));
    const waiting = server.begin('wait', '30');
    await laptop.call('send_file', 'data.bin');
    await waiting.line(new RegExp(`FILE #${2 * i + 1} from laptop`));
    await laptop.call('say', 'what it is');
    const { stdout } = expectSuccess(await waiting.ended);
    assert.match(stdout, /FILE #[^]*\| what it is/);
  }
});

test('to one: the others are told nothing of it', async () => {
  const [laptop, server] = await two();
  const tester = new Agent({ name: 'tester' });
  await tester.join(laptop.link);
  const bytes = randomBytes(300 * 1024 + 1);
  writeFileSync(join(laptop.home, 'large.bin'), bytes);
  await laptop.call('send_file', join(laptop.home, 'large.bin'), 'server');
  const heard = await server.waitForOutput(/FILE #1 from laptop/);
  assert.ok(bytes.equals(bytesOf(server, savedAs(server, heard, 1))));
  await laptop.call('say', 'after it');
  assert.doesNotMatch(await tester.waitForOutput(/after it/), /large\.bin/);
});

test('the same name again overwrites nothing', async () => {
  const [laptop, server] = await two();
  for (const text of ['first', 'second', 'first']) {
    writeFileSync(join(laptop.home, 'notes.txt'), text);
    await laptop.call('send_file', 'notes.txt');
  }
  await server.waitForOutput(/FILE #1 /, /FILE #2 /, /FILE #3 /);
  assert.deepEqual(
    server.inbox().map(({ bytes }) => bytes.toString()),
    ['first', 'second', 'first'],
  );
});

test('a name survives, made safe and with its ending', async () => {
  const [laptop, server] = await two();
  const names = [
    'with space',
    '-rf',
    '$(id)',
    "it's",
    '.bashrc',
    'ünï漢.tar.gz',
    'new\nline',
    'bidi\u202etxt.exe',
    'a..b',
    '%s',
  ];
  const long = [`${'x'.repeat(200)}.txt`, `${'漢'.repeat(80)}.md`, `x.${'y'.repeat(200)}`];
  for (const name of [...names, ...long]) {
    writeFileSync(join(laptop.home, name), name);
    await laptop.call('send_file', name);
  }
  const all = [...names, ...long];
  const heard = await server.waitForOutput(...all.map((_, i) => new RegExp(`FILE #${i + 1} from`)));
  for (const [i, name] of all.entries()) {
    const path = savedAs(server, heard, i + 1);
    assert.equal(bytesOf(server, path).toString(), name);
    const decoded = decodeFileName(encodeFileName(name));
    assert.equal(path, join(server.folder, 'inbox', `${i + 1}-laptop-${typeof decoded === 'string' ? decoded : ''}`));
  }
});

test('what is no file has a sentence of its own, and nothing of it is copied', async () => {
  const [laptop, server] = await two();
  const refused = async (words: RegExp, ...args: readonly string[]) => {
    const before = bytesUnder(laptop.folder);
    expectFailure(await laptop.begin('send_file', ...args).ended, words);
    await until('its files are gone', () => bytesUnder(laptop.folder) < before + 4096);
  };
  mkdirSync(join(laptop.home, 'folder'));
  symlinkSync('nowhere', join(laptop.home, 'dangling'));
  execFileSync('mkfifo', [join(laptop.home, 'pipe')]);
  writeFileSync(join(laptop.home, 'large'), '');
  truncateSync(join(laptop.home, 'large'), 100 * MIB + 1); // sparse
  await refused(/which file/);
  await refused(/folder.*tar or zip/, 'folder');
  await refused(/no such file/, 'dangling');
  await refused(/no such file/, 'missing');
  await refused(/pipe or a device/, 'pipe');
  await refused(/pipe or a device/, '/dev/zero');
  await refused(/standard input.*--file/, '-');
  await refused(/at most 100 MB.*101/, 'large');
  writeFileSync(join(laptop.home, 'real'), 'real');
  symlinkSync('real', join(laptop.home, 'link'));
  await laptop.call('send_file', 'link');
  await server.waitForOutput(/FILE #1 from/);
  assert.deepEqual(
    server.inbox().map(({ name }) => name),
    ['1-laptop-link'],
  );
});

test('a file that its user may not read', async () => {
  const agent = new Agent({ name: 'laptop', unprivileged: true });
  await agent.create(bridge.url);
  writeFileSync(join(agent.home, 'secret'), 'secret');
  chmodSync(join(agent.home, 'secret'), 0);
  expectFailure(await agent.begin('send_file', 'secret').ended, /can't be read by this user/);
});

test('a bridge that takes no files, or smaller ones', async (t) => {
  const small = await startBridge(['--max-blob-bytes', String(2 * MIB)]);
  t.after(() => small.stop());
  const laptop = new Agent({ name: 'laptop' });
  await laptop.create(small.url);
  writeFileSync(join(laptop.home, 'large'), randomBytes(2 * MIB + 1));
  expectFailure(await laptop.begin('send_file', 'large').ended, /at most 2 MB/);
  const none = await startBridge(['--max-blob-bytes', '0']);
  t.after(() => none.stop());
  const other = new Agent({ name: 'laptop' });
  await other.create(none.url);
  writeFileSync(join(other.home, 'small'), 'small');
  expectFailure(await other.begin('send_file', 'small').ended, /takes no files/);
});

test('10 MB, with the upload and the download killed in between, go on where they were', async (t) => {
  const proxy = await FaultProxy.start(bridge.url);
  t.after(() => proxy.stop());
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await laptop.create(proxy.urlFor('laptop'));
  await server.join(laptop.link.replace('/laptop/', '/server/'));
  await Promise.all([laptop.waitForOutput(/PAIRED/), server.waitForOutput(/PAIRED/)]);
  const bytes = randomBytes(10 * MIB);
  writeFileSync(join(laptop.home, 'ten.bin'), bytes);
  const count = (client: string) => proxy.asked.get(`${client} blobs`) ?? 0;
  // Each end is killed when it has asked for a few pieces; no piece comes twice after that.
  proxy.plan = ({ kind, n }) => (kind === 'blobs' && n > 4 ? { what: 'delay', ms: 300 } : { what: 'pass' });
  const sending = laptop.begin('send_file', 'ten.bin');
  await until('pieces go out', () => count('laptop') >= 5);
  await sending.end('SIGKILL');
  proxy.plan = () => ({ what: 'pass' });
  await laptop.call('send_file', 'ten.bin');
  proxy.plan = ({ kind, n }) => (kind === 'blobs' && n > 4 ? { what: 'delay', ms: 300 } : { what: 'pass' });
  const waiting = server.begin('wait', '60');
  await until('pieces come', () => count('server') >= 5);
  await waiting.end('SIGKILL');
  const before = count('server');
  proxy.plan = () => ({ what: 'pass' });
  const heard = await server.waitForOutput(/FILE #1 from laptop/);
  assert.ok(bytes.equals(bytesOf(server, savedAs(server, heard, 1))));
  assert.ok(count('server') - before < 10, `${before} pieces were asked for, then ${count('server') - before}`);
});

test('above 16 MiB a file comes only when it is asked for', async () => {
  const [laptop, server] = await two();
  const bytes = randomBytes(16 * MIB + 1);
  writeFileSync(join(laptop.home, 'large.bin'), bytes);
  await laptop.call('send_file', 'large.bin');
  const heard = await server.waitForOutput(
    /COMING #1 from laptop.*fetched when you ask \(\.\/agentalk show 1\):\n  \| large\.bin/,
  );
  assert.doesNotMatch(heard, /FILE #1/);
  await server.call('wait', '1');
  assert.equal(server.inbox().length, 0);
  const { stdout } = await server.call('show', '1');
  assert.ok(bytes.equals(bytesOf(server, savedAs(server, stdout, 1))));
  const next = await server.call('wait', '1');
  assert.doesNotMatch(next.stdout, /FILE #1/, 'it is told once');
  assert.match((await server.call('show', '1')).stdout, /^agentalk: FILE #1/, 'and again when it is asked for');
});

test('a large file that has left the bridge is asked for again, and show says so', async (t) => {
  const small = await startBridge(['--max-blob-bytes', String(32 * MIB)]);
  t.after(() => small.stop());
  const [laptop, server] = await two(small.url);
  for (const name of ['first.bin', 'second.bin']) {
    writeFileSync(join(laptop.home, name), randomBytes(17 * MIB));
    await laptop.call('send_file', name); // the second takes the place of the first at the bridge
  }
  await server.waitForOutput(/COMING #2/);
  const { stdout } = await server.call('show', '1');
  assert.match(stdout, /COMING #1 [^]*it has not come whole yet\. Next: \.\/agentalk wait/);
  const listening = laptop.begin('listen');
  await server.waitForOutput(/FILE #1 from laptop, 17825792 bytes/);
  await listening.end();
});

test('a piece that the bridge changes or withholds is asked for again, and other messages come meanwhile', async (t) => {
  const proxy = await FaultProxy.start(bridge.url);
  t.after(() => proxy.stop());
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await laptop.create(proxy.urlFor('laptop'));
  await server.join(laptop.link.replace('/laptop/', '/server/'));
  await Promise.all([laptop.waitForOutput(/PAIRED/), server.waitForOutput(/PAIRED/)]);
  const bytes = randomBytes(2 * MIB + 1);
  writeFileSync(join(laptop.home, 'three.bin'), bytes);
  const isPiece = (client: string, kind: string) => client === 'server' && kind === 'blobs';
  let isHonest = false;
  proxy.alter = ({ client, kind, n }, answer) => {
    if (isHonest || !isPiece(client, kind)) return answer;
    if (n % 2 === 0) return { ...answer, status: 404, body: Buffer.from('error no_blob x\n') };
    return { ...answer, body: answer.body.map((byte, i) => (i === 7 ? byte ^ 1 : byte)) as Buffer };
  };
  await laptop.call('send_file', 'three.bin');
  await laptop.call('say', 'after the file');
  await server.waitForOutput(/after the file/);
  const told = await server.waitForOutput(/FILE #1 from laptop has not come whole/);
  assert.doesNotMatch(told, /saved as/);
  assert.equal(server.inbox().filter(({ name }) => name.includes('three')).length, 0);
  isHonest = true;
  const listening = laptop.begin('listen');
  const heard = await server.waitForOutput(/saved as/);
  await listening.end();
  assert.ok(bytes.equals(bytesOf(server, savedAs(server, heard, 1))));
});

test('a file whose sender lies about name, size, sum or pieces is not saved', async () => {
  const evil = await ExampleSession.create(bridge.url, { name: 'evil' });
  const server = new Agent({ name: 'server' });
  await server.join(evil.link);
  const sha256 = createHash('sha256').update('').digest('hex');
  const f = 'ab'.repeat(32);
  const file = { name: 'fine', size: '0', sha256 };
  const send = (headers: Readonly<Record<string, string>>, body = `${f}\n`) =>
    evil.send('*', 'file', { headers: { ...file, ...headers }, body });
  const code = 'a[$(touch ran)]';
  const names = [
    '../../../../evil',
    '/etc/evil',
    '..',
    '.',
    '',
    '%2F',
    '%00',
    '%0A',
    '%5C',
    '%c3%a4',
    '%C3',
    '%E2%80%AE',
    'a b',
    '$(id)',
    'x'.repeat(121),
    'x'.repeat(361),
  ];
  for (const name of names) await send({ name }).catch(String);
  for (const size of [code, '-1', '01', '104857601', '']) await send({ size }).catch(String);
  for (const sum of [code, '', 'A'.repeat(64), '../../evil']) await send({ sha256: sum }).catch(String);
  await evil.say('between');
  assert.match(await server.waitForOutput(/between/), /MALFORMED/);
  await send({ size: '1' }); // a piece is missing
  await send({}, `${f}\n${'0'.repeat(64)}\n`); // one too many
  await send({ size: '1048577' }, `${f}\n${'0'.repeat(64)}\n${'0'.repeat(64)}\n`); // twice
  await send({}, `${code}\n`);
  await send({}, f);
  await send({ sha256: '0'.repeat(64) }); // not what the sum says
  await send({});
  await evil.say('after it');
  const heard = await server.waitForOutput(/after it/, /saved as/);
  assert.ok((heard.match(/is broken, or not what its sender says/g) ?? []).length >= 6, heard);
  const saved = server.inbox().filter(({ name }) => !name.endsWith('.txt'));
  assert.equal(saved.length, 1);
  assert.ok(saved[0]?.name.endsWith('-evil-fine'));
  for (const folder of [
    server.home,
    server.folder,
    join(server.folder, 'inbox'),
    join(server.folder, 'files'),
    '/etc',
  ]) {
    assert.deepEqual(
      readdirSync(folder).filter((name) => /^(ran|evil)$/.test(name)),
      [],
    );
  }
  assert.equal(readFileSync(saved[0]?.path ?? '', 'utf8'), '');
});
