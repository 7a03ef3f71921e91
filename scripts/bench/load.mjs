/**
 * The load generator, a process of its own: `node load.mjs JSON` prints what it counted, as JSON.
 *
 * It writes requests to plain sockets and looks no closer at answers than it must: with node:http on this side, too, the
 * generator would need more of a core than the bridge does, and measure itself.
 */
import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:net';

/** @typedef {{path?: string, method?: string, token?: string, body?: string}} Request */

const END_OF_HEAD = Buffer.from('\r\n\r\n');

/** A connection kept alive, with one request on its way at a time. */
class Connection {
  #socket;
  #host;
  #input = Buffer.alloc(0);
  /** @type {(answer: string) => void} */
  #done = () => {};

  constructor(/** @type {string} */ url) {
    const { hostname, port, host } = new URL(url);
    this.#host = host;
    this.#socket = connect(Number(port), hostname).setNoDelay();
    this.#socket.on('data', (chunk) => this.#take(chunk));
    this.#socket.on('error', (error) => fail(error.message));
    this.#socket.on('close', () => isOver || fail('a connection was closed'));
  }

  /** @param {Request} request @param {(answer: string) => void} done gets the answer's body */
  ask({ path = '/', method = 'POST', token, body }, done) {
    this.#done = done;
    const bearer = token === undefined ? '' : `Authorization: Bearer ${token}\r\n`;
    const entity = body === undefined ? '' : `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`;
    this.#socket.write(
      `${method} ${path} HTTP/1.1\r\nHost: ${this.#host}\r\n${bearer}${entity}\r\n${body ?? ''}`,
      'latin1',
    );
  }

  asks = (/** @type {Request} */ request) =>
    /** @type {Promise<string>} */ (new Promise((resolve) => this.ask(request, resolve)));

  #take(/** @type {Buffer} */ chunk) {
    this.#input = this.#input.length === 0 ? chunk : Buffer.concat([this.#input, chunk]);
    const headEnd = this.#input.indexOf(END_OF_HEAD);
    if (headEnd < 0) return;
    const head = this.#input.latin1Slice(0, headEnd);
    const length = Number(/\ncontent-length: *(\d+)/i.exec(head)?.[1]);
    const end = headEnd + 4 + length;
    if (this.#input.length < end) return;
    const body = this.#input.latin1Slice(headEnd + 4, end);
    if (!head.startsWith('HTTP/1.1 2')) fail(`${head.split('\r')[0]} ${body}`);
    this.#input = this.#input.subarray(end);
    this.#done(body);
  }
}

function fail(/** @type {string} */ why) {
  console.error(why);
  process.exit(1);
}

let isOver = false;
/** @type {{url: string, work: 'send' | 'get' | 'fanout', seconds: number, connections: number, characters: number, path?: string, listeners?: number}} */
const { url, work, seconds, connections, characters, path = '', listeners = 0 } = JSON.parse(process.argv[2] ?? '{}');

const hash = (/** @type {string} */ label, /** @type {string} */ text) =>
  createHash('sha256').update(`agentalk/1 ${label} ${text}`).digest('hex');
const hex = (/** @type {number} */ bytes) => randomBytes(bytes).toString('hex');
const CIPHERTEXT = randomBytes((characters / 4) * 3).toString('base64');
const sealed = (/** @type {string} */ ciphertext) =>
  `"nonce":"${(++nonces).toString(16).padStart(24, '0')}","ciphertext":"${ciphertext}","tag":"${'0'.repeat(32)}"`;
let nonces = 0;

/** Opens a channel with so many participants. */
async function open(/** @type {Connection} */ connection, /** @type {number} */ size) {
  const access = hash('access', hex(32));
  const room = `/channels/${hash('channel', access).slice(0, 32)}`;
  await connection.asks({ method: 'PUT', path: room, token: access });
  const members = Array.from({ length: size }, () => ({ id: hex(16), token: hex(32), cursor: 0 }));
  for (const { id, token } of members) {
    const body = `{"participant_id":"${id}","token":"${token}","card":{${sealed(CIPHERTEXT.slice(0, 400))}}}`;
    await connection.asks({ path: `${room}/join`, token: access, body });
  }
  /** Everybody has fetched what there is. */
  for (const member of members) {
    const { id, token } = member;
    const answer = await connection.asks({ method: 'GET', path: `${room}/poll?participant_id=${id}&since=0`, token });
    member.cursor = cursorOf(answer);
  }
  const close = async () => {
    for (const { id, token } of members)
      await connection.asks({ path: `${room}/leave`, token, body: `{"participant_id":"${id}"}` });
  };
  return { room, members, close };
}

const cursorOf = (/** @type {string} */ answer) => Number(/"cursor":(\d+)/.exec(answer)?.[1]);

/** Each connection is one of two in a channel of its own, and sends as fast as the answers come. */
async function send() {
  const channels = await Promise.all(
    Array.from({ length: connections }, async () => {
      const connection = new Connection(url);
      return {
        connection,
        ...(path === '' ? await open(connection, 2) : { room: '', members: [], close: async () => {} }),
      };
    }),
  );
  return count(
    channels.map(({ connection, room, members: [first] }) => (tell) => {
      const { id = hex(16), token = hex(32) } = first ?? {};
      const next = () => {
        const body = `{"participant_id":"${id}","to":"*",${sealed(CIPHERTEXT)}}`;
        connection.ask({ path: path || `${room}/send`, token, body }, () => tell(1) && next());
      };
      next();
    }),
    async () => void (await Promise.all(channels.map(({ close }) => close()))),
  );
}

/** Each connection fetches the same bytes again and again. */
async function get() {
  return count(
    Array.from({ length: connections }, () => (tell) => {
      const connection = new Connection(url);
      const next = () => connection.ask({ method: 'GET', path }, () => tell(1) && next());
      next();
    }),
  );
}

/** Channels of one that sends and some that listen; the next message goes out when all have the last one. */
async function fanout() {
  const channels = await Promise.all(
    Array.from({ length: Math.max(1, Math.round(connections / listeners)) }, () =>
      open(new Connection(url), listeners + 1),
    ),
  );
  return count(
    channels.map(({ room, members: [sender, ...others] }) => (tell) => {
      const connection = new Connection(url);
      const speak = () => {
        const body = `{"participant_id":"${sender?.id}","to":"*",${sealed(CIPHERTEXT)}}`;
        connection.ask({ path: `${room}/send`, token: sender?.token ?? '', body }, () => step());
      };
      let missing = 0;
      const step = () => {
        if (--missing >= 0 || isOver) return;
        missing = others.length;
        speak();
      };
      for (const member of others) {
        const listener = new Connection(url);
        const { id, token } = member;
        const next = () => {
          const poll = `${room}/poll?participant_id=${id}&since=${member.cursor}&wait=20`;
          listener.ask({ method: 'GET', path: poll, token }, (answer) => {
            member.cursor = cursorOf(answer);
            if (tell(1)) next();
            step();
          });
        };
        next();
      }
      step();
    }),
  );
}

/**
 * Runs all, lets them warm up for a fifth of the time, then counts. `done` is all, the warming up included.
 *
 * @param {((tell: (done: number) => boolean) => void)[]} all each tells what it has done, and hears whether to go on
 */
async function count(all, finish = async () => {}) {
  let done = 0;
  for (const one of all) one((more) => ((done += more), !isOver));
  const sleep = (/** @type {number} */ s) => new Promise((resolve) => setTimeout(resolve, s * 1000));
  await sleep(seconds / 5);
  const [before, begun, cpu] = [done, performance.now(), process.cpuUsage()];
  await sleep(seconds);
  const elapsed = (performance.now() - begun) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const result = { rate: (done - before) / elapsed, busy: (user + system) / 1e6 / elapsed };
  isOver = true;
  await sleep(0.05); // answers that are on their way
  await finish();
  return { ...result, done };
}

console.log(JSON.stringify(await { send, get, fanout }[work]()));
process.exit(0);
