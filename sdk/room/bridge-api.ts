/**
 * The room's requests to the bridge (docs/protocol.md, HTTP). Everything is sealed before it comes here. What the bridge
 * responds is from a stranger: each field is checked for its shape, and no text of it leaves this file.
 */
import { asBytes, isHex, utf8Decode } from '../encoding.ts';
import type { Bytes } from '../encoding.ts';
import { BROADCAST } from '../protocol.ts';
import type { Sealed } from '../protocol.ts';

/** What the bridge reports of a participant. Nobody proves it. */
export type ReportedPresence = { readonly isListening: boolean; readonly seenAt: number; readonly fetched?: number };
export type Recipient = { readonly id: string; readonly reported: ReportedPresence };
export type Participant = Recipient & { readonly card: Sealed };
export type BridgeEvent = { readonly index: number; readonly from: string } & (
  | { readonly type: 'message'; readonly to: string; readonly sealed: Sealed }
  | { readonly type: 'join'; readonly card: Sealed }
  | { readonly type: 'leave' | 'away' | 'back'; readonly isExpired: boolean }
);
export type Limits = { readonly messageBytes: number; readonly pollSeconds: number; readonly blobBytes: number };
export type JoinResponse = {
  readonly epoch: string;
  readonly cursor: number;
  readonly index: number;
  readonly participants: readonly Participant[];
};
export type PollResponse = {
  readonly epoch: string;
  readonly cursor: number;
  readonly hasGap: boolean;
  readonly events: readonly BridgeEvent[];
};

/** The bridge's codes (docs/protocol.md, Errors). */
const CODES = [
  ...['bad_request', 'no_token', 'bad_token', 'no_participant', 'wrong_key', 'not_invited', 'no_channel'],
  ...['no_recipient', 'no_blob', 'not_found', 'method_not_allowed', 'other_epoch', 'name_taken', 'nonce_reused'],
  ...['too_large', 'not_json', 'channel_full', 'participants_full', 'too_many_polls', 'too_many_requests'],
  ...['too_many_joins', 'too_many_channels', 'too_many_connections', 'internal', 'bridge_full', 'stopping'],
];

/**
 * A request failed. `code` is one of CODES; `unreachable` where no bridge responded, or not with what a bridge responds;
 * `unavailable` or `refused` for another code with status 429 or 5xx, or another one.
 */
export class ApiError extends Error {
  constructor(
    readonly code: string,
    readonly retryAfterMs?: number,
  ) {
    super(`request failed: ${code}`);
  }
}

export const codeOf = (error: unknown): string => (error instanceof ApiError ? error.code : '');

// ---- shapes ----

type Fields = Readonly<Record<string, unknown>>;

function expectShape<T>(value: unknown, hasShape: boolean): T {
  if (!hasShape) throw new ApiError('unreachable');
  return value as T;
}
const asFields = (value: unknown): Fields => expectShape(value, typeof value === 'object' && value !== null);
const asArray = (value: unknown): unknown[] => expectShape(value, Array.isArray(value));
const asCount = (value: unknown): number =>
  expectShape(value, Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < 1e15);
const asString = (value: unknown): string => (typeof value === 'string' ? value : '');
const asId = (value: unknown): string => expectShape(value, isHex(asString(value), 32));

/** The parts are checked when it is unsealed. */
function asSealed(value: unknown): Sealed {
  const { nonce, ciphertext, tag } = asFields(value);
  return { nonce: asString(nonce), ciphertext: asString(ciphertext), tag: asString(tag) };
}

function asRecipient(value: unknown): Recipient {
  const { participant_id, listening, seen_seconds } = asFields(value);
  const seenAt = Math.max(0, Date.now() - asCount(seen_seconds ?? 0) * 1000);
  return { id: asId(participant_id), reported: { isListening: listening === true, seenAt } };
}

function asParticipant(value: unknown): Participant {
  const { card, fetched } = asFields(value);
  const { id, reported } = asRecipient(value);
  return { id, reported: { ...reported, fetched: asCount(fetched) }, card: asSealed(card) };
}

function asEvent(value: unknown): BridgeEvent {
  const { index, from, type, to, card, reason } = asFields(value);
  const source = { index: asCount(index), from: asId(from) };
  if (type === 'message') return { ...source, type, to: to === BROADCAST ? to : asId(to), sealed: asSealed(value) };
  if (type === 'join') return { ...source, type, card: asSealed(card) };
  if (type === 'leave' || type === 'away' || type === 'back') {
    return { ...source, type, isExpired: reason === 'expired' };
  }
  throw new ApiError('unreachable');
}

function asPollResponse(fields: Fields, since: number): PollResponse {
  const all = asArray(fields['events']);
  const hasGap = all.length > 0 && asFields(all[0])['type'] === 'gap';
  const events = all.slice(hasGap ? 1 : 0).map(asEvent);
  const cursor = asCount(fields['cursor']);
  let last = since;
  for (const { index } of events) {
    expectShape(index, index > last);
    last = index;
  }
  expectShape(cursor, cursor >= last);
  return { epoch: asId(fields['epoch']), cursor, hasGap, events };
}

// ---- requests ----

const REQUEST_TIMEOUT_MS = 30_000;
const LEAVE_TIMEOUT_MS = 5_000;
/** A blob may take 120 s at the bridge. */
const BLOB_TIMEOUT_MS = 150_000;
const POLL_MARGIN_MS = 10_000;
const MAX_RETRY_AFTER_SECONDS = 60;
/** A client need not accept more (docs/protocol.md, poll). */
const MAX_RESPONSE_BYTES = 4 * 1024 * 1024;

/** The body, unless it is larger. */
async function readBody(response: Response, maxBytes: number): Promise<Bytes> {
  const reader = response.body?.getReader();
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for (;;) {
    const chunk = await reader?.read();
    if (!chunk || chunk.done) break;
    length += chunk.value.length;
    if (length > maxBytes) {
      await reader?.cancel();
      throw new ApiError('unreachable');
    }
    chunks.push(chunk.value);
  }
  return asBytes(await new Blob(chunks).arrayBuffer());
}

async function readJson(response: Response): Promise<Fields> {
  return asFields(JSON.parse(utf8Decode(await readBody(response, MAX_RESPONSE_BYTES)) ?? ''));
}

/** The error that a response other than 2xx says. Its code is in a header, too: a HEAD has no body. */
async function readError(response: Response): Promise<ApiError> {
  const seconds = Number(response.headers.get('retry-after') ?? NaN);
  const retryAfterMs = seconds >= 0 ? Math.min(seconds, MAX_RETRY_AFTER_SECONDS) * 1000 : undefined;
  const code =
    response.headers.get('agentalk-error') ?? asString(asFields((await readJson(response))['error'])['code']);
  if (CODES.includes(code)) return new ApiError(code, retryAfterMs);
  const isTemporary = response.status === 429 || response.status >= 500;
  return new ApiError(isTemporary ? 'unavailable' : 'refused', retryAfterMs);
}

type RequestOptions = {
  readonly bearer?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Fields | Blob;
  readonly signal?: AbortSignal;
  readonly keepalive?: boolean;
};

/** The requests of one participant of one channel. Whatever fails is thrown as ApiError. */
export class BridgeApi {
  /** When the bridge last responded, Unix ms. */
  lastResponseAt = Date.now();
  readonly #url: string;
  readonly #accessToken: string;
  readonly #id: string;
  readonly #token: string;
  readonly #ticket: string;

  /**
   * @param url of the channel
   * @param accessToken for create and join; all else has the participant's token
   * @param ticket of the join link, or ''
   */
  constructor(url: string, accessToken: string, id: string, token: string, ticket: string) {
    this.#url = url;
    this.#accessToken = accessToken;
    this.#id = id;
    this.#token = token;
    this.#ticket = ticket;
  }

  async create(): Promise<Limits> {
    const headers: Record<string, string> = this.#ticket === '' ? {} : { 'agentalk-invite': this.#ticket };
    const { limits } = await this.#requestJson('PUT', '', { bearer: this.#accessToken, headers });
    const { message_bytes, poll_seconds, blob_bytes } = asFields(limits);
    return {
      messageBytes: asCount(message_bytes),
      pollSeconds: asCount(poll_seconds),
      blobBytes: asCount(blob_bytes ?? 0),
    };
  }

  async join(card: Sealed): Promise<JoinResponse> {
    const body = { participant_id: this.#id, token: this.#token, card };
    const fields = await this.#requestJson('POST', '/join', { bearer: this.#accessToken, body });
    return {
      epoch: asId(fields['epoch']),
      cursor: asCount(fields['cursor']),
      index: asCount(fields['index']),
      participants: asArray(fields['participants']).map(asParticipant),
    };
  }

  /** The event's index, and what the bridge reports of each recipient. */
  async send(epoch: string, since: number, to: string, sealed: Sealed) {
    const body = { participant_id: this.#id, to, ...sealed, epoch, since };
    const { index, recipients } = await this.#requestJson('POST', '/send', { body });
    return { index: asCount(index), recipients: asArray(recipients).map(asRecipient) };
  }

  async poll(epoch: string, since: number, waitSeconds: number, stop: AbortSignal): Promise<PollResponse> {
    const signal = AbortSignal.any([stop, AbortSignal.timeout(waitSeconds * 1000 + POLL_MARGIN_MS)]);
    const path = `/poll${this.#query(epoch)}&since=${since}&wait=${waitSeconds}`;
    return asPollResponse(await this.#requestJson('GET', path, { signal }), since);
  }

  async status(epoch: string): Promise<readonly Participant[]> {
    return asArray((await this.#requestJson('GET', this.#query(epoch)))['participants']).map(asParticipant);
  }

  /** Also from a page that is closed: the browser completes the request. */
  async leave(epoch: string, afterSeconds: number): Promise<void> {
    const body = { participant_id: this.#id, epoch, after_seconds: afterSeconds };
    await this.#requestJson('POST', '/leave', { body, keepalive: true, signal: AbortSignal.timeout(LEAVE_TIMEOUT_MS) });
  }

  async hasBlob(epoch: string, digest: string): Promise<boolean> {
    try {
      await this.#request('HEAD', this.#blobPath(epoch, digest));
      return true;
    } catch (error) {
      if (codeOf(error) === 'no_blob') return false;
      throw error;
    }
  }

  async putBlob(epoch: string, digest: string, bytes: Blob): Promise<void> {
    const signal = AbortSignal.timeout(BLOB_TIMEOUT_MS);
    await this.#request('PUT', this.#blobPath(epoch, digest), { body: bytes, signal });
  }

  /** The caller checks that these are the bytes of this digest. */
  async getBlob(epoch: string, digest: string, maxBytes: number): Promise<Bytes> {
    const signal = AbortSignal.timeout(BLOB_TIMEOUT_MS);
    return this.#request('GET', this.#blobPath(epoch, digest), { signal }, (response) => readBody(response, maxBytes));
  }

  #blobPath(epoch: string, digest: string): string {
    return `/blobs/${digest}${this.#query(epoch)}`;
  }

  #query(epoch: string): string {
    return `?participant_id=${this.#id}&epoch=${epoch}`;
  }

  #requestJson(method: string, path: string, options: RequestOptions = {}): Promise<Fields> {
    return this.#request(method, path, options, readJson);
  }

  async #request(method: string, path: string, options?: RequestOptions): Promise<undefined>;
  async #request<T>(
    method: string,
    path: string,
    options: RequestOptions,
    read: (response: Response) => Promise<T>,
  ): Promise<T>;
  async #request<T>(
    method: string,
    path: string,
    options: RequestOptions = {},
    read?: (response: Response) => Promise<T>,
  ): Promise<T | undefined> {
    const { bearer = this.#token, headers, body, signal, keepalive } = options;
    const type = body instanceof Blob ? 'application/octet-stream' : 'application/json';
    try {
      const response = await fetch(this.#url + path, {
        method,
        headers: { authorization: `Bearer ${bearer}`, ...(body && { 'content-type': type }), ...headers },
        ...(body && { body: body instanceof Blob ? body : JSON.stringify(body) }),
        ...(keepalive && { keepalive }),
        signal: signal ?? AbortSignal.timeout(REQUEST_TIMEOUT_MS),
        cache: 'no-store',
        credentials: 'omit',
        redirect: 'error',
      });
      if (!response.ok) throw await readError(response);
      this.lastResponseAt = Date.now();
      if (read) return await read(response);
      await response.body?.cancel();
      return undefined;
    } catch (error) {
      // A proxy's page, half a response and no connection are all the same here: another try may help.
      throw error instanceof ApiError ? error : new ApiError('unreachable');
    }
  }
}
