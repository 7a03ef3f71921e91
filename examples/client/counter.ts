/** What a reader has of one counter of one session: which numbers came, which are missing, and what is next. */

/** Numbers from first to last, both included. */
export type Range = { readonly first: number; readonly last: number };
type Gap = Range & {
  /** When the message after it came, or else when it was named. */
  readonly since: number;
  /** Whether a message after it came. */
  readonly isFollowed: boolean;
  readonly isGivenUp: boolean;
};

const DIGESTS = 4096;
const MAX_WAITING = 2000;

export class Counter<Item> {
  /** Every number up to here was shown, consumed or skipped. */
  processed = 0;
  /** The highest number that was shown or consumed. */
  lastShown = 0;
  /** The highest number that came or was named. */
  highest = 0;
  private firstShown = Infinity;
  private highestCame = 0;
  /** When a missing number last came. */
  private lastFoundAt = -Infinity;
  private readonly waiting = new Map<number, Item>();
  private readonly digests = new Map<number, string>();
  /** In ascending order. */
  private gaps: readonly Gap[] = [];

  /** Takes a message in: `late` is to be shown now, `waiting` comes out of next(). */
  add(seq: number, digest: string, item: Item, now: number): 'waiting' | 'late' | 'duplicate' | 'conflict' | 'dropped' {
    const isProcessed = seq <= this.processed;
    if (isProcessed && seq <= this.highestCame - DIGESTS) return 'duplicate';
    const known = this.digests.get(seq);
    if (known !== undefined) return known === digest ? 'duplicate' : 'conflict';
    const gap = this.gaps.find(({ first, last }) => first <= seq && seq <= last);
    const isLate = isProcessed || gap?.isGivenUp === true;
    if (!isLate && this.waiting.size >= MAX_WAITING && seq !== this.processed + 1) {
      this.name(seq, now);
      return 'dropped';
    }
    this.remember(seq, digest);
    if (isLate) {
      this.noteShown(seq);
      return 'late';
    }
    this.waiting.set(seq, item);
    if (gap === undefined) this.extend(seq, now);
    else this.fill(gap, seq, now);
    return 'waiting';
  }

  /** The session said that it has sent numbers up to this one. */
  name(upTo: number, now: number): void {
    if (upTo <= this.highest) return;
    const gap = { first: this.highest + 1, last: upTo, since: now, isFollowed: false, isGivenUp: false };
    this.gaps = [...this.gaps, gap];
    this.highest = upTo;
  }

  /** Takes out the message that is next in order, unless it is missing or not ready. */
  next(isReady: (item: Item) => boolean = () => true): { readonly seq: number; readonly item: Item } | undefined {
    const seq = this.processed + 1;
    const item = this.waiting.get(seq);
    if (item === undefined || !isReady(item)) return undefined;
    this.waiting.delete(seq);
    this.processed = seq;
    this.noteShown(seq);
    this.passGivenUp();
    return { seq, item };
  }

  get isMissing(): boolean {
    return this.gaps.some(({ isGivenUp }) => !isGivenUp);
  }

  /** How far messages are stored without a missing one. */
  get stored(): number {
    const gap = this.gaps.find(({ isGivenUp }) => !isGivenUp);
    return gap === undefined ? this.highest : gap.first - 1;
  }

  /** The first number that was or will be shown, as far as is known. */
  get firstToShow(): number {
    return Math.min(this.firstShown, ...this.waiting.keys(), this.highest + 1);
  }

  /** Skips missing numbers that are due. */
  giveUp(isDue: (since: number, lastFoundAt: number) => boolean): readonly Range[] {
    return this.giveUpGaps(({ since }) => isDue(since, this.lastFoundAt));
  }

  /** Skips missing numbers below one. */
  giveUpBelow(limit: number): readonly Range[] {
    this.gaps = this.gaps.flatMap((gap) => {
      if (gap.first >= limit || gap.last < limit) return [gap];
      return [
        { ...gap, last: limit - 1 },
        { ...gap, first: limit },
      ];
    });
    return this.giveUpGaps(({ last }) => last < limit);
  }

  private giveUpGaps(isDue: (gap: Gap) => boolean): readonly Range[] {
    const due = this.gaps.filter((gap) => !gap.isGivenUp && isDue(gap));
    if (due.length === 0) return due;
    this.gaps = this.gaps.map((gap) => (due.includes(gap) ? { ...gap, isGivenUp: true } : gap));
    this.passGivenUp();
    return due;
  }

  private passGivenUp(): void {
    for (;;) {
      const [gap, ...rest] = this.gaps;
      if (gap === undefined || !gap.isGivenUp || gap.first !== this.processed + 1) return;
      this.processed = gap.last;
      this.gaps = rest;
    }
  }

  private noteShown(seq: number): void {
    this.firstShown = Math.min(this.firstShown, seq);
    this.lastShown = Math.max(this.lastShown, seq);
  }

  /** A number above all that are known came. */
  private extend(seq: number, now: number): void {
    this.name(seq - 1, now);
    this.highest = seq;
    this.gaps = this.gaps.map((gap) => (gap.isFollowed ? gap : { ...gap, since: now, isFollowed: true }));
  }

  /** A missing number came. */
  private fill(gap: Gap, seq: number, now: number): void {
    this.lastFoundAt = now;
    const parts: readonly Gap[] = [
      { ...gap, last: seq - 1, since: now, isFollowed: true },
      { ...gap, first: seq + 1 },
    ];
    const rest = parts.filter(({ first, last }) => first <= last);
    this.gaps = this.gaps.flatMap((each) => (each === gap ? rest : [each]));
  }

  private remember(seq: number, digest: string): void {
    this.digests.set(seq, digest);
    this.highestCame = Math.max(this.highestCame, seq);
    if (this.digests.size <= 2 * DIGESTS + MAX_WAITING) return;
    const last = Math.min(this.processed, this.highestCame - DIGESTS);
    for (const each of this.digests.keys()) {
      if (each <= last) this.digests.delete(each);
    }
  }
}
