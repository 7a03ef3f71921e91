/**
 * How fast it is, and compared with a baseline: medians and ratios within one run, in which the contenders take turns.
 *
 *     npm run bench                       everything, about a quarter of an hour
 *     npm run bench -- client bridge      some groups: client, reading, bridge, wrk, latency, memory, polls, channels, peers
 *     npm run bench -- --quick            fewer rounds, shorter ones, less of everything
 *     npm run bench -- --report           bench/results.md with its plots, too
 *     npm run bench -- --into FOLDER      the same, but there
 *     npm run bench -- --json FILE        the samples, too
 *     npm run bench -- --from FILE        nothing is measured: the samples of an earlier run
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, type } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { bridgeFigures } from './bridge.mjs';
import { channelFigures } from './channel-count.mjs';
import { clientFigures } from './client.mjs';
import { latencyFigures } from './latency.mjs';
import { memoryFigures } from './memory.mjs';
import { peerFigures } from './alternatives.mjs';
import { pollFigures } from './pending-polls.mjs';
import { readingFigures } from './reading.mjs';
import { report } from './report.mjs';
import { table } from './table.mjs';
import { wrkFigures } from './wrk.mjs';
import { BASH, ROOT, run } from '../scripts/child-processes.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */
/** @typedef {import('./report.mjs').Run} Run */

/** @type {Record<string, (options: {isQuick: boolean}) => AsyncGenerator<Figure>>} */
const GROUPS = {
  client: clientFigures,
  reading: readingFigures,
  bridge: bridgeFigures,
  wrk: wrkFigures,
  latency: latencyFigures,
  memory: memoryFigures,
  polls: pollFigures,
  channels: channelFigures,
  peers: peerFigures,
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    report: { type: 'boolean', default: false },
    json: { type: 'string' },
    from: { type: 'string' },
    into: { type: 'string' },
  },
});
const unknown = positionals.find((name) => !Object.hasOwn(GROUPS, name));
if (unknown !== undefined) {
  console.error(`there is no group ${unknown}; there are: ${Object.keys(GROUPS).join(', ')}`);
  process.exit(2);
}
const isWanted = (/** @type {string} */ group) => positionals.length === 0 || positionals.includes(group);
const isColoured = process.stdout.isTTY && process.stdout.hasColors() && !process.env['NO_COLOR'];
const show = (/** @type {string} */ name, /** @type {Figure[]} */ figures) =>
  console.log(`\n${table(name, figures, isColoured)}`);

const firstLine = async (/** @type {string} */ program, /** @type {string[]} */ ...args) =>
  (await run(program, args).catch(() => ({ stdout: `no ${program}` }))).stdout.split('\n')[0] ?? '';

/** What figures depend on, and nothing that says whose machine it is. */
async function describeMachine() {
  return [
    `${cpus().length} x ${cpus()[0]?.model.trim()}, ${type()} ${release().replace(/-.*/, '')}`,
    `Node ${process.versions.node}`,
    (await firstLine('openssl', 'version')).replace(/ \(.*/, ''),
    (await firstLine(BASH, '--version')).replace('GNU ', '').replace(/ \(.*/, ''),
    (await firstLine('curl', '--version')).replace(/ \(.*/, ''),
  ].join('; ');
}

/** After each group: who interrupts a run has what there is. */
function keep(/** @type {Run} */ run) {
  if (values.json) writeFileSync(values.json, JSON.stringify(run, null, 2));
}

/** Measures what is wanted, and shows each group when it is done. @returns {Promise<Run>} */
async function measure() {
  const date = new Date().toISOString().slice(0, 10);
  const loads = loadavg().slice(0, 1);
  const machine = await describeMachine();
  console.log(`${machine}; load ${loads[0]?.toFixed(2)}`);
  /** @type {Run} */
  const measured = { machine, date, loads, isQuick: values.quick, results: {} };
  for (const [name, figuresOf] of Object.entries(GROUPS)) {
    if (!isWanted(name)) continue;
    /** @type {Figure[]} */
    const figures = [];
    for await (const figure of figuresOf({ isQuick: values.quick })) {
      if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${name}: ${figure.name}`);
      figures.push(figure);
    }
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
    show(name, figures);
    measured.results[name] = figures;
    loads.push(loadavg()[0] ?? NaN);
    keep(measured);
  }
  return measured;
}

/** @returns {Run} */
function readRun(/** @type {string} */ path) {
  /** @type {Run} */
  const { results, ...rest } = JSON.parse(readFileSync(path, 'utf8'));
  const wanted = Object.entries(results).filter(([name]) => isWanted(name));
  for (const [name, figures] of wanted) show(name, figures);
  return { ...rest, results: Object.fromEntries(wanted) };
}

const result = values.from === undefined ? await measure() : readRun(values.from);
keep(result);
const folder = values.into ?? (values.report ? join(ROOT, 'bench') : undefined);
if (folder !== undefined) console.log(`\n${await report(result, folder)}`);
