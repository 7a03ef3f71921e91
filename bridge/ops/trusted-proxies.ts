/** Where requests come from, by what an operator says with --trusted-proxies. Of a request only addresses get here. */
import type { IncomingMessage } from 'node:http';
import { BlockList, SocketAddress, isIP, isIPv6 } from 'node:net';

/** Headers by which proxies say that they ask for somebody else. */
const FORWARDING = ['forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-real-ip'];
const LOOPBACK = ['127.0.0.0/8', '::1'];
/** For so many addresses it is remembered whether they are a proxy's: asking the list takes a microsecond. */
const MOST_KNOWN = 1000;

type From = Pick<IncomingMessage, 'headers'> & { readonly socket: { readonly remoteAddress?: string | undefined } };

export interface Proxies {
  /** Whether a connection comes from a proxy of ours. */
  includes(socket: From['socket']): boolean;
  /** Whether a connection has no limits of its own: it comes from this machine, or from a proxy of ours. */
  isExempt(socket: From['socket']): boolean;
  /** From X-Forwarded-For, if a proxy of ours brings it: the last address there that isn't one of our proxies, too. */
  origin(request: From): string | undefined;
  /** What counts as one address: an IPv4 address, or the /64 that an IPv6 one is in. */
  network(address: string): string;
  /** Whether somebody on this machine asks, and not a proxy there for somebody else. */
  isLocal(request: From): boolean;
  /** That of the client: where the connection comes from, or what a proxy of ours says. */
  client(request: From): string;
}

/** From addresses, CIDRs and `loopback`, comma-separated. Undefined if it is something else. */
export function readProxies(text: string): Proxies | undefined {
  const loopback = listOf(LOOPBACK);
  const words = text.split(',').map((word) => word.trim());
  const list = listOf(words.flatMap((word) => (word === '' ? [] : word === 'loopback' ? LOOPBACK : [word])));
  if (!list || !loopback) return undefined;
  const includes: Proxies['includes'] = ({ remoteAddress: address = '' }) => text !== '' && list(address);
  const proxies: Proxies = {
    includes,
    isExempt: (socket) => loopback(socket.remoteAddress ?? '') || includes(socket),
    isLocal: ({ socket, headers }) =>
      loopback(socket.remoteAddress ?? '') && FORWARDING.every((name) => headers[name] === undefined),
    client: (request) => network(proxies.origin(request) ?? request.socket.remoteAddress ?? ''),
    origin({ socket, headers }) {
      if (text === '') return undefined; // the common case, before any look at the headers
      const { 'x-forwarded-for': hops } = headers;
      if (hops === undefined || !includes(socket)) return undefined;
      let address = socket.remoteAddress ?? '';
      for (const hop of String(hops).split(',').reverse()) {
        if (!isIP(hop.trim()) || !list(address)) break;
        address = hop.trim();
      }
      return address;
    },
    network,
  };
  return proxies;
}

function network(address: string): string {
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
function listOf(words: readonly string[]): ((address: string) => boolean) | undefined {
  const list = new BlockList();
  for (const word of words) {
    const [, address = '', prefix] = /^([^/]+)(?:\/([0-9]{1,3}))?$/.exec(word) ?? [];
    const most = isIPv6(address) ? 128 : 32;
    const bits = Number(prefix ?? most);
    if (!isIP(address) || bits > most) return undefined;
    list.addSubnet(address, bits, most === 128 ? 'ipv6' : 'ipv4');
  }
  const known = new Map<string, boolean>();
  return (address) => {
    let isIn = known.get(address);
    if (isIn !== undefined) return isIn;
    if (known.size >= MOST_KNOWN) known.clear();
    // A connection that was reset at once has no address any more.
    isIn = isIP(address) !== 0 && list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
    known.set(address, isIn);
    return isIn;
  };
}
