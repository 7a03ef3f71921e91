/** node:http around the routes: bounds of connections, start, sweep, drain. Owns the clock and the randomness. */
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { trimBlocks } from './blocks.ts';
import { Channels } from './channels.ts';
import type { Config } from './ops/config.ts';
import { makeDoors } from './ops/listeners.ts';
import { readInvitation } from './ops/invite.ts';
import { openJournal, type Journal } from './ops/request-log.ts';
import type { Log } from './ops/logger.ts';
import { exposition } from './ops/prometheus.ts';
import { CODES } from './errors.ts';
import { Exchange, headersOf } from './http.ts';
import { InFlight } from './in-flight.ts';
import { Metrics } from './metrics.ts';
import { pages } from './pages.ts';
import { routes, type State } from './routes.ts';
import { meet } from './rate-limits.ts';

/**
 * Resolves with where it listens, how to have it read its certificate again, and how to stop it: no longer ready, every
 * waiting poll answered, closed within drainSeconds and stopSeconds. Throws Advice.
 *
 * @param bundle this program's own file, to be handed on
 * @param log takes a line for each thing that should not have happened; no id, address or content is in it
 * @param vitals how the process is, for /metrics
 */
export async function startBridge(config: Config, bundle: Buffer, log: Log, vitals: () => string) {
  const { limits, basePath } = config;
  const metrics = new Metrics(CODES);
  const channels = new Channels(limits, Date.now, (bytes) => randomBytes(bytes).toString('hex'));
  const visitors = meet(config);
  const inFlight = new InFlight(limits.inFlightBytes, limits.addressInFlightBytes);
  const journal = openJournal(config, log);
  const tell = (): string => {
    const { bytes: inflight_bytes, abandoned: answers_abandoned_total } = inFlight;
    const transit = { inflight_bytes, answers_abandoned_total };
    const numbers = { channels_given_up_total: channels.givenUp, ...transit, ...visitors.gauges() };
    return exposition(metrics, { ...channels.gauges(), ...numbers }, limits, doors.expiresAt()) + vitals();
  };
  const invitation = readInvitation(config.invite);
  const isApart = config.metricsAddress !== undefined; // whoever reaches that address may see all
  const maySeeMetrics = (request: IncomingMessage) =>
    isApart || config.hasPublicMetrics || config.proxies.isLocal(request);
  const operator = { hasMetrics: !isApart, maySeeMetrics, tell };
  const state: State = { isStopping: false, visitors, journal, invitation, ...operator };
  const { visit, operate } = routes(channels, pages(config, bundle), basePath, metrics, state);
  const transport = { stallMs: limits.stallSeconds * 1000, inFlight, clientOf: config.proxies.client };
  const refusePipelined = () => metrics.count('connections_refused_total{reason="pipelined"}');
  const exchanged = (handle: (exchange: Exchange) => void) =>
    oneAtATime((request, response) => new Exchange(request, response, transport), handle, refusePipelined);

  const doors = makeDoors(config, exchanged(visit), exchanged(operate), log);
  const server = doors.front;
  server.maxConnections = limits.connections;
  server.on('checkExpectation', exchanged(visit)); // whatever a client expects
  for (const event of ['clientError', 'connect']) server.on(event, refuseGarbage.bind(null, metrics, journal));
  server.on('drop', () => metrics.count('connections_refused_total{reason="max_connections"}'));
  server.on('connection', visitors.welcome);
  for (const event of ['connection', 'secureConnection'])
    server.on(event, (socket: Socket) => cutFloods(socket, refusePipelined));
  const sweep = (): void => {
    channels.sweep();
    visitors.sweep();
    trimBlocks();
  };
  setInterval(sweep, 1000).unref();

  async function stop(): Promise<void> {
    state.isStopping = true;
    channels.release();
    await doors.close();
  }
  return { ...(await doors.open()), renew: doors.renew, stop };
}

const MAX_PIPELINED = 7; // requests that wait on one connection; clients that do that at all are rare
const pipelines = new WeakMap<Socket, (() => void)[]>(); // of connections that have an answer in flight

/** What node parses a connection's requests with. Undocumented: where it is otherwise, oneAtATime() does without. */
type Parser = { onIncoming?: ((request: IncomingMessage, isKept: boolean) => number) | null };
const SKIP_REST = 2; // what makes the parser leave the rest of a chunk alone, as for an upgrade

/** A chunk of bytes can have thousands of requests: when they are more than may wait, the rest is not even parsed. */
function cutFloods(socket: Socket & { parser?: Parser | null }, refuse: () => void): void {
  const { parser } = socket;
  const onIncoming = parser?.onIncoming;
  if (!parser || typeof onIncoming !== 'function') return;
  parser.onIncoming = (request, isKept) => {
    if ((pipelines.get(socket)?.length ?? 0) < MAX_PIPELINED) return onIncoming(request, isKept);
    if (!socket.destroyed) refuse();
    socket.destroy();
    return SKIP_REST;
  };
}

/**
 * One answer in flight for each connection: a request that comes before the last one was answered and read waits, with
 * its connection unread, and its body counts. More than a few, or more bytes than there is room for, end the connection.
 */
function oneAtATime(
  exchangeOf: (request: IncomingMessage, response: ServerResponse) => Exchange,
  handle: (exchange: Exchange) => void,
  refuse: () => void,
): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    const { socket } = request;
    const exchange = exchangeOf(request, response);
    const waiting = pipelines.get(socket);
    if (!waiting) {
      begin(exchange);
    } else if (waiting.length < MAX_PIPELINED && mayWait(exchange)) {
      waiting.push(() => {
        exchange.hold(0);
        begin(exchange);
      });
      socket.pause();
    } else if (!socket.destroyed) {
      refuse();
      socket.destroy();
    }
  };

  function mayWait(exchange: Exchange): boolean {
    try {
      exchange.holdWaitingBody();
      return true;
    } catch {
      return false; // too_many_requests or bridge_full
    }
  }

  function begin(exchange: Exchange): void {
    const { request, response } = exchange;
    const { socket } = request;
    if (!pipelines.has(socket)) pipelines.set(socket, []);
    response.once('close', () => {
      const waiting = pipelines.get(socket) ?? [];
      const next = waiting.shift();
      if (!next || socket.destroyed) {
        pipelines.delete(socket);
        if (socket.isPaused()) socket.resume();
        return;
      }
      if (waiting.length > 0) socket.pause(); // node reads on after each answer
      next();
    });
    handle(exchange);
    exchange.discardUnreadBody();
  }
}

/** What is no HTTP, or too much of it, or too slow: a constant answer and the end of the connection. */
function refuseGarbage(metrics: Metrics, journal: Journal, { code = '' }: NodeJS.ErrnoException, socket: Socket): void {
  const isTls = /^ERR_(SSL|TLS)_/.test(code); // no handshake: there is no way to say anything
  const slow = code === 'ERR_HTTP_REQUEST_TIMEOUT' && '408 Request Timeout';
  const large = code === 'HPE_HEADER_OVERFLOW' && '431 Request Header Fields Too Large';
  const reason = isTls ? 'tls' : slow ? 'slow' : large ? 'large' : code === 'ECONNRESET' ? 'reset' : 'no_http';
  metrics.count(`connections_refused_total{reason="${reason}"}`);
  if (isTls || code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const body = '{"error":{"code":"bad_request","message":"This is no request.","hint":"Mend it, then try again."}}';
  const headers = [
    ...headersOf('application/json'),
    'Agentalk-Error',
    'bad_request',
    'Connection',
    'close',
    'Content-Length',
    String(body.length),
  ];
  const lines = headers.map((word, i) => (i % 2 === 0 ? `\r\n${word}: ` : word));
  const status = slow || large || '400 Bad Request';
  socket.end(`HTTP/1.1 ${status}${lines.join('')}\r\n\r\n${body}`);
  journal.garbage(status);
}
