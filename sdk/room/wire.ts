/**
 * The room's requests to the bridge (docs/protocol.md, HTTP). Here plaintext has long been sealed; what comes back is a
 * stranger's and is checked for its shape before anything counts with it.
 */
import { isHex } from './legacy-bytes.ts';
import { EVERYBODY } from './legacy-protocol.ts';
import type { Sealed } from './legacy-protocol.ts';

/** What the bridge says of somebody: nobody else can. */
export type Presence = {
  readonly id: string;
  readonly told: { readonly isListening: boolean; readonly seenAt: number; readonly fetched?: number };
};
export type Participant = Presence & { readonly box: Sealed };
export type Event = { readonly index: number; readonly from: string } & (
  | { readonly type: 'message'; readonly to: string; readonly box: Sealed }
  | { readonly type: 'join'; readonly box: Sealed }
  | { readonly type: 'leave' | 'away' | 'back'; readonly reason: string }
);
export type Joined = { epoch: string; cursor: number; index: number; participants: Participant[] };
export type Batch = { epoch: string; cursor: number; isGap: boolean; events: Event[] };

/** The bridge said no, or nothing at all (`unreachable`), or what no bridge says (`malformed`). */
export class Refused extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly retryAfterMs?: number,
  ) {
    super(message);
  }
}

type Fields = Readonly<Record<string, unknown>>;
const malformed = () => new Refused('malformed', 'The answer is none that a bridge gives.');
function shaped<T>(value: unknown, isRight: boolean): T {
  if (!isRight) throw malformed();
  return value as T;
}
const fields = (value: unknown): Fields => shaped(value, typeof value === 'object' && value !== null);
const list = (value: unknown): unknown[] => shaped(value, Array.isArray(value));
const count = (value: unknown): number => shaped(value, Number.isSafeInteger(value) && (value as number) >= 0);
const hex = (value: unknown): string => shaped(value, isHex(word(value), 32));
const word = (value: unknown): string => (typeof value === 'string' ? value : '');
/** The three parts are looked at when it is opened. */
const box = (value: unknown): Sealed => {
  const { nonce, ciphertext, tag } = fields(value);
  return { nonce: word(nonce), ciphertext: word(ciphertext), tag: word(tag) };
};

function presence(value: unknown): Presence {
  const { participant_id, listening, seen_seconds } = fields(value);
  const seenAt = Date.now() - count(seen_seconds ?? 0) * 1000;
  return { id: hex(participant_id), told: { isListening: listening === true, seenAt } };
}

function participant(value: unknown): Participant {
  const { card, fetched } = fields(value);
  const { id, told } = presence(value);
  return { id, told: { ...told, fetched: count(fetched) }, box: box(card) };
}

function event(value: unknown): Event {
  const { index, from, type, to, card, reason } = fields(value);
  const place = { index: count(index), from: hex(from) };
  if (type === 'message') return { ...place, type, to: to === EVERYBODY ? to : hex(to), box: box(value) };
  if (type === 'join') return { ...place, type, box: box(card) };
  if (type === 'leave' || type === 'away' || type === 'back') return { ...place, type, reason: word(reason) };
  throw malformed();
}

const REQUEST_MS = 30_000;

/** What the channel may be opened again with, where a bridge wants that. */
export const TICKET = /[#&]t=([\w-]+)/.exec(location.hash)?.[1] ?? '';

/** The requests of one participant. Whatever goes wrong with one is thrown as Refused. */
export class Wire {
  /**
   * @param url of the channel
   * @param access what opens and joins it; for all else it is the token
   */
  constructor(
    readonly url: string,
    readonly access: string,
    readonly id: string,
    readonly token: string,
  ) {}

  /** How many bytes a message may have. */
  async create(): Promise<number> {
    const { limits } = await this.#ask('PUT', '', {}, this.access);
    return count(fields(limits)['message_bytes']);
  }

  async join(card: Sealed): Promise<Joined> {
    const { token } = this;
    const answer = await this.#ask('POST', '/join', { body: { token, card } }, this.access);
    const { epoch, cursor, index, participants } = answer;
    return {
      ...{ epoch: hex(epoch), cursor: count(cursor), index: count(index) },
      participants: list(participants).map(participant),
    };
  }

  /** The event's index, and who was listening. */
  async send(epoch: string, since: number, to: string, box: Sealed) {
    const { index, recipients } = await this.#ask('POST', '/send', { body: { to, ...box, epoch, since } });
    return { index: count(index), recipients: list(recipients).map(presence) };
  }

  async poll(epoch: string, since: number, seconds: number, stop: AbortSignal): Promise<Batch> {
    const signal = AbortSignal.any([stop, AbortSignal.timeout(seconds * 1000 + 15_000)]);
    const answer = await this.#ask('GET', this.#query(`/poll`, epoch) + `&since=${since}&wait=${seconds}`, { signal });
    const all = list(answer['events']);
    const isGap = all.length > 0 && fields(all[0])['type'] === 'gap';
    const events = all.slice(isGap ? 1 : 0).map(event);
    const cursor = count(answer['cursor']);
    let last = since;
    for (const { index } of events) {
      if (index <= last) throw malformed();
      last = index;
    }
    if (last > cursor) throw malformed();
    return { epoch: hex(answer['epoch']), cursor, isGap, events };
  }

  async who(epoch: string): Promise<Participant[]> {
    return list((await this.#ask('GET', this.#query('', epoch)))['participants']).map(participant);
  }

  /** Also from a page that is going away: the browser carries it out behind its back. */
  async leave(epoch: string, afterSeconds: number): Promise<void> {
    const body = { epoch, after_seconds: afterSeconds };
    await this.#ask('POST', '/leave', { body, keepalive: true, signal: AbortSignal.timeout(5000) });
  }

  #query(path: string, epoch: string): string {
    return `${path}?participant_id=${this.id}&epoch=${epoch}`;
  }

  async #ask(
    method: string,
    path: string,
    { body, ...more }: Omit<RequestInit, 'body'> & { body?: Fields } = {},
    bearer = this.token,
  ): Promise<Fields> {
    try {
      const response = await fetch(this.url + path, {
        method,
        signal: AbortSignal.timeout(REQUEST_MS),
        cache: 'no-store',
        credentials: 'omit',
        redirect: 'error',
        headers: {
          authorization: `Bearer ${bearer}`,
          ...(body && { 'content-type': 'application/json' }),
          ...(method === 'PUT' && TICKET && { 'agentalk-invite': TICKET }),
        },
        ...(body && { body: JSON.stringify({ participant_id: this.id, ...body }) }),
        ...more,
      });
      const answer = fields(await response.json());
      if (response.ok) return answer;
      const { code, message } = fields(answer['error']);
      const seconds = Number(response.headers.get('retry-after') ?? NaN);
      throw new Refused(word(code), word(message), seconds >= 0 ? Math.min(seconds, 60) * 1000 : undefined);
    } catch (error) {
      if (error instanceof Refused && error.code !== 'malformed') throw error;
      // A proxy's page, half an answer, no connection: all the same to us, and worth another try.
      throw new Refused('unreachable', 'The bridge can’t be reached.');
    }
  }
}
