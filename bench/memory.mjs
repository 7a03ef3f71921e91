/** What things take in the bridge's memory: by how much its resident size grows, without garbage, for very many of them. */
import { figuresOf } from './measure.mjs';
import { COLLECTING, memoryOf, startCollectingBridge, startCrowd, startBaseline } from './servers.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */

/** @param {{rounds: number, count: number, messages: number}} extent @returns {Promise<Figure[]>} */
async function memory({ rounds, count, messages }) {
  /** @type {Record<'empty' | 'channel' | 'poll' | 'message' | 'emptyBaseline' | 'pollBaseline', number[]>} */
  const samples = { empty: [], channel: [], poll: [], message: [], emptyBaseline: [], pollBaseline: [] };
  for (let round = 0; round < rounds; round++) {
    const bridge = await startCollectingBridge();
    const crowd = startCrowd(bridge.url);
    samples.empty.push(await memoryOf(bridge));
    samples.channel.push(await growth(bridge, crowd, 'open', count));
    samples.poll.push(await growth(bridge, crowd, 'wait', count));
    await crowd.ask('goAway');
    samples.message.push(await growth(bridge, crowd, 'hold', messages));
    await crowd.stop();
    await bridge.stop();

    const baseline = await startBaseline(...COLLECTING);
    const others = startCrowd(baseline.url);
    samples.emptyBaseline.push(await memoryOf(baseline));
    samples.pollBaseline.push(await growth(baseline, others, 'hang', count));
    await others.stop();
    await baseline.stop();
  }
  const how = 'resident size after a full garbage collection';
  const figure = (
    /** @type {string} */ name,
    /** @type {string} */ workload,
    /** @type {number[]} */ ours,
    /** @type {number[] | undefined} */ baseline = undefined,
  ) => ({
    ...{ name, workload: `${workload}; ${how}`, unit: /** @type {const} */ ('B'), ours: { samples: ours } },
    ...(baseline && { baseline: { name: 'bare node:http', samples: baseline } }),
  });
  return [
    figure('empty', 'a bridge that has just started', samples.empty, samples.emptyBaseline),
    figure('idle channel', `${count} more channels of two, nobody connected`, samples.channel),
    figure(
      'waiting poll',
      `${count} polls more, connection included; baseline: requests that are not answered`,
      samples.poll,
      samples.pollBaseline,
    ),
    figure(
      'held message',
      `${messages} messages of 1 KB that nobody fetches, in ${count * 1.25} channels`,
      samples.message,
    ),
  ];
}

/**
 * How many bytes each of so many takes. Some come before: they fill what the process has already.
 *
 * @param {import('./servers.mjs').Server} server
 * @param {ReturnType<typeof startCrowd>} crowd
 * @param {string} name of idle-load.mjs's commands
 * @param {number} count
 */
async function growth(server, crowd, name, count) {
  await crowd.ask(name, { count: count / 4 });
  const before = await memoryOf(server);
  await crowd.ask(name, { count });
  return ((await memoryOf(server)) - before) / count;
}

/** @param {{isQuick: boolean}} options */
export const memoryFigures = ({ isQuick }) =>
  figuresOf({
    memory: () =>
      memory({ rounds: isQuick ? 1 : 3, count: isQuick ? 2000 : 8000, messages: isQuick ? 20_000 : 100_000 }),
  });
