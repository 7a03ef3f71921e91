/** What a send costs when there are very many channels: it must not depend on them. */
import { freemem } from 'node:os';
import { startBridge } from '../scripts/child-processes.mjs';
import { sleep } from './connection.mjs';
import { cpuMsOfRunning, figuresOf, missing, interleave } from './measure.mjs';
import { startCrowd } from './servers.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */

const CONNECTIONS = 10;
/** In how many channels somebody talks, however many there are. */
const FEW = 10;
const IDLE_SECONDS = 5;
const BYTES_PER_CHANNEL = 20_000;

/** @param {{levels: number[], rounds: number, seconds: number}} extent @returns {Promise<Figure[]>} */
async function channels({ levels, rounds, seconds }) {
  const possible = levels.filter((level) => level * BYTES_PER_CHANNEL < freemem() / 2);
  const all = await Promise.all(
    possible.map(async (level) => {
      const bridge = await startBridge('--max-channels', '1000000', '--max-memory-bytes', '64g');
      const crowd = startCrowd(bridge.url);
      await crowd.ask('open', { count: level });
      return { level, bridge, crowd };
    }),
  );
  const send = async (/** @type {typeof all[0]} */ { bridge, crowd }, /** @type {number} */ among) => {
    const before = cpuMsOfRunning(bridge.pid);
    const { rate, done } = await crowd.ask('send', { seconds, connections: CONNECTIONS, among });
    const cpuMs = (cpuMsOfRunning(bridge.pid) - before) / done;
    await crowd.ask('fetch');
    return { sample: Number.isNaN(cpuMs) ? 1000 / rate : cpuMs, cpuMs };
  };
  const contenders = all.flatMap((one) => [
    [`${one.level} channels`, () => send(one, FEW)],
    ...(one.level > FEW ? [[`${one.level}, any of them`, () => send(one, one.level)]] : []),
  ]);
  await sleep(2); // garbage of all that opening
  const before = all.map(({ bridge }) => cpuMsOfRunning(bridge.pid));
  await sleep(IDLE_SECONDS);
  const idle = all.map(({ level, bridge }, i) => {
    const cpuMs = (cpuMsOfRunning(bridge.pid) - (before[i] ?? NaN)) / IDLE_SECONDS;
    return `${cpuMs.toFixed(0)} ms with ${level}`;
  });
  /** @type {Record<string, import('./measure.mjs').Measured>} */
  const measured = await interleave(rounds, Object.fromEntries(contenders));
  for (const { crowd, bridge } of all) {
    await crowd.stop();
    await bridge.stop();
  }
  const least = `${levels[0]} channels`;
  const figures = Object.entries(measured).map(([name, { samples }]) => ({
    name,
    workload:
      `the bridge's CPU time for a message of 1 KB, and for whatever it does each second; ${CONNECTIONS} connections, ` +
      (name.includes('any') ? 'each time to any of the channels of two' : `to ${FEW} of the channels of two`),
    unit: /** @type {const} */ ('ms'),
    ours: { samples },
    ...(name !== least && { baseline: { name: least, samples: measured[least]?.samples ?? [] } }),
    ...(name !== least && !name.includes('any') && { target: { ratio: 1.2 } }),
    note: `CPU in a second without messages: ${idle.join(', ')}`,
  }));
  const more = levels.filter((level) => !possible.includes(level));
  return [...figures, ...more.map((level) => missing(`${level} channels`, 'there is not enough free memory'))];
}

/** @param {{isQuick: boolean}} options */
export const channelFigures = ({ isQuick }) =>
  figuresOf({
    channels: () =>
      channels({
        levels: isQuick ? [10, 1000, 10_000] : [10, 1000, 100_000],
        rounds: isQuick ? 2 : 7,
        seconds: isQuick ? 1 : 2,
      }),
  });
