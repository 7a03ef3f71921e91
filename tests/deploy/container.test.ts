/**
 * deploy/Containerfile builds an image that runs the bridge. The base is made here, of this machine's own Node, so that
 * no registry is asked.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { BRIDGE } from '../lib/bridge.ts';
import { requirePrograms } from '../lib/require-programs.ts';
import { ROOT } from '../lib/root.ts';
import { Running, makeFolder, until } from '../lib/shell.ts';

const skip = requirePrograms('buildah', 'ldd') || (process.getuid?.() !== 0 && 'needs root');

/** A free port of this machine, which the container shares with it. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

interface Inspected {
  readonly OCIv1: {
    readonly config: { readonly User: string; readonly Entrypoint: readonly string[]; readonly StopSignal: string };
  };
}

/** The last descendant of a process: what it runs in the end. */
function lastDescendant(pid: number): number {
  // A program of several threads has the children of each.
  const threads = readdirSync(`/proc/${pid}/task`);
  const children = threads.map((thread) => readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').trim());
  const [child] = children.filter((each) => each !== '').flatMap((each) => each.split(' '));
  return child ? lastDescendant(Number(child)) : pid;
}

test('deploy/Containerfile: the image runs the bridge, as nobody, and stops in order', { skip }, async (t) => {
  const folder = makeFolder();
  const at = (name: string) => join(folder, name);
  // Plain files and no namespaces: it also works inside a container.
  const storage = ['--storage-driver', 'vfs', '--root', at('storage'), '--runroot', at('run')];
  const env = { PATH: process.env['PATH'] ?? '', HOME: folder, BUILDAH_ISOLATION: 'chroot', TMPDIR: folder };
  const buildah = (...args: readonly string[]): string => {
    const { status, stdout, stderr } = spawnSync('buildah', [...storage, ...args], { env, encoding: 'utf8' });
    assert.equal(status, 0, `buildah ${args.join(' ')}\n${stdout}${stderr}`);
    return stdout.trim();
  };
  writeFileSync(at('policy.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
  const policy = ['--signature-policy', at('policy.json')];

  const libraries = execFileSync('ldd', [process.execPath], { encoding: 'utf8' }).matchAll(/(\/\S+) \(0x/g);
  const base = buildah('from', 'scratch');
  buildah('copy', base, process.execPath, '/usr/bin/node');
  for (const [, path = ''] of libraries) buildah('copy', base, path, path);
  buildah('config', '--env', 'PATH=/usr/bin', base);
  buildah('commit', ...policy, base, 'localhost/base');

  const context = at('context');
  mkdirSync(context);
  copyFileSync(BRIDGE, join(context, 'bridge.js'));
  copyFileSync(join(ROOT, 'deploy', 'Containerfile'), join(context, 'Containerfile'));
  const tag = ['--tag', 'localhost/agentalk-bridge'];
  buildah('build', ...policy, '--pull-never', '--build-arg', 'BASE=localhost/base', ...tag, context);

  const container = buildah('from', ...policy, '--pull-never', 'localhost/agentalk-bridge');
  const { config } = (JSON.parse(buildah('inspect', container)) as Inspected).OCIv1;
  assert.equal(config.User, '65534:65534');
  assert.equal(config.StopSignal, 'SIGTERM');
  const port = await freePort();
  const set = ['--env', `AGENTALK_PORT=${port}`, '--env', 'AGENTALK_HOST=127.0.0.1'];
  const running = new Running('buildah', [...storage, 'run', ...set, container, '--', ...config.Entrypoint], { env });
  t.after(() => running.end('SIGKILL'));
  await until('the bridge in the container listens', () => /^listening on /m.test(running.stdout));
  assert.equal((await fetch(`http://127.0.0.1:${port}/health`)).status, 200);
  const pid = lastDescendant(running.pid);
  assert.match(readFileSync(`/proc/${pid}/status`, 'utf8'), /^Uid:\t65534\t65534\t/m);
  process.kill(pid, config.StopSignal as NodeJS.Signals);
  assert.equal((await running.ended).status, 0, running.stderr);
});
