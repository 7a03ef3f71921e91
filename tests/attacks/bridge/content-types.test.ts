/** Requests that nobody should send: framing, hosts, methods, paths, fields. Each gets the one right answer. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBridge } from '../../lib/bridge.ts';
import type { TestBridge } from '../../lib/bridge.ts';
import { withBackgroundTraffic, room, sealed } from './background-clients.ts';
import type { Member, TestChannel } from './background-clients.ts';
import { RawConnection, ask, checkLines, raw } from './raw-http.ts';

let bridge: TestBridge;
let port: number;
let channel: TestChannel;
let member: Member;
before(async () => {
  bridge = await startBridge();
  ({ port } = bridge);
  channel = await room(port);
  member = await channel.member();
});
after(() => bridge.stop());

const SMUGGLED = 'GET /health HTTP/1.1\r\nHost: x\r\n\r\n';
const POST = () => `POST ${channel.path}/send HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n`;
const json = (lines = '') => `Content-Type: application/json\r\nAuthorization: Bearer ${member.token}\r\n${lines}`;

/** Sends a body to /send as it is, by bytes. */
const send = (body: string, more: readonly string[] = []) =>
  ask(
    port,
    'POST',
    `${channel.path}/send`,
    [...json().trim().split('\r\n'), ...more, `Content-Length: ${body.length}`],
    body,
  );

const message = (fields: object = {}) => JSON.stringify({ participant_id: member.id, to: '*', ...sealed(), ...fields });

test('smuggling: every doubtful framing gets 400 and the end of the connection, and what follows is no request', async () => {
  const chunks = `${POST()}Transfer-Encoding: chunked\r\n`;
  const doubtful: Record<string, string> = {
    'length and chunks': `${POST()}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    'chunks and length': `${chunks}Content-Length: 4\r\n\r\n0\r\n\r\n`,
    'two lengths': `${POST()}Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}`,
    'the same length twice': `${POST()}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}`,
    'a list of lengths': `${POST()}Content-Length: 2, 2\r\n\r\n{}`,
    'a negative length': `${POST()}Content-Length: -2\r\n\r\n{}`,
    'a length with a sign': `${POST()}Content-Length: +2\r\n\r\n{}`,
    'a length in hex': `${POST()}Content-Length: 0x2\r\n\r\n{}`,
    'a length beyond 64 bits': `${POST()}Content-Length: 18446744073709551618\r\n\r\n{}`,
    'a space before the colon': `${POST()}Content-Length : 2\r\n\r\n{}`,
    'a folded header': `${POST()}X-A: b\r\n Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}`,
    'a folded first header': 'POST / HTTP/1.1\r\n Host: x\r\n\r\n',
    'bare LF after each header': 'GET /health HTTP/1.1\nHost: x\n\n',
    'bare LF at the end of the headers': `${POST()}Content-Length: 2\r\n\n{}`,
    'bare LF after the size of a chunk': `${chunks}\r\n2\n{}\r\n0\r\n\r\n`,
    'an encoding that is none': `${POST()}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
    'chunked, but not last': `${POST()}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`,
    'two encodings': `${chunks}Transfer-Encoding: identity\r\n\r\n0\r\n\r\n`,
    'a chunk size that is none': `${chunks}\r\nz\r\n{}\r\n0\r\n\r\n`,
    'a chunk size with a sign': `${chunks}\r\n-1\r\n{}\r\n0\r\n\r\n`,
    'a chunk longer than it says': `${chunks}\r\n1\r\n{}\r\n0\r\n\r\n`,
    'a chunk size beyond 64 bits': `${chunks}\r\n10000000000000002\r\n{}\r\n0\r\n\r\n`,
    'a nul in a header': 'GET / HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\n\r\n',
    'a bare CR in a header': 'GET / HTTP/1.1\r\nHost: x\r\nX-A: a\rb: c\r\n\r\n',
    'another protocol': 'GET / HTTQ/1.1\r\nHost: x\r\n\r\n',
    'HTTP 0.9': 'GET /\r\n\r\n',
    'HTTP 2 by prior knowledge': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    TLS: '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    'a space in the path': 'GET / x HTTP/1.1\r\nHost: x\r\n\r\n',
    'a tunnel': 'CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n',
  };
  await withBackgroundTraffic(bridge, async () => {
    for (const [name, text] of Object.entries(doubtful)) {
      const answers = await raw(port, text + SMUGGLED);
      assert.ok(answers.length > 0, name);
      for (const { status } of answers) assert.equal(status, 400, name);
      assert.equal(answers.at(-1)?.headers.get('connection'), 'close', name);
    }
  });
});

test('framing that is odd, and clear: chunk extensions, trailers, expectations, a body with GET, an upgrade', async () => {
  const token = `Authorization: Bearer ${member.token}\r\n`;
  const chunked = `${POST()}${token}Connection: close\r\nTransfer-Encoding: chunked\r\n`;
  const body = message();
  const size = body.length.toString(16);
  const odd: [name: string, text: string, statuses: number[]][] = [
    ['a chunk extension', `${chunked}\r\n${size};a=b\r\n${body}\r\n0\r\n\r\n`, [200]],
    ['a trailer', `${chunked}\r\n${size}\r\n${body}\r\n0\r\nX-A: b\r\n\r\n`, [200]],
    [
      'a chunk for each byte',
      `${chunked}\r\n${[...message()].map((one) => `1\r\n${one}\r\n`).join('')}0\r\n\r\n`,
      [200],
    ],
    ['an extension without end', `${chunked}\r\n${size};${'a'.repeat(20_000)}\r\n${message()}\r\n0\r\n\r\n`, [400]],
    [
      '100-continue',
      `${POST()}${token}Connection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}`,
      [400],
    ],
    ['another expectation', `${POST()}${token}Connection: close\r\nExpect: tea\r\nContent-Length: 2\r\n\r\n{}`, [400]],
    [
      'a GET with a body',
      `GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`,
      [200],
    ],
    [
      'an upgrade',
      'GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n',
      [200],
    ],
    ['empty lines before', '\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', [200]],
    ['1,500 headers', `GET /health HTTP/1.1\r\nHost: x\r\n${'a:b\r\n'.repeat(1500)}Connection: close\r\n\r\n`, [200]],
    ['HTTP 1.0', 'GET /health HTTP/1.0\r\n\r\n', [200]],
  ];
  for (const [name, text, wanted] of odd) {
    assert.deepEqual(
      (await raw(port, text)).map(({ status }) => status),
      wanted,
      name,
    );
  }
});

test('Host: none, two, and hostile ones', async () => {
  const get = (hosts: readonly string[], version = '1.1') =>
    raw(
      port,
      `GET /llms.txt HTTP/${version}\r\n${hosts.map((host) => `Host: ${host}\r\n`).join('')}Connection: close\r\n\r\n`,
    );
  for (const hosts of [[], ['a', 'b'], ['a', 'a'], ['a', ''], ['']]) {
    const [answer] = await get(hosts);
    assert.deepEqual([answer?.status, answer?.code], [400, 'bad_request'], `${hosts.length} of them`);
  }
  assert.equal((await get([], '1.0'))[0]?.status, 400, 'a page has to say where it is');
  assert.equal((await get(['bridge.example']))[0]?.status, 200);
  const hostile = [
    'evil"',
    '<script>',
    '$(id)',
    'a b',
    'user@evil',
    'a/b',
    'a\\b',
    '{{SHA256}}',
    '[::1',
    'ä',
    'a,b',
    '-',
  ];
  for (const host of hostile) {
    const [answer] = await get([host]);
    assert.equal(answer?.status, 400, host);
    assert.ok(!answer?.body.includes(host) || host === '-', host);
  }
});

test('odd methods: 405 where node knows them, 400 where it does not', async () => {
  for (const method of ['DELETE', 'OPTIONS', 'PATCH', 'TRACE', 'PROPFIND', 'M-SEARCH', 'PURGE', 'LINK', 'SOURCE']) {
    for (const path of ['/', channel.path, `${channel.path}/send`])
      assert.equal((await ask(port, method, path)).status, 405, `${method} ${path}`);
    assert.equal((await ask(port, method, '/nothing')).status, 404);
  }
  for (const method of ['BREW', 'get', 'GETT', 'P UT', 'GET\t', '\x00', '__proto__', 'constructor', 'A'.repeat(100)])
    assert.deepEqual(
      (await raw(port, `${method} / HTTP/1.1\r\nHost: x\r\n\r\n`)).map(({ status }) => status),
      [400],
      method,
    );
  assert.equal((await ask(port, 'OPTIONS', '*')).status, 404);
});

test('paths: doubled slashes, dots, percent signs, absolute forms, prototype names: 404, and no page out of its place', async () => {
  const { id } = channel;
  const paths = [
    ...['//', '///', '//health', '/health/', '/health//', '/./health', '/../health', '/docs/../health', '/..', '/.'],
    ...['/%68ealth', '/health%00', '/health%0a', '/%2e%2e/health', '/docs/%2e%2e%2fbridge.js', '/docs/..%5c..%5cx'],
    ...['/%', '/%%', '/%zz', '/%c0%ae%c0%ae/', '/%u0068ealth', '/health;a=b', '/health#', '/HEALTH', '/health\\'],
    ...[
      'http://x/health',
      'https://evil.example/',
      '//evil.example/health',
      'health',
      '*',
      '?',
      '/:id',
      '/channels/:id',
    ],
    ...[
      '/__proto__',
      '/constructor',
      '/toString',
      '/hasOwnProperty',
      '/channels/__proto__',
      '/channels/constructor/poll',
    ],
    ...[`/channels/${id}/__proto__`, `/channels/${id}/constructor`, `/channels/${id}/:id`, `/channels/${id}%20`],
    ...[`/channels/${id.toUpperCase()}`, `/channels/%${id.slice(0, 2)}${id.slice(3)}`, `/channels/${id}\u00b2`],
    ...[`/channels/${id}/send/`, `/channels//${id}/send`, `/channels/${id}//send`, `/channels/${id}/../${id}/send`],
    ...[`/channels/${id}/send%2f`, `/channels/${id}/SEND`, `/channels/${id}/poll\t`, `/${'a/'.repeat(2000)}`],
  ];
  for (const path of paths) {
    const answers = await raw(port, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    assert.equal(answers.length, 1, path);
    const { status, code } = answers[0] as (typeof answers)[0];
    const isBytes = /[\t\u0080-\uffff]|^(health|\?)/.test(path);
    assert.deepEqual([status, code], isBytes ? [400, 'bad_request'] : [404, 'not_found'], path);
  }
});

test('the query: names twice, prototype names, percent signs that are none', async () => {
  const token = [`Authorization: Bearer ${member.token}`];
  const poll = (query: string) => ask(port, 'GET', `${channel.path}/poll?${query}`, token);
  const right = `participant_id=${member.id}&since=0`;
  for (const more of ['', '&__proto__=1', '&constructor=1', '&a=%', '&a=%zz', '&a=%00', '&&&', '&=', '&since=EVIL'])
    assert.equal((await poll(right + more)).status, 200, `of names that come twice the first counts: ${more}`);
  for (const wrong of [
    '',
    '__proto__',
    '__proto__[since]=0',
    `since=0&participant_id[]=${member.id}`,
    `since=%30%00&participant_id=${member.id}`,
  ])
    assert.deepEqual([(await poll(wrong)).status], [400], wrong);
  assert.equal((await poll(right.replace('since', '%73ince'))).status, 200, 'a name may be written in percents');
  assert.equal((await poll(`${right}&wait=99999999999999999999`)).status, 400);
});

test('fields: prototype names, duplicate keys, wrong types', async () => {
  const sealing = message().slice(1, -1);
  const polluting = ['"__proto__":{"to":"*","isLast":true}', '"constructor":{"prototype":{"to":"*"}}', '"toString":1'];
  for (const more of polluting)
    assert.equal((await send(`{${more},${sealing.replace(/"nonce":"../, '"nonce":"00')}}`)).status, 200);
  assert.equal((await send(`{"__proto__":{${sealing}}}`)).status, 400, 'nothing is inherited');
  assert.equal(
    (await send(`{"participant_id":"EVIL",${message().slice(1)}`)).status,
    200,
    'the last of two keys counts',
  );
  assert.equal((await send(`${message().slice(0, -1)},"to":"EVIL"}`)).status, 400, 'the last of two keys counts');
  const values = [
    'null',
    'true',
    '0',
    '-0',
    '1e999',
    '[]',
    '{}',
    '""',
    '" "',
    '"*\\u0000"',
    '["*"]',
    '{"length":32}',
    '"\\ud800"',
  ];
  for (const value of values) {
    for (const name of ['participant_id', 'to', 'nonce', 'ciphertext', 'tag', 'epoch']) {
      const { status, code } = await send(`${message().slice(0, -1)},"${name}":${value}}`);
      assert.deepEqual([status, code], [400, 'bad_request'], `${name} ${value}`);
    }
  }
  assert.equal((await send(message())).status, 200);
});

test('JSON: deep, huge, cut off, bad UTF-8, a byte order mark', async () => {
  const cases: Record<string, [body: string, status: number, code: string]> = {
    'deep arrays': [`${'['.repeat(40_000)}${']'.repeat(40_000)}`, 400, 'bad_request'],
    'deep objects': [`${'{"a":'.repeat(15_000)}1${'}'.repeat(15_000)}`, 400, 'bad_request'],
    'a deep field beside good ones': [`${message().slice(0, -1)},"x":${'['.repeat(9000)}${']'.repeat(9000)}}`, 200, ''],
    'depth without end': ['['.repeat(90_000), 400, 'bad_request'],
    'a thousand keys': [`{${Array.from({ length: 1000 }, (_, i) => `"${i}":0`).join()}}`, 400, 'bad_request'],
    'a huge number': [`{"since":${'9'.repeat(60_000)}}`, 400, 'bad_request'],
    'a body above the limit': [`{"x":"${'x'.repeat(100_000)}"}`, 413, 'too_large'],
    'a comment': ['/* */{}', 400, 'bad_request'],
    'two documents': ['{}{}', 400, 'bad_request'],
    'a byte order mark': ['\xef\xbb\xbf{}', 400, 'bad_request'],
    'UTF-16': ['{\0"\0t\0o\0"\0:\x000\0}\0', 400, 'bad_request'],
    'bad UTF-8 in a field that nobody asked for': [
      `${message().slice(0, -1)},"x":"\xff\xfe\xc0\x80\xed\xa0\x80"}`,
      200,
      '',
    ],
    'bad UTF-8 in a field': [`${message().slice(0, -1)},"to":"\xff"}`, 400, 'bad_request'],
    'bad UTF-8 for a key': [`{"\xff\xff":1}`, 400, 'bad_request'],
    'a control character': ['{"to":"\n"}', 400, 'bad_request'],
    nothing: ['', 400, 'bad_request'],
  };
  await withBackgroundTraffic(bridge, async () => {
    for (const [name, [body, status, code]] of Object.entries(cases)) {
      const answer = await send(body);
      assert.deepEqual([answer.status, answer.code], [status, code], name);
    }
  });
});

test('both forms, whatever is wrong', async () => {
  const text = ['Accept: text/plain'];
  for (const lines of [
    text,
    ['Accept: text/plain;q=1, application/json;q=0.1'],
    ['Accept: application/json;q=0, text/plain'],
  ])
    assert.match((await send('{}', lines)).body, /^error bad_request participant_id is missing/);
  for (const lines of [
    ['Accept: ,,;;==q'],
    ['Accept: */*;q=EVIL'],
    [`Accept: ${'a/b,'.repeat(1500)}`],
    ['Accept: application/json'],
  ])
    assert.match((await send('{}', lines)).body, /^\{"error":\{"code":"bad_request"/);
  checkLines(await send(message(), text));
  for (const path of ['/nothing', channel.path, '/metrics']) await ask(port, 'DELETE', path, text);
});

test('requests in one go are answered in their order, each in its form', async () => {
  const connection = new RawConnection(port);
  const paths = ['/health', '/nothing', '/ready', channel.path, '/docs/none', '/health'];
  connection.write(paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`).join(''));
  assert.deepEqual(
    (await connection.answers(paths.length)).map(({ status }) => status),
    [200, 404, 200, 401, 404, 200],
  );
  connection.end();
});

test('a header where a secret is looked for may be anything, and nothing of it comes back', async () => {
  const path = `${channel.path}/poll?participant_id=${member.id}&since=0`;
  const values = [
    '',
    'Bearer',
    'Bearer ',
    'Basic YTpi',
    'bearer\t EVIL',
    `Bearer ${'EVIL'.repeat(1000)}`,
    'Bearer EVIL EVIL',
  ];
  for (const value of values) {
    const { status, body } = await ask(port, 'GET', path, [`Authorization: ${value}`]);
    assert.equal(status, 401, value);
    assert.doesNotMatch(body, /EVIL/);
  }
  assert.equal(
    (await ask(port, 'GET', path, [`Authorization: Bearer ${member.token}`, 'Authorization: EVIL'])).status,
    200,
  );
});
