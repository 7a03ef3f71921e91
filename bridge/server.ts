/** node:http around the routes: timeouts and bounds of connections, start, sweep, drain. Owns the clock and randomness. */
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { Channels } from './channels.ts';
import type { Config } from './config.ts';
import { Exchange } from './http.ts';
import { Metrics } from './metrics.ts';
import { Pages } from './pages.ts';
import { routes } from './routes.ts';

const SWEEP_MS = 1000;

export interface RunningBridge {
  /** `http://HOST:PORT` as bound. */
  readonly url: string;
  /** Not ready any more; every waiting poll answered; closed within drainSeconds and stopSeconds. */
  stop(): Promise<void>;
}

/**
 * @param bundle this program's own file, to be handed on
 * @param log takes one line for each thing that should not have happened; no id, address or content is in it
 */
export async function startBridge(config: Config, bundle: Buffer, log: (line: string) => void): Promise<RunningBridge> {
  const { limits } = config;
  const randomHex = (bytes: number) => randomBytes(bytes).toString('hex');
  const channels = new Channels(limits, Date.now, randomHex);
  const { origin, basePath } = config.publicUrl ?? { origin: undefined, basePath: '' };
  let isStopping = false;
  let connections = 0;
  const handle = routes(
    {
      channels,
      metrics: new Metrics(),
      pages: new Pages({ origin, basePath, trustProxy: config.trustProxy }, bundle),
      isStopping: () => isStopping,
      connections: () => connections,
      report(error) {
        const number = randomHex(8);
        log(`unexpected error ${number}: ${error instanceof Error ? error.stack : 'not an Error'}`);
        return number;
      },
    },
    basePath,
  );

  const server = createServer(
    {
      maxHeaderSize: limits.headerBytes,
      headersTimeout: limits.headersSeconds * 1000,
      requestTimeout: limits.requestSeconds * 1000,
      keepAliveTimeout: limits.keepAliveSeconds * 1000,
      connectionsCheckingInterval: 2000,
      noDelay: true,
    },
    (request, response) => handle(new Exchange(request, response)),
  );
  server.maxConnections = limits.connections;
  server.maxHeadersCount = 64;
  // No byte either way for longer than a poll may wait: a reader that does not read, or nobody at all.
  server.timeout = (limits.pollSeconds + 30) * 1000;
  server.on('clientError', refuseGarbage);
  server.on('connection', (socket) => {
    connections++;
    socket.on('close', () => connections--);
  });

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(config.port, config.host, resolve);
  });
  const sweeping = setInterval(() => channels.sweep(), SWEEP_MS);
  const { address, family, port } = server.address() as AddressInfo;

  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    async stop() {
      isStopping = true;
      channels.release();
      await delay(limits.drainSeconds * 1000);
      clearInterval(sweeping);
      const isClosed = new Promise<void>((resolve) => server.close(() => resolve()));
      const timer = setTimeout(() => server.closeAllConnections(), limits.stopSeconds * 1000);
      await isClosed;
      clearTimeout(timer);
    },
  };
}

const delay = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** What is no HTTP, or too much or too slow: one constant answer and the end of the connection. */
function refuseGarbage(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const isSlow = error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
  const status = isSlow
    ? '408 Request Timeout'
    : /OVERFLOW/.test(error.code ?? '')
      ? '431 Too Large'
      : '400 Bad Request';
  const body = '{"error":{"code":"bad_request","message":"This is no request.","hint":"Mend it, then try again."}}';
  const head = 'Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n';
  socket.end(`HTTP/1.1 ${status}\r\n${head}Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`);
}
