/**
 * How even the shares are that load balancers give to bridges, and how many channels move when a bridge goes or comes.
 *
 *     npm run simulate:hashing                            3, 8 and 32 bridges, 50,000 channels
 *     npm run simulate:hashing -- --bridges 5 --channels 20000
 */
import { createHash } from 'node:crypto';
import { parseArgs } from 'node:util';
import { haproxy, ketama, rendezvous } from './hash-rings.mjs';

/** How many channels each bridge has. @param {readonly number[]} owners @param {number} bridges */
function sharesOf(owners, bridges) {
  const shares = new Array(bridges).fill(0);
  for (const owner of owners) shares[owner]++;
  return shares;
}

/**
 * @param {import('./hash-rings.mjs').Method} method
 * @param {number} bridges
 * @param {readonly string[]} channels
 */
function simulate(method, bridges, channels) {
  const addresses = Array.from({ length: bridges + 1 }, (_, i) => `10.0.0.${i + 11}:8787`);
  const ring = method(addresses.slice(0, bridges));
  const before = channels.map((channel) => ring.owner(channel));
  const shares = sharesOf(before, bridges);
  const mean = channels.length / bridges;

  // Each bridge in turn is gone: who moved without need, and the fullest one then.
  let [needless, fullest] = [0, 0];
  for (let gone = 0; gone < bridges; gone++) {
    const down = new Set([gone]);
    const after = channels.map((channel) => ring.owner(channel, down));
    needless += after.filter((owner, i) => before[i] !== gone && owner !== before[i]).length;
    fullest = Math.max(fullest, ...sharesOf(after, bridges));
  }

  // One more at the end of the list.
  const longer = method(addresses);
  const after = channels.map((channel) => longer.owner(channel));
  const moved = after.filter((owner, i) => owner !== before[i]);
  needless += moved.filter((owner) => owner !== bridges).length;
  const percent = (/** @type {number} */ part) => `${((100 * part) / channels.length).toFixed(1)} %`;
  const times = (/** @type {number} */ share) => `${(share / mean).toFixed(2)}`;
  return [
    `${times(Math.min(...shares))} … ${times(Math.max(...shares))}`,
    times(fullest),
    percent(moved.length),
    String(needless),
  ];
}

const METHODS = {
  'nginx, `hash … consistent`': ketama,
  'HAProxy, weight 1 (its default)': haproxy(1),
  'HAProxy, weight 16': haproxy(16),
  'Caddy, `lb_policy header`': rendezvous,
};

function main() {
  const { values } = parseArgs({
    options: { bridges: { type: 'string' }, channels: { type: 'string', default: '50000' } },
  });
  const count = Number(values.channels);
  const sizes = values.bridges === undefined ? [3, 8, 32] : [Number(values.bridges)];
  if (![count, ...sizes].every((n) => Number.isInteger(n) && n > 1))
    throw new Error('how many? --bridges 8 --channels 50000');
  // The same ids each time, as random as real ones.
  const channels = Array.from({ length: count }, (_, i) =>
    createHash('sha256').update(String(i)).digest('hex').slice(0, 32),
  );
  console.log(`${count} channels; shares in parts of the mean\n`);
  const rows = [
    ['bridges', 'method', 'shares', 'fullest when one is gone', 'moved when one comes', 'moved needlessly'],
  ];
  for (const bridges of sizes) {
    for (const [name, method] of Object.entries(METHODS))
      rows.push([String(bridges), name, ...simulate(method, bridges, channels)]);
  }
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  const line = (/** @type {string[]} */ row) => `| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |`;
  const [head = [], ...body] = rows;
  console.log([line(head), line(widths.map((width) => '-'.repeat(width))), ...body.map(line)].join('\n'));
}

main();
