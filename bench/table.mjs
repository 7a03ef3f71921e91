/** Figures in words and numbers: as a table for the terminal, and cell by cell for the report. */
import { median, quantile, ratioOf } from './measure.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */
/** @typedef {import('./measure.mjs').Unit} Unit */

const digits = (/** @type {number} */ value) =>
  value >= 100 ? value.toFixed(0) : value.toPrecision(value < 9.95 ? 2 : 3);

/** @param {number} value @param {Unit | 'x'} unit */
export function quantity(value, unit) {
  if (value === 0) return `0 ${unit}`;
  if (unit === 'x') return `${digits(value)}x`;
  if (unit === 'B' && value >= 1e6) return `${digits(value / 1e6)} MB`;
  if (unit === 'B' && value >= 1e3) return `${digits(value / 1e3)} KB`;
  if (unit === 'ms' && value >= 10_000) return `${digits(value / 1000)} s`;
  if (unit === '/s' && value >= 10_000) return `${digits(value / 1000)} k/s`;
  if (unit === 'ms' && value < 1) return `${digits(value * 1000)} µs`;
  return `${digits(value)} ${unit}`;
}

/** The median, and the IQR of the samples. @param {readonly number[]} samples @param {Unit} unit */
function amount(samples, unit) {
  if (samples.length === 0) return '';
  const [low = '', middle = '', high = ''] = [0.25, 0.5, 0.75].map((q) => quantity(quantile(samples, q), unit));
  if (samples.length === 1) return middle;
  const bare = (/** @type {string} */ text) => text.replace(middle.slice(middle.indexOf(' ')), '');
  return `${middle} (${bare(low)}…${bare(high)})`;
}

/** CPU time: ours, and how many times that of the other. */
function cpu(/** @type {Figure} */ { ours: { cpuMs = NaN }, baseline }) {
  if (Number.isNaN(cpuMs)) return '';
  return quantity(cpuMs, 'ms') + (baseline?.cpuMs ? `, ${quantity(cpuMs / baseline.cpuMs, 'x')}` : '');
}

/** How many processes and threads: ours, and those of the other. */
function processes(/** @type {Figure} */ { ours, baseline }) {
  if (ours.processes === undefined) return '';
  return `${ours.processes}${baseline?.processes === undefined ? '' : `, baseline ${baseline.processes}`}`;
}

/** @param {Figure} figure @returns {{text: string, isMet: boolean | undefined}} */
function compareWithTarget({ target, unit, ...figure }) {
  if (!target) return { text: '', isMet: undefined };
  const value = target.ratio === undefined ? median(figure.ours.samples) : (ratioOf({ unit, ...figure }) ?? NaN);
  const limit = target.ratio ?? target.value ?? NaN;
  const text = `${unit === '/s' ? 'at least' : 'at most'} ${quantity(limit, target.ratio === undefined ? unit : 'x')}`;
  return { text, isMet: unit === '/s' ? value >= limit : value <= limit };
}

const COLUMNS = ['', 'median (IQR)', 'n', 'baseline', 'ratio', 'CPU, ratio', 'processes and threads', 'target'];

/**
 * Rows of cells; what no figure has is no column.
 *
 * @param {readonly Figure[]} figures
 * @returns {{heads: string[], rows: {cells: string[], isMet: boolean | undefined, about: string}[]}}
 */
export function tabulate(figures) {
  const rows = figures.map((figure) => {
    const { name, ours, baseline, unit, workload, note, missing } = figure;
    const ratio = ratioOf(figure) ?? NaN;
    const { text, isMet } = compareWithTarget(figure);
    const cells = [
      name,
      amount(ours.samples, unit),
      ours.samples.length > 0 ? String(ours.samples.length) : '',
      baseline ? `${baseline.name} ${amount(baseline.samples, unit)}`.trim() : '',
      Number.isNaN(ratio) ? '' : quantity(ratio, 'x'),
      cpu(figure),
      processes(figure),
      text,
    ];
    const about = [workload, note, missing && `not measured: ${missing}`].filter(Boolean).join('; ');
    return { cells, isMet: ours.samples.length > 0 ? isMet : undefined, about };
  });
  const isUsed = (/** @type {unknown} */ _, /** @type {number} */ column) =>
    column < 2 || rows.some(({ cells }) => cells[column]);
  return { heads: COLUMNS.filter(isUsed), rows: rows.map((row) => ({ ...row, cells: row.cells.filter(isUsed) })) };
}

/** @param {string} title @param {readonly Figure[]} figures */
export function table(title, figures, isColoured = false) {
  const paint = (/** @type {string} */ text, /** @type {number} */ code) =>
    isColoured ? `\x1b[${code}m${text}\x1b[0m` : text;
  const { heads, rows } = tabulate(figures);
  heads[0] = title;
  const widths = heads.map((head, i) => Math.max(head.length, ...rows.map(({ cells }) => cells[i]?.length ?? 0)));
  const line = (/** @type {string[]} */ cells) => cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ');
  const verdict = (/** @type {boolean | undefined} */ isMet) =>
    isMet === undefined ? '' : isMet ? paint('met', 32) : paint('MISSED', 31);
  return [
    paint(line(heads).trimEnd(), 1),
    ...rows.flatMap(({ cells, isMet, about }, i) => [
      `${line(cells)}  ${verdict(isMet)}`.trimEnd(),
      // The same words once, under the last row that they are about.
      ...(rows[i + 1]?.about === about ? [] : [paint(`  ${about}`, 2)]),
    ]),
  ].join('\n');
}
