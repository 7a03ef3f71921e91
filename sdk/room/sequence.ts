/**
 * One counter of another session's content, as it came here (docs/protocol.md, Sequence numbers): which number is new,
 * repeated, changed or late, what is next in order, what is missing, and when a missing number is skipped. It is pure:
 * no clock, no storage, no page. All times are Unix ms of the reader's clock.
 */

/** Sequence numbers, both ends included. */
export type Run = { readonly from: number; readonly to: number };
export type Buffered<Item> = { readonly item: Item; readonly arrivedAt: number };

/** - `beyond`: more out of order than is stored; it is repeated. */
export type Verdict = 'new' | 'late' | 'duplicate' | 'changed' | 'beyond';

export const MISSING_TIMEOUT_MS = 60_000;
export const MAX_BUFFERED = 2000;
const MAX_DIGESTS = 4096;
const DIGESTS_DROPPED_AT_ONCE = 256;
/** 128 bits of the SHA-256 tell two messages apart. */
const DIGEST_CHARACTERS = 32;
/** Beyond these, the lowest ranges of given-up numbers are forgotten: what comes of them later is dropped. */
const MAX_SKIPPED_RUNS = 256;
const MAX_NAMED = 64;

const lengthOf = ({ from, to }: Run): number => Math.max(0, to - from + 1);
export const totalLength = (runs: readonly Run[]): number => runs.reduce((sum, run) => sum + lengthOf(run), 0);

/** The part of each run from `from` on. */
export const runsFrom = (runs: readonly Run[], from: number): Run[] =>
  runs.map((run) => ({ from: Math.max(run.from, from), to: run.to })).filter((run) => lengthOf(run) > 0);

/** The part of each run up to `to`. */
export const runsUpTo = (runs: readonly Run[], to: number): Run[] =>
  runs.map((run) => ({ from: run.from, to: Math.min(run.to, to) })).filter((run) => lengthOf(run) > 0);

/** Sorted, without overlaps, neighbours joined. */
function normalizeRuns(runs: readonly Run[]): Run[] {
  const joined: Run[] = [];
  for (const run of [...runs].sort((a, b) => a.from - b.from)) {
    const last = joined.at(-1);
    if (last && run.from <= last.to + 1) joined[joined.length - 1] = { from: last.from, to: Math.max(last.to, run.to) };
    else joined.push(run);
  }
  return joined;
}

const includes = (runs: readonly Run[], seq: number): boolean => runs.some(({ from, to }) => from <= seq && seq <= to);

/** The fields of a counter that outlive a reload; digests and buffered messages are stored one by one. */
export type CounterFields = {
  readonly processed: number;
  readonly delivered: number;
  readonly highest: number;
  readonly skipped: readonly Run[];
  readonly late: readonly Run[];
};

export class Counter<Item> {
  /** All up to this number were delivered or skipped. */
  processed = 0;
  /** The highest number that was delivered. */
  delivered = 0;
  /** The highest number that the session itself named. */
  highest = 0;
  readonly buffered = new Map<number, Buffered<Item>>();
  readonly digests = new Map<number, string>();
  skipped: Run[] = [];
  /** Of these, what came after all. */
  late: Run[] = [];
  /** Numbers whose digest or buffered message is another than was stored last. */
  readonly changed = { digests: new Set<number>(), buffered: new Set<number>() };
  /** When numbers above the last message that came were named: up to which one, and when. Ascending. */
  #named: { upTo: number; at: number }[] = [];
  #lastFilledAt = 0;

  /** After a reload what is missing is waited for once more, from `now` on. */
  static restore<Item>(fields: CounterFields, now: number): Counter<Item> {
    const counter = new Counter<Item>();
    counter.processed = fields.processed;
    counter.delivered = fields.delivered;
    counter.name(fields.highest, now);
    counter.skipped = [...fields.skipped];
    counter.late = [...fields.late];
    return counter;
  }

  toFields(): CounterFields {
    const { processed, delivered, highest, skipped, late } = this;
    return { processed, delivered, highest, skipped, late };
  }

  /** True if no number up to the highest named one is missing or waits. */
  get isComplete(): boolean {
    return this.processed >= this.highest;
  }

  /** All up to this number came, were delivered or skipped. */
  get stored(): number {
    let stored = this.processed;
    while (this.buffered.has(stored + 1)) stored++;
    return stored;
  }

  /** The session named this number: it has sealed all up to it. */
  name(upTo: number, now: number): void {
    if (upTo <= this.highest) return;
    this.highest = upTo;
    // Of too many steps the oldest two become one, at the later time.
    if (this.#named.length >= MAX_NAMED) this.#named.shift();
    this.#named.push({ upTo, at: now });
  }

  /** What a message under this number is. `digest` is that of its frame without the signature line. */
  verdict(seq: number, digest: string): Verdict {
    const known = this.digests.get(seq);
    if (known !== undefined) return known === digest.slice(0, DIGEST_CHARACTERS) ? 'duplicate' : 'changed';
    if (includes(this.skipped, seq) && !includes(this.late, seq)) return 'late';
    if (seq <= this.processed) return 'duplicate';
    const isNext = seq === this.processed + 1;
    return this.buffered.size >= MAX_BUFFERED && !isNext ? 'beyond' : 'new';
  }

  /** Takes a message whose verdict is `new`. */
  add(seq: number, digest: string, item: Item, now: number): void {
    if (seq <= this.highest) this.#lastFilledAt = now;
    this.highest = Math.max(this.highest, seq);
    this.buffered.set(seq, { item, arrivedAt: now });
    this.changed.buffered.add(seq);
    this.#recordDigest(seq, digest);
  }

  /** Takes the number of a message whose verdict is `late`. */
  addLate(seq: number, digest: string): void {
    this.late = normalizeRuns([...this.late, { from: seq, to: seq }]).slice(-MAX_SKIPPED_RUNS);
    this.delivered = Math.max(this.delivered, seq);
    this.#recordDigest(seq, digest);
  }

  /** What is next in order, if it came. */
  peek(): Item | undefined {
    return this.buffered.get(this.processed + 1)?.item;
  }

  /** Takes what `peek` gave. */
  advance(): void {
    const seq = this.processed + 1;
    this.buffered.delete(seq);
    this.changed.buffered.add(seq);
    this.processed = seq;
    this.delivered = Math.max(this.delivered, seq);
    this.#skipGivenUp();
  }

  /** The numbers that did not come, ascending. */
  missing(): Run[] {
    const present = [...this.buffered.keys()].map((seq) => ({ from: seq, to: seq }));
    const runs: Run[] = [];
    let next = this.processed + 1;
    for (const { from, to } of normalizeRuns([...present, ...this.skipped])) {
      if (from > next) runs.push({ from: next, to: from - 1 });
      next = Math.max(next, to + 1);
    }
    if (next <= this.highest) runs.push({ from: next, to: this.highest });
    return runs;
  }

  /**
   * The missing numbers whose time is up: 60 s have passed since the message after them came, or since they were named
   * where none did, and since a missing number of this counter last came.
   */
  due(now: number): Run[] {
    if (now - this.#lastFilledAt < MISSING_TIMEOUT_MS) return [];
    const arrivals = [...this.buffered].sort(([a], [b]) => a - b);
    const isDue = (at: number) => now - at >= MISSING_TIMEOUT_MS;
    const due: Run[] = [];
    for (const run of this.missing()) {
      const follower = arrivals.find(([seq]) => seq > run.to);
      if (follower) {
        if (isDue(follower[1].arrivedAt)) due.push(run);
        continue;
      }
      // Numbers at the end were named one step after the other.
      const lastDue = this.#named.findLast(({ at }) => isDue(at));
      due.push(...runsUpTo([run], lastDue?.upTo ?? 0));
    }
    return due;
  }

  /** Skips missing numbers: what comes after them is next in order. */
  skip(runs: readonly Run[]): void {
    this.skipped = normalizeRuns([...this.skipped, ...runs]).slice(-MAX_SKIPPED_RUNS);
    this.#skipGivenUp();
  }

  /** How many numbers from `base` on were skipped, late ones included. */
  skippedFrom(base: number): number {
    return totalLength(runsFrom(this.skipped, base));
  }

  #skipGivenUp(): void {
    for (const { from, to } of this.skipped) {
      if (from <= this.processed + 1) this.processed = Math.max(this.processed, to);
    }
    this.#named = this.#named.filter(({ upTo }) => upTo > this.processed);
  }

  #recordDigest(seq: number, digest: string): void {
    this.digests.set(seq, digest.slice(0, DIGEST_CHARACTERS));
    this.changed.digests.add(seq);
    if (this.digests.size < MAX_DIGESTS + DIGESTS_DROPPED_AT_ONCE) return;
    const oldest = [...this.digests.keys()].sort((a, b) => a - b).slice(0, DIGESTS_DROPPED_AT_ONCE);
    for (const dropped of oldest) {
      this.digests.delete(dropped);
      this.changed.digests.add(dropped);
    }
  }
}
