/** The servers: one for everybody, with TLS where there is a certificate, and where it is wanted one for the operator. */
import { createServer } from 'node:http';
import type { RequestListener, Server, ServerOptions } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from './config.ts';
import { listen } from './bind.ts';
import type { Log } from './logger.ts';
import { readPair, renewPair } from './tls.ts';

export interface Doors {
  readonly front: Server;
  /** Where they are, once both are open. Throws Advice. */
  open(): Promise<Urls>;
  /** Reads the certificate again, if there is one. */
  renew(): void;
  /** When the certificate in use ends, Unix milliseconds. */
  expiresAt(): number | undefined;
  /** After drainSeconds, in which what watches can see that it will happen; within stopSeconds more. */
  close(): Promise<void>;
}

export interface Urls {
  readonly url: string;
  readonly metricsUrl: string | undefined;
}

/** Throws Advice for a certificate that can't be used. */
export function makeDoors(
  { address, metricsAddress, tls, limits }: Config,
  visit: RequestListener,
  operate: RequestListener,
  log: Log,
): Doors {
  let pair = tls && readPair(tls);
  const headersTimeout = limits.headersSeconds * 1000;
  const options: ServerOptions = {
    maxHeaderSize: limits.headerBytes,
    headersTimeout,
    requestTimeout: Math.max(limits.requestSeconds, limits.blobSeconds) * 1000, // bridge/http.ts is more exact
    keepAliveTimeout: limits.keepAliveSeconds * 1000,
    requireHostHeader: false, // bridge/routes.ts sees to it
    connectionsCheckingInterval: 2000, // how often node looks at headersTimeout and requestTimeout
  };
  const secure = pair && createTlsServer({ ...options, ...pair, handshakeTimeout: headersTimeout }, visit);
  const front = secure ?? createServer(options, visit);
  const side = createServer(options, operate);
  return {
    front,
    async open() {
      // In this order: who reads that the bridge listens may ask for its metrics.
      const metricsUrl = metricsAddress && (await listen(side, metricsAddress));
      return { metricsUrl, url: await listen(front, address, secure ? 'https' : 'http') };
    },
    renew() {
      if (secure && tls && pair) pair = renewPair(secure, tls, pair, log);
    },
    expiresAt: () => pair?.expiresAt,
    async close() {
      await delay(limits.drainSeconds * 1000);
      const closed = new Promise((resolve) => front.close(resolve));
      await Promise.race([closed, delay(limits.stopSeconds * 1000)]); // for answers that are on their way
      for (const server of [front, side]) {
        server.close();
        server.closeAllConnections();
      }
    },
  };
}
