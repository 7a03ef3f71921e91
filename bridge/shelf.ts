/**
 * Where sealed messages lie: in slabs outside the JavaScript heap. A full log is tens of thousands of strings, which
 * each garbage collection would copy about: that was half of the time of a send.
 */
import type { Ciphertext, Sealed } from './ids.ts';

const MAX_SLAB_BYTES = 64 * 1024;
const NONCE = 24;
const TAG = 32;

/** The slabs of one channel. A slab goes when the last message on it does; they come and go in the same order. */
export class Shelf {
  #slab = Buffer.alloc(0);
  #used = 0;

  /** @param heldBytes what the channel holds: a new slab is no larger, so that a shelf is at most half empty */
  put({ nonce, ciphertext, tag }: Sealed, heldBytes: number): Sealed {
    const text = nonce + ciphertext + tag;
    if (this.#used + text.length > this.#slab.length) {
      this.#slab = Buffer.allocUnsafeSlow(Math.max(text.length, Math.min(heldBytes, MAX_SLAB_BYTES)));
      this.#used = 0;
    }
    const start = this.#used;
    this.#used += this.#slab.write(text, start, 'latin1');
    return new Kept(this.#slab, start, this.#used);
  }
}

class Kept implements Sealed {
  readonly #slab: Buffer;
  readonly #start: number;
  readonly #end: number;

  constructor(slab: Buffer, start: number, end: number) {
    this.#slab = slab;
    this.#start = start;
    this.#end = end;
  }

  get nonce() {
    return this.#slab.toString('latin1', this.#start, this.#start + NONCE);
  }

  get ciphertext() {
    return this.#slab.toString('latin1', this.#start + NONCE, this.#end - TAG) as Ciphertext;
  }

  get tag() {
    return this.#slab.toString('latin1', this.#end - TAG, this.#end);
  }
}
