/**
 * Makes a clone ready to run: the development tools where they are missing or another set is asked for, and dist/ where
 * the sources have changed. Does nothing, quickly, when all is well; npm start and npm test call it first.
 */
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const changedAt = (path) => statSync(join(ROOT, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;

// npm writes this file last: it marks a complete installation.
if (changedAt('node_modules/.package-lock.json') < changedAt('package-lock.json')) {
  const shell = process.platform === 'win32';
  const args = ['ci', '--no-audit', '--no-fund'];
  const { status } = spawnSync('npm', args, { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'], shell });
  if (status !== 0) {
    console.error('agentalk: `npm ci` has failed, and said above why. Nothing was built. Fix that and call again.');
    process.exit(1);
  }
}

const { build, isBuilt } = await import('./build.mjs');
if (!isBuilt()) await build();
