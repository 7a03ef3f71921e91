/** What a client knows of one other session. Everything here hangs on the sid that was proved. */
import { Counter } from './counter.ts';
import type { Range } from './counter.ts';
import type { Card } from './crypto.ts';
import type { FileKey } from './files.ts';
import type { Message } from './message.ts';

/** Content that waits for its turn. */
export interface Content {
  readonly isDirect: boolean;
  /** Undefined if it was rejected. */
  readonly message: Message | undefined;
  /** Why it was rejected, or its body is bad. */
  readonly problem: string | undefined;
  readonly body: Buffer;
  readonly fileKey: FileKey | undefined;
  /** Whether the bridge had it before this client joined for the first time. */
  readonly isFromBeforeJoin: boolean;
  readonly arrivedAt: number;
}

/** How `seen` names a session. */
export const tagOf = (sid: string): string => sid.slice(0, 16);

export class Peer {
  readonly broadcasts = new Counter<Content>();
  directs = new Counter<Content>();

  isPaired = false;
  /** In the channel. */
  isPresent = false;
  hasBeenPresent = false;
  /** What its `bye` said to have sent, and how many polls had begun when it came. */
  bye: { readonly broadcasts: number; readonly directs: number; readonly polls: number } | undefined;
  hasLeft = false;
  /** In the client's count of occurrences: when it was PAIRED, and when content of it was last shown. */
  pairedAt = 0;
  shownAt = 0;
  heardAt = -Infinity;

  /** The first F that it named, and the highest. */
  base: number | undefined;
  first = 1;
  /** How many of its broadcasts, from base on, and of its direct messages were skipped. */
  skippedBroadcasts = 0;
  skippedDirects = 0;
  /** The highest mark for it in the `seen` of others. */
  seenByOthers = 0;
  reach: string | undefined;
  lastTime = 0;

  sealedDirects = 0;
  ackedBroadcasts = 0;
  ackedDirects = 0;

  isSyncDue = false;
  lastSyncAt = -Infinity;
  /** The last `sync` that was posted, and the last one after which a poll began and returned. */
  postedSync: { readonly at: number; readonly polls: number } | undefined;
  confirmedSyncAt = -Infinity;
  isAckDue = false;
  lastAckAt = -Infinity;
  lastWantAt = -Infinity;
  /** The state for which content was last repeated, and when. */
  repeated = { state: '', at: -Infinity };
  /** The newest content that it was asked with a `sync` to acknowledge. */
  askedAbout: unknown;

  constructor(
    readonly sid: string,
    readonly id: string,
    readonly card: Card,
    /** NAME, or NAME~2 for the second session of that name. */
    readonly label: string,
    public directKey: Buffer,
    readonly metAt: number,
    /** F: the first of the own broadcasts that are repeated for it. */
    public owedFrom: number,
  ) {}

  /** The reader's mark: the last broadcast that was shown or consumed, or base − 1 if that is more. */
  get mark(): number {
    return Math.max(this.broadcasts.lastShown, (this.base ?? 1) - 1);
  }

  get isMissingSomething(): boolean {
    return this.broadcasts.isMissing || this.directs.isMissing;
  }

  /** The value of `received` for it. */
  get received(): string {
    return `${this.broadcasts.processed} ${this.directs.processed} ${this.skippedBroadcasts + this.skippedDirects}`;
  }

  /** The value of `stored` for it; undefined where `received` serves for both. */
  get stored(): string | undefined {
    const { broadcasts, directs } = this;
    const isMore = broadcasts.stored > broadcasts.processed || directs.stored > directs.processed;
    return isMore ? `${broadcasts.stored} ${directs.stored}` : undefined;
  }

  /** Counts given-up numbers. While no base is known, the first broadcast that was shown takes its place. */
  skip(broadcasts: readonly Range[], directs: readonly Range[]): { readonly earlier: number; readonly missed: number } {
    const base = this.base ?? this.broadcasts.firstToShow;
    const earlier = countNumbers(broadcasts.map(({ first, last }) => ({ first, last: Math.min(last, base - 1) })));
    const missed = countNumbers(broadcasts.map(({ first, last }) => ({ first: Math.max(first, base), last })));
    const missedDirects = countNumbers(directs);
    this.skippedBroadcasts += missed;
    this.skippedDirects += missedDirects;
    return { earlier, missed: missed + missedDirects };
  }

  /** For a new own session: what belongs to the pair of sessions begins again. */
  resetPair(directKey: Buffer): void {
    this.directKey = directKey;
    this.directs = new Counter();
    this.isPaired = false;
    this.skippedDirects = 0;
    this.owedFrom = 1;
    this.sealedDirects = 0;
    this.ackedBroadcasts = 0;
    this.ackedDirects = 0;
    this.lastSyncAt = -Infinity;
    this.isAckDue = false;
    this.lastAckAt = -Infinity;
    this.askedAbout = undefined;
  }
}

const countNumbers = (ranges: readonly Range[]): number =>
  ranges.reduce((sum, { first, last }) => sum + Math.max(0, last - first + 1), 0);
