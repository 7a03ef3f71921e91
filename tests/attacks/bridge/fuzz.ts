/**
 * A fuzzer of all that the bridge reads. Each round has a channel of its own and is made from its name, so that it can be
 * run again: requests that are right but for some changes, each of which says what may come of it; and bytes that began
 * as a request. Whatever comes, the bridge lives, answers as documented, and gives back what it took.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { startBridge } from '../../lib/bridge.ts';
import { Random } from '../../lib/random.ts';
import { Member, TestChannel, call, gauge, until } from './background-clients.ts';
import { RawConnection, check, checkLines, parse } from './raw-http.ts';
import type { Answer } from './raw-http.ts';

const CASES = 25;
const HANG_MS = 15_000;
/** Timeouts short enough that what hangs is told from what is slow. */
const FLAGS = ['--headers-timeout', '2', '--request-timeout', '3', '--keep-alive-timeout', '3', '--write-timeout', '3'];
const MOST_RSS_BYTES = 512 * 1024 * 1024;

const hex = (random: Random, length: number) =>
  Array.from({ length }, () => random.pick([...'0123456789abcdef'])).join('');
const bytes = (random: Random, length: number) =>
  Array.from({ length }, () => String.fromCharCode(random.between(0, 255))).join('');

/** A request before it is written; `codes` are the refusals that are right for it, `mustFail` that one has to come. */
interface Draft {
  method: string;
  path: string;
  query: [string, unknown][];
  hosts: string[];
  headers: [string, string][];
  fields: Record<string, unknown> | undefined;
  text: string | undefined; // instead of the fields
  isChunked: boolean;
  wantsText: boolean;
  codes: Set<string>;
  mustFail: boolean;
  isPage: boolean;
}

type FuzzState = { room: TestChannel; members: [Member, Member]; used: string };
const sealed = (random: Random) => ({
  nonce: hex(random, 24),
  ciphertext: Buffer.from(bytes(random, random.between(1, 400)), 'latin1').toString('base64'),
  tag: hex(random, 32),
});

/** A request that is right. */
function draft(random: Random, { room, members }: FuzzState): Draft {
  const member = random.pick(members);
  const common = { headers: [] as [string, string][], query: [] as [string, unknown][], text: undefined };
  const flags = {
    isChunked: random.isLess(0.2),
    wantsText: random.isLess(0.5),
    codes: new Set<string>(),
    mustFail: false,
  };
  const base = { ...common, ...flags, hosts: ['bridge.example'], isPage: false, fields: undefined };
  const bearer = (value: string): [string, string][] => [['Authorization', `Bearer ${value}`]];
  const me = { participant_id: member.id };
  const asked: [string, unknown][] = [['participant_id', member.id]];
  switch (random.between(0, 7)) {
    case 0:
      return { ...base, method: 'PUT', path: room.path, headers: bearer(room.access) };
    case 1: {
      const fields = { ...me, token: member.token, card: sealed(random) };
      return { ...base, method: 'POST', path: `${room.path}/join`, headers: bearer(room.access), fields };
    }
    case 2:
    case 3: {
      const other = members.find((each) => each !== member)?.id ?? '*';
      const fields = { ...me, to: random.pick(['*', other]), ...sealed(random) };
      return { ...base, method: 'POST', path: `${room.path}/send`, headers: bearer(member.token), fields };
    }
    case 4: {
      const query: [string, unknown][] = [...asked, ['since', random.between(0, 2)]];
      return { ...base, method: 'GET', path: `${room.path}/poll`, headers: bearer(member.token), query };
    }
    case 5:
      return { ...base, method: 'GET', path: room.path, headers: bearer(member.token), query: asked };
    case 6: {
      const fields = { ...me, after_seconds: random.between(600, 3600) };
      return { ...base, method: 'POST', path: `${room.path}/leave`, headers: bearer(member.token), fields };
    }
    default: {
      const path = random.pick([
        '/',
        '/llms.txt',
        '/skill.md',
        `/c/${room.id}`,
        '/docs/protocol.md',
        '/health',
        '/metrics',
      ]);
      return { ...base, method: 'GET', path, isPage: true };
    }
  }
}

const FIELDS = [
  'participant_id',
  'token',
  'card',
  'to',
  'nonce',
  'ciphertext',
  'tag',
  'after_seconds',
  'since',
  'epoch',
];

/** What no field of the protocol may be. */
function badValue(random: Random): unknown {
  const text = bytes(random, random.between(0, 40));
  return random.pick([
    null,
    true,
    -1,
    1.5,
    1e300,
    [],
    {},
    ['*'],
    { length: 32 },
    '',
    ' ',
    '\0',
    '-0',
    '1e3',
    'ffff\n',
    `${text}!`,
  ]);
}

/** Changes something; what is not fatal leaves the request right. */
function change(random: Random, request: Draft, state: FuzzState): void {
  const { fields, query, headers, isPage } = request;
  const fail = (...codes: string[]) => {
    for (const code of codes) request.codes.add(code);
    request.mustFail = true;
  };
  const setHeader = (name: string, value: string | undefined) => {
    request.headers = headers.filter(([each]) => each.toLowerCase() !== name.toLowerCase());
    if (value !== undefined) request.headers.push([name, value]);
  };
  const isOpening = request.method === 'PUT' || request.path.endsWith('/join');
  switch (random.between(0, 15)) {
    case 0: // a field that is none
      if (fields) {
        const name = random.pick(Object.keys(fields).filter((each) => FIELDS.includes(each)));
        fields[name] = badValue(random);
        // Each of these is looked at, but a wrong one may only show after something else.
        fail('bad_request', ...(name === 'participant_id' ? ['no_participant'] : []));
      }
      break;
    case 1: // a field that is missing
      if (fields) {
        const name = random.pick(Object.keys(fields).filter((each) => FIELDS.includes(each)));
        if (name === 'after_seconds') break;
        delete fields[name];
        fail('bad_request');
      }
      break;
    case 2: // a word of the query that is none
      if (FIELDS.includes(query[0]?.[0] ?? '')) {
        const at = random.pick(query.map(([name], i) => (FIELDS.includes(name) ? i : 0)));
        query[at] = [
          query[at]?.[0] ?? '',
          random.pick(['', '-1', 'x', '1e3', '[]', '99999999999999999999', '99999', ' 1', bytes(random, 9) + '!']),
        ];
        fail('bad_request');
      }
      break;
    case 3: // a stranger
      if (!isPage && !isOpening) {
        if (fields) fields['participant_id'] = hex(random, 32);
        else query[0] = ['participant_id', hex(random, 32)];
        fail('no_participant');
      }
      break;
    case 4: // another incarnation, or an epoch that is none
      if (!isPage && !isOpening) {
        const epoch = random.pick([hex(random, 32), 'x', hex(random, 31)]);
        if (fields && random.isLess(0.5)) fields['epoch'] = epoch;
        else query.push(['epoch', epoch]);
        fail(epoch.length === 32 ? 'other_epoch' : 'bad_request');
      }
      break;
    case 5: // without a bearer value, or with one that is none
      if (!isPage) {
        setHeader('Authorization', random.pick([undefined, 'Basic YTpi', 'Bearer', 'Bearer a b', hex(random, 64)]));
        fail('no_token');
      }
      break;
    case 6: // with a wrong one
      if (!isPage) {
        setHeader('Authorization', `Bearer ${random.pick([hex(random, 64), 'x', state.room.id, '__proto__'])}`);
        fail(isOpening ? 'wrong_key' : 'bad_token');
      }
      break;
    case 7: // a channel that is not there
      if (!isPage) {
        request.path = request.path.replace(state.room.id, hex(random, 32));
        fail(isOpening ? 'wrong_key' : 'no_channel');
      }
      break;
    case 8: // a path that is none
      request.path = random.pick([
        ...['/__proto__', '/constructor', '/channels', `//${request.path}`, `${request.path}/x`, `/x${request.path}`],
        ...[`${request.path}/`, request.path.toUpperCase() + 'X', request.path.replace('/', '/%2f'), '/..', '/:id'],
      ]);
      fail('not_found');
      break;
    case 9: // another method
      request.method = random.pick(['DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND', 'SEARCH']);
      fail('method_not_allowed');
      break;
    case 10: // another type, or a body that is no object
      if (fields) {
        if (random.isLess(0.5)) {
          setHeader(
            'Content-Type',
            random.pick(['text/plain', 'application/jsonp', '', 'multipart/form-data; boundary=x']),
          );
          fail('not_json');
        } else {
          const whole = JSON.stringify(fields);
          const cut = whole.slice(0, random.between(0, whole.length - 1));
          request.text = random.pick([
            cut,
            `${whole}}`,
            `[${whole}]`,
            'null',
            '"x"',
            '',
            bytes(random, 50),
            '['.repeat(20_000),
          ]);
          fail('bad_request');
        }
      }
      break;
    case 11: // too much
      if (fields) {
        request.text = `{"x":"${'x'.repeat(random.between(100_000, 300_000))}"}`;
        fail('too_large');
      }
      break;
    case 12: // to somebody who isn't there, or with a nonce that was used
      if (request.path.endsWith('/send') && fields) {
        if (random.isLess(0.5) || state.used === '' || !/^[0-9a-f]{24}$/.test(String(fields['nonce']))) {
          fields['to'] = hex(random, 32);
          fail('no_recipient');
        } else {
          fields['nonce'] = state.used;
          request.codes.add('nonce_reused'); // if it was this sender's
        }
      } else if (request.path.endsWith('/join') && fields) {
        fields['token'] = hex(random, 64);
        fail('name_taken');
      }
      break;
    case 13: // more than was asked for
      if (fields) Object.assign(fields, { [bytes(random, 5)]: badValue(random), constructor: 1 });
      query.push([bytes(random, 3).replace(/[&=+%#]/g, ''), bytes(random, 9)]);
      break;
    case 14: // headers that mean nothing here
      for (let n = random.between(1, 30); n > 0; n--)
        headers.push([
          random.pick(['X-A', 'Cookie', 'Referer', 'Via', 'Range', 'If-None-Match', 'Origin']),
          hex(random, 20),
        ]);
      if (random.isLess(0.3)) headers.push(['Expect', random.pick(['100-continue', 'tea'])]);
      if (random.isLess(0.3)) headers.push(['X-Forwarded-For', bytes(random, 9).replace(/[^ -~]/g, '?')]);
      break;
    default: // two Hosts, or one that is none
      if (random.isLess(0.5)) {
        request.hosts.push(hex(random, 4));
        fail('bad_request');
      } else if (isPage && !['/health', '/metrics', '/docs/protocol.md'].includes(request.path)) {
        request.hosts = [random.pick(['<x>', 'a b', '"', '-', 'a..b', ''])];
        fail('bad_request');
      }
  }
}

/** The request as bytes. */
function write(random: Random, request: Draft): string {
  const { method, path, query, hosts, fields, text, isChunked, wantsText } = request;
  const asked = query.map(([name, value]) => `${encode(name)}=${encode(String(value))}`).join('&');
  const headers = [...request.headers];
  headers.unshift(...hosts.map((host): [string, string] => ['Host', host]));
  if (wantsText) headers.push(['Accept', 'text/plain']);
  let body = '';
  if (fields) {
    const content = text ?? Buffer.from(JSON.stringify(fields)).toString('latin1');
    if (!headers.some(([name]) => name === 'Content-Type')) headers.push(['Content-Type', 'application/json']);
    if (isChunked) {
      headers.push(['Transfer-Encoding', 'chunked']);
      for (let at = 0; at < content.length;) {
        const size = random.between(1, Math.max(1, content.length - at));
        body += `${size.toString(16)}\r\n${content.slice(at, at + size)}\r\n`;
        at += size;
      }
      body += '0\r\n\r\n';
    } else {
      headers.push(['Content-Length', String(content.length)]);
      body = content;
    }
  }
  const lines = headers.map(([name, value]) => `${random.isLess(0.2) ? name.toUpperCase() : name}: ${value}\r\n`);
  return `${method} ${path}${asked === '' ? '' : `?${asked}`} HTTP/1.1\r\n${lines.join('')}\r\n${body}`;
}

const encode = (text: string) => encodeURIComponent(text.replace(/[\ud800-\udfff]/g, ''));

/** In pieces, as a network may bring them. */
async function writeInPieces(connection: RawConnection, pieces: readonly string[]): Promise<void> {
  for (const piece of pieces) {
    connection.write(piece);
    if (pieces.length > 1) await new Promise((resolve) => setImmediate(resolve));
  }
}

function cut(random: Random, text: string): string[] {
  if (random.isLess(0.7)) return [text];
  const pieces: string[] = [];
  for (let at = 0; at < text.length; at += pieces.at(-1)?.length ?? 0)
    pieces.push(text.slice(at, at + random.between(1, text.length)));
  return pieces;
}

/** Whether what came is what has to come. */
function assertResponse(request: Draft, { status, headers, code, body }: Answer): void {
  const type = headers.get('content-type') ?? '';
  // A header that somebody who forwards would write came by chance (tests/bridge/operator.test.ts has when).
  if (request.path === '/metrics' && code === 'not_found') return;
  if (code === '')
    assert.ok(!request.mustFail, `status ${status} where one of ${[...request.codes].join()} had to come`);
  else
    assert.ok(
      request.codes.has(code),
      `${status} ${code} where only ${[...request.codes].join() || 'success'} is right`,
    );
  if (code !== '' || !request.isPage)
    assert.equal(
      type,
      request.wantsText ? 'text/plain; charset=utf-8' : 'application/json',
      'the form that was asked for',
    );
  if (code === '' && !request.isPage && request.wantsText) checkLines({ status, headers, code, body });
}

const PIECES = [
  ...[
    '\r\n',
    '\n',
    '\r',
    '\r\n\r\n',
    '\0',
    ' ',
    '\t',
    ':',
    ';',
    ',',
    '%',
    '%00',
    '?',
    '#',
    '//',
    '/../',
    '{',
    '"',
    '\xff',
  ],
  ...['Content-Length: 5\r\n', 'Content-Length: 0\r\n', 'Transfer-Encoding: chunked\r\n', 'Transfer-Encoding: x\r\n'],
  ...[
    'Host: y\r\n',
    ' folded\r\n',
    'HTTP/1.0',
    'HTTP/2.0',
    'HTTP/0.9',
    'GET ',
    'POST ',
    'PUT ',
    'CONNECT ',
    '0\r\n\r\n',
  ],
  ...[
    'ffffffffffffffff\r\n',
    '-1',
    '99999999999999999999',
    '99999',
    'Upgrade: h2c\r\nConnection: Upgrade\r\n',
    'Expect: 100-continue\r\n',
  ],
  ...[
    'Connection: close\r\n',
    'Connection: keep-alive, Host\r\n',
    'X-Forwarded-For: ,,,\r\n',
    'Accept: ,;q=\r\n',
    '__proto__',
  ],
];

/** Bytes that began as requests. */
function corrupt(random: Random, text: string): string {
  let bent = text;
  for (let n = random.between(1, 6); n > 0; n--) {
    const at = random.between(0, bent.length);
    const until = random.between(at, Math.min(bent.length, at + 60));
    switch (random.between(0, 5)) {
      case 0:
        bent = bent.slice(0, at) + random.pick(PIECES) + bent.slice(at);
        break;
      case 1:
        bent = bent.slice(0, at) + bent.slice(until);
        break;
      case 2:
        bent = bent.slice(0, until) + bent.slice(at);
        break;
      case 3:
        bent = bent.slice(0, at) + bytes(random, random.between(1, 9)) + bent.slice(at);
        break;
      case 4:
        bent =
          bent.slice(0, at) +
          String.fromCharCode((bent.charCodeAt(at) || 0) ^ (1 << random.between(0, 7))) +
          bent.slice(at + 1);
        break;
      default:
        bent = random.isLess(0.3) ? bent.slice(0, at) : bent + text;
    }
  }
  return bent.replace(/HEAD/g, 'HEAP'); // whose answers have no body, so that they could not be told apart
}

async function withPatience<T>(work: Promise<T>, connection: RawConnection): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`hangs after ${JSON.stringify(connection.received.slice(0, 200))}`)),
      HANG_MS,
    );
  });
  return Promise.race([work, patience]).finally(() => {
    clearTimeout(timer);
    connection.end();
  });
}

/** One round by its name, at a bridge. Throws when something came that must not. */
async function round(port: number, name: string): Promise<void> {
  const random = new Random(name);
  const room = new TestChannel(port);
  assert.equal((await room.create()).status, 201);
  const state: FuzzState = { room, members: [await room.member(), await room.member()], used: '' };
  for (let n = 0; n < CASES; n++) {
    const isSpoilt = random.isLess(0.5);
    let request = draft(random, state);
    // Spoilt it could say that they leave now.
    while (isSpoilt && request.path.endsWith('/leave')) request = draft(random, state);
    for (let changes = random.pick([0, 1, 1, 1, 2, 3]); changes > 0; changes--) change(random, request, state);
    const text = write(random, request);
    const connection = new RawConnection(port);
    let sent = text;
    try {
      if (!isSpoilt) {
        // What is refused while it is still coming may be cut off before its answer is read.
        const pieces = cut(random, text);
        const isLong = text.length > 60_000 || pieces.length > 1;
        const none = isLong && request.fields && request.mustFail ? () => [] : undefined;
        const work = writeInPieces(connection, pieces).then(() => connection.answers(1).catch(none));
        const [answer] = await withPatience(work, connection);
        if (answer) assertResponse(request, answer);
        else assert.ok(none);
        if (answer?.code === '' && typeof request.fields?.['nonce'] === 'string') state.used = request.fields['nonce'];
        if (answer?.code === 'bad_token' || answer?.code === 'wrong_key') assert.ok(!answer.body.includes('proto'));
      } else {
        sent = corrupt(random, text);
        const work = writeInPieces(connection, cut(random, sent)).then(() => {
          // Those that stay have to be closed by a timeout, which takes its time.
          if (random.isLess(0.98)) connection.socket.end();
          return connection.closed;
        });
        for (const answer of parse(await withPatience(work, connection)).answers) check(answer);
      }
    } catch (cause) {
      throw new Error(`case ${n}: ${String(cause)}\nof ${JSON.stringify(sent.slice(0, 3000))}`, { cause });
    }
  }
  // Those that were there are there, and nothing has got into the way of what is right.
  const [a, b] = state.members;
  assert.deepEqual([(await a.join()).status, (await b.send()).status, (await a.poll(0)).status], [200, 200, 200]);
  for (const each of state.members) {
    const body = { participant_id: each.id };
    assert.equal((await call(port, 'POST', `${room.path}/leave`, { bearer: each.token, body })).status, 200);
  }
}

export async function again(name: string): Promise<number> {
  const bridge = await startBridge(FLAGS);
  await round(bridge.port, name).finally(() => bridge.stop());
  return CASES;
}

function rssOf(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024;
  } catch {
    return 0; // only Linux tells
  }
}

export interface FuzzOptions {
  /** Begins the names of rounds. */
  readonly seed: string;
  readonly seconds: number;
  readonly lanes?: number;
  readonly tell?: (line: string) => void;
}

/** Rounds side by side until the time is over. Throws with the name of the first round that failed. */
export async function fuzz({ seed, seconds, lanes = 8, tell = () => {} }: FuzzOptions) {
  const bridge = await startBridge(FLAGS);
  const { port, pid } = bridge;
  const end = Date.now() + seconds * 1000;
  const counts = { rounds: 0, requests: 0, rssMiB: 0 };
  let failed: Error | undefined;
  const lane = async (number: number) => {
    for (let n = 0; Date.now() < end && !failed; n++) {
      const name = `${seed}-${number}-${n}`;
      try {
        await round(port, name);
        counts.rounds++;
        counts.requests += CASES;
        if (counts.rounds % 1000 === 0) tell(`${counts.requests} requests, ${rssOf(pid) >> 20} MiB`);
        assert.ok(rssOf(pid) < MOST_RSS_BYTES, 'the bridge grows');
      } catch (cause) {
        failed ??= new Error(`round ${name}: npm run fuzz -- http --round ${name}\n${String(cause)}`, { cause });
      }
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, i) => lane(i)));
  try {
    if (failed) throw failed;
    await until(port, 'polls_pending', (value) => value === 0);
    await until(port, 'connections', (value) => value < 10);
    // A joining that was spoilt in its id is somebody else's, who never leaves.
    assert.ok((await gauge(port, 'channels')) < 3 + counts.rounds / 20, 'all was given back');
    counts.rssMiB = rssOf(pid) >> 20;
    assert.equal(bridge.logs(), `listening on ${bridge.url}\n`, 'nothing unexpected was logged');
  } finally {
    await bridge.stop();
  }
  return counts;
}
