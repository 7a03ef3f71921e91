import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from '../src/worker.mjs';

test('a running worker handles jobs', () => {
  const worker = new Worker({ report() {} });
  worker.start();
  assert.equal(worker.handle('resize 17.png').job, 'resize 17.png');
});

test('a running worker tells how it is', async () => {
  const seen = [];
  const worker = new Worker({ report: (health) => seen.push(health), heartbeatMs: 5 });
  worker.start();
  worker.handle('resize 18.png');
  while (seen.length === 0) await delay(5);
  assert.deepEqual(seen[0], { results: 1 });
});

test('a stopped worker takes no jobs', () => {
  const worker = new Worker({ report() {} });
  worker.start();
  worker.stop();
  assert.throws(() => worker.handle('resize 19.png'), /not running/);
});
