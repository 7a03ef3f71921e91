/** Unix sockets, and sockets that systemd opens. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { runBridge, startBridge } from '../../lib/bridge.ts';
import { Authority } from '../../lib/certificate.ts';
import { requirePrograms } from '../../lib/require-programs.ts';
import { makeFolder, until } from '../../lib/shell.ts';
import { Member, ask } from './http-client.ts';
import type { Endpoint } from './http-client.ts';

const newPath = () => join(makeFolder(), 'bridge.sock');
const at = (socketPath: string): Endpoint => ({ url: 'http://bridge.example', socketPath });

test('a bridge on a unix socket: people of its group reach it, and its file goes with it', async () => {
  const path = newPath();
  const bridge = await startBridge(['--socket', path]);
  assert.equal(bridge.url, `unix:${path}`);
  assert.equal(statSync(path).mode & 0o777, 0o660);
  const a = await Member.enter(at(path));
  const b = await Member.enter(at(path), a);
  const poll = b.poll(2, 30);
  await a.say();
  assert.match((await poll).text, /"type":"message"/);
  assert.ok((await ask(at(path), '/')).text.includes('http://bridge.example/agentalk.sh'));
  bridge.kill('SIGTERM');
  assert.equal(await bridge.ended, 0);
  assert.ok(!existsSync(path));
});

for (const isTls of [false, true]) {
  test(`who comes by a unix socket counts as loopback${isTls ? ', over TLS too' : ''}`, async () => {
    const [path, authority] = [newPath(), new Authority(makeFolder())];
    const { cert, key } = authority.issue();
    const flags = [
      '--socket',
      path,
      '--request-rate-per-ip',
      '2',
      ...(isTls ? ['--tls-cert', cert, '--tls-key', key] : []),
    ];
    const endpoint = isTls
      ? { url: 'https://localhost', socketPath: path, ca: readFileSync(authority.cert) }
      : at(path);
    const status = async (headers = {}) => (await ask(endpoint, '/', { headers })).status;
    const alone = await startBridge(flags);
    for (let i = 0; i < 5; i++) assert.equal(await status(), 200, 'this machine has no limits');
    await alone.stop();
    const behind = await startBridge([...flags, '--trusted-proxies', 'loopback']);
    const [one, other] = ['192.0.2.1', '192.0.2.2'].map((address) => ({ 'x-forwarded-for': address }));
    assert.deepEqual(
      [await status(one), await status(one), await status(one), await status(other)],
      [200, 200, 429, 200],
    );
    await behind.stop();
  });
}

test('a socket file is replaced if nobody answers there, and otherwise it stays', async () => {
  const path = newPath();
  const first = await startBridge(['--socket', path]);
  const second = await runBridge(['--socket', path]);
  assert.deepEqual(
    [second.status, second.stderr],
    [1, `agentalk-bridge: somebody listens on unix:${path} already: end that, or choose another path\n`],
  );
  assert.equal((await ask(at(path), '/health')).status, 200);
  await first.stop(); // killed: its file stays
  assert.ok(existsSync(path));
  const third = await startBridge(['--socket', path]);
  assert.equal((await ask(at(path), '/health')).status, 200);
  await third.stop();
});

test('what is no socket is not touched', async () => {
  const path = newPath();
  writeFileSync(path, 'precious');
  const { status, stderr } = await runBridge(['--socket', path]);
  assert.deepEqual([status, stderr], [1, `agentalk-bridge: ${path} is there and is no socket: choose another path\n`]);
  assert.equal(readFileSync(path, 'utf8'), 'precious');
});

test('a folder that is not there is said in one line', async () => {
  const path = join(makeFolder(), 'none', 'bridge.sock');
  const { status, stderr } = await runBridge(['--socket', path]);
  assert.equal(status, 1);
  assert.match(stderr, /^agentalk-bridge: can't listen on unix:\S+ \(\w+\): choose [^\n]+\n$/);
});

/** As systemd says it to the program that it starts. */
const told = (count: number) => ['sh', '-c', `LISTEN_FDS=${count} LISTEN_PID=$$ exec "$@"`, 'sh'];

/** Somebody who listens, and the descriptor of it. */
async function listening(): Promise<{ server: Server; fd: number; url: string }> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle; // nothing public tells it
  return { server, fd, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

test('a socket that was passed is taken, whatever the flags say', async () => {
  const { server, fd, url } = await listening();
  const bridge = await startBridge(['--port', '1'], { inside: told(1), fd });
  server.close();
  assert.equal(bridge.url, url);
  assert.equal((await ask({ url }, '/health')).status, 200);
  bridge.kill('SIGTERM');
  assert.equal(await bridge.ended, 0);
});

test('a socket that was passed to another process is none of ours', async () => {
  const { server, fd, url } = await listening();
  const bridge = await startBridge([], { env: { LISTEN_FDS: '1', LISTEN_PID: '1' }, fd });
  server.close();
  assert.notEqual(bridge.url, url);
  await bridge.stop();
});

test('several passed sockets are refused', async () => {
  const { server, fd } = await listening();
  await assert.rejects(
    startBridge([], { inside: told(2), fd }),
    /ended with 2 [^]*agentalk-bridge: systemd passed several sockets: leave one in the socket unit; see --help\n$/,
  );
  server.close();
});

for (const kind of ['host and port', 'path']) {
  const skip = requirePrograms('systemd-socket-activate');
  test(
    `systemd-socket-activate with a ${kind}: the request that started the bridge is answered`,
    { skip },
    async () => {
      const path = newPath();
      const { server, url } = await listening();
      server.close();
      await once(server, 'close');
      const isPath = kind === 'path';
      const place = isPath ? path : url.slice('http://'.length);
      const starting = startBridge([], { inside: ['systemd-socket-activate', '-l', place] });
      const endpoint = isPath ? at(path) : { url };
      await until('an answer', () =>
        ask(endpoint, '/health').then(
          ({ text }) => text === 'ok\n',
          () => false,
        ),
      );
      const bridge = await starting;
      assert.equal(bridge.url, isPath ? 'fd:3' : url);
      await bridge.stop();
    },
  );
}
