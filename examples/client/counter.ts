/** What a reader has of one counter of one session: which numbers came, which are missing, and what is next. */

/** Missing numbers, both ends included. */
interface Gap {
  first: number;
  last: number;
  /** When the message after them came, or the numbers were named. */
  since: number;
  /** Whether a message after them came. */
  isFollowed: boolean;
  isGivenUp: boolean;
}

const DIGESTS = 4096;
const MAX_WAITING = 2000;

export type Place = 'waiting' | 'late' | 'duplicate' | 'conflict' | 'dropped';

export class Counter<Item> {
  /** Every number up to here was shown, consumed or given up. */
  processed = 0;
  /** The highest number that was shown or consumed, and the lowest. */
  lastShown = 0;
  firstShown = 0;
  /** The highest number that came or was named. */
  highest = 0;
  /** When a missing number last came. */
  lastFoundAt = 0;
  #highestCame = 0;
  readonly #waiting = new Map<number, Item>();
  readonly #digests = new Map<number, string>();
  /** In ascending order. */
  #gaps: Gap[] = [];

  /** Takes a message in. `late` is to be shown now; `waiting` comes out of `next`. */
  add(seq: number, digest: string, item: Item, now: number): Place {
    const isProcessed = seq <= this.processed;
    if (isProcessed && seq <= this.#highestCame - DIGESTS) return 'duplicate';
    const known = this.#digests.get(seq);
    if (known !== undefined) return known === digest ? 'duplicate' : 'conflict';
    const gap = this.#gaps.find(({ first, last }) => first <= seq && seq <= last);
    const isLate = isProcessed || gap?.isGivenUp === true;
    if (!isLate && this.#waiting.size >= MAX_WAITING && seq !== this.processed + 1) {
      this.name(seq, now);
      return 'dropped';
    }
    this.#remember(seq, digest);
    if (isLate) {
      this.#noteShown(seq);
      return 'late';
    }
    this.#waiting.set(seq, item);
    if (gap === undefined) this.#extend(seq, now);
    else this.#split(gap, seq, now);
    return 'waiting';
  }

  /** The session said that it has numbers up to this one. */
  name(upTo: number, now: number): void {
    if (upTo <= this.highest) return;
    this.#gaps.push({ first: this.highest + 1, last: upTo, since: now, isFollowed: false, isGivenUp: false });
    this.highest = upTo;
  }

  /** Takes out the next message in order, unless it is missing or `isReady` is false for it. */
  next(isReady: (item: Item) => boolean): { readonly seq: number; readonly item: Item } | undefined {
    this.#passGivenUp();
    const seq = this.processed + 1;
    const item = this.#waiting.get(seq);
    if (item === undefined || !isReady(item)) return undefined;
    this.#waiting.delete(seq);
    this.processed = seq;
    this.#noteShown(seq);
    this.#passGivenUp();
    return { seq, item };
  }

  get isMissing(): boolean {
    return this.#gaps.some(({ isGivenUp }) => !isGivenUp);
  }

  /** The lowest number that waits to be shown. */
  get firstWaiting(): number | undefined {
    return this.#waiting.size === 0 ? undefined : Math.min(...this.#waiting.keys());
  }

  /** How far messages are stored without a missing one. */
  get stored(): number {
    const gap = this.#gaps.find(({ isGivenUp }) => !isGivenUp);
    return gap === undefined ? this.highest : gap.first - 1;
  }

  /** Gives up on missing numbers. Returns their ranges. */
  giveUp(isDue: (since: number) => boolean): readonly { readonly first: number; readonly last: number }[] {
    const due = this.#gaps.filter(({ isGivenUp, since }) => !isGivenUp && isDue(since));
    for (const gap of due) gap.isGivenUp = true;
    this.#passGivenUp();
    return due.map(({ first, last }) => ({ first, last }));
  }

  /** The same for missing numbers below one. */
  giveUpBelow(limit: number): readonly { readonly first: number; readonly last: number }[] {
    this.#gaps = this.#gaps.flatMap((gap) => {
      if (gap.isGivenUp || gap.first >= limit || gap.last < limit) return [gap];
      return [
        { ...gap, last: limit - 1, isFollowed: false },
        { ...gap, first: limit },
      ];
    });
    const due = this.#gaps.filter(({ isGivenUp, last }) => !isGivenUp && last < limit);
    for (const gap of due) gap.isGivenUp = true;
    this.#passGivenUp();
    return due.map(({ first, last }) => ({ first, last }));
  }

  #passGivenUp(): void {
    for (;;) {
      const [gap] = this.#gaps;
      if (gap === undefined || !gap.isGivenUp || gap.first !== this.processed + 1) return;
      this.processed = gap.last;
      this.#gaps.shift();
    }
  }

  #noteShown(seq: number): void {
    this.lastShown = Math.max(this.lastShown, seq);
    this.firstShown = this.firstShown === 0 ? seq : Math.min(this.firstShown, seq);
  }

  #extend(seq: number, now: number): void {
    this.name(seq - 1, now);
    this.highest = seq;
    for (const gap of this.#gaps) {
      if (gap.isFollowed) continue;
      gap.isFollowed = true;
      gap.since = now;
    }
  }

  #split(gap: Gap, seq: number, now: number): void {
    this.lastFoundAt = now;
    const below: Gap = { ...gap, last: seq - 1, since: now, isFollowed: true };
    const above: Gap = { ...gap, first: seq + 1 };
    const parts = [below, above].filter(({ first, last }) => first <= last);
    this.#gaps.splice(this.#gaps.indexOf(gap), 1, ...parts);
  }

  #remember(seq: number, digest: string): void {
    this.#digests.set(seq, digest);
    this.#highestCame = Math.max(this.#highestCame, seq);
    if (this.#digests.size <= 2 * DIGESTS + MAX_WAITING) return;
    const oldest = Math.min(this.processed, this.#highestCame - DIGESTS);
    for (const each of this.#digests.keys()) {
      if (each <= oldest) this.#digests.delete(each);
    }
  }
}
