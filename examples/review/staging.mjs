/**
 * What only the build server has: a service in small that runs for long and keeps replacing its workers. Prints, as one
 * line of JSON, what it measured: the heap after each hundred workers, and who still speaks after all have stopped.
 *
 *     node --expose-gc staging.mjs src/worker.mjs
 */
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const HUNDREDS = 4;
const JOBS_PER_WORKER = 100;
const LISTEN_MS = 250;

const { Worker } = await import(pathToFileURL(resolve(process.argv[2] ?? 'src/worker.mjs')).href);

function heapMegabytes() {
  globalThis.gc?.();
  return Math.round((process.memoryUsage().heapUsed / 2 ** 20) * 10) / 10;
}

let heartbeats = 0;
function serveWithOneWorker() {
  const worker = new Worker({ report: () => heartbeats++, heartbeatMs: 50 });
  worker.start();
  for (let job = 0; job < JOBS_PER_WORKER; job++) worker.handle(randomBytes(400).toString('hex'));
  worker.stop();
}

const heap = [heapMegabytes()];
for (let hundred = 0; hundred < HUNDREDS; hundred++) {
  for (let i = 0; i < 100; i++) serveWithOneWorker();
  heap.push(heapMegabytes());
}
heartbeats = 0; // from here on, only a worker that was stopped can be heard
await delay(LISTEN_MS);
console.log(JSON.stringify({ workers: HUNDREDS * 100, heapMegabytes: heap, heartbeats, listenMs: LISTEN_MS }));
