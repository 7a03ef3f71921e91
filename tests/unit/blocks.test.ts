/** The memory of request bodies: free as soon as it is not needed, without a garbage collection. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BLOCK_BYTES, freeChunk, giveBack, takeBlock } from '../../bridge/blocks.ts';

const MiB = 1024 * 1024;

test('the memory of a chunk is free at once: 500 MiB of chunks add less than 16 MiB', () => {
  const before = process.memoryUsage.rss();
  for (let n = 0; n < 8000; n++) {
    const chunk = Buffer.allocUnsafeSlow(64 * 1024).fill(1);
    freeChunk(chunk);
    assert.equal(chunk.length, 0);
  }
  const grown = process.memoryUsage.rss() - before;
  assert.ok(grown < 16 * MiB, `${grown / MiB} MiB`);
});

test('a chunk that shares memory with others is left alone', () => {
  const whole = Buffer.allocUnsafeSlow(1024).fill(7);
  freeChunk(whole.subarray(0, 512));
  freeChunk(whole.subarray(512));
  assert.deepEqual([whole.length, whole[0], whole[1023]], [1024, 7, 7]);
});

test('a block that was given back is used again', () => {
  const block = takeBlock();
  assert.equal(block.length, BLOCK_BYTES);
  giveBack([block]);
  assert.equal(takeBlock(), block);
});
