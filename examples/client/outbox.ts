/** Sealed content in the order in which it was sealed. A number is one message for ever: these bytes are posted again. */
import type { Sealed } from './crypto.ts';
import type { Message } from './message.ts';
import type { Peer } from './peer.ts';

export interface OutboxItem {
  /** Undefined for a broadcast. */
  readonly peer: Peer | undefined;
  readonly seq: number;
  readonly sealed: Sealed;
  /** Whether it is to be posted, for the first time or again. */
  isDue: boolean;
  /** When the bridge first took it. */
  postedAt: number | undefined;
}

const MAX_BYTES = 64 << 20;
const REPEAT_INTERVAL_MS = 60_000;

const isOwed = ({ peer: to, seq }: OutboxItem, peer: Peer): boolean =>
  to === undefined ? seq >= peer.owedFrom : to === peer;

/** What a session is not owed it does not acknowledge, whatever number it names. */
const isAcknowledged = (item: OutboxItem, peer: Peer): boolean =>
  isOwed(item, peer) && item.seq <= (item.peer === undefined ? peer.ackedBroadcasts : peer.ackedDirects);

export class Outbox {
  items: OutboxItem[] = [];

  /** Adds content. Deletes the oldest if there is too much; what is left begins later for all these peers. */
  add(item: OutboxItem, peers: readonly Peer[]): void {
    this.items.push(item);
    let bytes = this.items.reduce((sum, { sealed }) => sum + sealed.ciphertext.length, 0);
    while (bytes > MAX_BYTES) {
      const oldest = this.items.shift();
      if (oldest === undefined) return;
      bytes -= oldest.sealed.ciphertext.length;
      if (oldest.peer !== undefined) continue;
      for (const peer of peers) peer.owedFrom = Math.max(peer.owedFrom, oldest.seq + 1);
    }
  }

  /** In a new epoch: all is due from the first that none of `met` has acknowledged, or that one of `counted` lacks. */
  rewind(met: readonly Peer[], counted: readonly Peer[]): void {
    const isLacking = (item: OutboxItem) => counted.some((peer) => isOwed(item, peer) && !isAcknowledged(item, peer));
    const isNeeded = (item: OutboxItem) => isLacking(item) || !met.some((peer) => isAcknowledged(item, peer));
    const start = this.items.findIndex(isNeeded);
    if (start < 0) return;
    for (const item of this.items.slice(start)) item.isDue = true;
  }

  /** After a `sync` or `ack`: what its sender lacks is due. What the bridge never took is due in any case. */
  repeatFor(peer: Peer, { received, stored }: Message, epoch: string, now: number): void {
    const had = stored ?? received;
    if (had === undefined) return;
    const state = `${epoch} ${had.broadcasts} ${had.directs}`;
    const isAgain = peer.repeated.state === state && now - peer.repeated.at < REPEAT_INTERVAL_MS;
    if (!isAgain) peer.repeated = { state, at: now };
    for (const item of this.items) {
      const isLacking = isOwed(item, peer) && item.seq > (item.peer === undefined ? had.broadcasts : had.directs);
      const wasNeverPosted = item.peer === peer && item.postedAt === undefined;
      if (isLacking && (!isAgain || wasNeverPosted)) item.isDue = true;
    }
  }

  /** The newest content that a peer is owed, unless it has acknowledged it. */
  newestUnacknowledged(peer: Peer): OutboxItem | undefined {
    const newest = this.items.findLast((item) => isOwed(item, peer));
    return newest === undefined || isAcknowledged(newest, peer) ? undefined : newest;
  }

  /** Removes direct messages to former sessions of a participant. Returns those that were not acknowledged. */
  removeFor(formerSessionsOf: Peer): readonly OutboxItem[] {
    const isLost = ({ peer }: OutboxItem) =>
      peer !== undefined && peer !== formerSessionsOf && peer.id === formerSessionsOf.id;
    const lost = this.items.filter(isLost);
    this.items = this.items.filter((item) => !isLost(item));
    return lost.filter((item) => item.peer !== undefined && !isAcknowledged(item, item.peer));
  }

  /** What not all of its readers have acknowledged. */
  unacknowledged(present: readonly Peer[]): readonly OutboxItem[] {
    return this.items.filter((item) => {
      const readers = item.peer === undefined ? present.filter((peer) => isOwed(item, peer)) : [item.peer];
      return readers.length === 0 || !readers.every((peer) => isAcknowledged(item, peer));
    });
  }
}
