/**
 * npm run soak:bridge [-- REQUESTS [SEED]]: a million requests of mixed abuse, and whether the bridge has its memory back
 * afterwards. Its heap is looked at after a while of the same abuse, and again at the end, each time when all channels,
 * addresses and connections are gone and rubbish is collected. Ends with status 1 if it has not come back to its level.
 */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BRIDGE, makeFolder, startServer } from './child-processes.mjs';

const [requests = '1000000', seed = String(Date.now() % 1_000_000)] = process.argv.slice(2);
const WARM_UP = 30_000;
const LANES = 48;
/** What the heap may have more than before: code that was compiled meanwhile, caches of node's own. */
const MOST_MORE_BYTES = 4 * 1024 * 1024;
const FLAGS = [
  ...['--trusted-proxies', 'loopback', '--expire-after', '3', '--max-channels', '2000', '--max-memory-bytes', '64m'],
  ...['--headers-timeout', '1', '--request-timeout', '2', '--keep-alive-timeout', '2', '--write-timeout', '1'],
  ...[
    '--max-connections',
    '3000',
    '--request-rate-per-ip',
    '3000',
    '--join-rate-per-ip',
    '200',
    '--channel-rate-per-ip',
    '1000000',
  ],
];

let state = createHash('sha256').update(seed).digest().readUInt32LE();
/** From 0 to `most` - 1 (mulberry32). */
function random(/** @type {number} */ most) {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * most);
}
const hex = (/** @type {number} */ length) => {
  let text = '';
  while (text.length < length)
    text += random(2 ** 32)
      .toString(16)
      .padStart(8, '0');
  return text.slice(0, length);
};
const hash = (/** @type {string} */ text) => createHash('sha256').update(text).digest('hex');
const pick = (/** @type {readonly string[]} */ choices) => choices[random(choices.length)] ?? '';
const sealed = (/** @type {number} */ groups) =>
  `"nonce":"${hex(24)}","ciphertext":"${'AAAA'.repeat(groups)}","tag":"${'0'.repeat(32)}"`;

// Waits and reads what it measured on its standard error, as it may when it is told to.
const probe = join(makeFolder('abuse'), 'probe.cjs');
writeFileSync(
  probe,
  `process.on('SIGUSR2', () => {
     for (let n = 0; n < 4; n++) gc();
     process.stderr.write(JSON.stringify(process.memoryUsage()) + '\\n');
   });`,
);
const bridge = await startServer(['--expose-gc', '--require', probe, BRIDGE, '--port', '0', ...FLAGS]);
const port = Number(new URL(bridge.url).port);
/** @type {Map<string, number>} */
const seen = new Map();

/** A connection that is kept as long as the bridge keeps it. */
class Lane {
  /** @type {import('node:net').Socket | undefined} */
  #socket;
  #input = '';
  /** @type {(status: string) => void} */
  #done = () => {};

  /** Writes bytes, and gives the status of what comes, or `closed`. @param {string} text @returns {Promise<string>} */
  ask(text) {
    return new Promise((resolve) => {
      this.#done = (status) => {
        this.#done = () => {};
        resolve(status);
      };
      this.#open().write(text, 'latin1');
    });
  }

  close() {
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  reset() {
    this.#socket?.resetAndDestroy();
    this.#socket = undefined;
  }

  #open() {
    if (this.#socket) return this.#socket;
    const socket = connect(port, '127.0.0.1').setNoDelay().setEncoding('latin1');
    this.#input = '';
    socket.on('error', () => {});
    socket.on('data', (chunk) => this.#take(String(chunk)));
    socket.on('close', () => {
      if (this.#socket !== socket) return;
      this.#socket = undefined;
      this.#done('closed');
    });
    return (this.#socket = socket);
  }

  #take(/** @type {string} */ chunk) {
    this.#input += chunk;
    const end = this.#input.indexOf('\r\n\r\n');
    if (end < 0) return;
    const head = this.#input.slice(0, end);
    const length = Number(/\r\nContent-Length: (\d+)/.exec(head)?.[1] ?? 0);
    if (this.#input.length < end + 4 + length) return;
    this.#input = this.#input.slice(end + 4 + length);
    if (/\r\nConnection: close/.test(head)) this.close();
    this.#done(head.slice(9, 12));
  }
}

/** The channels that were opened last, for all lanes. @type {{path: string, access: string, id: string, token: string}[]} */
const members = [];
const ADDRESSES = 40_000;

/** One act of one kind; gives what came of it. @param {Lane} lane @returns {Promise<string>} */
async function act(lane) {
  // A third comes from one address, which has more than enough soon.
  const address = random(3) === 0 ? '203.0.113.7' : `10.${random(256)}.${random(ADDRESSES >> 8)}.1`;
  const from = `Host: x\r\nX-Forwarded-For: ${address}\r\n`;
  const member = members[random(members.length)];
  const post = (/** @type {string} */ path, /** @type {string} */ bearer, /** @type {string} */ body) =>
    lane.ask(
      `POST ${path} HTTP/1.1\r\n${from}Authorization: Bearer ${bearer}\r\nContent-Type: application/json\r\n` +
        `Content-Length: ${body.length}\r\n\r\n${body}`,
    );
  const kind = random(100);
  if (kind < 12 || !member) {
    const access = hex(64);
    const path = `/channels/${hash(`agentalk/1 channel ${access}`).slice(0, 32)}`;
    const opened = await lane.ask(`PUT ${path} HTTP/1.1\r\n${from}Authorization: Bearer ${access}\r\n\r\n`);
    const [id, token] = [hex(32), hex(64)];
    await post(`${path}/join`, access, `{"participant_id":"${id}","token":"${token}","card":{${sealed(100)}}}`);
    members.push({ path, access, id, token });
    if (members.length > 500) members.splice(0, 100);
    return opened;
  }
  const { path, access, id, token } = member;
  const asked = `${path}/poll?participant_id=${id}&since=0`;
  if (kind < 32) return post(`${path}/send`, token, `{"participant_id":"${id}","to":"*",${sealed(random(4000) + 1)}}`);
  if (kind < 42) return lane.ask(`GET ${asked} HTTP/1.1\r\n${from}Authorization: Bearer ${token}\r\n\r\n`);
  if (kind < 48) {
    const card = `{"participant_id":"${hex(32)}","token":"${hex(64)}","card":{${sealed(100)}}}`;
    return post(`${path}/join`, access, card);
  }
  if (kind < 52) return post(`${path}/leave`, token, `{"participant_id":"${id}","after_seconds":${random(3)}}`);
  if (kind < 60)
    return post(`${path}/send`, hex(64), pick(['{', '[]', '{"__proto__":{}}', `"${'x'.repeat(9000)}"`, '']));
  if (kind < 66) return lane.ask(`GET /${hex(random(60) + 1)}?${hex(20)} HTTP/1.1\r\n${from}\r\n`);
  if (kind < 72) return lane.ask(`GET ${pick(['/', '/llms.txt', '/metrics', '/health'])} HTTP/1.1\r\n${from}\r\n`);
  if (kind < 78) return lane.ask(`${pick(['DELETE', 'PROPFIND', 'BREW'])} ${path} HTTP/1.1\r\n${from}\r\n`);
  if (kind < 84)
    return lane.ask(`GET / HTTP/1.1\r\n${from}${pick(['X : y', ' fold', 'Content-Length: -1', '\0'])}\r\n\r\n`);
  if (kind < 87) return lane.ask(`GET / HTTP/1.1\r\n${from}X: ${'a'.repeat(9000)}\r\n\r\n`);
  if (kind < 90) return post(`${path}/send`, token, `{"x":"${'x'.repeat(120_000)}"}`);
  // Those that go away: in a poll, in the middle of the headers, of a body, of an answer.
  const half = [
    `GET ${path}/poll?participant_id=${id}&since=999&wait=50 HTTP/1.1\r\n${from}Authorization: Bearer ${token}\r\n\r\n`,
    `GET ${asked.replace('since=0', 'since=1&wait=50')} HTTP/1.1\r\n${from}Authorization: Bearer ${token}\r\n\r\n`,
    `GET /hea`,
    `POST ${path}/send HTTP/1.1\r\n${from}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"to":`,
    `GET /bridge.js HTTP/1.1\r\n${from}\r\n`.repeat(5),
  ];
  const answer = lane.ask(half[random(half.length)] ?? '');
  await Promise.race([answer, new Promise((resolve) => setImmediate(resolve))]);
  if (random(2) === 0) lane.reset();
  else lane.close();
  return 'gone';
}

/** @param {number} count */
async function abuse(count) {
  let next = 0;
  const lanes = Array.from({ length: LANES }, () => new Lane());
  await Promise.all(
    lanes.map(async (lane) => {
      while (next++ < count) {
        const status = await act(lane);
        seen.set(status, (seen.get(status) ?? 0) + 1);
        if (status.startsWith('5') && status !== '503') throw new Error(`an answer with status ${status}`);
        if (next % 100_000 === 0) console.log(`${next} requests, ${((Date.now() - begun) / 1000).toFixed()} s`);
      }
      lane.close();
    }),
  );
}

/** Its memory, when nobody is there any more. */
async function memory() {
  members.length = 0;
  for (let n = 0; ; n++) {
    const text = await (await fetch(`${bridge.url}/metrics`, { headers: { connection: 'close' } })).text();
    const value = (/** @type {string} */ name) => Number(new RegExp(`^agentalk_${name} (\\d+)`, 'm').exec(text)?.[1]);
    const left = ['channels', 'participants', 'polls_pending', 'channel_memory_bytes', 'rate_limited_addresses'].filter(
      (name) => value(name) > 0,
    );
    if (value('connections') > 1) left.push('connections');
    if (left.length === 0) break;
    if (n > 60) throw new Error(`after a minute there are still ${left.join()}`);
    await delay(1000);
  }
  const before = bridge.stderr().length;
  process.kill(bridge.pid, 'SIGUSR2');
  while (!bridge.stderr().slice(before).endsWith('\n')) await delay(10);
  /** @type {NodeJS.MemoryUsage} */
  const used = JSON.parse(bridge.stderr().slice(before));
  return used;
}

const mib = (/** @type {number} */ bytes) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
const tell = (/** @type {string} */ when, /** @type {NodeJS.MemoryUsage} */ { heapUsed, external, rss }) =>
  console.log(`${when}: heap ${mib(heapUsed)}, buffers ${mib(external)}, resident ${mib(rss)}`);

console.log(`${requests} requests, seed ${seed}: npm run soak:bridge -- ${requests} ${seed} does the same again`);
let begun = Date.now();
await abuse(WARM_UP);
const before = await memory();
tell(`after ${WARM_UP} requests to warm up`, before);
begun = Date.now();
seen.clear();
await abuse(Number(requests));
const seconds = (Date.now() - begun) / 1000;
const after = await memory();
tell(`after ${requests} more in ${seconds.toFixed()} s`, after);
console.log(
  [...seen]
    .sort()
    .map(([status, count]) => `${status}: ${count}`)
    .join(', '),
);
const log = bridge
  .stderr()
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('{"rss"'));
await bridge.stop();

const more = after.heapUsed + after.external - before.heapUsed - before.external;
if (log.length > 0) console.error(`it logged: ${log.slice(0, 3).join('\n')}`);
if (more > MOST_MORE_BYTES) console.error(`it keeps ${mib(more)} more than before`);
process.exitCode = log.length > 0 || more > MOST_MORE_BYTES ? 1 : 0;
