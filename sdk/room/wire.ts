/**
 * The room's requests to the bridge (docs/protocol.md, HTTP). Here plaintext has long been sealed; what comes back is a
 * stranger's and is checked for its shape before anything counts with it.
 */
import { isHex } from '../bytes.ts';
import { EVERYBODY } from '../protocol.ts';
import type { Sealed } from '../protocol.ts';

export type Presence = { readonly id: string; readonly listening: boolean; readonly seenSeconds: number };
export type Participant = Presence & { readonly card: Sealed; readonly fetched: number };
export type Event = { readonly index: number; readonly from: string } & (
  | { readonly type: 'message'; readonly to: string; readonly box: Sealed }
  | { readonly type: 'join'; readonly box: Sealed }
  | { readonly type: 'leave' | 'away' | 'back'; readonly reason: string }
);
export type Joined = { epoch: string; cursor: number; index: number; resumed: boolean; participants: Participant[] };
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
const malformed = () => new Refused('malformed', 'The answer is none that a bridge gives.');

type Fields = Readonly<Record<string, unknown>>;
const fields = (value: unknown): Fields => {
  if (typeof value !== 'object' || value === null) throw malformed();
  return value as Fields;
};
const list = (value: unknown): unknown[] => {
  if (!Array.isArray(value)) throw malformed();
  return value as unknown[];
};
const count = (value: unknown): number => {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw malformed();
  return value as number;
};
const hex = (value: unknown): string => {
  if (typeof value !== 'string' || !isHex(value, 32)) throw malformed();
  return value;
};
const word = (value: unknown): string => (typeof value === 'string' ? value : '');
/** The three parts are looked at when it is opened. */
const box = (value: unknown): Sealed => {
  const { nonce, ciphertext, tag } = fields(value);
  return { nonce: word(nonce), ciphertext: word(ciphertext), tag: word(tag) };
};

function presence(value: unknown): Presence {
  const { participant_id, listening, seen_seconds } = fields(value);
  return { id: hex(participant_id), listening: listening === true, seenSeconds: count(seen_seconds ?? 0) };
}

function participant(value: unknown): Participant {
  const { card, fetched } = fields(value);
  return { ...presence(value), card: box(card), fetched: count(fetched) };
}

function event(value: unknown): Event {
  const all = fields(value);
  const place = { index: count(all['index']), from: hex(all['from']) };
  const { type, to } = all;
  if (type === 'message') return { ...place, type, to: to === EVERYBODY ? to : hex(to), box: box(all) };
  if (type === 'join') return { ...place, type, box: box(all['card']) };
  if (type === 'leave' || type === 'away' || type === 'back') return { ...place, type, reason: word(all['reason']) };
  throw malformed();
}

export type Credentials = { readonly participant: string; readonly token: string };
const REQUEST_MS = 30_000;

/** What the channel may be opened again with, where a bridge wants that. */
export const TICKET = /[#&]t=([\w-]+)/.exec(location.hash)?.[1] ?? '';

export class Wire {
  readonly #url: string;

  /** @param base where the bridge is, no slash at its end */
  constructor(base: string, channel: string) {
    this.#url = `${base}/channels/${channel}`;
  }

  async create(access: string): Promise<number> {
    const { limits } = await this.#ask('PUT', '', access);
    return count(fields(limits)['message_bytes']);
  }

  async join(access: string, { participant: id, token }: Credentials, card: Sealed): Promise<Joined> {
    const answer = await this.#ask('POST', '/join', access, { participant_id: id, token, card });
    const { epoch, cursor, index, resumed, participants } = answer;
    return {
      ...{ epoch: hex(epoch), cursor: count(cursor), index: count(index), resumed: resumed === true },
      participants: list(participants).map(participant),
    };
  }

  /** The event's index, and who was listening. */
  async send(me: Credentials, epoch: string, since: number, to: string, sealed: Sealed) {
    const body = { participant_id: me.participant, to, ...sealed, epoch, since };
    const { index, recipients } = await this.#ask('POST', '/send', me.token, body);
    return { index: count(index), recipients: list(recipients).map(presence) };
  }

  async poll(me: Credentials, epoch: string, since: number, seconds: number, signal: AbortSignal): Promise<Batch> {
    const query = `?participant_id=${me.participant}&since=${since}&wait=${seconds}&epoch=${epoch}`;
    const answer = await this.#ask('GET', `/poll${query}`, me.token, undefined, signal, seconds * 1000 + 15_000);
    const all = list(answer['events']);
    const isGap = all.length > 0 && fields(all[0])['type'] === 'gap';
    const events = all.slice(isGap ? 1 : 0).map(event);
    const cursor = count(answer['cursor']);
    const order = [since, ...events.map(({ index }) => index)];
    if (order.some((index, i) => i > 0 && index <= (order[i - 1] ?? 0)) || (order.at(-1) ?? 0) > cursor) {
      throw malformed();
    }
    return { epoch: hex(answer['epoch']), cursor, isGap, events };
  }

  async who(me: Credentials, epoch: string): Promise<Participant[]> {
    const query = `?participant_id=${me.participant}&epoch=${epoch}`;
    return list((await this.#ask('GET', query, me.token))['participants']).map(participant);
  }

  /** Also from a page that is going away: the browser carries it out behind its back. */
  async leave({ participant: id, token }: Credentials, epoch: string, afterSeconds: number): Promise<void> {
    const body = { participant_id: id, epoch, after_seconds: afterSeconds };
    await this.#ask('POST', '/leave', token, body, undefined, 5000, true);
  }

  /** Throws Refused for whatever goes wrong. */
  async #ask(
    method: string,
    path: string,
    bearer: string,
    body?: Fields,
    signal?: AbortSignal,
    timeoutMs = REQUEST_MS,
    keepalive = false,
  ): Promise<Fields> {
    const stop = new AbortController();
    const abort = () => stop.abort();
    const timer = setTimeout(abort, timeoutMs);
    signal?.addEventListener('abort', abort);
    try {
      if (signal?.aborted) abort();
      const response = await fetch(this.#url + path, {
        method,
        keepalive,
        signal: stop.signal,
        cache: 'no-store',
        credentials: 'omit',
        redirect: 'error',
        headers: {
          authorization: `Bearer ${bearer}`,
          ...(body ? { 'content-type': 'application/json' } : {}),
          ...(method === 'PUT' && TICKET ? { 'agentalk-invite': TICKET } : {}),
        },
        ...(body ? { body: JSON.stringify(body) } : {}),
      });
      const seconds = Number(response.headers.get('retry-after') ?? NaN);
      const retryAfterMs = seconds >= 0 ? Math.min(seconds, 60) * 1000 : undefined;
      const answer = fields(await response.json());
      if (response.ok) return answer;
      const { code, message } = fields(answer['error']);
      throw new Refused(word(code), word(message), retryAfterMs);
    } catch (error) {
      if (error instanceof Refused && error.code !== 'malformed') throw error;
      // A proxy's page, half an answer, no connection: all the same to us, and worth another try.
      throw new Refused('unreachable', 'The bridge can’t be reached.');
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
  }
}
