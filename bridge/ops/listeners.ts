/** The servers: one for the public, with TLS if there is a certificate, and perhaps one for the operator. */
import { createServer } from 'node:http';
import type { RequestListener, Server, ServerOptions } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from './config.ts';
import { listen } from './bind.ts';
import type { Log } from './logger.ts';
import { loadCertificate, reloadCertificate } from './tls.ts';

export interface Listeners {
  readonly publicServer: Server;
  /** Resolves with the URLs once all servers listen. Throws StartupError. */
  listen(): Promise<BoundUrls>;
  /** Reads the certificate again, if there is one. */
  reloadCertificate(): void;
  /** When the certificate in use expires, Unix milliseconds. */
  expiresAt(): number | undefined;
  /** Closes after drainSeconds, in which load balancers see that it is not ready, and within shutdownTimeoutSeconds. */
  close(): Promise<void>;
}

export interface BoundUrls {
  readonly url: string;
  readonly metricsUrl: string | undefined;
}

/** Throws StartupError for a certificate that can't be used. */
export function createListeners(
  { address, metricsAddress, tls, limits }: Config,
  handlePublic: RequestListener,
  handleOperator: RequestListener,
  log: Log,
): Listeners {
  let certificate = tls && loadCertificate(tls);
  const headersTimeout = limits.headersSeconds * 1000;
  const options: ServerOptions = {
    maxHeaderSize: limits.headerBytes,
    headersTimeout,
    requestTimeout: Math.max(limits.requestSeconds, limits.blobSeconds) * 1000, // bridge/http.ts is more exact
    keepAliveTimeout: limits.keepAliveSeconds * 1000,
    requireHostHeader: false, // bridge/routes.ts checks it
    connectionsCheckingInterval: 2000, // how often node looks at headersTimeout and requestTimeout
  };
  const tlsServer =
    certificate && createTlsServer({ ...options, ...certificate, handshakeTimeout: headersTimeout }, handlePublic);
  const publicServer = tlsServer ?? createServer(options, handlePublic);
  const operatorServer = createServer(options, handleOperator);
  return {
    publicServer,
    async listen() {
      // In this order: a program that reads that the bridge listens may ask for its metrics.
      const metricsUrl = metricsAddress && (await listen(operatorServer, metricsAddress));
      const url = await listen(publicServer, address, tlsServer ? 'https' : 'http');
      return { metricsUrl, url };
    },
    reloadCertificate() {
      if (tlsServer && tls && certificate) certificate = reloadCertificate(tlsServer, tls, certificate, log);
    },
    expiresAt: () => certificate?.expiresAt,
    async close() {
      await delay(limits.drainSeconds * 1000);
      const closed = new Promise((resolve) => publicServer.close(resolve));
      await Promise.race([closed, delay(limits.shutdownTimeoutSeconds * 1000)]); // for the last responses
      for (const server of [publicServer, operatorServer]) {
        server.close();
        server.closeAllConnections();
      }
    },
  };
}
