/** Numbers that look random and come again with the same seed: a failing run can be run again. */
import { createHash } from 'node:crypto';

export class Random {
  #state: number;

  /** Seeds may have parts, so that each part of a test has a sequence of its own. */
  constructor(...seed: readonly (string | number)[]) {
    this.#state = createHash('sha256').update(seed.join(' ')).digest().readUInt32LE();
  }

  /** From 0, below 1 (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from `least` to `most`. */
  between(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1));
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.between(0, choices.length - 1)] as T;
  }

  isLess(probability: number): boolean {
    return this.next() < probability;
  }
}
