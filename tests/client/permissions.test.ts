/** Others on the machine can neither read a session nor have laid something in its way. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { requirePrograms } from '../lib/require-programs.ts';
import { Agent, BASH, expectSuccess, expectFailure, installClient, makeFolder, unprivileged } from '../lib/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

/** Where this process is root the client runs as nobody. */
const skip = process.getuid?.() === 0 && requirePrograms('setpriv');

/** All that a session has, and how far others may get. What a call wrote for itself may go while this looks. */
function modesUnder(folder: string): Map<string, number> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name !== 'agentalk');
  const modes = names.map((name) => [name, lstatSync(join(folder, name), { throwIfNoEntry: false })?.mode] as const);
  return new Map(modes.flatMap(([name, mode]) => (mode === undefined ? [] : [[name, mode & 0o777]])));
}

/** Looks at the modes under a folder over and over, in a thread of its own; tells what was ever open to others. */
function watchModes(folder: string): { stop(): Promise<{ looks: number; open: string[] }> } {
  const code = `
    const { lstatSync, readdirSync } = require('node:fs');
    const { parentPort, workerData } = require('node:worker_threads');
    const open = new Set();
    let looks = 0;
    let isOver = false;
    parentPort.on('message', () => (isOver = true));
    function look() {
      looks++;
      let names = [];
      try { names = readdirSync(workerData, { recursive: true }); } catch {}
      for (const name of names) {
        try {
          const { mode } = lstatSync(workerData + '/' + name);
          if (name !== 'agentalk' && mode & 0o077) open.add((mode & 0o777).toString(8) + ' ' + name);
        } catch {}
      }
      if (isOver) parentPort.postMessage({ looks, open: [...open] }), parentPort.close();
      else setImmediate(look);
    }
    look();`;
  const worker = new Worker(code, { eval: true, workerData: folder });
  return {
    stop: () =>
      new Promise((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
        worker.postMessage('stop');
      }),
  };
}

test('a session is private from the first byte, whatever the umask', { skip }, async () => {
  const [laptop, server] = [unprivileged('laptop'), unprivileged('server')];
  const watch = watchModes(laptop.home);
  // The whole life of a session, under a umask that forbids nothing.
  const created = await laptop.start(BASH, [
    '-c',
    'umask 000; "$0" "$@"',
    BASH,
    laptop.client,
    'create',
    bridge.url,
    '--name',
    'laptop',
  ]).ended;
  const link = /\S+#k=\S+/.exec(expectSuccess(created).stdout)?.[0] ?? assert.fail();
  await server.join(link);
  const code =
    'umask 000; agentalk_say text; agentalk_wait 1; agentalk_dm server text; agentalk_send_file agentalk; agentalk_log';
  expectSuccess(await laptop.shell(code).ended);
  await server.call('say', 'text');
  expectSuccess(await laptop.shell('umask 000; agentalk_wait 5; agentalk_who').ended);
  const modes = modesUnder(laptop.home);
  expectSuccess(await laptop.shell('umask 000; agentalk_leave').ended);
  const { looks, open } = await watch.stop();
  assert.deepEqual(open, []);
  assert.ok(looks > 10);

  assert.equal(modes.get('agentalk-session-laptop'), 0o700);
  assert.equal(modes.get('agentalk-session-laptop.env'), 0o600);
  assert.ok(modes.size > 20);
  for (const [name, mode] of [...modes, ...modesUnder(laptop.home)]) assert.equal(mode & 0o077, 0, name);
  assert.ok(!readdirSync(laptop.folder).includes('keys'), 'erased by leave');
  assert.doesNotMatch(readFileSync(join(laptop.folder, 'session'), 'utf8'), /[0-9a-f]{32}/);
});

test('the folder that create makes for sessions is private too', async () => {
  const laptop = new Agent();
  const env = { AGENTALK_HOME: join(laptop.home, 'new', 'folder') };
  expectSuccess(
    await laptop.start(BASH, ['-c', `umask 000; "$0" "$@"`, BASH, laptop.client, 'create', bridge.url], { env }).ended,
  );
  assert.equal(lstatSync(env.AGENTALK_HOME).mode & 0o777, 0o700);
});

/** What may lie in the way, each laid by somebody else where this process is root. */
const PLANTS: Readonly<Record<string, (path: string, elsewhere: string) => void>> = {
  'an empty file': (path) => writeFileSync(path, ''),
  'a file that all may write': (path) => (writeFileSync(path, 'planted'), chmodSync(path, 0o666)),
  'a folder': (path) => mkdirSync(path),
  'a folder that all may write in': (path) => (mkdirSync(path), chmodSync(path, 0o777)),
  'a folder that looks like a session': (path) => (
    mkdirSync(path),
    writeFileSync(join(path, 'session'), 'NAME laptop\n')
  ),
  'a link to a file': (path, elsewhere) => symlinkSync(join(elsewhere, 'file'), path),
  'a link to a folder': (path, elsewhere) => symlinkSync(elsewhere, path),
  'a dangling link': (path, elsewhere) => symlinkSync(join(elsewhere, 'nothing'), path),
  'a link to itself': (path) => symlinkSync(path, path),
  'a pipe': (path) => void execFileSync('mkfifo', [path]),
};

/** What is there and what it holds, with what links point to. */
function picture(folder: string): string[] {
  const lines = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => {
    const path = join(folder, name);
    const about = lstatSync(path, { throwIfNoEntry: false });
    if (!about) return ''; // what calls remove behind themselves
    const holds = about.isFile() ? readFileSync(path, 'utf8') : about.isSymbolicLink() ? readlinkSync(path) : '';
    return `${name} ${about.mode.toString(8)} ${about.uid} ${holds}`;
  });
  // Neither the client, nor the session that was made beside.
  return lines.filter((line) => line !== '' && !/^agentalk( |-session-(other|laptop-2))/.test(line)).sort();
}

/** An agent that is not root, in a folder where others can write; its script is where only root can. */
function inSharedFolder(home = makeFolder()): Agent {
  const folder = makeFolder();
  chmodSync(folder, 0o755);
  installClient(join(folder, 'agentalk'));
  const laptop = new Agent({ name: 'laptop', unprivileged: true, home, client: join(folder, 'agentalk') });
  chmodSync(home, 0o777);
  return laptop;
}

for (const [what, plant] of Object.entries(PLANTS)) {
  test(
    `${what} in a session's way is neither followed nor overwritten`,
    { skip: skip || requirePrograms('mkfifo') },
    async () => {
      for (const at of ['agentalk-session-laptop', 'agentalk-session-laptop.env']) {
        const elsewhere = makeFolder();
        writeFileSync(join(elsewhere, 'file'), 'mine');
        for (const path of [elsewhere, join(elsewhere, 'file')]) chmodSync(path, 0o777);
        const laptop = inSharedFolder();
        plant(join(laptop.home, at), elsewhere);
        const before = [picture(laptop.home), picture(elsewhere)];
        assert.match((await laptop.create(bridge.url)).stdout, /name laptop was taken: you are laptop-2/);
        assert.deepEqual([picture(laptop.home), picture(elsewhere)], before, at);
        assert.match(expectSuccess(await laptop.run(['say', 'x'])).stdout, /sent/);
        expectSuccess(await laptop.run(['sessions']));
        assert.deepEqual([picture(laptop.home), picture(elsewhere)], before, at);
      }
    },
  );
}

test(
  "somebody else's session is no session of ours",
  { skip: skip || (process.getuid?.() !== 0 && 'needs root') },
  async () => {
    const root = new Agent({ name: 'laptop' });
    await root.create(bridge.url);
    const laptop = inSharedFolder(root.home);
    assert.match((await laptop.run(['sessions'])).stdout, /^agentalk: no sessions here/);
    expectFailure(await laptop.run(['say', 'x']), /no session (of yours )?that was made here/);
    assert.match((await laptop.create(bridge.url)).stdout, /name laptop was taken: you are laptop-2/);
    assert.match(expectSuccess(await laptop.run(['sessions'])).stdout, /^agentalk: laptop-2, made[^\n]*\n$/);
    assert.match(expectSuccess(await laptop.run(['say', 'x'])).stdout, /sent/);
    expectFailure(await laptop.run(['--as', 'laptop', 'say', 'x']), /no session (of yours )?that was made here/);
  },
);
