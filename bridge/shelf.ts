/**
 * Where sealed things lie: in slabs outside the JavaScript heap. A full log is tens of thousands of strings, which each
 * garbage collection would copy about: that was half of the time of a send.
 */
import type { Sealed } from './ids.ts';

const MAX_SLAB_BYTES = 64 * 1024;

export type Kept = { readonly slab: Buffer; readonly start: number; readonly end: number };

/** Nonce (24 characters), ciphertext and tag (32), without anything in between. */
export const textOf = (box: Kept | Sealed): string =>
  'slab' in box ? box.slab.toString('latin1', box.start, box.end) : box.nonce + box.ciphertext + box.tag;

export const nonceOf = ({ slab, start }: Kept): string => slab.toString('latin1', start, start + 24);

export function take(kept: Kept): Sealed {
  const text = textOf(kept);
  const ciphertext = text.slice(24, -32) as Sealed['ciphertext'];
  return { nonce: text.slice(0, 24), ciphertext, tag: text.slice(-32) };
}

/** The slabs of one channel. A slab goes when the last thing on it does; they come and go in the same order. */
export class Shelf {
  #slab = Buffer.alloc(0);
  #used = 0;

  /** @param heldBytes what the channel holds: a new slab is no larger, so that a shelf is at most half empty */
  put(sealed: Sealed, heldBytes: number): Kept {
    const { nonce, ciphertext, tag } = sealed;
    const length = nonce.length + ciphertext.length + tag.length;
    if (this.#used + length > this.#slab.length) {
      this.#slab = Buffer.allocUnsafeSlow(Math.max(length, Math.min(heldBytes, MAX_SLAB_BYTES)));
      this.#used = 0;
    }
    const start = this.#used;
    for (const part of [nonce, ciphertext, tag]) this.#used += this.#slab.write(part, this.#used, 'latin1');
    return { slab: this.#slab, start, end: this.#used };
  }
}
