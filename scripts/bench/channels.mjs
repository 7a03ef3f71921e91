/** What a send costs when there are very many channels: it must not depend on them. */
import { freemem } from 'node:os';
import { startBridge } from '../processes.mjs';
import { cpuMsOfRunning, figuresOf, missing, takeTurns } from './measure.mjs';
import { startCrowd } from './servers.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */

const CONNECTIONS = 10;
const BYTES_PER_CHANNEL = 20_000;

/** @param {{levels: number[], rounds: number, seconds: number}} extent @returns {Promise<Figure[]>} */
async function channels({ levels, rounds, seconds }) {
  const possible = levels.filter((level) => level * BYTES_PER_CHANNEL < freemem() / 2);
  /** @type {Record<string, number[]>} */
  const rates = {};
  const all = await Promise.all(
    possible.map(async (level) => {
      const bridge = await startBridge('--max-channels', '1000000', '--max-total-bytes', '64g');
      const crowd = startCrowd(bridge.url);
      await crowd.ask('open', { count: level });
      return { level, bridge, crowd };
    }),
  );
  const contenders = all.map(({ level, bridge, crowd }) => {
    const send = async () => {
      const before = cpuMsOfRunning(bridge.pid);
      const { rate, done } = await crowd.ask('send', { seconds, connections: CONNECTIONS });
      const cpuMs = (cpuMsOfRunning(bridge.pid) - before) / done;
      await crowd.ask('fetch');
      (rates[level] ??= []).push(rate);
      return { sample: Number.isNaN(cpuMs) ? 1000 / rate : cpuMs, cpuMs };
    };
    return [`${level} channels`, send];
  });
  /** @type {Record<string, import('./measure.mjs').Measured>} */
  const measured = await takeTurns(rounds, Object.fromEntries(contenders));
  for (const { crowd, bridge } of all) {
    await crowd.stop();
    await bridge.stop();
  }
  const least = `${levels[0]} channels`;
  const figures = Object.entries(measured).map(([name, { samples }]) => ({
    name,
    workload: `the bridge's CPU time for a message of 1 KB; ${CONNECTIONS} connections, each time to any of the channels of two`,
    unit: /** @type {const} */ ('ms'),
    ours: { samples },
    ...(name !== least && {
      beside: { name: least, samples: measured[least]?.samples ?? [] },
      goal: { ratio: 1.5 },
    }),
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
