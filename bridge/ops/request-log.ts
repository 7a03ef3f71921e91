/**
 * What a bridge writes into its log: what should not have happened, and with --log-requests each request, a line each. The one
 * place that decides what may stand there: never an id, a name, a bearer value, a query or a body; addresses if asked for.
 */
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Config } from './config.ts';
import type { Log } from './logger.ts';

export interface Journal {
  /** Gives the error a number to be found by. */
  error(error: unknown): string;
  /** @param route the pattern of a route, never the path itself */
  request(request: IncomingMessage, response: ServerResponse, route: string): void;
  /** What was refused before it was a request; status and its words. */
  garbage(status: string): void;
}

export function openJournal({ logRequests, logAddresses, proxies }: Config, say: Log): Journal {
  return {
    error(error) {
      const number = randomBytes(8).toString('hex');
      // Where it happened, without its message: that may repeat what came in.
      const { name, stack = '' } = error instanceof Error ? error : new Error();
      say(`unexpected error ${number}: ${[name, ...(stack.match(/^ +at .*$/gm) ?? [])].join('\n')}`, 'error');
      return number;
    },
    request(request, response, route) {
      if (!logRequests) return;
      const { method, socket } = request;
      const [begun, before] = [performance.now(), socket.bytesWritten];
      const from = logAddresses ? ` address=${proxies.origin(request) ?? socket.remoteAddress}` : '';
      response.on('close', () => {
        const status = response.writableFinished ? response.statusCode : 'closed'; // by the client, before the answer
        const [ms, bytes] = [Math.round(performance.now() - begun), socket.bytesWritten - before];
        say(`request method=${method} route=${route} status=${status} ms=${ms} bytes=${bytes}${from}`);
      });
    },
    garbage(status) {
      if (logRequests) say(`request method=- route=- status=${status.slice(0, 3)}`);
    },
  };
}
