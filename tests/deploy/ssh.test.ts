/**
 * The README's way without a server: a bridge on the laptop, `ssh -R` to the other machine, and both agents use
 * http://127.0.0.1:8787. Both machines are network namespaces; sshd and ssh are the real ones.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { requirePrograms } from '../lib/require-programs.ts';
import { ROOT } from '../lib/root.ts';
import { Agent, makeFolder, pathOf, until } from '../lib/shell.ts';

/** Of nobody: RFC 5737. */
const ADDRESSES = { laptop: '198.51.100.1', server: '198.51.100.2' } as const;
type Host = keyof typeof ADDRESSES;

const run = (program: string, ...args: readonly string[]) => spawnSync(program, args, { encoding: 'utf8' });
const must = (program: string, ...args: readonly string[]) => {
  const { status, stderr } = run(program, ...args);
  assert.equal(status, 0, `${program} ${args.join(' ')}: ${stderr}`);
};
const space = (name: Host) => `ssh${process.pid}-${name}`;
const inside = (name: Host) => ['ip', 'netns', 'exec', space(name)];

function cable(): void {
  for (const name of ['laptop', 'server'] as const) must('ip', 'netns', 'add', space(name));
  const peer = ['peer', 'name', 'eth0', 'netns', space('server')];
  must('ip', '-n', space('laptop'), 'link', 'add', 'eth0', 'type', 'veth', ...peer);
  for (const name of ['laptop', 'server'] as const) {
    must('ip', '-n', space(name), 'address', 'add', `${ADDRESSES[name]}/24`, 'dev', 'eth0');
    must('ip', '-n', space(name), 'link', 'set', 'lo', 'up');
    must('ip', '-n', space(name), 'link', 'set', 'eth0', 'up');
  }
}

const canCable = () => {
  const isThere = run('ip', 'netns', 'add', `ssh${process.pid}-try`).status === 0;
  run('ip', 'netns', 'del', `ssh${process.pid}-try`);
  return isThere;
};
const skip =
  requirePrograms('ip', 'ssh', 'ssh-keygen', 'unshare') ||
  requirePrograms('/usr/sbin/sshd') ||
  ((process.getuid?.() !== 0 || !canCable()) && 'needs root and network namespaces');

const children: ChildProcess[] = [];
function start([program = '', ...args]: readonly string[]): ChildProcess {
  const child = spawn(pathOf(program), args, { stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin?.on('error', () => {});
  children.push(child);
  return child;
}

/** A server that lets a key of this test's in; its own folder for what sshd wants below /run. */
function startServer(folder: string): void {
  for (const key of ['host', 'user']) must('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(folder, key));
  copyFileSync(join(folder, 'user.pub'), join(folder, 'authorized_keys'));
  const options = {
    HostKey: join(folder, 'host'),
    AuthorizedKeysFile: join(folder, 'authorized_keys'),
    PidFile: 'none',
    UsePAM: 'no',
    StrictModes: 'no',
    PermitRootLogin: 'prohibit-password',
  };
  const flags = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  const code = 'mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f /dev/null "$@"';
  start([...inside('server'), 'unshare', '-m', 'sh', '-c', code, 'sh', '-p', '22', ...flags]);
}

/** What a person has in ~/.ssh/config. */
const config = (folder: string) => `Host build-server
  HostName ${ADDRESSES.server}
  User root
  IdentityFile ${join(folder, 'user')}
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
`;

let bridge: TestBridge;
const folder = makeFolder();
before(async () => {
  if (skip) return;
  cable();
  bridge = await startBridge(['--port', '8787'], { inside: inside('laptop') });
  startServer(folder);
  writeFileSync(join(folder, 'config'), config(folder));
});
after(async () => {
  for (const child of children) child.kill('SIGKILL');
  if (skip) return;
  await bridge.stop();
  for (const name of ['laptop', 'server'] as const) run('ip', 'netns', 'del', space(name));
});

test('two machines and no server: the README’s ssh line, and both agents use 127.0.0.1', { skip }, async () => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
  const [, words = ''] = /^npm start\nssh (-R \S+ \S+)$/m.exec(readme) ?? assert.fail('the README has the line');
  const url = /Then both agents use `(\S+)`/.exec(readme)?.[1] ?? assert.fail('the README has the URL');
  assert.equal(bridge.url, url, 'where a bridge listens by itself');

  const laptop = new Agent({ name: 'laptop', inside: inside('laptop') });
  const server = new Agent({ name: 'server', inside: inside('server') });
  const { stdout } = await laptop.create(url);
  assert.match(stdout, /this machine alone.* ssh -R 8787:127\.0\.0\.1:8787 /, 'said at create');
  const before = await server.run(['join', laptop.link]);
  assert.match(before.stderr, /takes no connection[^]*hint: .*this machine alone.* ssh -R 8787:127\.0\.0\.1:8787 /);

  const answers = () => run('ip', ...inside('server').slice(1), 'curl', '-q', '-fsS', `${url}/health`).status === 0;
  const reached = () => run('ip', ...inside('laptop').slice(1), 'bash', '-c', `: </dev/tcp/${ADDRESSES.server}/22`);
  await until('sshd listens', () => reached().status === 0);
  const ssh = start([...inside('laptop'), 'ssh', '-F', join(folder, 'config'), ...words.split(' ')]);
  let told = '';
  ssh.stderr?.on('data', (chunk: Buffer) => (told += chunk.toString()));
  await until('the tunnel is open', answers).catch((error: unknown) => assert.fail(`${String(error)}\n${told}`));

  await Promise.all([server.join(laptop.link), laptop.waitForOutput(/PAIRED with server/)]);
  await server.waitForOutput(/laptop/);
  await laptop.call('say', 'Please run the integration suite.');
  await server.waitForOutput(/\| Please run the integration suite\./);
  await server.call('say', 'Suite green.');
  await laptop.waitForOutput(/\| Suite green\./);
});
