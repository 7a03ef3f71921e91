/** What nobody else may see: not in process lists, not in URLs, not at the bridge. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { requirePrograms } from '../lib/require-programs.ts';
import { Agent, POSIX_TOOLS, expectSuccess, makeFolder, pathOf, polling, until } from '../lib/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

/** Words that occur nowhere else. */
const TEXT = 'plainly-zebra-4711-spoken';
const DIRECT = 'only-giraffe-0815-hears';
const FILE = 'quarterly-ocelot-figures.txt';
const CONTENTS = 'turnover-of-lynx-2342';
const NAMES = ['walrus-laptop', 'heron-server'] as const;

/** Stands between clients and a bridge, and keeps all that passes. */
async function recordingProxy(port: number) {
  const passed: Buffer[] = [];
  const requests: Buffer[] = [];
  const sockets = new Set<Socket>();
  let onRequest = () => {};
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => (client.destroy(), upstream.destroy()));
    }
    client.on('data', (chunk: Buffer) => {
      passed.push(chunk);
      requests.push(chunk);
      onRequest();
      upstream.write(chunk);
    });
    upstream.on('data', (chunk: Buffer) => {
      passed.push(chunk);
      client.write(chunk);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    all: () => Buffer.concat(passed).toString('latin1'),
    requestLines: () =>
      Buffer.concat(requests)
        .toString('latin1')
        .match(/[A-Z]+ \S+ HTTP\/1\.1(?=\r\n)/g) ?? [],
    onRequest: (then: () => void) => (onRequest = then),
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Every 64 hex digits that the session keeps where secrets are, and what stands for its keys otherwise. */
function secretsOf(agent: Agent): string[] {
  const keys = readdirSync(join(agent.folder, 'keys')).filter((name) => !/^(identity|sid)/.test(name));
  const kept = ['session', ...keys.map((name) => join('keys', name))].map((name) =>
    readFileSync(join(agent.folder, name), 'utf8'),
  );
  const secrets = new Set(kept.flatMap((text) => text.match(/\b[0-9a-f]{64}\b/g) ?? []));
  for (const text of kept)
    for (const [, hash = ''] of text.matchAll(/^([0-9a-f]{32})(?= agentalk\/1)/gm)) secrets.add(hash);
  // The key, its hash, a token, a shared coordinate, and two hash keys.
  assert.ok(secrets.has(agent.key) && secrets.size >= 6, `${secrets.size} secrets`);
  return [...secrets];
}

const without = (text: string, words: readonly string[], where: string) => {
  for (const word of words) assert.ok(!text.includes(word), `${word} in ${where}`);
};

/** A conversation with all that there is in one; the link goes from hand to hand by standard input. */
async function converse(url: string, laptop: Agent, server: Agent): Promise<void> {
  await laptop.create(url);
  const listening = laptop.begin('listen');
  await polling(bridge.url, 1);
  expectSuccess(await server.run(['join', '-', '--name', server.name], { input: laptop.link }));
  server.link = laptop.link;
  await listening.line(/PAIRED with/);
  writeFileSync(join(laptop.home, FILE), CONTENTS);
  await laptop.pipe(TEXT);
  await laptop.pipe(DIRECT, 'dm', server.name);
  await laptop.call('send_file', FILE);
  await server.waitForOutput(/FILE #3/);
  await server.pipe(`${TEXT} back`);
  await server.pipe(`${DIRECT} back`, 'dm', laptop.name);
  await listening.line(/#2 from/);
  await listening.end();
  for (const command of ['who', 'log', 'invite']) await laptop.call(command);
}

/** Reads all process arguments over and over, in a thread of its own. */
function watchProcesses(): { stop(): Promise<string[]> } {
  const code = `
    const { readFileSync, readdirSync } = require('node:fs');
    const { parentPort } = require('node:worker_threads');
    const seen = new Set();
    let isOver = false;
    parentPort.on('message', () => (isOver = true));
    function look() {
      for (const pid of readdirSync('/proc')) {
        if (!/^[0-9]+$/.test(pid)) continue;
        try { seen.add(pid + ' ' + readFileSync('/proc/' + pid + '/cmdline', 'latin1').replaceAll('\\0', ' ')); } catch {}
      }
      if (isOver) parentPort.postMessage([...seen]), parentPort.close();
      else setImmediate(look);
    }
    look();`;
  const worker = new Worker(code, { eval: true });
  return {
    stop: () =>
      new Promise((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
        worker.postMessage('stop');
      }),
  };
}

test('no process has a secret in its arguments', { skip: requirePrograms('/proc/self/exe') }, async () => {
  const [laptop, server] = [new Agent({ name: NAMES[0] }), new Agent({ name: NAMES[1] })];
  const watch = watchProcesses();
  await converse(bridge.url, laptop, server);
  const seen = await watch.stop();
  assert.ok(seen.some((line) => /\bcurl .*\/poll\?/.test(line)) && seen.some((line) => /\bopenssl /.test(line)));
  const words = [...secretsOf(laptop), ...secretsOf(server), TEXT, DIRECT, CONTENTS];
  for (const line of seen) without(line, words, line);
});

test('no tool is given a secret as an argument', async () => {
  const folder = makeFolder();
  const log = join(folder, 'log');
  for (const tool of ['curl', 'openssl', ...POSIX_TOOLS]) {
    const script = `#!${pathOf('sh')}\n{ printf '%s ' ${tool} "$@" && echo; } >>'${log}'\nexec '${pathOf(tool)}' "$@"\n`;
    writeFileSync(join(folder, tool), script);
    chmodSync(join(folder, tool), 0o755);
  }
  const env = { PATH: folder };
  const [laptop, server] = [new Agent({ name: NAMES[0], env }), new Agent({ name: NAMES[1], env })];
  await converse(bridge.url, laptop, server);
  const calls = readFileSync(log, 'utf8');
  for (const used of [/^curl .*\/send\?/m, /^openssl enc /m, /^openssl dgst .*-sign /m, /^od /m])
    assert.match(calls, used);
  without(calls, [...secretsOf(laptop), ...secretsOf(server), TEXT, DIRECT, CONTENTS], 'the arguments of tools');
});

test(
  'a join takes the link out of its own arguments before it asks the bridge',
  { skip: requirePrograms('/proc/self/exe') },
  async () => {
    const proxy = await recordingProxy(bridge.port);
    const laptop = new Agent({ name: NAMES[0] });
    await laptop.create(proxy.url);
    const watched: string[] = [];
    proxy.onRequest(() => {
      for (const pid of readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name))) {
        try {
          watched.push(readFileSync(`/proc/${pid}/cmdline`, 'latin1'));
        } catch {
          // It has ended.
        }
      }
    });
    const server = new Agent({ name: NAMES[1] });
    await server.join(laptop.link);
    proxy.close();
    assert.ok(watched.some((line) => line.includes(`join\0--name\0${NAMES[1]}`)));
    without(watched.join('\n'), [laptop.key], 'the arguments of a process');
  },
);

test('the bridge and whoever listens before it learn no key, name or word', async () => {
  const proxy = await recordingProxy(bridge.port);
  const [laptop, server] = [new Agent({ name: NAMES[0] }), new Agent({ name: NAMES[1] })];
  await converse(proxy.url, laptop, server);
  const secrets = [...secretsOf(laptop), ...secretsOf(server)];
  const waiting = server.begin('wait');
  await polling(bridge.url, 1);
  await laptop.call('leave');
  await waiting.line(/LEFT/);
  await waiting.end();
  await until('nobody polls', async () => {
    const metrics = await (await fetch(`${bridge.url}/metrics`)).text();
    return metrics.includes('agentalk_polls_pending 0');
  });
  const metrics = await (await fetch(`${bridge.url}/metrics`)).text();
  proxy.close();

  const words = [laptop.key, TEXT, DIRECT, FILE, CONTENTS, ...NAMES, 'walrus', 'heron'];
  const encoded = words.flatMap((word) => [word, Buffer.from(word).toString('hex'), encodeURIComponent(word)]);
  const traffic = proxy.all();
  assert.match(traffic, /POST \/channels\/[0-9a-f]{32}\/send/);
  without(traffic, encoded, 'the traffic');
  const sealed = [...traffic.matchAll(/[A-Za-z0-9+/]{16,}={0,2}/g)].map(([text]) =>
    Buffer.from(text, 'base64').toString('latin1'),
  );
  assert.ok(sealed.length > 20);
  without(sealed.join('\n'), words, 'what was sealed');
  const lines = proxy.requestLines();
  assert.ok(lines.length > 10);
  without(lines.join('\n'), [...encoded, ...secrets], 'a URL');
  without(bridge.logs() + metrics, [...encoded, ...secrets], 'logs and metrics');
  assert.doesNotMatch(bridge.logs() + metrics, /[0-9a-f]{24}/, 'an id in logs and metrics');
});

test('whatever a session seals has a nonce of its own', async () => {
  const laptop = new Agent({ name: NAMES[0] });
  await laptop.create(bridge.url);
  for (const text of [TEXT, DIRECT]) await laptop.pipe(text);
  const outbox = readdirSync(join(laptop.folder, 'outbox')).map((name) => join('outbox', name));
  const card = readdirSync(join(laptop.folder, 'keys')).find((name) => name.startsWith('card-')) ?? assert.fail();
  const nonces = [join('keys', card), ...outbox].map(
    (name) => /"nonce":"([0-9a-f]{24})"/.exec(readFileSync(join(laptop.folder, name), 'latin1'))?.[1],
  );
  assert.ok(nonces.length >= 3 && !nonces.includes(undefined));
  assert.equal(new Set(nonces).size, nonces.length, nonces.join());
});

test('in a git work tree nothing of the client or its session is taken into a commit but the .env file, which has no secret', async () => {
  const laptop = new Agent();
  const git = (...args: string[]) => execFileSync('git', args, { cwd: laptop.home, encoding: 'utf8' });
  git('init', '-q');
  await laptop.create(bridge.url);
  await laptop.call('say', 'kept in the outbox');
  git('add', '-A');
  assert.deepEqual(git('ls-files').trim().split('\n'), ['agentalk-session-laptop.env']);
  assert.ok(!readFileSync(laptop.sessionFile, 'utf8').includes(laptop.key));
});
