/** The programs that a script can't do without: better named before it begins than when one is missing in its middle. */
import { spawnSync } from 'node:child_process';

/** Ends this program, with one line, where one of them is not there. */
export function requirePrograms(/** @type {readonly string[]} */ ...tools) {
  const missing = tools.filter((tool) => spawnSync(tool, ['--version'], { stdio: 'ignore' }).error !== undefined);
  if (missing.length === 0) return;
  console.error(`This machine lacks ${missing.join(', ')}: install that and call again. Nothing was done.`);
  process.exit(1);
}
