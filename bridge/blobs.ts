/**
 * The blobs of a channel: pieces of files, encrypted by clients, each under the SHA-256 of its bytes. Every byte comes
 * from a stranger and is only counted, hashed, stored and served. This module knows no HTTP and has no clock.
 *
 * A declared length takes nothing: memory is allocated and counted block by block, as bytes arrive. Responses share a
 * blob's blocks, so an evicted blob stays complete for clients that are receiving it.
 */
import { createHash } from 'node:crypto';
import { BLOCK_BYTES, giveBack, takeBlock } from './blocks.ts';
import { ApiError } from './errors.ts';
import type { BlobId, ParticipantId } from './ids.ts';
import type { Item, Memory, Owner } from './memory.ts';

export const MAX_BLOB_BYTES = 1_048_576; // docs/protocol.md, Blobs
/** About how much memory a blob takes besides its bytes, so that the limits in bytes mean memory. */
const OVERHEAD_BYTES = 512;

/** Its memory is used again when the store and all responses have released it. */
export class Blob implements Item {
  #references = 1;
  older: Item | undefined;
  newer: Item | undefined;

  constructor(
    readonly id: BlobId,
    readonly at: number,
    readonly source: Source,
    readonly store: BlobStore,
    readonly blocks: readonly Buffer[],
    readonly bytes: number,
  ) {}

  evict(): void {
    this.store.evict(this);
  }

  /** Returns the function that releases it, to be called once. */
  share(): () => void {
    this.#references++;
    return () => this.release();
  }

  release(): void {
    this.#references--;
    if (this.#references === 0) giveBack(this.blocks);
  }
}

/** Whose blob it is in the channel, and whose memory. */
export interface Source {
  readonly from: ParticipantId;
  readonly owner: Owner;
}

/** What one participant has in the store. */
interface Holding {
  bytes: number; // with what is arriving
  readonly blobs: Set<Blob>; // oldest first
}

/** Of all stores together. */
export interface BlobTotals {
  count: number;
  bytes: number;
}

export class BlobStore {
  readonly #blobs = new Map<BlobId, Blob>();
  readonly #holdings = new Map<ParticipantId, Holding>();
  #isClosed = false;
  bytes = 0;

  constructor(
    readonly maxBytes: number,
    readonly memory: Memory,
    readonly totals: BlobTotals,
  ) {}

  get(id: BlobId): Blob | undefined {
    return this.#blobs.get(id);
  }

  /** Counts memory; at the limit, the participant that has most loses its oldest. Throws no_channel, bridge_full. */
  reserve(source: Source, bytes: number): void {
    if (this.#isClosed) throw new ApiError('no_channel');
    while (this.bytes + bytes > this.maxBytes) {
      const blob = this.#oldestOfLargest();
      if (!blob) throw new ApiError('bridge_full');
      blob.evict();
    }
    this.memory.reserve(source.owner, bytes);
    this.#count(source, bytes);
    if (!this.#isClosed) return;
    this.release(source, bytes); // this very channel was evicted to make room
    throw new ApiError('no_channel');
  }

  release(source: Source, bytes: number): void {
    this.memory.add(source.owner, -bytes);
    this.#count(source, -bytes);
  }

  /** Stores bytes that are counted already. False, and they are no longer counted, if another upload was faster. */
  add(blob: Blob): boolean {
    if (this.#isClosed) throw new ApiError('no_channel');
    const isNew = !this.#blobs.has(blob.id);
    if (isNew) {
      this.#blobs.set(blob.id, blob);
      this.#holdings.get(blob.source.from)?.blobs.add(blob);
      blob.source.owner.blobs.add(blob);
      this.totals.count++;
    } else {
      this.release(blob.source, blob.bytes + OVERHEAD_BYTES);
      blob.release();
    }
    return isNew;
  }

  /** The one place where a blob is removed. */
  evict(blob: Blob): void {
    this.#blobs.delete(blob.id);
    this.#holdings.get(blob.source.from)?.blobs.delete(blob);
    blob.source.owner.blobs.remove(blob);
    this.totals.count--;
    this.release(blob.source, blob.bytes + OVERHEAD_BYTES);
    blob.release();
  }

  /** The channel has ended. What is on its way gives back what it has by itself. */
  close(): void {
    this.#isClosed = true;
    for (const blob of this.#blobs.values()) blob.evict();
  }

  #count({ from }: Source, bytes: number): void {
    const holding = this.#holdings.get(from) ?? { bytes: 0, blobs: new Set() };
    holding.bytes += bytes;
    this.bytes += bytes;
    this.totals.bytes += bytes;
    if (holding.bytes > 0) this.#holdings.set(from, holding);
    else this.#holdings.delete(from);
  }

  #oldestOfLargest(): Blob | undefined {
    let largest: Holding | undefined;
    for (const holding of this.#holdings.values()) {
      if (holding.blobs.size > 0 && holding.bytes > (largest?.bytes ?? 0)) largest = holding;
    }
    return largest?.blobs.values().next().value;
  }
}

/** A body on its way into a store. It ends with complete() or abort(). */
export class Upload {
  readonly #hash = createHash('sha256');
  readonly #blocks: Buffer[] = [];
  #received = 0;
  #counted = 0;
  #source: Source | undefined;
  #isOver = false;

  /**
   * @param address that it comes from, and whose memory it takes
   * @param bytes as declared: 1 to MAX_BLOB_BYTES, and no more than that is written
   */
  constructor(
    readonly store: BlobStore,
    readonly id: BlobId,
    readonly from: ParticipantId,
    readonly address: string,
    readonly bytes: number,
  ) {}

  /** Copies the bytes: a sender of single bytes costs blocks, and not an object for each. Throws what take() does. */
  write(chunk: Buffer): void {
    this.#hash.update(chunk);
    for (let offset = 0; offset < chunk.length;) {
      const position = this.#received % BLOCK_BYTES;
      const block = position === 0 ? this.#allocate() : this.#blocks.at(-1);
      const copied = block?.length ? chunk.copy(block, position, offset) : 0;
      if (copied === 0) throw new ApiError('bad_request', 'Content-Length');
      this.#received += copied;
      offset += copied;
    }
  }

  #allocate(): Buffer {
    const size = Math.min(BLOCK_BYTES, this.bytes - this.#received);
    const counted = size + (this.#counted === 0 ? OVERHEAD_BYTES : 0);
    const source = this.#source ?? { from: this.from, owner: this.store.memory.owner(this.address) };
    this.store.reserve(source, counted);
    this.#source = source;
    this.#counted += counted;
    const block = takeBlock(size);
    this.#blocks.push(block);
    return block;
  }

  /** Whether the blob is new. Throws bad_request if it is not what its name says, no_channel. */
  complete(now: number): boolean {
    const isRight = this.#received === this.bytes && this.#hash.digest('hex') === this.id;
    if (!isRight || !this.#source) throw new ApiError('bad_request', 'The SHA-256 of the body');
    const isNew = this.store.add(new Blob(this.id, now, this.#source, this.store, this.#blocks, this.bytes));
    this.#isOver = true;
    return isNew;
  }

  abort(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#source) this.store.release(this.#source, this.#counted);
    giveBack(this.#blocks);
  }
}
