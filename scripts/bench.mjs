/**
 * How fast it is, and how near to the floor: medians and ratios within one run, in which the contenders take turns.
 *
 *     npm run bench                       everything, about two minutes
 *     npm run bench -- client             some groups: client, bridge, latency, memory, polls, channels
 *     npm run bench -- --quick            fewer rounds
 *     npm run bench -- --json FILE        the samples, too
 */
import { writeFileSync } from 'node:fs';
import { cpus, release, type } from 'node:os';
import { parseArgs } from 'node:util';
import { bridgeFigures } from './bench/bridge.mjs';
import { clientFigures } from './bench/client.mjs';
import { channelFigures } from './bench/channels.mjs';
import { latencyFigures } from './bench/latency.mjs';
import { memoryFigures } from './bench/memory.mjs';
import { peerFigures } from './bench/peers.mjs';
import { pollFigures } from './bench/polls.mjs';
import { table } from './bench/table.mjs';
import { BASH, run } from './processes.mjs';

const GROUPS = {
  client: clientFigures,
  bridge: bridgeFigures,
  latency: latencyFigures,
  memory: memoryFigures,
  polls: pollFigures,
  channels: channelFigures,
  peers: peerFigures,
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean', default: false }, json: { type: 'string' } },
});
const unknown = positionals.find((name) => !Object.hasOwn(GROUPS, name));
if (unknown !== undefined) {
  console.error(`there is no group ${unknown}; there are: ${Object.keys(GROUPS).join(', ')}`);
  process.exit(2);
}
const isColoured = process.stdout.isTTY && process.stdout.hasColors() && !process.env['NO_COLOR'];

const firstLine = async (/** @type {string} */ program, /** @type {string[]} */ ...args) =>
  (await run(program, args)).stdout.split('\n')[0] ?? '';
const machine = [
  `${cpus().length} x ${cpus()[0]?.model.trim()}, ${type()} ${release()}`,
  `Node ${process.versions.node}`,
  await firstLine('openssl', 'version'),
  (await firstLine(BASH, '--version')).replace('GNU ', ''),
  (await firstLine('curl', '--version')).replace(/ \(.*/, ''),
].join('; ');
console.log(machine);

/** @type {Record<string, import('./bench/measure.mjs').Figure[]>} */
const results = {};
for (const [name, figuresOf] of Object.entries(GROUPS)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  /** @type {import('./bench/measure.mjs').Figure[]} */
  const figures = [];
  for await (const figure of figuresOf({ isQuick: values.quick })) {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${name}: ${figure.name}`);
    figures.push(figure);
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  console.log(`\n${table(name, figures, isColoured)}`);
  results[name] = figures;
}
if (values.json) writeFileSync(values.json, JSON.stringify({ machine, results }, null, 2));
