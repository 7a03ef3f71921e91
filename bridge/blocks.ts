/**
 * Memory in blocks of one size outside the JavaScript heap, used again and again: what is given back is free at once,
 * and not when the garbage collector comes around.
 */
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
