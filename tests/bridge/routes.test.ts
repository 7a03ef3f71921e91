/** The built bridge from outside: each route of a channel, both forms, each refusal. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import {
  SAFE_LINE,
  TEXT,
  Member,
  TestChannel,
  bridge,
  call,
  hex,
  pair,
  raw,
  room,
  sealed,
  waiting,
} from './fixture.ts';
import type { Answer, Json } from './fixture.ts';

test('create makes a channel or finds it, and tells its limits', async () => {
  const made = new TestChannel(bridge.url);
  const first = await made.create();
  assert.equal(first.status, 201);
  const { epoch } = first.json;
  assert.match(String(epoch), /^[0-9a-f]{32}$/);
  const limits = {
    message_bytes: 65_536,
    participants: 50,
    poll_seconds: 50,
    idle_seconds: 7200,
    blob_bytes: 134_217_728,
  };
  assert.deepEqual(first.json, { epoch, limits });
  const second = await made.create();
  assert.equal(second.status, 200);
  assert.deepEqual(second.json, first.json);
  assert.equal((await made.create(TEXT)).text, `channel ${epoch} found 65536 50 50 7200 134217728\n`);
  assert.match(
    (await new TestChannel(bridge.url).create(TEXT)).text,
    /^channel [0-9a-f]{32} created 65536 50 50 7200 134217728\n$/,
  );
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
  const nowhere = new Member(new TestChannel(bridge.url));
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

test('a join with another card is another session of the participant: the others are given that card', async () => {
  const [a, b] = await pair();
  await b.send();
  await a.poll(3);
  const card = sealed(300);
  const waits = b.poll(2, '&wait=20');
  await waiting(1);
  const again = await a.join({}, { card });
  const { epoch, participants } = again.json as { epoch: string; participants: Json[] };
  assert.deepEqual(again.json, { epoch, cursor: 3, index: 4, resumed: true, participants });
  assert.deepEqual(participants[0]?.['card'], card);
  const { events } = (await waits).json as { events: Json[] };
  assert.deepEqual(events, [{ index: 4, type: 'join', at: events[0]?.['at'], from: a.id, card }]);
  assert.deepEqual(((await b.status()).json['participants'] as Json[])[0]?.['card'], card);
  const same = await a.join({}, { card });
  assert.deepEqual([same.json['index'], same.json['cursor']], [4, 3]);
  assert.deepEqual((await b.poll(4)).json['events'], [], 'the same card is no news');
  assert.equal((await a.join({}, { card: sealed(300), token: hex(32) })).code, 'name_taken');
  assert.deepEqual((await b.poll(4)).json['events'], []);
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
  const own = await startBridge(['--away-after', '1']);
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
  const own = await startBridge(['--expire-after', '1s']);
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
  const nowhere = new Member(new TestChannel(bridge.url));
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

test('bridge_full: one address whose participants wait for all that it holds', async () => {
  const own = await startBridge(['--max-memory-bytes', '256k', '--max-channel-bytes', '200k']);
  const [a] = await pair(own.url);
  for (let i = 0; i < 2; i++) assert.equal((await a.send({ to: '*', ...sealed(60_000) })).status, 200);
  const [c] = await pair(own.url);
  assert.equal((await c.send({ to: '*', ...sealed(60_000) })).status, 200);
  const refused = await c.send({ to: '*', ...sealed(60_000) });
  assert.deepEqual([refused.status, refused.code, refused.headers.get('retry-after')], [503, 'bridge_full', '10']);
  assert.match(refused.text, /has no room for more channels or messages/);
  const { events } = (await a.poll(0)).json as { events: Json[] };
  assert.equal(events.length, 1, 'nothing was given up for it');
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
    [path, 'PUT, GET, HEAD'],
    [`${path}/join`, 'POST'],
    [`${path}/send`, 'POST'],
    [`${path}/poll`, 'GET, HEAD'],
    [`${path}/leave`, 'POST'],
    ['/', 'GET, HEAD'],
    ['/agentalk.sh', 'GET, HEAD'],
    ['/health', 'GET, HEAD'],
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
