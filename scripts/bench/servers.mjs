/** The servers that are measured, and the load that is put on them; each a process of its own. */
import { fileURLToPath } from 'node:url';
import { run, startBridge, startServer } from '../processes.mjs';
import { cpuMsOfRunning } from './measure.mjs';

/** @typedef {Awaited<ReturnType<typeof startServer>>} Server */

export const program = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));

/** A text of 1 KB with its frame, sealed, in base64. */
export const CHARACTERS = 1808;

export const startFloor = (/** @type {string[]} */ ...options) => startServer([...options, program('floor.mjs')]);

/**
 * Starts both servers and hands them to `work`.
 *
 * @template T
 * @param {(bridge: Server, floor: Server) => Promise<T>} work
 * @param {string[]} flags of the bridge
 */
export async function withServers(work, ...flags) {
  const [bridge, floor] = await Promise.all([startBridge(...flags), startFloor()]);
  try {
    return await work(bridge, floor);
  } finally {
    await Promise.all([bridge.stop(), floor.stop()]);
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

/** @param {ReturnType<typeof load>} loading @returns what takeTurns wants to know of it */
export async function rateOf(loading) {
  const { rate, cpuMs } = await loading;
  return { sample: rate, cpuMs };
}
