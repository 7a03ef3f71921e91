/**
 * Processes and folders that last as long as this program. However it ends, short of kill -9, nothing of them stays.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
export const CLIENT = join(ROOT, 'dist', 'agentalk.sh');
export const BRIDGE = join(ROOT, 'dist', 'bridge.js');
/** Another bash to run the client with, as in the tests. */
export const BASH = process.env['AGENTALK_TEST_BASH'] || 'bash';

/** @type {Set<import('node:child_process').ChildProcess>} */
const children = new Set();
/** @type {string[]} */
const folders = [];

process.on('exit', () => {
  for (const child of children) end(child, 'SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
});
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  process.on(signal, () => process.exit(128 + constants.signals[signal]));
}
process.stdout.on('error', () => process.exit(1)); // its reader has gone

/** @param {string} name what it is for @returns {string} a new folder */
export function makeFolder(name) {
  for (const file of [CLIENT, BRIDGE]) if (!existsSync(file)) throw new Error(`${file} is missing: npm run build`);
  const folder = realpathSync(mkdtempSync(join(tmpdir(), `agentalk-${name}-`)));
  folders.push(folder);
  return folder;
}

/** The environment of a child: nothing of ours or of a surrounding git or test run, and no proxy on loopback. */
function environment(/** @type {NodeJS.ProcessEnv} */ more) {
  const own = Object.entries(process.env).filter(([name]) => !/^(AGENTALK_|GIT_|NODE_TEST_CONTEXT$)/.test(name));
  // A bash with a socket as standard input, as node gives it, reads ~/.bashrc where SHLVL is 0: not part of anything here.
  return { ...Object.fromEntries(own), SHLVL: '1', NO_PROXY: '127.0.0.1', no_proxy: '127.0.0.1', ...more };
}

/**
 * Starts a process as the leader of a new process group, so that it can be ended with all that it started.
 *
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{cwd?: string, env?: NodeJS.ProcessEnv}} [options] `env` is added to the environment
 */
export function start(program, args, { cwd, env = {} } = {}) {
  const child = spawn(program, args, { cwd, env: environment(env), stdio: 'pipe', detached: true });
  children.add(child);
  child.on('close', () => children.delete(child));
  child.on('error', () => children.delete(child));
  child.stdin.on('error', () => {}); // it may end before it has read all
  return child;
}

function end(/** @type {import('node:child_process').ChildProcess} */ child, /** @type {NodeJS.Signals} */ signal) {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch {
    // It has ended already.
  }
}

/**
 * Does something, and where that fails, ends what it has started and not stopped: a process that waits for its own
 * children would wait for ever.
 *
 * @template T
 * @param {() => Promise<T>} work nothing else may start processes meanwhile
 */
export async function tidily(work) {
  const before = new Set(children);
  try {
    return await work();
  } catch (error) {
    for (const child of children) if (!before.has(child)) end(child, 'SIGKILL');
    throw error;
  }
}

/**
 * Runs a process to its end.
 *
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{cwd?: string, env?: NodeJS.ProcessEnv, input?: string | Buffer, timeoutMs?: number}} [options]
 * @returns {Promise<{status: number | null, stdout: string, stderr: string, ms: number}>} `ms` from start to end
 */
export function run(program, args, { input = '', timeoutMs = 60_000, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const begun = performance.now();
    const child = start(program, args, options);
    const output = { stdout: '', stderr: '' };
    for (const name of /** @type {const} */ (['stdout', 'stderr'])) {
      child[name].setEncoding('utf8').on('data', (text) => (output[name] += text));
    }
    child.stdin.end(input);
    const timer = setTimeout(() => end(child, 'SIGKILL'), timeoutMs);
    child.on('error', reject);
    child.on('close', (status) => {
      clearTimeout(timer);
      resolve({ status, ...output, ms: performance.now() - begun });
    });
  });
}

/**
 * Starts a server that prints `listening on URL` once it is ready.
 *
 * @param {readonly string[]} args of node
 * @returns {Promise<{url: string, pid: number, stop: () => Promise<void>, stderr: () => string}>}
 */
export function startServer(args) {
  return new Promise((resolve, reject) => {
    const child = start(process.execPath, args);
    let stdout = '';
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
    const closed = new Promise((done) => child.once('close', done));
    void closed.then((status) => reject(new Error(`${args[0]} ended with status ${status}: ${stderr}`)));
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
      const url = /^listening on (\S+)$/m.exec(stdout)?.[1];
      const stop = async () => {
        end(child, 'SIGTERM');
        await closed;
      };
      if (url && child.pid) resolve({ url, pid: child.pid, stop, stderr: () => stderr });
    });
  });
}

/** @param {readonly string[]} flags */
export const startBridge = (...flags) => startServer([BRIDGE, '--port', '0', '--drain-delay', '0', ...flags]);
