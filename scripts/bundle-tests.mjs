/** From the tests' TypeScript to what node runs. */
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
export const SOURCES = join(ROOT, 'tests');
export const BUNDLES = join(ROOT, 'dist', 'tests');
export const bundleOf = (/** @type {string} */ name) => name.replace(/\.ts$/, '.mjs');

/** Each into a separate file, with all that it imports from here. @param {string[]} names below tests */
export async function bundle(names) {
  mkdirSync(BUNDLES, { recursive: true });
  await build({
    entryPoints: names.map((name) => join(SOURCES, name)),
    outdir: BUNDLES,
    outbase: SOURCES,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    packages: 'external',
    platform: 'node',
    target: 'node20',
    format: 'esm',
    sourcemap: 'inline',
    logLevel: 'warning',
  });
}

/** What one of them exports. @param {string} name below tests */
export async function load(name) {
  await bundle([name]);
  return import(pathToFileURL(join(BUNDLES, bundleOf(name))).href);
}
