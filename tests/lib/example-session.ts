/**
 * A client for tests: examples/client.ts, which behaves, and hooks with which a test makes it misbehave in its own name.
 * It is on the members' side and has the key. Its own state stays honest unless a test changes that, too.
 */
import assert from 'node:assert/strict';
import type { KeyObject } from 'node:crypto';
import { Client } from '../../examples/client.ts';
import type { Entry } from '../../examples/client.ts';
import type { RequestOptions } from '../../examples/client/bridge.ts';
import * as crypto from '../../examples/client/crypto.ts';
import type { Sealed } from '../../examples/client/crypto.ts';
import { CONTROL_KINDS, buildFrame } from '../../examples/client/message.ts';
import type { Headers } from '../../examples/client/message.ts';
import type { Peer } from '../../examples/client/peer.ts';

/** What is different from an honest message. */
export interface Changes {
  /** Other values for headers, or more headers; null leaves one out. */
  readonly headers?: Readonly<Record<string, string | null>>;
  readonly body?: string | Uint8Array;
  /** Whether it takes the next number, and is repeated if somebody lacks it. By default content with an honest `seq`. */
  readonly isCounted?: boolean;
  /** Fields of the additional data. */
  readonly channel?: string;
  readonly from?: string;
  readonly to?: string;
  readonly type?: 'card' | 'message';
  /** The sid and the key of the signature under a broadcast. */
  readonly sid?: string;
  readonly signer?: KeyObject;
  /** Another value of the header `signature`; undefined leaves it out, and a direct message may have one. */
  readonly signature?: (honest: string | undefined) => string | undefined;
  /** Another plaintext. */
  readonly frame?: (honest: Buffer) => Uint8Array;
  /** Instead of the broadcast key or the direct key. */
  readonly key?: Uint8Array;
  readonly sealed?: (honest: Sealed) => Sealed;
  /** The `to` of the request: a participant id or *. */
  readonly postTo?: string;
}

export interface Built {
  /** The `to` of the request. */
  readonly to: string;
  readonly seq: number | undefined;
  readonly headers: Headers;
  readonly frame: Buffer;
  readonly sealed: Sealed;
}

export class ExampleSession extends Client {
  private stopper: AbortController | undefined;
  private listening: Promise<void> | undefined;

  // ---- what it was told ----

  types(): Entry['type'][] {
    return this.entries.map(({ type }) => type);
  }

  entriesOf<T extends Entry['type']>(type: T): (Entry & { readonly type: T })[] {
    return this.entries.filter((entry): entry is Entry & { readonly type: T } => entry.type === type);
  }

  /** The texts that came, in order; of one sender if a name is given. */
  texts(name?: string): string[] {
    return this.entriesOf('message').flatMap((entry) => ((name ?? entry.name) === entry.name ? [entry.text] : []));
  }

  /** The message with this text. */
  message(text: string): Entry & { readonly type: 'message' } {
    const found = this.entriesOf('message').find((entry) => entry.text === text);
    return found ?? assert.fail(`no message ${JSON.stringify(text)}:\n${this.story()}`);
  }

  story(): string {
    const short = (_: string, value: unknown) => (Array.isArray(value) && value.length > 64 ? value.length : value);
    return this.entries.map((entry) => `  ${JSON.stringify(entry, short)}`).join('\n');
  }

  /** The newest session of a name, PAIRED or not. */
  peer(name: string): Peer {
    const found = this.directory.peers.findLast(({ label, card }) => label === name || card.name === name);
    return found ?? assert.fail(`${this.name} knows no ${name}`);
  }

  // ---- being there ----

  dm(to: string, text: string | Uint8Array): Promise<number> {
    return this.direct(to, text);
  }

  /** Polls until stop(), so that others see it listening. */
  start(): this {
    this.stopper ??= new AbortController();
    this.listening ??= this.listen(this.stopper.signal, 2);
    return this;
  }

  async stop(): Promise<void> {
    this.stopper?.abort();
    await this.listening;
    this.stopper = undefined;
    this.listening = undefined;
  }

  /** Polls until `find` gives something. Fails with what it was told when that takes too long. */
  async until<T>(find: (session: this) => T | undefined | false | null, timeoutMs = 15_000): Promise<T> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const found = find(this);
      if (found !== undefined && found !== false && found !== null) return found;
      if (Date.now() >= end) assert.fail(`${this.name} waited for too long; it was told:\n${this.story()}`);
      await this.poll(1);
    }
  }

  paired(name: string, timeoutMs?: number): Promise<Entry> {
    return this.until(() => this.entriesOf('paired').find((entry) => entry.name === name), timeoutMs);
  }

  /** The first text that has these words. */
  waitForOutput(words: string, timeoutMs?: number): Promise<string> {
    return this.until(() => this.texts().find((text) => text.includes(words)), timeoutMs);
  }

  /** Another process with the same keys, numbers and token, as a restored snapshot or a copied folder is one. */
  copy(): this {
    return deepCopy(this, new Map());
  }

  // ---- misbehaving ----

  /** A message to all (*) or to a session, which is honest but for the changes. Nothing is posted. */
  build(to: string, kind: string, changes: Changes = {}): Built {
    const peer = to === '*' ? undefined : this.peer(to);
    const isContent = !CONTROL_KINDS.includes(kind);
    const isCounted = changes.isCounted ?? (isContent && changes.headers?.['seq'] === undefined);
    const honest = isCounted ? this.numberedHeaders(peer) : this.stateHeaders(peer);
    const headers = withChanges({ kind, ...honest }, changes.headers);
    const { channel = this.channel, from = this.id, type = 'message' } = changes;
    const aad = crypto.additionalData(channel, from, changes.to ?? peer?.id ?? '*', type);
    const unsigned = buildFrame(headers, changes.body);
    const signer = changes.signer ?? this.session.ecdsa.private;
    const signed = crypto.signFrame(signer, changes.sid ?? this.session.sid, aad, unsigned);
    const honestSignature = peer === undefined ? signed : undefined;
    const signature = changes.signature === undefined ? honestSignature : changes.signature(honestSignature);
    const frame = buildFrame(headers, changes.body, signature);
    const plaintext = changes.frame?.(frame) ?? frame;
    const honestSealed = crypto.seal(changes.key ?? peer?.directKey ?? this.broadcastKey, aad, plaintext);
    const sealed = changes.sealed?.(honestSealed) ?? honestSealed;
    const seq = headers['seq'] === undefined ? undefined : Number(headers['seq']);
    if (isCounted && seq !== undefined) {
      this.outbox.add({ peer, seq, sealed, isDue: false, postedAt: this.now() }, this.directory.peers);
    }
    return { to: changes.postTo ?? peer?.id ?? '*', seq, headers, frame, sealed };
  }

  /** Builds such a message and posts it. Throws BridgeError. */
  async send(to: string, kind: string, changes: Changes = {}): Promise<Built> {
    const built = this.build(to, kind, changes);
    await this.post(built.to, built.sealed);
    return built;
  }

  /** Posts any sealed thing to a participant id or *. Throws BridgeError. */
  override post(to: string, sealed: Sealed): Promise<void> {
    return super.post(to, sealed);
  }

  /** Joins with a card of which some headers are others; null leaves one out. Throws BridgeError. */
  async presentCard(
    changes: Readonly<Record<string, string | null>>,
    { id = this.id, token = this.bridge.place.token, key = this.broadcastKey as Uint8Array } = {},
  ): Promise<void> {
    const frame = buildFrame(withChanges(this.session.card, changes));
    const card = crypto.seal(key, crypto.additionalData(this.channel, id, '*', 'card'), frame);
    const json = { participant_id: id, token, card };
    await this.request('POST', '/join', { bearer: this.bridge.place.access, json });
  }

  /** Any request to the channel with its token; `path` is below the channel. Throws BridgeError. */
  request(method: string, path: string, options: RequestOptions = {}): Promise<Readonly<Record<string, unknown>>> {
    return this.bridge.request(method, path, options);
  }
}

function withChanges(honest: Headers, changes: Changes['headers'] = {}): Headers {
  const all = Object.entries({ ...honest, ...changes });
  return Object.fromEntries(all.filter((entry): entry is [string, string] => entry[1] !== null));
}

// ---- a bridge that cannot be trusted ----

export type PollEvent = {
  readonly index: number;
  readonly type: string;
  readonly from: string;
  readonly to?: string;
} & Readonly<Record<string, unknown>>;
export interface PollResponse {
  epoch: string;
  cursor: number;
  events: PollEvent[];
}

/** A `fetch` through which polls come back changed. */
export function changingPolls(change: (response: PollResponse) => void): typeof fetch {
  return async (input, init) => {
    const response = await fetch(input, init);
    if (!String(input).includes('/poll?') || !response.ok) return response;
    const polled = (await response.json()) as PollResponse;
    change(polled);
    return Response.json(polled, { status: response.status });
  };
}

/** A `fetch` through which messages from a participant do not come as long as `isWithheld` says so. */
export function withholding(isWithheld: (event: PollEvent) => boolean): typeof fetch {
  return changingPolls((response) => {
    response.events = response.events.filter((event) => !isWithheld(event));
  });
}

// ---- copies ----

/** Copies objects, arrays, Maps and Sets. Keys, bytes, functions and promises are shared. */
function deepCopy<T>(value: T, copies: Map<unknown, unknown>): T {
  if (typeof value !== 'object' || value === null || isShared(value)) return value;
  const known = copies.get(value);
  if (known !== undefined) return known as T;
  if (Array.isArray(value)) {
    const array: unknown[] = [];
    copies.set(value, array);
    for (const each of value as unknown[]) array.push(deepCopy(each, copies));
    return array as T;
  }
  if (value instanceof Map) {
    const map = new Map<unknown, unknown>();
    copies.set(value, map);
    for (const [key, each] of value) map.set(deepCopy(key, copies), deepCopy(each, copies));
    return map as T;
  }
  if (value instanceof Set) {
    const set = new Set<unknown>();
    copies.set(value, set);
    for (const each of value) set.add(deepCopy(each, copies));
    return set as T;
  }
  const object = Object.create(Object.getPrototypeOf(value) as object) as Record<string, unknown>;
  copies.set(value, object);
  for (const [key, each] of Object.entries(value)) object[key] = deepCopy(each, copies);
  return object as T;
}

const isShared = (value: object): boolean =>
  ArrayBuffer.isView(value) || value instanceof Promise || value.constructor.name.endsWith('KeyObject');
