/**
 * Whose the bridge's memory is. What a channel holds is its opener's, a blob its sender's; an owner is an address, of
 * IPv6 a /64. When memory or channels run out, the owner with most gives to an owner with less than half of that, and nobody
 * else gives anything: no stranger's need ends a smaller owner's channel.
 */
import { ApiError } from './errors.ts';

/** An event or a blob. */
export interface Item {
  readonly at: number; // Unix milliseconds
  older: Item | undefined;
  newer: Item | undefined;
  /** Evicts it, read or not. */
  evict(): void;
}

/** A channel as its owner sees it. */
export interface OwnedChannel {
  /** Evicts events that no live participant waits for, up to so many bytes; whether there was one. */
  evictAcked(bytes: number): boolean;
  /** Whether a participant is alive: it waits, or was heard of lately. */
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

/** How many channels are looked at to find one that can give something up. */
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
  readonly #logs = new Set<OwnedChannel>(); // those of them that have events, in the same order

  constructor(readonly address: string) {}

  /** The channel was used just now. */
  touch(channel: OwnedChannel, hasEvents: boolean): void {
    this.channels.delete(channel);
    this.channels.add(channel);
    this.#logs.delete(channel);
    if (hasEvents) this.#logs.add(channel);
  }

  setHasEvents(channel: OwnedChannel, hasEvents: boolean): void {
    if (hasEvents) this.#logs.add(channel);
    else this.#logs.delete(channel);
  }

  remove(channel: OwnedChannel): void {
    this.channels.delete(channel);
    this.#logs.delete(channel);
  }

  /** Evicts its oldest event or blob, read or not; a channel when there is none. False if it has nothing. */
  evictOldest(): boolean {
    const [event, blob] = [this.events.oldest, this.blobs.oldest];
    const oldest = event && blob ? (event.at <= blob.at ? event : blob) : (event ?? blob);
    if (oldest) oldest.evict();
    return oldest !== undefined || this.evictLeastUsedChannel();
  }

  /** Evicts what no live participant waits for: events, else its oldest blob (its sender has it), else a channel. */
  reclaim(bytes: number, asking?: OwnedChannel): boolean {
    for (const channel of takeFirst(this.#logs, MAX_SEARCHED)) {
      if (channel.evictAcked(bytes)) return true;
      this.#logs.delete(channel);
      this.#logs.add(channel); // others are looked at first the next time
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
  readonly #owners = new Map<string, Owner>(); // those that have something; in and out by add()
  #largest = new Owner(''); // about: what it gave back is looked at when it is an eighth
  #largestBytes = 0;
  bytes = 0;

  constructor(readonly maxBytes: number) {}

  get owners(): number {
    return this.#owners.size;
  }

  /** The owner that has this address. One that has nothing yet has to take something at once. */
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

  /** For what can't be refused: little, and bounded by the limit of each channel. */
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

  /** Counts so many bytes more, or less, whatever there is. */
  add(owner: Owner, bytes: number): void {
    if (owner.bytes === 0) this.#owners.set(owner.address, owner);
    owner.bytes += bytes;
    this.bytes += bytes;
    if (owner.bytes === 0) this.#owners.delete(owner.address);
    if (owner.bytes >= this.#largest.bytes && bytes > 0) {
      this.#largest = owner;
      this.#largestBytes = owner.bytes;
    }
  }

  /** A place for one more channel of this owner, where there are too many. Throws bridge_full. */
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
