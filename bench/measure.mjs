/** How everything here is measured: contenders take turns, so that whatever else the machine does hits them alike. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { tidily } from '../scripts/child-processes.mjs';

/** @typedef {'ms' | '/s' | 'B' | 'characters' | 'connections'} Unit */

/**
 * What one contender did: milliseconds, bytes, or how many for each second; and the CPU time that one took on average,
 * in milliseconds, and how many processes, where that can be known. CPU time says something even on a busy machine.
 *
 * @typedef {{samples: number[], cpuMs?: number | undefined, processes?: number | undefined}} Measured
 */

/**
 * What was measured, on what work, and its baseline.
 *
 * @typedef {{
 *   name: string,
 *   workload: string,
 *   unit: Unit,
 *   ours: Measured,
 *   baseline?: Measured & {name: string},
 *   target?: {ratio?: number, value?: number},
 *   note?: string,
 *   missing?: string,
 * }} Figure `target` is the least for rates, else the most; of the ratio ours to baseline, or of ours. `missing` says why
 *   something could not be measured
 */

/** @param {readonly number[]} samples @param {number} q 0 to 1 */
export function quantile(samples, q) {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const [low = NaN, high = NaN] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return low + (high - low) * (at - Math.floor(at));
}

export const median = (/** @type {readonly number[]} */ samples) => quantile(samples, 0.5);

/**
 * The median of the ratios of the rounds, so that a machine that changes its speed meanwhile changes it for both; of the
 * medians where the two did not take turns.
 *
 * @param {Figure} figure
 */
export function ratioOf({ ours: { samples }, baseline }) {
  if (!baseline) return undefined;
  const others = baseline.samples;
  if (samples.length !== others.length) return median(samples) / median(others);
  return median(samples.map((sample, round) => sample / (others[round] ?? NaN)));
}

/**
 * The figures of one measurement after the other. One that fails becomes a row that says so, and the others go on.
 *
 * @param {Record<string, () => Promise<Figure | Figure[]>>} measurements by what they measure
 * @returns {AsyncGenerator<Figure>}
 */
export async function* figuresOf(measurements) {
  for (const [name, measure] of Object.entries(measurements)) {
    try {
      yield* [await tidily(measure)].flat();
    } catch (error) {
      yield missing(name, error);
    }
  }
}

/** @param {string} name @param {unknown} error @returns {Figure} */
export function missing(name, error) {
  const [why = ''] = String(error instanceof Error ? error.message : error).split('\n');
  return { name, workload: '', unit: 'ms', ours: { samples: [] }, missing: why.slice(0, 200) };
}

/**
 * One round unmeasured, to warm up, unless it is long enough to need none; then each contender once in each round, in
 * turn first and last.
 *
 * @template {string} Name
 * @param {number} rounds
 * @param {Record<Name, () => Promise<number | {sample: number, cpuMs: number | undefined}>>} contenders each returns its
 *   sample; the CPU time is that of the processes that have ended meanwhile, if it does not say
 * @returns {Promise<Record<Name, Measured>>}
 */
export async function interleave(rounds, contenders, { isLong = false } = {}) {
  const names = /** @type {Name[]} */ (Object.keys(contenders));
  const all = new Map(names.map((name) => [name, { samples: /** @type {number[]} */ ([]), cpuMs: 0 }]));
  for (const name of isLong ? [] : names) await contenders[name]();
  for (let round = 0; round < rounds; round++) {
    for (const [name, measured] of round % 2 === 0 ? all : [...all].reverse()) {
      const before = cpuMsOfEnded();
      const result = await contenders[name]();
      const { sample, cpuMs } =
        typeof result === 'number' ? { sample: result, cpuMs: cpuMsOfEnded() - before } : result;
      measured.samples.push(sample);
      measured.cpuMs += (cpuMs ?? NaN) / rounds;
    }
  }
  return /** @type {Record<Name, Measured>} */ (Object.fromEntries(all));
}

/** What follows the name in /proc/PID/stat, where there is one. */
function columnsOf(/** @type {string} */ process) {
  try {
    const text = readFileSync(`/proc/${process}/stat`, 'latin1');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return [];
  }
}

/** The columns from `first` on are hundredths of a second, in user and in system mode. */
function cpuMsOf(/** @type {string} */ process, /** @type {number} */ first) {
  const columns = columnsOf(process);
  return (Number(columns[first]) + Number(columns[first + 1])) * 10;
}

/** All processes that this one has started and that have ended, with all that they had started. */
export const cpuMsOfEnded = () => cpuMsOf('self', 13);
export const cpuMsOfRunning = (/** @type {number} */ pid) => cpuMsOf(String(pid), 11);

/** All processes of a group, with those that they have started and that have ended. */
export function cpuMsOfGroup(/** @type {number | undefined} */ group) {
  if (!existsSync('/proc/self/stat')) return NaN;
  const members = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && columnsOf(name)[2] === String(group));
  return members.reduce((sum, pid) => sum + (cpuMsOf(pid, 11) + cpuMsOf(pid, 13) || 0), 0);
}

/** @param {() => unknown} condition */
export async function until(condition, seconds = 20) {
  const patience = Date.now() + seconds * 1000;
  while (!(await condition())) {
    if (Date.now() > patience) throw new Error(`waited ${seconds} s without success for: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
