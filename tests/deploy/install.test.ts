/** deploy/install.sh in a folder root, by each shell that is somebody’s sh, and in a copy of this machine. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { BRIDGE, startBridge } from '../lib/bridge.ts';
import { requirePrograms } from '../lib/require-programs.ts';
import { ROOT } from '../lib/root.ts';
import { makeFolder } from '../lib/shell.ts';
import { inCopy, noCopy } from './overlay-root.ts';

const SCRIPT = join(ROOT, 'deploy', 'install.sh');
const PROGRAM = 'usr/local/lib/agentalk/bridge.js';
const UNIT = 'etc/systemd/system/agentalk.service';
const TEMPLATE = 'etc/systemd/system/agentalk@.service';
const SETTINGS = 'etc/agentalk/bridge.env';

function installer(root: string, shell = 'sh') {
  const run = (...args: readonly string[]) => {
    const all = [SCRIPT, ...args, '--root', root];
    const { status, stdout, stderr } = spawnSync(shell, all, { encoding: 'utf8' });
    return { status, output: stdout + stderr };
  };
  const done = (...args: readonly string[]) => {
    const { status, output } = run(...args);
    assert.equal(status, 0, output);
    return output;
  };
  const read = (path: string) => readFileSync(join(root, path), 'utf8');
  return { run, done, read };
}

/** All files under a folder with their contents. */
const contents = (root: string) =>
  readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, path, name }) => join(parentPath ?? path, name))
    .sort()
    .map((path) => [path.slice(root.length + 1), readFileSync(path, 'utf8')] as const);

/** A later release: other bytes, and it runs. */
function newerBridge(): string {
  const file = join(makeFolder(), 'bridge.js');
  writeFileSync(file, `${readFileSync(BRIDGE, 'utf8')}\n// newer\n`);
  return file;
}

for (const shell of ['sh', 'dash', 'bash', 'ksh']) {
  describe(`install.sh by ${shell}`, { skip: requirePrograms(shell) }, () => {
    test('says what it would do, does it, and does it once', () => {
      const root = makeFolder();
      const { done, read } = installer(root, shell);
      const plan = done('--dry-run');
      assert.deepEqual(readdirSync(root), [], 'a dry run leaves nothing');
      done('--public-url', 'https://bridge.example');
      for (const path of [PROGRAM, UNIT, TEMPLATE, SETTINGS]) {
        assert.ok(existsSync(join(root, path)), path);
        assert.ok(plan.includes(`/${path}`), `${path} was not announced`);
      }
      assert.equal(read(PROGRAM), readFileSync(BRIDGE, 'utf8'));
      assert.match(read(SETTINGS), /^AGENTALK_PUBLIC_URL=https:\/\/bridge\.example$/m);
      const before = contents(root);
      assert.match(done(), /stays as it is/);
      assert.deepEqual(contents(root), before);
    });

    test('upgrade, rollback, uninstall', () => {
      const root = makeFolder();
      const { run, done, read } = installer(root, shell);
      assert.match(run('upgrade').output, /nothing is installed/);
      done();
      writeFileSync(join(root, SETTINGS), 'AGENTALK_PORT=9999\n');
      const [old, newer] = [read(PROGRAM), newerBridge()];
      done('upgrade', '--bridge', newer);
      assert.equal(read(PROGRAM), readFileSync(newer, 'utf8'));
      assert.equal(read(SETTINGS), 'AGENTALK_PORT=9999\n', 'settings are the operator’s');
      done('rollback');
      assert.equal(read(PROGRAM), old);
      done('rollback');
      assert.equal(read(PROGRAM), readFileSync(newer, 'utf8'));
      done('uninstall');
      assert.deepEqual(
        contents(root).map(([path]) => path),
        [SETTINGS],
      );
    });
  });
}

test('install.sh takes a Node of its own, and says why it won’t take another', () => {
  const root = makeFolder();
  const { run, done, read } = installer(root);
  const node = join(makeFolder(), 'node');
  copyFileSync(process.execPath, node);
  done('--node', node);
  assert.match(read(UNIT), new RegExp(`^ExecStart=${node} /usr/local/lib/agentalk/bridge\\.js$`, 'm'));
  assert.match(read(TEMPLATE), new RegExp(`^ExecStart=${node} .* --port %i$`, 'm'));
  assert.ok(read(UNIT).includes(`\nExecPaths=/usr -/lib -/lib64 ${join(node, '..')}\n`), 'it may be run there');

  const old = join(makeFolder(), 'node');
  writeFileSync(old, '#!/bin/sh\necho 18\n', { mode: 0o755 });
  assert.match(run('--node', old).output, /no Node of 20 or later/);
  assert.match(run('--node', 'node').output, /by its whole path/);
  const { status, output } = run('--bridge', '/dev/null/none');
  assert.notEqual(status, 0);
  assert.match(output, /no bridge\.js/);
  assert.match(run('--public-url', 'https://x/$(id)').output, /a character/);
  assert.match(run('--what').output, /what is --what/);
});

test('a bridge.js that doesn’t run is not installed', () => {
  const { run, done, read } = installer(makeFolder());
  done();
  const broken = join(makeFolder(), 'bridge.js');
  writeFileSync(broken, 'throw new Error("half a download");\n');
  const before = read(PROGRAM);
  assert.match(run('upgrade', '--bridge', broken).output, /doesn't run/);
  assert.equal(read(PROGRAM), before);
});

test('the bridge takes the settings that are installed', async () => {
  const { done, read } = installer(makeFolder());
  done('--public-url', 'https://bridge.example');
  // Those that are commented out have to be right as well: somebody will take the # away.
  const lines = read(SETTINGS).match(/^#?AGENTALK_\w+=.*$/gm) ?? [];
  assert.ok(lines.length >= 5);
  const env = Object.fromEntries(lines.map((line) => line.replace('#', '').split('=') as [string, string]));
  const secret = join(makeFolder(), 'create-secret');
  writeFileSync(secret, `${'5'.repeat(32)}\n`);
  assert.equal(env['AGENTALK_CREATE_SECRET_FILE'], '/etc/agentalk/create-secret');
  env['AGENTALK_CREATE_SECRET_FILE'] = secret;
  const bridge = await startBridge([], { env });
  assert.match(await (await fetch(`${bridge.url}/`)).text(), /https:\/\/bridge\.example/);
  await bridge.stop();
});

test(
  'install.sh on a whole machine: a user of its own, units that systemd takes, and nothing left after it',
  { skip: noCopy },
  () => {
    const { status, stdout, stderr } = inCopy(`set -e
    mkdir -p /opt/node/bin && cp '${process.execPath}' /opt/node/bin/node
    sh '${SCRIPT}' --node /opt/node/bin/node
    sh '${SCRIPT}' --node /opt/node/bin/node
    getent passwd agentalk
    systemd-analyze verify agentalk.service agentalk@8787.service
    sh '${SCRIPT}' uninstall
    ! getent passwd agentalk
    test ! -e /usr/local/lib/agentalk
    test ! -e /etc/systemd/system/agentalk.service
    test -f /etc/agentalk/bridge.env`);
    assert.equal(status, 0, stdout + stderr);
    assert.equal(stderr, '');
    assert.match(stdout, /^agentalk:x:\d+:\d+::\/nonexistent:\/usr\/sbin\/nologin$/m);
    assert.ok(!existsSync('/usr/local/lib/agentalk'), 'the machine itself is as it was');
  },
);
