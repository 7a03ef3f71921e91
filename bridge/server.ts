/**
 * The core put together: channels, limits and routes as listeners for node:http, and what happens each second. Owns the
 * clock and the randomness. bridge.ts gives it its servers and what it needs of the operator's side.
 */
import { randomBytes } from 'node:crypto';
import type { RequestListener, Server } from 'node:http';
import type { Socket } from 'node:net';
import { trimBlocks } from './blocks.ts';
import { ChannelRegistry } from './channels.ts';
import type { BridgeOptions, RequestLog } from './dependencies.ts';
import { CODES } from './errors.ts';
import { RequestContext, securityHeaders, type Transport } from './http.ts';
import { InFlight } from './in-flight.ts';
import { Metrics, type Rejection } from './metrics.ts';
import { pages } from './pages.ts';
import { limitParsing, serially } from './pipelining.ts';
import { RateLimits } from './rate-limits.ts';
import { routes } from './routes.ts';

export interface Bridge {
  /** For everybody. */
  readonly handlePublic: RequestListener;
  /** For everybody who reaches the operator's address: /health, /ready, /metrics. */
  readonly handleOperator: RequestListener;
  readonly metrics: Metrics;
  /** The values of now, by the names of metrics. */
  gauges(): Readonly<Record<string, number>>;
  /** Limits the connections of the server that has handlePublic. */
  attach(server: Server): void;
  /** From now on it is not ready, and closes each connection with its response. Answers all pending polls. */
  beginShutdown(): void;
}

export function createBridge(options: BridgeOptions): Bridge {
  const { limits, clients, requestLog } = options;
  const metrics = new Metrics(CODES);
  const channels = new ChannelRegistry(limits, Date.now, (bytes) => randomBytes(bytes).toString('hex'));
  const rateLimits = new RateLimits(limits, clients);
  const inFlight = new InFlight(limits.inFlightBytes, limits.inFlightBytesPerIp);
  const state = { isStopping: false };
  const handlers = routes({ ...options, channels, rateLimits, metrics, state, pages: pages(options) });
  const transport: Transport = {
    writeTimeoutMs: limits.writeTimeoutSeconds * 1000,
    inFlight,
    clientAddress: (request) =>
      clients.rateLimitKey(clients.forwardedAddress(request) ?? request.socket.remoteAddress ?? ''),
  };

  const countPipelined = () => metrics.connectionRejected('pipelined');
  const withContext = (handle: (context: RequestContext) => void): RequestListener =>
    serially((request, response) => new RequestContext(request, response, transport), handle, countPipelined);
  const handlePublic = withContext(handlers.handlePublic);

  setInterval(() => {
    channels.sweep();
    rateLimits.sweep();
    trimBlocks();
  }, 1000).unref();

  return {
    handlePublic,
    handleOperator: withContext(handlers.handleOperator),
    metrics,
    gauges: () => ({
      ...channels.gauges(),
      ...rateLimits.gauges(),
      channels_evicted_total: channels.evictedCount,
      inflight_bytes: inFlight.bytes,
      answers_abandoned_total: inFlight.abandonedCount,
    }),
    attach(server) {
      server.maxConnections = limits.connections;
      server.on('drop', () => metrics.connectionRejected('max_connections'));
      server.on('checkExpectation', handlePublic); // whatever a client expects
      for (const event of ['clientError', 'connect']) {
        server.on(event, (error: NodeJS.ErrnoException, socket: Socket) =>
          onClientError(metrics, requestLog, error, socket),
        );
      }
      server.on('connection', (socket) => rateLimits.onConnection(socket));
      for (const event of ['connection', 'secureConnection']) {
        server.on(event, (socket: Socket) => limitParsing(socket, countPipelined));
      }
    },
    beginShutdown() {
      state.isStopping = true;
      channels.resolveAllPendingPolls();
    },
  };
}

/** What is no HTTP, too large or too slow: a constant response, and the end of the connection. */
function onClientError(
  metrics: Metrics,
  requestLog: RequestLog,
  { code = '' }: NodeJS.ErrnoException,
  socket: Socket,
): void {
  const { reason, status } = describeClientError(code);
  metrics.connectionRejected(reason);
  if (status === undefined || !socket.writable) {
    socket.destroy();
    return;
  }
  const body = '{"error":{"code":"bad_request","message":"This is no request.","hint":"Fix it, then try again."}}';
  const fields = ['Agentalk-Error', 'bad_request', 'Connection', 'close', 'Content-Length', String(body.length)];
  const headers = [...securityHeaders('application/json'), ...fields];
  const lines = headers.map((word, i) => (i % 2 === 0 ? `\r\n${word}: ` : word));
  socket.end(`HTTP/1.1 ${status}${lines.join('')}\r\n\r\n${body}`);
  requestLog.malformedRequest(status);
}

/** The reason for the metric, and the status of the response; undefined where no response can be written. */
function describeClientError(code: string): { reason: Rejection; status: string | undefined } {
  if (/^ERR_(SSL|TLS)_/.test(code)) return { reason: 'tls', status: undefined };
  if (code === 'ECONNRESET') return { reason: 'reset', status: undefined };
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return { reason: 'timeout', status: '408 Request Timeout' };
  if (code === 'HPE_HEADER_OVERFLOW') {
    return { reason: 'headers_too_large', status: '431 Request Header Fields Too Large' };
  }
  return { reason: 'malformed', status: '400 Bad Request' };
}
