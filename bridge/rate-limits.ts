/**
 * What one address may do (of IPv6 a /64), so that nobody crowds out the others. Loopback and trusted proxies have no
 * limits; the clients that a trusted proxy forwards for have. An address for which nothing counts is forgotten.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ClientAddresses } from './dependencies.ts';
import { ApiError } from './errors.ts';
import type { Limits } from './limits.ts';

/** What is counted for each address: its limit, the share of it that each second gives back, and its error. */
const KINDS = {
  connections: { limit: 'connectionsPerIp', refillPerSecond: 0, error: 'too_many_connections' },
  polls: { limit: 'pollsPerIp', refillPerSecond: 0, error: 'too_many_polls' },
  uploads: { limit: 'uploadsPerIp', refillPerSecond: 0, error: 'too_many_requests' },
  requests: { limit: 'requestRatePerIp', refillPerSecond: 1 / 10, error: 'too_many_requests' },
  joins: { limit: 'joinRatePerIp', refillPerSecond: 1 / 10, error: 'too_many_joins' },
  channels: { limit: 'channelRatePerIp', refillPerSecond: 1 / 3600, error: 'too_many_channels' },
} as const;
export type Kind = keyof typeof KINDS;
const ALL_KINDS = Object.keys(KINDS) as Kind[];

/** How much of each kind an address has used. */
export type ClientUsage = Record<Kind, number>;

export class RateLimits {
  readonly #byAddress = new Map<string, ClientUsage>();
  #connections = 0;

  constructor(
    readonly limits: Limits,
    readonly clients: ClientAddresses,
  ) {}

  /** Counts a connection. Above the limit its requests are rejected; far above it the connection is closed at once. */
  onConnection(socket: Socket): void {
    const usage = this.#usageOf(socket);
    this.#connections++;
    if (usage) usage.connections++;
    socket.on('close', () => {
      this.#connections--;
      if (usage) usage.connections--;
    });
    if (usage && usage.connections > 2 * this.#limitOf('connections')) socket.destroy();
  }

  /** The usage of the client that sent a request; undefined if it has no limits. Throws too_many_connections, too_many_requests. */
  onRequest(request: IncomingMessage): ClientUsage | undefined {
    const forwarded = this.clients.forwardedAddress(request);
    const usage = forwarded === undefined ? this.#usageOf(request.socket) : this.#getOrCreate(forwarded);
    if (usage && usage.connections > this.#limitOf('connections')) throw new ApiError(KINDS.connections.error);
    this.take(usage, 'requests');
    return usage;
  }

  /**
   * Counts one more. Throws the error of its kind at the limit.
   *
   * @param releaseOn the response whose end gives it back
   */
  take(usage: ClientUsage | undefined, kind: Kind, releaseOn?: ServerResponse): void {
    if (!usage) return;
    if (usage[kind] + 1 > this.#limitOf(kind)) throw new ApiError(KINDS[kind].error);
    usage[kind]++;
    releaseOn?.on('close', () => usage[kind]--);
  }

  /** To be called each second. If there are more addresses than connections allowed, forgets those known longest. */
  sweep(): void {
    for (const [address, usage] of this.#byAddress) {
      for (const kind of ALL_KINDS) {
        usage[kind] = Math.max(0, usage[kind] - KINDS[kind].refillPerSecond * this.#limitOf(kind));
      }
      const isUnused = ALL_KINDS.every((kind) => usage[kind] === 0);
      if (isUnused || this.#byAddress.size > this.limits.connections) this.#byAddress.delete(address);
    }
  }

  gauges() {
    return { connections: this.#connections, rate_limited_addresses: this.#byAddress.size };
  }

  #limitOf(kind: Kind): number {
    return this.limits[KINDS[kind].limit] || Number.MAX_SAFE_INTEGER; // 0 is no limit
  }

  /** With TLS, a request has another socket than its connection: both have the same address. */
  #usageOf(socket: Socket): ClientUsage | undefined {
    return this.clients.isUnlimited(socket) ? undefined : this.#getOrCreate(socket.remoteAddress ?? '');
  }

  #getOrCreate(address: string): ClientUsage {
    const key = this.clients.rateLimitKey(address);
    const known = this.#byAddress.get(key);
    if (known) return known;
    const usage = { connections: 0, polls: 0, uploads: 0, requests: 0, joins: 0, channels: 0 };
    this.#byAddress.set(key, usage);
    return usage;
  }
}
