/**
 * A whole agentalk/1 client over fetch, for tests: it speaks with the bridge and with the shell client, and by what it
 * hands out (`aad`, `keyFor`, `numbered`, `sendFrame`, `post`, `request`) a test can misbehave in its name. It is on the
 * members' side: it has the key. It keeps everything in memory and waits for no repair longer than the test does.
 */
import * as protocol from '../../sdk/protocol.ts';
import { randomHex, toHex } from '../../sdk/bytes.ts';
import type { Bytes } from '../../sdk/bytes.ts';
import type { Card, Keys, Message, Sealed } from '../../sdk/protocol.ts';

/** What a client has seen happen, oldest first. `from` is a name, or an id where no name is known. */
export type Entry =
  | { readonly type: 'message'; readonly from: string; readonly to: 'all' | 'me'; readonly message: Message }
  | { readonly type: 'joined' | 'paired' | 'away' | 'back' | 'keys'; readonly from: string }
  | { readonly type: 'left'; readonly from: string; readonly reason: string }
  | { readonly type: 'refused'; readonly from: string; readonly reason: string }
  | { readonly type: 'gap'; readonly since: number; readonly until: number }
  | { readonly type: 'resumed' }
  | { readonly type: 'trouble'; readonly error: unknown };

/** The bridge said no. `code` is its word for it (docs/protocol.md, Errors). */
export class BridgeError extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, message: string) {
    super(`${status} ${code}: ${message}`);
    this.status = status;
    this.code = code;
  }
}

type Headers = Readonly<Record<string, string>>;
type BridgeEvent = { readonly index: number; readonly from: string } & (
  | {
      readonly type: 'message';
      readonly to: string;
      readonly nonce: string;
      readonly ciphertext: string;
      readonly tag: string;
    }
  | { readonly type: 'join'; readonly card: Sealed }
  | { readonly type: 'leave'; readonly reason: string }
  | { readonly type: 'away' | 'back' }
);
type Gap = { readonly type: 'gap'; readonly since: number; readonly until: number };
type Joined = {
  readonly epoch: string;
  readonly cursor: number;
  readonly index: number;
  readonly resumed: boolean;
  readonly participants: readonly {
    readonly participant_id: string;
    readonly card: Sealed;
    readonly listening: boolean;
  }[];
};
export type Recipient = { readonly participant_id: string; readonly listening: boolean; readonly seen_seconds: number };

/** One counter of a stream: all up to `upTo` is here, and what came before its turn. */
class Counter {
  upTo: number;
  readonly held = new Map<number, Held>();
  readonly digests = new Map<number, string>();
  /** Where `upTo` stood when we last asked for what is missing, and when: an ask, or its answer, may get lost, too. */
  askedAt = -1;
  askedMs = 0;
  constructor(upTo: number) {
    this.upTo = upTo;
  }
}
type Held = { readonly message: Message; readonly to: 'all' | 'me' };

class Stream {
  readonly broadcasts: Counter;
  readonly directs = new Counter(0);
  constructor(base: number) {
    this.broadcasts = new Counter(base);
  }
}

/** Somebody else, under one set of keys. */
class Peer {
  readonly id: string;
  readonly card: Card;
  readonly direct: CryptoKey;
  /** Was there before us: its broadcasts start for us where the first one that we are given does. */
  readonly isOlder: boolean;
  readonly streams = new Map<string, Stream>();
  stream: string | undefined;
  /** `lost` after a new epoch, until it is met again. */
  state: 'here' | 'lost' | 'gone' = 'here';
  isPaired = false;
  /** The challenge of our welcome. */
  challenge: string | undefined;
  constructor(id: string, card: Card, direct: CryptoKey, isOlder: boolean) {
    this.id = id;
    this.card = card;
    this.direct = direct;
    this.isOlder = isOlder;
  }
}

type Sent = { readonly to: string; readonly pub: string; readonly seq: number; readonly sealed: Sealed };

export interface Options {
  readonly kind?: 'agent' | 'human';
  /** Stands between the client and the bridge. */
  readonly fetch?: typeof fetch;
}

const LOST = ['no_channel', 'no_participant', 'other_epoch'];
/** As long as an answer to an ask may take, before the next message that shows the hole asks again. */
const ASK_AGAIN_MS = 3000;
/** Where a peer's stream is not known, `seen` has this: everything is asked for. */
const NO_STREAM = '0'.repeat(16);

export class ReferenceClient {
  /** Base URL of the bridge, no slash at its end. */
  readonly bridge: string;
  readonly k: string;
  readonly name: string;
  readonly kind: 'agent' | 'human';
  readonly token = randomHex(32);
  readonly stream = randomHex(8);
  /** What happened, oldest first. */
  readonly log: Entry[] = [];
  /** Newest last; one id has several if its keys changed. */
  readonly peers: Peer[] = [];
  readonly outbox: Sent[] = [];
  access = '';
  channel = '';
  id = '';
  epoch = '';
  cursor = 0;
  /** The event of our own joining. */
  index = 0;
  keys!: Keys;
  room!: CryptoKey;
  #card!: Sealed;
  readonly #fetch: typeof fetch;
  readonly #challenge = randomHex(16);
  /** Our last number: of broadcasts, and for each public key. */
  readonly #numbers = new Map<string, number>();
  #sending: Promise<unknown> = Promise.resolve();
  #rejoining: Promise<void> | undefined;
  #polling: { readonly stop: AbortController; readonly done: Promise<void> } | undefined;
  readonly #watchers = new Set<() => void>();

  private constructor(bridge: string, k: string, name: string, { kind = 'agent', fetch = globalThis.fetch }: Options) {
    this.bridge = bridge.replace(/\/$/, '');
    this.k = k;
    this.name = name;
    this.kind = kind;
    this.#fetch = fetch;
  }

  /** A new channel. Says no hello: whoever joins does. */
  static async create(bridge: string, name: string, options: Options = {}): Promise<ReferenceClient> {
    const client = new ReferenceClient(bridge, randomHex(32), name, options);
    await client.#prepare();
    await client.enter();
    return client;
  }

  /** Joins by the link, opening the channel again if it has ended, and says hello. */
  static async join(joinUrl: string, name: string, options: Options = {}): Promise<ReferenceClient> {
    const [, bridge = '', channel = '', k = ''] = /^(.*)\/c\/([0-9a-f]{32})#k=([0-9a-f]{64})$/.exec(joinUrl) ?? [];
    if (k === '') throw new TypeError('expected a join URL');
    const client = new ReferenceClient(bridge, k, name, options);
    await client.#prepare();
    if (client.channel !== channel) throw new TypeError('link and key don’t belong together');
    await client.enter();
    await client.#send(protocol.EVERYBODY, 'hello', { challenge: client.#challenge });
    return client;
  }

  get joinUrl(): string {
    return `${this.bridge}/c/${this.channel}#k=${this.k}`;
  }

  async #prepare(): Promise<void> {
    this.access = await protocol.accessOf(this.k);
    this.channel = await protocol.channelOf(this.access);
    this.id = await protocol.participantOf(this.k, this.name);
    this.room = await protocol.aesKey(protocol.roomPassphrase(this.k));
    this.keys = await protocol.makeKeys();
    const { pub, sign } = this.keys;
    const card = protocol.makeCard({ kind: this.kind, name: this.name, pub, sign });
    this.#card = await protocol.seal(this.room, this.aad(protocol.EVERYBODY, 'card'), card);
  }

  // ---- talking ----

  /** To everybody. Gives for each recipient whether it is listening. */
  say(body: string | Uint8Array, headers: Headers = {}): Promise<readonly Recipient[]> {
    return this.#send(protocol.EVERYBODY, 'text', headers, body);
  }

  /** To one, by name. */
  async dm(name: string, body: string | Uint8Array, headers: Headers = {}): Promise<readonly Recipient[]> {
    return this.#send(this.peer(name).id, 'text', headers, body);
  }

  /** Goodbye, and out. */
  async leave(): Promise<void> {
    await this.#send(protocol.EVERYBODY, 'bye', {});
    await this.stop();
    await this.request('POST', 'leave', { bearer: this.token, body: { participant_id: this.id, epoch: this.epoch } });
  }

  /** The newest set of keys under a name. Throws if nobody is called that. */
  peer(name: string): Peer {
    const peer = this.peers.findLast(({ card }) => card.name === name);
    if (!peer) throw new Error(`nobody is called ${name}`);
    return peer;
  }

  /** The texts that came, in order; of one sender if a name is given. */
  texts(name?: string): string[] {
    return this.log.flatMap((entry) =>
      entry.type === 'message' && entry.message.kind === 'text' && (name ?? entry.from) === entry.from
        ? [new TextDecoder().decode(entry.message.body)]
        : [],
    );
  }

  /** Numbers, seals, keeps and hands over a message; joins again where the bridge lost us. */
  #send(to: string, kind: string, more: Headers, body: string | Uint8Array = ''): Promise<readonly Recipient[]> {
    const bytes = typeof body === 'string' ? new TextEncoder().encode(body) : body;
    return this.#inTurn(async () => {
      const headers = this.numbered(to, kind, more);
      const sealed = await protocol.seal(this.keyFor(to), this.aad(to), await this.frame(to, headers, bytes));
      this.outbox.push({ to, pub: this.#keyName(to), seq: Number(headers['seq']), sealed });
      return this.#persistently(() => this.post(to, sealed));
    });
  }

  /** One after the other: numbers arrive in their order. */
  #inTurn<T>(send: () => Promise<T>): Promise<T> {
    const sending = this.#sending.then(send);
    this.#sending = sending.catch(() => undefined);
    return sending;
  }

  async #persistently<T>(request: () => Promise<T>): Promise<T> {
    const { epoch } = this;
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof BridgeError) || !LOST.includes(error.code)) throw error;
      // The poll and a message may both find out.
      if (this.epoch === epoch) await (this.#rejoining ??= this.rejoin().finally(() => (this.#rejoining = undefined)));
      return request();
    }
  }

  // ---- the parts of a message, each open to a test that wants another ----

  aad(to: string, type: 'card' | 'message' = 'message', from = this.id): Bytes {
    return protocol.additionalData(this.channel, from, to, type);
  }

  /** The room key, or the direct key of a participant id. */
  keyFor(to: string): CryptoKey {
    return to === protocol.EVERYBODY ? this.room : this.#peerWith(to).direct;
  }

  /** Takes the next number and gives the headers of a message. Those of `more` win. */
  numbered(to: string, kind: string, more: Headers = {}): Headers {
    const pub = this.#keyName(to);
    const seq = (this.#numbers.get(pub) ?? 0) + 1;
    this.#numbers.set(pub, seq);
    const seen = this.#seen(to);
    return {
      kind,
      stream: this.stream,
      seq: String(seq),
      time: String(Date.now()),
      ...(to === protocol.EVERYBODY ? {} : { after: String(this.#numbers.get(protocol.EVERYBODY) ?? 0) }),
      ...(seen === '' ? {} : { seen }),
      ...more,
    };
  }

  /** The frame, signed if it goes to everybody. */
  async frame(to: string, headers: Headers, body: Uint8Array = new Uint8Array()): Promise<Bytes> {
    if (to !== protocol.EVERYBODY) return protocol.makeFrame(headers, body);
    return protocol.signFrame(this.keys.ecdsa, this.aad(to), headers, body);
  }

  /** Seals any bytes for `to` and posts them, as they are. */
  async sendFrame(to: string, frame: Bytes): Promise<readonly Recipient[]> {
    return this.post(to, await protocol.seal(this.keyFor(to), this.aad(to), frame));
  }

  /** Posts any sealed thing. Throws BridgeError. */
  async post(to: string, sealed: Sealed): Promise<readonly Recipient[]> {
    const body = { participant_id: this.id, to, ...sealed, epoch: this.epoch, since: this.cursor };
    const { recipients } = await this.request<{ recipients: Recipient[] }>('POST', 'send', {
      bearer: this.token,
      body,
    });
    return recipients;
  }

  /** Any request to the channel; `action` is `join`, `send?…`, or empty for the channel itself. Throws BridgeError. */
  async request<T>(
    method: string,
    action: string,
    { bearer, body, signal }: { bearer?: string; body?: unknown; signal?: AbortSignal } = {},
  ): Promise<T> {
    const separator = action === '' || action.startsWith('?') ? '' : '/';
    const response = await this.#fetch(`${this.bridge}/channels/${this.channel}${separator}${action}`, {
      method,
      headers: {
        ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    });
    const answer = (await response.json()) as T & { error?: { code: string; message: string } };
    if (answer.error) throw new BridgeError(response.status, answer.error.code, answer.error.message);
    return answer;
  }

  // ---- being there ----

  /** Creates the channel or finds it, and joins it. */
  async enter(): Promise<Joined> {
    await this.request('PUT', '', { bearer: this.access });
    const body = { participant_id: this.id, token: this.token, card: this.#card };
    const joined = await this.request<Joined>('POST', 'join', { bearer: this.access, body });
    [this.epoch, this.cursor, this.index] = [joined.epoch, joined.cursor, joined.index];
    for (const { participant_id, card } of joined.participants) {
      if (participant_id !== this.id) await this.#meet(participant_id, card, true);
    }
    return joined;
  }

  /** After the bridge lost us: the same channel, name and token again. Who is met again is told what we have of it. */
  async rejoin(): Promise<void> {
    for (const peer of this.peers) if (peer.state === 'here') peer.state = 'lost';
    await this.enter();
    this.#note({ type: 'resumed' });
  }

  /** One poll, and what came of it, answers of ours too. `wait` is in seconds. Joins again where the bridge lost us. */
  async poll(wait = 0, signal?: AbortSignal): Promise<void> {
    const answer = await this.#persistently(() =>
      this.request<{ epoch: string; cursor: number; events: (BridgeEvent | Gap)[] }>(
        'GET',
        `poll?participant_id=${this.id}&since=${this.cursor}&wait=${wait}&epoch=${this.epoch}`,
        { bearer: this.token, ...(signal ? { signal } : {}) },
      ),
    );
    // A message found out meanwhile that the epoch is another: this cursor means nothing there.
    if (answer.epoch !== this.epoch) return;
    this.cursor = answer.cursor;
    for (const event of answer.events) await this.#take(event);
    await this.#sending;
  }

  /** Polls until stop() or leave(), so that others see us listening. */
  start(): this {
    if (this.#polling) return this;
    const stop = new AbortController();
    const run = async () => {
      while (!stop.signal.aborted) {
        try {
          await this.poll(20, stop.signal);
        } catch (error) {
          if (stop.signal.aborted) return;
          this.#note({ type: 'trouble', error });
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
      }
    };
    this.#polling = { stop, done: run() };
    return this;
  }

  async stop(): Promise<void> {
    this.#polling?.stop.abort();
    await this.#polling?.done;
    this.#polling = undefined;
  }

  /**
   * Waits, polling if start() doesn't do so, until `find` gives something. Throws with the log when it takes too long.
   */
  async until<T>(find: (client: this) => T | undefined | false | null, timeoutMs = 15_000): Promise<T> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const found = find(this);
      if (found !== undefined && found !== false && found !== null) return found;
      const leftMs = end - Date.now();
      if (leftMs <= 0) throw new Error(`${this.name} waited in vain; it saw:\n${this.story()}`);
      if (this.#polling) await this.#change(leftMs);
      else await this.poll(Math.min(5, Math.ceil(leftMs / 1000)), AbortSignal.timeout(leftMs + 5000));
    }
  }

  paired(name: string, timeoutMs?: number): Promise<Entry> {
    return this.until(({ log }) => log.find((entry) => entry.type === 'paired' && entry.from === name), timeoutMs);
  }

  /** The first text that has these words. */
  hears(words: string, timeoutMs?: number): Promise<string> {
    return this.until((client) => client.texts().find((text) => text.includes(words)), timeoutMs);
  }

  /** The log for people. */
  story(): string {
    return this.log
      .map((entry) => {
        if (entry.type !== 'message') return `  ${JSON.stringify(entry)}`;
        const { kind, seq, body } = entry.message;
        return `  ${entry.from} to ${entry.to}, ${kind} ${seq}: ${JSON.stringify(Buffer.from(body).toString().slice(0, 80))}`;
      })
      .join('\n');
  }

  #note(entry: Entry): void {
    this.log.push(entry);
    for (const watcher of this.#watchers) watcher();
  }

  #change(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#watchers.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      this.#watchers.add(done);
    });
  }

  // ---- receiving ----

  async #take(event: BridgeEvent | Gap): Promise<void> {
    if (event.type === 'gap') {
      this.#note(event);
      for (const peer of this.peers) if (peer.state === 'here') this.#ask(peer);
      return;
    }
    if (event.type === 'message') return this.#open(event.from, event.to, event);
    if (event.type === 'join') {
      await this.#meet(event.from, event.card, event.index < this.index);
      return;
    }
    const peer = this.peers.findLast(({ id }) => id === event.from);
    const from = peer?.card.name ?? event.from;
    if (event.type === 'leave') {
      if (peer) peer.state = 'gone';
      this.#note({ type: 'left', from, reason: event.reason });
    } else this.#note({ type: event.type, from });
  }

  /** A card; keys are pinned when first seen. */
  async #meet(id: string, sealed: Sealed, isOlder: boolean): Promise<void> {
    const card = await protocol.openCard(this.k, this.room, this.channel, id, sealed);
    if (!card.ok) return this.#note({ type: 'refused', from: id, reason: card.reason });
    const { name, pub, sign } = card.value;
    const known = this.peers.filter((peer) => peer.id === id);
    const same = known.find((peer) => peer.card.pub === pub && peer.card.sign === sign);
    if (same) {
      if (same.state === 'lost') this.#ask(same);
      if (same.state !== 'here') this.#note({ type: same.state === 'lost' ? 'back' : 'joined', from: name });
      same.state = 'here';
      return;
    }
    const direct = await protocol.directKey(this.k, this.keys.ecdh, pub);
    if (!direct.ok) return this.#note({ type: 'refused', from: name, reason: direct.reason });
    if (known.length > 0) this.#note({ type: 'keys', from: name });
    this.peers.push(new Peer(id, card.value, direct.value, isOlder));
    this.#note({ type: 'joined', from: name });
  }

  async #open(from: string, to: string, sealed: Sealed): Promise<void> {
    const isDirect = to !== protocol.EVERYBODY;
    let reason = 'unknown-sender';
    for (const peer of this.peers.filter(({ id }) => id === from).reverse()) {
      const key = isDirect ? peer.direct : this.room;
      const sign = isDirect ? undefined : peer.card.sign;
      const message = await protocol.openMessage(key, this.aad(to, 'message', from), sealed, sign);
      if (message.ok) return this.#number(peer, isDirect, message.value);
      reason = message.reason;
    }
    const name = this.peers.findLast(({ id }) => id === from)?.card.name;
    this.#note({ type: 'refused', from: name ?? from, reason });
  }

  /** Each number once and in its order; what is missing is asked for. */
  async #number(peer: Peer, isDirect: boolean, message: Message): Promise<void> {
    let stream = peer.streams.get(message.stream);
    if (!stream) {
      const base = isDirect ? (message.after ?? 0) : message.seq - 1;
      stream = new Stream(peer.isOlder && peer.streams.size === 0 ? base : 0);
      peer.streams.set(message.stream, stream);
    }
    peer.stream = message.stream;
    const counter = isDirect ? stream.directs : stream.broadcasts;
    const digest = toHex(new Uint8Array(await crypto.subtle.digest('SHA-256', message.unsigned)));
    const known = counter.digests.get(message.seq);
    if (known !== undefined || message.seq <= counter.upTo) {
      if ((known ?? digest) === digest) return;
      return this.#note({ type: 'refused', from: peer.card.name, reason: 'two-with-one-number' });
    }
    counter.digests.set(message.seq, digest);
    counter.held.set(message.seq, { message, to: isDirect ? 'me' : 'all' });
    const { broadcasts, directs } = stream;
    for (let next: Held | undefined; (next = nextOf(broadcasts) ?? nextOf(directs, broadcasts.upTo));) {
      const { seq } = next.message;
      const from = next.to === 'me' ? directs : broadcasts;
      from.upTo = seq;
      from.held.delete(seq);
      this.#act(peer, next);
    }
    const isAsked = counter.askedAt === counter.upTo && Date.now() - counter.askedMs < ASK_AGAIN_MS;
    if (counter.held.size === 0 || isAsked) return;
    counter.askedAt = counter.upTo;
    counter.askedMs = Date.now();
    this.#ask(peer);
  }

  #act(peer: Peer, { message, to }: Held): void {
    const [from, answer] = [peer.card.name, message.headers.get('answer')];
    const challenge = message.headers.get('challenge');
    this.#note({ type: 'message', from, to, message });
    const pair = () => {
      if (!peer.isPaired) this.#note({ type: 'paired', from });
      peer.isPaired = true;
    };
    if (message.kind === 'hello' && to === 'all' && challenge) {
      peer.challenge ??= randomHex(16);
      this.#signal(peer, 'welcome', { answer: challenge, challenge: peer.challenge });
    } else if (message.kind === 'welcome' && to === 'me' && answer === this.#challenge) {
      pair();
      if (challenge) this.#signal(peer, 'ready', { answer: challenge });
    } else if (message.kind === 'ready' && to === 'me' && answer !== undefined && answer === peer.challenge) {
      pair();
    } else if (message.kind === 'bye') {
      peer.state = 'gone';
    } else if (message.kind === 'seen' && to === 'me') this.#sendAgain(peer, message);
  }

  // ---- repair ----

  /** What we have of a recipient's stream, or of those of everybody. */
  #seen(to: string): string {
    const isDirect = to !== protocol.EVERYBODY;
    const marks = (isDirect ? [this.#peerWith(to)] : this.peers).flatMap(({ stream = '', streams }) => {
      const heard = streams.get(stream);
      return heard ? [`${stream} ${heard.broadcasts.upTo}${isDirect ? ` ${heard.directs.upTo}` : ''}`] : [];
    });
    return marks.slice(-16).join();
  }

  /** Asks for what lies above what we have. */
  #ask(peer: Peer): void {
    this.#signal(peer, 'seen', peer.stream === undefined ? { seen: `${NO_STREAM} 0 0` } : {});
  }

  #sendAgain(peer: Peer, { seen: [marks] }: Message): void {
    if (!marks || ![this.stream, NO_STREAM].includes(marks.stream)) return;
    const lacking = this.outbox.filter(({ to, pub, seq }) =>
      to === protocol.EVERYBODY ? seq > marks.broadcasts : pub === peer.card.pub && seq > (marks.directs ?? 0),
    );
    this.#inTurn(async () => {
      for (const { to, sealed } of lacking) await this.post(to, sealed);
    }).catch(this.#trouble);
  }

  /** A message that nobody waits for: its recipient may have gone meanwhile. */
  #signal(peer: Peer, kind: string, headers: Headers): void {
    this.#send(peer.id, kind, headers).catch(this.#trouble);
  }

  readonly #trouble = (error: unknown): void => this.#note({ type: 'trouble', error });

  #peerWith(id: string): Peer {
    const peer = this.peers.findLast((peer) => peer.id === id);
    if (!peer) throw new Error(`no participant ${id}`);
    return peer;
  }

  #keyName(to: string): string {
    return to === protocol.EVERYBODY ? to : this.#peerWith(to).card.pub;
  }
}

/** What is next in line; a direct message waits for the broadcasts that its sender sent before it. */
function nextOf({ upTo, held }: Counter, broadcasts = Infinity): Held | undefined {
  const next = held.get(upTo + 1);
  return next && (next.message.after ?? 0) <= broadcasts ? next : undefined;
}
