/** The table of routes, and for each the way from a checked request to a channel's method and back. */
import type { IncomingMessage } from 'node:http';
import type { Invitation } from './ops/invite.ts';
import type { Journal } from './ops/request-log.ts';
import { MAX_BLOB_BYTES } from './blobs.ts';
import { freeChunk } from './blocks.ts';
import type { Batch, Channels, Waiter } from './channels.ts';
import { Refusal } from './errors.ts';
import { JSON_FORM, TEXT_FORM, pollBytes, statusBytes } from './responses.ts';
import { BYTES, Exchange, TEXT, count, field, headersOf, isObject, readBody, readFields } from './http.ts';
import type { Fields, Headers } from './http.ts';
import { isBlobId, isChannelId, isEpoch, isNonce, isParticipantId, isRecipient, isTag, isToken, opens } from './ids.ts';
import type { BlobId, ChannelId } from './ids.ts';
import { Shelf, type Kept } from './arena.ts';
import { CARD_CHARACTERS, messageCharacters } from './limits.ts';
import type { Metrics } from './metrics.ts';
import type { Page } from './pages.ts';
import type { Visitor, Visitors } from './rate-limits.ts';

type Handler = (exchange: Exchange, id: ChannelId, fields: Fields, visitor: Visitor | undefined) => void;
type Row = readonly [method: string, pattern: string, handler: Handler];
type Pages = Record<string, Page>;

/** The server's own side. */
export type State = { isStopping: boolean; readonly visitors: Visitors; readonly journal: Journal } & {
  readonly invitation: Invitation;
  readonly hasMetrics: boolean; // what is the operator's is among what everybody may see
  readonly maySeeMetrics: (request: IncomingMessage) => boolean;
  readonly tell: () => string; // what /metrics says
};

/** The answers to any request, of visitors and of the operator. A proxy may have left `basePath` before the path. */
export function routes(channels: Channels, pages: Pages, basePath: string, metrics: Metrics, state: State) {
  const [{ limits }, { visitors, journal }] = [channels, state];
  const maxCiphertext = messageCharacters(limits);

  const operators: readonly Row[] = [
    ['GET', '/health', (exchange) => exchange.answer(200, 'ok\n', TEXT)],
    ['GET', '/ready', (exchange) => exchange.answer(200, 'ready\n', TEXT)],
    ['GET', '/metrics', metricsPage],
  ];
  const everybodys: readonly Row[] = [
    ['PUT', '/channels/:id', create],
    ['GET', '/channels/:id', status],
    ['POST', '/channels/:id/join', join],
    ['POST', '/channels/:id/send', send],
    ['GET', '/channels/:id/poll', poll],
    ['POST', '/channels/:id/leave', leave],
    ['PUT', '/channels/:id/blobs/:sha256', putBlob],
    ['GET', '/channels/:id/blobs/:sha256', getBlob],
    ...(state.hasMetrics ? operators : []),
    ...Object.entries(pages).map(([path, page]) => ['GET', path, page] as const),
  ];

  function handle(rows: Rows, exchange: Exchange): void {
    const { method = '', rawHeaders, httpVersion } = exchange.request;
    const path = exchange.path.startsWith(basePath + '/') ? exchange.path.slice(basePath.length) : exchange.path;
    const room = path.startsWith('/channels/') ? '/channels/' : path.startsWith('/c/') ? '/c/' : '';
    const id = path.slice(room.length, room.length + 32);
    const rest = path.slice(room.length + 32);
    const pattern = room !== '' && isChannelId(id) ? `${room}:id${patternOf(rest)}` : path;
    const methods = rows.get(pattern);
    journal.request(exchange.request, exchange.response, methods ? pattern : '-');
    const visitor = visitors.ask(exchange.request);
    const hosts = rawHeaders.filter((word, i) => i % 2 === 0 && word.length === 4 && word.toLowerCase() === 'host');
    if (hosts.length > 1 || (hosts.length === 0 && httpVersion === '1.1')) throw new Refusal('bad_request', 'Host');
    if (!methods || exchange.path.includes(':')) throw new Refusal('not_found');
    const row = methods.get(method);
    if (!row) return refuse(exchange, new Refusal('method_not_allowed'), ['Allow', [...methods.keys()].join(', ')]);
    metrics.count(row.sample);
    if (state.isStopping && (room === '/channels/' || path === '/ready')) throw new Refusal('stopping');
    if (row.handler === create || row.handler === join) visitors.count(visitor, 'Joins');
    if (method !== 'POST') return row.handler(exchange, id as ChannelId, {}, visitor);
    const done = (fields: Fields) => row.handler(exchange, id as ChannelId, fields, visitor);
    const timeoutMs = limits.requestSeconds * 1000;
    readFields(exchange, maxCiphertext + 4096, timeoutMs, done, (error) => refuse(exchange, error));
  }

  /** The one place where whatever went wrong becomes an answer. */
  function refuse(exchange: Exchange, error: unknown, headers: Headers = []): void {
    const refusal = error instanceof Refusal ? error : new Refusal('internal');
    metrics.count(`refusals_total{code="${refusal.code}"}`);
    const number = error === refusal ? [] : ['X-Request-Id', journal.error(error)];
    if (refusal.words[0] === 408) exchange.isLast = true;
    if (exchange.response.headersSent) exchange.response.destroy();
    else exchange.refuse(refusal, [...headers, ...number]);
  }

  function create(exchange: Exchange, id: ChannelId, _: Fields, visitor: Visitor | undefined): void {
    if (!opens(id, exchange.bearer())) throw new Refusal('wrong_key');
    const isNew = !channels.has(id);
    const ticket = state.invitation(exchange.request.headers['agentalk-invite'], id);
    if (isNew && ticket === undefined) throw new Refusal('not_invited');
    if (isNew) visitors.count(visitor, 'Channels');
    exchange.answer(
      isNew ? 201 : 200,
      formOf(exchange).opened(channels.open(id, exchange.client), isNew, limits, ticket),
    );
  }

  function join(exchange: Exchange, id: ChannelId, fields: Fields): void {
    if (!opens(id, exchange.bearer())) throw new Refusal('wrong_key');
    const participantId = field('participant_id', fields['participant_id'], isParticipantId);
    const token = field('token', fields['token'], isToken);
    const card = sealed(field('card', fields['card'], isObject), CARD_CHARACTERS, new Shelf(), 'card.');
    const channel = channels.get(id);
    const isResumed = channel.participants.has(participantId);
    const participant = channel.join(participantId, token, card);
    exchange.hold(statusBytes(channel));
    exchange.answer(200, formOf(exchange).joined(channel, participant, isResumed));
  }

  function send(exchange: Exchange, id: ChannelId, fields: Fields): void {
    const { channel, participant } = enter(exchange, id, fields);
    const to = field('to', fields['to'], isRecipient);
    if (to === participant.id) throw new Refusal('bad_request', 'to');
    const message = sealed(fields, maxCiphertext, channel.shelf);
    const since = count('since', given(exchange, fields, 'since'));
    if (since !== undefined) channel.present(participant, since);
    const form = formOf(exchange);
    const recipients = form.recipients(channel, participant, to); // who listens when it comes
    const [before, index] = [channel.last, channel.send(participant, to, message)];
    if (index > before) metrics.accept(message.ciphertextBytes);
    exchange.answer(200, form.sent(channel, index, recipients));
  }

  function poll(exchange: Exchange, id: ChannelId, _: Fields, visitor: Visitor | undefined): void {
    const { channel, participant } = enter(exchange, id);
    const since = count('since', exchange.parameter('since'));
    if (since === undefined) throw new Refusal('bad_request', 'since');
    const waitSeconds = Math.min(count('wait', exchange.parameter('wait')) ?? 0, limits.pollSeconds);
    visitors.count(visitor, 'Polls', exchange.response);
    channel.beginPoll(participant);
    exchange.response.on('close', () => channel.endPoll(participant));
    channel.present(participant, since);
    const answer = (batch: Batch, poll: 'waiting' | 'later' = 'waiting') => {
      exchange.hold(pollBytes(batch));
      for (const { type, at } of batch.events) if (type === 'message') metrics.deliver(poll, channels.now() - at);
      exchange.answer(200, formOf(exchange).polled(channel, batch));
    };
    const batch = channel.read(participant, since);
    if (batch.cursor > since || waitSeconds === 0) return answer(batch, 'later');

    const settle = (outcome: Batch | Refusal) => {
      exchange.isLast = state.isStopping;
      try {
        if (outcome instanceof Refusal) throw outcome;
        answer(outcome);
      } catch (error) {
        refuse(exchange, error);
      }
    };
    const waiter: Waiter = { since, settle };
    channel.wait(participant, waiter);
    const timer = setTimeout(() => channel.endWait(participant, waiter) && settle(batch), waitSeconds * 1000);
    exchange.response.on('close', () => {
      clearTimeout(timer);
      channel.endWait(participant, waiter);
    });
  }

  function status(exchange: Exchange, id: ChannelId): void {
    const { channel } = enter(exchange, id);
    exchange.hold(statusBytes(channel));
    exchange.answer(200, formOf(exchange).status(channel));
  }

  function leave(exchange: Exchange, id: ChannelId, fields: Fields): void {
    const { channel, participant } = enter(exchange, id, fields);
    const afterSeconds = count('after_seconds', fields['after_seconds']) ?? 0;
    if (afterSeconds > limits.leaveSeconds) throw new Refusal('bad_request', 'after_seconds');
    channel.leave(participant, afterSeconds);
    exchange.answer(200, formOf(exchange).left(channel));
  }

  function putBlob(exchange: Exchange, id: ChannelId, _: Fields, visitor: Visitor | undefined): void {
    const { channel, participant } = enter(exchange, id);
    const { 'content-type': type = 'application/octet-stream' } = exchange.request.headers;
    if (!/^application\/octet-stream *(;|$)/i.test(type)) throw new Refusal('not_json');
    const bytes = exchange.contentLength();
    if (bytes > Math.min(MAX_BLOB_BYTES, limits.blobBytes)) throw new Refusal('too_large');
    const blobId = blobOf(exchange);
    const isThere = channel.blobs.get(blobId) !== undefined;
    visitors.count(visitor, 'Uploads', exchange.response);
    const upload = channel.beginUpload(participant, blobId, bytes, exchange.client);
    exchange.response.on('close', () => channel.endUpload(participant, upload));
    const done = () => {
      const isNew = !isThere && channel.completeUpload(participant, upload);
      exchange.answer(isNew ? 201 : 200, formOf(exchange).blob(channel));
    };
    const take = (chunk: Buffer) => {
      if (!isThere) upload.write(chunk);
      freeChunk(chunk);
    };
    readBody(exchange.request, limits.blobSeconds * 1000, take, done, (error) => {
      upload.abort();
      refuse(exchange, error);
    });
  }

  function getBlob(exchange: Exchange, id: ChannelId): void {
    const blob = enter(exchange, id).channel.blobs.get(blobOf(exchange));
    if (!blob) throw new Refusal('no_blob');
    exchange.hold(blob.bytes);
    exchange.response.once('close', blob.share());
    exchange.answer(200, blob.blocks, BYTES);
  }

  /** The participant that asks. Throws, before anything counts, if it means another incarnation of the channel. */
  function enter(exchange: Exchange, id: ChannelId, fields: Fields = {}) {
    const token = exchange.bearer();
    const participantId = field('participant_id', given(exchange, fields, 'participant_id'), isParticipantId);
    const epoch = given(exchange, fields, 'epoch');
    const channel = channels.get(id);
    if (epoch !== undefined && field('epoch', epoch, isEpoch) !== channel.epoch) throw new Refusal('other_epoch');
    return { channel, participant: channel.enter(participantId, token) };
  }

  function metricsPage(exchange: Exchange): void {
    if (!state.maySeeMetrics(exchange.request)) throw new Refusal('not_found');
    exchange.answer(200, state.tell(), headersOf('text/plain; version=0.0.4'));
  }

  const answering = (rows: Rows) => (exchange: Exchange) => {
    exchange.isLast = state.isStopping;
    try {
      handle(rows, exchange);
    } catch (error) {
      refuse(exchange, error);
    }
  };
  return { visit: answering(rowsOf(everybodys)), operate: answering(rowsOf(operators)) };
}

type Rows = Map<string, Map<string, { handler: Handler; sample: string }>>; // by pattern, then by method
function rowsOf(table: readonly Row[]): Rows {
  const rows: Rows = new Map();
  for (const [method, pattern, handler] of table) {
    const methods = rows.get(pattern) ?? new Map();
    for (const each of method === 'GET' ? ['GET', 'HEAD'] : [method]) {
      methods.set(each, { handler, sample: `requests_total{method="${each}",route="${pattern}"}` });
    }
    rows.set(pattern, methods);
  }
  return rows;
}

/** What follows an id, as routes have it: no secret may be in it, since routes are logged and counted. */
function patternOf(rest: string): string {
  if (rest.startsWith('/blobs/') && isBlobId(rest.slice('/blobs/'.length))) return '/blobs/:sha256';
  return /^\/?%(25)*23/.test(rest) ? '%23' : rest;
}
const blobOf = ({ path }: Exchange) => path.slice(path.lastIndexOf('/') + 1) as BlobId; // its route was found by it

const formOf = ({ wantsText }: Exchange) => (wantsText ? TEXT_FORM : JSON_FORM);

/** From the body or else from the query. */
const given = (exchange: Exchange, fields: Fields, name: string): unknown =>
  fields[name] === undefined ? exchange.parameter(name) : fields[name];

/** A draft on the shelf. Throws bad_request with the field's name, too_large. */
function sealed(fields: Fields, maxCharacters: number, shelf: Shelf, prefix = ''): Kept {
  const nonce = field(`${prefix}nonce`, fields['nonce'], isNonce);
  const tag = field(`${prefix}tag`, fields['tag'], isTag);
  const text = fields['ciphertext'];
  if (typeof text === 'string' && text.length > maxCharacters) throw new Refusal('too_large');
  const kept = typeof text === 'string' && shelf.draft(nonce, text, tag);
  if (!kept) throw new Refusal('bad_request', `${prefix}ciphertext`);
  return kept;
}
