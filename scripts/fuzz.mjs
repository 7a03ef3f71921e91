/**
 * The fuzzers, an hour and a new seed unless told otherwise. Each ends with the first round that fails.
 *
 *     npm run fuzz [-- SECONDS [SEED]]        all that the client reads (tests/hostile)
 *     npm run fuzz -- http [SECONDS [SEED]]   all that the bridge reads (tests/abuse)
 *     npm run fuzz -- [http] --round NAME     that round again
 */
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const words = process.argv.slice(2);
const isHttp = words[0] === 'http';
const [first = '3600', second = String(Date.now() % 1_000_000)] = words.slice(isHttp ? 1 : 0);

const folder = isHttp ? 'abuse' : 'hostile';
const bundle = join(ROOT, 'dist', 'tests', `fuzz-${folder}.mjs`);
mkdirSync(dirname(bundle), { recursive: true });
await build({
  entryPoints: [join(ROOT, 'tests', folder, 'fuzz.ts')],
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

if (first === '--round') {
  console.log(`${await again(second)} ${isHttp ? 'requests' : 'answers were changed'}: passed`);
} else {
  const how = `npm run fuzz -- ${isHttp ? 'http ' : ''}${first} ${second}`;
  console.log(`${first} s, seed ${second}: ${how} does the same again`);
  const tell = (/** @type {string} */ line) => console.log(line);
  console.log(await fuzz({ seed: second, seconds: Number(first), tell }));
}
