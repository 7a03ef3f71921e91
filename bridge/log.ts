/**
 * Where events are kept: a window over the indices first..last. What is sealed lies outside the JavaScript heap: a full
 * log is tens of thousands of strings, and each garbage collection would copy them about (half of the time of a send).
 */
import type { Ciphertext, Sealed } from './ids.ts';

/** A queue that is also read by index. An event enters in `push` and leaves in `shift`. */
export class Log<Event> {
  first = 1;
  #events: (Event | undefined)[] = [];
  /** Entries before this one are gone; they are cut off when they are the most. */
  #gone = 0;

  get last(): number {
    return this.first + this.#events.length - this.#gone - 1;
  }

  get(index: number): Event | undefined {
    return index < this.first ? undefined : this.#events[this.#gone + index - this.first];
  }

  push(event: Event): void {
    this.#events.push(event);
  }

  shift(): Event | undefined {
    const event = this.get(this.first);
    if (!event) return undefined;
    this.#events[this.#gone++] = undefined;
    this.first++;
    if (this.#gone > 64 && this.#gone * 2 > this.#events.length) {
      this.#events = this.#events.slice(this.#gone);
      this.#gone = 0;
    }
    return event;
  }
}

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

  get nonce(): string {
    return this.#slab.toString('latin1', this.#start, this.#start + NONCE);
  }

  get ciphertext(): Ciphertext {
    return this.#slab.toString('latin1', this.#start + NONCE, this.#end - TAG) as Ciphertext;
  }

  get tag(): string {
    return this.#slab.toString('latin1', this.#end - TAG, this.#end);
  }
}
