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

/** A connection kept alive, with one request on its way at a time. */
export class Connection {
  #socket;
  #host;
  /** @type {Buffer} */
  #input = Buffer.alloc(0);
  /** @type {(answer: string) => void} */
  #done = () => {};

  constructor(/** @type {string} */ url) {
    const { hostname, port, host } = new URL(url);
    this.#host = host;
    this.#socket = connect(Number(port), hostname).setNoDelay();
    this.#socket.on('data', (chunk) => this.#take(chunk));
    this.#socket.on('error', (error) => fail(error.message));
    this.#socket.on('close', () => fail('a connection was closed'));
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

  /** Goes without a word, as one does in the middle of a poll. */
  end() {
    this.#socket.removeAllListeners('close').destroy();
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
    this.#done(body);
  }
}

/** @param {string} why @returns {never} */
function fail(why) {
  console.error(why);
  process.exit(1);
}

export const hex = (/** @type {number} */ bytes) => randomBytes(bytes).toString('hex');
const hash = (/** @type {string} */ label, /** @type {string} */ text) =>
  createHash('sha256').update(`agentalk/1 ${label} ${text}`).digest('hex');

let nonces = 0;
/** Sealed, as far as a bridge can tell: each with a nonce of its own. */
const sealed = (/** @type {string} */ ciphertext) =>
  `"nonce":"${(++nonces).toString(16).padStart(24, '0')}","ciphertext":"${ciphertext}","tag":"${'0'.repeat(32)}"`;
/** As many characters of base64, a multiple of four. */
export const ciphertextOf = (/** @type {number} */ characters) => randomBytes((characters / 4) * 3).toString('base64');
const CARD = ciphertextOf(400);

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

/** @param {string} room @param {Member} member @returns {Request} */
export const leaveOf = (room, { id, token }) => ({ path: `${room}/leave`, token, body: `{"participant_id":"${id}"}` });

export const sleep = (/** @type {number} */ seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
