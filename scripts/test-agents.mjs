/**
 * Runs the real coding-agent programs against this project: tests/agents/.
 *
 * npm run test:agents               default and relaxed mode of each program
 * npm run test:agents -- task pi    those test files, or programs, that have one of these words in their name
 * npm run test:agents -- --weekly   also what is slow (limits, waking), and then all again with the newest versions
 * npm run test:agents -- --table    the table of the last run, as docs/agents.md has it
 *
 * Needs Linux, root and the npm registry: without one of them it says so and runs nothing, or fails where
 * AGENTALK_TEST_NO_SKIPS is set. The programs run in a network namespace with nothing but loopback, and get nothing of
 * this environment.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BUNDLES, SOURCES, bundle, bundleOf } from './bundle-tests.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const FOLDER = join(ROOT, 'dist', 'agents');
const LAST_RUN = join(FOLDER, 'last-run.jsonl');
const INSTALL_TIMEOUT_MS = 10 * 60_000;
const TEST_TIMEOUT_MS = 15 * 60_000;
const NEEDED = ['unshare', 'setpriv', 'ip', 'mount', 'tmux', 'zstd', 'npm', 'git', 'curl', 'openssl'];

const isStrict = !['', '0', undefined].includes(process.env.AGENTALK_TEST_NO_SKIPS);
const options = process.argv.slice(2).filter((word) => word.startsWith('-'));
const words = process.argv.slice(2).filter((word) => !word.startsWith('-'));

/** @param {string} reason @returns {never} */
function skip(reason) {
  console.log(`test:agents: ${reason}. No agent program was run, so nothing is known about them.`);
  process.exit(isStrict ? 1 : 0);
}

/** @typedef {Record<string, {package: string, version: string}>} Versions */

/** @type {Versions} */
const pinned = JSON.parse(readFileSync(join(ROOT, 'tests', 'agents', 'versions.json'), 'utf8'));

function installPrograms(/** @type {Versions} */ versions) {
  for (const [name, { package: from, version }] of Object.entries(versions)) {
    const folder = join(FOLDER, 'programs', `${name}-${version}`);
    if (existsSync(folder)) continue;
    const unfinished = `${folder}.unfinished`;
    rmSync(unfinished, { recursive: true, force: true });
    mkdirSync(unfinished, { recursive: true });
    console.log(`installing ${from} ${version}`);
    const args = [
      'install',
      '--prefix',
      unfinished,
      '--ignore-scripts',
      '--no-audit',
      '--no-fund',
      '--loglevel',
      'error',
    ];
    const { status } = spawnSync('npm', [...args, `${from}@${version}`], {
      stdio: ['ignore', 'ignore', 'inherit'],
      timeout: INSTALL_TIMEOUT_MS,
    });
    if (status !== 0) skip(`${from} ${version} can't be installed from the npm registry`);
    renameSync(unfinished, folder);
  }
}

/** The newest version of each program, as the registry has it. */
function newestVersions() {
  return Object.fromEntries(
    Object.entries(pinned).map(([name, { package: from }]) => {
      const { stdout } = spawnSync('npm', ['view', from, 'version'], { encoding: 'utf8', timeout: 60_000 });
      if (!/^\d\S*$/.test(stdout.trim())) skip(`the registry tells no version of ${from}`);
      return [name, { package: from, version: stdout.trim() }];
    }),
  );
}

/**
 * Tests in a separate network namespace, with an environment made here.
 *
 * @param {string[]} names below tests
 * @param {Versions} versions
 * @param {string[]} programs none: all
 */
function runTests(names, versions, programs = words.filter((word) => word in pinned)) {
  const file = join(FOLDER, 'versions.json');
  writeFileSync(LAST_RUN, '');
  writeFileSync(file, JSON.stringify(versions));
  const own = { PATH: process.env.PATH ?? '', HOME: '/nonexistent', LANG: 'C.UTF-8', AGENTALK_AGENTS_VERSIONS: file };
  if (programs.length > 0) Object.assign(own, { AGENTALK_AGENTS_ONLY: programs.join(' ') });
  const node = [
    process.execPath,
    '--enable-source-maps',
    '--test',
    '--test-concurrency=2',
    `--test-timeout=${TEST_TIMEOUT_MS}`,
    '--test-reporter=spec',
    ...options.filter((word) => word.startsWith('--test')),
    ...names.map((name) => join(relative(process.cwd(), BUNDLES), bundleOf(name))),
  ];
  const inside = 'ip link set lo up && exec "$@"';
  return spawnSync('unshare', ['--net', '--', 'sh', '-c', inside, 'sh', ...node], { stdio: 'inherit', env: own })
    .status;
}

if (options.includes('--table')) {
  const { table } = await import('./agents-table.mjs');
  console.log(
    existsSync(LAST_RUN) ? table(readFileSync(LAST_RUN, 'utf8')) : 'There was no run yet: npm run test:agents',
  );
  process.exit(0);
}
if (process.platform !== 'linux' || process.arch !== 'x64') skip('it needs Linux on x86-64');
if (process.getuid?.() !== 0) skip('it needs root, to make cells without a network');
const missing = NEEDED.filter((tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0);
if (missing.length > 0) skip(`it needs ${missing.join(', ')}`);

const isWeekly = options.includes('--weekly');
const files = readdirSync(join(SOURCES, 'agents'))
  .filter((name) => name.endsWith('.test.ts'))
  .sort();
const wanted = words.filter((word) => !(word in pinned));
const chosen = files
  .filter((name) =>
    wanted.length === 0 ? isWeekly || !name.includes('.weekly.') : wanted.some((word) => name.includes(word)),
  )
  .map((name) => `agents/${name}`);
if (chosen.length === 0) {
  console.error(`no test file has that in its name; there are: ${files.join(' ')}`);
  process.exit(1);
}
installPrograms(pinned);
await bundle(chosen);
let status = runTests(chosen, pinned);
if (isWeekly) status = (await compareNewest()) || status;
process.exitCode = status === 0 ? 0 : 1;

/** The same tests with newer versions, and what is different there. @returns a status: 0 where nothing is */
async function compareNewest() {
  const before = results();
  const newest = newestVersions();
  const changed = Object.keys(newest).filter((name) => newest[name]?.version !== pinned[name]?.version);
  if (changed.length === 0) {
    console.log('The pinned versions are the newest ones.');
    return 0;
  }
  installPrograms(newest);
  const newerStatus = runTests(chosen, newest, changed);
  const after = results();
  console.log(`\nWith ${changed.map((name) => `${name} ${newest[name]?.version}`).join(', ')}:`);
  let differences = 0;
  for (const [cell, found] of after) {
    if (before.get(cell) === found) continue;
    differences += 1;
    console.log(`  ${cell}: ${before.get(cell) ?? 'nothing'} → ${found}`);
  }
  if (differences === 0) console.log('  nothing has changed');
  return newerStatus || differences;
}

/** What the last run has found: cell of the table → what it says. */
function results() {
  const lines = readFileSync(LAST_RUN, 'utf8').split('\n').filter(Boolean);
  return new Map(
    lines.map((line) => {
      const { program, mode, row, version: _, expected: __, ...found } = JSON.parse(line);
      return [[program, mode, row].filter(Boolean).join(', '), JSON.stringify(found)];
    }),
  );
}
