/**
 * Messages that leave at even intervals, and how long each of them takes. Time counts from when a message was due, not
 * from when it could go out: a server that falls behind can't hide it by slowing down the measurement.
 */
import { sleep } from './connection.mjs';
import { quantile } from './measure.mjs';

const PATIENCE_MS = 10_000;

export class Trip {
  #warm;
  #end;
  #begun = performance.now() + 100;
  #rate;
  /** @type {number[]} */
  #taken = [];
  #missing = 0;

  /** A fifth of the time more, at first, is not counted. @param {number} seconds @param {number} rate for each second */
  constructor(seconds, rate) {
    this.#warm = this.#begun + seconds * 200;
    this.#end = this.#warm + seconds * 1000;
    this.#rate = rate;
  }

  /** Where messages arrive in the order in which they left. */
  lane() {
    /** When those were due that have not arrived. @type {number[]} */
    const flying = [];
    return {
      leave: (/** @type {number} */ due) => {
        this.#missing++;
        flying.push(due);
      },
      arrive: (/** @type {number} */ messages) => {
        for (const due of flying.splice(0, messages)) {
          if (due >= this.#warm) this.#taken.push(performance.now() - due);
          this.#missing--;
        }
        return true;
      },
    };
  }

  /** Calls `send` with the time at which each message is due, and waits until all have arrived. */
  async run(/** @type {(due: number) => void} */ send) {
    const sent = await this.#sendAll(send);
    const patience = this.#end + PATIENCE_MS;
    while (this.#missing > 0 && performance.now() < patience) await sleep(0.01);
    const [p50 = NaN, p99 = NaN, p999 = NaN] = [0.5, 0.99, 0.999].map((q) => quantile(this.#taken, q));
    return { p50, p99, p999, messages: this.#taken.length, missing: this.#missing, done: sent };
  }

  /** @param {(due: number) => void} send @returns {Promise<number>} */
  #sendAll(send) {
    let sent = 0;
    const dueAt = () => this.#begun + (sent * 1000) / this.#rate;
    return new Promise((resolve) => {
      const tick = () => {
        for (const now = performance.now(); dueAt() <= now && dueAt() < this.#end; sent++) send(dueAt());
        // Timers are too coarse for less than three milliseconds; at a high rate this takes a whole core.
        if (dueAt() >= this.#end) resolve(sent);
        else if (dueAt() - performance.now() > 3) setTimeout(tick, 1);
        else setImmediate(tick);
      };
      tick();
    });
  }
}
