/**
 * A person's end of a channel, as it stands: who we are, who else is there, what was said, and where we are in the
 * bridge's log. It stands on the members' side and holds the key, names and plaintext. It knows no page: what happens
 * becomes entries of a transcript, and a view shows them. All that acts on it is in the files around: outbox.ts,
 * presence.ts, inbox.ts, files.ts, reload.ts, and channel.ts above them.
 */
import type { Bytes } from './legacy-bytes.ts';
import type { Keys, Sealed } from './legacy-protocol.ts';
import { Kept } from './kept.ts';
import type { Peer } from './peers.ts';
import { Refused, Wire } from './wire.ts';
import type { Presence } from './wire.ts';

export type What =
  | 'text'
  | 'file'
  | 'joined'
  | 'paired'
  | 'left'
  | 'away'
  | 'back'
  | 'keys'
  | 'tampered'
  | 'missed'
  | 'gap'
  | 'resumed'
  | 'unsent';
/** A line of the transcript. `name` is the one whom it is about; it is a peer's own text, like `text` and `file`. */
export type Entry = {
  readonly n: number;
  /** Unix ms by our own clock. */
  readonly at: number;
  readonly what: What;
  readonly name: string;
  readonly isMine?: boolean;
  /** Whom of us a direct message is for: our name in theirs, theirs in ours. */
  readonly to?: string | undefined;
  readonly text?: string;
  readonly file?: { readonly name: string; readonly size: number; readonly bytes?: string };
  /** Why, or how many. */
  readonly words?: string;
  readonly isLate?: boolean;
  readonly hasNewKeys?: boolean;
  /** Of our own: the numbers in the outbox, from and to. */
  readonly out?: readonly [number, number];
};

/** One message of ours, sealed once and for all. Without a box it is too old to be sent again. */
export type Sent = {
  /** Whose keys it is for, or everybody. */
  readonly pub: string;
  readonly to: string;
  readonly seq: number;
  /** The last broadcast by then. */
  readonly all: number;
  box?: Sealed;
};
export type Me = {
  readonly name: string;
  readonly isWatching: boolean;
  readonly token: string;
  readonly stream: string;
  readonly challenge: string;
};
export type Own = {
  readonly k: string;
  readonly channel: string;
  readonly access: string;
  readonly key: CryptoKey;
  readonly keys: Keys;
  readonly card: Sealed;
};
/** In the bridge's log, from which of its events on we were there, and how much of the outbox it has. */
export type Place = { epoch: string; cursor: number; high: number; born: string; bornAt: number; sent: number };
export type Link = 'joining' | 'online' | 'offline' | 'left' | 'refused';

export class Room {
  readonly entries: Entry[] = [];
  readonly peers: Peer[] = [];
  /** What we said: number n is at n - 1. */
  readonly outbox: Sent[] = [];
  /** The event of a message in the outbox, in this epoch. */
  readonly indices = new Map<number, number>();
  /** Of files that are not whole yet. */
  readonly parts = new Map<string, Map<number, Bytes>>();
  where: Place = { epoch: '', cursor: 0, high: 0, born: '', bornAt: 0, sent: 0 };
  link: Link = 'joining';
  /** Why it is refused. */
  reason = '';
  maxBytes = 65_536;
  /** Called when anything changed. */
  onChange: () => void = () => {};
  /** What is to be done after a request failed, as channel.ts knows it: true if it can be tried again at once. */
  recover: (error: unknown, epoch: string) => Promise<boolean> = () => Promise.resolve(false);
  /** Numbers are given one after the other. */
  turn: Promise<unknown> = Promise.resolve();
  flushing: Promise<void> | undefined;
  rejoining: Promise<void> | undefined;
  receiptTimer: ReturnType<typeof setTimeout> | undefined;
  /** So many of the entries are kept. */
  saved = 0;
  /** Ends the poll that hangs. */
  polling = new AbortController();
  /** Ends each pause. */
  wake = new AbortController();
  readonly wire: Wire;
  readonly kept: Kept;

  /** @param base where the bridge is, no slash at its end */
  constructor(
    base: string,
    readonly id: string,
    readonly me: Me,
    readonly own: Own,
  ) {
    this.wire = new Wire(`${base}/channels/${own.channel}`, own.access, id, me.token);
    this.kept = new Kept(own.channel);
  }

  /** The newest keys of each name. */
  get others(): Peer[] {
    return this.peers.filter((peer) => this.newest(peer.id) === peer);
  }

  get isOver(): boolean {
    return this.link === 'left' || this.link === 'refused';
  }

  newest(id: string): Peer | undefined {
    return this.peers.findLast((peer) => peer.id === id);
  }

  note(what: What, name = '', more: Partial<Entry> = {}): void {
    this.entries.push({ n: (this.entries.at(-1)?.n ?? 0) + 1, at: Date.now(), what, name, ...more });
    this.onChange();
  }

  /** Something that came, under the name of a peer or of nobody, is not what it should be. */
  warn(words: string, name = ''): undefined {
    this.note('tampered', name, { words });
  }

  setLink(link: Link): void {
    if (this.link === link || this.isOver) return;
    this.link = link;
    this.onChange();
  }

  present({ id, told }: Presence): void {
    Object.assign(this.newest(id) ?? {}, told);
  }

  /** Waits before the next try, as long as the bridge wants or longer with each failure. */
  async backOff(error: unknown, failures: number): Promise<void> {
    const wanted = error instanceof Refused ? error.retryAfterMs : undefined;
    await this.pause(wanted ?? Math.min(300 * 2 ** failures, 5000) * (0.7 + 0.6 * Math.random()));
  }

  pause(ms: number): Promise<unknown> {
    return new Promise((resolve) => {
      setTimeout(resolve, ms);
      this.wake.signal.addEventListener('abort', resolve);
    });
  }
}

export const codeOf = (error: unknown): string => (error instanceof Refused ? error.code : '');
