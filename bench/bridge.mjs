/** What operators pay for: the bridge compared with a bare node:http server on the same work, each in a separate process. */
import { get } from 'node:http';
import { startBridge, startServer } from '../scripts/child-processes.mjs';
import { figuresOf, median, interleave } from './measure.mjs';
import { CHARACTERS, load, rateOf, withServers } from './servers.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */
/** @typedef {import('./servers.mjs').Server} Server */

const SEND_CONNECTIONS = 32;
const LISTENERS = [2, 5, 20, 100];
const LISTENING_CONNECTIONS = 40;
/**
 * By listeners. A delivery to two takes a poll and half of a send, so three bare requests for two deliveries would give 0.67.
 * @type {Readonly<Record<number, number>>}
 */
const DELIVERY_TARGETS = { 2: 0.63, 20: 0.6 };

/** @param {{rounds: number, seconds: number}} extent @returns {Promise<Figure>} */
async function sendRate({ rounds, seconds }) {
  return withServers(async (bridge, baseline) => {
    /** @type {number[]} */
    const generator = [];
    const send = async (/** @type {Server} */ server, path = '') => {
      const job = { path, seconds, connections: SEND_CONNECTIONS, characters: CHARACTERS };
      const { rate, cpuMs, busy } = await load(server, { work: 'send', ...job });
      generator.push(busy);
      return { sample: rate, cpuMs };
    };
    const samples = await interleave(rounds, { bridge: () => send(bridge), baseline: () => send(baseline, '/send') });
    return {
      name: 'send',
      workload: `${SEND_CONNECTIONS} connections, each in a channel of two, 1 KB of text sealed to ${CHARACTERS} characters`,
      unit: '/s',
      ours: samples.bridge,
      baseline: { name: 'bare node:http', ...samples.baseline },
      target: { ratio: 0.95 },
      note: `the load generator used ${Math.round(median(generator) * 100)} % of a core; unlike the baseline we hash the token, check the base64 and keep each message, in memory that is used for the first time`,
    };
  });
}

/** @param {{rounds: number, seconds: number}} extent @returns {Promise<Figure[]>} */
async function fanOut({ rounds, seconds }) {
  const most = Math.max(...LISTENERS) + 1;
  return withServers(
    async (bridge, baseline) => {
      const job = { seconds, connections: LISTENING_CONNECTIONS, characters: CHARACTERS };
      const answer = () => load(baseline, { ...job, work: 'get', path: `/${CHARACTERS}` });
      const deliver = (/** @type {number} */ listeners) => load(bridge, { ...job, work: 'fanout', listeners });
      const rooms = LISTENERS.map((listeners) => [listeners, () => rateOf(deliver(listeners))]);
      /** @type {Record<string | number, import('./measure.mjs').Measured>} */
      const samples = await interleave(rounds, { answer: () => rateOf(answer()), ...Object.fromEntries(rooms) });
      return LISTENERS.map((listeners) => ({
        name: `deliver to ${listeners}`,
        workload:
          `${Math.max(1, Math.round(LISTENING_CONNECTIONS / listeners))} x ${listeners} listeners, long polls, 1 KB ` +
          `messages, the next when all have it; sends not counted; baseline: GETs on ${LISTENING_CONNECTIONS} ` +
          'connections, the same JSON',
        unit: '/s',
        ours: samples[listeners] ?? { samples: [] },
        baseline: { name: 'bare node:http', ...(samples['answer'] ?? { samples: [] }) },
        ...(DELIVERY_TARGETS[listeners] !== undefined && { target: { ratio: DELIVERY_TARGETS[listeners] } }),
        ...(listeners === 2 && { note: 'here each two deliveries take a send and two polls: three requests' }),
      }));
    },
    ...['--max-participants', String(most)],
  );
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
  const samples = await interleave(rounds, {
    bridge: () => time(() => startBridge()),
    baseline: () => time(() => startServer(['-e', empty])),
  });
  return {
    name: 'start',
    workload: 'from the start of the process to its first answer',
    unit: 'ms',
    ours: samples.bridge,
    baseline: { name: 'empty node:http', ...samples.baseline },
    target: { ratio: 1.5 },
  };
}

/** @param {{isQuick: boolean}} options */
export const bridgeFigures = ({ isQuick }) =>
  figuresOf({
    send: () => sendRate({ rounds: isQuick ? 2 : 5, seconds: isQuick ? 1 : 1.5 }),
    deliver: () => fanOut({ rounds: isQuick ? 1 : 5, seconds: isQuick ? 1 : 1.5 }),
    start: () => startTime({ rounds: isQuick ? 3 : 9 }),
  });
