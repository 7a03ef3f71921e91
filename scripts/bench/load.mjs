/**
 * The load generator, a process of its own: `node load.mjs JSON` prints what it counted, as JSON.
 *
 * send, get and fanout go as fast as the answers come; pace keeps to a rate, whatever the answers do.
 */
import { Connection, ciphertextOf, cursorOf, hex, leaveOf, open, pollOf, sendOf, sleep } from './connection.mjs';
import { quantile } from './measure.mjs';

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

const times = (/** @type {number} */ count, /** @type {() => any} */ make) => Array.from({ length: count }, make);

/** One of two in a channel of its own; or, with `path`, nobody special. */
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
  const leave = () => (path === '' ? leaveAll(connection, room, members) : undefined);
  return { room, other, send, leave };
}

/** @param {Connection} connection @param {string} room @param {import('./connection.mjs').Member[]} members */
async function leaveAll(connection, room, members) {
  for (const member of members) await connection.asks(leaveOf(room, member));
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
        listen(room, member, () => {
          const goesOn = tell(1);
          step();
          return goesOn;
        });
      }
      step();
    }),
    async () => {
      for (const listener of listeners) listener.end();
      await Promise.all(channels.map(({ room, members }) => leaveAll(new Connection(url), room, members)));
    },
  );
}

/**
 * Polls, again and again.
 *
 * @param {string} room
 * @param {import('./connection.mjs').Member} member
 * @param {(messages: number) => boolean} hear gets how many came, and says whether to go on
 */
function listen(room, member, hear) {
  const listener = new Connection(url);
  listeners.push(listener);
  const next = () =>
    listener.ask(pollOf(room, member, 20), (answer) => {
      const before = member.cursor;
      member.cursor = cursorOf(answer);
      if (hear(member.cursor - before)) next();
    });
  next();
}

/**
 * Sends at even intervals, the connections in turn, and says how long it took to the delivery. What can't go out yet,
 * because its connection still waits for an answer, waits here, and its time counts from when it was due: a bridge that
 * falls behind can't hide it by slowing down whoever measures.
 */
async function pace() {
  const lanes = await Promise.all(times(connections, enter));
  const begun = performance.now() + 100;
  const warm = begun + (seconds * 1000) / 5;
  const end = warm + seconds * 1000;
  /** @type {number[]} */
  const taken = [];
  let missing = 0;
  const speakers = lanes.map(({ room, other, send }) => {
    /** When the messages were due that have not gone out. @type {number[]} */
    const waiting = [];
    /** When those were due that have not arrived. @type {number[]} */
    const flying = [];
    let isAsking = false;
    const arrive = (/** @type {number} */ messages) => {
      for (const due of flying.splice(0, messages)) {
        if (due >= warm) taken.push(performance.now() - due);
        missing--;
      }
      return true;
    };
    const speak = () => {
      const due = waiting.shift();
      isAsking = due !== undefined;
      if (due === undefined) return;
      flying.push(due);
      send(() => {
        if (!other) arrive(1);
        speak();
      });
    };
    if (other) listen(room, other, arrive);
    return (/** @type {number} */ due) => {
      missing++;
      waiting.push(due);
      if (!isAsking) speak();
    };
  });
  let sent = 0;
  const dueAt = () => begun + (sent * 1000) / rate;
  await /** @type {Promise<void>} */ (
    new Promise((resolve) => {
      // Timers are too coarse for intervals of less than a millisecond, so this takes a whole core.
      const tick = () => {
        for (const now = performance.now(); dueAt() <= now && dueAt() < end; sent++) {
          speakers[sent % speakers.length]?.(dueAt());
        }
        if (dueAt() < end) setImmediate(tick);
        else resolve();
      };
      tick();
    })
  );
  for (const patience = end + 10_000; missing > 0 && performance.now() < patience;) await sleep(0.01);
  const [p50, p99, p999] = [0.5, 0.99, 0.999].map((q) => quantile(taken, q));
  for (const listener of listeners) listener.end();
  if (missing === 0) await Promise.all(lanes.map(({ leave }) => leave()));
  return { p50, p99, p999, messages: taken.length, missing, done: sent };
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
