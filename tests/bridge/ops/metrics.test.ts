/** What an operator watches: complete, true, in the form that Prometheus reads, and where it is wanted. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { connect } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startBridge } from '../../lib/bridge.ts';
import type { TestBridge } from '../../lib/bridge.ts';
import { requirePrograms } from '../../lib/require-programs.ts';
import { until as comes, makeFolder } from '../../lib/shell.ts';
import { Member, ask, until } from './http-client.ts';

/** Samples by name and labels. */
async function read(url: string): Promise<Map<string, number>> {
  const { text } = await ask({ url }, '/metrics');
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.replace(/ \S+$/, ''), Number(line.replace(/^.* /, ''))]));
}

const metricsOf = (bridge: TestBridge) => /^metrics on (\S+)$/m.exec(bridge.logs())?.[1] ?? '';

test('promtool finds nothing to mend', { skip: requirePrograms('promtool') }, async () => {
  const bridge = await startBridge();
  const a = await Member.enter(bridge);
  await a.say();
  await (await Member.enter(bridge, a)).poll(0);
  const { text } = await ask(bridge, '/metrics');
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
  assert.deepEqual([status, stdout + stderr], [0, '']);
  await bridge.stop();
});

test('what happened is counted: channels, people, polls, messages, bytes', async () => {
  const bridge = await startBridge();
  const a = await Member.enter(bridge);
  const b = await Member.enter(bridge, a);
  await Member.enter(bridge);
  const poll = b.poll(2, 30);
  await until(bridge, /^agentalk_polls_pending 1$/m);
  const before = await read(bridge.url);
  assert.deepEqual(
    ['channels', 'participants', 'polls_pending'].map((name) => before.get(`agentalk_${name}`)),
    [2, 3, 1],
  );
  await a.say();
  await poll;
  await a.say();
  await b.poll(3);
  const after = await read(bridge.url);
  assert.equal(after.get('agentalk_messages_total'), 2);
  assert.equal(after.get('agentalk_message_bytes_total'), 60);
  assert.equal(after.get('agentalk_polls_pending'), 0);
  assert.ok((after.get('agentalk_channel_memory_bytes') ?? 0) > (before.get('agentalk_channel_memory_bytes') ?? 0));
  await bridge.stop();
});

test('a delivery is counted once for each poll that has it, with the age of the message', async () => {
  const bridge = await startBridge();
  const a = await Member.enter(bridge);
  const others = [await Member.enter(bridge, a), await Member.enter(bridge, a)];
  const polls = others.map((other) => other.poll(3, 30));
  await until(bridge, /^agentalk_polls_pending 2$/m);
  await a.say();
  await Promise.all(polls);
  const sent = Date.now();
  await a.say();
  while (Date.now() < sent + 150); // it has to have an age
  await others[0]?.poll(4);
  const samples = await read(bridge.url);
  const of = (name: string, path: 'immediate' | 'delayed', le = '') =>
    samples.get(`agentalk_delivery_latency_seconds_${name}{path="${path}"${le}}`);
  assert.equal(of('count', 'immediate'), 2);
  assert.equal(of('bucket', 'immediate', ',le="+Inf"'), 2);
  assert.equal(of('bucket', 'immediate', ',le="10"'), 2);
  assert.equal(of('count', 'delayed'), 1);
  assert.equal(of('bucket', 'delayed', ',le="0.1"'), 0);
  assert.equal(of('bucket', 'delayed', ',le="3600"'), 1);
  assert.ok((of('sum', 'delayed') ?? 0) >= 0.1);
  await bridge.stop();
});

test('channels that were evicted for others are counted', async () => {
  const bridge = await startBridge(['--max-channels', '1', '--live-window', '1']);
  const one = await Member.enter(bridge);
  await Member.enter(bridge, one);
  await until(bridge, /^agentalk_channels_evicted_total 0$/m);
  await delay(1100); // until nobody there is alive any more
  await Member.enter(bridge);
  await until(bridge, /^agentalk_channels_evicted_total 1$/m);
  await until(bridge, /^agentalk_channels 1$/m);
  await bridge.stop();
});

test('what is refused is counted by its reason, requests and connections', async () => {
  const bridge = await startBridge(['--max-connections', '2', '--metrics-listen', '127.0.0.1:0']);
  const operator = { url: metricsOf(bridge) };
  const atFirst = await read(operator.url);
  const reasons = ['max_connections', 'tls', 'malformed', 'headers_too_large', 'timeout', 'reset', 'pipelined'];
  for (const reason of reasons) {
    const name = `agentalk_connections_rejected_total{reason="${reason}"}`;
    assert.equal(atFirst.get(name), 0, `${name} is there before its first time`);
  }
  const raw = async (text: string) => {
    const socket = connect(bridge.port, '127.0.0.1').on('error', () => {});
    socket.end(text);
    await once(socket.resume(), 'close');
  };
  await ask(bridge, '/nothing');
  await raw('hello\r\n\r\n');
  await raw(`GET / HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(9000)}\r\n\r\n`);
  const held = [1, 2].map(() => connect(bridge.port, '127.0.0.1'));
  await Promise.all(held.map((socket) => once(socket, 'connect')));
  await until(operator, /^agentalk_connections 2$/m);
  await raw('');
  for (const socket of held) socket.destroy();
  await until(operator, /reason="max_connections"\} 1$/m);
  const samples = await read(operator.url);
  assert.equal(samples.get('agentalk_request_errors_total{code="not_found"}'), 1);
  assert.equal(samples.get('agentalk_request_errors_total{code="bridge_full"}'), 0, 'there before its first time');
  assert.equal(samples.get('agentalk_connections_rejected_total{reason="malformed"}'), 1);
  assert.equal(samples.get('agentalk_connections_rejected_total{reason="headers_too_large"}'), 1);
  assert.equal(samples.get('agentalk_connections_limit'), 2);
  await bridge.stop();
});

test('the process tells how it is', async () => {
  const begun = Date.now() / 1000;
  const bridge = await startBridge();
  const samples = await read(bridge.url);
  const [build = ''] = [...samples.keys()].filter((name) => name.startsWith('agentalk_build_info'));
  assert.match(build, /\{version="\d+\.\d+\.\d+",commit="[^"]+",node="v\d+\.\d+\.\d+"\}$/);
  assert.ok(Math.abs((samples.get('process_start_time_seconds') ?? 0) - begun) < 30);
  const of = (name: string) => samples.get(name) ?? 0;
  assert.ok(of('process_resident_memory_bytes') > of('nodejs_heap_size_total_bytes'));
  assert.ok(of('nodejs_heap_size_total_bytes') > of('nodejs_heap_size_used_bytes'));
  assert.ok(of('process_cpu_seconds_total') > 0);
  await bridge.stop();
});

test('a bridge that stood still shows it as lag of its event loop', async () => {
  const bridge = await startBridge();
  const most = async () => (await read(bridge.url)).get('nodejs_eventloop_lag_max_seconds') ?? 0;
  await until(bridge, /^nodejs_eventloop_lag_max_seconds \d*\.?\d*[1-9]/m); // it is being measured
  const before = await most();
  const begun = Date.now();
  bridge.kill('SIGSTOP');
  while (Date.now() < begun + before * 1000 + 400);
  bridge.kill('SIGCONT');
  await comes('the delay', async () => (await most()) >= before + 0.3);
  await bridge.stop();
});

for (const place of ['a port', 'a path']) {
  test(`--metrics-listen with ${place}: metrics only there, health and readiness at both`, async () => {
    const socketPath = join(makeFolder(), 'metrics.sock');
    const isPath = place === 'a path';
    const bridge = await startBridge(['--metrics-listen', isPath ? socketPath : '127.0.0.1:0']);
    const operator = isPath ? { url: 'http://operator', socketPath } : { url: metricsOf(bridge) };
    assert.equal(metricsOf(bridge), isPath ? `unix:${socketPath}` : operator.url);
    assert.equal((await ask(bridge, '/metrics')).status, 404);
    for (const path of ['/health', '/ready']) assert.equal((await ask(bridge, path)).status, 200, path);
    for (const path of ['/metrics', '/health', '/ready']) assert.equal((await ask(operator, path)).status, 200, path);
    for (const path of ['/', '/llms.txt', '/agentalk.sh', '/bridge.js']) {
      assert.equal((await ask(bridge, path)).status, 200, path);
      assert.equal((await ask(operator, path)).status, 404, path);
    }
    await Member.enter(bridge);
    await assert.rejects(Member.enter(operator));
    assert.match((await ask(operator, '/metrics')).text, /^agentalk_channels 1$/m);
    await bridge.stop();
  });
}
