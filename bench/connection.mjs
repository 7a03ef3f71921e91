/**
 * The generators' side of HTTP. It writes requests to plain sockets and looks no closer at answers than it must: with
 * node:http on this side, too, a generator would need more of a core than the bridge does, and measure itself.
 * Whatever goes wrong ends the generator, with the reason on standard error.
 */
import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:net';

/** @typedef {{path?: string, method?: string, token?: string, body?: string}} Request */
/** @typedef {{id: string, token: string, cursor: number}} Member */
/** @typedef {{room: string, members: Member[]}} Channel */

const END_OF_HEAD = Buffer.from('\r\n\r\n');

/**
 * A connection kept alive, with one request on its way at a time; the others wait here. It is opened when it is needed,
 * and again when the server has closed it because nobody asked for long.
 */
export class Connection {
  #url;
  /** @type {import('node:net').Socket | undefined} */
  #socket;
  /** @type {Buffer} */
  #input = Buffer.alloc(0);
  /** @type {{request: Request, done: (answer: string) => void}[]} */
  #asked = [];

  constructor(/** @type {string} */ url) {
    this.#url = new URL(url);
  }

  #open() {
    const { port, hostname } = this.#url;
    const socket = connect(Number(port), hostname).setNoDelay();
    socket.on('data', (chunk) => this.#take(chunk));
    socket.on('error', (error) => fail(error.message));
    socket.on('close', () => {
      this.#socket = undefined;
      if (this.#asked.length > 0) fail('a connection was closed');
    });
    return socket;
  }

  /** @param {Request} request @param {(answer: string) => void} done gets the answer's body */
  ask(request, done) {
    if (this.#asked.push({ request, done }) === 1) this.#write(request);
  }

  #write(/** @type {Request} */ request) {
    this.#socket ??= this.#open();
    this.#socket.write(textOf(request, this.#url.host), 'latin1');
  }

  asks = (/** @type {Request} */ request) =>
    /** @type {Promise<string>} */ (new Promise((resolve) => this.ask(request, resolve)));

  /** Goes without a word, as one does in the middle of a poll. */
  end() {
    this.#asked.length = 0;
    this.#socket?.destroy();
  }

  #take(/** @type {Buffer} */ chunk) {
    this.#input = this.#input.length === 0 ? chunk : Buffer.concat([this.#input, chunk]);
    const headEnd = this.#input.indexOf(END_OF_HEAD);
    if (headEnd < 0) return;
    const head = this.#input.toString('latin1', 0, headEnd);
    const length = Number(/\ncontent-length: *(\d+)/i.exec(head)?.[1]);
    const end = headEnd + 4 + length;
    if (this.#input.length < end) return;
    const body = this.#input.toString('latin1', headEnd + 4, end);
    if (!head.startsWith('HTTP/1.1 2')) fail(`${head.split('\r')[0]} ${body}`);
    this.#input = this.#input.subarray(end);
    const { done } = this.#asked.shift() ?? fail('an answer to nothing');
    if (this.#asked[0]) this.#write(this.#asked[0].request);
    done(body);
  }
}

/** A request as it goes over a connection. @param {Request} request @param {string} host */
export function textOf({ path = '/', method = 'POST', token, body }, host) {
  const bearer = token === undefined ? '' : `Authorization: Bearer ${token}\r\n`;
  const entity = body === undefined ? '' : `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`;
  return `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n${bearer}${entity}\r\n${body ?? ''}`;
}

/** @param {string} why @returns {never} */
function fail(why) {
  console.error(why);
  process.exit(1);
}

/** Asks as `Connection.asks` does, a few times: it rejects where that ends the program. */
export const fetching =
  (/** @type {string} */ url) =>
  async (/** @type {Request} */ { path = '/', method = 'POST', token, body }) => {
    const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` };
    const answer = await fetch(url + path, { method, headers, body: body ?? null });
    if (!answer.ok) throw new Error(`${method} was answered ${answer.status}`);
    return answer.text();
  };

export const hex = (/** @type {number} */ bytes) => randomBytes(bytes).toString('hex');
const hash = (/** @type {string} */ label, /** @type {string} */ text) =>
  createHash('sha256').update(`agentalk/1 ${label} ${text}`).digest('hex');

let nonces = 0;
/** Sealed, as far as a bridge can tell: each with a new nonce. */
const sealed = (/** @type {string} */ ciphertext) =>
  `"nonce":"${(++nonces).toString(16).padStart(24, '0')}","ciphertext":"${ciphertext}","tag":"${'0'.repeat(32)}"`;
/** As many characters of base64, a multiple of four. */
export const ciphertextOf = (/** @type {number} */ characters) => randomBytes((characters / 4) * 3).toString('base64');
const CARD = ciphertextOf(400);

export const messagesIn = (/** @type {string} */ answer) => answer.split('"type":"message"').length - 1;
export const cursorOf = (/** @type {string} */ answer) => Number(/"cursor":(\d+)/.exec(answer)?.[1]);

/**
 * Opens a channel with so many participants; all of them have fetched what there is.
 *
 * @param {(request: Request) => Promise<string>} asks
 * @param {number} size
 * @returns {Promise<Channel>}
 */
export async function open(asks, size) {
  const access = hash('access', hex(32));
  const room = `/channels/${hash('channel', access).slice(0, 32)}`;
  await asks({ method: 'PUT', path: room, token: access });
  const members = Array.from({ length: size }, () => ({ id: hex(16), token: hex(32), cursor: size }));
  for (const { id, token } of members) {
    const body = `{"participant_id":"${id}","token":"${token}","card":{${sealed(CARD)}}}`;
    await asks({ path: `${room}/join`, token: access, body });
  }
  for (const member of members) await asks(pollOf(room, member, 0));
  return { room, members };
}

/** @param {string} room @param {Member} member @param {string} ciphertext @returns {Request} */
export const sendOf = (room, { id, token }, ciphertext) => ({
  path: `${room}/send`,
  token,
  body: `{"participant_id":"${id}","to":"*",${sealed(ciphertext)}}`,
});

/** @param {string} room @param {Member} member @param {number} seconds @returns {Request} */
export const pollOf = (room, { id, token, cursor }, seconds) => ({
  method: 'GET',
  path: `${room}/poll?participant_id=${id}&since=${cursor}&wait=${seconds}`,
  token,
});

/** All leave. @param {(request: Request) => Promise<string>} asks @param {Channel} channel */
export async function close(asks, { room, members }) {
  for (const { id, token } of members) {
    await asks({ path: `${room}/leave`, token, body: `{"participant_id":"${id}"}` });
  }
}

/**
 * Polls, again and again, from the first moment on.
 *
 * @param {Connection} connection
 * @param {string} room
 * @param {Member} member
 * @param {(messages: number) => boolean} hear gets how many came, and says whether to go on
 */
export function listen(connection, room, member, hear) {
  const next = () =>
    connection.ask(pollOf(room, member, 50), (answer) => {
      member.cursor = cursorOf(answer);
      if (hear(messagesIn(answer))) next();
    });
  next();
}

export const sleep = (/** @type {number} */ seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
