/**
 * npm run soak [-- MESSAGES [SEED]]: the storm of tests/faults for long, 10,000 messages unless told otherwise. The same
 * seed gives the same faults again.
 */
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const [messages = '10000', seed = String(Date.now() % 1_000_000)] = process.argv.slice(2);
const bundle = join(ROOT, 'dist', 'tests', 'soak.mjs');
mkdirSync(dirname(bundle), { recursive: true });
await build({
  entryPoints: [join(ROOT, 'tests', 'faults', 'storm.ts')],
  outfile: bundle,
  bundle: true,
  packages: 'external',
  platform: 'node',
  target: 'node20',
  format: 'esm',
  sourcemap: 'inline',
  logLevel: 'warning',
});
const { storm } = await import(pathToFileURL(bundle).href);

console.log(`${messages} messages, seed ${seed}: npm run soak -- ${messages} ${seed} does the same again`);
const smallDisk = process.getuid?.() === 0;
const tell = (/** @type {string} */ line) => console.log(line);
console.log(await storm({ messages: Number(messages), seed, share: 0.2, smallDisk, tell }));
