/**
 * Nothing but a copied file and a Node binary: a bridge on one host and clients on two others, each a network namespace.
 * Where a gateway to the world would be, there is a host that only records who knocks.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BRIDGE, startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { requirePrograms } from '../lib/require-programs.ts';
import { Agent, expectSuccess, makeFolder } from '../lib/shell.ts';

/** Of this machine's own, and nobody's: RFC 5737. */
const NET = '192.0.2';
const HOSTS = { bridge: `${NET}.1`, laptop: `${NET}.2`, server: `${NET}.3`, gateway: `${NET}.254` } as const;
type Host = keyof typeof HOSTS;
const NAMES = Object.keys(HOSTS) as Host[];

const run = (program: string, ...args: readonly string[]) => spawnSync(program, args, { encoding: 'utf8' });
const ip = (...args: readonly string[]) => {
  const { status, stderr } = run('ip', ...args);
  assert.equal(status, 0, `ip ${args.join(' ')}: ${stderr}`);
};
const tag = `at${process.pid}`;
const space = (name: Host | 'switch') => `${tag}-${name}`;
const inside = (name: Host) => ['ip', 'netns', 'exec', space(name)];

/** A switch in a namespace of its own, and the hosts on it. */
function createNetwork(): void {
  ip('netns', 'add', space('switch'));
  ip('-n', space('switch'), 'link', 'add', 'lan', 'type', 'bridge');
  ip('-n', space('switch'), 'link', 'set', 'lan', 'up');
  for (const [i, name] of NAMES.entries()) {
    ip('netns', 'add', space(name));
    ip('-n', space(name), 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', `port${i}`);
    ip('-n', space(name), 'link', 'set', `port${i}`, 'netns', space('switch'));
    ip('-n', space('switch'), 'link', 'set', `port${i}`, 'master', 'lan', 'up');
    ip('-n', space(name), 'address', 'add', `${HOSTS[name]}/24`, 'dev', 'eth0');
    ip('-n', space(name), 'link', 'set', 'lo', 'up');
    ip('-n', space(name), 'link', 'set', 'eth0', 'up');
    if (name !== 'gateway') ip('-n', space(name), 'route', 'add', 'default', 'via', HOSTS.gateway);
  }
}

const canCable = () => {
  if (process.getuid?.() !== 0) return false;
  const isThere = run('ip', 'netns', 'add', `${tag}-try`).status === 0;
  run('ip', 'netns', 'del', `${tag}-try`);
  return isThere;
};
const skip = requirePrograms('ip', 'tcpdump') || (!canCable() && 'needs root and network namespaces');

/** What came to the gateway and was meant for anybody: a line for each packet. */
class PacketCapture {
  readonly #child = spawn(...command([...inside('gateway'), 'tcpdump', '-i', 'eth0', '-l', '-n', '-p', FILTER]));
  seen = '';
  readonly ready = new Promise<void>((resolve, reject) => {
    let told = '';
    this.#child.stderr.on('data', (chunk: Buffer) => (told += chunk.toString()).includes('listening on') && resolve());
    this.#child.stdout.on('data', (chunk: Buffer) => (this.seen += chunk.toString()));
    this.#child.on('close', () => reject(new Error(`tcpdump ended: ${told}`)));
  });

  /** Everything that has come is in `seen` once a packet of ours is there, which is sent last. */
  async readAll(): Promise<string> {
    const others = this.seen;
    run(...flat(command([...inside('server'), 'bash', '-c', `echo > /dev/udp/198.51.100.99/9`])));
    while (!this.seen.includes('198.51.100.99'))
      await new Promise((resolve) => this.#child.stdout.once('data', resolve));
    return others + this.seen.slice(others.length).replace(/^.*198\.51\.100\.99.*\n/gm, '');
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }
}

/** Not what the kernels of a cable say to each other: who has which address, who listens to which group. */
const FILTER = 'ip or (ip6 and not icmp6 and not ip6 multicast)';
const command = ([program = '', ...args]: readonly string[]): [string, string[]] => [program, args];
const flat = ([program, args]: [string, string[]]): [string, ...string[]] => [program, ...args];

let bridge: TestBridge;
let gateway: PacketCapture;
before(async () => {
  if (skip) return;
  createNetwork();
  const file = join(makeFolder(), 'bridge.js');
  copyFileSync(BRIDGE, file);
  gateway = new PacketCapture();
  await gateway.ready;
  bridge = await startBridge(['--host', HOSTS.bridge], { file, inside: inside('bridge') });
});
after(async () => {
  if (skip) return;
  await bridge.stop();
  gateway.stop();
  for (const name of [...NAMES, 'switch' as const]) run('ip', 'netns', 'del', space(name));
});

const agent = (name: 'laptop' | 'server') => new Agent({ name, inside: inside(name) });
const curl = (host: Host, ...args: readonly string[]) => {
  const { status, stdout, stderr } = run(...flat(command([...inside(host), 'curl', '-q', '-fsS', ...args])));
  assert.equal(status, 0, stderr);
  return stdout;
};

test('the gateway sees whoever wants out', { skip }, async () => {
  run(...flat(command([...inside('laptop'), 'curl', '-q', '-s', '--max-time', '1', 'http://203.0.113.7/'])));
  assert.match(await gateway.readAll(), /203\.0\.113\.7\.80/);
  gateway.seen = '';
});

test(
  'agents fetch the client, pair and talk; pages and documents are read; nothing tries to leave',
  { skip },
  async () => {
    assert.match(bridge.url, /^http:\/\/192\.0\.2\.1:/);
    const [laptop, server] = [agent('laptop'), agent('server')];
    for (const each of [laptop, server]) {
      writeFileSync(each.client, curl(each.name as Host, `${bridge.url}/agentalk.sh`)); // no other copy is there
    }
    await laptop.create(bridge.url);
    const listening = laptop.begin('listen');
    assert.match((await server.join(laptop.link)).stdout, /^agentalk: PAIRED with laptop/m);
    await server.pipe('over the wire: `$HOME` "quoted" ünïcode\n');
    await listening.line(/over the wire/);
    await laptop.call('dm', 'server', 'for you alone');
    await server.waitForOutput(/for you alone/);
    const sent = join(laptop.home, 'numbers.bin');
    writeFileSync(sent, Buffer.from(Array.from({ length: 100_000 }, (_, i) => i % 251)));
    await laptop.call('send_file', sent);
    await server.waitForOutput(/^agentalk: FILE #2 from laptop/m);
    const file = server.inbox().find(({ name }) => name.endsWith('numbers.bin'));
    assert.ok(file && file.bytes.equals(readFileSync(sent)));

    const html = ['-H', 'Accept: text/html'];
    for (const path of [
      '/',
      laptop.link.slice(bridge.url.length).replace(/#.*/, ''),
      '/docs/how-it-works',
      '/docs/faq',
    ]) {
      const page = curl('laptop', ...html, bridge.url + path);
      assert.match(page, /^<!doctype html>/);
      const loads = [...page.matchAll(/<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="([^"]*)"/g)].map(
        ([, at]) => at,
      );
      for (const at of loads) assert.match(at ?? '', /^data:|^http:\/\/192\.0\.2\.1:/);
    }
    assert.match(curl('server', `${bridge.url}/llms.txt`), /^# agentalk/);
    assert.match(curl('server', `${bridge.url}/bridge.js`), /^#!\/usr\/bin\/env node/);
    expectSuccess(await server.call('leave'));
    await listening.line(/LEFT/);
    await listening.end();
    assert.equal(await gateway.readAll(), '');
  },
);
