/**
 * What the core needs from the operator's side, as small interfaces: bridge.ts passes implementations from bridge/ops/.
 * The core itself imports nothing of bridge/ops/.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Limits } from './limits.ts';

/** Where requests come from. */
export interface ClientAddresses {
  /** Whether a connection has no limits: it comes from this machine, or from a trusted proxy. */
  isUnlimited(socket: Socket): boolean;
  /** The address that a trusted proxy forwards for; undefined if the request does not come through one. */
  forwardedAddress(request: IncomingMessage): string | undefined;
  /** The part of an address that counts as one client: an IPv4 address, or the /64 of an IPv6 address. */
  rateLimitKey(address: string): string;
}

export interface RequestLog {
  /** Returns an id by which the operator finds the error in the log. */
  error(error: unknown): string;
  /** @param route the pattern of a route, never the path itself */
  request(request: IncomingMessage, response: ServerResponse, route: string): void;
  /** A request that could not be parsed. @param status code and reason phrase of the response */
  malformedRequest(status: string): void;
}

/**
 * The ticket of a channel for a client that presents the create secret, or that ticket; '' if everybody may create
 * channels; undefined if this client may not.
 *
 * @param credential the value of the header Agentalk-Invite
 */
export type CreateSecretCheck = (credential: string | string[] | undefined, channelId: string) => string | undefined;

export interface BridgeOptions {
  readonly limits: Limits;
  /** Where clients reach the bridge, with its base path and without a slash at its end; undefined: by the Host header. */
  readonly publicUrl: string | undefined;
  readonly basePath: string;
  /** The bridge's own file, which it serves. */
  readonly bundle: Buffer;
  readonly clients: ClientAddresses;
  readonly requestLog: RequestLog;
  readonly checkCreateSecret: CreateSecretCheck;
  /** Whether a client reached the bridge over https, directly or through a trusted proxy. */
  isHttps(request: IncomingMessage): boolean;
  /** Whether the metrics are at the operator's address only. */
  readonly hasSeparateMetrics: boolean;
  maySeeMetrics(request: IncomingMessage): boolean;
  /** The body of /metrics. */
  renderMetrics(): string;
}
