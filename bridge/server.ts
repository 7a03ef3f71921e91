/** node:http around the routes: bounds of connections, start, sweep, drain. Owns the clock and the randomness. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Channels } from './channels.ts';
import type { Config } from '../service/config.ts';
import { Exchange, headersOf } from './http.ts';
import { pages } from './pages.ts';
import { routes } from './routes.ts';
import type { State } from './routes.ts';

const randomHex = (bytes: number) => randomBytes(bytes).toString('hex');

/**
 * Resolves with where it listens and how to stop it: no longer ready, every waiting poll answered, closed within
 * drainSeconds and stopSeconds.
 *
 * @param bundle this program's own file, to be handed on
 * @param log takes a line for each thing that should not have happened; no id, address or content is in it
 */
export async function startBridge(config: Config, bundle: Buffer, log: (line: string) => void) {
  const { limits, basePath } = config;
  const channels = new Channels(limits, Date.now, randomHex);
  const report = (error: unknown) => {
    const number = randomHex(8);
    log(`unexpected error ${number}: ${error instanceof Error ? error.stack : 'not an Error'}`);
    return number;
  };
  const state: State = { isStopping: false, connections: 0, report };
  const handle = routes(channels, pages(config, bundle), basePath, state);

  const options = {
    maxHeaderSize: limits.headerBytes,
    headersTimeout: limits.headersSeconds * 1000,
    requestTimeout: limits.requestSeconds * 1000,
    keepAliveTimeout: limits.keepAliveSeconds * 1000,
    connectionsCheckingInterval: 2000, // how often node looks at headersTimeout and requestTimeout
  };
  const server = createServer(options, (...both) => handle(new Exchange(...both, limits.stallSeconds * 1000)));
  server.maxConnections = limits.connections;
  server.on('clientError', refuseGarbage);
  server.on('connection', (socket) => {
    state.connections++;
    socket.on('close', () => state.connections--);
  });
  server.listen(config.port, config.host);
  await once(server, 'listening');
  const sweeping = setInterval(() => channels.sweep(), 1000);
  const { address, family, port } = server.address() as AddressInfo;

  async function stop(): Promise<void> {
    state.isStopping = true;
    channels.release();
    await delay(limits.drainSeconds * 1000);
    clearInterval(sweeping);
    const closed = new Promise((resolve) => server.close(resolve));
    await Promise.race([closed, delay(limits.stopSeconds * 1000)]);
    server.closeAllConnections();
  }
  return { url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`, stop };
}

/** What is no HTTP, or too much of it, or too slow: a constant answer and the end of the connection. */
function refuseGarbage({ code = '' }: NodeJS.ErrnoException, socket: Socket): void {
  if (code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const slow = code === 'ERR_HTTP_REQUEST_TIMEOUT' && '408 Request Timeout';
  const large = code === 'HPE_HEADER_OVERFLOW' && '431 Request Header Fields Too Large';
  const body = '{"error":{"code":"bad_request","message":"This is no request.","hint":"Mend it, then try again."}}';
  const headers = [...headersOf('application/json'), 'Connection', 'close', 'Content-Length', String(body.length)];
  const lines = headers.map((word, i) => (i % 2 === 0 ? `\r\n${word}: ` : word));
  socket.end(`HTTP/1.1 ${slow || large || '400 Bad Request'}${lines.join('')}\r\n\r\n${body}`);
}
