/**
 * The honest clients of npm run soak:bridge, a separate process: `node soak-bridge-clients.mjs JOB`. Each channel has two
 * members who behave as the shell client does: the one that listens makes polls of 8 s over one connection, which lasts a
 * call of up to 50 s; each other request has a connection, and so a TLS handshake, to itself. They take turns to speak, send
 * files, and now and then somebody joins and leaves, or a channel ends and another begins.
 *
 * It reads commands, a line each, and answers with a line of JSON: `mark` what was counted since the last mark, `stop` the
 * same when all have left.
 */
import { createHash, randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

/** @typedef {{url: string, ca?: string, channels: number, addresses: number, rampSeconds: number}} Job */
/** @typedef {{id: string, token: string, cursor: number}} Member */
/** @typedef {{status: number, text: string, ms: number}} Reply */

/** @type {Job} */
const job = JSON.parse(process.argv[2] ?? '{}');
const { protocol, hostname, port } = new URL(job.url);
const ca = job.ca === undefined ? undefined : readFileSync(job.ca);
const { Agent, request } = protocol === 'https:' ? https : http;

const POLL_SECONDS = 8;
const CALL_MS = 50_000;
const THINK_MS = [20_000, 200_000];
const MESSAGE_BYTES = [300, 4_000];
const BLOB_BYTES = [20_000, 300_000];

const hex = (/** @type {number} */ bytes) => randomBytes(bytes).toString('hex');
const hash = (/** @type {string | Buffer} */ data) => createHash('sha256').update(data).digest('hex');
const between = (/** @type {number[]} */ [min = 0, max = 0]) => Math.round(min + Math.random() * (max - min));
const sealed = (/** @type {number} */ bytes) => ({
  nonce: hex(12),
  ciphertext: randomBytes(bytes).toString('base64'),
  tag: hex(16),
});

let isOver = false;
const ending = new AbortController();
setMaxListeners(0, ending.signal);
/** Ends early when all are to leave. */
const pause = (/** @type {number} */ ms) => delay(ms, undefined, { signal: ending.signal }).catch(() => {});
let requests = 0;
let handshakes = 0;
/** What was refused, by status and code. @type {Map<string, number>} */
let refused = new Map();
/** Milliseconds. @type {{send: number[], deliver: number[], blob: number[]}} */
let times = { send: [], deliver: [], blob: [] };

/** Everything about one channel and its two members. */
class Channel {
  access = hash(`agentalk/1 access ${hex(32)}`);
  path = `/channels/${hash(`agentalk/1 channel ${this.access}`).slice(0, 32)}`;
  /** @type {[Member, Member]} */
  members = [Channel.member(), Channel.member()];

  constructor(/** @type {string} */ address) {
    this.address = address;
  }

  /** @returns {Member} */
  static member() {
    return { id: hex(16), token: hex(32), cursor: 0 };
  }

  /**
   * One request; over a new connection unless `agent` says otherwise.
   *
   * @param {string} method
   * @param {string} path
   * @param {string} bearer
   * @param {{body?: Buffer | object, agent?: http.Agent | https.Agent}} [options]
   * @returns {Promise<Reply>}
   */
  ask(method, path, bearer, { body, agent } = {}) {
    const bytes = body === undefined || Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    const type = Buffer.isBuffer(body) ? 'application/octet-stream' : 'application/json';
    const headers = {
      authorization: `Bearer ${bearer}`,
      accept: 'text/plain',
      ...(protocol === 'http:' && { 'x-forwarded-for': this.address }),
      ...(bytes && { 'content-type': type, 'content-length': String(bytes.length) }),
    };
    const startedAt = performance.now();
    requests++;
    if (!agent) handshakes++;
    return new Promise((resolve) => {
      const options = { hostname, port, method, path: this.path + path, headers, ca, localAddress: this.address };
      const asked = request({ ...options, servername: 'localhost', agent: agent ?? false }, (response) => {
        let text = '';
        response.setEncoding('latin1').on('data', (chunk) => (text += chunk));
        response.on('error', () => {});
        response.on('close', () => {
          const status = response.complete ? (response.statusCode ?? 0) : 0;
          if (status >= 400 || status === 0) note(`${status} ${/^error (\w+)/.exec(text)?.[1] ?? ''}`.trim());
          resolve({ status, text, ms: performance.now() - startedAt });
        });
      });
      asked.on('error', (/** @type {NodeJS.ErrnoException} */ error) => {
        note(`no response (${error.code})`);
        resolve({ status: 0, text: '', ms: performance.now() - startedAt });
      });
      asked.end(bytes);
    });
  }

  async open() {
    await this.ask('PUT', '', this.access);
    for (const member of this.members) await this.join(member);
  }

  async join(/** @type {Member} */ member) {
    const body = { participant_id: member.id, token: member.token, card: sealed(600) };
    const { text } = await this.ask('POST', '/join', this.access, { body });
    member.cursor = Number(/^cursor (\d+)/m.exec(text)?.[1] ?? 0);
  }

  leave(/** @type {Member} */ { id, token }) {
    return this.ask('POST', '/leave', token, { body: { participant_id: id } });
  }

  /** A call of the client: polls over one connection until a message is there. Whether one came. */
  async listen(/** @type {Member} */ member, /** @type {() => boolean} */ isWanted) {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    handshakes++;
    const endsAt = Date.now() + CALL_MS;
    let text = '';
    while (isWanted() && Date.now() < endsAt && !/^message /m.test(text)) {
      const query = `/poll?participant_id=${member.id}&since=${member.cursor}&wait=${POLL_SECONDS}`;
      const reply = await this.ask('GET', query, member.token, { agent });
      text = reply.text;
      if (reply.status !== 200) await pause(1000);
      member.cursor = Number(/^cursor (\d+)/m.exec(text)?.[1] ?? member.cursor);
    }
    agent.destroy();
    return /^message /m.test(text);
  }

  /** One speaks, the other one listens. */
  async turn(/** @type {Member} */ speaker, /** @type {Member} */ listener) {
    const listening = this.hear(listener);
    await pause(between(THINK_MS));
    if (isOver) return;
    if (Math.random() < 0.1) await this.sendFile(speaker, listener);
    if (Math.random() < 0.05) await this.visit();
    const sentAt = performance.now();
    const body = { participant_id: speaker.id, to: '*', ...sealed(between(MESSAGE_BYTES)) };
    const { status, ms } = await this.ask('POST', '/send', speaker.token, { body });
    if (status === 200) times.send.push(ms);
    const heardAt = await listening;
    if (heardAt !== undefined) times.deliver.push(Math.max(0, heardAt - sentAt));
  }

  /** When the next message came. One call follows the other until then. */
  async hear(/** @type {Member} */ member) {
    while (!isOver) if (await this.listen(member, () => !isOver)) return performance.now();
    return undefined;
  }

  async sendFile(/** @type {Member} */ from, /** @type {Member} */ to) {
    const bytes = randomBytes(between(BLOB_BYTES));
    const path = (/** @type {Member} */ { id }) => `/blobs/${hash(bytes)}?participant_id=${id}`;
    const { ms } = await this.ask('PUT', path(from), from.token, { body: bytes });
    times.blob.push(ms);
    const { text } = await this.ask('GET', path(to), to.token);
    if (hash(Buffer.from(text, 'latin1')) !== hash(bytes)) note('a blob of other bytes');
  }

  /** Somebody joins, and leaves. */
  async visit() {
    const visitor = Channel.member();
    await this.join(visitor);
    await this.leave(visitor);
  }
}

function note(/** @type {string} */ what) {
  if (!isOver) refused.set(what, (refused.get(what) ?? 0) + 1);
}

async function live(/** @type {number} */ n) {
  const address = `127.77.${(n % job.addresses) >> 8}.${(n % job.addresses) & 255}`;
  await pause((n / job.channels) * job.rampSeconds * 1000);
  while (!isOver) {
    const channel = new Channel(address);
    await channel.open();
    const [a, b] = channel.members;
    for (let turn = 0; !isOver && Math.random() > 0.02; turn++) await channel.turn(turn % 2 ? a : b, turn % 2 ? b : a);
    await Promise.all(channel.members.map((member) => channel.leave(member)));
  }
}

function report() {
  const of = (/** @type {number[]} */ values) => {
    const sorted = [...values].sort((x, y) => x - y);
    const at = (/** @type {number} */ q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
    return { count: sorted.length, p50: at(0.5), p99: at(0.99) };
  };
  const figures = { send: of(times.send), deliver: of(times.deliver), blob: of(times.blob) };
  const result = { requests, handshakes, refused: Object.fromEntries(refused), ...figures };
  requests = 0;
  handshakes = 0;
  refused = new Map();
  times = { send: [], deliver: [], blob: [] };
  return result;
}

const lives = Promise.all(Array.from({ length: job.channels }, (_, n) => live(n)));
for await (const line of createInterface(process.stdin)) {
  if (line === 'stop') {
    const result = report();
    isOver = true;
    ending.abort();
    await lives;
    console.log(JSON.stringify(result));
    process.exit(0);
  }
  console.log(JSON.stringify(report()));
}
