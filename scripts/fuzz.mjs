/**
 * npm run fuzz [-- SECONDS [SEED]]: the fuzzer of tests/hostile, an hour and a new seed unless told otherwise. It ends
 * with the first round that fails; npm run fuzz -- --round NAME runs that one again.
 */
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const bundle = join(ROOT, 'dist', 'tests', 'fuzz.mjs');
mkdirSync(dirname(bundle), { recursive: true });
await build({
  entryPoints: [join(ROOT, 'tests', 'hostile', 'fuzz.ts')],
  outfile: bundle,
  bundle: true,
  packages: 'external',
  platform: 'node',
  target: 'node20',
  format: 'esm',
  sourcemap: 'inline',
  logLevel: 'warning',
});
const { fuzz, again } = await import(pathToFileURL(bundle).href);

const [first = '3600', second = String(Date.now() % 1_000_000)] = process.argv.slice(2);
if (first === '--round') {
  console.log(`${await again(second)} answers were changed: passed`);
} else {
  console.log(`${first} s, seed ${second}: npm run fuzz -- ${first} ${second} does the same again`);
  const tell = (/** @type {string} */ line) => console.log(line);
  console.log(await fuzz({ seed: second, seconds: Number(first), tell }));
}
