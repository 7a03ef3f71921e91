/**
 * A member of a channel that a test controls down to each field: by default it behaves (its messages are as
 * docs/protocol.md wants them, it answers each sync), and every header, key, place and number can be changed for one
 * message. It talks to the bridge directly. Built on sdk/protocol.ts, which tests/vectors checks.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import * as protocol from '../../../sdk/protocol.ts';
import { asBytes, concat, randomHex, rawToDer, toBase64, utf8Decode, utf8Encode } from '../../../sdk/encoding.ts';
import type { Bytes } from '../../../sdk/encoding.ts';
import { until } from '../../lib/shell.ts';

const { BROADCAST } = protocol;
const subtle = globalThis.crypto.subtle;

/** What a client knows of another session, and how far each has come with the other. */
export interface Peer extends protocol.Session {
  readonly direct: CryptoKey;
  /** Our first broadcast that we repeat for it. */
  readonly first: number;
  /** Our direct messages to it. */
  directs: number;
  /** Its broadcasts and direct messages that came without a gap, and those that came beyond one. */
  readonly came: { broadcasts: number; directs: number };
  readonly waiting: { readonly broadcasts: Set<number>; readonly directs: Set<number> };
  /** Has it named the first that it repeats for us? */
  hasBase: boolean;
  isPaired: boolean;
}

export interface Heard {
  readonly from: string;
  readonly isDirect: boolean;
  readonly message: protocol.Message;
  readonly text: string;
}

/** A content message as it went out. `to` is * or a sid. */
export interface Sent {
  readonly to: string;
  readonly seq: number;
  readonly sealed: protocol.Sealed;
  readonly frame: Bytes;
}

/** Changes to the headers that a message would have; null leaves one out. */
export type Changes = Readonly<Record<string, string | null>>;

export interface SendOptions {
  readonly headers?: Changes;
  readonly body?: string | Uint8Array;
  /** Does the message take its number, so that the next one has the next? True for content whose `seq` is not changed. */
  readonly isCounted?: boolean;
  /** The sid over which a broadcast is signed, the key that signs it, and the `from` and `type` of its AAD. */
  readonly sid?: string;
  readonly signer?: CryptoKey;
  readonly from?: string;
  readonly type?: 'card' | 'message';
  /** Instead of the broadcast key or the direct key. */
  readonly key?: CryptoKey;
  /** Changes the signature line's value. */
  readonly signature?: (value: string) => string;
}

export interface MemberOptions {
  readonly kind?: 'agent' | 'human';
  /** What its card says instead of the truth. */
  readonly card?: Partial<protocol.Card>;
  /** Joins under this participant id. */
  readonly id?: string;
  readonly token?: string;
}

type Json = Readonly<Record<string, unknown>>;
interface Event {
  readonly index: number;
  readonly type: string;
  readonly from: string;
  readonly to: string;
  readonly card: protocol.Sealed;
  readonly nonce: string;
  readonly ciphertext: string;
  readonly tag: string;
}

export const sha256Hex = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex');
const asBody = (body: string | Uint8Array): Uint8Array => (typeof body === 'string' ? utf8Encode(body) : body);

/** Header lines as they are, valid or not. */
export const rawFrame = (headers: readonly (readonly [string, string])[], body: string | Uint8Array = ''): Bytes =>
  concat(utf8Encode(headers.map(([name, value]) => `${name}: ${value}\n`).join('')), utf8Encode('\n'), asBody(body));

export class Member {
  readonly bridge: string;
  readonly name: string;
  readonly channelKey: string;
  readonly access: string;
  readonly channelId: string;
  readonly id: string;
  readonly token: string;
  readonly keys: protocol.Keys;
  readonly sid: string;
  readonly broadcastKey: CryptoKey;
  readonly card: protocol.Sealed;
  readonly peers: Peer[] = [];
  readonly heard: Heard[] = [];
  readonly outbox: Sent[] = [];
  broadcasts = 0;
  epoch = '';
  #cursor = 0;
  #isStopped = false;
  #abort = new AbortController();
  #loop: Promise<void> = Promise.resolve();
  /** No answer to a sync, and nothing to those who come. */
  isSilent = false;

  private constructor(fields: Pick<Member, MemberFields>) {
    this.bridge = fields.bridge;
    this.name = fields.name;
    this.channelKey = fields.channelKey;
    this.access = fields.access;
    this.channelId = fields.channelId;
    this.id = fields.id;
    this.token = fields.token;
    this.keys = fields.keys;
    this.sid = fields.sid;
    this.broadcastKey = fields.broadcastKey;
    this.card = fields.card;
  }

  /** Opens a channel, joins it and listens. */
  static create(bridge: string, name: string, options: MemberOptions = {}): Promise<Member> {
    return Member.enter(bridge, randomHex(32), name, options);
  }

  /** Joins the channel of another member, and listens. */
  static join(other: Member, name: string, options: MemberOptions = {}): Promise<Member> {
    return Member.enter(other.bridge, other.channelKey, name, options);
  }

  static async enter(
    bridge: string,
    channelKey: string,
    name: string,
    { kind = 'agent', card, id, token = randomHex(32) }: MemberOptions,
  ): Promise<Member> {
    const keys = await protocol.makeKeys(true);
    const access = await protocol.deriveAccessToken(channelKey);
    const channelId = await protocol.deriveChannelId(access);
    const ownId = id ?? (await protocol.deriveParticipantId(channelKey, name));
    const said: protocol.Card = { kind, name, pub: keys.pub, sign: keys.sign, ...card };
    const broadcastKey = await protocol.aesKey(protocol.broadcastPassphrase(channelKey));
    const aad = protocol.additionalData(channelId, ownId, BROADCAST, 'card');
    const sealed = await protocol.seal(broadcastKey, aad, rawFrame(Object.entries(said)));
    const sid = await protocol.deriveSessionId(channelKey, said);
    const base = { bridge, name, channelKey, access, channelId, token, keys, broadcastKey };
    const member = new Member({ ...base, id: ownId, sid, card: sealed });
    await member.#join();
    member.#loop = member.#poll();
    return member;
  }

  get joinUrl(): string {
    return `${this.bridge}/c/${this.channelId}#k=${this.channelKey}`;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#abort.abort();
    await this.#loop;
  }

  // ---- saying things ----

  /** A text to all, or to the newest session of this name. */
  say(text: string, options: SendOptions = {}): Promise<Sent> {
    return this.send(BROADCAST, 'text', { ...options, body: text });
  }
  dm(name: string, text: string, options: SendOptions = {}): Promise<Sent> {
    return this.send(this.peer(name), 'text', { ...options, body: text });
  }
  control(name: string, kind: string, options: SendOptions = {}): Promise<Sent> {
    return this.send(this.peer(name), kind, {
      isCounted: false,
      ...options,
      headers: { seq: null, ...options.headers },
    });
  }

  /** Seals a message to all or to a session, and posts it. */
  async send(to: Peer | typeof BROADCAST, kind: string, options: SendOptions = {}): Promise<Sent> {
    const sent = await this.sealMessage(to, kind, options);
    await this.post(to === BROADCAST ? BROADCAST : to.participantId, sent.sealed);
    return sent;
  }

  async sealMessage(to: Peer | typeof BROADCAST, kind: string, options: SendOptions = {}): Promise<Sent> {
    const seq = (to === BROADCAST ? this.broadcasts : to.directs) + 1;
    if (options.isCounted ?? options.headers?.['seq'] === undefined) {
      if (to === BROADCAST) this.broadcasts = seq;
      else to.directs = seq;
    }
    const headers = Object.entries({ ...this.#headersFor(to, kind, seq), ...options.headers }).filter(
      (header): header is [string, string] => header[1] !== null,
    );
    const frame = await this.frame(to, headers, options.body ?? '', options);
    const sealed = await this.seal(to, frame, options);
    const sent = { to: to === BROADCAST ? BROADCAST : to.sid, seq, sealed, frame };
    this.outbox.push(sent);
    return sent;
  }

  /** The bytes of a frame; one to all is signed. */
  async frame(
    to: Peer | typeof BROADCAST,
    headers: readonly (readonly [string, string])[],
    body: string | Uint8Array,
    { sid = this.sid, signer = this.keys.ecdsa, signature = (value) => value, from, type }: SendOptions = {},
  ): Promise<Bytes> {
    const unsigned = rawFrame(headers, body);
    if (to !== BROADCAST) return unsigned;
    const signed = concat(this.aad(BROADCAST, type, from), utf8Encode(`\n${sid}\n\n`), unsigned);
    const raw = asBytes(await subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, signer, signed));
    return rawFrame([...headers, ['signature', signature(toBase64(rawToDer(raw)))]], body);
  }

  seal(to: Peer | typeof BROADCAST, frame: Bytes, { key, from, type }: SendOptions = {}): Promise<protocol.Sealed> {
    const own = to === BROADCAST ? this.broadcastKey : to.direct;
    return protocol.seal(key ?? own, this.aad(to === BROADCAST ? BROADCAST : to.participantId, type, from), frame);
  }

  aad(to: string, type: 'card' | 'message' = 'message', from = this.id): Bytes {
    return protocol.additionalData(this.channelId, from, to, type);
  }

  /** The headers of a message, before any change. */
  #headersFor(to: Peer | typeof BROADCAST, kind: string, seq: number): Record<string, string> {
    const seen = this.peers
      .filter(({ sid, came }) => came.broadcasts > 0 && (to === BROADCAST || sid !== to.sid))
      .slice(-protocol.MAX_SEEN)
      .map(({ sid, came }) => `${sid.slice(0, 16)} ${came.broadcasts} 0`);
    const isControl = protocol.CONTROL_KINDS.includes(kind);
    return {
      kind,
      seq: String(seq),
      time: String(Date.now()),
      ...(to === BROADCAST
        ? {}
        : {
            sent: `${to.first} ${this.broadcasts} ${to.directs}`,
            received: `${to.came.broadcasts} ${to.came.directs} 0`,
          }),
      ...(seen.length > 0 && !isControl ? { seen: seen.join(',') } : {}),
    };
  }

  // ---- what came ----

  /** The newest session of a name. */
  peer(name: string): Peer {
    return this.peers.findLast((peer) => peer.name === name) ?? assert.fail(`${this.name} knows no ${name}`);
  }

  texts(from?: string): string[] {
    const said = this.heard.filter((each) => each.message.kind === 'text' && (from ?? each.from) === each.from);
    return said.map(({ text }) => text);
  }

  async waitForOutput(text: string): Promise<void> {
    await until(`${this.name} hears ${text}`, () => this.texts().includes(text));
  }

  async paired(name: string): Promise<void> {
    await until(`${this.name} pairs with ${name}`, () =>
      this.peers.some((peer) => peer.name === name && peer.isPaired),
    );
  }

  /** The control messages that came. */
  controls(kind: string, from?: string): protocol.Message[] {
    const all = this.heard.filter(({ message }) => message.kind === kind);
    return all.filter((each) => (from ?? each.from) === each.from).map(({ message }) => message);
  }

  // ---- the bridge ----

  async request(
    method: string,
    path: string,
    body?: Json | Uint8Array,
    credential = this.token,
  ): Promise<{ readonly status: number; readonly json: Json }> {
    const isBytes = body instanceof Uint8Array;
    const response = await fetch(`${this.bridge}/channels/${this.channelId}${path}`, {
      method,
      headers: {
        Authorization: `Bearer ${credential}`,
        'Content-Type': isBytes ? 'application/octet-stream' : 'application/json',
      },
      ...(body === undefined ? {} : { body: isBytes ? Buffer.from(body) : JSON.stringify(body) }),
      signal: this.#abort.signal,
    });
    return { status: response.status, json: (await response.json()) as Json };
  }

  /** Posts what is sealed; gives its index. */
  async post(to: string, sealed: protocol.Sealed): Promise<number> {
    const { status, json } = await this.request('POST', '/send', { participant_id: this.id, to, ...sealed });
    assert.equal(status, 200, JSON.stringify(json));
    return Number(json['index']);
  }

  /** Presents another card, of the same participant. */
  async present(card: protocol.Sealed): Promise<void> {
    const body = { participant_id: this.id, token: this.token, card };
    const { status, json } = await this.request('POST', '/join', body, this.access);
    assert.equal(status, 200, JSON.stringify(json));
  }

  /** Seals any frame as a card. */
  sealCard(frame: Bytes, from = this.id): Promise<protocol.Sealed> {
    return protocol.seal(this.broadcastKey, this.aad(BROADCAST, 'card', from), frame);
  }

  async leave(isSaid = true): Promise<void> {
    if (isSaid)
      for (const peer of this.peers) await this.send(peer, 'bye', { isCounted: false, headers: { seq: null } });
    await this.request('POST', '/leave', { participant_id: this.id });
    await this.stop();
  }

  async #join(): Promise<void> {
    await this.request('PUT', '', undefined, this.access);
    const body = { participant_id: this.id, token: this.token, card: this.card };
    const { status, json } = await this.request('POST', '/join', body, this.access);
    assert.equal(status, 200, JSON.stringify(json));
    this.epoch = String(json['epoch']);
    this.#cursor = Number(json['cursor']);
    for (const { participant_id, card } of json['participants'] as {
      participant_id: string;
      card: protocol.Sealed;
    }[]) {
      const peer = await this.#meet(participant_id, card);
      if (peer) await this.send(peer, 'sync', { isCounted: false, headers: { seq: null } });
    }
  }

  async #poll(): Promise<void> {
    while (!this.#isStopped) {
      try {
        const query = `participant_id=${this.id}&since=${this.#cursor}&wait=30&epoch=${this.epoch}`;
        const { status, json } = await this.request('GET', `/poll?${query}`);
        if (status !== 200) throw new Error(JSON.stringify(json));
        for (const event of json['events'] as Event[]) await this.#take(event);
        this.#cursor = Number(json['cursor']);
      } catch (error) {
        if (this.#isStopped) return;
        if (!/fetch failed|no_channel|no_participant|other_epoch/.test(String(error))) throw error;
        await this.#join().catch(() => new Promise((resolve) => setTimeout(resolve, 100)));
      }
    }
  }

  async #take(event: Event): Promise<void> {
    if (event.type === 'join') await this.#meet(event.from, event.card);
    if (event.type !== 'message') return;
    const isDirect = event.to !== BROADCAST;
    const aad = this.aad(event.to, 'message', event.from);
    const sessions = this.peers.filter(({ participantId }) => participantId === event.from).reverse();
    const proved = isDirect
      ? await protocol.proveDirect(aad, event, sessions)
      : await protocol.proveBroadcast(this.broadcastKey, aad, event, sessions);
    if (!proved.ok) return;
    const { session } = proved.value;
    const frame = 'ok' in proved.value.frame ? proved.value.frame : ({ ok: true, value: proved.value.frame } as const);
    if (isDirect) session.isPaired = true;
    if (!frame.ok) return;
    const message = protocol.checkMessage(frame.value, isDirect);
    if (!message.ok) return;
    const { seq } = message.value;
    const scope = isDirect ? 'directs' : 'broadcasts';
    if (message.value.sent && !session.hasBase) {
      session.hasBase = true;
      session.came.broadcasts = Math.max(session.came.broadcasts, message.value.sent.first - 1);
    }
    if (seq !== undefined) {
      if (seq <= session.came[scope] || session.waiting[scope].has(seq)) return;
      session.waiting[scope].add(seq);
      if (!isDirect && !session.hasBase && session.came.broadcasts === 0) session.came.broadcasts = seq - 1;
      while (session.waiting[scope].delete(session.came[scope] + 1)) session.came[scope]++;
    }
    const text = utf8Decode(message.value.body) ?? '';
    this.heard.push({ from: session.name, isDirect, message: message.value, text });
    if (message.value.kind === 'sync' && !this.isSilent)
      await this.send(session, 'ack', { isCounted: false, headers: { seq: null } });
  }

  async #meet(from: string, card: protocol.Sealed): Promise<Peer | undefined> {
    const session = await protocol.unsealCard(this.channelKey, this.broadcastKey, this.channelId, from, this.id, card);
    if (!session.ok) return undefined;
    const known = this.peers.find(({ sid }) => sid === session.value.sid);
    if (known) return known;
    const direct = await this.directKeyTo(session.value);
    const peer: Peer = {
      ...session.value,
      direct,
      first: this.broadcasts + 1,
      directs: 0,
      came: { broadcasts: 0, directs: 0 },
      waiting: { broadcasts: new Set(), directs: new Set() },
      hasBase: false,
      isPaired: false,
    };
    this.peers.push(peer);
    return peer;
  }

  /** The direct key with a session, as if this one had that sid. */
  async directKeyTo(session: protocol.Session, ownSid = this.sid): Promise<CryptoKey> {
    const key = await protocol.directKey(this.channelKey, this.keys.ecdh, ownSid, session.sid, session.pub);
    return key.ok ? key.value : assert.fail(key.reason);
  }
}

type MemberFields =
  'bridge' | 'name' | 'channelKey' | 'access' | 'channelId' | 'id' | 'token' | 'keys' | 'sid' | 'broadcastKey' | 'card';
