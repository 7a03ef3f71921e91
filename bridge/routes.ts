/** The table of routes, and a handler for each: from a checked request to a method of a channel, and its response. */
import { Arena, type StoredCiphertext } from './arena.ts';
import { MAX_BLOB_BYTES } from './blobs.ts';
import { freeChunk } from './blocks.ts';
import type { Channel, ChannelRegistry, Participant, PendingPoll, PollResult } from './channels.ts';
import type { BridgeOptions } from './dependencies.ts';
import { ApiError } from './errors.ts';
import {
  BYTES,
  TEXT,
  isObject,
  parseCount,
  readBody,
  readJsonBody,
  requireField,
  securityHeaders,
  type Headers,
  type JsonObject,
  type RequestContext,
} from './http.ts';
import {
  isAccessTokenFor,
  isBlobId,
  isChannelId,
  isEpoch,
  isNonce,
  isParticipantId,
  isRecipient,
  isTag,
  isToken,
  type BlobId,
  type ChannelId,
} from './ids.ts';
import { MAX_CARD_BASE64, maxMessageBase64 } from './limits.ts';
import type { DeliveryPath, Metrics } from './metrics.ts';
import type { PageHandler } from './pages.ts';
import type { ClientUsage, RateLimits } from './rate-limits.ts';
import { JSON_RESPONSES, TEXT_RESPONSES, pollBytes, statusBytes, type Responses } from './responses.ts';

/** A request whose route was found, with what was learned on the way there. */
interface RoutedRequest {
  readonly context: RequestContext;
  readonly id: ChannelId;
  readonly fields: JsonObject; // of the body of a POST
  readonly usage: ClientUsage | undefined; // of its address; undefined if that has no limits
}

type Handler = (request: RoutedRequest) => void;
type Route = readonly [method: string, pattern: string, handler: Handler];

/** The parts of the bridge that requests need. */
export interface ServerContext extends BridgeOptions {
  readonly channels: ChannelRegistry;
  readonly rateLimits: RateLimits;
  readonly metrics: Metrics;
  readonly pages: Readonly<Record<string, PageHandler>>;
  readonly state: { readonly isStopping: boolean };
}

/** The response to any request, of the public and of the operator. A proxy may have left `basePath` before the path. */
export function routes(server: ServerContext) {
  const { basePath, channels, limits, metrics, rateLimits, requestLog, state } = server;
  const maxCiphertext = maxMessageBase64(limits);

  const probeRoutes: readonly Route[] = [
    ['GET', '/health', ({ context }) => context.respond(200, 'ok\n', TEXT)],
    ['GET', '/ready', ({ context }) => context.respond(200, 'ready\n', TEXT)],
  ];
  const operatorRoutes: readonly Route[] = [...probeRoutes, ['GET', '/metrics', showMetrics]];
  const publicRoutes: readonly Route[] = [
    ['PUT', '/channels/:id', create],
    ['GET', '/channels/:id', status],
    ['POST', '/channels/:id/join', join],
    ['POST', '/channels/:id/send', send],
    ['GET', '/channels/:id/poll', poll],
    ['POST', '/channels/:id/leave', leave],
    ['PUT', '/channels/:id/blobs/:sha256', putBlob],
    ['GET', '/channels/:id/blobs/:sha256', getBlob],
    ...(server.hasSeparateMetrics ? probeRoutes : operatorRoutes), // load balancers ask for /ready here
    ...Object.entries(server.pages).map(([path, page]): Route => ['GET', path, ({ context, id }) => page(context, id)]),
  ];

  function handle(table: RouteTable, context: RequestContext): void {
    const { request, response } = context;
    const path = context.path.startsWith(`${basePath}/`) ? context.path.slice(basePath.length) : context.path;
    const { pattern, id, prefix } = splitPath(path);
    const methods = table.get(pattern);
    requestLog.request(request, response, methods ? pattern : '-');
    const usage = rateLimits.onRequest(request);
    checkHostHeader(context);
    if (!methods || context.path.includes(':')) throw new ApiError('not_found');
    const route = methods.get(request.method ?? '');
    if (!route) {
      respondError(context, new ApiError('method_not_allowed'), ['Allow', [...methods.keys()].join(', ')]);
      return;
    }
    metrics.count(route.metricName);
    if (state.isStopping && (prefix === '/channels/' || path === '/ready')) throw new ApiError('stopping');
    if (route.handler === create || route.handler === join) rateLimits.take(usage, 'joins');
    if (request.method !== 'POST') {
      route.handler({ context, id, usage, fields: {} });
      return;
    }
    readJsonBody(
      context,
      maxCiphertext + 4096,
      limits.requestSeconds * 1000,
      (fields) => route.handler({ context, id, usage, fields }),
      (error) => respondError(context, error),
    );
  }

  /** The one place where an error becomes a response. */
  function respondError(context: RequestContext, error: unknown, headers: Headers = []): void {
    const isExpected = error instanceof ApiError;
    const apiError = isExpected ? error : new ApiError('internal');
    metrics.count(`request_errors_total{code="${apiError.code}"}`);
    const idHeader = isExpected ? [] : ['X-Request-Id', requestLog.error(error)];
    if (apiError.status === 408) context.closeAfterResponse = true;
    if (context.response.headersSent) context.response.destroy();
    else context.respondError(apiError, [...headers, ...idHeader]);
  }

  function create({ context, id, usage }: RoutedRequest): void {
    if (!isAccessTokenFor(id, context.bearerToken())) throw new ApiError('wrong_key');
    const isNew = !channels.has(id);
    const ticket = server.checkCreateSecret(context.request.headers['agentalk-invite'], id);
    if (isNew && ticket === undefined) throw new ApiError('not_invited');
    if (isNew) rateLimits.take(usage, 'channels');
    const channel = channels.getOrCreate(id, context.client);
    context.respond(isNew ? 201 : 200, responsesFor(context).create(channel, isNew, limits, ticket));
  }

  function join({ context, id, fields }: RoutedRequest): void {
    if (!isAccessTokenFor(id, context.bearerToken())) throw new ApiError('wrong_key');
    const participantId = requireField('participant_id', fields['participant_id'], isParticipantId);
    const token = requireField('token', fields['token'], isToken);
    const card = parseSealed(requireField('card', fields['card'], isObject), MAX_CARD_BASE64, new Arena(), 'card.');
    const channel = channels.get(id);
    const isResumed = channel.participants.has(participantId);
    const participant = channel.join(participantId, token, card);
    context.hold(statusBytes(channel));
    context.respond(200, responsesFor(context).join(channel, participant, isResumed));
  }

  function send({ context, id, fields }: RoutedRequest): void {
    const { channel, participant } = authenticate(context, id, fields);
    const to = requireField('to', fields['to'], isRecipient);
    if (to === participant.id) throw new ApiError('bad_request', 'to');
    const message = parseSealed(fields, maxCiphertext, channel.arena);
    const since = parseCount('since', bodyOrQuery(context, fields, 'since'));
    if (since !== undefined) channel.acknowledge(participant, since);
    const responses = responsesFor(context);
    const recipients = responses.recipients(channel, participant, to); // as they are before they get it
    const lastIndexBefore = channel.lastIndex;
    const index = channel.send(participant, to, message);
    if (index > lastIndexBefore) metrics.messageAccepted(message.ciphertextBytes);
    context.respond(200, responses.send(channel, index, recipients));
  }

  function poll({ context, id, usage }: RoutedRequest): void {
    const { response } = context;
    const { channel, participant } = authenticate(context, id);
    const since = parseCount('since', context.queryParam('since'));
    if (since === undefined) throw new ApiError('bad_request', 'since');
    const waitSeconds = Math.min(parseCount('wait', context.queryParam('wait')) ?? 0, limits.pollSeconds);
    rateLimits.take(usage, 'polls', response);
    channel.beginPoll(participant);
    response.once('close', () => channel.endPoll(participant));
    channel.acknowledge(participant, since);
    const result = channel.eventsAfter(participant, since);
    if (result.cursor > since || waitSeconds === 0) {
      respondPoll(context, channel, result, 'delayed');
      return;
    }

    const resolve = (outcome: PollResult | ApiError) => {
      context.closeAfterResponse = state.isStopping;
      try {
        if (outcome instanceof ApiError) throw outcome;
        respondPoll(context, channel, outcome, 'immediate');
      } catch (error) {
        respondError(context, error);
      }
    };
    const pendingPoll: PendingPoll = { since, resolve };
    channel.addPendingPoll(participant, pendingPoll);
    const timer = setTimeout(() => {
      if (channel.removePendingPoll(participant, pendingPoll)) resolve(result);
    }, waitSeconds * 1000);
    response.on('close', () => {
      clearTimeout(timer);
      channel.removePendingPoll(participant, pendingPoll);
    });
  }

  function respondPoll(context: RequestContext, channel: Channel, result: PollResult, path: DeliveryPath): void {
    context.hold(pollBytes(result));
    for (const { type, at } of result.events) {
      if (type === 'message') metrics.messageDelivered(path, channels.now() - at);
    }
    context.respond(200, responsesFor(context).poll(channel, result));
  }

  function status({ context, id }: RoutedRequest): void {
    const { channel } = authenticate(context, id);
    context.hold(statusBytes(channel));
    context.respond(200, responsesFor(context).status(channel));
  }

  function leave({ context, id, fields }: RoutedRequest): void {
    const { channel, participant } = authenticate(context, id, fields);
    const afterSeconds = parseCount('after_seconds', fields['after_seconds']) ?? 0;
    if (afterSeconds > limits.leaveSeconds) throw new ApiError('bad_request', 'after_seconds');
    channel.leave(participant, afterSeconds);
    context.respond(200, responsesFor(context).leave(channel));
  }

  function putBlob({ context, id, usage }: RoutedRequest): void {
    const { channel, participant } = authenticate(context, id);
    const { 'content-type': type = 'application/octet-stream' } = context.request.headers;
    if (!/^application\/octet-stream *(;|$)/i.test(type)) throw new ApiError('not_json');
    const bytes = context.contentLength();
    if (bytes > Math.min(MAX_BLOB_BYTES, limits.blobBytes)) throw new ApiError('too_large');
    const blobId = blobIdOf(context);
    const isThere = channel.blobs.get(blobId) !== undefined;
    rateLimits.take(usage, 'uploads', context.response);
    const upload = channel.beginUpload(participant, blobId, bytes, context.client);
    readBody(context.request, limits.blobSeconds * 1000, {
      take(chunk) {
        if (!isThere) upload.write(chunk);
        freeChunk(chunk);
      },
      end() {
        const isNew = !isThere && channel.completeUpload(participant, upload);
        context.respond(isNew ? 201 : 200, responsesFor(context).blob(channel));
      },
      fail(error) {
        upload.abort();
        respondError(context, error);
      },
      close: () => channel.endUpload(participant, upload),
    });
  }

  function getBlob({ context, id }: RoutedRequest): void {
    const { channel } = authenticate(context, id);
    const blob = channel.blobs.get(blobIdOf(context));
    if (!blob) throw new ApiError('no_blob');
    context.hold(blob.bytes);
    context.response.once('close', blob.share());
    context.respond(200, blob.blocks, BYTES);
  }

  /** The participant that asks. Throws, before anything counts, if it means another incarnation of the channel. */
  function authenticate(
    context: RequestContext,
    id: ChannelId,
    fields: JsonObject = {},
  ): { channel: Channel; participant: Participant } {
    const token = context.bearerToken();
    const participantId = requireField(
      'participant_id',
      bodyOrQuery(context, fields, 'participant_id'),
      isParticipantId,
    );
    const epoch = bodyOrQuery(context, fields, 'epoch');
    const channel = channels.get(id);
    if (epoch !== undefined && requireField('epoch', epoch, isEpoch) !== channel.epoch) {
      throw new ApiError('other_epoch');
    }
    return { channel, participant: channel.authenticate(participantId, token) };
  }

  function showMetrics({ context }: RoutedRequest): void {
    if (!server.maySeeMetrics(context.request)) throw new ApiError('not_found');
    context.respond(200, server.renderMetrics(), securityHeaders('text/plain; version=0.0.4'));
  }

  function withErrorHandling(table: RouteTable): (context: RequestContext) => void {
    return (context) => {
      context.closeAfterResponse = state.isStopping;
      try {
        handle(table, context);
      } catch (error) {
        respondError(context, error);
      }
    };
  }

  return {
    handlePublic: withErrorHandling(buildRouteTable(publicRoutes)),
    handleOperator: withErrorHandling(buildRouteTable(operatorRoutes)),
  };
}

type RouteTable = Map<string, Map<string, { handler: Handler; metricName: string }>>; // by pattern, then by method

function buildRouteTable(routes: readonly Route[]): RouteTable {
  const table: RouteTable = new Map();
  for (const [method, pattern, handler] of routes) {
    const methods = table.get(pattern) ?? new Map();
    for (const each of method === 'GET' ? ['GET', 'HEAD'] : [method]) {
      methods.set(each, { handler, metricName: `requests_total{method="${each}",route="${pattern}"}` });
    }
    table.set(pattern, methods);
  }
  return table;
}

/**
 * The pattern of a path without its base path. `id` is one only if the pattern has `:id`. Routes are logged and counted:
 * nothing secret may be in a pattern that has a route.
 */
function splitPath(path: string): { pattern: string; id: ChannelId; prefix: string } {
  let prefix = '';
  if (path.startsWith('/channels/')) prefix = '/channels/';
  else if (path.startsWith('/c/')) prefix = '/c/';
  const id = path.slice(prefix.length, prefix.length + 32);
  if (prefix === '' || !isChannelId(id)) return { pattern: path, id: id as ChannelId, prefix };
  const rest = path.slice(prefix.length + 32);
  return { pattern: `${prefix}:id${patternOf(rest)}`, id, prefix };
}

function patternOf(rest: string): string {
  if (rest.startsWith('/blobs/') && isBlobId(rest.slice('/blobs/'.length))) return '/blobs/:sha256';
  return /^\/?%(25)*23/.test(rest) ? '%23' : rest;
}

/** Throws bad_request for several, and where HTTP/1.1 wants one for none. */
function checkHostHeader({ request: { rawHeaders, httpVersion } }: RequestContext): void {
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i];
    if (name?.length === 4 && name.toLowerCase() === 'host') hosts++;
  }
  if (hosts > 1 || (hosts === 0 && httpVersion === '1.1')) throw new ApiError('bad_request', 'Host');
}

const blobIdOf = ({ path }: RequestContext) => path.slice(path.lastIndexOf('/') + 1) as BlobId; // checked by its route

const responsesFor = ({ wantsText }: RequestContext): Responses => (wantsText ? TEXT_RESPONSES : JSON_RESPONSES);

/** A field of the body, or else of the query. */
function bodyOrQuery(context: RequestContext, fields: JsonObject, name: string): unknown {
  return fields[name] === undefined ? context.queryParam(name) : fields[name];
}

/** Writes a sealed message or card into the arena, uncommitted. Throws bad_request with the field's name, too_large. */
function parseSealed(fields: JsonObject, maxBase64: number, arena: Arena, prefix = ''): StoredCiphertext {
  const nonce = requireField(`${prefix}nonce`, fields['nonce'], isNonce);
  const tag = requireField(`${prefix}tag`, fields['tag'], isTag);
  const text = fields['ciphertext'];
  if (typeof text === 'string' && text.length > maxBase64) throw new ApiError('too_large');
  const payload = typeof text === 'string' ? arena.write(nonce, text, tag) : undefined;
  if (!payload) throw new ApiError('bad_request', `${prefix}ciphertext`);
  return payload;
}
