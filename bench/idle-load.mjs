/**
 * Very many channels and waiting polls, held by a separate process: `node idle-load.mjs URL`. It does what each line on
 * standard input says, JSON with one of the names below, and answers with a line.
 */
import { createInterface } from 'node:readline';
import { Connection, ciphertextOf, listen, open, pollOf, sendOf, sleep } from './connection.mjs';
import { Trip } from './open-loop-latency.mjs';

/** @typedef {import('./connection.mjs').Channel} Channel */

const [, , url = ''] = process.argv;
const CIPHERTEXT = ciphertextOf(1808);
const AT_A_TIME = 32;

/** For all requests but polls. */
const senders = Array.from({ length: AT_A_TIME }, () => new Connection(url));
/** @type {Channel[]} */
const channels = [];
/** @type {{channel: Channel, place: number, lane?: ReturnType<Trip['lane']>}[]} */
const waiting = [];
/** @type {Connection[]} */
const listeners = [];
/** Where `send` has sent something: the last index. @type {Map<Channel, number>} */
const unread = new Map();

const any = (/** @type {readonly any[]} */ all) => all[Math.floor(Math.random() * all.length)];

/** Does something so many times, some at a time, each time with a connection that has nothing else to do. */
async function repeat(/** @type {number} */ count, /** @type {(connection: Connection) => Promise<unknown>} */ act) {
  let left = count;
  const one = async (/** @type {Connection} */ connection) => {
    while (left-- > 0) await act(connection);
  };
  await Promise.all(senders.map(one));
}

const COMMANDS = {
  /** Opens channels of two. */
  open: ({ count = 0 }) => repeat(count, async ({ asks }) => channels.push(await open(asks, 2))),

  /** Has so many more polls waiting; two in each channel. */
  async wait({ count = 0 }) {
    for (const all = waiting.length + count; waiting.length < all;) {
      const place = waiting.length % 2;
      const channel = channels[(waiting.length - place) / 2];
      const member = channel?.members[place];
      if (!channel || !member) throw new Error('too few channels');
      /** @type {typeof waiting[0]} */
      const one = { channel, place };
      waiting.push(one);
      const connection = new Connection(url);
      listeners.push(connection);
      listen(connection, channel.room, member, (messages) => one.lane?.arrive(messages) ?? true);
      if (waiting.length % 50 === 0) await sleep(0.005); // no more at once than a server's queue takes
    }
  },

  /** Polls of the baseline, which never answers. */
  async hang({ count = 0 }) {
    for (const all = listeners.length + count; listeners.length < all;) {
      const connection = new Connection(url);
      listeners.push(connection);
      connection.ask({ method: 'GET', path: '/wait' }, () => {});
      if (listeners.length % 50 === 0) await sleep(0.005);
    }
  },

  /** Nobody waits any more. */
  async goAway() {
    for (const connection of listeners.splice(0)) connection.end();
    waiting.length = 0;
  },

  /** Messages of 1 KB that nobody fetches, as many in each channel. */
  async hold({ count = 0 }) {
    let turn = 0;
    await repeat(count, async ({ asks }) => {
      const { room, members } = /** @type {Channel} */ (channels[turn++ % channels.length]);
      if (members[0]) await asks(sendOf(room, members[0], CIPHERTEXT));
    });
  },

  /** Messages of 1 KB at even intervals, each to anyone of those who wait. */
  async pace({ rate = 1, seconds = 1 }) {
    const trip = new Trip(seconds, rate);
    for (const one of waiting) one.lane = trip.lane();
    let turn = 0;
    return trip.run((due) => {
      const { channel, place, lane } = any(waiting);
      lane.leave(due);
      senders[turn++ % senders.length]?.ask(sendOf(channel.room, channel.members[1 - place], CIPHERTEXT), () => {});
    });
  },

  /** Sends 1 KB into any of the first so many channels, as fast as the answers come. */
  async send({ seconds = 1, connections = 1, among = channels.length }) {
    const begun = performance.now();
    const talking = channels.slice(0, among);
    let done = 0;
    const one = async (/** @type {Connection} */ { asks }) => {
      for (; performance.now() - begun < seconds * 1000; done++) {
        const channel = any(talking);
        const answer = await asks(sendOf(channel.room, channel.members[0], CIPHERTEXT));
        unread.set(channel, Math.max(unread.get(channel) ?? 0, Number(/"index":(\d+)/.exec(answer)?.[1])));
      }
    };
    await Promise.all(senders.slice(0, connections).map(one));
    return { rate: (done * 1000) / (performance.now() - begun), done };
  },

  /** The others fetch what was sent, or channels would be full at last. */
  async fetch() {
    const all = [...unread];
    unread.clear();
    await repeat(all.length, async ({ asks }) => {
      const [{ room, members }, cursor] = /** @type {[Channel, number]} */ (all.pop());
      if (members[1]) await asks(pollOf(room, { ...members[1], cursor }, 0));
    });
  },
};

for await (const line of createInterface(process.stdin)) {
  const { name, ...options } = JSON.parse(line);
  const act = /** @type {Record<string, (options: object) => Promise<any>>} */ (COMMANDS)[name];
  console.log(JSON.stringify((await act?.(options)) ?? {}));
}
process.exit(0);
