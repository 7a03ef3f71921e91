/**
 * Somebody else in the room, and what we have of its streams (docs/protocol.md, Receipts and repair): for each counter
 * the contiguous mark, the few numbers beyond it, and what makes a repeat the same message.
 */
import type { Card, Message } from '../protocol.ts';

export type To = 'all' | 'me';
export type Held = { readonly message: Message; readonly to: To; readonly index: number };

const DIGESTS = 512;

export class Counter {
  /** The highest number that we know was used. */
  top: number;
  readonly held = new Map<number, Held>();
  readonly digests = new Map<number, string>();
  /** Given up: they are shown as late if they come after all. */
  readonly missed = new Set<number>();

  constructor(public upTo: number) {
    this.top = upTo;
  }

  get isWhole(): boolean {
    return this.upTo >= this.top;
  }

  remember(seq: number, digest: string): void {
    this.digests.set(seq, digest);
    if (this.digests.size > DIGESTS) this.digests.delete(this.digests.keys().next().value ?? 0);
  }

  /** Passes over what is missing before the next that is there, or before the end; returns how many that are. */
  giveUp(): number {
    const next = Math.min(this.top + 1, ...this.held.keys());
    const count = Math.max(0, next - 1 - this.upTo);
    // Of a hole as large as only a lie makes it, the number is enough.
    for (let seq = this.upTo + 1; seq < next && seq <= this.upTo + DIGESTS; seq++) this.missed.add(seq);
    this.upTo = Math.max(this.upTo, next - 1);
    return count;
  }
}

export class Stream {
  readonly all: Counter;
  readonly me = new Counter(0);
  /** When the hole was first seen; 0 where there is none. */
  holeAt = 0;

  constructor(base: number) {
    this.all = new Counter(base);
  }

  /** What is next in line; a direct message waits for the broadcasts that its sender sent before it. */
  next(): Held | undefined {
    const direct = this.me.held.get(this.me.upTo + 1);
    if (direct && (direct.message.after ?? 0) <= this.all.upTo) return direct;
    return this.all.held.get(this.all.upTo + 1);
  }

  get isWhole(): boolean {
    return this.all.isWhole && this.me.isWhole;
  }
}

/** One set of keys under one name. */
export class Peer {
  readonly streams = new Map<string, Stream>();
  /** The one last heard. */
  stream: string | undefined;
  /** `lost` after a new epoch, until it is met again. */
  state: 'here' | 'away' | 'lost' | 'gone' = 'here';
  isPaired = false;
  /** Of our welcome to it. */
  challenge: string | undefined;
  /** What it says that it has of ours. */
  has = { all: 0, me: 0 };
  /** It wrote something, and we have not said since that it came. */
  owesReceipt = false;
  // As the bridge tells it:
  isListening = false;
  seenAt = 0;
  fetched = 0;

  constructor(
    readonly id: string,
    readonly card: Card,
    readonly direct: CryptoKey,
    /** Was there before us: its broadcasts start for us where the first one that we are given does. */
    readonly isOlder: boolean,
    /** The name was known under other keys before. */
    readonly hasNewKeys: boolean,
  ) {}
}

type KeptCounter = readonly [upTo: number, top: number, digests: (readonly [number, string])[], missed: number[]];
export type KeptPeer = ReturnType<typeof keepPeer>;

const keepCounter = ({ upTo, top, digests, missed }: Counter): KeptCounter => [upTo, top, [...digests], [...missed]];

/** What is held before its turn is not kept: it is fetched again. */
export const keepPeer = (peer: Peer) => ({
  id: peer.id,
  card: peer.card,
  isOlder: peer.isOlder,
  hasNewKeys: peer.hasNewKeys,
  stream: peer.stream,
  state: peer.state,
  isPaired: peer.isPaired,
  challenge: peer.challenge,
  has: peer.has,
  owesReceipt: peer.owesReceipt,
  streams: Array.from(peer.streams, ([id, { all, me }]) => [id, keepCounter(all), keepCounter(me)] as const),
});

export function restorePeer(kept: KeptPeer, direct: CryptoKey): Peer {
  const peer = new Peer(kept.id, kept.card, direct, kept.isOlder, kept.hasNewKeys);
  const { stream, state, isPaired, challenge, has, owesReceipt } = kept;
  Object.assign(peer, { stream, state, isPaired, challenge, has, owesReceipt });
  const fill = (counter: Counter, [upTo, top, digests, missed]: KeptCounter) => {
    Object.assign(counter, { upTo, top });
    for (const [seq, digest] of digests) counter.digests.set(seq, digest);
    for (const seq of missed) counter.missed.add(seq);
  };
  for (const [id, all, me] of kept.streams) {
    const stream = new Stream(0);
    fill(stream.all, all);
    fill(stream.me, me);
    peer.streams.set(id, stream);
  }
  return peer;
}
