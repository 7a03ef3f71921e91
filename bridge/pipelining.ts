/**
 * One response in flight for each connection. A request that comes before the last one was answered and read waits, and
 * nothing more is read from its connection. More than a few requests, or more bytes than there is room for, end the
 * connection: clients that pipeline at all are rare.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { RequestContext } from './http.ts';

const MAX_WAITING = 7;

/** The requests that wait, on a socket that has a response in flight. A WeakMap would slow down each garbage collection. */
const waitingRequests = Symbol('waiting requests');
type PipelinedSocket = Socket & { [waitingRequests]?: RequestContext[] | undefined };

/** Node's own parser of a connection. This is undocumented: where it is missing, only serially() limits requests. */
type Parser = { onIncoming?: ((request: IncomingMessage, isKept: boolean) => number) | null };
const SKIP_REST = 2; // makes the parser leave the rest of a chunk alone, as for an upgrade

/**
 * Stops parsing a connection that has too many requests waiting: one chunk of bytes can have thousands.
 *
 * @param onRejected counts the connection
 */
export function limitParsing(socket: PipelinedSocket & { parser?: Parser | null }, onRejected: () => void): void {
  const { parser } = socket;
  const onIncoming = parser?.onIncoming;
  if (!parser || typeof onIncoming !== 'function') return;
  parser.onIncoming = (request, isKept) => {
    const waiting = socket[waitingRequests];
    if (!waiting || waiting.length < MAX_WAITING) return onIncoming(request, isKept);
    reject(socket, onRejected);
    return SKIP_REST;
  };
}

/** A listener for requests that gives `handle` one request of a connection at a time. */
export function serially(
  contextOf: (request: IncomingMessage, response: ServerResponse) => RequestContext,
  handle: (context: RequestContext) => void,
  onRejected: () => void,
): (request: IncomingMessage, response: ServerResponse) => void {
  function begin(context: RequestContext): void {
    const socket: PipelinedSocket = context.request.socket;
    socket[waitingRequests] ??= [];
    context.response.once('close', () => beginNext(socket));
    handle(context);
    context.discardUnreadBody();
  }

  function beginNext(socket: PipelinedSocket): void {
    const waiting = socket[waitingRequests] ?? [];
    const next = waiting.shift();
    if (!next || socket.destroyed) {
      socket[waitingRequests] = undefined;
      if (socket.isPaused()) socket.resume();
      return;
    }
    if (waiting.length > 0) socket.pause(); // node reads on after each response
    next.hold(0);
    begin(next);
  }

  return (request, response) => {
    const context = contextOf(request, response);
    const waiting = (request.socket as PipelinedSocket)[waitingRequests];
    if (!waiting) {
      begin(context);
    } else if (waiting.length < MAX_WAITING && mayWait(context)) {
      waiting.push(context);
      request.socket.pause();
    } else {
      context.discardUnreadBody(); // the rest of this chunk is parsed in any case
      reject(request.socket, onRejected);
    }
  };
}

/** Counts the body of a request that waits; whether there is room for it. */
function mayWait(context: RequestContext): boolean {
  try {
    context.holdWaitingBody();
    return true;
  } catch {
    return false; // too_many_requests or bridge_full
  }
}

function reject(socket: Socket, onRejected: () => void): void {
  if (!socket.destroyed) onRejected();
  socket.destroy();
}
