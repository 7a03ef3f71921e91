/** What is the operator's alone, what a watcher may ask, how an operator names the bridge, and links that were damaged. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runBridge, startBridge } from '../lib/bridge.ts';
import { TestChannel, bridge, call, hex, pair, raw } from './fixture.ts';

const FORWARDING: Readonly<Record<string, string>> = {
  'x-forwarded-for': '203.0.113.7',
  'x-forwarded-host': 'bridge.example',
  'x-forwarded-proto': 'https',
  'x-real-ip': '203.0.113.7',
  forwarded: 'for=203.0.113.7',
  via: '1.1 proxy',
};

test('/metrics is for who asks on this machine, and not for whom a proxy there speaks', async (t) => {
  assert.equal((await call(bridge.url, 'GET', '/metrics')).status, 200);
  const behind = await startBridge(['--trusted-proxies', 'loopback']);
  t.after(() => behind.stop());
  for (const url of [bridge.url, behind.url]) {
    for (const [name, value] of Object.entries(FORWARDING)) {
      for (const method of ['GET', 'HEAD']) {
        const { status, headers } = await call(url, method, '/metrics', { headers: { [name]: value } });
        assert.deepEqual([status, headers.get('agentalk-error')], [404, 'not_found'], `${method} with ${name}`);
      }
      const empty = await raw(`GET /metrics HTTP/1.1\r\nHost: x\r\n${name}:\r\nConnection: close\r\n\r\n`, url);
      assert.match(empty, /^HTTP\/1.1 404 /, `an empty ${name}`);
    }
    assert.equal((await call(url, 'GET', '/metrics')).status, 200);
    assert.equal((await call(url, 'GET', '/health', { headers: FORWARDING })).status, 200);
  }
});

test('--public-metrics opens /metrics to everybody; with --metrics-listen it is only there', async (t) => {
  const open = await startBridge(['--public-metrics']);
  t.after(() => open.stop());
  assert.equal((await call(open.url, 'GET', '/metrics', { headers: FORWARDING })).status, 200);
  const apart = await startBridge(['--metrics-listen', '127.0.0.1:0', '--public-metrics']);
  t.after(() => apart.stop());
  assert.equal((await call(apart.url, 'GET', '/metrics')).status, 404);
  assert.equal((await call(apart.url, 'HEAD', '/ready')).status, 200, 'load balancers ask there');
  const [, operator = ''] = /^metrics on (\S+)$/m.exec(apart.logs()) ?? [];
  assert.equal((await call(operator, 'GET', '/metrics', { headers: FORWARDING })).status, 200);
});

test('HEAD is answered wherever GET is, with the same headers and no body', async () => {
  const [a] = await pair();
  const bearer = a.token;
  const poll = `${a.room.path}/poll?participant_id=${a.id}&since=2`;
  const paths = ['/', '/llms.txt', '/agentalk.sh', '/health', '/ready', '/metrics', `/c/${a.room.id}`];
  for (const path of [...paths, poll, `${a.room.path}?participant_id=${a.id}`, '/nothing']) {
    const [got, head] = [
      await call(bridge.url, 'GET', path, { bearer }),
      await call(bridge.url, 'HEAD', path, { bearer }),
    ];
    assert.deepEqual([head.status, head.text], [got.status, ''], path);
    for (const name of ['content-type', 'cache-control', 'agentalk-error', 'vary'])
      assert.equal(head.headers.get(name), got.headers.get(name), `${name} of ${path}`);
    if (path !== '/metrics') assert.equal(head.headers.get('content-length'), got.headers.get('content-length'), path);
  }
});

test('HEAD of /ready is red when the bridge is stopping', async () => {
  const own = await startBridge(['--drain-delay', '30']);
  own.kill('SIGTERM');
  while ((await call(own.url, 'HEAD', '/ready')).status === 200);
  const { status, headers } = await call(own.url, 'HEAD', '/ready');
  assert.deepEqual([status, headers.get('agentalk-error')], [503, 'stopping']);
  await own.stop();
});

test('--public-url takes what clients can use, and pages have it in one form', async () => {
  for (const [given, written] of [
    ['HTTPS://Bridge.Example/Agents/', 'https://bridge.example/Agents'],
    ['Http://bridge.example:80', 'http://bridge.example'],
    ['https://[2001:DB8::0:1]:8443/', 'https://[2001:db8::1]:8443'],
    ['http://[::1]:8787', 'http://[::1]:8787'],
    ['https://bridge.example:443', 'https://bridge.example'],
  ] as const) {
    const own = await startBridge(['--public-url', given]);
    const { text } = await call(own.url, 'GET', `${new URL(written).pathname.replace(/\/$/, '')}/llms.txt`);
    assert.ok(text.includes(`${written}/agentalk.sh`), given);
    await own.stop();
  }
});

test('--public-url: another form is named, with what is wanted', async () => {
  const bad = [
    ...['bridge.example', 'ftp://bridge.example', 'https://', 'https://u:p@x', 'https://x/?q', 'https://x/#k'],
    ...[
      'https://2001:db8::1',
      'https://[::1',
      'https://[::g]',
      'https://[1.2.3.4]',
      'https://x:99999',
      'https://x/"',
      'https://x/a b',
    ],
  ];
  for (const given of bad) {
    const { status, stderr } = await runBridge(['--public-url', given]);
    assert.equal(status, 2, given);
    assert.match(
      stderr,
      /^agentalk-bridge: bad value for --public-url: expected http:\/\/ or https:\/\/, a host name or an address \(IPv6 in brackets\), perhaps a port and a path, .*; see --help\n$/,
    );
  }
});

test('a join link whose # became %23: a page that says so, without the key, which is in no log either', async (t) => {
  const own = await startBridge(['--log-requests', '--log-addresses', '--public-url', 'https://b.example/base']);
  t.after(() => own.stop());
  const { id } = new TestChannel(own.url);
  const key = hex(32);
  const damaged = [
    `/c/${id}%23k=${key}`,
    `/c/${id}%23k=${key}&c=${hex(16)}`,
    `/c/${id}%23k%3D${key}`,
    `/c/${id}/%23k=${key}`,
    `/c/${id}%2523k=${key}`,
    `/base/c/${id}%23k=${key}&t=${hex(16)}`,
  ];
  for (const path of damaged) {
    for (const method of ['GET', 'HEAD']) {
      const page = await call(own.url, method, path, { accept: 'text/html,*/*;q=0.8' });
      assert.deepEqual([page.status, page.headers.get('agentalk-error')], [404, 'not_found'], path);
      assert.equal(page.headers.get('content-type'), 'text/html; charset=utf-8');
      assert.equal(page.headers.get('cache-control'), 'no-store');
      if (method === 'HEAD') continue;
      assert.match(page.text, /^<!doctype html>/);
      assert.match(page.text, /%23/);
      assert.match(page.text, /new channel/);
      assert.ok(!page.text.includes(key) && !page.text.includes(id));
    }
    const text = await call(own.url, 'GET', path);
    assert.equal(text.headers.get('content-type'), 'text/markdown; charset=utf-8');
    assert.match(text.text, /%23[^]*new channel/);
    assert.ok(!text.text.includes('<') && !text.text.includes(key));
  }
  assert.equal((await call(own.url, 'POST', damaged[0] ?? '')).status, 405);
  const other = await call(own.url, 'GET', `/c/${id}%24k=${key}`);
  assert.deepEqual([other.status, other.code], [404, 'not_found']);
  await own.stop();
  assert.match(own.logs(), /"route":"\/c\/:id%23","status":404,/);
  assert.ok(!own.logs().includes(key.slice(0, 8)) && !own.logs().includes(id));
});
