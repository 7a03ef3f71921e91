/** What the built bridge hands out to whom: pages, the client, itself; and with which headers. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { BRIDGE, startBridge } from '../lib/bridge.ts';
import { ROOT } from '../lib/root.ts';
import { TEXT, TestChannel, bridge, call, pair, raw, sha256 } from './fixture.ts';
import type { Answer } from './fixture.ts';

test('security headers on each response, and a rule for each cache', async () => {
  const [a] = await pair();
  const answers: [Answer, cache: string][] = [
    [await a.send(), 'no-store'],
    [await a.poll(0, '', TEXT), 'no-store'],
    [await a.send({}), 'no-store'],
    [await call(bridge.url, 'GET', '/nothing'), 'no-store'],
    [await call(bridge.url, 'DELETE', '/'), 'no-store'],
    [await call(bridge.url, 'GET', '/metrics'), 'no-store'],
    [await call(bridge.url, 'GET', '/health'), 'no-store'],
    [await call(bridge.url, 'GET', '/'), 'no-cache'],
    [await call(bridge.url, 'GET', '/', { accept: 'text/html' }), 'no-cache'],
    [await call(bridge.url, 'GET', `/c/${a.room.id}`), 'no-cache'],
    [await call(bridge.url, 'GET', '/agentalk.sh'), 'no-cache'],
    [await call(bridge.url, 'GET', '/bridge.js'), 'no-cache'],
  ];
  for (const [{ headers }, cache] of answers) {
    assert.match(headers.get('content-security-policy') ?? '', /^default-src 'none';.* frame-ancestors 'none'$/);
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
    assert.equal(headers.get('referrer-policy'), 'no-referrer');
    assert.equal(headers.get('x-frame-options'), 'DENY');
    assert.equal(headers.get('cache-control'), cache);
    assert.equal(headers.get('server'), null);
    assert.equal(headers.get('x-powered-by'), null);
  }
});

test('the client and the bridge itself are handed out byte for byte', async () => {
  for (const [path, file] of [
    ['/agentalk.sh', join(ROOT, 'dist', 'agentalk.sh')],
    ['/bridge.js', BRIDGE],
  ] as const) {
    const response = await fetch(bridge.url + path);
    assert.deepEqual(Buffer.from(await response.arrayBuffer()), readFileSync(file));
    const head = await call(bridge.url, 'HEAD', path);
    assert.deepEqual([head.text, head.headers.get('content-length')], ['', String(readFileSync(file).length)]);
  }
});

test('pages have the address, the channel and the checksum filled in', async () => {
  const { id } = new TestChannel(bridge.url);
  const checksum = sha256(readFileSync(join(ROOT, 'dist', 'agentalk.sh')));
  for (const path of ['/', '/llms.txt', `/c/${id}`, '/skill.md']) {
    const { status, text, headers } = await call(bridge.url, 'GET', path);
    assert.equal(status, 200);
    assert.ok(text.includes(checksum) && text.includes(bridge.url), path);
    assert.doesNotMatch(text, /\{\{/);
    assert.equal(headers.get('vary'), 'Accept, User-Agent');
  }
  const { text } = await call(bridge.url, 'GET', `/c/${id}`);
  assert.ok(text.includes(`${bridge.url}/c/${id}`));
  const protocol = await call(bridge.url, 'GET', '/docs/protocol.md');
  assert.equal(protocol.text, readFileSync(join(ROOT, 'docs', 'protocol.md'), 'utf8'));
});

test('browsers get HTML, everybody else text', async () => {
  const chrome = 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8';
  const mozilla = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36';
  const cases: [accept: string, userAgent: string, type: string][] = [
    ['*/*', 'curl/8.5.0', 'text/markdown'],
    ['', 'x', 'text/markdown'],
    [chrome, mozilla, 'text/html'],
    ['text/html', 'curl/8.5.0', 'text/html'],
    ['text/markdown, text/html, */*', 'axios/1.0', 'text/markdown'],
    ['text/html, text/markdown', 'x', 'text/html'],
    ['text/html;q=0.5, text/markdown;q=0.6', 'x', 'text/markdown'],
    ['text/html;q=0.9, */*;q=0.1', 'x', 'text/html'],
    ['text/html;q=0, */*', 'x', 'text/markdown'],
    ['text/plain', 'x', 'text/plain'],
    ['TEXT/HTML ; Q=1', 'x', 'text/html'],
    ['application/json', 'x', 'text/markdown'],
    ['image/png, text/*;q=0.2', 'x', 'text/markdown'],
    [',;,=;q', 'x', 'text/markdown'],
    [chrome, 'Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Claude-User/1.0)', 'text/markdown'],
    [chrome, 'Mozilla/5.0 (compatible; ChatGPT-User/1.0; +https://openai.com/bot)', 'text/markdown'],
  ];
  for (const [accept, userAgent, type] of cases) {
    const { headers, text } = await call(bridge.url, 'GET', '/', { accept, headers: { 'user-agent': userAgent } });
    assert.equal(headers.get('content-type'), `${type}; charset=utf-8`, `${accept} of ${userAgent}`);
    assert.equal(text.startsWith('<!doctype html>'), type === 'text/html');
  }
  const { text } = await call(bridge.url, 'GET', '/', { accept: 'text/html' });
  assert.ok(text.includes(`<link rel="alternate" type="text/markdown" href="${bridge.url}/llms.txt">`));
});

test('a Host that is none never gets into a page', async () => {
  const get = (host: string) => raw(`GET /llms.txt HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  const good = ['bridge.example', 'bridge.example:8443', '127.0.0.1:1', '[::1]:8787', 'A-b.Example'];
  for (const host of good)
    assert.match(
      await get(host),
      new RegExp(`^HTTP/1.1 200 [^]*http://${host.toLowerCase().replace(/[[\]]/g, '\\$&')}/`),
    );
  const bad = [
    ...[
      'evil.example/path',
      'evil"onclick=',
      "a'b",
      'a b',
      '$(id)',
      '`id`',
      'a;id',
      'user@evil',
      'a\\b',
      '[x]',
      'a..b',
    ],
    ...['<script>', '', '-a', 'a:', 'a:123456', `${'a'.repeat(300)}`, 'h\u00e9', 'a,b', '{{SHA256}}', '.'],
  ];
  for (const host of bad) {
    const answer = await get(host);
    assert.match(answer, /^HTTP\/1.1 400 /, host);
    assert.ok(host.length < 3 || !answer.includes(host), host);
  }
  const forwarded = await raw('GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n');
  assert.ok(forwarded.includes('http://h/') && !forwarded.includes('https://h/'), 'no proxy is trusted unasked');
});

test('--public-url and its base path; --trusted-proxies', async () => {
  const own = await startBridge(['--public-url', 'https://bridge.example/agents/']);
  const { text } = await call(own.url, 'GET', '/llms.txt', { headers: { host: 'evil.example' } });
  assert.ok(text.includes('https://bridge.example/agents/agentalk.sh') && !text.includes('evil'));
  assert.equal((await call(own.url, 'GET', '/agents/llms.txt')).text, text);
  assert.equal((await call(own.url, 'GET', '/agents/')).status, 200);
  assert.equal((await call(own.url, 'GET', '/agentsx/llms.txt')).status, 404);
  const made = new TestChannel(own.url + '/agents');
  assert.equal((await made.create()).status, 201);
  await own.stop();
  const behind = await startBridge([], { env: { AGENTALK_TRUSTED_PROXIES: '10.0.0.0/8, loopback' } });
  const page = (await call(behind.url, 'GET', '/', { headers: { 'x-forwarded-proto': 'https' } })).text;
  assert.ok(page.includes(behind.url.replace('http:', 'https:')));
  await behind.stop();
  const elsewhere = await startBridge(['--trusted-proxies', '10.0.0.1,2001:db8::/32']);
  const other = (await call(elsewhere.url, 'GET', '/', { headers: { 'x-forwarded-proto': 'https' } })).text;
  assert.ok(!other.includes(elsewhere.url.replace('http:', 'https:')), 'this machine is no proxy of ours');
  await elsewhere.stop();
});
