/**
 * What the bridge writes into its log: unexpected errors, and with --log-requests a line for each request. This is the
 * one place that decides what a line may have: never an id, a name, a bearer value, a query or a body, and an address
 * only with --log-addresses.
 */
import { randomBytes } from 'node:crypto';
import type { RequestLog } from '../dependencies.ts';
import type { Config } from './config.ts';
import type { Log } from './logger.ts';

export function createRequestLog({ logRequests, logAddresses, proxies }: Config, log: Log): RequestLog {
  return {
    error(error) {
      const id = randomBytes(8).toString('hex');
      // Where it happened, without its message: that may repeat what came in.
      const { name, stack = '' } = error instanceof Error ? error : new Error();
      const frames = stack.match(/^ +at .*$/gm) ?? [];
      log(`unexpected error ${id}: ${[name, ...frames].join('\n')}`, 'error');
      return id;
    },
    request(request, response, route) {
      if (!logRequests) return;
      const { method, socket } = request;
      const startedAt = performance.now();
      const bytesBefore = socket.bytesWritten;
      const address = logAddresses ? ` address=${proxies.forwardedAddress(request) ?? socket.remoteAddress}` : '';
      response.on('close', () => {
        const status = response.writableFinished ? response.statusCode : 'closed'; // by the client, before the response
        const ms = Math.round(performance.now() - startedAt);
        const bytes = socket.bytesWritten - bytesBefore;
        log(`request method=${method} route=${route} status=${status} ms=${ms} bytes=${bytes}${address}`);
      });
    },
    malformedRequest(status) {
      if (logRequests) log(`request method=- route=- status=${status.slice(0, 3)}`);
    },
  };
}
