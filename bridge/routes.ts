/**
 * The table of routes, and for each the way from a checked request to a channel's method and back. Answers are put
 * together as text, without a tree in between: every word is a checked id, a number, base64 or ours.
 */
import type { Batch, Channel, Channels, Event, Participant, Presence, Waiter } from './channels.ts';
import { Refusal } from './errors.ts';
import { Exchange, count, field, isObject, readFields } from './http.ts';
import type { Fields, Headers } from './http.ts';
import { isCiphertext, isEpoch, isNonce, isParticipantId, isRecipient, isTag, isToken, opens, sha256 } from './ids.ts';
import type { ChannelId, Sealed } from './ids.ts';
import { CARD_CHARACTERS, messageCharacters } from './limits.ts';
import type { Metrics } from './metrics.ts';
import type { Page } from './pages.ts';

type Handler = (exchange: Exchange, id: ChannelId, fields: Fields) => void;

export interface Bridge {
  readonly channels: Channels;
  readonly metrics: Metrics;
  readonly pages: Readonly<Record<string, Page>>;
  readonly basePath: string; // what a proxy may have left in front of each path
  isStopping(): boolean;
  connections(): number;
  /** Is told of what was not expected, and gives it a number to be found by. */
  report(error: unknown): string;
}

/** A bridge's answer to any request. */
export function routes({ channels, metrics, pages, basePath, ...bridge }: Bridge): (exchange: Exchange) => void {
  const { limits } = channels;
  const maxCiphertext = messageCharacters(limits);
  const maxBodyBytes = maxCiphertext + 4096;

  const table: Record<string, Record<string, Handler>> = {
    '/channels/:id': { PUT: create, GET: status },
    '/channels/:id/join': { POST: join },
    '/channels/:id/send': { POST: send },
    '/channels/:id/poll': { GET: poll },
    '/channels/:id/leave': { POST: leave },
    '/health': { GET: (exchange) => exchange.hand('ok\n') },
    '/ready': { GET: ready },
    '/metrics': { GET: tell },
  };
  for (const [pattern, page] of Object.entries(pages)) table[pattern] = { GET: page, HEAD: page };
  const handlers = new Map<string, ReadonlyMap<string, { route: string; handler: Handler }>>();
  for (const [pattern, methods] of Object.entries(table)) {
    const rows = Object.entries(methods).map(([method, handler]) => [
      method,
      { route: `${method} ${pattern}`, handler },
    ]);
    handlers.set(pattern, new Map(rows as [string, { route: string; handler: Handler }][]));
  }

  function handle(exchange: Exchange): void {
    const { request } = exchange;
    const path = exchange.path.startsWith(basePath + '/') ? exchange.path.slice(basePath.length) : exchange.path;
    const [, room, id = '', action = ''] = /^\/(channels|c)\/([0-9a-f]{32})(\/[a-z]+)?$/.exec(path) ?? [];
    const methods = handlers.get(room === undefined ? path : `/${room}/:id${action}`);
    if (!methods) throw new Refusal('not_found');
    const row = methods.get(request.method ?? '');
    if (!row) return refuse(exchange, new Refusal('method_not_allowed'), ['Allow', [...methods.keys()].join(', ')]);
    exchange.route = row.route;
    if (room === 'channels' && bridge.isStopping()) throw new Refusal('stopping');
    if (request.method !== 'POST') return row.handler(exchange, id as ChannelId, {});
    const done = (fields: Fields) => row.handler(exchange, id as ChannelId, fields);
    readFields(request, maxBodyBytes, done, (error) => refuse(exchange, error));
  }

  /** The one place where whatever went wrong becomes an answer. */
  function refuse(exchange: Exchange, error: unknown, headers: Headers = []): void {
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
    const text = `channel ${channel.epoch} ${isNew ? 'created' : 'found'} ${Object.values(facts).join(' ')}\n`;
    const json = `{"epoch":"${channel.epoch}","limits":${JSON.stringify(facts)}}`;
    exchange.answer(isNew ? 201 : 200, exchange.wantsText ? text : json);
  }

  function join(exchange: Exchange, id: ChannelId, fields: Fields): void {
    checkAccess(exchange, id);
    const participantId = field('participant_id', fields['participant_id'], isParticipantId);
    const token = field('token', fields['token'], isToken);
    const card = sealed(field('card', fields['card'], isObject), CARD_CHARACTERS, 'card.');
    const channel = channels.get(id);
    const { participant, isResumed } = channel.join(participantId, sha256(token), card);
    const { fetched, joined } = participant;
    if (exchange.wantsText) {
      const last = `cursor ${fetched} ${channel.epoch} ${isResumed ? 'resumed' : 'new'} ${joined}\n`;
      return exchange.answer(200, members(channel, memberText).join('') + last);
    }
    const first = `{"epoch":"${channel.epoch}","cursor":${fetched},"index":${joined},"resumed":${isResumed}`;
    exchange.answer(200, `${first},"participants":[${members(channel, memberJson)}]}`);
  }

  function send(exchange: Exchange, id: ChannelId, fields: Fields): void {
    const { channel, participant } = enter(exchange, id, fields);
    const to = field('to', fields['to'], isRecipient);
    if (to === participant.id) throw new Refusal('bad_request', 'to');
    const message = sealed(fields, maxCiphertext);
    const since = count('since', fields['since'] ?? exchange.parameter('since'));
    if (since !== undefined) channel.present(participant, since);
    const { index, recipients, isNew } = channel.send(participant, to, message);
    if (isNew) metrics.countMessage(message.ciphertext.length);
    const text = () => `${recipients.map(presenceText).join('')}sent ${index} ${channel.epoch}\n`;
    const json = () => `{"epoch":"${channel.epoch}","index":${index},"recipients":[${recipients.map(presenceJson)}]}`;
    exchange.answer(200, exchange.wantsText ? text() : json());
  }

  function poll(exchange: Exchange, id: ChannelId): void {
    const { channel, participant } = enter(exchange, id, {});
    const since = count('since', exchange.parameter('since'));
    if (since === undefined) throw new Refusal('bad_request', 'since');
    const waitSeconds = Math.min(count('wait', exchange.parameter('wait')) ?? 0, limits.pollSeconds);
    channel.present(participant, since);
    const answer = (batch: Batch) => exchange.answer(200, (exchange.wantsText ? batchText : batchJson)(channel, batch));
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
    const timer = setTimeout(() => channel.endWait(participant, waiter) && answer(batch), waitSeconds * 1000);
    exchange.response.on('close', () => {
      clearTimeout(timer);
      channel.endWait(participant, waiter);
    });
  }

  function status(exchange: Exchange, id: ChannelId): void {
    const { channel } = enter(exchange, id, {});
    const text = () => `${members(channel, memberText).join('')}cursor ${channel.last} ${channel.epoch}\n`;
    const first = `{"epoch":"${channel.epoch}","cursor":${channel.last}`;
    exchange.answer(200, exchange.wantsText ? text() : `${first},"participants":[${members(channel, memberJson)}]}`);
  }

  function leave(exchange: Exchange, id: ChannelId, fields: Fields): void {
    const { channel, participant } = enter(exchange, id, fields);
    const afterSeconds = count('after_seconds', fields['after_seconds']) ?? 0;
    if (afterSeconds > limits.leaveSeconds) throw new Refusal('bad_request', 'after_seconds');
    channel.leave(participant, afterSeconds);
    exchange.answer(200, exchange.wantsText ? `left ${channel.epoch}\n` : `{"epoch":"${channel.epoch}","left":true}`);
  }

  function ready(exchange: Exchange): void {
    if (bridge.isStopping()) throw new Refusal('stopping');
    exchange.hand('ready\n');
  }

  function tell(exchange: Exchange): void {
    const numbers = metrics.render({ ...channels.gauges(), connections: bridge.connections() });
    exchange.hand(numbers, ['Content-Type', 'text/plain; version=0.0.4; charset=utf-8', 'Cache-Control', 'no-store']);
  }

  /** Only who has the key may make or join a channel. Throws no_token, wrong_key. */
  function checkAccess(exchange: Exchange, id: ChannelId): void {
    if (!opens(id, exchange.bearer())) throw new Refusal('wrong_key');
  }

  /** The participant that asks. Throws, before anything counts, if it means another incarnation of the channel. */
  function enter(exchange: Exchange, id: ChannelId, fields: Fields): { channel: Channel; participant: Participant } {
    const token = exchange.bearer();
    const given = (name: string) => fields[name] ?? exchange.parameter(name);
    const participantId = field('participant_id', given('participant_id'), isParticipantId);
    const epoch = given('epoch');
    const channel = channels.get(id);
    if (epoch !== undefined && field('epoch', epoch, isEpoch) !== channel.epoch) throw new Refusal('other_epoch');
    return { channel, participant: channel.enter(participantId, sha256(token)) };
  }

  return (exchange) => {
    exchange.onAnswer = (status) => metrics.countRequest(exchange.route, status);
    exchange.isLast = bridge.isStopping();
    try {
      handle(exchange);
    } catch (error) {
      refuse(exchange, error);
    }
  };
}

/** Throws bad_request with the field's name, too_large. */
function sealed(fields: Fields, maxCharacters: number, prefix = ''): Sealed {
  const nonce = field(`${prefix}nonce`, fields['nonce'], isNonce);
  const tag = field(`${prefix}tag`, fields['tag'], isTag);
  const ciphertext = field(`${prefix}ciphertext`, fields['ciphertext'], isCiphertext);
  if (ciphertext.length > maxCharacters) throw new Refusal('too_large');
  return { nonce, ciphertext, tag };
}

// The shapes of docs/protocol.md, in both forms.

const sealedJson = (box: Sealed) => `"nonce":"${box.nonce}","ciphertext":"${box.ciphertext}","tag":"${box.tag}"`;
const sealedText = ({ nonce, ciphertext, tag }: Sealed) => `${nonce} ${ciphertext} ${tag}\n`;

const seenJson = ({ listening, seenSeconds }: Presence) => `"listening":${listening},"seen_seconds":${seenSeconds}`;
const seenText = ({ listening, seenSeconds }: Presence) => `${listening ? 'listening' : 'idle'} ${seenSeconds}`;
const presenceJson = (presence: Presence) => `{"participant_id":"${presence.id}",${seenJson(presence)}}`;
const presenceText = (presence: Presence) => `recipient ${presence.id} ${seenText(presence)}\n`;

type Form = (participant: Participant, presence: Presence) => string;
const members = (channel: Channel, form: Form): string[] =>
  Array.from(channel.participants.values(), (participant) => form(participant, channel.presence(participant)));
const memberJson: Form = ({ id, card, fetched }, presence) =>
  `{"participant_id":"${id}","card":{${sealedJson(card)}},${seenJson(presence)},"fetched":${fetched}}`;
const memberText: Form = ({ id, card, fetched }, presence) =>
  `participant ${id} ${seenText(presence)} ${fetched} ${sealedText(card)}`;

function batchJson({ epoch }: Channel, { cursor, gap, events }: Batch): string {
  const all = events.map(eventJson);
  if (gap) all.unshift(`{"type":"gap","since":${gap.since},"until":${gap.until}}`);
  return `{"epoch":"${epoch}","cursor":${cursor},"events":[${all}]}`;
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
