/** What comes over a connection to the built bridge: no HTTP, too slow, never read, one after the other. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import { bridge, call, pair, raw, sealed } from './fixture.ts';

test('what is no HTTP is refused, and the next one served', async () => {
  const garbage = [
    'hello\r\n\r\n',
    'GET / HTTP/1.1\r\nConnection: close\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: x\r\nHost : y\r\n\r\n',
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n',
    '\u0016\u0003\u0001\u0002\u0000',
  ];
  for (const text of garbage) assert.match(await raw(text), /^HTTP\/1.1 400 /, JSON.stringify(text));
  const long = `GET / HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(9000)}\r\n\r\n`;
  assert.match(await raw(long), /^HTTP\/1.1 431 /);
  assert.equal((await call(bridge.url, 'GET', '/health')).status, 200);
  assert.equal(bridge.logs(), `listening on ${bridge.url}\n`);
});

test('slow headers and slow bodies are given up', async (t) => {
  // Each by its own limit: a request as a whole may take longer where headers may not.
  const slow = await startBridge(['--headers-timeout', '1', '--request-timeout', '15']);
  const own = await startBridge(['--headers-timeout', '1', '--request-timeout', '1']);
  t.after(() => Promise.all([slow.stop(), own.stop()]));
  const head = 'POST /channels/00000000000000000000000000000000/send HTTP/1.1\r\nHost: x\r\n';
  const begin = Date.now();
  let headersMs = Infinity;
  const [headers, body] = await Promise.all([
    raw(head, slow.url).finally(() => (headersMs = Date.now() - begin)),
    raw(`${head}Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{`, own.url),
  ]);
  assert.match(headers, /^HTTP\/1.1 408 /);
  assert.ok(headersMs < 12_000, `after ${headersMs} ms`);
  assert.match(body, /^HTTP\/1.1 408 |^$/);
});

test('a reader that does not read is cut off', async () => {
  const own = await startBridge(['--write-timeout', '1']);
  const [a, b] = await pair(own.url);
  for (let i = 0; i < 12; i++) assert.equal((await a.send({ to: '*', ...sealed(66_000) })).status, 200);
  const metrics = 'GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  const connections = async () => Number(/\nagentalk_connections (\d+)/.exec(await raw(metrics, own.url))?.[1]);
  const others = await connections();
  const socket = connect(own.port, '127.0.0.1').pause();
  const head = `Host: x\r\nAuthorization: Bearer ${b.token}\r\n\r\n`;
  // More answers than the buffers of both ends hold; more requests at once would end the connection by themselves.
  socket.write(`GET ${b.room.path}/poll?participant_id=${b.id}&since=0 HTTP/1.1\r\n${head}`.repeat(8));
  const begun = Date.now();
  while ((await connections()) === others);
  while ((await connections()) > others);
  assert.ok(Date.now() - begun < 15_000, `after ${Date.now() - begun} ms`);
  assert.doesNotMatch(await raw(metrics, own.url), /reason="pipelined"\} [1-9]/);
  let bytes = 0;
  socket.on('error', () => {}).on('data', (chunk: Buffer) => (bytes += chunk.length));
  await once(socket.resume(), 'close');
  assert.ok(bytes < 8 * 1_000_000, `${bytes} bytes`);
  assert.equal((await b.poll(0)).status, 200);
  await own.stop();
});

test('a refusal before the body was read ends the connection', async () => {
  const smuggled = 'GET /health HTTP/1.1\r\nHost: x\r\n\r\n';
  const head = `POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n`;
  const answer = await raw(`${head}Content-Length: 100000\r\n\r\n${smuggled}`);
  assert.match(answer, /^HTTP\/1.1 404 [^]*Connection: close/);
  assert.equal(answer.split('HTTP/1.1 ').length, 2, 'one answer');
});

test('a refusal does not cost the connection', async () => {
  const two = 'GET /nothing HTTP/1.1\r\nHost: x\r\n\r\nGET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  assert.match(await raw(two), /^HTTP\/1.1 404 [^]*HTTP\/1.1 200 [^]*ready\n$/);
});

test('one connection carries many requests', async () => {
  const two = 'GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  assert.match(await raw(two), /^HTTP\/1.1 200 [^]*ok\nHTTP\/1.1 200 [^]*ready\n$/);
});
