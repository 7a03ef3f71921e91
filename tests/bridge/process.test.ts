/** The built bridge as a process: its flags, how it starts and stops, what it tells of itself. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BRIDGE, runBridge, startBridge } from '../lib/bridge.ts';
import { TestChannel, TEXT, bridge, call, hex, pair, sealed, waiting } from './fixture.ts';

test('health, readiness and metrics, without an id in sight', async () => {
  const own = await startBridge();
  assert.equal((await call(own.url, 'GET', '/health')).text, 'ok\n');
  assert.equal((await call(own.url, 'GET', '/ready')).text, 'ready\n');
  const [a, b] = await pair(own.url);
  await a.send({ to: '*', ...sealed(30) });
  await a.send({ to: hex(16), ...sealed() });
  const { text, headers } = await call(own.url, 'GET', '/metrics');
  assert.equal(headers.get('content-type'), 'text/plain; version=0.0.4');
  for (const line of [
    'agentalk_channels 1',
    'agentalk_participants 2',
    'agentalk_polls_pending 0',
    'agentalk_messages_total 1',
    'agentalk_message_bytes_total 30',
    'agentalk_requests_total{method="POST",route="/channels/:id/send"} 2',
    'agentalk_requests_total{method="POST",route="/channels/:id/join"} 2',
    'agentalk_request_errors_total{code="no_recipient"} 1',
  ]) {
    assert.ok(text.includes(`\n${line}\n`), line);
  }
  assert.match(text, /\nagentalk_channel_memory_bytes [1-9]\d*\n/);
  for (const line of text.trimEnd().split('\n')) {
    assert.match(line, /^(# (HELP|TYPE) [a-z_0-9]+ .+|[a-z_0-9]+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? \d+(\.\d+)?)$/);
  }
  for (const secret of [a.room.id, a.room.access, a.id, a.token, b.id, a.card.nonce]) {
    assert.ok(!text.includes(secret) && !own.logs().includes(secret));
  }
  assert.equal(own.logs(), `listening on ${own.url}\n`, 'it is quiet');
  await own.stop();
});

test('stopping: not ready, nothing new, every waiting poll answered, exit status 0', async () => {
  const own = await startBridge(['--drain-delay', '1']);
  const [a, b] = await pair(own.url);
  const polls = [a.poll(2, '&wait=50'), b.poll(2, '&wait=50'), b.poll(2, '&wait=50', TEXT)];
  await waiting(3, own.url);
  own.kill('SIGTERM');
  for (const each of await Promise.all(polls)) {
    assert.equal(each.status, 200);
    assert.equal(each.headers.get('connection'), 'close');
    assert.match(each.text, /^\{"epoch":"[0-9a-f]{32}","cursor":2,"events":\[\]\}$|^cursor 2 [0-9a-f]{32}\n$/);
  }
  const ready = await call(own.url, 'GET', '/ready');
  assert.deepEqual([ready.status, ready.code], [503, 'stopping']);
  const refused = await a.send();
  assert.deepEqual([refused.status, refused.code, refused.headers.get('retry-after')], [503, 'stopping', '2']);
  assert.equal((await call(own.url, 'GET', '/health')).status, 200);
  assert.equal(await own.ended, 0);
});

test('stopping waits for answers on their way, but not for ever', async () => {
  const own = await startBridge(['--shutdown-timeout', '1']);
  const socket = connect(own.port, '127.0.0.1');
  socket.write('POST /channels/x HTTP/1.1\r\n'); // and never the rest
  await once(socket, 'connect');
  while (!(await call(own.url, 'GET', '/metrics')).text.includes('agentalk_connections 2'));
  own.kill('SIGINT');
  assert.equal(await own.ended, 0);
});

test('--help and --version; flags and values that are none are refused in one line with status 2', async () => {
  const help = await runBridge(['--help']);
  assert.equal(help.status, 0);
  for (const flag of [
    '--host',
    '--port',
    '--public-url',
    '--expire-after',
    '--max-message-bytes',
    '--trusted-proxies',
  ]) {
    assert.ok(help.stdout.includes(`  ${flag} `), flag);
  }
  const version = await runBridge(['--version']);
  assert.match(version.stdout, /^agentalk-bridge \d+\.\d+\.\d+ \(([0-9a-f]{12}( with changes)?|unreleased)\)\n$/);
  const bad: [args: string[], env?: NodeJS.ProcessEnv][] = [
    [['--nothing']],
    [['nothing']],
    [['--port']],
    [['--port', '65536']],
    [['--port', '-1']],
    [['--port=']],
    [['--host', 'a b']],
    [['--public-url', 'ftp://x']],
    [['--public-url', 'https://x/?q']],
    [['--public-url', 'https://u:p@x']],
    [['--public-url', 'https://x/"']],
    [['--expire-after', '0']],
    [['--expire-after', '1d']],
    [['--max-participants', '2k']],
    [['--max-message-bytes', '1e3']],
    [['--max-message-bytes', '2m']],
    [['--max-channel-bytes', '100']],
    [['--max-memory-bytes', '1m']],
    [['--trust-proxy', 'yes']],
    [['--trusted-proxies', 'yes']],
    [['--trusted-proxies', '10.0.0.0/33']],
    [['--trusted-proxies', '10.0.0/8']],
    [['--trusted-proxies', '::1/129']],
    [['--trusted-proxies', '10.0.0.1/8/8']],
    [['--trusted-proxies', 'loopback;10.0.0.1']],
    [['--log-requests', '1']],
    [['--log-addresses', 'true']],
    [['--request-rate-per-ip', '-1']],
    [[], { AGENTALK_PORT: 'x' }],
    [[], { AGENTALK_EXPIRE_AFTER: '-1' }],
  ];
  for (const [args, env = {}] of bad) {
    const { status, stdout, stderr } = await runBridge(args, env);
    assert.deepEqual([status, stdout], [2, ''], args.join(' '));
    assert.match(stderr, /^agentalk-bridge: [^\n]+\n$/);
  }
  const taken = await runBridge(['--port', String(bridge.port)]);
  assert.deepEqual(
    [taken.status, taken.stderr],
    [
      1,
      `agentalk-bridge: can't listen on ${bridge.url} (EADDRINUSE): ` +
        'choose another --port (0: any that is free), --host, --socket or --metrics-listen\n',
    ],
  );
});

test('flags win over the environment, and that over the defaults', async () => {
  const env = { AGENTALK_MAX_PARTICIPANTS: '7', AGENTALK_EXPIRE_AFTER: '3h', AGENTALK_MAX_MESSAGE_BYTES: '' };
  const own = await startBridge(['--max-participants', '9'], { env });
  const { json } = await new TestChannel(own.url).create();
  assert.deepEqual(json['limits'], {
    message_bytes: 65_536,
    participants: 9,
    poll_seconds: 50,
    idle_seconds: 10_800,
    blob_bytes: 134_217_728,
  });
  await own.stop();
});

test('bridge.js runs alone, wherever it is copied', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'agentalk-alone-'));
  const file = join(folder, 'bridge.js');
  cpSync(BRIDGE, file);
  const own = await startBridge([], { file });
  assert.equal((await new TestChannel(own.url).create()).status, 201);
  await own.stop();
  rmSync(folder, { recursive: true });
});
