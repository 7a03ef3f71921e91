/**
 * The table of routes, and for each the way from a checked request to a channel's method and back. What is answered is
 * put together as text, without a tree in between: every word is a checked id, a number or base64.
 */
import { Refusal } from './errors.ts';
import { Exchange, count, field, readFields } from './http.ts';
import type { Fields } from './http.ts';
import { EVERYBODY, isCiphertext, isEpoch, isNonce, isParticipantId, isTag, isToken } from './ids.ts';
import { opens, sha256 } from './ids.ts';
import type { ChannelId, Recipient, Sealed } from './ids.ts';
import type { Batch, Channel, Channels, Event, Participant, Presence, Waiter } from './channels.ts';
import { CARD_CHARACTERS, messageCharacters } from './limits.ts';
import type { Metrics } from './metrics.ts';
import type { Pages } from './pages.ts';

type Handler = (exchange: Exchange, id: ChannelId, fields: Fields) => void;

export interface Bridge {
  readonly channels: Channels;
  readonly metrics: Metrics;
  readonly pages: Pages;
  readonly isStopping: () => boolean;
  readonly connections: () => number;
  /** Is told of what was not expected, and gives it a number to be found by. */
  readonly report: (error: unknown) => string;
}

/** A bridge's answer to any request. `basePath` is what a proxy may leave in front of each path. */
export function routes(bridge: Bridge, basePath: string): (exchange: Exchange) => void {
  const { channels, metrics, pages } = bridge;
  const { limits } = channels;
  const maxCiphertext = messageCharacters(limits);
  const maxBodyBytes = maxCiphertext + 4096;

  const table: Record<string, Record<string, Handler>> = {
    '/channels/:id': { PUT: create, GET: status },
    '/channels/:id/join': { POST: join },
    '/channels/:id/send': { POST: send },
    '/channels/:id/poll': { GET: poll },
    '/channels/:id/leave': { POST: leave },
    '/c/:id': page((exchange, id) => pages.join(exchange, id)),
    '/': page((exchange) => pages.guide(exchange)),
    '/llms.txt': page((exchange) => pages.llms(exchange)),
    '/agentalk.sh': page((exchange) => pages.client(exchange)),
    '/bridge.js': page((exchange) => pages.bridge(exchange)),
    '/health': page((exchange) => plain(exchange, 200, 'ok\n')),
    '/ready': page((exchange) =>
      bridge.isStopping() ? plain(exchange, 503, 'stopping\n') : plain(exchange, 200, 'ready\n'),
    ),
    '/metrics': page((exchange) =>
      plain(exchange, 200, metrics.render(gauges()), 'text/plain; version=0.0.4; charset=utf-8'),
    ),
  };
  const patterns = new Map(
    Object.entries(table).map(([pattern, methods]) => [pattern, new Map(Object.entries(methods))]),
  );

  function handle(exchange: Exchange): void {
    const { request } = exchange;
    let path = exchange.path;
    if (basePath !== '' && path.startsWith(basePath + '/')) path = path.slice(basePath.length);
    const [, room, id = '', action] = /^\/(channels|c)\/([0-9a-f]{32})(\/[a-z]+)?$/.exec(path) ?? [];
    const pattern = room === undefined ? path : `/${room}/:id${action ?? ''}`;
    const methods = patterns.get(pattern);
    if (!methods) throw new Refusal('not_found');
    const handler = methods.get(request.method ?? '');
    if (!handler) return refuse(exchange, new Refusal('method_not_allowed'), ['Allow', [...methods.keys()].join(', ')]);
    exchange.route = `${request.method} ${pattern}`;
    if (room === 'channels' && bridge.isStopping()) throw new Refusal('stopping');
    if (request.method !== 'POST') return handler(exchange, id as ChannelId, {});
    const fail = (error: unknown) => refuse(exchange, error);
    readFields(request, maxBodyBytes, (fields) => handler(exchange, id as ChannelId, fields), fail);
  }

  /** The one place where whatever went wrong becomes an answer. */
  function refuse(exchange: Exchange, error: unknown, headers: readonly string[] = []): void {
    const refusal = error instanceof Refusal ? error : new Refusal('internal');
    metrics.countRefusal(refusal.code);
    const number = error === refusal ? [] : ['X-Request-Id', bridge.report(error)];
    if (exchange.response.headersSent) exchange.response.destroy();
    else exchange.refuse(refusal, [...headers, ...number]);
  }

  function create(exchange: Exchange, id: ChannelId): void {
    checkAccess(exchange, id);
    const { channel, isNew } = channels.open(id);
    const { messageBytes, participants, pollSeconds, idleSeconds } = limits;
    const facts = { message_bytes: messageBytes, participants, poll_seconds: pollSeconds, idle_seconds: idleSeconds };
    exchange.answer(isNew ? 201 : 200, {
      json: () => `{"epoch":"${channel.epoch}","limits":${JSON.stringify(facts)}}`,
      text: () => `channel ${channel.epoch} ${isNew ? 'created' : 'found'} ${Object.values(facts).join(' ')}\n`,
    });
  }

  function join(exchange: Exchange, id: ChannelId, fields: Fields): void {
    checkAccess(exchange, id);
    const participantId = field('participant_id', fields['participant_id'], isParticipantId);
    const token = field('token', fields['token'], isToken);
    const isObject = (value: unknown): value is Fields => typeof value === 'object' && value !== null;
    const card = sealed(field('card', fields['card'], isObject), CARD_CHARACTERS, 'card.');
    const channel = channels.get(id);
    const { participant, isResumed } = channel.join(participantId, sha256(token), card);
    const { fetched, joined } = participant;
    exchange.answer(200, {
      json: () =>
        `{"epoch":"${channel.epoch}","cursor":${fetched},"index":${joined},"resumed":${isResumed},` +
        `"participants":[${everybody(channel, memberJson)}]}`,
      text: () =>
        `${everybody(channel, memberText, '')}` +
        `cursor ${fetched} ${channel.epoch} ${isResumed ? 'resumed' : 'new'} ${joined}\n`,
    });
  }

  function send(exchange: Exchange, id: ChannelId, fields: Fields): void {
    const { channel, participant } = enter(exchange, id, fields);
    const to = field('to', fields['to'], isRecipient);
    if (to === participant.id) throw new Refusal('bad_request', 'to');
    const message = sealed(fields, maxCiphertext);
    const since = count('since', fields['since'] ?? exchange.parameter('since'));
    if (since !== undefined) channel.present(participant, since);
    const { index, recipients, isNew } = channel.send(participant, to, message);
    if (isNew) metrics.messages++;
    if (isNew) metrics.messageBytes += message.ciphertext.length;
    exchange.answer(200, {
      json: () => `{"epoch":"${channel.epoch}","index":${index},"recipients":[${recipients.map(presenceJson).join()}]}`,
      text: () => recipients.map(presenceText).join('') + `sent ${index} ${channel.epoch}\n`,
    });
  }

  function poll(exchange: Exchange, id: ChannelId): void {
    const { channel, participant } = enter(exchange, id, {});
    const since = count('since', exchange.parameter('since'));
    if (since === undefined) throw new Refusal('bad_request', 'since');
    const waitSeconds = Math.min(count('wait', exchange.parameter('wait')) ?? 0, limits.pollSeconds);
    channel.present(participant, since);
    const answer = (batch: Batch) =>
      exchange.answer(200, { json: () => batchJson(channel, batch), text: () => batchText(channel, batch) });
    const batch = channel.read(participant, since);
    if (batch.cursor > since || waitSeconds === 0) return answer(batch);

    const waiter: Waiter = {
      since,
      settle(outcome) {
        clearTimeout(timer);
        if (bridge.isStopping()) exchange.isLast = true;
        if (outcome instanceof Refusal) refuse(exchange, outcome);
        else answer(outcome);
      },
    };
    channel.wait(participant, waiter);
    const timer = setTimeout(() => {
      if (channel.endWait(participant, waiter)) answer(batch);
    }, waitSeconds * 1000);
    exchange.response.on('close', () => {
      clearTimeout(timer);
      channel.endWait(participant, waiter);
    });
  }

  function status(exchange: Exchange, id: ChannelId): void {
    const { channel } = enter(exchange, id, {});
    exchange.answer(200, {
      json: () =>
        `{"epoch":"${channel.epoch}","cursor":${channel.last},"participants":[${everybody(channel, memberJson)}]}`,
      text: () => `${everybody(channel, memberText, '')}cursor ${channel.last} ${channel.epoch}\n`,
    });
  }

  function leave(exchange: Exchange, id: ChannelId, fields: Fields): void {
    const { channel, participant } = enter(exchange, id, fields);
    const afterSeconds = count('after_seconds', fields['after_seconds']) ?? 0;
    if (afterSeconds > limits.leaveSeconds) throw new Refusal('bad_request', 'after_seconds');
    channel.leave(participant, afterSeconds);
    exchange.answer(200, {
      json: () => `{"epoch":"${channel.epoch}","left":true}`,
      text: () => `left ${channel.epoch}\n`,
    });
  }

  /** Only who has the key may make or join a channel. Throws no_token, wrong_key. */
  function checkAccess(exchange: Exchange, id: ChannelId): void {
    if (!opens(id, exchange.bearer())) throw new Refusal('wrong_key');
  }

  /** The participant that asks. Throws before anything counts if it means another incarnation of the channel. */
  function enter(exchange: Exchange, id: ChannelId, fields: Fields): { channel: Channel; participant: Participant } {
    const token = exchange.bearer();
    const who = field(
      'participant_id',
      fields['participant_id'] ?? exchange.parameter('participant_id'),
      isParticipantId,
    );
    const epoch = fields['epoch'] ?? exchange.parameter('epoch');
    const channel = channels.get(id);
    if (epoch !== undefined && field('epoch', epoch, isEpoch) !== channel.epoch) throw new Refusal('other_epoch');
    return { channel, participant: channel.enter(who, sha256(token)) };
  }

  function gauges() {
    const { size, participants, waiting, bytes } = channels;
    return {
      channels: size,
      participants,
      waiting_polls: waiting,
      held_bytes: bytes,
      connections: bridge.connections(),
    };
  }

  return (exchange) => {
    exchange.onAnswer = (status) => metrics.countRequest(exchange.route, status);
    if (bridge.isStopping()) exchange.isLast = true;
    try {
      handle(exchange);
    } catch (error) {
      refuse(exchange, error);
    }
  };
}

const page = (handler: Handler) => ({ GET: handler, HEAD: handler });

const plain = (exchange: Exchange, status: number, text: string, type = 'text/plain; charset=utf-8') =>
  exchange.hand(Buffer.from(text), ['Content-Type', type, 'Cache-Control', 'no-store'], status);

const isRecipient = (value: unknown): value is Recipient => value === EVERYBODY || isParticipantId(value);

/** Throws bad_request with the field's name, too_large. */
function sealed(fields: Fields, maxCharacters: number, prefix = ''): Sealed {
  const nonce = field(`${prefix}nonce`, fields['nonce'], isNonce);
  const tag = field(`${prefix}tag`, fields['tag'], isTag);
  const ciphertext = field(`${prefix}ciphertext`, fields['ciphertext'], isCiphertext);
  if (ciphertext.length > maxCharacters) throw new Refusal('too_large');
  return { nonce, ciphertext, tag };
}

// The shapes of docs/protocol.md, each in both forms.

type Member = Presence & { readonly participant: Participant };

const everybody = (channel: Channel, form: (member: Member) => string, separator = ','): string =>
  Array.from(channel.participants, (participant) => form({ ...channel.presence(participant), participant })).join(
    separator,
  );

const sealedJson = ({ nonce, ciphertext, tag }: Sealed) =>
  `"nonce":"${nonce}","ciphertext":"${ciphertext}","tag":"${tag}"`;
const sealedText = ({ nonce, ciphertext, tag }: Sealed) => `${nonce} ${ciphertext} ${tag}\n`;

const presenceJson = ({ id, listening, seenSeconds }: Presence) =>
  `{"participant_id":"${id}","listening":${listening},"seen_seconds":${seenSeconds}}`;
const presenceText = ({ id, listening, seenSeconds }: Presence) =>
  `recipient ${id} ${listening ? 'listening' : 'idle'} ${seenSeconds}\n`;

const memberJson = ({ id, listening, seenSeconds, participant: { card, fetched } }: Member) =>
  `{"participant_id":"${id}","card":{${sealedJson(card)}},"listening":${listening},` +
  `"seen_seconds":${seenSeconds},"fetched":${fetched}}`;
const memberText = ({ id, listening, seenSeconds, participant: { card, fetched } }: Member) =>
  `participant ${id} ${listening ? 'listening' : 'idle'} ${seenSeconds} ${fetched} ${sealedText(card)}`;

function batchJson({ epoch }: Channel, { cursor, gap, events }: Batch): string {
  const all = events.map(eventJson);
  if (gap) all.unshift(`{"type":"gap","since":${gap.since},"until":${gap.until}}`);
  return `{"epoch":"${epoch}","cursor":${cursor},"events":[${all.join()}]}`;
}

function batchText({ epoch }: Channel, { cursor, gap, events }: Batch): string {
  const first = gap ? `gap ${gap.since} ${gap.until}\n` : '';
  return `${first}${events.map(eventText).join('')}cursor ${cursor} ${epoch}\n`;
}

function eventJson(event: Event): string {
  const head = `{"index":${event.index},"type":"${event.type}","at":${event.at},"from":"${event.from}"`;
  if (event.type === 'message') return `${head},"to":"${event.to}",${sealedJson(event.sealed)}}`;
  if (event.type === 'join') return `${head},"card":{${sealedJson(event.sealed)}}}`;
  return event.type === 'leave' ? `${head},"reason":"${event.reason}"}` : `${head}}`;
}

function eventText(event: Event): string {
  const head = `${event.type} ${event.index} ${event.at} ${event.from}`;
  if (event.type === 'message') return `${head} ${event.to} ${sealedText(event.sealed)}`;
  if (event.type === 'join') return `${head} ${sealedText(event.sealed)}`;
  return event.type === 'leave' ? `${head} ${event.reason}\n` : `${head}\n`;
}
