/** What a client knows of one other session. Everything here hangs on the sid that was proved. */
import { Counter } from './counter.ts';
import type { Card } from './crypto.ts';
import type { FileKey } from './files.ts';
import type { Message, Seen } from './message.ts';

/** Content in its place: a checked message, or why it was rejected. */
export interface Content {
  readonly isDirect: boolean;
  readonly message: Message | undefined;
  readonly problem: string | undefined;
  readonly body: Buffer;
  readonly fileKey: FileKey | undefined;
  /** Whether the bridge had it before this client joined for the first time. */
  readonly isFromBeforeJoin: boolean;
  readonly arrivedAt: number;
}

export class Peer {
  readonly broadcasts = new Counter<Content>();
  directs = new Counter<Content>();
  directKey: Buffer;

  isPaired = false;
  /** In the channel. */
  isPresent = false;
  hasBeenPresent = false;
  /** What its `bye` said to have sent, and how many polls had begun when it came. */
  bye: { readonly broadcasts: number; readonly directs: number; readonly polls: number } | undefined;
  hasLeft = false;
  /** Orders of events at this client: when it was met, PAIRED, and when something of it was last shown. */
  readonly metAt: number;
  pairedAt = 0;
  shownAt = 0;
  heardAt = 0;

  /** The first F that it named, and the highest. */
  base: number | undefined;
  first = 1;
  /** How many of its numbers were given up, from base on: of broadcasts, and of direct messages. */
  skippedBroadcasts = 0;
  skippedDirects = 0;
  /** The highest mark for it that somebody's `seen` named. */
  seenByOthers = 0;
  reach: string | undefined;
  lastTime = 0;

  /** Our broadcasts that it is owed begin here: F. */
  owedFrom: number;
  sealedDirects = 0;
  ackedBroadcasts = 0;
  ackedDirects = 0;

  isSyncDue = false;
  lastSyncAt = -Infinity;
  /** The last `sync` that the bridge took, and the last after which a poll began and returned. */
  postedSync: { readonly at: number; readonly polls: number } | undefined;
  confirmedSyncAt = -Infinity;
  isAckDue = false;
  lastAckAt = -Infinity;
  lastWantAt = -Infinity;
  /** What was last repeated for it: epoch and acknowledged numbers. */
  repeated = { state: '', at: -Infinity };
  /** The newest content about which it was asked with a `sync`. */
  askedAbout = '';

  constructor(
    readonly sid: string,
    readonly id: string,
    readonly card: Card,
    /** NAME, or NAME~2 for the second session of that name. */
    readonly label: string,
    directKey: Buffer,
    order: number,
    owedFrom: number,
  ) {
    this.directKey = directKey;
    this.metAt = order;
    this.owedFrom = owedFrom;
  }

  /** The reader's mark: the last broadcast that was shown or consumed, or base − 1 if that is more. */
  get mark(): number {
    return Math.max(this.broadcasts.lastShown, (this.base ?? 1) - 1);
  }

  get isMissingSomething(): boolean {
    return this.broadcasts.isMissing || this.directs.isMissing;
  }

  get seen(): Seen {
    return {
      session: this.sid.slice(0, 16),
      mark: this.mark,
      skipped: this.skippedBroadcasts,
      left: !this.isPresent,
    };
  }

  /** For a new own session: what belongs to the pair of sessions begins again. */
  resetPair(directKey: Buffer): void {
    this.directKey = directKey;
    this.directs = new Counter<Content>();
    this.isPaired = false;
    this.skippedDirects = 0;
    this.owedFrom = 1;
    this.sealedDirects = 0;
    this.ackedBroadcasts = 0;
    this.ackedDirects = 0;
    this.lastSyncAt = -Infinity;
    this.lastAckAt = -Infinity;
    this.isAckDue = false;
    this.askedAbout = '';
  }
}
