/**
 * Figures as bars, drawn as SVG: ours in colour, the baseline in grey, a thin line over the IQR of the
 * samples. It brings its own background, and follows the reader's light or dark.
 */
import { median, quantile } from './measure.mjs';
import { quantity } from './table.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */
/** @typedef {import('./measure.mjs').Unit} Unit */

const [WIDTH, LEFT, RIGHT, MARGIN] = [760, 190, 190, 20];
const [BAR, GAP, HEAD, AXIS] = [14, 10, 50, 30];
const AXES = { ms: 'time, less is better', '/s': 'for each second, more is better', B: 'memory, less is better' };
/** From this ratio of the largest value to the smallest on, small bars could not be seen on an even scale. */
const LOGARITHMIC = 30;

const STYLE = `
  .paper { fill: #fffdf7 } .ink { fill: #1c1f1e } .soft { fill: #595d58 } .ours { fill: #0a6657 } .baseline { fill: #b9b4a5 }
  .line { stroke: #d8d3c5 } .half { stroke: #1c1f1e } text { font: 12px system-ui, sans-serif } .title { font-weight: 600 }
  text { stroke: #fffdf7; stroke-width: 3px; paint-order: stroke; stroke-linejoin: round }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #1a1e21 } .ink { fill: #e8e5dc } .soft { fill: #a3a79f } .ours { fill: #62d2b7 } .baseline { fill: #5a6164 }
    .line { stroke: #343a3d } .half { stroke: #e8e5dc } text { stroke: #1a1e21 }
  }`;

const LEGEND = ['ours', 'baseline']
  .map((kind, i) => {
    const x = WIDTH - RIGHT + i * 80;
    const words = ['agentalk', 'baseline'][i];
    return `<rect class="${kind}" x="${x}" y="18" width="10" height="10"/><text class="soft" x="${x + 15}" y="28">${words}</text>`;
  })
  .join('');

const escape = (/** @type {string} */ text) =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c] ?? c);
const round = (/** @type {number} */ value) => value.toFixed(1).replace(/\.0$/, '');

/** @param {number} most @returns {number[]} even steps that people like to read, from 0 */
function evenTicks(most) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => i * step);
}

/** @param {number} least @param {number} most @returns {number[]} powers of ten around both */
function powers(least, most) {
  const [low, high] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))];
  return Array.from({ length: Math.max(1, high - low) + 1 }, (_, i) => 10 ** (low + i));
}

/** All figures of one unit, under a separate heading. @param {Unit} unit @param {Figure[]} figures @param {number} top */
function section(unit, figures, top) {
  const values = figures
    .flatMap(({ ours, baseline }) => [ours, ...(baseline ? [baseline] : [])])
    .filter(({ samples }) => samples.length > 0)
    .map(({ samples }) => median(samples));
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const isLogarithmic = least > 0 && most / least >= LOGARITHMIC;
  const ticks = isLogarithmic ? powers(least, most) : evenTicks(most);
  const [first = 0, last = 1] = [ticks[0], ticks.at(-1)];
  const place = (/** @type {number} */ value) => {
    const share = isLogarithmic ? Math.log(value / first) / Math.log(last / first) : (value - first) / (last - first);
    return LEFT + Math.min(1, Math.max(0, share)) * (WIDTH - LEFT - RIGHT);
  };
  let y = top + HEAD;
  const bars = figures.flatMap(({ name, ours, baseline }) => {
    const both = [
      { ...ours, kind: 'ours', name: '' },
      { samples: [], ...baseline, kind: 'baseline' },
    ].filter(({ samples }) => samples.length > 0);
    const middle = y + (both.length * BAR) / 2 + 4;
    const label = `<text class="ink" x="${LEFT - 8}" y="${round(middle)}" text-anchor="end">${escape(name)}</text>`;
    const drawn = both.map(({ samples, kind, name: other }) => {
      const end = place(median(samples));
      const [low, high] = [0.25, 0.75].map((q) => place(quantile(samples, q)));
      const at = y + (BAR - 1) / 2;
      const words = `${quantity(median(samples), unit)} ${other ?? ''}`.trim();
      y += BAR;
      return (
        `<rect class="${kind}" x="${LEFT}" y="${y - BAR}" width="${round(end - LEFT)}" height="${BAR - 1}"/>` +
        `<path class="half" d="M${round(low ?? end)} ${at}H${round(high ?? end)}"/>` +
        `<text class="${kind === 'ours' ? 'ink' : 'soft'}" x="${round(Math.max(end, high ?? end) + 6)}" y="${y - 3}">${escape(words)}</text>`
      );
    });
    y += GAP;
    return [label, ...drawn];
  });
  const grid = ticks.map((tick) => {
    const x = round(place(tick));
    const words = `<text class="soft" x="${x}" y="${y + 14}" text-anchor="middle">${quantity(tick, unit)}</text>`;
    return `<path class="line" d="M${x} ${top + HEAD - 6}V${y}"/>${words}`;
  });
  const axis = AXES[unit] + (isLogarithmic ? ', logarithmic' : '');
  const heading = `<text class="soft" x="${MARGIN}" y="${top + 34}">${axis}</text>`;
  return { parts: [heading, ...grid, ...bars], bottom: y + AXIS };
}

/** What a reader who sees no picture is told. */
const inWords = (/** @type {readonly Figure[]} */ figures) =>
  figures
    .filter(({ ours }) => ours.samples.length > 0)
    .map(({ name, ours, baseline, unit }) => {
      const other = baseline?.samples.length ? `, ${baseline.name} ${quantity(median(baseline.samples), unit)}` : '';
      return `${name} ${quantity(median(ours.samples), unit)}${other}`;
    })
    .join('; ');

/** @param {string} title @param {readonly Figure[]} figures @returns {string | undefined} an SVG, if there is anything */
export function plot(title, figures) {
  const drawn = figures.filter(({ ours }) => ours.samples.length > 0);
  if (drawn.length === 0) return undefined;
  let top = 14;
  const parts = [...new Set(drawn.map(({ unit }) => unit))].flatMap((unit) => {
    const one = section(
      unit,
      drawn.filter((figure) => figure.unit === unit),
      top,
    );
    top = one.bottom;
    return one.parts;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${top + 10}" role="img">
<title>${escape(title)}</title>
<desc>${escape(inWords(drawn))}</desc>
<style>${STYLE}
</style>
<rect class="paper" width="100%" height="100%" rx="6"/>
<text class="ink title" x="${MARGIN}" y="28">${escape(title)}</text>
${LEGEND}
${parts.join('\n')}
</svg>
`;
}
