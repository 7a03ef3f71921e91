/** One bridge with more and more waiting polls: its memory, and how long a message takes to any one of them. */
import { run, BASH } from '../scripts/child-processes.mjs';
import { figuresOf, missing, interleave } from './measure.mjs';
import { memoryOf, startCollectingBridge, startCrowd } from './servers.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */

const LEAST = 1000;
/** What the bridge and its clients have open in addition to the polls. */
const OTHER_FILES = 200;

/** @param {{levels: number[], rounds: number, seconds: number}} extent @returns {Promise<Figure[]>} */
async function polls({ levels, rounds, seconds }) {
  const limit = Number((await run(BASH, ['-c', 'ulimit -Hn'])).stdout) || Infinity;
  const possible = levels.filter((level) => level + OTHER_FILES <= limit);
  const few = await enter();
  const many = await enter();
  await few.grow(LEAST);
  /** @type {Figure[]} */
  const figures = [];
  for (const level of possible) {
    await many.grow(level);
    const resident = await memoryOf(many.bridge);
    const pace = async (/** @type {typeof few} */ { crowd }) => {
      const { p50, p99, missing: late } = await crowd.ask('pace', { rate: 200, seconds });
      if (late > 0) throw new Error(`${late} messages did not arrive`);
      return { p50, p99 };
    };
    /** @type {Record<'few' | 'many', {p50: number, p99: number}[]>} */
    const times = { few: [], many: [] };
    const timed = async (/** @type {'few' | 'many'} */ name) => {
      const told = await pace(name === 'few' ? few : many);
      times[name].push(told);
      return told.p50;
    };
    await interleave(rounds, { many: () => timed('many'), few: () => timed('few') }, { isLong: true });
    const polling = `${level} polls waiting, two in each channel; the bridge's resident size after a full garbage collection`;
    const sending = '200 messages of 1 KB each second, each to any of them, from when it was due to its delivery';
    figures.push(
      {
        name: `${level}: memory`,
        workload: polling,
        unit: 'B',
        ours: { samples: [resident] },
        target: { value: 500e6 },
      },
      .../** @type {const} */ (['p50', 'p99']).map((q) => ({
        name: `${level}: ${q}`,
        workload: `${sending}; baseline: the same with ${LEAST} polls, in turns`,
        unit: /** @type {const} */ ('ms'),
        ours: { samples: times.many.map((told) => told[q]) },
        baseline: { name: `${LEAST} polls`, samples: times.few.map((told) => told[q]) },
        ...(q === 'p50' && { target: { ratio: 2 } }),
      })),
    );
  }
  for (const { crowd, bridge } of [few, many]) {
    await crowd.stop();
    await bridge.stop();
  }
  const more = levels.filter((level) => !possible.includes(level));
  return [...figures, ...more.map((level) => missing(`${level}`, `a process may have ${limit} open files here`))];
}

/** A bridge, and those who poll it. */
async function enter() {
  const bridge = await startCollectingBridge();
  const crowd = startCrowd(bridge.url);
  let polls = 0;
  const grow = async (/** @type {number} */ level) => {
    await crowd.ask('open', { count: (level - polls) / 2 });
    await crowd.ask('wait', { count: level - polls });
    polls = level;
  };
  return { bridge, crowd, grow };
}

/** @param {{isQuick: boolean}} options */
export const pollFigures = ({ isQuick }) =>
  figuresOf({
    polls: () =>
      polls({
        levels: isQuick ? [1000, 5000] : [1000, 5000, 10_000, 19_000],
        rounds: isQuick ? 1 : 5,
        seconds: isQuick ? 1 : 3,
      }),
  });
