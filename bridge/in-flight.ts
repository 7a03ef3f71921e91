/**
 * Memory of incomplete requests and unread responses. It is counted for each address and in all, and checked before it
 * is taken, so that no client makes the bridge grow by not reading.
 */
import { ApiError } from './errors.ts';

/** A request that holds memory. */
export interface Holder {
  /** Ends it: its memory is needed. */
  abandon(): void;
}

interface AddressUse {
  bytes: number;
  readonly holders: Map<Holder, number>; // bytes of each; the one that took memory first comes first
}

export class InFlight {
  readonly #byAddress = new Map<string, AddressUse>();
  bytes = 0;
  abandonedCount = 0; // so far

  constructor(
    readonly maxBytes: number,
    readonly maxBytesOfAddress: number,
  ) {}

  /**
   * Sets how much a holder has, 0 to forget it. When all memory is taken, the address that holds most loses its oldest
   * holder to an address that holds less than half of that. Throws too_many_requests, bridge_full.
   */
  hold(address: string, holder: Holder, bytes: number): void {
    const more = bytes - (this.#byAddress.get(address)?.holders.get(holder) ?? 0);
    if (more > 0) this.#evictFor(address, more);
    this.#set(address, holder, bytes);
  }

  /** Throws too_many_requests if the address could not hold so much more now. */
  check(address: string, bytes: number): void {
    const own = this.#byAddress.get(address)?.bytes ?? 0;
    if (own + bytes > this.maxBytesOfAddress) throw new ApiError('too_many_requests');
  }

  #evictFor(address: string, bytes: number): void {
    const own = this.#byAddress.get(address)?.bytes ?? 0;
    this.check(address, bytes);
    while (this.bytes + bytes > this.maxBytes) {
      const [largest, use] = this.#largest();
      const [oldest] = use?.holders.keys() ?? [];
      if (!oldest || !use || 2 * (own + bytes) > use.bytes) throw new ApiError('bridge_full');
      this.#set(largest, oldest, 0);
      this.abandonedCount++;
      oldest.abandon();
    }
  }

  #set(address: string, holder: Holder, bytes: number): void {
    const use = this.#byAddress.get(address) ?? { bytes: 0, holders: new Map() };
    const more = bytes - (use.holders.get(holder) ?? 0);
    use.bytes += more;
    this.bytes += more;
    if (bytes > 0) use.holders.set(holder, bytes);
    else use.holders.delete(holder);
    if (use.holders.size > 0) this.#byAddress.set(address, use);
    else this.#byAddress.delete(address);
  }

  #largest(): [address: string, use: AddressUse | undefined] {
    let largest: [string, AddressUse | undefined] = ['', undefined];
    for (const [address, use] of this.#byAddress) {
      if (use.bytes > (largest[1]?.bytes ?? 0)) largest = [address, use];
    }
    return largest;
  }
}
