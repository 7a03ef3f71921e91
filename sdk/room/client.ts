/**
 * A person's end of a channel: the protocol of docs/protocol.md in a browser, with WebCrypto. It stands on the members'
 * side and holds the key, names and plaintext. It knows no page: what happens becomes entries of a transcript, and a
 * view shows them.
 *
 * Sending is: number, seal, keep, hand over until the bridge has it. Receiving is: open, check, number, act, and keep
 * where we stand. What is kept survives a reload of the tab (kept.ts).
 */
import { concat, isHex, randomHex, toHex } from '../bytes.ts';
import type { Bytes } from '../bytes.ts';
import * as protocol from '../protocol.ts';
import { EVERYBODY } from '../protocol.ts';
import type { Keys, Message, Sealed } from '../protocol.ts';
import { Kept, exportKeys, importKeys, pack, unpack } from './kept.ts';
import type { KeptKeys } from './kept.ts';
import { Peer, Stream, keepPeer, restorePeer } from './peers.ts';
import type { KeptPeer, To } from './peers.ts';
import { Refused, Wire } from './wire.ts';
import type { Batch, Event, Participant } from './wire.ts';

/** A line of the transcript. `name` is the one whom it is about; it is a peer's own text, like `text` and `file`. */
export type Entry = {
  readonly n: number;
  /** Unix ms by our own clock. */
  readonly at: number;
  readonly what:
    | 'text'
    | 'file'
    | 'joined'
    | 'paired'
    | 'left'
    | 'away'
    | 'back'
    | 'keys'
    | 'tampered'
    | 'missed'
    | 'gap'
    | 'resumed'
    | 'unsent';
  readonly name: string;
  readonly isMine?: boolean;
  /** Whom of us a direct message is for: our name in theirs, theirs in ours. */
  readonly to?: string;
  readonly text?: string;
  readonly file?: { readonly name: string; readonly size: number; readonly bytes?: string };
  /** Why, or how many. */
  readonly words?: string;
  readonly isLate?: boolean;
  readonly hasNewKeys?: boolean;
  /** Of our own: the numbers in the outbox, from and to. */
  readonly out?: readonly [number, number];
};

/** One message of ours, sealed once and for all. Without a box it is too old to be sent again. */
type Sent = { readonly to: string; readonly pub: string; readonly seq: number; readonly all: number; box?: Sealed };
type Me = { readonly name: string; readonly isWatching: boolean; token: string; stream: string; challenge: string };
type Where = { epoch: string; cursor: number; high: number; born: string; bornAt: number; sent: number };
type Parts = { n: number; have: Map<number, Bytes>; bytes: number };
type Headers = Readonly<Record<string, string>>;

export type Link = 'joining' | 'online' | 'offline' | 'left' | 'refused';
export type Receipt = { readonly name: string; readonly how: 'has' | 'fetched' | 'not yet' };

const LOST = ['no_channel', 'no_participant', 'other_epoch'];
const FATAL = ['bad_token', 'wrong_key', 'name_taken'];
/** What another try can't mend: an empty message takes its number, so that nobody waits for it. */
const FOR_GOOD = ['bad_request', 'too_large', 'nonce_reused', 'trimmed'];
/** Where a peer's stream is not known, `seen` has this: everything is asked for. */
const NO_STREAM = '0'.repeat(16);
const POLL_SECONDS = 25;
const HOLE_MS = 60_000;
const RECEIPT_MS = 4000;
export const MAX_FILE_BYTES = 10 * 1024 * 1024;
const MAX_PARTS = 4096;
const MAX_PENDING_BYTES = 64 * 1024 * 1024;
const MAX_OUTBOX_CHARACTERS = 64 * 1024 * 1024;
const MAX_HELD = 2000;
const MAX_STREAMS = 8;
const KEPT_FILE_BYTES = 256 * 1024;
/** How long after the tab is gone the room is left: a reload is back by then. */
export const GRACE_SECONDS = 20;

const pause = (ms: number, signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => resolve(clearTimeout(timer)), { once: true });
  });
const sha256 = async (bytes: Bytes) => toHex(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)));

export class Room {
  readonly entries: Entry[] = [];
  readonly peers: Peer[] = [];
  link: Link = 'joining';
  /** Why it is refused. */
  reason = '';
  maxBytes = 65_536;
  /** Called when anything changed. */
  onChange: () => void = () => {};
  readonly #wire: Wire;
  readonly #kept: Kept;
  readonly #outbox: Sent[] = [];
  /** The event of a message in the outbox, in this epoch. */
  readonly #indices = new Map<number, number>();
  readonly #parts = new Map<string, Parts>();
  #where: Where = { epoch: '', cursor: 0, high: 0, born: '', bornAt: 0, sent: 0 };
  #entriesKept = 0;
  #turn: Promise<unknown> = Promise.resolve();
  #flushing: Promise<void> | undefined;
  #rejoining: Promise<void> | undefined;
  #polling = new AbortController();
  #wake = new AbortController();
  #receiptTimer: ReturnType<typeof setTimeout> | undefined;

  private constructor(
    base: string,
    readonly id: string,
    readonly me: Me,
    readonly own: { k: string; channel: string; access: string; room: CryptoKey; keys: Keys; card: Sealed },
  ) {
    this.#wire = new Wire(base, own.channel);
    this.#kept = new Kept(own.channel);
  }

  /**
   * Enters under a name, and says hello. Throws Refused: `name_taken` means to try another.
   *
   * @param base where the bridge is, no slash at its end
   */
  static async enter(base: string, k: string, name: string, isWatching: boolean): Promise<Room> {
    const me = { name, isWatching, token: randomHex(32), stream: randomHex(8), challenge: randomHex(16) };
    const made = await protocol.makeKeys(true);
    const kept = await exportKeys(made);
    const room = await Room.#make(base, k, me, await importKeys(kept));
    await room.#join();
    room.#kept.clear();
    if (!room.#kept.put('me', { ...me, keys: kept })) room.reason = 'storage';
    room.#save();
    await room.#send(EVERYBODY, 'hello', { challenge: me.challenge });
    return room;
  }

  /** The one that this tab was in before a reload. */
  static async resume(base: string, k: string, channel: string): Promise<Room | undefined> {
    const kept = new Kept(channel);
    const me = kept.get<Me & { keys: KeptKeys }>('me');
    if (!me) return undefined;
    const room = await Room.#make(base, k, me, await importKeys(me.keys));
    await room.#restore();
    return room;
  }

  /** What tells this session from others in the same browser, before it is resumed. */
  static streamKept(channel: string): string | undefined {
    return new Kept(channel).get<Me>('me')?.stream;
  }

  static forget(channel: string): void {
    new Kept(channel).clear();
  }

  static async #make(base: string, k: string, me: Me, keys: Keys): Promise<Room> {
    const access = await protocol.accessOf(k);
    const channel = await protocol.channelOf(access);
    const id = await protocol.participantOf(k, me.name);
    const room = await protocol.aesKey(protocol.roomPassphrase(k));
    const frame = protocol.makeCard({ kind: 'human', name: me.name, pub: keys.pub, sign: keys.sign });
    const card = await protocol.seal(room, protocol.additionalData(channel, id, EVERYBODY, 'card'), frame);
    return new Room(base, id, me, { k, channel, access, room, keys, card });
  }

  get name(): string {
    return this.me.name;
  }

  get isWatching(): boolean {
    return this.me.isWatching;
  }

  get stream(): string {
    return this.me.stream;
  }

  /** The newest keys of each name. */
  get people(): Peer[] {
    return this.peers.filter((peer) => this.#newest(peer.id) === peer);
  }

  /** Listens until it is left. */
  async run(): Promise<void> {
    let failures = 0;
    while (this.link !== 'left' && this.link !== 'refused') {
      const { epoch, cursor } = this.#where;
      this.#wake = new AbortController();
      this.#polling = new AbortController();
      try {
        // Held back numbers are looked at again when their time is up; a first poll shows at once what is there.
        const seconds = this.link !== 'online' ? 0 : this.#hasHoles() ? 5 : POLL_SECONDS;
        const batch = await this.#wire.poll(this.#credentials, epoch, cursor, seconds, this.#polling.signal);
        // Meanwhile a message may have found out that the epoch is another: this cursor means nothing there.
        if (batch.epoch === this.#where.epoch) await this.#take(batch);
        failures = 0;
        this.#setLink('online');
        void this.#flush();
      } catch (error) {
        if (this.#polling.signal.aborted && this.#where.epoch !== epoch) continue;
        if (!(await this.#recover(error, epoch))) {
          failures++;
          const retryMs = error instanceof Refused ? error.retryAfterMs : undefined;
          await pause(retryMs ?? Math.min(300 * 2 ** failures, 5000) * (0.7 + 0.6 * Math.random()), this.#wake.signal);
        }
      }
    }
  }

  /** Tries at once what waits for its next try. */
  retry(): void {
    this.#wake.abort();
  }

  // ---- talking ----

  /** To everybody, or to one. The entry is there at once, and goes out when it can. Throws if that one isn't here. */
  async say(text: string, to?: Peer): Promise<void> {
    const body = new TextEncoder().encode(text);
    const n = await this.#send(to?.id ?? EVERYBODY, 'text', {}, body);
    this.#note({ what: 'text', name: this.name, isMine: true, text, out: [n, n], ...(to ? { to: to.card.name } : {}) });
    this.#save();
  }

  /** As parts of at most a message each. Throws RangeError if it is empty or beyond MAX_FILE_BYTES. */
  async sendFile(name: string, bytes: Bytes, to?: Peer): Promise<void> {
    if (bytes.length === 0 || bytes.length > MAX_FILE_BYTES) throw new RangeError('A file has from 1 byte to 10 MB.');
    const count = Math.ceil(bytes.length / this.maxBytes);
    const hash = await sha256(bytes);
    const plain = name.replace(/[^A-Za-z0-9._-]/g, '_').slice(-120) || 'file';
    const common = { name: plain, size: String(bytes.length), sha256: hash };
    let first = 0;
    let last = 0;
    for (let i = 1; i <= count; i++) {
      const part = bytes.subarray((i - 1) * this.maxBytes, i * this.maxBytes);
      last = await this.#send(to?.id ?? EVERYBODY, 'file', { ...common, part: `${i}/${count}` }, part);
      first ||= last;
    }
    const file = { name: plain, size: bytes.length, bytes: pack(bytes) };
    const whom = to ? { to: to.card.name } : {};
    this.#note({ what: 'file', name: this.name, isMine: true, file, out: [first, last], ...whom });
    this.#save();
  }

  /** How much of an entry of ours the bridge has taken, from 0 to 1. */
  progress({ out }: Entry): number {
    if (!out) return 1;
    const [first, last] = out;
    return Math.min(1, Math.max(0, (this.#where.sent - first + 1) / (last - first + 1)));
  }

  /** Who has it: by the receipt of the other end, or else by the bridge's word. */
  receipts({ out, to }: Entry): Receipt[] {
    const sent = out && this.#outbox[out[1] - 1];
    if (!sent || this.#where.sent < out[1]) return [];
    const index = this.#indices.get(out[1]);
    return this.people
      .filter((peer) => (to === undefined ? peer.state !== 'gone' || peer.has.all >= sent.seq : peer.id === sent.to))
      .map((peer) => {
        const mark = to === undefined ? peer.has.all : peer.has.me;
        const isFetched = index !== undefined && peer.fetched >= index;
        return { name: peer.card.name, how: mark >= sent.seq ? 'has' : isFetched ? 'fetched' : 'not yet' };
      });
  }

  /** Goodbye, and out; nothing of it stays in the tab. */
  async leave(): Promise<void> {
    const last = this.people.filter(({ state }) => state !== 'gone').map(({ id, card }) => [id, this.#last(card.pub)]);
    const final = last.filter(([, seq]) => seq !== 0).map((pair) => pair.join(':'));
    const bye = this.#send(EVERYBODY, 'bye', final.length > 0 ? { final: final.slice(0, 40).join() } : {});
    await Promise.race([bye.then(() => this.#flush()), pause(3000, this.#wake.signal)]).catch(() => undefined);
    this.#setLink('left');
    this.#polling.abort();
    this.#wake.abort();
    this.#kept.clear();
    await this.#wire.leave(this.#credentials, this.#where.epoch, 0).catch(() => undefined);
  }

  /** The tab goes away, perhaps to come back. */
  fade(): void {
    if (this.link === 'left' || this.link === 'refused') return;
    this.#save();
    this.#wire.leave(this.#credentials, this.#where.epoch, GRACE_SECONDS).catch(() => undefined);
  }

  /** Who listens, and how far the bridge says they are. */
  async look(): Promise<void> {
    if (this.link !== 'online') return;
    const { epoch } = this.#where;
    try {
      for (const participant of await this.#wire.who(this.#credentials, epoch)) {
        if (participant.id === this.id || this.#where.epoch !== epoch) continue;
        const isNew = this.#newest(participant.id) === undefined;
        const peer = await this.#meet(participant.id, participant.card, false);
        if (isNew && peer?.state === 'gone') peer.state = 'here'; // its joining is in a gap
        this.#present(participant);
      }
      this.onChange();
    } catch {
      // The poll says what is wrong.
    }
  }

  // ---- sending ----

  get #credentials() {
    return { participant: this.id, token: this.me.token };
  }

  #last(pub: string): number {
    return this.#outbox.findLast((sent) => sent.pub === pub)?.seq ?? 0;
  }

  /** Numbers, seals and keeps a message. Its place in the outbox, from 1. */
  #send(to: string, kind: string, more: Headers, body: Uint8Array = new Uint8Array()): Promise<number> {
    return this.#inTurn(async () => {
      const pub = to === EVERYBODY ? to : this.#peerWith(to).card.pub;
      const all = this.#outbox.at(-1)?.all ?? 0;
      const seq = pub === EVERYBODY ? all + 1 : this.#last(pub) + 1;
      const sent: Sent = { to, pub, seq, all: pub === EVERYBODY ? seq : all };
      sent.box = await this.#seal(sent, kind, more, body);
      const n = this.#outbox.push(sent);
      this.#keep(n, sent);
      void this.#flush();
      return n;
    });
  }

  async #seal({ to, pub, seq, all }: Sent, kind: string, more: Headers, body?: Uint8Array): Promise<Sealed> {
    const isDirect = to !== EVERYBODY;
    const peer = isDirect ? this.peers.find(({ card }) => card.pub === pub) : undefined;
    const seen = this.#seen(peer);
    const headers = {
      ...{ kind, stream: this.stream, seq: String(seq), time: String(Date.now()) },
      ...(isDirect ? { after: String(all) } : {}),
      ...(seen === '' ? {} : { seen }),
      ...more,
    };
    const aad = protocol.additionalData(this.own.channel, this.id, to, 'message');
    const frame = isDirect
      ? protocol.makeFrame(headers, body)
      : await protocol.signFrame(this.own.keys.ecdsa, aad, headers, body);
    return protocol.seal(peer?.direct ?? this.own.room, aad, frame);
  }

  /** One after the other. */
  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(step);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /** Hands over what is in the outbox, in order; the same bytes until the bridge has them. */
  #flush(): Promise<void> {
    this.#flushing ??= this.#handOver().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  async #handOver(): Promise<void> {
    for (let failures = 0; this.#where.sent < this.#outbox.length && this.link !== 'left';) {
      const n = this.#where.sent + 1;
      const { epoch } = this.#where;
      try {
        await this.#post(n);
        if (this.#where.epoch !== epoch || this.#where.sent !== n - 1) continue;
        this.#where.sent = n;
        this.#kept.put('where', this.#where);
        failures = 0;
        this.onChange();
      } catch (error) {
        const code = error instanceof Refused ? error.code : '';
        if (FOR_GOOD.includes(code)) await this.#void(n, code);
        else if (!(await this.#recover(error, epoch))) {
          // The poll finds out when the bridge is back, and calls again.
          if (++failures > 3 || this.link === 'refused') return;
          const retryMs = error instanceof Refused ? error.retryAfterMs : undefined;
          await pause(retryMs ?? 400 * 2 ** failures, this.#wake.signal);
        }
      }
    }
  }

  async #post(n: number): Promise<void> {
    const sent = this.#outbox[n - 1];
    if (!sent?.box) throw new Refused('trimmed', 'too old');
    const { epoch, cursor } = this.#where;
    try {
      const { index, recipients } = await this.#wire.send(this.#credentials, epoch, cursor, sent.to, sent.box);
      if (this.#where.epoch === epoch) this.#indices.set(n, index);
      recipients.forEach((recipient) => this.#present(recipient));
    } catch (error) {
      // Who isn't there asks for it when it is back.
      if (!(error instanceof Refused) || error.code !== 'no_recipient') throw error;
    }
  }

  async #void(n: number, code: string): Promise<void> {
    const sent = this.#outbox[n - 1];
    if (!sent) return;
    if (code !== 'trimmed') this.#note({ what: 'unsent', name: this.name, words: code });
    sent.box = await this.#seal(sent, 'void', {});
    this.#keep(n, sent);
  }

  #keep(n: number, sent: Sent): void {
    const isKept = () => this.#kept.put(`out/${n}`, sent);
    // Of what is kept over a reload the oldest boxes go first; they stay in memory.
    for (const old of isKept() ? [] : this.#kept.numbers('out')) {
      const { box: _, ...line } = this.#outbox[old - 1] ?? sent;
      this.#kept.put(`out/${old}`, line);
      if (isKept()) break;
    }
    if (n % 64 !== 0) return;
    const characters = this.#outbox.reduce((sum, { box }) => sum + (box?.ciphertext.length ?? 0), 0);
    if (characters <= MAX_OUTBOX_CHARACTERS) return;
    for (const old of this.#outbox.slice(0, this.#where.sent >> 1)) delete old.box;
  }

  /** A message that nobody waits for. */
  #signal(peer: Peer, kind: string, headers: Headers): void {
    if (peer.state === 'gone') return;
    peer.owesReceipt = false;
    this.#send(peer.id, kind, headers).catch(() => undefined);
  }

  // ---- being there ----

  async #join(): Promise<void> {
    this.maxBytes = await this.#wire.create(this.own.access);
    const joined = await this.#wire.join(this.own.access, this.#credentials, this.own.card);
    const isFirst = this.#where.born === '';
    if (joined.epoch !== this.#where.epoch) this.#indices.clear();
    Object.assign(this.#where, {
      epoch: joined.epoch,
      cursor: joined.cursor,
      high: joined.epoch === this.#where.epoch ? this.#where.high : 0,
      ...(isFirst ? { born: joined.epoch, bornAt: joined.index } : {}),
    });
    for (const participant of joined.participants) {
      if (participant.id === this.id) continue;
      const peer = await this.#meet(participant.id, participant.card, isFirst);
      if (!peer) continue;
      if (peer.state === 'gone') this.#note({ what: 'joined', name: peer.card.name });
      peer.state = 'here';
      this.#present(participant);
    }
  }

  /** After a request failed: true if it can be tried again at once. */
  async #recover(error: unknown, epoch: string): Promise<boolean> {
    if (!(error instanceof Refused)) {
      console.error(error);
      return false;
    }
    if (FATAL.includes(error.code)) {
      this.reason = error.code;
      this.#setLink('refused');
      return false;
    }
    if (error.code === 'unreachable') this.#setLink('offline');
    if (!LOST.includes(error.code)) return false;
    if (this.#where.epoch !== epoch) return true;
    this.#rejoining ??= this.#rejoin().finally(() => (this.#rejoining = undefined));
    try {
      await this.#rejoining;
      return true;
    } catch (reason) {
      const isLostAgain = reason instanceof Refused && LOST.includes(reason.code);
      return !isLostAgain && this.#recover(reason, epoch);
    }
  }

  /** The bridge restarted or gave us up: the same channel, name and token again, and each that is back hears what we have. */
  async #rejoin(): Promise<void> {
    const before = new Map(this.peers.map((peer) => [peer, peer.state]));
    for (const peer of this.peers) if (peer.state !== 'gone') peer.state = 'lost';
    try {
      await this.#join();
    } catch (error) {
      for (const [peer, state] of before) peer.state = state;
      throw error;
    }
    this.#polling.abort();
    this.#unsend();
    for (const peer of this.peers) if (peer.state === 'here') this.#ask(peer);
    this.#note({ what: 'resumed', name: '' });
    this.#save();
    this.#setLink('online');
  }

  /** What not all are known to have goes out again, before anything new: so the order stays. */
  #unsend(): void {
    const members = this.peers.filter(({ state }) => state !== 'gone');
    const isKnown = ({ to, pub, seq }: Sent) =>
      to === EVERYBODY
        ? members.length > 0 && members.every(({ has }) => has.all >= seq)
        : members.every(({ card, has }) => card.pub !== pub || has.me >= seq);
    const first = this.#outbox.findIndex((sent) => !isKnown(sent));
    if (first >= 0) this.#where.sent = Math.min(this.#where.sent, first);
  }

  #setLink(link: Link): void {
    if (this.link === link || this.link === 'left' || this.link === 'refused') return;
    this.link = link;
    this.onChange();
  }

  #present({
    id,
    listening,
    seenSeconds,
    ...more
  }: Omit<Participant, 'card' | 'fetched'> & { fetched?: number }): void {
    const peer = this.#newest(id);
    if (!peer) return;
    peer.isListening = listening;
    peer.seenAt = Date.now() - seenSeconds * 1000;
    if (more.fetched !== undefined) peer.fetched = more.fetched;
  }

  // ---- receiving ----

  async #take({ events, cursor, isGap }: Batch): Promise<void> {
    if (isGap) {
      this.#note({ what: 'gap', name: '' });
      await this.look();
      for (const peer of this.peers) this.#ask(peer);
    }
    for (const event of events) {
      // Seen before a reload, or before we joined this same epoch again.
      const isNew = event.index > this.#where.high;
      if (event.from === this.id) this.#tampered('malformed-answer', '', isNew);
      else if (event.type === 'message') await this.#open(event, isNew);
      else if (event.type === 'join') await this.#joined(event, isNew);
      else if (isNew) this.#changed(event);
      this.#where.high = Math.max(this.#where.high, event.index);
    }
    this.#where.cursor = cursor;
    this.#holes();
    this.#save();
    this.onChange();
  }

  /** Did it happen before we came? */
  #isEarly(index: number): boolean {
    return this.#where.epoch === this.#where.born && index < this.#where.bornAt;
  }

  /** A card; keys are pinned when first seen. Undefined if it is none. */
  async #meet(id: string, sealed: Sealed, isOlder: boolean): Promise<Peer | undefined> {
    const card = await protocol.openCard(this.own.k, this.own.room, this.own.channel, id, sealed);
    if (!card.ok) return this.#tampered(`card-${card.reason}`, this.#newest(id)?.card.name ?? '');
    const { name, pub, sign } = card.value;
    const known = this.peers.filter((peer) => peer.id === id);
    const same = known.find((peer) => peer.card.pub === pub && peer.card.sign === sign);
    if (same) return same;
    const direct = await protocol.directKey(this.own.k, this.own.keys.ecdh, pub);
    if (!direct.ok) return this.#tampered(`card-${direct.reason}`, name);
    for (const old of known) old.state = 'gone';
    if (known.length > 0) this.#note({ what: 'keys', name });
    const peer = new Peer(id, card.value, direct.value, isOlder, known.length > 0);
    peer.state = 'gone';
    this.peers.push(peer);
    return peer;
  }

  async #joined({ index, from, box }: Event & { type: 'join' }, isNew: boolean): Promise<void> {
    const isEarly = this.#isEarly(index);
    const peer = await this.#meet(from, box, isEarly);
    if (!peer || isEarly || !isNew || this.#newest(from) !== peer) return;
    const { state } = peer;
    peer.state = 'here';
    peer.seenAt = Date.now();
    if (state === 'gone') this.#note({ what: 'joined', name: peer.card.name, words: peer.card.kind });
    else if (state === 'lost') {
      this.#note({ what: 'back', name: peer.card.name });
      this.#ask(peer);
    }
  }

  #changed({ type, from, reason, index }: Event & { type: 'leave' | 'away' | 'back' }): void {
    const peer = this.#newest(from);
    if (!peer || peer.state === 'gone' || this.#isEarly(index)) return;
    peer.state = type === 'leave' ? 'gone' : type === 'away' ? 'away' : 'here';
    peer.isListening = false;
    const what = type === 'leave' ? 'left' : type;
    this.#note({ what, name: peer.card.name, ...(reason === 'expired' ? { words: reason } : {}) });
  }

  async #open({ index, from, to, box }: Event & { type: 'message' }, isNew: boolean): Promise<void> {
    const isDirect = to !== EVERYBODY;
    if (isDirect && to !== this.id) return this.#tampered('not-for-us', '', isNew);
    const aad = protocol.additionalData(this.own.channel, from, to, 'message');
    let reason = 'unknown-sender';
    for (const peer of this.peers.filter(({ id }) => id === from).reverse()) {
      const [key, sign] = isDirect ? [peer.direct] : [this.own.room, peer.card.sign];
      const message = await protocol.openMessage(key, aad, box, sign);
      if (message.ok) return this.#number(peer, isDirect ? 'me' : 'all', message.value, index);
      reason = message.reason;
    }
    // Sealed for an earlier bearer of our name, or its sender left before we came.
    if (this.#isEarly(index) && (isDirect || reason === 'unknown-sender')) return;
    this.#tampered(reason, this.#newest(from)?.card.name ?? '', isNew);
  }

  /** Each number once, and in its order. */
  async #number(peer: Peer, to: To, message: Message, index: number): Promise<void> {
    const { seq } = message;
    let stream = peer.streams.get(message.stream);
    if (!stream) {
      if (peer.streams.size >= MAX_STREAMS) return this.#tampered('too-many-streams', peer.card.name);
      const base = to === 'me' ? (message.after ?? 0) : seq - 1;
      stream = new Stream(peer.isOlder && peer.streams.size === 0 ? base : 0);
      peer.streams.set(message.stream, stream);
    }
    peer.stream = message.stream;
    const counter = stream[to];
    const digest = await sha256(message.unsigned);
    const known = counter.digests.get(seq);
    const isLate = counter.missed.delete(seq);
    if (!isLate && (known !== undefined || seq <= counter.upTo)) {
      if ((known ?? digest) === digest || message.kind === 'void') return;
      return this.#tampered('two-with-one-number', peer.card.name);
    }
    if (counter.held.size >= MAX_HELD) return this.#tampered('too-many-held', peer.card.name);
    counter.remember(seq, digest);
    counter.top = Math.max(counter.top, seq);
    stream.all.top = Math.max(stream.all.top, message.after ?? 0);
    this.#receive(peer, to, message);
    if (isLate) return this.#act(peer, message, to, true);
    counter.held.set(seq, { message, to, index });
    await this.#release(peer, stream);
  }

  async #release(peer: Peer, stream: Stream): Promise<void> {
    for (let next = stream.next(); next; next = stream.next()) {
      const counter = stream[next.to];
      counter.upTo = next.message.seq;
      counter.held.delete(counter.upTo);
      await this.#act(peer, next.message, next.to, false);
    }
  }

  async #act(peer: Peer, message: Message, to: To, isLate: boolean): Promise<void> {
    const { kind, headers, body } = message;
    const { name } = peer.card;
    const [challenge, answer] = [headers.get('challenge'), headers.get('answer')];
    const common = {
      name,
      ...(to === 'me' ? { to: this.name } : {}),
      ...(isLate ? { isLate } : {}),
      ...(peer.hasNewKeys ? { hasNewKeys: true } : {}),
    };
    if (kind === 'text') {
      this.#note({ what: 'text', ...common, text: new TextDecoder().decode(body) });
      this.#owe(peer);
    } else if (kind === 'file') {
      const file = await this.#part(peer, message, to);
      if (file) this.#note({ what: 'file', ...common, file });
    } else if (kind === 'hello' && to === 'all' && challenge && peer.state !== 'gone') {
      peer.challenge ??= randomHex(16);
      this.#signal(peer, 'welcome', { answer: challenge, challenge: peer.challenge });
    } else if (kind === 'welcome' && to === 'me' && answer === this.me.challenge) {
      this.#pair(peer);
      if (challenge) this.#signal(peer, 'ready', { answer: challenge });
    } else if (kind === 'ready' && to === 'me' && answer !== undefined && answer === peer.challenge) {
      this.#pair(peer);
    } else if (kind === 'bye') {
      const final = headers.get('final')?.split(',') ?? [];
      const [, seq = ''] = final.map((pair) => pair.split(':')).find(([id]) => id === this.id) ?? [];
      const stream = peer.streams.get(message.stream);
      if (stream && protocol.isDecimal(seq)) stream.me.top = Math.max(stream.me.top, Number(seq));
      if (peer.state !== 'gone') this.#note({ what: 'left', name });
      peer.state = 'gone';
    }
  }

  #pair(peer: Peer): void {
    if (!peer.isPaired) this.#note({ what: 'paired', name: peer.card.name });
    peer.isPaired = true;
    setTimeout(() => void this.look(), 500); // by then it listens, and is shown so
  }

  /** One part of a file; where all are there, the file. */
  async #part(peer: Peer, { headers, stream, body }: Message, to: To): Promise<Entry['file']> {
    const [i = 0, n = 0] = headers.get('part')?.split('/').map(Number) ?? [];
    const [hash, name = 'file'] = [headers.get('sha256') ?? '', headers.get('name')];
    const pending = Array.from(this.#parts.values()).reduce((sum, { bytes }) => sum + bytes, body.length);
    if (n < 1 || n > MAX_PARTS || !isHex(hash, 64) || pending > MAX_PENDING_BYTES) {
      return this.#tampered('bad-part', peer.card.name);
    }
    const id = `${peer.id}-${stream}-${to}-${hash}-${n}`;
    const parts = this.#parts.get(id) ?? { n, have: new Map<number, Bytes>(), bytes: 0 };
    this.#parts.set(id, parts);
    if (!parts.have.has(i)) parts.bytes += body.length;
    parts.have.set(i, body);
    if (parts.have.size < n) {
      this.#kept.put(`part/${id}/${i}`, pack(body));
      return undefined;
    }
    this.#parts.delete(id);
    for (let part = 1; part <= n; part++) this.#kept.drop(`part/${id}/${part}`);
    const bytes = concat(...Array.from({ length: n }, (_, part) => parts.have.get(part + 1) ?? new Uint8Array()));
    if ((await sha256(bytes)) !== hash) return this.#tampered('broken-file', peer.card.name);
    this.#owe(peer);
    return { name: name.replace(/^.*[\\/]/, '') || 'file', size: bytes.length, bytes: pack(bytes) };
  }

  #tampered(words: string, name: string, isNew = true): undefined {
    if (isNew) this.#note({ what: 'tampered', name, words });
  }

  // ---- repair, and receipts ----

  /** What we have of a recipient's stream, or of those last heard. */
  #seen(peer?: Peer): string {
    if (peer) {
      const stream = peer.streams.get(peer.stream ?? '');
      return stream ? `${peer.stream} ${stream.all.upTo} ${stream.me.upTo}` : `${NO_STREAM} 0 0`;
    }
    const marks = this.peers.flatMap(({ stream = '', streams }) => {
      const heard = streams.get(stream);
      return heard ? [`${stream} ${heard.all.upTo}`] : [];
    });
    return marks.slice(-16).join();
  }

  /** What the sender says that it has of ours; and where it asks for the rest, the rest. */
  #receive(peer: Peer, to: To, { kind, seen }: Message): void {
    for (const { stream, broadcasts, directs = 0 } of seen) {
      const asks = to === 'me' && kind === 'seen';
      if (stream !== this.stream && !(asks && stream === NO_STREAM)) continue;
      peer.has = { all: Math.max(peer.has.all, broadcasts), me: Math.max(peer.has.me, directs) };
      if (asks) void this.#sendAgain(peer, broadcasts, directs);
    }
  }

  async #sendAgain({ card }: Peer, broadcasts: number, directs: number): Promise<void> {
    const { sent } = this.#where;
    for (let n = 1; n <= sent; n++) {
      const { to, pub, seq, box } = this.#outbox[n - 1] ?? { to: '', pub: '', seq: 0 };
      if (to === EVERYBODY ? seq <= broadcasts : pub !== card.pub || seq <= directs) continue;
      if (!box) await this.#void(n, 'trimmed');
      for (let failures = 0; failures < 5; failures++) {
        const { epoch } = this.#where;
        try {
          await this.#post(n);
          break;
        } catch (error) {
          // What goes out again in a new epoch goes in its order, before anything new.
          if (await this.#recover(error, epoch)) return;
          const retryMs = error instanceof Refused ? error.retryAfterMs : undefined;
          await pause(retryMs ?? 500 * 2 ** failures, this.#wake.signal);
        }
      }
    }
  }

  /** Asks for what lies above what we have. */
  #ask(peer: Peer): void {
    this.#signal(peer, 'seen', {});
  }

  /** Who wrote hears soon that it came, also from somebody who only reads; never of anything but words and files. */
  #owe(peer: Peer): void {
    peer.owesReceipt = true;
    this.#receiptTimer ??= setTimeout(() => {
      this.#receiptTimer = undefined;
      for (const each of this.peers) if (each.owesReceipt) this.#ask(each);
    }, RECEIPT_MS);
  }

  #hasHoles(): boolean {
    return this.peers.some(({ streams }) => Array.from(streams.values()).some((stream) => !stream.isWhole));
  }

  /** A hole asks for what it lacks, waits while nothing fills it, and is then announced and passed over. */
  #holes(): void {
    for (const peer of this.peers) {
      for (const stream of peer.streams.values()) {
        if (stream.isWhole) stream.holeAt = 0;
        else if (stream.holeAt === 0) {
          stream.holeAt = Date.now();
          this.#ask(peer);
        } else if (Date.now() - stream.holeAt >= HOLE_MS) {
          stream.holeAt = 0;
          const missed = stream.all.giveUp() + stream.me.giveUp();
          if (missed > 0) this.#note({ what: 'missed', name: peer.card.name, words: String(missed) });
          void this.#release(peer, stream);
        }
      }
    }
  }

  // ---- what is kept ----

  #note(entry: Omit<Entry, 'n' | 'at'>): void {
    this.entries.push({ n: this.entries.length + 1, at: Date.now(), ...entry });
    this.onChange();
  }

  #save(): void {
    const held = this.peers.flatMap(({ streams }) =>
      Array.from(streams.values()).flatMap(({ all, me }) => [...all.held.values(), ...me.held.values()]),
    );
    // What is held before its turn is fetched again after a reload.
    const cursor = Math.min(this.#where.cursor, ...held.map(({ index }) => index - 1));
    for (; this.#entriesKept < this.entries.length; this.#entriesKept++) {
      const entry = this.entries[this.#entriesKept];
      if (!entry) continue;
      const { bytes, ...file } = entry.file ?? { name: '', size: 0 };
      const isLarge = (bytes?.length ?? 0) > KEPT_FILE_BYTES;
      const short = { ...entry, file };
      if (this.#kept.put(`log/${entry.n}`, isLarge ? short : entry)) continue;
      for (const old of this.#kept.numbers('log').slice(0, 50)) this.#kept.drop(`log/${old}`);
      this.#kept.put(`log/${entry.n}`, bytes ? short : entry);
    }
    this.#kept.put('where', { ...this.#where, cursor });
    this.#kept.put('peers', this.peers.map(keepPeer));
  }

  async #restore(): Promise<void> {
    const kept = this.#kept;
    this.#where = kept.get<Where>('where') ?? this.#where;
    for (const n of kept.numbers('out')) {
      const sent = kept.get<Sent>(`out/${n}`);
      if (sent) this.#outbox[n - 1] = sent;
    }
    for (const peer of kept.get<KeptPeer[]>('peers') ?? []) {
      const direct = await protocol.directKey(this.own.k, this.own.keys.ecdh, peer.card.pub);
      if (direct.ok) this.peers.push(restorePeer(peer, direct.value));
    }
    for (const n of kept.numbers('log')) {
      const entry = kept.get<Entry>(`log/${n}`);
      if (entry) this.entries.push({ ...entry, n: this.entries.length + 1 });
    }
    this.#entriesKept = this.entries.length;
    for (const key of kept.names('part/')) {
      const [, id = '', i = ''] = key.split('/');
      const body = unpack(kept.get<string>(key) ?? '');
      const parts = this.#parts.get(id) ?? { n: 0, have: new Map<number, Bytes>(), bytes: 0 };
      parts.have.set(Number(i), body);
      parts.bytes += body.length;
      this.#parts.set(id, parts);
    }
  }

  #newest(id: string): Peer | undefined {
    return this.peers.findLast((peer) => peer.id === id);
  }

  #peerWith(id: string): Peer {
    const peer = this.#newest(id);
    if (!peer) throw new TypeError('nobody with that id');
    return peer;
  }
}
