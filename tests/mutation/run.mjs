/**
 * npm run test:mutation [-- WORD…]: breaks each promise on purpose (tests/mutation/list.mjs) and sees whether its test notices.
 * Works in temporary copies of the tree, and prints a table: what was changed, the promise, the test that caught it. The
 * status is 1 where a mutation survives, no longer applies, or its test fails without it. With words, only those that
 * have one of them in their name. `--check` only sees that each applies.
 */
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MUTATIONS } from './list.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const LEFT_OUT = ['node_modules', 'dist', '.git'];
/** A test that hangs has noticed nothing that it could say. */
const DEADLINE_MS = 240_000;
/** Without a mutation: all tests of a file that some mutation needs. */
const BASELINE_DEADLINE_MS = 900_000;
const WORKERS = 2;

const options = process.argv.slice(2).filter((word) => word.startsWith('-') && word !== '--check');
if (options.length > 0) {
  console.error(`test:mutation: unknown option ${options[0]}: there is --check, and words of a mutation's name`);
  process.exit(2);
}
const words = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const chosen = Object.entries(MUTATIONS).filter(([name]) => words.length === 0 || words.some((w) => name.includes(w)));

/** Throws where the text is not there exactly once. */
function apply(root, { file, old, new: changed }) {
  const path = join(root, file);
  const source = readFileSync(path, 'utf8');
  const count = source.split(old).length - 1;
  if (count !== 1) throw new Error(`the text to be changed is ${count} times in ${file}`);
  return { path, source, mutated: source.replace(old, () => changed) };
}

/** All that a command prints, and its status; null if it took too long. It ends with its whole group. */
function run(cwd, args, deadlineMs = DEADLINE_MS) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { cwd, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const end = () => {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has ended.
      }
    };
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text));
    const timer = setTimeout(end, deadlineMs);
    child.on('close', (status) => {
      clearTimeout(timer);
      end();
      resolve({ status, output });
    });
  });
}

/**
 * The names of the tests that failed; undefined where there is no knowing. Throws where it does not even build.
 *
 * @param {string} root
 * @param {string} test a filter of file names
 * @param {readonly string[]} patterns of test names; none: all of the file
 */
async function failures(root, test, patterns, deadlineMs = DEADLINE_MS) {
  const built = await run(root, ['scripts/build.mjs']);
  if (built.status !== 0) throw new Error(`it does not build:\n${built.output}`);
  const options = patterns.map((pattern) => `--test-name-pattern=${pattern}`);
  const { status, output } = await run(root, ['scripts/test.mjs', test, ...options], deadlineMs);
  if (!/^ℹ pass [1-9]|^ℹ fail [1-9]/m.test(output)) return undefined;
  const names = [...output.split('failing tests')[0].matchAll(/^ *✖ (.*) \([\d.]+ms\)/gm)].map(([, name]) => name);
  return status === 0 ? [] : names;
}

/** @param {readonly {named?: string}[]} mutations of one test file */
const patternsOf = (mutations) =>
  mutations.some(({ named }) => named === undefined) ? [] : [...new Set(mutations.map(({ named }) => named ?? ''))];

function copyOf(root) {
  const copy = mkdtempSync(join(tmpdir(), 'agentalk-mutation-'));
  const isWanted = (path) => !LEFT_OUT.includes(relative(root, path));
  cpSync(root, copy, { recursive: true, filter: isWanted });
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

/** Takes jobs until there are none; each worker has a separate tree. */
async function runJobs(jobs, work) {
  const queue = [...jobs];
  const worker = async () => {
    const root = copyOf(ROOT);
    try {
      for (let job; (job = queue.shift());) await work(root, job);
    } finally {
      rmSync(root, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, worker));
}

let caught = 0;
const troubles = [];
const trouble = (name, what) => {
  troubles.push(name);
  console.log(`FAILED   ${name}\n         ${what.trim().replaceAll('\n', '\n         ')}`);
};

for (const [name, mutation] of chosen) {
  try {
    apply(ROOT, mutation);
  } catch (error) {
    trouble(name, error.message);
  }
}

if (!process.argv.includes('--check') && troubles.length === 0) {
  // A test that fails anyway would catch everything.
  const byTest = new Map(chosen.map(([, { test }]) => [test, chosen.filter(([, each]) => each.test === test)]));
  const broken = new Set();
  await runJobs([...byTest], async (root, [test, mutations]) => {
    const failed = await failures(root, test, patternsOf(mutations.map(([, each]) => each)), BASELINE_DEADLINE_MS);
    if (failed?.length === 0) return;
    trouble(test, failed ? `fails without any mutation: ${failed.join('; ')}` : 'runs no test');
    for (const [name, { named = '' }] of mutations) {
      if (failed === undefined || failed.some((each) => new RegExp(named).test(each))) broken.add(name);
    }
  });
  await runJobs(chosen, async (root, [name, mutation]) => {
    if (broken.has(name)) return;
    const { path, source, mutated } = apply(root, mutation);
    writeFileSync(path, mutated);
    try {
      const failed = await failures(root, mutation.test, patternsOf([mutation]));
      if (failed === undefined) {
        const limit = `within ${DEADLINE_MS / 1000} s`;
        trouble(name, `${mutation.test} did not end ${limit}; what it started may still run: ps -ef | grep ${root}`);
      } else if (failed.length === 0)
        trouble(name, `SURVIVED ${mutation.test} ${mutation.named ?? ''}: ${mutation.promise}`);
      else {
        caught++;
        console.log(`caught   ${name}\n         ${mutation.promise}\n         ${mutation.test}: ${failed[0]}`);
      }
    } catch (error) {
      trouble(name, error.message);
    } finally {
      writeFileSync(path, source);
    }
  });
}
const count = chosen.length;
if (process.argv.includes('--check')) console.log(`${count - troubles.length} of ${count} mutations apply`);
else console.log(`${caught} of ${count} mutations are caught`);
process.exitCode = troubles.length === 0 ? 0 : 1;
