/**
 * Runs tests/cases/*.sh, one at a time: situations that people met with other programs of this kind (tests/cases/README.md).
 *
 * npm run test:cases             all
 * npm run test:cases -- env 31   those whose name has one of these words
 *
 * BASH42 names a bash 4.2 for the case that is about it. A case that lacks a tool ends with 77 and is named as not run.
 */
import { spawn, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, isBuilt } from './build.mjs';
import { requirePrograms } from './require-programs.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const FOLDER = join(ROOT, 'tests', 'cases');
const TIMEOUT_S = 400;
const LACKS_TOOL = 77;

requirePrograms('git', 'bash', 'curl', 'openssl', 'timeout');
if (!isBuilt()) await build();
const words = process.argv.slice(2);
const names = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.sh') && (words.length === 0 || words.some((word) => name.includes(word))))
  .sort();

/** A bridge for the cases about a machine; the others start their own. */
async function startBridge() {
  const child = spawn(process.execPath, [join(ROOT, 'dist', 'bridge.js'), '--port', '0', '--drain-delay', '0']);
  process.on('exit', () => child.kill());
  for await (const chunk of child.stdout) {
    const [, url] = /^listening on (\S+)$/m.exec(chunk.toString()) ?? [];
    if (url) return { url, stop: () => child.kill() };
  }
  throw new Error('the bridge did not start');
}

const bridge = await startBridge();
const counts = { right: 0, wrong: 0, 'not run': 0 };
for (const name of names) {
  const { status, stdout, stderr } = spawnSync('timeout', [String(TIMEOUT_S), 'bash', join(FOLDER, name)], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      BRIDGE: name.startsWith('env-') ? bridge.url : join(ROOT, 'dist', 'bridge.js'),
      CLIENT: join(ROOT, 'dist', 'agentalk.sh'),
      REPO: ROOT,
      NODE_MODULES: join(ROOT, 'node_modules'),
    },
  });
  const verdict = status === 0 ? 'right' : status === LACKS_TOOL ? 'not run' : 'wrong';
  counts[verdict]++;
  const why =
    status === 0 ? '' : `: ${`${stdout}${stderr}`.trim().split('\n').slice(-3).join('\n    ')} (status ${status})`;
  console.log(`${verdict.padEnd(7)} ${name}${why}`);
}
bridge.stop();
console.log(`${counts.right} right, ${counts.wrong} wrong, ${counts['not run']} not run`);
process.exitCode = counts.wrong > 0 || names.length === 0 ? 1 : 0;
process.exit();
