/** The requests of a client to its bridge. Each field of a response is checked before it is used. */
import { decodeBase64, isHex } from './crypto.ts';
import type { Sealed } from './crypto.ts';

export type Fetch = typeof fetch;
/** Of a channel at a bridge; `access` and `token` are secrets. */
export interface Place {
  readonly url: string;
  readonly channel: string;
  readonly access: string;
  readonly participantId: string;
  readonly token: string;
  /** A create secret or a ticket, for bridges that ask for one. */
  readonly invite?: string | undefined;
}
export interface Participant {
  readonly id: string;
  readonly card: Sealed;
  readonly listening: boolean;
  readonly seenSeconds: number;
  /** The highest cursor that it presented. */
  readonly fetched: number;
}
export type Event = { readonly index: number; readonly at: number; readonly from: string } & (
  | { readonly type: 'join'; readonly card: Sealed }
  | { readonly type: 'message'; readonly to: string; readonly sealed: Sealed }
  | { readonly type: 'leave'; readonly reason: 'left' | 'expired' }
  | { readonly type: 'away' | 'back' }
);
export interface Created {
  readonly epoch: string;
  readonly messageBytes: number;
  readonly pollSeconds: number;
  readonly blobBytes: number;
  readonly ticket: string | undefined;
}
export interface Joined {
  readonly epoch: string;
  readonly cursor: number;
  readonly index: number;
  readonly resumed: boolean;
  readonly participants: readonly Participant[];
}
export interface Polled {
  readonly epoch: string;
  readonly cursor: number;
  readonly events: readonly Event[];
  /** Whether the bridge no longer has all events after the cursor that was presented. */
  readonly hasGap: boolean;
}
export interface Status {
  readonly epoch: string;
  readonly participants: readonly Participant[];
}

/** The error codes of docs/protocol.md. No other word of a bridge gets out of this file. */
const CODES = new Set(
  'bad_request no_token bad_token no_participant wrong_key not_invited no_channel no_recipient no_blob not_found'
    .concat(' method_not_allowed other_epoch name_taken nonce_reused too_large not_json channel_full participants_full')
    .concat(' too_many_polls too_many_requests too_many_joins too_many_channels too_many_connections internal')
    .concat(' bridge_full stopping')
    .split(' '),
);

/** A request without success: `code` is one of CODES, or `unreachable`, `bad_response` or `unknown`. */
export class BridgeError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly retryAfterSeconds = 1,
  ) {
    super(`request to the bridge failed: ${code}`);
  }

  /** Whether the same request may succeed later. */
  get isTemporary(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

const MAX_RESPONSE_BYTES = 4 << 20;
/** How much longer than its `wait` a poll may take, and any other request. */
const TIMEOUT_MS = 30_000;

export class Bridge {
  constructor(
    readonly place: Place,
    readonly fetch: Fetch = globalThis.fetch,
  ) {}

  async create(): Promise<Created> {
    const invite = this.place.invite === undefined ? {} : { 'Agentalk-Invite': this.place.invite };
    const fields = await this.request('PUT', '', { bearer: this.place.access, headers: invite });
    const limits = asObject(fields.limits);
    return {
      epoch: asHex(fields.epoch, 32),
      messageBytes: asCount(limits.message_bytes),
      pollSeconds: asCount(limits.poll_seconds),
      blobBytes: asCount(limits.blob_bytes ?? 0),
      ticket: fields.ticket === undefined ? undefined : asHex(fields.ticket, 32),
    };
  }

  async join(card: Sealed): Promise<Joined> {
    const { participantId: participant_id, token, access } = this.place;
    const fields = await this.request('POST', '/join', { bearer: access, json: { participant_id, token, card } });
    return {
      epoch: asHex(fields.epoch, 32),
      cursor: asCount(fields.cursor),
      index: asCount(fields.index),
      resumed: asBoolean(fields.resumed),
      participants: asArray(fields.participants).map(asParticipant),
    };
  }

  async send(epoch: string, to: string, sealed: Sealed): Promise<number> {
    const json = { participant_id: this.place.participantId, epoch, to, ...sealed };
    return asCount((await this.request('POST', '/send', { json })).index);
  }

  async poll(epoch: string, since: number, waitSeconds: number): Promise<Polled> {
    const query = this.query(epoch, { since: String(since), wait: String(waitSeconds) });
    const fields = await this.request('GET', `/poll?${query}`, { waitSeconds });
    const events = asArray(fields.events).map(asObject);
    const isGap = (event: JsonObject) => event.type === 'gap';
    return {
      epoch: asHex(fields.epoch, 32),
      cursor: asCount(fields.cursor),
      events: events
        .filter((event) => !isGap(event))
        .map(asEvent)
        .filter((event) => event !== undefined),
      hasGap: events.some(isGap),
    };
  }

  async status(epoch: string): Promise<Status> {
    const fields = await this.request('GET', `?${this.query(epoch)}`);
    return { epoch: asHex(fields.epoch, 32), participants: asArray(fields.participants).map(asParticipant) };
  }

  async leave(): Promise<void> {
    await this.request('POST', '/leave', { json: { participant_id: this.place.participantId } });
  }

  async hasBlob(epoch: string, digest: string): Promise<boolean> {
    try {
      await this.exchange('HEAD', `/blobs/${digest}?${this.query(epoch)}`);
      return true;
    } catch (error) {
      if (error instanceof BridgeError && error.code === 'no_blob') return false;
      throw error;
    }
  }

  async putBlob(epoch: string, digest: string, body: Uint8Array): Promise<void> {
    const headers = { 'Content-Type': 'application/octet-stream' };
    await this.exchange('PUT', `/blobs/${digest}?${this.query(epoch)}`, { headers, body });
  }

  /** The bytes of a blob, which nobody has checked yet; undefined if the bridge has none. */
  async getBlob(epoch: string, digest: string): Promise<Uint8Array | undefined> {
    try {
      return await this.exchange('GET', `/blobs/${digest}?${this.query(epoch)}`);
    } catch (error) {
      if (error instanceof BridgeError && error.code === 'no_blob') return undefined;
      throw error;
    }
  }

  protected query(epoch: string, more: Record<string, string> = {}): string {
    return new URLSearchParams({ participant_id: this.place.participantId, epoch, ...more }).toString();
  }

  /** A request whose response is a JSON object. */
  async request(method: string, path: string, options: RequestOptions = {}): Promise<JsonObject> {
    const bytes = await this.exchange(method, path, options);
    return asObject(parseJson(bytes));
  }

  protected async exchange(method: string, path: string, options: RequestOptions = {}): Promise<Uint8Array> {
    const { url, channel, token } = this.place;
    const { bearer = token, json, waitSeconds = 0 } = options;
    const headers: Record<string, string> = { Authorization: `Bearer ${bearer}`, ...options.headers };
    if (json !== undefined) headers['Content-Type'] = 'application/json';
    const body = json === undefined ? options.body : JSON.stringify(json);
    let response: Response;
    let bytes: Uint8Array;
    try {
      response = await this.fetch(`${url}/channels/${channel}${path}`, {
        method,
        headers,
        redirect: 'error',
        signal: AbortSignal.timeout(waitSeconds * 1000 + TIMEOUT_MS),
        ...(body === undefined ? {} : { body: body as RequestInit['body'] & {} }),
      });
      bytes = new Uint8Array(await response.arrayBuffer());
    } catch {
      throw new BridgeError(0, 'unreachable');
    }
    if (bytes.length > MAX_RESPONSE_BYTES) throw badResponse();
    if (response.ok) return bytes;
    const code = response.headers.get('Agentalk-Error') ?? codeIn(bytes);
    const retryAfter = response.headers.get('Retry-After') ?? '';
    throw new BridgeError(
      response.status,
      CODES.has(code) ? code : 'unknown',
      /^[0-9]{1,4}$/.test(retryAfter) ? Number(retryAfter) : 1,
    );
  }
}

export interface RequestOptions {
  readonly bearer?: string;
  readonly json?: object;
  readonly body?: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  readonly waitSeconds?: number;
}

// ---- shapes ----

type JsonObject = Readonly<Record<string, unknown>>;

const badResponse = () => new BridgeError(0, 'bad_response');

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    throw badResponse();
  }
}

/** The code in the body of an error. */
function codeIn(bytes: Uint8Array): string {
  try {
    return asString(asObject(asObject(parseJson(bytes)).error).code);
  } catch {
    return 'unknown';
  }
}

function asObject(value: unknown): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw badResponse();
  return value as JsonObject;
}

function asArray(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw badResponse();
  return value as unknown[];
}

function asString(value: unknown): string {
  if (typeof value !== 'string') throw badResponse();
  return value;
}

function asHex(value: unknown, digits: number): string {
  const text = asString(value);
  if (!isHex(text, digits)) throw badResponse();
  return text;
}

function asCount(value: unknown): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw badResponse();
  return value as number;
}

function asBoolean(value: unknown): boolean {
  if (typeof value !== 'boolean') throw badResponse();
  return value;
}

function asSealed(value: unknown): Sealed {
  const { nonce, ciphertext, tag } = asObject(value);
  if (decodeBase64(asString(ciphertext)) === undefined) throw badResponse();
  return { nonce: asHex(nonce, 24), ciphertext: asString(ciphertext), tag: asHex(tag, 32) };
}

function asParticipant(value: unknown): Participant {
  const { participant_id: id, card, listening, seen_seconds: seenSeconds, fetched } = asObject(value);
  return {
    id: asHex(id, 32),
    card: asSealed(card),
    listening: asBoolean(listening),
    seenSeconds: asCount(seenSeconds),
    fetched: asCount(fetched),
  };
}

/** An event; undefined if it is of a type that this client does not know. */
function asEvent(fields: JsonObject): Event | undefined {
  const { type } = fields;
  const common = { index: asCount(fields.index), at: asCount(fields.at), from: asHex(fields.from, 32) };
  if (type === 'join') return { ...common, type, card: asSealed(fields.card) };
  if (type === 'message') {
    const to = fields.to === '*' ? '*' : asHex(fields.to, 32);
    return { ...common, type, to, sealed: asSealed(fields) };
  }
  if (type === 'leave') {
    if (fields.reason !== 'left' && fields.reason !== 'expired') throw badResponse();
    return { ...common, type, reason: fields.reason };
  }
  return type === 'away' || type === 'back' ? { ...common, type } : undefined;
}
