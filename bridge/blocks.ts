/**
 * Memory in blocks of one size outside the JavaScript heap, used again and again: what is given back is free at once,
 * and not when the garbage collector comes around.
 */
import { MessageChannel } from 'node:worker_threads';

export const BLOCK_BYTES = 64 * 1024;
const MAX_FREE_BLOCKS = 256;
const free: Buffer[] = [];

/** A block, or less if so little is needed. What is in it is somebody else's ciphertext: write before you read. */
export function takeBlock(bytes = BLOCK_BYTES): Buffer {
  if (bytes < BLOCK_BYTES) return Buffer.allocUnsafeSlow(bytes);
  return free.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES);
}

/** Nobody may look at it any more. */
export function giveBack(blocks: readonly Buffer[]): void {
  for (const block of blocks) {
    if (block.length === BLOCK_BYTES && free.length < MAX_FREE_BLOCKS) free.push(block);
  }
}

/** To be called each second: what nobody needs is the system's again. */
export function trimBlocks(): void {
  free.length -= Math.ceil(free.length / 32);
}

/** A port that is closed: a message to it is dropped at once, with all memory that was transferred into it. */
const { port1: closedPort } = new MessageChannel();
closedPort.close();

/** Below this many bytes a chunk's objects on the JavaScript heap are as large as it is, and bring the collector soon. */
const MIN_FREED_BYTES = 256;

/**
 * Frees the memory of a chunk of a request body now. V8 itself lets up to 32 MiB of dead chunks pile up (twice its
 * largest semi-space) before it collects them. The chunk is empty afterwards.
 *
 * @param chunk as node:http passes it, in separate memory; what shares memory with others is left alone
 */
export function freeChunk(chunk: Buffer): void {
  const isWhole = chunk.byteOffset === 0 && chunk.length === chunk.buffer.byteLength;
  if (!isWhole || chunk.length < MIN_FREED_BYTES) return;
  closedPort.postMessage(null, [chunk.buffer as ArrayBuffer]);
}
