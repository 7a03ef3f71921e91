/** The servers that are measured, and the load that is put on them; each a separate process. */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { BRIDGE, run, start, startBridge, startServer } from '../scripts/child-processes.mjs';
import { cpuMsOfRunning, until } from './measure.mjs';

/** @typedef {Awaited<ReturnType<typeof startServer>>} Server */

export const program = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));

/** A text of 1 KB with its frame, sealed, in base64. */
export const CHARACTERS = 1808;

export const startBaseline = (/** @type {string[]} */ ...options) =>
  startServer([...options, program('baseline-server.mjs')]);

/**
 * Starts both servers and hands them to `work`.
 *
 * @template T
 * @param {(bridge: Server, baseline: Server) => Promise<T>} work
 * @param {string[]} flags of the bridge
 */
export async function withServers(work, ...flags) {
  const [bridge, baseline] = await Promise.all([startBridge(...flags), startBaseline()]);
  try {
    return await work(bridge, baseline);
  } finally {
    await Promise.all([bridge.stop(), baseline.stop()]);
  }
}

/**
 * Lets the load generator loose on a server.
 *
 * @param {Server} server
 * @param {Partial<import('./load.mjs').Job>} job
 * @returns {Promise<{rate: number, busy: number, p50: number, p99: number, p999: number, messages: number, missing: number, cpuMs: number}>}
 *   what load.mjs counted, and the server's CPU time for each
 */
export async function load({ url, pid }, job) {
  const before = cpuMsOfRunning(pid);
  const { status, stdout, stderr } = await run(process.execPath, [
    program('load.mjs'),
    JSON.stringify({ url, ...job }),
  ]);
  if (status !== 0) throw new Error(`the load generator failed: ${stderr}`);
  const counted = JSON.parse(stdout);
  return { ...counted, cpuMs: (cpuMsOfRunning(pid) - before) / counted.done };
}

/** @param {ReturnType<typeof load>} loading @returns what interleave wants to know of it */
export async function rateOf(loading) {
  const { rate, cpuMs } = await loading;
  return { sample: rate, cpuMs };
}

/** What lets a server collect its garbage when it is told to: see memoryOf. */
export const COLLECTING = ['--expose-gc', '--require', program('collect.cjs')];
export const startCollectingBridge = (/** @type {string[]} */ ...flags) =>
  startServer([...COLLECTING, BRIDGE, '--port', '0', '--drain-delay', '0', ...flags]);

/** Resident bytes of a server that was started with COLLECTING, without garbage. */
export async function memoryOf(/** @type {Server} */ { pid, stderr }) {
  const told = () => [...stderr().matchAll(/^resident (\d+)$/gm)].map(([, bytes]) => Number(bytes));
  const before = told().length;
  process.kill(pid, 'SIGUSR2');
  await until(() => told().length > before);
  return told().at(-1) ?? NaN;
}

/** Very many, in a separate process: what `ask` can do is in idle-load.mjs. */
export function startCrowd(/** @type {string} */ url) {
  const child = start(process.execPath, [program('idle-load.mjs'), url]);
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
  const answers = createInterface(child.stdout)[Symbol.asyncIterator]();
  const closed = new Promise((resolve) => child.once('close', resolve));
  return {
    /** @param {string} name @param {Record<string, number>} [options] @returns {Promise<Record<string, any>>} */
    async ask(name, options = {}) {
      child.stdin.write(`${JSON.stringify({ name, ...options })}\n`);
      const { value, done } = await answers.next();
      if (done) throw new Error(`the crowd has gone: ${stderr}`);
      return JSON.parse(value);
    },
    async stop() {
      child.stdin.end();
      await closed;
    },
  };
}
