/** What operators pay for: the bridge beside a bare node:http server on the same work, each in a process of its own. */
import { get } from 'node:http';
import { fileURLToPath } from 'node:url';
import { run, startBridge, startServer } from '../processes.mjs';
import { cpuMsOfRunning, median, takeTurns } from './measure.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */

const program = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));

/** A text of 1 KB with its frame, sealed, in base64. */
const CHARACTERS = 1808;
const SEND_CONNECTIONS = 32;
const LISTENERS = [2, 5, 20];
const LISTENING_CONNECTIONS = 40;

/** @typedef {Awaited<ReturnType<typeof startServer>>} Server */

/** Starts both servers and hands them to `work`. @template T @param {(bridge: Server, floor: Server) => Promise<T>} work */
async function withServers(work) {
  const [bridge, floor] = await Promise.all([startBridge(), startServer([program('floor.mjs')])]);
  try {
    return await work(bridge, floor);
  } finally {
    await Promise.all([bridge.stop(), floor.stop()]);
  }
}

/**
 * Lets the load generator loose on a server.
 *
 * @param {Server} server
 * @param {Record<string, unknown>} job of load.mjs
 * @returns {Promise<{sample: number, cpuMs: number, busy: number}>} how many for each second, the server's CPU time for
 *   each, and how much of a core the generator used
 */
async function load({ url, pid }, job) {
  const before = cpuMsOfRunning(pid);
  const { status, stdout, stderr } = await run(process.execPath, [
    program('load.mjs'),
    JSON.stringify({ url, ...job }),
  ]);
  if (status !== 0) throw new Error(`the load generator failed: ${stderr}`);
  const { rate, done, busy } = JSON.parse(stdout);
  return { sample: rate, cpuMs: (cpuMsOfRunning(pid) - before) / done, busy };
}

/** @param {{rounds: number, seconds: number}} extent @returns {Promise<Figure>} */
async function sendRate({ rounds, seconds }) {
  return withServers(async (bridge, floor) => {
    /** @type {number[]} */
    const busy = [];
    const send = async (/** @type {Server} */ server, path = '') => {
      const job = { work: 'send', path, seconds, connections: SEND_CONNECTIONS, characters: CHARACTERS };
      const result = await load(server, job);
      busy.push(result.busy);
      return result;
    };
    const samples = await takeTurns(rounds, { bridge: () => send(bridge), floor: () => send(floor, '/send') });
    return {
      name: 'send',
      workload: `${SEND_CONNECTIONS} connections, each in a channel of two, 1 KB of text sealed to ${CHARACTERS} characters`,
      unit: '/s',
      ours: samples.bridge,
      beside: { name: 'bare node:http', ...samples.floor },
      goal: { ratio: 0.7 },
      note: `the load generator used ${Math.round(median(busy) * 100)} % of a core`,
    };
  });
}

/** @param {{rounds: number, seconds: number}} extent @returns {Promise<Figure[]>} */
async function fanOut({ rounds, seconds }) {
  return withServers(async (bridge, floor) => {
    const job = { seconds, connections: LISTENING_CONNECTIONS, characters: CHARACTERS };
    // What an event of that size is as the JSON answer to a poll.
    const answer = () => load(floor, { ...job, work: 'get', path: `/bytes/${CHARACTERS + 330}` });
    const deliver = (/** @type {number} */ listeners) => load(bridge, { ...job, work: 'fanout', listeners });
    const rooms = LISTENERS.map((listeners) => [listeners, () => deliver(listeners)]);
    /** @type {Record<string | number, import('./measure.mjs').Measured>} */
    const samples = await takeTurns(rounds, { answer, ...Object.fromEntries(rooms) });
    return LISTENERS.map((listeners) => ({
      name: `deliver to ${listeners}`,
      workload:
        `${Math.round(LISTENING_CONNECTIONS / listeners)} rooms of ${listeners} listeners, long polls, 1 KB messages, ` +
        `the next when all have it; sends not counted; beside: answers to GETs on ${LISTENING_CONNECTIONS} connections, same bytes`,
      unit: '/s',
      ours: samples[listeners] ?? { samples: [] },
      beside: { name: 'bare node:http', ...(samples['answer'] ?? { samples: [] }) },
    }));
  });
}

const answers = (/** @type {string} */ url) =>
  new Promise((resolve, reject) =>
    get(url, { agent: false }, (response) => response.resume().on('end', resolve)).on('error', reject),
  );

/** @param {{rounds: number}} extent @returns {Promise<Figure>} */
async function startTime({ rounds }) {
  const empty = `const server = require('node:http').createServer((request, response) => response.end('ok\\n'));
    server.listen(0, '127.0.0.1', () => console.log('listening on http://127.0.0.1:' + server.address().port));`;
  /** From before the process is there to its first answer. */
  const time = async (/** @type {() => ReturnType<typeof startServer>} */ startIt) => {
    const begun = performance.now();
    const server = await startIt();
    await answers(`${server.url}/health`);
    const elapsed = performance.now() - begun;
    await server.stop();
    return elapsed;
  };
  const samples = await takeTurns(rounds, {
    bridge: () => time(() => startBridge()),
    floor: () => time(() => startServer(['-e', empty])),
  });
  return {
    name: 'start',
    workload: 'from the start of the process to its first answer',
    unit: 'ms',
    ours: samples.bridge,
    beside: { name: 'empty node:http', ...samples.floor },
  };
}

/** @param {{isQuick: boolean}} options @returns {AsyncGenerator<Figure>} */
export async function* bridgeFigures({ isQuick }) {
  yield sendRate({ rounds: isQuick ? 2 : 5, seconds: isQuick ? 1 : 1.5 });
  yield* await fanOut({ rounds: isQuick ? 1 : 3, seconds: isQuick ? 1 : 1.5 });
  yield startTime({ rounds: isQuick ? 3 : 9 });
}
