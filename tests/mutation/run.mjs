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
const LANES = 2;

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
function run(cwd, args) {
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
    const timer = setTimeout(end, DEADLINE_MS);
    child.on('close', (status) => {
      clearTimeout(timer);
      end();
      resolve({ status, output });
    });
  });
}

/** The names of the tests that failed; undefined where there is no knowing. Throws where it does not even build. */
async function failures(root, { test, named }) {
  const built = await run(root, ['scripts/build.mjs']);
  if (built.status !== 0) throw new Error(`it does not build:\n${built.output}`);
  const pattern = named === undefined ? [] : [`--test-name-pattern=${named}`];
  const { status, output } = await run(root, ['scripts/test.mjs', test, ...pattern]);
  if (!/^ℹ pass [1-9]|^ℹ fail [1-9]/m.test(output)) return undefined;
  const names = [...output.split('failing tests')[0].matchAll(/^ *✖ (.*) \([\d.]+ms\)/gm)].map(([, name]) => name);
  return status === 0 ? [] : names;
}

function copyOf(root) {
  const copy = mkdtempSync(join(tmpdir(), 'agentalk-mutation-'));
  const isWanted = (path) => !LEFT_OUT.includes(relative(root, path));
  cpSync(root, copy, { recursive: true, filter: isWanted });
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

/** Takes jobs until there are none; each lane has a tree of its own. */
async function lanes(jobs, work) {
  const queue = [...jobs];
  const lane = async () => {
    const root = copyOf(ROOT);
    try {
      for (let job; (job = queue.shift());) await work(root, job);
    } finally {
      rmSync(root, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

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
  const tests = new Map(chosen.map(([, each]) => [`${each.test} ${each.named ?? ''}`, each]));
  const broken = new Set();
  await lanes([...tests], async (root, [key, mutation]) => {
    const failed = await failures(root, mutation);
    if (failed?.length === 0) return;
    broken.add(key);
    trouble(key, failed ? `fails without any mutation: ${failed.join('; ')}` : 'runs no test');
  });
  await lanes(chosen, async (root, [name, mutation]) => {
    if (broken.has(`${mutation.test} ${mutation.named ?? ''}`)) return;
    const { path, source, mutated } = apply(root, mutation);
    writeFileSync(path, mutated);
    try {
      const failed = await failures(root, mutation);
      if (failed === undefined) {
        const limit = `within ${DEADLINE_MS / 1000} s`;
        trouble(name, `${mutation.test} did not end ${limit}; what it started may still run: ps -ef | grep ${root}`);
      } else if (failed.length === 0)
        trouble(name, `SURVIVED ${mutation.test} ${mutation.named ?? ''}: ${mutation.promise}`);
      else console.log(`caught   ${name}\n         ${mutation.promise}\n         ${mutation.test}: ${failed[0]}`);
    } catch (error) {
      trouble(name, error.message);
    } finally {
      writeFileSync(path, source);
    }
  });
}
const done = process.argv.includes('--check') ? 'apply' : 'are caught';
console.log(`${chosen.length - troubles.length} of ${chosen.length} mutations ${done}`);
process.exitCode = troubles.length === 0 ? 0 : 1;
