/**
 * The attackers of npm run soak:bridge, a separate process: `node soak-bridge-attack.mjs URL SEED`. Mixed abuse, from
 * very many addresses and a third of it from one, and connections with many requests whose responses are never read.
 * It goes on until its standard input ends, and prints how often each status came, as JSON.
 */
import { createHash } from 'node:crypto';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

const [url = '', seed = ''] = process.argv.slice(2);
const port = Number(new URL(url).port);
const LANES = 48;
const DEAF_CONNECTIONS = 100;
const DEAF_REQUESTS = 50; // on each
const DEAF_MS = 5000;

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

/** Connections that ask much and read nothing, all from one address. */
async function neverRead() {
  while (!isOver) {
    const sockets = Array.from({ length: DEAF_CONNECTIONS }, (_, n) => {
      const member = members[n % Math.max(1, members.length)];
      const from = 'Host: x\r\nX-Forwarded-For: 203.0.113.9\r\n';
      const poll =
        member &&
        `GET ${member.path}/poll?participant_id=${member.id}&since=0 HTTP/1.1\r\n${from}` +
          `Authorization: Bearer ${member.token}\r\n\r\n`;
      const page = `GET /bridge.js HTTP/1.1\r\n${from}\r\n`;
      const socket = connect(port, '127.0.0.1').on('error', () => {});
      socket.pause();
      socket.write((n % 2 === 0 && poll ? poll : page).repeat(DEAF_REQUESTS));
      return socket;
    });
    await delay(DEAF_MS);
    for (const socket of sockets) socket.destroy();
  }
}

async function abuse() {
  const lane = new Lane();
  while (!isOver) {
    const status = await act(lane);
    seen.set(status, (seen.get(status) ?? 0) + 1);
  }
  lane.close();
}

/** @type {Map<string, number>} */
const seen = new Map();
let isOver = false;
process.stdin.resume().on('end', () => (isOver = true));
void Promise.all([neverRead(), ...Array.from({ length: LANES }, abuse)]).then(() => process.exit(0));
process.on('exit', () => console.log(JSON.stringify(Object.fromEntries(seen))));
process.stdin.on('end', () => setTimeout(() => process.exit(0), DEAF_MS + 1000).unref());
