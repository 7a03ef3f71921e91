/** SIGTERM: red first, every waiting poll answered, gone in bounded time; on each kind of door. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { startBridge } from '../../lib/bridge.ts';
import { Authority } from '../../lib/certificate.ts';
import { makeFolder } from '../../lib/shell.ts';
import { Member, ask, until } from './http-client.ts';
import type { Endpoint } from './http-client.ts';

const folder = makeFolder();
const path = join(folder, 'bridge.sock');
const metricsPath = join(folder, 'metrics.sock');
const operator: Endpoint = { url: 'http://operator', socketPath: metricsPath };

const endpoints: [name: string, flags: () => string[], endpoint: (url: string) => Endpoint][] = [
  ['http', () => [], (url) => ({ url })],
  ['a unix socket', () => ['--socket', path], () => ({ url: 'http://bridge', socketPath: path })],
  [
    'TLS',
    () => {
      const { cert, key } = new Authority(folder).issue();
      return ['--tls-cert', cert, '--tls-key', key];
    },
    (url) => ({ url, ca: readFileSync(join(folder, 'ca.pem')) }),
  ],
];

for (const [name, flags, endpointOf] of endpoints) {
  test(`over ${name}: not ready, nothing new, waiting polls answered, then the end`, async () => {
    const bridge = await startBridge([...flags(), '--metrics-listen', metricsPath, '--drain-delay', '1']);
    const endpoint = endpointOf(bridge.url);
    const a = await Member.enter(endpoint);
    const b = await Member.enter(endpoint, a);
    const polls = [a.poll(2, 50), b.poll(2, 50)];
    await until(operator, /^agentalk_polls_pending 2$/m);
    assert.equal((await ask(operator, '/ready')).status, 200);
    bridge.kill('SIGTERM');
    for (const { status, headers, text } of await Promise.all(polls)) {
      assert.deepEqual([status, headers['connection']], [200, 'close']);
      assert.match(text, /"cursor":2,"events":\[\]/);
    }
    assert.equal((await ask(operator, '/ready')).status, 503);
    assert.equal((await ask(operator, '/health')).status, 200);
    assert.equal((await a.say()).status, 503);
    assert.equal(await bridge.ended, 0);
  });
}

test('a visitor that stays, and one that never finishes its handshake, do not hold it up', async () => {
  const { cert, key } = new Authority(folder).issue();
  const bridge = await startBridge([
    '--tls-cert',
    cert,
    '--tls-key',
    key,
    '--metrics-listen',
    metricsPath,
    '--shutdown-timeout',
    '1',
  ]);
  const socket = connect(bridge.port, '127.0.0.1');
  socket.on('error', () => {});
  await until(operator, /^agentalk_connections 1$/m);
  bridge.kill('SIGTERM');
  assert.equal(await bridge.ended, 0);
  socket.destroy();
});

test('who asks a second time has it at once', async () => {
  const bridge = await startBridge(['--drain-delay', '600']);
  bridge.kill('SIGTERM');
  while ((await ask(bridge, '/ready')).status !== 503);
  bridge.kill('SIGTERM');
  assert.equal(await bridge.ended, 1);
});
