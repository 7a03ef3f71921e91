/**
 * Somebody else in the room, and what we have of its streams (docs/protocol.md, Receipts and repair): for each counter
 * the contiguous mark, the few numbers beyond it, and what makes a repeat the same message. All of it is plain, and kept
 * over a reload as it is, but for the key and what is held before its turn: a Map leaves nothing in JSON.
 */
import type { Card, Message } from './legacy-protocol.ts';

export type To = 'all' | 'me';
export type Held = { readonly message: Message; readonly to: To; readonly index: number };

export type Counter = {
  upTo: number;
  /** The highest number that we know was used. */
  top: number;
  readonly digests: Record<number, string>;
  /** They are shown as late if they come after all. */
  givenUp: number[];
  held: Map<number, Held>;
};
export type Stream = {
  readonly all: Counter;
  readonly me: Counter;
  /** When the hole was first seen; 0 where there is none. */
  holeAt: number;
};

/** One set of keys under one name. */
export type Peer = Card & {
  readonly id: string;
  /** Its and our key. */
  direct: CryptoKey;
  /** Was there before us: its broadcasts start for us where the first one that we are given does. */
  readonly isOlder: boolean;
  /** The name was known under other keys before. */
  readonly hasNewKeys: boolean;
  readonly streams: Record<string, Stream>;
  /** The one last heard. */
  stream?: string;
  /** `lost` after a new epoch, until it is met again. */
  state: 'here' | 'away' | 'lost' | 'gone';
  isPaired?: boolean;
  /** Of our welcome to it. */
  challenge?: string;
  /** What it says that it has of ours. */
  has: Readonly<Record<To, number>>;
  /** It wrote something, and we have not said since that it came. */
  owesReceipt?: boolean;
  // As the bridge tells it:
  isListening: boolean;
  seenAt: number;
  fetched: number;
};

export const isThere = ({ state }: Peer): boolean => state !== 'gone';

const DIGESTS = 512;
/** Where a peer's stream is not known, `seen` has this: everything is asked for. */
export const NO_STREAM = '0'.repeat(16);

const counter = (upTo: number): Counter => ({ upTo, top: upTo, digests: {}, givenUp: [], held: new Map() });
export const newStream = (base: number): Stream => ({ all: counter(base), me: counter(0), holeAt: 0 });

export const countersOf = (peer: Peer): Counter[] => Object.values(peer.streams).flatMap(({ all, me }) => [all, me]);

export const isWhole = ({ all, me }: Stream): boolean => all.upTo >= all.top && me.upTo >= me.top;

export function remember({ digests }: Counter, seq: number, digest: string): void {
  digests[seq] = digest;
  const [oldest, ...others] = Object.keys(digests);
  if (others.length >= DIGESTS) delete digests[Number(oldest)];
}

/** What is next in line; a direct message waits for the broadcasts that its sender sent before it. */
export function next({ all, me }: Stream): Held | undefined {
  const direct = me.held.get(me.upTo + 1);
  return direct && (direct.message.after ?? 0) <= all.upTo ? direct : all.held.get(all.upTo + 1);
}

/** Passes over what is missing before the next that is there, or before the end; returns how many that are. */
export function giveUp(counter: Counter): number {
  const { upTo, top, held, givenUp } = counter;
  const end = Math.max(upTo, Math.min(top, ...Array.from(held.keys(), (seq) => seq - 1)));
  // Of a hole as large as only a lie makes it, the number is enough.
  for (let seq = upTo + 1; seq <= Math.min(end, upTo + DIGESTS); seq++) givenUp.push(seq);
  counter.upTo = end;
  return end - upTo;
}

/** What we have of a recipient's stream, or of those last heard: a header `seen`. */
export function seen(peers: readonly Peer[], recipient?: Peer): string {
  const marks = (recipient ? [recipient] : peers).flatMap(({ stream, streams }) => {
    const heard = stream && streams[stream];
    if (!heard) return recipient ? `${NO_STREAM} 0 0` : [];
    return `${stream} ${heard.all.upTo}${recipient ? ` ${heard.me.upTo}` : ''}`;
  });
  return marks.slice(-16).join();
}
