/**
 * The load generator, a separate process: `node load.mjs JSON` prints what it counted, as JSON.
 *
 * send, get and fanout go as fast as the answers come; pace keeps to a rate, whatever the answers do.
 */
import { Connection, ciphertextOf, close, hex, listen, open, sendOf, sleep } from './connection.mjs';
import { Trip } from './open-loop-latency.mjs';

/**
 * @typedef {{
 *   url: string,
 *   work: 'send' | 'get' | 'fanout' | 'pace',
 *   seconds: number,
 *   connections: number,
 *   characters: number,
 *   path?: string,
 *   listeners?: number,
 *   rate?: number,
 * }} Job
 *   with `path`, what is sent goes there, and to no channel
 */
/** @type {Job} */
const job = JSON.parse(process.argv[2] ?? '{}');
const { url, work, seconds, connections, characters, path = '', listeners: size = 1, rate = 1 } = job;
const CIPHERTEXT = ciphertextOf(characters);
let isOver = false;
/** @type {Connection[]} */
const listeners = [];
const listener = () => {
  const connection = new Connection(url);
  listeners.push(connection);
  return connection;
};

const times = (/** @type {number} */ count, /** @type {() => any} */ make) => Array.from({ length: count }, make);

/** One of two in a separate channel; or, with `path`, nobody special. */
async function enter() {
  const connection = new Connection(url);
  const { room, members } =
    path === '' ? await open(connection.asks, 2) : { room: '', members: [{ id: hex(16), token: hex(32), cursor: 0 }] };
  const [self, other] = members;
  if (!self) throw new Error('nobody has joined');
  const send = (/** @type {(answer: string) => void} */ done) => {
    const request = sendOf(room, self, CIPHERTEXT);
    connection.ask(path === '' ? request : { ...request, path }, done);
  };
  const leave = () => (path === '' ? close(connection.asks, { room, members }) : undefined);
  return { room, other, send, leave };
}

/** Each connection sends as fast as the answers come. */
async function send() {
  const all = await Promise.all(times(connections, enter));
  return count(
    all.map(({ send }) => (tell) => {
      const next = () => send(() => tell(1) && next());
      next();
    }),
    () => Promise.all(all.map(({ leave }) => leave())),
  );
}

/** Each connection fetches the same bytes again and again. */
async function get() {
  return count(
    times(connections, () => (/** @type {(done: number) => boolean} */ tell) => {
      const connection = new Connection(url);
      const next = () => connection.ask({ method: 'GET', path }, () => tell(1) && next());
      next();
    }),
  );
}

/** Channels of one that sends and some that listen; the next message goes out when all have the last one. */
async function fanout() {
  const rooms = Math.max(1, Math.round(connections / size));
  const channels = await Promise.all(times(rooms, () => open(new Connection(url).asks, size + 1)));
  return count(
    channels.map(({ room, members: [sender, ...others] }) => (tell) => {
      const connection = new Connection(url);
      let missing = 0;
      const step = () => {
        if (--missing >= 0 || isOver) return;
        missing = others.length;
        connection.ask(sendOf(room, sender, CIPHERTEXT), step);
      };
      for (const member of others) {
        listen(listener(), room, member, () => {
          const goesOn = tell(1);
          step();
          return goesOn;
        });
      }
      step();
    }),
    async () => {
      for (const listener of listeners) listener.end();
      await Promise.all(channels.map((channel) => close(new Connection(url).asks, channel)));
    },
  );
}

/** One of each two sends at a rate that is kept, the connections in turn. Times are from when a message was due. */
async function pace() {
  const lanes = await Promise.all(times(connections, enter));
  const trip = new Trip(seconds, rate);
  const speakers = lanes.map(({ room, other, send }) => {
    const lane = trip.lane();
    if (other) listen(listener(), room, other, (messages) => lane.arrive(messages));
    return (/** @type {number} */ due) => {
      lane.leave(due);
      send(() => other || lane.arrive(1));
    };
  });
  let turn = 0;
  const result = await trip.run((due) => speakers[turn++ % speakers.length]?.(due));
  for (const connection of listeners) connection.end();
  if (result.missing === 0) await Promise.all(lanes.map(({ leave }) => leave()));
  return result;
}

/**
 * Runs all, lets them warm up for a fifth of the time, then counts. `done` is all, the warming up included.
 *
 * @param {((tell: (done: number) => boolean) => void)[]} all each tells what it has done, and hears whether to go on
 */
async function count(all, /** @type {() => unknown} */ finish = () => {}) {
  let done = 0;
  for (const one of all) one((more) => ((done += more), !isOver));
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

console.log(JSON.stringify(await { send, get, fanout, pace }[work]()));
process.exit(0);
