/**
 * Where a channel keeps what is sealed: the bytes that the base64 stands for, one after the other in blocks outside the
 * JavaScript heap, which makes less garbage than an object for each. A block goes with the last thing in it, and as a
 * channel's oldest always goes first, blocks go in their order.
 */
import type { Sealed } from './ids.ts';

const [SMALLEST, LARGEST, TAG_BYTES] = [1024, 16 * 1024, 16];

/** Something sealed, at rest. */
export interface Kept {
  readonly nonce: string;
  readonly block: Buffer;
  readonly start: number; // of the tag; the ciphertext follows
  readonly end: number;
}

export class Shelf {
  #block = Buffer.alloc(0);
  #used = 0;

  /** A channel that says little takes little: each block is twice as large as the one before. */
  put({ nonce, ciphertext, tag }: Sealed): Kept {
    const length = TAG_BYTES + ciphertext.length;
    if (length > LARGEST / 4) return fill(nonce, tag, ciphertext, Buffer.allocUnsafeSlow(length), 0);
    if (this.#used + length > this.#block.length) {
      const size = Math.min(LARGEST, Math.max(SMALLEST, length, 2 * this.#block.length));
      this.#block = Buffer.allocUnsafeSlow(size);
      this.#used = 0;
    }
    const kept = fill(nonce, tag, ciphertext, this.#block, this.#used);
    this.#used = kept.end;
    return kept;
  }
}

function fill(nonce: string, tag: string, ciphertext: Buffer, block: Buffer, start: number): Kept {
  block.write(tag, start, 'hex');
  ciphertext.copy(block, start + TAG_BYTES);
  return { nonce, block, start, end: start + TAG_BYTES + ciphertext.length };
}

export const tagOf = ({ block, start }: Kept): string => block.toString('hex', start, start + TAG_BYTES);
export const ciphertextOf = ({ block, start, end }: Kept): string => block.toString('base64', start + TAG_BYTES, end);
export const isSame = (kept: Kept, { nonce, ciphertext, tag }: Sealed): boolean =>
  kept.nonce === nonce &&
  tagOf(kept) === tag &&
  ciphertext.equals(kept.block.subarray(kept.start + TAG_BYTES, kept.end));
