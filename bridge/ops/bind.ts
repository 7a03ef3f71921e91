/** Where a server listens: host and port, a unix socket, or a socket that systemd has opened. */
import { once } from 'node:events';
import { lstatSync, unlinkSync } from 'node:fs';
import { connect } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { StartupError, errnoName } from './startup-error.ts';

export type Address =
  { readonly host: string; readonly port: number } | { readonly path: string } | { readonly fd: number };

type Environment = Readonly<Record<string, string | undefined>>;

const SD_LISTEN_FDS_START = 3; // sd_listen_fds(3)

/** The socket that systemd passed to this process, if it did. Throws an Error if it passed several. */
export function systemdSocket({ LISTEN_PID, LISTEN_FDS }: Environment, pid: number): Address | undefined {
  if (LISTEN_PID !== String(pid) || !LISTEN_FDS || LISTEN_FDS === '0') return undefined;
  if (LISTEN_FDS !== '1') throw new Error('systemd passed several sockets: leave one in the socket unit');
  return { fd: SD_LISTEN_FDS_START };
}

/** An address as the bridge prints it. */
export function formatAddress(address: Address, scheme = 'http'): string {
  if ('path' in address) return `unix:${address.path}`;
  if ('fd' in address) return `fd:${address.fd}`;
  const { host, port } = address;
  return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** Listens, and resolves with the URL, in which port 0 became a free one. Throws StartupError. */
export async function listen(server: Server, address: Address, scheme = 'http'): Promise<string> {
  try {
    if ('path' in address) await removeStaleSocket(address.path);
    // Bound within the call: the socket file never has another mode, and this umask affects nothing else.
    const umask = process.umask(0o117);
    server.listen(address);
    process.umask(umask);
    await once(server, 'listening');
  } catch (error) {
    if (error instanceof StartupError) throw error;
    const others = 'another --port (0: any that is free), --host, --socket or --metrics-listen';
    throw new StartupError(
      `can't listen on ${formatAddress(address, scheme)} (${errnoName(error)}): choose ${others}`,
      1,
    );
  }
  const bound = server.address() as AddressInfo | string | null;
  if (bound === null || typeof bound === 'string') {
    for (const event of ['connection', 'secureConnection']) server.prependListener(event, treatAsLoopback);
    return formatAddress(address);
  }
  return formatAddress({ host: bound.address, port: bound.port }, scheme);
}

/** Removes the socket file of a bridge that was killed, and only if nobody answers there. */
async function removeStaleSocket(path: string): Promise<void> {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (!there) return;
  if (!there.isSocket()) throw new StartupError(`${path} is there and is no socket: choose another path`, 1);
  const socket = connect(path);
  const isStale = await new Promise((resolve) => {
    socket.once('connect', () => resolve(false));
    socket.once('error', (error) => resolve(errnoName(error) === 'ECONNREFUSED'));
  });
  socket.destroy();
  if (!isStale) throw new StartupError(`somebody listens on unix:${path} already: end that, or choose another path`, 1);
  unlinkSync(path);
}

/** Clients of a unix socket have no address and are on this machine: they are treated as loopback. */
const treatAsLoopback = (socket: Socket) => void Object.defineProperty(socket, 'remoteAddress', { value: '127.0.0.1' });
