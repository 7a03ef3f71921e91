/**
 * What one address may do (of IPv6 a /64), so that nobody crowds out the others. Loopback and trusted proxies have no
 * limits of their own; whom a trusted proxy speaks for has. An address for which nothing counts any more is forgotten.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Config } from './ops/config.ts';
import { Refusal } from './errors.ts';

/** What is counted up to its limit, and which share of the limit is given back each second, as to a bucket of tokens. */
const SHARES = { Connections: 0, Polls: 0, Uploads: 0, Requests: 1 / 10, Joins: 1 / 10, Channels: 1 / 3600 };
const REFUSALS = {
  Connections: 'too_many_connections',
  Polls: 'too_many_polls',
  Uploads: 'too_many_requests',
  Requests: 'too_many_requests',
  Joins: 'too_many_joins',
  Channels: 'too_many_channels',
} as const;
const COUNTED = Object.keys(SHARES) as (keyof Visitor)[];
export type Visitor = Record<keyof typeof SHARES, number>;
export type Visitors = ReturnType<typeof meet>;

export function meet({ limits, proxies }: Config) {
  const all = new Map<string, Visitor>(); // by address
  let connections = 0;
  const most = (what: keyof Visitor) => limits[`address${what}`] || Number.MAX_SAFE_INTEGER;
  /** With TLS the socket that asks is not the one that was welcome: what both have is the address. */
  const whoIs = (socket: Socket) => (proxies.isExempt(socket) ? undefined : find(socket.remoteAddress ?? ''));

  /** The one that has this address, or did not have one yet. */
  function find(address: string): Visitor {
    const key = proxies.network(address);
    const visitor = all.get(key) ?? { Connections: 0, Polls: 0, Uploads: 0, Requests: 0, Joins: 0, Channels: 0 };
    all.set(key, visitor);
    return visitor;
  }

  /** Counts one more, with `until` for as long as that is open. Throws the refusal of what is counted. */
  function count(visitor: Visitor | undefined, what: keyof Visitor, until?: ServerResponse): void {
    if (!visitor) return;
    if (visitor[what] + 1 > most(what)) throw new Refusal(REFUSALS[what]);
    visitor[what]++;
    until?.on('close', () => visitor[what]--);
  }

  /** A connection is there. Above the limit it is refused when it asks; far above it is closed at once. */
  function welcome(socket: Socket): void {
    const visitor = whoIs(socket);
    connections++;
    socket.on('close', () => {
      connections--;
      if (visitor) visitor.Connections--;
    });
    if (visitor && ++visitor.Connections > 2 * most('Connections')) socket.destroy();
  }

  /** Who asks, if it has limits. Throws too_many_connections, too_many_requests. */
  function ask(request: IncomingMessage): Visitor | undefined {
    const origin = proxies.origin(request);
    const visitor = origin === undefined ? whoIs(request.socket) : find(origin);
    if (visitor && visitor.Connections > most('Connections')) throw new Refusal('too_many_connections');
    count(visitor, 'Requests');
    return visitor;
  }

  /** To be called each second. More addresses than there may be connections are forgotten, whatever they did. */
  function sweep(): void {
    for (const [address, visitor] of all) {
      for (const what of COUNTED) visitor[what] = Math.max(0, visitor[what] - SHARES[what] * most(what));
      if (all.size > limits.connections || COUNTED.every((what) => visitor[what] === 0)) all.delete(address);
    }
  }
  return { welcome, ask, count, sweep, gauges: () => ({ connections, addresses: all.size }) };
}
