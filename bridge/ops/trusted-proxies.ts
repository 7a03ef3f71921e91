/** Where requests come from, as the operator says with --trusted-proxies. Of a request only addresses get here. */
import type { IncomingMessage } from 'node:http';
import { BlockList, SocketAddress, isIP, isIPv6 } from 'node:net';
import type { ClientAddresses } from '../dependencies.ts';

/** Headers by which proxies say that they forward a request. */
const FORWARDING = ['forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-real-ip'];
const LOOPBACK = ['127.0.0.0/8', '::1'];
/** For so many addresses it is remembered whether a list has them: asking the list takes a microsecond. */
const CACHE_SIZE = 1000;

type RequestOrigin = Pick<IncomingMessage, 'headers'> & {
  readonly socket: { readonly remoteAddress?: string | undefined };
};

export interface TrustedProxies extends ClientAddresses {
  /** As the operator wrote them. */
  readonly words: readonly string[];
  /** Whether a connection has no limits: it comes from this machine, or from a trusted proxy. */
  isUnlimited(socket: RequestOrigin['socket']): boolean;
  /** Whether a request comes from this machine, and not from a proxy here. */
  isLocal(request: RequestOrigin): boolean;
  /** Whether a trusted proxy says that the client came by https. */
  isForwardedHttps(request: RequestOrigin): boolean;
  /** From X-Forwarded-For of a trusted proxy: the last address there that is not a trusted proxy. */
  forwardedAddress(request: RequestOrigin): string | undefined;
}

/** @param text addresses, CIDRs and `loopback`, comma-separated. Undefined if it is something else. */
export function parseTrustedProxies(text: string): TrustedProxies | undefined {
  const words = text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
  const isLoopback = parseBlockList(LOOPBACK);
  const isListed = parseBlockList(words.flatMap((word) => (word === 'loopback' ? LOOPBACK : [word])));
  if (!isListed || !isLoopback) return undefined;
  const isTrusted = ({ remoteAddress = '' }: RequestOrigin['socket']) => text !== '' && isListed(remoteAddress);
  return {
    words,
    rateLimitKey,
    isUnlimited: (socket) => isLoopback(socket.remoteAddress ?? '') || isTrusted(socket),
    isLocal: ({ socket, headers }) =>
      isLoopback(socket.remoteAddress ?? '') && FORWARDING.every((name) => headers[name] === undefined),
    isForwardedHttps: ({ socket, headers }) => headers['x-forwarded-proto'] === 'https' && isTrusted(socket),
    forwardedAddress({ socket, headers }) {
      if (text === '') return undefined; // the common case, before any look at the headers
      const { 'x-forwarded-for': hops } = headers;
      if (hops === undefined || !isTrusted(socket)) return undefined;
      let address = socket.remoteAddress ?? '';
      for (const hop of String(hops).split(',').reverse()) {
        if (!isIP(hop.trim()) || !isListed(address)) break;
        address = hop.trim();
      }
      return address;
    },
  };
}

function rateLimitKey(address: string): string {
  if (!isIPv6(address)) return address;
  // The one way to write it (RFC 5952): in lower case, and at most one :: in it.
  const written = new SocketAddress({ address, family: 'ipv6' }).address;
  const mapped = /^::ffff:([0-9.]+)$/.exec(written)?.[1];
  if (mapped !== undefined) return mapped;
  const [head = [], tail = []] = written.split('::').map((part) => part.split(':').filter(Boolean));
  const zeros = Array<string>(8 - head.length - tail.length).fill('0');
  return [...head, ...zeros, ...tail].slice(0, 4).join(':');
}

/** Undefined if a word is no address or CIDR. */
function parseBlockList(words: readonly string[]): ((address: string) => boolean) | undefined {
  const list = new BlockList();
  for (const word of words) {
    const [, address = '', prefix] = /^([^/]+)(?:\/([0-9]{1,3}))?$/.exec(word) ?? [];
    const max = isIPv6(address) ? 128 : 32;
    const bits = Number(prefix ?? max);
    if (!isIP(address) || bits > max) return undefined;
    list.addSubnet(address, bits, max === 128 ? 'ipv6' : 'ipv4');
  }
  const cache = new Map<string, boolean>();
  return (address) => {
    let isIn = cache.get(address);
    if (isIn !== undefined) return isIn;
    if (cache.size >= CACHE_SIZE) cache.clear();
    // A connection that was reset at once has no address any more.
    isIn = isIP(address) !== 0 && list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
    cache.set(address, isIn);
    return isIn;
  };
}
