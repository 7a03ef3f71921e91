/** results.md and its plots, from the figures of one run. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../scripts/child-processes.mjs';
import { median, ratioOf } from './measure.mjs';
import { plot } from './plot.mjs';
import { quantity, tabulate } from './table.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */
/** @typedef {{machine: string, date: string, loads: number[], isQuick: boolean, results: Record<string, Figure[]>}} Run */

/** What each group asks, in the order in which the report answers. */
const GROUPS = {
  bridge: ['The bridge', 'How many messages one bridge takes and delivers on one core, and how soon it is there.'],
  wrk: ['The bridge under wrk', 'Whether a load generator that is not part of this project sees the same.'],
  latency: ['Latency', 'How long a message is on its way when the bridge has little, half or nearly all of its work.'],
  memory: ['Memory', 'What an operator pays in memory for each thing that is held.'],
  polls: ['Waiting polls', 'Whether it matters to a message how many others wait.'],
  channels: ['Channels', 'Whether it matters to a message how many other channels there are.'],
  client: ['The client', 'What an agent waits for, a fresh shell for each call.'],
  reading: ['Reading', 'How much an agent reads before it can talk.'],
  peers: ['Alternatives', 'What else one could take for the same, in the same run.'],
};

/** The sentences that most readers come for. */
function summary(/** @type {Run['results']} */ results) {
  const find = (/** @type {string} */ group, /** @type {RegExp} */ name) =>
    results[group]?.findLast((figure) => name.test(figure.name) && figure.ours.samples.length > 0);
  const value = (/** @type {Figure} */ { ours, unit }) => `**${quantity(median(ours.samples), unit)}**`;
  const other = (/** @type {Figure} */ { baseline, unit }) => quantity(median(baseline?.samples ?? []), unit);
  const times = (/** @type {Figure} */ figure) => `${quantity(ratioOf(figure) ?? NaN, 'x').slice(0, -1)} times`;
  /** @type {[Figure | undefined, (figure: Figure) => string][]} */
  const sentences = [
    [
      find('bridge', /^send$/),
      (f) => `Messages of 1 KB that one bridge takes, on one core: ${value(f)}; a bare node:http handler: ${other(f)}.`,
    ],
    [
      find('bridge', /^deliver to 20$/),
      (f) =>
        `Events that it delivers in rooms of 20 listeners: ${value(f)}; the same JSON from the bare handler: ${other(f)}.`,
    ],
    [
      find('latency', /^p99 at 50/),
      (f) =>
        `At half of the most that it carries, 99 of 100 messages are delivered within ${value(f)}; the bare handler, at ` +
        `half of what it can do, answers 99 of 100 within ${other(f)}.`,
    ],
    [find('memory', /poll/), (f) => `A waiting poll takes ${value(f)}, its connection included.`],
    [
      find('channels', /channels$/),
      (f) => `With ${f.name} a message costs the bridge ${value(f)} of CPU, ${times(f)} what it costs with ten.`,
    ],
    [find('client', /^say 1 KB/), (f) => `An agent says 1 KB in ${value(f)}; a bare curl takes ${other(f)}.`],
    [
      find('peers', /^say 1 KB/),
      (f) => `A shell that seals the same with node, builds JSON with jq and posts it takes ${other(f)}.`,
    ],
    [find('client', /^join/), (f) => `From the start of join to PAIRED it takes ${value(f)}.`],
  ];
  return sentences.flatMap(([figure, say]) => (figure ? [`- ${say(figure)}`] : []));
}

/** @param {readonly Figure[]} figures */
function tableOf(figures) {
  const { heads, rows } = tabulate(figures);
  const line = (/** @type {string[]} */ cells) => `| ${cells.map((cell) => cell || ' ').join(' | ')} |`;
  const verdict = (/** @type {boolean | undefined} */ isMet) =>
    isMet === undefined ? '' : isMet ? ': met' : ': **missed**';
  const lines = rows.map(({ cells, isMet }) =>
    line(cells.map((cell, i) => (heads[i] === 'target' ? cell + verdict(isMet) : cell))),
  );
  return [line(['what', ...heads.slice(1)]), line(heads.map(() => '---')), ...lines].join('\n');
}

/** Each workload once, with all the names that it is the workload of. @param {readonly Figure[]} figures */
function workloads(figures) {
  const { rows } = tabulate(figures);
  const all = new Map(rows.map(({ about }) => [about, /** @type {string[]} */ ([])]));
  for (const { about, cells } of rows) all.get(about)?.push(cells[0] ?? '');
  return [...all].map(([about, names]) => `- **${names.join('; ')}**: ${about}`).join('\n');
}

/** @param {Run} run @param {string} folder @returns {Promise<string>} the file, whose plots are in images/ next to it */
export async function report({ machine, date, loads, isQuick, results }, folder) {
  const images = join(folder, 'images');
  mkdirSync(images, { recursive: true });
  const sections = Object.entries(GROUPS).flatMap(([name, [title = '', question]]) => {
    const figures = results[name];
    if (!figures) return [];
    const drawing = plot(title, figures);
    if (drawing) writeFileSync(join(images, `${name}.svg`), drawing);
    const image = drawing ? [`![The same as bars.](images/${name}.svg)`] : [];
    return [`## ${title}`, question, ...image, tableOf(figures), workloads(figures)];
  });
  const text = [
    '# Performance',
    'Bridge and client, compared with a baseline. For the bridge that is a bare node:http handler that parses the same ' +
      'requests and answers the same JSON; for the client it is a bare `curl` that carries the same bytes.',
    'Each table was measured in one run in which the contenders took turns, so that other work of the machine hit all ' +
      'of them alike. Figures are medians, with the interquartile range (IQR) of the n samples in brackets. A ratio is ' +
      'ours to the baseline, the median of the rounds. CPU is the processor time for one of what the row counts. ' +
      '`npm run bench -- --report` makes this page.',
    `${isQuick ? '**A shortened run (`--quick`)**, ' : 'Measured '}on ${date}, on ${machine}; load averages from before it to its end: ${loads.map((load) => load.toFixed(2)).join(', ')}. What is measured makes a load of about 1 to 2 by itself.`,
    summary(results).join('\n'),
    ...sections,
  ].join('\n\n');
  const { format, resolveConfig } = await import('prettier');
  const path = join(folder, 'results.md');
  const style = await resolveConfig(join(ROOT, 'package.json'));
  writeFileSync(path, await format(text, { ...style, parser: 'markdown' }));
  return path;
}
