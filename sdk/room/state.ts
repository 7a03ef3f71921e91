/**
 * The state of one person's session in a channel: who we are, who else is there, what was said, what we sent. It runs on
 * a member's side and holds the channel key, names and plaintext. It knows no page: what happens becomes entries of a
 * transcript, and main.ts renders them. The files that change it: connection, inbox, outbox, control, presence,
 * sessions, files.
 */
import type { FileBody, FileHeaders, Keys, Message, Reach, RejectReason, Sealed } from '../protocol.ts';
import * as protocol from '../protocol.ts';
import type { BridgeApi, Limits, ReportedPresence } from './bridge-api.ts';
import type { PieceStore } from './piece-store.ts';
import { Counter } from './sequence.ts';
import { TabStorage } from './tab-storage.ts';

/** The largest decimal of the protocol. */
export const MAX_DECIMAL = 999_999_999_999_999;
/** Of a longer transcript the oldest lines are dropped, so many at once. */
const MAX_ENTRIES = 5000;
const ENTRIES_DROPPED_AT_ONCE = 500;

// ---- the transcript ----

export type EntryType =
  | 'text'
  | 'file'
  // Proved by the session that it is about.
  | 'paired'
  | 'left'
  | 'malformed'
  | 'missed'
  | 'earlier'
  | 'peer-missed'
  // By the word of the bridge.
  | 'joined'
  | 'new-session'
  | 'bridge-left'
  | 'expired'
  | 'away'
  | 'back'
  | 'gap'
  | 'resumed'
  // Rejected.
  | 'tampered'
  | 'unreadable'
  | 'bad-card'
  | 'too-many-sessions'
  // About our own session.
  | 'blocked'
  | 'undelivered'
  | 'copied'
  | 'storage-lost'
  | 'presence-limit';

export type Named = { readonly label: string; readonly count: number };
/** What a message's writer had and had not read of what is above it (docs/protocol.md, Order). */
export type OrderMarks = {
  readonly unread: readonly Named[];
  readonly unreadOwn: number;
  /** Sessions of which it read what is not here. */
  readonly ahead: readonly string[];
  readonly missed: readonly Named[];
  readonly hasUnknown: boolean;
};

/**
 * - `waiting`: larger than what is fetched without being asked for
 * - `bad`: its pieces don't give the file that the message names
 */
export type TransferState = 'sending' | 'not-sent' | 'sent' | 'waiting' | 'fetching' | 'stalled' | 'complete' | 'bad';
export type FileEntry = FileHeaders &
  FileBody & {
    state: TransferState;
    /** Pieces that were sent or are here. */
    done: number;
    problem?: string;
  };

export interface Entry {
  readonly id: number;
  /** Unix ms by our own clock. */
  readonly at: number;
  readonly type: EntryType;
  /** The label of the session that it is about, or ''. */
  readonly label: string;
  /** Of the session that it is about; of a direct message that we sent, of its recipient. */
  readonly sid?: string;
  readonly isMine?: boolean;
  readonly kind?: 'agent' | 'human';
  /** Of a direct message: the label of its recipient. */
  readonly to?: string | undefined;
  readonly text?: string;
  file?: FileEntry;
  /** A code or a reason, from our own list of them. */
  readonly cause?: string;
  count?: number;
  readonly isLate?: boolean;
  readonly isUnpaired?: boolean;
  readonly isBeforeJoin?: boolean;
  /** The sender's clock, where it differs from ours by more than a minute. */
  readonly writtenAt?: number;
  readonly marks?: OrderMarks;
  /** Of a message that we sent: its number in the outbox. */
  outboxNumber?: number;
  /** Of a message that an ended session of ours sent: who had confirmed it. */
  confirmedBy?: readonly string[];
}

// ---- other sessions ----

export type Scope = 'broadcast' | 'direct';

/** A proved message that waits for its turn. */
export type Incoming = {
  readonly scope: Scope;
  readonly seq: number;
  readonly message: Message | { readonly malformed: RejectReason };
  /** The frame without its signature line. */
  readonly unsigned: protocol.Frame['unsigned'];
  readonly isBeforeJoin: boolean;
};

/** How far something is processed: broadcasts up to one number, direct messages up to another. */
export type Marks = { broadcasts: number; directs: number };

/** What was rendered in a visible tab: processed up to there, the mark, and how many were skipped. */
export type Shown = Marks & { mark: number; skippedBroadcasts: number; skippedDirects: number };

export class Session {
  isPaired = false;
  /** Order of pairing among the sessions, from 1; 0 before. */
  pairedOrder = 0;
  /** Until its `bye` or the bridge's `leave`. */
  isInChannel = false;
  /** The bridge says that it is silent for long. */
  isAway = false;
  /** It said `bye`: it never comes back. */
  hasLeft = false;
  isLeaveReported = false;
  /** The highest F of its `sent`, and the first one; 0: none yet. */
  first = 0;
  base = 0;
  /** The number of the first broadcast that was shown; 0: none yet. */
  firstShown = 0;
  broadcasts = new Counter<Incoming>();
  directs = new Counter<Incoming>();
  /** What of these was rendered in a visible tab. */
  shown: Shown = { broadcasts: 0, directs: 0, mark: 0, skippedBroadcasts: 0, skippedDirects: 0 };
  /** The transcript's last entry with content of it. */
  lastEntryId = 0;
  /** The number of our last direct message to it. */
  lastDirect = 0;
  /** What it acknowledged of ours, what it stored, and how many it gave up. */
  acked: Marks = { broadcasts: 0, directs: 0 };
  stored: Marks = { broadcasts: 0, directs: 0 };
  skippedByPeer = 0;
  reach: Reach | undefined;
  reachTime = 0;
  reported: ReportedPresence = { isListening: false, seenAt: 0 };
  readonly control = new ControlState();

  constructor(
    readonly card: protocol.Session,
    readonly label: string,
    readonly directKey: CryptoKey,
    /** Our broadcasts from this number on are repeated for it: the F of our `sent`. */
    readonly owedFrom: number,
    /** The transcript's last entry when it was met. */
    readonly metAfterEntry: number,
  ) {}

  get sid(): string {
    return this.card.sid;
  }

  get participantId(): string {
    return this.card.participantId;
  }

  counter(scope: Scope): Counter<Incoming> {
    return scope === 'broadcast' ? this.broadcasts : this.directs;
  }

  /** The last of its broadcasts that was delivered, or base − 1 if that is more. */
  get mark(): number {
    return Math.max(this.broadcasts.delivered, this.base - 1);
  }

  /** What is in the transcript now. */
  get delivered(): Shown {
    const { broadcasts, directs, mark } = this;
    // While no base is known, the first broadcast that was shown takes its place.
    const base = this.base || this.firstShown || broadcasts.processed + 1;
    return {
      broadcasts: broadcasts.processed,
      directs: directs.processed,
      mark,
      skippedBroadcasts: Math.min(broadcasts.skippedFrom(base), MAX_DECIMAL),
      skippedDirects: Math.min(directs.skippedFrom(1), MAX_DECIMAL),
    };
  }
}

/** When control messages went to a session, and which it is owed (docs/protocol.md, Synchronisation). Unix ms. */
export class ControlState {
  wantsSync = false;
  lastSyncAt = 0;
  /** When the bridge responded to the last sync, and the highest numbers that were known when it was sent. */
  syncReturnedAt = 0;
  askedUpTo: Marks = { broadcasts: 0, directs: 0 };
  owesAck = false;
  lastAckAt = 0;
  ackEpoch = '';
  /** When a number was first missing, or 0. */
  missingSince = 0;
  /** The content for which an acknowledgement was asked. */
  askedForNumber = 0;
  /** Acknowledge what was shown, from this time on; 0: nothing to acknowledge. */
  ackShownAt = 0;
  /** What the last message to it acknowledged. */
  told: Marks = { broadcasts: 0, directs: 0 };
  lastWantAt = 0;
  /** For which of its broadcasts a sync was sent because another session named them in `seen`. */
  askedForSeen = 0;
  /** For which values its missing messages were posted again, and when. */
  resentFor = '';
  resentAt = 0;
  byeAt = 0;
}

// ---- our own session ----

/** One content message of ours. Number and sealed bytes are one for ever. */
export interface OutboxItem {
  /** Position in the outbox, from 1. */
  readonly number: number;
  /** A sid, or BROADCAST. */
  readonly recipient: string;
  /** A participant id, or BROADCAST. */
  readonly to: string;
  readonly seq: number;
  /** Absent: deleted, because there are limits. F is above it. */
  sealed?: Sealed;
  /** Its session was replaced before it acknowledged. */
  isUndelivered?: boolean;
}

export type Identity = {
  readonly name: string;
  readonly isWatching: boolean;
  readonly token: string;
  readonly card: Sealed;
  readonly sid: string;
  readonly keys: Keys;
  /** When this session replaced one that was copied, Unix ms; 0: it did not. */
  readonly copiedAt: number;
  /** The sids of the sessions that it replaced. */
  readonly formerSids: readonly string[];
};
export type ChannelKeys = {
  readonly channelKey: string;
  readonly channelId: string;
  readonly participantId: string;
  readonly broadcastKey: CryptoKey;
};
/** Where we are in the bridge's log, and how much of the outbox it was given. */
export type Position = {
  /** The bridge was given our card. */
  isJoined: boolean;
  epoch: string;
  cursor: number;
  highestIndex: number;
  joinEpoch: string;
  joinIndex: number;
  broadcasts: number;
  posted: number;
};
/** - `copied`: a copy of this session exists; connection.ts begins another one. */
export type ConnectionState = 'joining' | 'online' | 'offline' | 'left' | 'refused' | 'copied';

/** Lets a loop wait until something happens or time is over. */
export class Signal {
  #waiting = new Set<() => void>();

  notify(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }

  wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#waiting.delete(end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#waiting.add(end);
    });
  }
}

export class Room {
  readonly entries: Entry[] = [];
  /** In the order in which they were met. */
  readonly sessions: Session[] = [];
  /** How many sessions of a name were met. */
  readonly sessionsOfName = new Map<string, number>();
  /** The sid that the bridge lists under a participant id. */
  readonly listed = new Map<string, string>();
  readonly outbox: OutboxItem[] = [];
  /** Broadcasts from this number on are stored, and can be repeated. */
  firstStored = 1;
  /** Numbers of the outbox that are posted again before anything new. */
  readonly resends: number[] = [];
  /** The event of a message in the outbox, in this epoch. */
  readonly indices = new Map<number, number>();
  /** When a message in the outbox was posted, Unix ms; those before this page are not in it. */
  readonly postedAt = new Map<number, number>();
  readonly startedAt = Date.now();
  position: Position = {
    isJoined: false,
    epoch: '',
    cursor: 0,
    highestIndex: 0,
    joinEpoch: '',
    joinIndex: 0,
    broadcasts: 0,
    posted: 0,
  };
  limits: Limits = { messageBytes: 65_536, pollSeconds: 25, blobBytes: 0 };
  connection: ConnectionState = 'joining';
  /** The code of what is in the way, while there is something. */
  trouble = '';
  reach: Reach = 'listening';
  /** A proved message or the bridge named numbers that this session never sealed or fetched. */
  hasCopy = false;
  /** When the poll began that returned last. */
  lastPollBeganAt = 0;
  /** Cards that were rejected and counted. */
  readonly badCards = new Set<string>();
  /** When the last sessions of an hour were met. */
  metAt: number[] = [];
  /** Lines about presence that may still be written in this hour. */
  presenceLines = { hour: 0, count: 0 };
  /** Called when something changed. */
  onChange: () => void = () => {};
  /** Messages are sealed one after the other. */
  sealing: Promise<unknown> = Promise.resolve();
  rejoining: Promise<void> | undefined;
  /** Ends the poll that waits. */
  pollAbort = new AbortController();
  /** Ends each pause before another try. */
  readonly retry = new Signal();
  /** There is something to post. */
  readonly outgoing = new Signal();
  readonly storage: TabStorage;
  /** What persistence.ts has to store. */
  readonly unsaved = { sessions: new Set<Session>(), entries: new Set<Entry>() };
  /** Entries that count, by type, label and cause. */
  readonly #counted = new Map<string, Entry>();

  constructor(
    readonly me: Identity,
    readonly own: ChannelKeys,
    readonly api: BridgeApi,
    readonly pieces: PieceStore,
  ) {
    this.storage = new TabStorage(own.channelId);
  }

  get isClosed(): boolean {
    return this.connection === 'left' || this.connection === 'refused' || this.connection === 'copied';
  }

  /** The sessions of a participant id, the newest first. */
  sessionsOf(participantId: string): Session[] {
    return this.sessions.filter((session) => session.participantId === participantId).reverse();
  }

  sessionBySid(sid: string): Session | undefined {
    return this.sessions.find((session) => session.sid === sid);
  }

  /** Did an event happen before we came? Indices restart with each epoch. */
  isBeforeJoin(index: number): boolean {
    return this.position.epoch === this.position.joinEpoch && index < this.position.joinIndex;
  }

  addEntry(type: EntryType, label = '', fields: Partial<Entry> = {}): Entry {
    const entry: Entry = { ...fields, id: (this.entries.at(-1)?.id ?? 0) + 1, at: Date.now(), type, label };
    this.entries.push(entry);
    if (this.entries.length > MAX_ENTRIES) this.entries.splice(0, ENTRIES_DROPPED_AT_ONCE);
    this.touch(entry);
    return entry;
  }

  /** Adds to the count of the entry with this type, label and cause, or adds the entry. Further ones add no lines. */
  countEntry(type: EntryType, label: string, cause: string, fields: Partial<Entry> = {}): void {
    const key = `${type} ${label} ${cause}`;
    const known = this.#counted.get(key);
    if (known) {
      known.count = (known.count ?? 1) + 1;
      this.touch(known);
    } else {
      this.#counted.set(key, this.addEntry(type, label, { ...fields, cause, count: 1 }));
    }
  }

  /** Takes the entries of a transcript that was stored. */
  restoreEntries(entries: readonly Entry[]): void {
    this.entries.push(...entries);
    for (const entry of entries) {
      if (entry.cause !== undefined) this.#counted.set(`${entry.type} ${entry.label} ${entry.cause}`, entry);
    }
  }

  /** Adds to the count of the last entry if it is of this type and label, or adds an entry. */
  extendEntry(type: EntryType, label: string, count: number): void {
    const last = this.entries.at(-1);
    if (last?.type === type && last.label === label) {
      last.count = (last.count ?? 0) + count;
      this.touch(last);
    } else {
      this.addEntry(type, label, { count });
    }
  }

  touch(entry: Entry): void {
    this.unsaved.entries.add(entry);
    this.onChange();
  }

  touchSession(session: Session): void {
    this.unsaved.sessions.add(session);
  }

  setConnection(connection: ConnectionState): void {
    if (this.connection === connection || this.isClosed) return;
    this.connection = connection;
    this.onChange();
  }
}
