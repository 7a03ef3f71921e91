/** How long a message is on its way, at a tenth, half and nine tenths of what the bridge can carry. */
import { figuresOf, median, interleave } from './measure.mjs';
import { CHARACTERS, load, rateOf, withServers } from './servers.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */

const CHANNELS = 32;
const LEVELS = [10, 50, 90];
const QUANTILES = /** @type {const} */ ({ p50: 'p50', p99: 'p99', p999: 'p99.9' });

/** @param {{rounds: number, seconds: number}} extent @returns {Promise<Figure[]>} */
async function latency({ rounds, seconds }) {
  return withServers(async (bridge, baseline) => {
    const job = { connections: CHANNELS, characters: CHARACTERS, seconds };
    const most = await interleave(rounds, {
      bridge: () => rateOf(load(bridge, { ...job, work: 'fanout', listeners: 1 })),
      baseline: () => rateOf(load(baseline, { ...job, work: 'send', path: '/send' })),
    });

    /** What each run said, by contender. @type {Record<string, Awaited<ReturnType<typeof load>>[]>} */
    const runs = { baseline: [] };
    const pace = async (/** @type {string} */ name, /** @type {() => ReturnType<typeof load>} */ start) => {
      const result = await start();
      (runs[name] ??= []).push(result);
      return { sample: result.p50, cpuMs: result.cpuMs };
    };
    const share = (/** @type {import('./measure.mjs').Measured} */ { samples }, /** @type {number} */ percent) =>
      (median(samples) * percent) / 100;
    const paced = { ...job, work: /** @type {const} */ ('pace') };
    const levels = LEVELS.map((percent) => [
      percent,
      () => pace(`${percent}`, () => load(bridge, { ...paced, rate: share(most.bridge, percent) })),
    ]);
    const halfBaseline = () => load(baseline, { ...paced, path: '/send', rate: share(most.baseline, 50) });
    const contenders = { baseline: () => pace('baseline', halfBaseline), ...Object.fromEntries(levels) };
    await interleave(rounds, contenders, { isLong: true });

    const samples = (/** @type {string} */ name, /** @type {keyof typeof QUANTILES} */ q) => ({
      samples: (runs[name] ?? []).map((result) => result[q]),
    });
    const spread = `${CHANNELS} channels of two, one sends 1 KB and the other has a poll waiting`;
    return [
      {
        name: 'most',
        workload: `${spread}, the next when it is delivered; baseline: answers to the same POSTs`,
        unit: '/s',
        ours: most.bridge,
        baseline: { name: 'bare node:http', ...most.baseline },
      },
      ...LEVELS.flatMap((percent) =>
        Object.entries(QUANTILES).map(([q, name]) => {
          const key = /** @type {keyof typeof QUANTILES} */ (q);
          const told = runs[`${percent}`] ?? [];
          const late = told.reduce((sum, { missing }) => sum + missing, 0);
          return {
            name: `${name} at ${percent} %`,
            workload: `${spread}, at even intervals, from when it was due to its delivery; baseline: POST to answer at half of the most`,
            unit: /** @type {const} */ ('ms'),
            ours: samples(`${percent}`, key),
            baseline: { name: 'bare node:http', ...samples('baseline', key) },
            ...(name === 'p99' && percent === 50 && { target: { ratio: 5 } }),
            note:
              `${Math.round(share(most.bridge, percent))} messages/s, ${told[0]?.messages ?? 0} in each of ${rounds} rounds` +
              (late > 0 ? `; ${late} did not arrive within 10 s` : ''),
          };
        }),
      ),
    ];
  });
}

/** @param {{isQuick: boolean}} options */
export const latencyFigures = ({ isQuick }) =>
  figuresOf({ latency: () => latency({ rounds: isQuick ? 1 : 5, seconds: isQuick ? 1 : 3 }) });
