/** What a call that waits costs: connections, and what is left of it when it is killed. */
import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Agent, BASH, CLIENT, makeFolder, pathOf } from '../lib/shell.ts';

let bridge: TestBridge;
before(async () => {
  bridge = await startBridge();
});
after(() => bridge.stop());

/** A port that hands on to the bridge: what was requested on each connection, and which are open. */
async function countingPort() {
  const connections: string[][] = [];
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    const requests: string[] = [];
    connections.push(requests);
    open.add(socket);
    const upstream = connect(bridge.port, '127.0.0.1');
    socket.on('data', (data) => {
      for (const [, line = ''] of data.toString('latin1').matchAll(/^((?:GET|POST|PUT) \S+) HTTP/gm))
        requests.push(line);
    });
    socket.pipe(upstream).pipe(socket);
    for (const each of [socket, upstream]) each.on('error', () => socket.destroy());
    socket.on('close', () => {
      open.delete(socket);
      upstream.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const close = () => {
    for (const socket of open) socket.destroy();
    server.close();
  };
  return { url: `http://127.0.0.1:${port}`, connections, open, close };
}

const polls = (requests: readonly string[]) => requests.filter((line) => line.includes('/poll?'));

async function pairThrough(url: string, options = {}) {
  const ada = new Agent({ name: 'ada', isReleased: true, ...options });
  await ada.create(url);
  const bob = new Agent({ name: 'bob', isReleased: true });
  const [joined] = await Promise.all([bob.join(ada.link), ada.call('wait', '20')]);
  assert.match(joined.stdout, /PAIRED/);
  await bob.call('wait', '1');
  await ada.call('wait', '1');
  return { ada, bob };
}

describe('a call that waits', { concurrency: 3 }, () => {
  test('makes its polls over one connection, and prints news when it comes', async (t) => {
    const port = await countingPort();
    t.after(port.close);
    const { ada, bob } = await pairThrough(port.url);
    const count = port.connections.length;
    const waiting = ada.begin('wait', '60');
    const series = () => port.connections.slice(count).find((requests) => polls(requests).length >= 3);
    while (!series()) await delay(100);
    assert.equal(port.connections.slice(count).filter((requests) => polls(requests).length > 0).length, 1);
    const began = Date.now();
    await bob.call('say', 'good morning');
    await waiting.line(/good morning/);
    assert.ok(Date.now() - began < 10_000);
    assert.equal((await waiting.ended).status, 0);
  });

  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    test(`lets go of its connection within seconds when it alone gets ${signal}`, async (t) => {
      const port = await countingPort();
      t.after(port.close);
      const { ada } = await pairThrough(port.url);
      const waiting = ada.begin('wait', '100');
      while (![...port.connections].some((requests) => polls(requests).length >= 2)) await delay(100);
      process.kill(waiting.pid, signal);
      const began = Date.now();
      while (port.open.size > 0) await delay(50);
      assert.ok(Date.now() - began < 12_000, 'a poll takes eight seconds');
    });
  }

  test('works with a curl that can’t end at the first failure', async () => {
    const folder = makeFolder();
    const old = join(folder, 'curl');
    writeFileSync(
      old,
      `#!/bin/sh
for argument; do [ "$argument" != --fail-early ] || { echo "curl: option --fail-early: is unknown" >&2; exit 2; }; done
exec ${pathOf('curl')} "$@"\n`,
    );
    chmodSync(old, 0o755);
    const { ada, bob } = await pairThrough(bridge.url, { env: { PATH: `${folder}:${process.env['PATH'] ?? ''}` } });
    const waiting = ada.begin('wait', '40');
    await delay(500);
    await bob.call('say', 'good evening');
    await waiting.line(/good evening/);
    assert.equal((await waiting.ended).status, 0);
  });

  test('does not join an answer that was cut off with the next one', async (t) => {
    const answers = ['message 5 cut o', 'cursor 7 epoch\n'];
    const server = createHttpServer((_, response) => response.end(answers.shift() ?? ''));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(() => server.close());
    const agent = new Agent();
    const effects = join(agent.home, 'effects.sh');
    writeFileSync(effects, readFileSync(CLIENT, 'utf8').split('# ==== Part 2')[0] ?? '');
    const code = `. "$0"; correct_ticks() { :; }; die() { exit 1; }; start_part_1; WATCH='' CACERT='' TICKET='' TOKEN=x ACCESS=y CHANNEL=c BRIDGE=$1
      start_watch '/poll?x=1' 16; read_watch; printf '%s|%s' "$?" "$RESPONSE"`;
    const { port } = server.address() as AddressInfo;
    const { stdout } = await agent.start(BASH, ['-p', '-c', code, effects, `http://127.0.0.1:${port}`]).ended;
    assert.match(stdout, /^1\|message 5 cut o\n$/);
  });
});
