/** Figures as a table for the terminal. */
import { median, quantile, ratioOf } from './measure.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */

const digits = (/** @type {number} */ value) =>
  value >= 100 ? value.toFixed(0) : value.toPrecision(value < 10 ? 2 : 3);

/** @param {number} value @param {'ms' | '/s' | 'x'} unit */
function quantity(value, unit) {
  if (unit === 'x') return `${digits(value)}x`;
  if (value >= 10_000) return `${digits(value / 1000)}${unit === 'ms' ? ' s' : ' k/s'}`;
  if (unit === 'ms' && value < 1) return `${digits(value * 1000)} µs`;
  return `${digits(value)} ${unit}`;
}

/** The median, and the middle half of the samples. @param {readonly number[]} samples @param {'ms' | '/s'} unit */
function amount(samples, unit) {
  const [low, middle, high] = [0.25, 0.5, 0.75].map((q) => quantity(quantile(samples, q), unit));
  return `${middle} (${low?.replace(/ .*/, '')}…${high?.replace(/ .*/, '')})`;
}

/** CPU time: ours, and how many times that of the other. */
function cpu(/** @type {Figure} */ { ours: { cpuMs = NaN }, beside }) {
  if (Number.isNaN(cpuMs)) return '';
  return quantity(cpuMs, 'ms') + (beside?.cpuMs ? `, ${quantity(cpuMs / beside.cpuMs, 'x')}` : '');
}

/** @param {Figure} figure @returns {{text: string, isMet: boolean | undefined}} */
function judge({ goal, unit, ...figure }) {
  if (!goal) return { text: '', isMet: undefined };
  const value = goal.ratio === undefined ? median(figure.ours.samples) : (ratioOf({ unit, ...figure }) ?? NaN);
  const limit = goal.ratio ?? goal.value ?? NaN;
  const text = `${unit === 'ms' ? 'at most' : 'at least'} ${quantity(limit, goal.ratio === undefined ? unit : 'x')}`;
  return { text, isMet: unit === 'ms' ? value <= limit : value >= limit };
}

/** @param {string} title @param {readonly Figure[]} figures */
export function table(title, figures, isColoured = false) {
  const paint = (/** @type {string} */ text, /** @type {number} */ code) =>
    isColoured ? `\x1b[${code}m${text}\x1b[0m` : text;
  const rows = figures.map((figure) => {
    const { name, ours, beside, unit, workload, note } = figure;
    const ratio = ratioOf(figure);
    const { text, isMet } = judge(figure);
    return {
      cells: [
        name,
        amount(ours.samples, unit),
        beside ? `${beside.name} ${amount(beside.samples, unit)}` : '',
        ratio === undefined ? '' : quantity(ratio, 'x'),
        cpu(figure),
        text,
      ],
      verdict: isMet === undefined ? '' : isMet ? paint('met', 32) : paint('MISSED', 31),
      about: [workload, note].filter(Boolean).join('; '),
    };
  });
  const heads = [title, 'median (middle half)', 'beside', 'ratio', 'CPU, ratio', 'goal'];
  const widths = heads.map((head, i) => Math.max(head.length, ...rows.map(({ cells }) => cells[i]?.length ?? 0)));
  const line = (/** @type {string[]} */ cells) => cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ');
  return [
    paint(line(heads).trimEnd(), 1),
    ...rows.flatMap(({ cells, verdict, about }) => [`${line(cells)}  ${verdict}`.trimEnd(), paint(`  ${about}`, 2)]),
  ].join('\n');
}
