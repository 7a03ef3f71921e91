/**
 * Owners of the bridge's memory. A channel is charged to the address that created it, a blob to the one that sent it; of
 * IPv6 a /64 counts. When memory or channels run out, the largest owner gives to an owner that has less than half of
 * that, and nobody else gives anything: no stranger's need ends a smaller owner's channel.
 */
import { ApiError } from './errors.ts';

/** An event or a blob. */
export interface Item {
  readonly at: number; // Unix milliseconds
  older: Item | undefined;
  newer: Item | undefined;
  /** Removes it, even if somebody still has to fetch it. */
  evict(): void;
}

/** A channel as its owner sees it. */
export interface OwnedChannel {
  /** Evicts events that no active participant still has to fetch, up to so many bytes. False if there was none. */
  evictAcked(bytes: number): boolean;
  /** Whether a participant has a pending poll, or sent a request lately. */
  isActive(): boolean;
  evict(): void;
}

/** Items in the order in which they came. */
class Queue {
  oldest: Item | undefined;
  #newest: Item | undefined;

  add(item: Item): void {
    item.older = this.#newest;
    if (this.#newest) this.#newest.newer = item;
    else this.oldest = item;
    this.#newest = item;
  }

  remove(item: Item): void {
    const { older, newer } = item;
    if (older) older.newer = newer;
    else this.oldest = newer;
    if (newer) newer.older = older;
    else this.#newest = older;
    item.older = undefined;
    item.newer = undefined;
  }
}

/** How many channels are searched for one that can evict something. */
const MAX_SEARCHED = 64;

function takeFirst<T>(all: Iterable<T>, count: number): T[] {
  const first: T[] = [];
  for (const each of all) if (first.push(each) === count) break;
  return first;
}

export class Owner {
  bytes = 0;
  readonly events = new Queue();
  readonly blobs = new Queue();
  readonly channels = new Set<OwnedChannel>(); // the least recently used first
  readonly #channelsWithEvents = new Set<OwnedChannel>(); // in the same order

  constructor(readonly address: string) {}

  /** The channel was used just now. */
  touch(channel: OwnedChannel, hasEvents: boolean): void {
    this.channels.delete(channel);
    this.channels.add(channel);
    this.#channelsWithEvents.delete(channel);
    if (hasEvents) this.#channelsWithEvents.add(channel);
  }

  setHasEvents(channel: OwnedChannel, hasEvents: boolean): void {
    if (hasEvents) this.#channelsWithEvents.add(channel);
    else this.#channelsWithEvents.delete(channel);
  }

  remove(channel: OwnedChannel): void {
    this.channels.delete(channel);
    this.#channelsWithEvents.delete(channel);
  }

  /** Evicts its oldest event or blob; a channel when there is none. False if it has nothing. */
  evictOldest(): boolean {
    const event = this.events.oldest;
    const blob = this.blobs.oldest;
    const oldest = event && blob && blob.at < event.at ? blob : (event ?? blob);
    if (!oldest) return this.evictLeastUsedChannel();
    oldest.evict();
    return true;
  }

  /** Evicts what no active participant waits for: events, else its oldest blob (its sender has it), else a channel. */
  reclaim(bytes: number, asking?: OwnedChannel): boolean {
    for (const channel of takeFirst(this.#channelsWithEvents, MAX_SEARCHED)) {
      if (channel.evictAcked(bytes)) return true;
      this.#channelsWithEvents.delete(channel);
      this.#channelsWithEvents.add(channel); // so that others are searched first the next time
    }
    if (this.blobs.oldest) {
      this.blobs.oldest.evict();
      return true;
    }
    return this.evictIdleChannel(asking);
  }

  evictIdleChannel(asking?: OwnedChannel): boolean {
    const [channel] = this.channels;
    return channel !== undefined && channel !== asking && !channel.isActive() && this.evictLeastUsedChannel();
  }

  evictLeastUsedChannel(): boolean {
    const [channel] = this.channels;
    channel?.evict();
    return channel !== undefined;
  }
}

export class Memory {
  readonly #owners = new Map<string, Owner>(); // that have something; in and out by add()
  #largest = new Owner(''); // about: searched again when it has given back an eighth
  #largestBytes = 0;
  bytes = 0;

  constructor(readonly maxBytes: number) {}

  get owners(): number {
    return this.#owners.size;
  }

  /** The owner of this address. A new one must reserve something at once. */
  owner(address: string): Owner {
    return this.#owners.get(address) ?? new Owner(address);
  }

  /**
   * Throws bridge_full.
   *
   * @param asking the owner's channel that it is for, if it is
   */
  reserve(owner: Owner, bytes: number, asking?: OwnedChannel): void {
    if (!this.#evictFor(owner, bytes, asking)) throw new ApiError('bridge_full');
    this.add(owner, bytes);
  }

  /** For presence events, which never fail: they are small, and bounded by the limit of each channel. */
  reserveAnyway(owner: Owner, bytes: number, asking: OwnedChannel): void {
    this.#evictFor(owner, bytes, asking);
    this.add(owner, bytes);
  }

  #evictFor(owner: Owner, bytes: number, asking?: OwnedChannel): boolean {
    while (this.bytes + bytes > this.maxBytes) {
      const largest = this.#findLargest();
      const isFreed = 2 * owner.bytes < largest.bytes ? largest.evictOldest() : owner.reclaim(bytes, asking);
      if (!isFreed) return false;
    }
    return true;
  }

  /** Counts so many bytes more, or less, without a check. */
  add(owner: Owner, bytes: number): void {
    if (owner.bytes === 0) this.#owners.set(owner.address, owner);
    owner.bytes += bytes;
    this.bytes += bytes;
    if (owner.bytes === 0) this.#owners.delete(owner.address);
    if (owner.bytes >= this.#largestBytes && bytes > 0) {
      this.#largest = owner;
      this.#largestBytes = owner.bytes;
    }
  }

  /** Makes place for one more channel of this owner when there are too many. Throws bridge_full. */
  reserveChannel(owner: Owner): void {
    let largest = owner;
    for (const each of this.#owners.values()) {
      if (each.channels.size > largest.channels.size) largest = each;
    }
    const isLess = 2 * (owner.channels.size + 1) <= largest.channels.size;
    const isFreed = isLess ? largest.evictLeastUsedChannel() : owner.evictIdleChannel();
    if (!isFreed) throw new ApiError('bridge_full');
  }

  #findLargest(): Owner {
    if (this.#largest.bytes < (this.#largestBytes * 7) / 8) {
      for (const owner of this.#owners.values()) if (owner.bytes > this.#largest.bytes) this.#largest = owner;
      this.#largestBytes = this.#largest.bytes;
    }
    return this.#largest;
  }
}
