/** The built bridge from outside: each route, both forms, each refusal, and how it starts and stops. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BRIDGE, runBridge, startBridge } from './kit/bridge.ts';
import type { TestBridge } from './kit/bridge.ts';
import { ROOT } from './kit/root.ts';

const sha256 = (data: string | Buffer) => createHash('sha256').update(data).digest('hex');
const hex = (bytes: number) => randomBytes(bytes).toString('hex');
const sealed = (bytes = 30) => ({ nonce: hex(12), ciphertext: randomBytes(bytes).toString('base64'), tag: hex(16) });

type Json = Record<string, unknown>;
interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: Json;
  /** The code of a refusal, else undefined. */
  readonly code: unknown;
}

interface Request {
  readonly bearer?: string | undefined;
  readonly body?: unknown;
  readonly accept?: string;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

async function call(url: string, method: string, path: string, request: Request = {}): Promise<Answer> {
  const { bearer, body, accept, headers = {}, signal } = request;
  const response = await fetch(url + path, {
    method,
    headers: {
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(accept === undefined ? {} : { accept }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    ...(signal === undefined ? {} : { signal }),
    redirect: 'manual',
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type') === 'application/json';
  const json = isJson && text !== '' ? (JSON.parse(text) as Json) : {};
  const code = (json['error'] as Json | undefined)?.['code'];
  return { status: response.status, headers: response.headers, text, json, code };
}

/** A channel, by its key alone. */
class Room {
  readonly access = sha256(`agentalk/1 access ${hex(32)}`);
  readonly id = sha256(`agentalk/1 channel ${this.access}`).slice(0, 32);
  readonly path = `/channels/${this.id}`;

  constructor(readonly url: string) {}

  create(request: Request = {}): Promise<Answer> {
    return call(this.url, 'PUT', this.path, { bearer: this.access, ...request });
  }

  async member(): Promise<Member> {
    const member = new Member(this);
    assert.equal((await member.join()).status, 200);
    return member;
  }
}

class Member {
  readonly id = hex(16);
  readonly token = hex(32);
  readonly card = sealed(300);

  constructor(readonly room: Room) {}

  join(request: Request = {}, fields: Json = {}): Promise<Answer> {
    const body = { participant_id: this.id, token: this.token, card: this.card, ...fields };
    return call(this.room.url, 'POST', `${this.room.path}/join`, { bearer: this.room.access, body, ...request });
  }

  send(message: Json = { to: '*', ...sealed() }, request: Request = {}): Promise<Answer> {
    const body = { participant_id: this.id, ...message };
    return call(this.room.url, 'POST', `${this.room.path}/send`, { bearer: this.token, body, ...request });
  }

  poll(since: number, query = '', request: Request = {}): Promise<Answer> {
    const path = `${this.room.path}/poll?participant_id=${this.id}&since=${since}${query}`;
    return call(this.room.url, 'GET', path, { bearer: this.token, ...request });
  }

  status(request: Request = {}): Promise<Answer> {
    const path = `${this.room.path}?participant_id=${this.id}`;
    return call(this.room.url, 'GET', path, { bearer: this.token, ...request });
  }

  leave(fields: Json = {}, request: Request = {}): Promise<Answer> {
    const body = { participant_id: this.id, ...fields };
    return call(this.room.url, 'POST', `${this.room.path}/leave`, { bearer: this.token, body, ...request });
  }
}

async function room(url = bridge.url): Promise<Room> {
  const made = new Room(url);
  assert.equal((await made.create()).status, 201);
  return made;
}

async function pair(url = bridge.url): Promise<[Member, Member]> {
  const made = await room(url);
  return [await made.member(), await made.member()];
}

/** Resolves once so many polls wait at the bridge. */
async function waiting(count: number, url = bridge.url): Promise<void> {
  while (!(await call(url, 'GET', '/metrics')).text.includes(`agentalk_waiting_polls ${count}\n`));
}

/** Bytes in, bytes out, until the bridge closes; `pieces` go one after the other. */
async function raw(text: string, url = bridge.url): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  let answer = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => (answer += chunk));
  socket.write(text, 'latin1');
  await once(socket, 'close');
  return answer;
}

const TEXT = { accept: 'text/plain' };
const SAFE_LINE = /^[A-Za-z0-9+/=_*.-]+( [A-Za-z0-9+/=_*.-]+)*$/;

let bridge: TestBridge;
before(async () => {
  bridge = await startBridge();
});
after(() => bridge.stop());

test('create makes a channel or finds it, and tells its limits', async () => {
  const made = new Room(bridge.url);
  const first = await made.create();
  assert.equal(first.status, 201);
  const { epoch } = first.json;
  assert.match(String(epoch), /^[0-9a-f]{32}$/);
  const limits = { message_bytes: 65_536, participants: 50, poll_seconds: 50, idle_seconds: 7200 };
  assert.deepEqual(first.json, { epoch, limits });
  const second = await made.create();
  assert.equal(second.status, 200);
  assert.deepEqual(second.json, first.json);
  assert.equal((await made.create(TEXT)).text, `channel ${epoch} found 65536 50 50 7200\n`);
  assert.match((await new Room(bridge.url).create(TEXT)).text, /^channel [0-9a-f]{32} created 65536 50 50 7200\n$/);
});

test('only who has the key may create or join', async () => {
  const made = await room();
  const member = new Member(made);
  for (const bearer of [hex(32), made.access.toUpperCase(), made.access.slice(1), '0']) {
    assert.equal((await made.create({ bearer })).code, 'wrong_key');
    assert.equal((await member.join({ bearer })).code, 'wrong_key');
  }
  const refused = await made.create({ bearer: undefined });
  assert.deepEqual(
    [refused.status, refused.code, refused.headers.get('www-authenticate')],
    [401, 'no_token', 'Bearer'],
  );
  assert.equal((await member.join({ bearer: undefined })).code, 'no_token');
  assert.equal((await made.create({ bearer: undefined, headers: { authorization: 'Basic YTpi' } })).code, 'no_token');
  const nowhere = new Member(new Room(bridge.url));
  const missing = await nowhere.join();
  assert.deepEqual([missing.status, missing.code], [404, 'no_channel']);
});

test('join tells who is there, where to poll from, and whether one is back', async () => {
  const [a, b] = await pair();
  await a.send();
  await b.poll(3);
  const first = await a.join();
  assert.equal(first.status, 200);
  const { epoch, participants } = first.json as { epoch: string; participants: Json[] };
  assert.deepEqual(first.json, { epoch, cursor: 0, index: 1, resumed: true, participants });
  assert.deepEqual(participants, [
    { participant_id: a.id, card: a.card, listening: false, seen_seconds: 0, fetched: 0 },
    { participant_id: b.id, card: b.card, listening: false, seen_seconds: 0, fetched: 3 },
  ]);
  const again = await b.join(TEXT);
  const box = ({ nonce, ciphertext, tag }: ReturnType<typeof sealed>) => `${nonce} ${ciphertext} ${tag}`;
  assert.equal(
    again.text,
    `participant ${a.id} idle 0 0 ${box(a.card)}\n` +
      `participant ${b.id} idle 0 3 ${box(b.card)}\n` +
      `cursor 3 ${epoch} resumed 2\n`,
  );
  const c = new Member(a.room);
  assert.match((await c.join(TEXT)).text, new RegExp(`\ncursor 0 ${epoch} new 4\n$`));
  const stolen = await b.join({}, { token: hex(32) });
  assert.deepEqual([stolen.status, stolen.code], [409, 'name_taken']);
});

test('send says where it stands and who is listening; poll gives each what is for it', async () => {
  const [a, b] = await pair();
  const c = await a.room.member();
  const waits = b.poll(3, '&wait=20');
  await waiting(1);
  const broadcast = sealed();
  const sent = await a.send({ to: '*', ...broadcast });
  assert.equal(sent.status, 200);
  const { epoch } = sent.json;
  assert.deepEqual(sent.json, {
    epoch,
    index: 4,
    recipients: [
      { participant_id: b.id, listening: true, seen_seconds: 0 },
      { participant_id: c.id, listening: false, seen_seconds: 0 },
    ],
  });
  const woken = (await waits).json as { cursor: number; events: Json[] };
  const at = woken.events[0]?.['at'];
  assert.ok(Math.abs(Number(at) - Date.now()) < 60_000);
  const event = { index: 4, type: 'message', at, from: a.id, to: '*', ...broadcast };
  assert.deepEqual(woken, { epoch, cursor: 4, events: [event] });

  const direct = sealed();
  const text = (await a.send({ to: c.id, ...direct }, TEXT)).text;
  assert.equal(text, `recipient ${c.id} idle 0\nsent 5 ${epoch}\n`);
  assert.deepEqual((await b.poll(4)).json, { epoch, cursor: 4, events: [] });
  const lines = (await c.poll(2, '', TEXT)).text.split('\n');
  const inner = ({ nonce, ciphertext, tag }: ReturnType<typeof sealed>) => `${nonce} ${ciphertext} ${tag}`;
  assert.deepEqual(
    lines.map((line) => line.replace(/^(\w+ \d+) \d{13} /, '$1 AT ')),
    [
      `message 4 AT ${a.id} * ${inner(broadcast)}`,
      `message 5 AT ${a.id} ${c.id} ${inner(direct)}`,
      `cursor 5 ${epoch}`,
      '',
    ],
  );
  assert.ok(lines.slice(0, -1).every((line) => SAFE_LINE.test(line)));
});

test('join, leave, away and back are events, in both forms', async () => {
  const own = await startBridge(['--away-window', '1']);
  const [a, b] = await pair(own.url);
  const away = await a.poll(2, '&wait=20');
  assert.deepEqual(Object.keys((away.json['events'] as Json[])[0] ?? {}), ['index', 'type', 'at', 'from']);
  await b.status();
  await b.leave();
  const all = (await a.poll(0)).json['events'] as Json[];
  const { at } = all[0] as { at: number };
  assert.deepEqual(all[0], { index: 2, type: 'join', at, from: b.id, card: b.card });
  assert.deepEqual(
    all.slice(1).map(({ index, type, from, reason }) => [index, type, from, reason]),
    [
      [3, 'away', b.id, undefined],
      [4, 'back', b.id, undefined],
      [5, 'leave', b.id, 'left'],
    ],
  );
  const lines = (await a.poll(0, '', TEXT)).text.replace(/ \d{13} /g, ' AT ').split('\n');
  assert.deepEqual(lines.slice(1, -2), [`away 3 AT ${b.id}`, `back 4 AT ${b.id}`, `leave 5 AT ${b.id} left`]);
  assert.equal(lines[0], `join 2 AT ${b.id} ${b.card.nonce} ${b.card.ciphertext} ${b.card.tag}`);
  await own.stop();
});

test('what is no longer held is a gap, first in the answer', async () => {
  const own = await startBridge(['--max-channel-bytes', '64k', '--max-message-bytes', '8k', '--live-window', '1']);
  const [a, b] = await pair(own.url);
  await b.leave(); // so that a sees only what it sends and b's comings and goings
  await b.join();
  let last = await a.send({ to: '*', ...sealed(8000) });
  for (let tries = 0; tries < 2000; tries++) {
    last = await a.send({ to: '*', ...sealed(8000), since: 4 });
    if (last.code === 'channel_full' && tries > 10) break;
  }
  assert.deepEqual([last.status, last.code, last.headers.get('retry-after')], [429, 'channel_full', '2']);
  do last = await a.send({ to: '*', ...sealed(8000), since: 4 });
  while (last.code === 'channel_full'); // until b has not been heard of for a second
  const { events, cursor, epoch } = (await b.poll(0)).json as { events: Json[]; cursor: number; epoch: string };
  const until = Number(events[0]?.['until']);
  assert.deepEqual(events[0], { type: 'gap', since: 0, until });
  assert.equal(events[1]?.['index'], Math.max(until + 1, 5), 'before 5 there are only its own comings and goings');
  assert.equal(cursor, last.json['index']);
  const lines = (await b.poll(0, '', TEXT)).text.split('\n');
  assert.equal(lines[0], `gap 0 ${until}`);
  assert.equal(lines.at(-2), `cursor ${cursor} ${epoch}`);
  await own.stop();
});

test('the same nonce is the same message', async () => {
  const [a] = await pair();
  const message = { to: '*', ...sealed() };
  const [first, again] = [await a.send(message), await a.send(message)];
  assert.equal(again.status, 200);
  assert.equal(again.json['index'], first.json['index']);
  const other = await a.send({ ...message, tag: hex(16) });
  assert.deepEqual([other.status, other.code], [409, 'nonce_reused']);
});

test('status tells who is there, how long ago each was heard of, and how far it has fetched', async () => {
  const [a, b] = await pair();
  await b.poll(1);
  const waits = b.poll(2, '&wait=20');
  await waiting(1);
  const { json } = await a.status();
  const { epoch } = json;
  assert.deepEqual(json, {
    epoch,
    cursor: 2,
    participants: [
      { participant_id: a.id, card: a.card, listening: false, seen_seconds: 0, fetched: 0 },
      { participant_id: b.id, card: b.card, listening: true, seen_seconds: 0, fetched: 2 },
    ],
  });
  const lines = (await a.status(TEXT)).text.split('\n');
  assert.match(lines[1] ?? '', new RegExp(`^participant ${b.id} listening 0 2 [0-9a-f]{24} \\S+ [0-9a-f]{32}$`));
  assert.deepEqual(lines.slice(2), [`cursor 2 ${epoch}`, '']);
  await a.send();
  await waits;
});

test('leaving: at once, or after a while; the last one out closes the channel', async () => {
  const [a, b] = await pair();
  const waits = a.poll(2, '&wait=20');
  const left = await b.leave({ after_seconds: 1 });
  assert.deepEqual(left.json, { epoch: left.json['epoch'], left: true });
  assert.equal(((await waits).json['events'] as Json[])[0]?.['reason'], 'left');
  assert.equal((await b.status()).code, 'no_participant');
  assert.equal((await a.leave({}, TEXT)).text, `left ${left.json['epoch']}\n`);
  assert.equal((await a.status()).code, 'no_channel');
  assert.equal((await a.room.create()).status, 201);
});

test('a participant expires after the idle window, and a channel with its last one', async () => {
  const own = await startBridge(['--idle-window', '1s']);
  const [a, b] = await pair(own.url);
  const gone = await a.poll(2, '&wait=20');
  const [event] = gone.json['events'] as Json[];
  assert.deepEqual([event?.['type'], event?.['from'], event?.['reason']], ['leave', b.id, 'expired']);
  while ((await call(own.url, 'GET', '/metrics')).text.includes('agentalk_channels 1'));
  assert.equal((await a.status()).code, 'no_channel');
  await own.stop();
});

test('a poll ends with its time, and with its client', async () => {
  const [a] = await pair();
  const quiet = await a.poll(2, '&wait=1');
  assert.deepEqual(quiet.json, { epoch: quiet.json['epoch'], cursor: 2, events: [] });
  const controller = new AbortController();
  const aborted = a.poll(2, '&wait=20', { signal: controller.signal });
  await waiting(1);
  controller.abort();
  await assert.rejects(aborted);
  await waiting(0);
});

test('at most four polls of a participant wait', async () => {
  const [a, b] = await pair();
  const polls = [1, 2, 3, 4].map(() => b.poll(2, '&wait=20'));
  await waiting(4);
  const fifth = await b.poll(2, '&wait=20');
  assert.deepEqual([fifth.status, fifth.code, fifth.headers.get('retry-after')], [429, 'too_many_polls', '5']);
  await a.send();
  for (const each of await Promise.all(polls)) assert.equal(each.json['cursor'], 3);
});

test('another epoch is refused before anything counts', async () => {
  const [a, b] = await pair();
  const epoch = hex(16);
  const query = `&epoch=${epoch}`;
  const answers = [
    await a.send({ to: '*', ...sealed(), epoch }),
    await a.leave({ epoch }),
    await a.poll(0, query),
    await call(a.room.url, 'GET', `${a.room.path}?participant_id=${a.id}${query}`, { bearer: a.token }),
    await call(a.room.url, 'POST', `${a.room.path}/send?epoch=${epoch}`, {
      bearer: a.token,
      body: { participant_id: a.id, to: '*', ...sealed() },
    }),
    await a.poll(0, query, { bearer: hex(32) }),
  ];
  for (const { status, code } of answers) assert.deepEqual([status, code], [409, 'other_epoch']);
  const { json } = await b.status();
  assert.equal(json['cursor'], 2, 'nothing was sent, nobody left');
  assert.equal((await a.poll(0, `&epoch=${json['epoch']}`)).status, 200);
  assert.equal((await a.send({ to: '*', ...sealed(), epoch: json['epoch'] })).status, 200);
});

test('a token opens its own participant and no other', async () => {
  const [a, b] = await pair();
  for (const act of [
    (bearer?: string) => a.send(undefined, { bearer }),
    (bearer?: string) => a.poll(0, '', { bearer }),
    (bearer?: string) => a.status({ bearer }),
    (bearer?: string) => a.leave({}, { bearer }),
  ]) {
    for (const bearer of [b.token, hex(32), a.room.access, 'x']) {
      const { status, code } = await act(bearer);
      assert.deepEqual([status, code], [401, 'bad_token']);
    }
    assert.equal((await act(undefined)).code, 'no_token');
  }
  const stranger = await new Member(a.room).poll(0);
  assert.deepEqual([stranger.status, stranger.code], [401, 'no_participant']);
});

test('a field that is missing or malformed is named, and nothing of the input comes back', async () => {
  const [a, b] = await pair();
  const good = { to: '*', ...sealed() };
  const bad: [name: string, act: Promise<Answer>][] = [
    ['participant_id', a.send({ ...good, participant_id: 'EVIL' })],
    ['to', a.send({ ...good, to: 'EVIL' })],
    ['to', a.send({ ...good, to: a.id })],
    ['to', a.send({ ...sealed() })],
    ['nonce', a.send({ ...good, nonce: 'EVIL' })],
    ['nonce', a.send({ ...good, nonce: hex(12).toUpperCase().replace(/^./, 'A') })],
    ['tag', a.send({ ...good, tag: [hex(16)] })],
    ['ciphertext', a.send({ ...good, ciphertext: '' })],
    ['ciphertext', a.send({ ...good, ciphertext: 'AAA' })],
    ['ciphertext', a.send({ ...good, ciphertext: 'AA=A' })],
    ['ciphertext', a.send({ ...good, ciphertext: 'A===' })],
    ['ciphertext', a.send({ ...good, ciphertext: '====' })],
    ['ciphertext', a.send({ ...good, ciphertext: 'AAA\n' })],
    ['ciphertext', a.send({ ...good, ciphertext: 'EVIL€' })],
    ['epoch', a.send({ ...good, epoch: 'EVIL' })],
    ['since', a.send({ ...good, since: -1 })],
    ['since', a.send({ ...good, since: 1.5 })],
    ['since', a.send({ ...good, since: 99 })],
    ['since', a.send({ ...good, since: null })],
    ['after_seconds', b.leave({ after_seconds: 'EVIL' })],
    ['after_seconds', b.leave({ after_seconds: 3601 })],
    ['since', a.poll(99)],
    ['since', a.poll(-1)],
    ['since', a.poll(NaN)],
    ['since', call(a.room.url, 'GET', `${a.room.path}/poll?participant_id=${a.id}`, { bearer: a.token })],
    ['wait', a.poll(0, '&wait=EVIL')],
    ['wait', a.poll(0, '&wait=1e1')],
    ['wait', a.poll(0, '&wait=')],
    ['epoch', a.poll(0, '&epoch=EVIL')],
    ['participant_id', call(a.room.url, 'GET', a.room.path, { bearer: a.token })],
    ['token', a.join({}, { token: 'EVIL' })],
    ['card', a.join({}, { card: 'EVIL' })],
    ['card', a.join({}, { card: [] })],
    ['card.nonce', a.join({}, { card: {} })],
    ['card.ciphertext', a.join({}, { card: { ...sealed(), ciphertext: 7 } })],
    ['participant_id', a.join({}, { participant_id: { evil: 'EVIL' } })],
    ['The JSON object', a.send({}, { body: '{"EVIL":' })],
    ['The JSON object', a.send({}, { body: '["EVIL"]' })],
    ['The JSON object', a.send({}, { body: 'null' })],
    ['The JSON object', a.send({}, { body: '' })],
    ['participant_id', a.send({}, { body: '{"__proto__":{"participant_id":"EVIL"}}' })],
  ];
  for (const [name, act] of bad) {
    const { status, code, json, text } = await act;
    assert.deepEqual([status, code], [400, 'bad_request'], name);
    assert.equal((json['error'] as Json)['message'], `${name} is missing or malformed.`);
    assert.doesNotMatch(text, /EVIL/i);
  }
  assert.equal((await a.send({ ...good, unknown: 'field', ciphertext: 'AA==' })).status, 200);
});

test('a refusal comes in both forms, with a code, a message and a hint', async () => {
  const nowhere = new Member(new Room(bridge.url));
  const { text } = await nowhere.poll(0, '', TEXT);
  assert.match(text, /^error no_channel [A-Z][^\n]+\.\nhint [A-Z][^\n]+\.\n$/);
  const { json } = await nowhere.poll(0);
  assert.deepEqual(Object.keys(json['error'] as Json), ['code', 'message', 'hint']);
});

test('no_recipient: a direct message to who is not there', async () => {
  const [a] = await pair();
  const answer = await a.send({ to: hex(16), ...sealed() });
  assert.deepEqual([answer.status, answer.code], [404, 'no_recipient']);
});

test('too_large: a message, a card, a body', async () => {
  const [a] = await pair();
  const largest = Math.floor((65_536 + 4097) / 3) * 3;
  assert.equal((await a.send({ to: '*', ...sealed(largest) })).status, 200);
  const answers = [
    await a.send({ to: '*', ...sealed(largest + 3) }),
    await a.send({ to: '*', ...sealed(200_000) }),
    await new Member(a.room).join({}, { card: sealed(4100) }),
  ];
  for (const { status, code } of answers) assert.deepEqual([status, code], [413, 'too_large']);
  const head = `POST ${a.room.path}/send HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n`;
  const declared = await raw(`${head}Content-Length: 99999999\r\n\r\n{`);
  assert.match(declared, /^HTTP\/1.1 413 [\s\S]*Connection: close\r\n/);
  const chunk = `10000\r\n${' '.repeat(0x10000)}\r\n`;
  const chunked = await raw(`${head}Transfer-Encoding: chunked\r\n\r\n${chunk}${chunk}`);
  assert.match(chunked, /^HTTP\/1.1 413 [\s\S]*Connection: close\r\n/);
});

test('participants_full: as many as the limit says', async () => {
  const own = await startBridge(['--max-participants', '2']);
  const [a] = await pair(own.url);
  const third = await new Member(a.room).join();
  assert.deepEqual([third.status, third.code, third.headers.get('retry-after')], [429, 'participants_full', '30']);
  await own.stop();
});

test('the bridge gives up the channel that nobody used for longest before it refuses anybody', async () => {
  const own = await startBridge(['--max-total-bytes', '256k', '--max-channel-bytes', '200k']);
  const [old] = await pair(own.url);
  for (let i = 0; i < 2; i++) assert.equal((await old.send({ to: '*', ...sealed(60_000) })).status, 200);
  const waits = old.poll(2, '&wait=20');
  await waiting(1, own.url);
  const alone = await (await room(own.url)).member();
  for (let i = 0; i < 5; i++) assert.equal((await alone.send({ to: '*', ...sealed(60_000) })).status, 200);
  assert.equal((await waits).code, 'no_channel');
  assert.equal((await old.status()).code, 'no_channel');
  await own.stop();
});

test('bodies are application/json and nothing else', async () => {
  const [a] = await pair();
  const types = ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data', 'application/jsonp', ''];
  for (const type of types) {
    const answer = await a.send(undefined, { headers: { 'content-type': type } });
    assert.deepEqual([answer.status, answer.code], [415, 'not_json'], type);
  }
  assert.equal(
    (await a.send(undefined, { headers: { 'content-type': 'application/json; charset=utf-8' } })).status,
    200,
  );
});

test('405 names the methods; there are no others, and no CORS', async () => {
  const { path } = await room();
  const allowed: [path: string, allow: string][] = [
    [path, 'PUT, GET'],
    [`${path}/join`, 'POST'],
    [`${path}/send`, 'POST'],
    [`${path}/poll`, 'GET'],
    [`${path}/leave`, 'POST'],
    ['/', 'GET, HEAD'],
    ['/agentalk.sh', 'GET, HEAD'],
    ['/health', 'GET'],
  ];
  for (const [where, allow] of allowed) {
    for (const method of ['DELETE', 'OPTIONS', 'PATCH']) {
      const answer = await call(bridge.url, method, where, { headers: { origin: 'https://evil.example' } });
      assert.deepEqual([answer.status, answer.code], [405, 'method_not_allowed'], `${method} ${where}`);
      assert.equal(answer.headers.get('allow'), allow);
      assert.equal(answer.headers.get('access-control-allow-origin'), null);
    }
  }
});

test('404 for whatever is not in the table', async () => {
  const { id } = await room();
  const paths = [
    ...['/nothing', '/channels', '/channels/', `/channels/${id}/`, `/channels/${id}/nothing`, `/channels/${id}/send/x`],
    ...[`/channels/${id.toUpperCase()}A`, `/channels/%61${id.slice(1)}`, `/channels//${id}`, `//channels/${id}`],
    ...[
      `/c/${id}x`,
      `/c/${id}/join`,
      '/c/',
      '/channels/:id',
      '/c/:id',
      '/__proto__',
      '/constructor',
      '/docs/',
      '/docs',
    ],
    ...['/llms.txt/', '/docs/none.md', '/AGENTALK.SH', '/.env', '/%2e%2e/etc/passwd', '/docs/..%2fbridge.js'],
  ];
  for (const path of paths) {
    for (const method of ['GET', 'PUT', 'POST']) {
      const answer = await call(bridge.url, method, path);
      assert.deepEqual([answer.status, answer.code], [404, 'not_found'], `${method} ${path}`);
    }
  }
  assert.match(await raw(`GET /../llms.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`), /^HTTP\/1.1 404 /);
  assert.match(await raw(`GET http://x/llms.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`), /^HTTP\/1.1 404 /);
});

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
  const { id } = new Room(bridge.url);
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
  assert.ok(text.includes(`<link rel=alternate type="text/markdown" href="${bridge.url}/llms.txt">`));
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
  const made = new Room(own.url + '/agents');
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
    'agentalk_waiting_polls 0',
    'agentalk_messages_total 1',
    'agentalk_message_bytes_total 30',
    'agentalk_requests_total{method="POST",route="/channels/:id/send"} 2',
    'agentalk_requests_total{method="POST",route="/channels/:id/join"} 2',
    'agentalk_refusals_total{code="no_recipient"} 1',
  ]) {
    assert.ok(text.includes(`\n${line}\n`), line);
  }
  assert.match(text, /\nagentalk_held_bytes [1-9]\d*\n/);
  for (const line of text.trimEnd().split('\n')) {
    assert.match(line, /^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? \d+(\.\d+)?)$/);
  }
  for (const secret of [a.room.id, a.room.access, a.id, a.token, b.id, a.card.nonce]) {
    assert.ok(!text.includes(secret) && !own.logs().includes(secret));
  }
  assert.equal(own.logs(), `listening on ${own.url}\n`, 'it is quiet');
  await own.stop();
});

test('stopping: not ready, nothing new, every waiting poll answered, exit status 0', async () => {
  const own = await startBridge(['--drain-window', '1']);
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
  const own = await startBridge(['--stop-timeout', '1']);
  const socket = connect(own.port, '127.0.0.1');
  socket.write('POST /channels/x HTTP/1.1\r\n'); // and never the rest
  await once(socket, 'connect');
  while (!(await call(own.url, 'GET', '/metrics')).text.includes('agentalk_connections 2'));
  own.kill('SIGINT');
  assert.equal(await own.ended, 0);
});

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
  const own = await startBridge(['--stall-timeout', '1']);
  const [a, b] = await pair(own.url);
  for (let i = 0; i < 12; i++) assert.equal((await a.send({ to: '*', ...sealed(66_000) })).status, 200);
  const metrics = 'GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  const connections = async () => Number(/\nagentalk_connections (\d+)/.exec(await raw(metrics, own.url))?.[1]);
  const others = await connections();
  const socket = connect(own.port, '127.0.0.1').pause();
  const head = `Host: x\r\nAuthorization: Bearer ${b.token}\r\n\r\n`;
  // More answers than the buffers of both ends hold.
  socket.write(`GET ${b.room.path}/poll?participant_id=${b.id}&since=0 HTTP/1.1\r\n${head}`.repeat(16));
  while ((await connections()) === others);
  while ((await connections()) > others);
  let bytes = 0;
  socket.on('error', () => {}).on('data', (chunk: Buffer) => (bytes += chunk.length));
  await once(socket.resume(), 'close');
  assert.ok(bytes < 16 * 1_000_000, `${bytes} bytes`);
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

test('--help and --version; flags and values that are none are refused in one line with status 2', async () => {
  const help = await runBridge(['--help']);
  assert.equal(help.status, 0);
  for (const flag of [
    '--host',
    '--port',
    '--public-url',
    '--idle-window',
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
    [['--idle-window', '0']],
    [['--idle-window', '1d']],
    [['--max-participants', '2k']],
    [['--max-message-bytes', '1e3']],
    [['--max-message-bytes', '2m']],
    [['--max-channel-bytes', '100']],
    [['--max-total-bytes', '1m']],
    [['--trust-proxy', 'yes']],
    [['--trusted-proxies', 'yes']],
    [['--trusted-proxies', '10.0.0.0/33']],
    [['--trusted-proxies', '10.0.0/8']],
    [['--trusted-proxies', '::1/129']],
    [['--trusted-proxies', '10.0.0.1/8/8']],
    [['--trusted-proxies', 'loopback;10.0.0.1']],
    [['--log-requests', '1']],
    [['--log-addresses', 'true']],
    [['--address-requests', '-1']],
    [[], { AGENTALK_PORT: 'x' }],
    [[], { AGENTALK_IDLE_WINDOW: '-1' }],
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
  const env = { AGENTALK_MAX_PARTICIPANTS: '7', AGENTALK_IDLE_WINDOW: '3h', AGENTALK_MAX_MESSAGE_BYTES: '' };
  const own = await startBridge(['--max-participants', '9'], { env });
  const { json } = await new Room(own.url).create();
  assert.deepEqual(json['limits'], { message_bytes: 65_536, participants: 9, poll_seconds: 50, idle_seconds: 10_800 });
  await own.stop();
});

test('bridge.js runs alone, wherever it is copied', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'agentalk-alone-'));
  const file = join(folder, 'bridge.js');
  cpSync(BRIDGE, file);
  const own = await startBridge([], { file });
  assert.equal((await new Room(own.url).create()).status, 201);
  await own.stop();
  rmSync(folder, { recursive: true });
});
