/** Blobs from outside: what is stored comes back, for participants only, and within bounds that hold against each sender. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Member, TEXT, bridge, call, hex, pair, raw, room, sealed, sha256 } from './fixture.ts';
import type { TestChannel } from './fixture.ts';

const MiB = 1024 * 1024;
const UNKNOWN = sha256('a blob that nobody sends');

interface BlobRequest {
  readonly bearer?: string | undefined;
  readonly body?: Buffer | ReadableStream;
  readonly query?: string;
  readonly headers?: Record<string, string>;
}

/** A request for a blob, by a participant unless the options say otherwise. */
async function blob(method: string, member: Member, id: string, options: BlobRequest = {}) {
  const { body, query = '', headers = {} } = options;
  const bearer = 'bearer' in options ? options.bearer : member.token;
  const url = `${member.room.url}${member.room.path}/blobs/${id}?participant_id=${member.id}${query}`;
  const response = await fetch(url, {
    method,
    headers: { ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }), ...headers },
    ...(body === undefined ? {} : { body, duplex: 'half' }),
  } as RequestInit);
  const bytes = Buffer.from(await response.arrayBuffer());
  return { status: response.status, headers: response.headers, bytes, code: response.headers.get('agentalk-error') };
}

const octets = { 'content-type': 'application/octet-stream' };
const put = (member: Member, body: Buffer, options: BlobRequest = {}) =>
  blob('PUT', member, sha256(body), { body, headers: octets, ...options });
const has = async (member: Member, body: Buffer) => (await blob('HEAD', member, sha256(body))).status === 200;

async function metric(url: string, name: string): Promise<number> {
  const { text } = await call(url, 'GET', '/metrics');
  return Number(new RegExp(`^agentalk_${name} ([0-9]+)$`, 'm').exec(text)?.[1]);
}

async function until(url: string, name: string, isRight: (value: number) => boolean): Promise<void> {
  while (!isRight(await metric(url, name)));
}

async function ownBridge(t: { after(done: () => Promise<void>): void }, ...flags: string[]): Promise<TestBridge> {
  const own = await startBridge(flags);
  t.after(() => own.stop());
  return own;
}

/** A PUT whose body is written by hand. */
function upload(member: Member, id: string, length: number, headers = '') {
  const socket = connect(Number(new URL(member.room.url).port), '127.0.0.1');
  let answer = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => (answer += chunk));
  socket.on('error', () => {});
  const closed = new Promise<string>((resolve) => socket.once('close', () => resolve(answer)));
  socket.write(
    `PUT ${member.room.path}/blobs/${id}?participant_id=${member.id} HTTP/1.1\r\nHost: x\r\n` +
      `Authorization: Bearer ${member.token}\r\nContent-Length: ${length}\r\n${headers}\r\n`,
  );
  /** Resolves with what has been answered so far, once that is something. */
  const answered = async () => {
    while (answer === '') await new Promise((resolve) => socket.once('data', resolve));
    return answer;
  };
  return { socket, closed, answered };
}

test('stores a blob once and hands it to every participant, byte for byte', async () => {
  const [a, b] = await pair();
  const { epoch } = (await a.status()).json;
  for (const length of [1, 65_535, 65_536, 65_537, 500_000, MiB]) {
    const body = randomBytes(length);
    assert.equal((await blob('HEAD', b, sha256(body))).status, 404);
    const first = await put(a, body);
    assert.deepEqual([first.status, JSON.parse(first.bytes.toString())], [201, { epoch }]);
    const again = await put(b, body, { headers: { ...octets, ...TEXT } });
    assert.deepEqual([again.status, again.bytes.toString()], [200, `blob ${epoch}\n`]);
    for (const member of [a, b]) {
      const got = await blob('GET', member, sha256(body));
      assert.equal(got.status, 200);
      assert.ok(got.bytes.equals(body));
      const head = await blob('HEAD', member, sha256(body), { query: `&epoch=${epoch}` });
      assert.deepEqual([head.status, head.bytes.length], [200, 0]);
      for (const { headers } of [got, head]) {
        assert.equal(headers.get('content-type'), 'application/octet-stream');
        assert.equal(headers.get('content-length'), String(length));
        assert.equal(headers.get('cache-control'), 'no-store');
        assert.equal(headers.get('x-content-type-options'), 'nosniff');
      }
    }
  }
});

test('takes a body that comes byte by byte, with the media type left out as curl -T does', async () => {
  const [a, b] = await pair();
  const body = randomBytes(300);
  const { socket, answered } = upload(a, sha256(body), 300, 'Connection: close\r\n');
  socket.setNoDelay();
  for (const byte of body) await new Promise((resolve) => socket.write(Buffer.from([byte]), resolve));
  assert.match(await answered(), /^HTTP\/1.1 201 /);
  assert.ok((await blob('GET', b, sha256(body))).bytes.equals(body));
});

test('create names the bytes of blobs that a channel may hold: 128 MiB, or as the flag says, or none', async (t) => {
  const { json } = await (await room()).create();
  assert.equal((json['limits'] as Record<string, unknown>)['blob_bytes'], 128 * MiB);
  assert.match((await (await room()).create(TEXT)).text, / 7200 134217728\n$/);
  const none = await ownBridge(t, '--max-blob-bytes', '0');
  const [a] = await pair(none.url);
  assert.match((await a.room.create(TEXT)).text, / 7200 0\n$/);
  const refused = await put(a, Buffer.from('x'));
  assert.deepEqual([refused.status, refused.code], [413, 'too_large']);
  const secret = await ownBridge(t, '--max-blob-bytes', '300m', '--max-memory-bytes', '200m');
  assert.match((await (await room(secret.url)).create(TEXT)).text, / 7200 209715200\n$/, 'never more than all memory');
});

test('only participants, with their own token and the epoch of now', async () => {
  const [a, b] = await pair();
  const body = randomBytes(100);
  assert.equal((await put(a, body)).status, 201);
  const stranger = new Member(a.room);
  const elsewhere = await (await room()).member();
  const intruder = Object.assign(new Member(a.room), { token: elsewhere.token });
  for (const method of ['GET', 'HEAD', 'PUT']) {
    const ask = (member: Member, options: BlobRequest = {}) =>
      blob(method, member, sha256(body), { ...(method === 'PUT' && { body, headers: octets }), ...options });
    const answers: [expected: unknown[], answer: ReturnType<typeof ask>][] = [
      [[401, 'no_token'], ask(b, { bearer: undefined })],
      [[401, 'bad_token'], ask(b, { bearer: a.token })],
      [[401, 'bad_token'], ask(b, { bearer: a.room.access })],
      [[401, 'no_participant'], ask(stranger)],
      [[401, 'no_participant'], ask(intruder)],
      [[409, 'other_epoch'], ask(b, { query: `&epoch=${hex(16)}` })],
      [[400, 'bad_request'], ask(b, { query: '&epoch=x' })],
    ];
    for (const [expected, answer] of answers) assert.deepEqual([(await answer).status, (await answer).code], expected);
  }
  assert.equal((await blob('GET', elsewhere, sha256(body))).code, 'no_blob', 'it is not in another channel');
  await b.leave();
  assert.equal((await blob('GET', b, sha256(body))).code, 'no_participant');
});

test('what is no blob is refused and takes nothing', async (t) => {
  const own = await ownBridge(t);
  const [a] = await pair(own.url);
  const body = randomBytes(1000);
  const before = await metric(own.url, 'channel_memory_bytes');
  const stream = new ReadableStream({
    start(controller) {
      controller.enqueue(body);
      controller.close();
    },
  });
  const refusals: [expected: unknown[], answer: ReturnType<typeof blob>][] = [
    [[400, 'bad_request'], blob('PUT', a, UNKNOWN, { body, headers: octets })],
    [[400, 'bad_request'], blob('PUT', a, sha256(''), { body: Buffer.alloc(0), headers: octets })],
    [[400, 'bad_request'], blob('PUT', a, sha256(body), { body: stream, headers: octets })],
    [[413, 'too_large'], put(a, Buffer.alloc(MiB + 1))],
    [[415, 'not_json'], put(a, body, { headers: { 'content-type': 'text/plain' } })],
    [[404, 'no_blob'], blob('GET', a, UNKNOWN)],
    [[404, 'no_blob'], blob('HEAD', a, UNKNOWN)],
    [[405, 'method_not_allowed'], blob('POST', a, UNKNOWN)],
    [[404, 'not_found'], blob('GET', a, UNKNOWN.toUpperCase())],
    [[404, 'not_found'], blob('GET', a, UNKNOWN.slice(1))],
    [[404, 'not_found'], blob('GET', a, `${UNKNOWN}0`)],
    [[404, 'not_found'], blob('GET', a, `${UNKNOWN}/x`)],
    [[404, 'not_found'], blob('GET', a, '')],
  ];
  for (const [expected, answer] of refusals) assert.deepEqual([(await answer).status, (await answer).code], expected);
  assert.match(await raw(`GET /channels/:id/blobs/:sha256 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`), / 404 /);
  assert.equal(await metric(own.url, 'channel_memory_bytes'), before);
  assert.equal(await metric(own.url, 'blob_bytes'), 0);
});

test('an upload that its sender breaks off takes nothing', async (t) => {
  const own = await ownBridge(t);
  const [a] = await pair(own.url);
  const { socket } = upload(a, UNKNOWN, MiB);
  socket.write(Buffer.alloc(300_000));
  await until(own.url, 'blob_bytes', (value) => value >= 300_000);
  socket.destroy();
  await until(own.url, 'blob_bytes', (value) => value === 0);
});

test('a body that is not complete in time is 408, however steadily it comes', async (t) => {
  // The limit for other requests is longer, so that it is that of blobs which ends this one.
  const own = await ownBridge(t, '--blob-timeout', '1', '--request-timeout', '600');
  const [a] = await pair(own.url);
  const { socket, closed } = upload(a, UNKNOWN, MiB);
  const writing = setInterval(() => socket.write('x'), 50);
  const timer = setTimeout(() => socket.destroy(), 30_000);
  const answer = await closed;
  clearInterval(writing);
  clearTimeout(timer);
  assert.match(answer, /^HTTP\/1.1 408 [\s\S]*\r\nAgentalk-Error: bad_request\r\n[\s\S]*Connection: close\r\n/);
  assert.equal(await metric(own.url, 'blob_bytes'), 0);
});

test('a participant sends at most two bodies at a time', async (t) => {
  const own = await ownBridge(t);
  const [a, b] = await pair(own.url);
  const uploads = [upload(a, UNKNOWN, 1000), upload(a, UNKNOWN, 1000)];
  for (const { socket } of uploads) socket.write('x');
  await until(own.url, 'blob_bytes', (value) => value > 2000);
  const body = randomBytes(500_000);
  const third = await put(a, body);
  assert.deepEqual([third.status, third.code, third.headers.get('retry-after')], [429, 'too_many_requests', '1']);
  assert.equal((await put(b, body)).status, 201, 'another participant is not touched');
  uploads[0]?.socket.destroy();
  await until(own.url, 'blob_bytes', (value) => value < 503_000);
  assert.equal((await put(a, randomBytes(10))).status, 201, 'each that ends makes room');
});

test('an address sends at most eight bodies at a time, in whichever channels', async (t) => {
  const own = await ownBridge(t, '--trusted-proxies', 'loopback');
  const members = (await Promise.all(Array.from({ length: 5 }, () => pair(own.url)))).flat();
  const from = 'X-Forwarded-For: 203.0.113.7\r\n';
  const uploads = members.slice(0, 8).map((member) => upload(member, UNKNOWN, 1000, from));
  for (const { socket } of uploads) socket.write('x');
  await until(own.url, 'blob_bytes', (value) => value >= 8 * 1500);
  const [ninth = members[0]] = members.slice(8);
  assert.ok(ninth);
  const refused = await put(ninth, randomBytes(10), { headers: { 'x-forwarded-for': '203.0.113.7' } });
  assert.deepEqual([refused.status, refused.code], [429, 'too_many_requests']);
  assert.equal((await put(ninth, randomBytes(10), { headers: { 'x-forwarded-for': '203.0.113.8' } })).status, 201);
  for (const { socket } of uploads) socket.destroy();
});

test('a declared length evicts nothing; bytes that come do', async (t) => {
  const own = await ownBridge(t, '--max-blob-bytes', '1m');
  const [a, b] = await pair(own.url);
  const body = randomBytes(1_000_000);
  assert.equal((await put(a, body)).status, 201);
  const { socket } = upload(b, UNKNOWN, 1_000_000);
  const second = upload(b, UNKNOWN, 1_000_000);
  for (let n = 0; n < 3; n++) assert.ok(await has(a, body));
  socket.write('x');
  while (await has(a, body));
  socket.destroy();
  second.socket.destroy();
});

test('the participant whose blobs take most gives up its oldest', async (t) => {
  const own = await ownBridge(t, '--max-blob-bytes', '3m');
  const [greedy, modest] = await pair(own.url);
  const quarter = () => randomBytes(MiB / 4);
  const few = [quarter(), quarter()];
  for (const body of few) assert.equal((await put(modest, body)).status, 201);
  const many = Array.from({ length: 40 }, quarter);
  for (const body of many) assert.equal((await put(greedy, body)).status, 201);
  for (const body of few) assert.ok(await has(greedy, body), 'what the modest one sent is there');
  const there = await Promise.all(many.map((body) => has(modest, body)));
  assert.deepEqual(there, [...there].sort(), 'the oldest have gone, the newest are there');
  const held = there.filter(Boolean).length;
  assert.ok(held >= 8 && held <= 10, `${held}`);
  assert.equal((await put(modest, quarter())).status, 201);
  assert.equal(await has(modest, many.at(-held) as Buffer), false, 'room for the modest one is made by the greedy one');
  assert.ok((await metric(own.url, 'blob_bytes')) <= 3 * MiB);
});

test('an upload is dropped when its channel ends or its participant leaves meanwhile', async (t) => {
  const own = await ownBridge(t);
  const [a, b] = await pair(own.url);
  const body = randomBytes(100_000);
  const uploads = [a, b].map((member) => upload(member, sha256(body), body.length));
  for (const { socket } of uploads) socket.write(body.subarray(0, 70_000));
  await until(own.url, 'blob_bytes', (value) => value > 140_000);
  await a.leave();
  uploads[0]?.socket.write(body.subarray(70_000));
  assert.match((await uploads[0]?.answered()) ?? '', /^HTTP\/1.1 401 [\s\S]*\r\nAgentalk-Error: no_participant\r\n/);
  await b.leave();
  uploads[1]?.socket.write(body.subarray(70_000));
  assert.match(
    (await uploads[1]?.answered()) ?? '',
    /^HTTP\/1.1 4\d\d [\s\S]*\r\nAgentalk-Error: no_(channel|participant)\r\n/,
  );
  assert.equal(await metric(own.url, 'blob_bytes'), 0);
  assert.equal(await metric(own.url, 'channel_memory_bytes'), 0);
});

test('blobs end with the epoch', async (t) => {
  const own = await ownBridge(t);
  const [a, b] = await pair(own.url);
  const body = randomBytes(1000);
  assert.equal((await put(a, body)).status, 201);
  assert.equal(await metric(own.url, 'blobs'), 1);
  await a.leave();
  assert.ok(await has(b, body), 'its sender may go before');
  await b.leave();
  assert.equal(await metric(own.url, 'channel_memory_bytes'), 0);
  assert.equal((await a.room.create()).status, 201);
  await a.join();
  assert.equal((await blob('GET', a, sha256(body))).code, 'no_blob');
});

test('two that send the same blob at the same time store it once', async (t) => {
  const own = await ownBridge(t);
  const [a, b] = await pair(own.url);
  const body = randomBytes(200_000);
  const uploads = [a, b].map((member) => upload(member, sha256(body), body.length));
  for (const { socket } of uploads) socket.write(body.subarray(0, 100_000));
  await until(own.url, 'blob_bytes', (value) => value > 200_000);
  for (const { socket } of uploads) socket.write(body.subarray(100_000));
  const statuses = await Promise.all(uploads.map(async ({ answered }) => (await answered()).slice(9, 12)));
  assert.deepEqual(statuses.sort(), ['200', '201']);
  assert.ok((await metric(own.url, 'blob_bytes')) < 202_000);
  for (const { socket } of uploads) socket.destroy();
});

test('every error has its code in the header Agentalk-Error, too', async () => {
  const [a] = await pair();
  const noSuch: TestChannel = Object.create(a.room) as TestChannel;
  const answers = [
    await call(bridge.url, 'GET', '/nothing'),
    await call(bridge.url, 'DELETE', '/'),
    await call(bridge.url, 'PUT', a.room.path),
    await a.send({ to: hex(16), ...sealed() }),
    await a.send({ to: hex(16), ...sealed() }, TEXT),
    await a.send({}, { body: '{' }),
    await a.send({}, { headers: { 'content-type': 'text/plain' } }),
    await a.send({ to: '*', ...sealed(200_000) }),
    await a.poll(0, `&epoch=${hex(16)}`),
    await new Member(Object.assign(noSuch, { path: `/channels/${hex(16)}` })).poll(0),
    await new Member(a.room).poll(0),
  ];
  for (const { code, headers, text } of answers) {
    const word = code ?? /^error ([a-z_]+) /.exec(text)?.[1];
    assert.equal(headers.get('agentalk-error'), word);
    assert.ok(word);
  }
  assert.match(await raw('GARBAGE\r\n\r\n'), /^HTTP\/1.1 400 [\s\S]*\r\nAgentalk-Error: bad_request\r\n/);
  assert.match(
    await raw(`GET /${'x'.repeat(9000)} HTTP/1.1\r\n\r\n`),
    / 431 [\s\S]*\r\nAgentalk-Error: bad_request\r\n/,
  );
  assert.equal((await a.status()).headers.get('agentalk-error'), null);
});
