/**
 * Runs the tests: bundles every tests/**\/*.test.ts into dist/tests and gives them to node's own runner.
 *
 * npm test                       all
 * npm test -- protocol bridge    those whose file name has one of these words
 * npm test -- --test-only        what starts with - goes to node
 * npm run test:unit              tests/unit: pure, or against one bridge; under 20 seconds
 * npm run test:unit -- --watch   again whenever a source changes
 *
 * AGENTALK_TEST_NO_SKIPS=1 takes a skipped test for a failure: nothing that CI should have shown may be left out.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, watch } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { BUNDLES, SOURCES, bundle, bundleOf } from './bundle-tests.mjs';
import { requirePrograms } from './require-programs.mjs';

/** Files at a time: one more than there are cores, since tests wait for much of their time. */
const CONCURRENCY = Math.min(4, availableParallelism() + 1);
/** A file that hangs must not hold up CI for ever. Node counts this for each test and for each file. */
const TIMEOUT_MS = 15 * 60_000;

requirePrograms('git', 'bash', 'curl', 'openssl');
const isTrue = (value) => value !== undefined && value !== '' && value !== '0';
const options = process.argv.slice(2).filter((word) => word.startsWith('-'));
const words = process.argv.slice(2).filter((word) => !word.startsWith('-'));

if (options.includes('--watch')) {
  await runOnChanges(process.argv.slice(2).filter((word) => word !== '--watch'));
  process.exit();
}

const filesIn = (folder, ending) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .sort();
const all = filesIn(SOURCES, '.test.ts');
// The real agent programs are installed and run by npm run test:agents.
const ours = all.filter((name) => !name.startsWith('agents/'));
const chosen = ours.filter((name) => words.length === 0 || words.some((word) => name.includes(word)));
if (chosen.length === 0) {
  console.error(`no test file has that in its name; there are:\n${ours.map((name) => `  ${name}`).join('\n')}`);
  process.exit(1);
}

await bundle(chosen);
// Only what has no source any more: a second run may be using the others.
for (const name of filesIn(BUNDLES, '.test.mjs')) {
  if (!all.map(bundleOf).includes(name)) rmSync(join(BUNDLES, name));
}

const folder = mkdtempSync(join(tmpdir(), 'agentalk-test-'));
const written = join(folder, 'notes');
const { status, signal } = spawnSync(
  process.execPath,
  [
    '--enable-source-maps',
    '--test',
    `--test-concurrency=${CONCURRENCY}`,
    `--test-timeout=${TIMEOUT_MS}`,
    '--test-reporter=spec',
    '--test-reporter-destination=stdout',
    `--test-reporter=${new URL('notes-reporter.mjs', import.meta.url)}`,
    `--test-reporter-destination=${written}`,
    ...options,
    ...chosen.map((name) => join(relative(process.cwd(), BUNDLES), bundleOf(name))),
  ],
  { stdio: 'inherit' },
);
const notes = readFileSync(written, 'utf8')
  .split('\n')
  .filter(Boolean)
  .map((line) => JSON.parse(line));
rmSync(folder, { recursive: true });

if (words.length === 0) {
  console.log('\nthe longest files, by the seconds of their tests:');
  for (const [name, ms] of longestFiles()) console.log(`  ${(ms / 1000).toFixed(1).padStart(6)}  ${name}`);
}

const skipped = notes.flatMap(({ skipped: name, reason }) => (name === undefined ? [] : [`${name}: ${reason}`]));
const isStrict = isTrue(process.env.AGENTALK_TEST_NO_SKIPS);
if (skipped.length > 0) {
  console.log(`\nskipped ${skipped.length}, so nothing is known about:`);
  for (const line of skipped) console.log(`  ${line}`);
  if (isStrict) console.log('AGENTALK_TEST_NO_SKIPS is set: that counts as failed.');
}
if (signal) console.error(`the runner was ended by ${signal}`);
process.exitCode = status !== 0 || (isStrict && skipped.length > 0) ? 1 : 0;

/** The ten files whose tests took longest, and how many milliseconds. */
function longestFiles() {
  const sums = new Map();
  for (const { file, ms } of notes) {
    if (file !== undefined) sums.set(file, (sums.get(file) ?? 0) + ms);
  }
  const longest = [...sums].sort(([, a], [, b]) => b - a).slice(0, 10);
  return longest.map(([file, ms]) => [relative(SOURCES, file), ms]);
}

/** Builds and runs the tests now and whenever a source changes, until this process is interrupted. */
async function runOnChanges(args) {
  let hasChanged = () => {};
  for (const folder of ['bridge', 'sdk', 'docs', 'deploy', 'examples', 'scripts', 'tests']) {
    watch(folder, { recursive: true }, () => hasChanged());
  }
  // The folder and not the files: an editor may replace a file by another one.
  watch('.', (_, name) => {
    if (['bridge.ts', 'package.json', 'agentalk.service'].includes(name)) hasChanged();
  });
  for (;;) {
    const changed = new Promise((resolve) => (hasChanged = resolve));
    const command = `node scripts/setup.mjs && node scripts/test.mjs ${args.map((arg) => JSON.stringify(arg)).join(' ')}`;
    const child = spawn('bash', ['-c', command], { stdio: 'inherit' });
    await new Promise((resolve) => child.on('close', resolve));
    console.log('\nwaiting for a change');
    await changed;
    // An editor writes several files, and each in several steps.
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
