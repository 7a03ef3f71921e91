/**
 * A third client of agentalk/1, written from docs/protocol.md alone: an example to read and to start from. It needs
 * Node 20 and nothing else, and has everything in memory: when the process ends, its session is gone.
 *
 * It trusts its own process. The bridge and the other members may do whatever they want: what they sent is checked in
 * ./client/ before anything here depends on it.
 */
import { Bridge, BridgeError } from './client/bridge.ts';
import type { Event, Fetch, Participant } from './client/bridge.ts';
import * as crypto from './client/crypto.ts';
import type { Card, KeyPair, Result, Sealed } from './client/crypto.ts';
import { marksOf } from './client/entries.ts';
import type { Entry } from './client/entries.ts';
import * as files from './client/files.ts';
import {
  CONTENT_KINDS,
  MAX_FILE_BYTES,
  buildFrame,
  checkMessage,
  checkName,
  parseFrame,
  sequenceOf,
  unsealCard,
} from './client/message.ts';
import type { Frame, Headers, Message } from './client/message.ts';
import { Peer } from './client/peer.ts';
import type { Content } from './client/peer.ts';
import { encodeFileName, printable } from './client/text.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const CONTROL_INTERVAL_MS = 10_000;
const MAX_SESSIONS_TRIED = 8;
const MAX_NEW_SESSIONS_AN_HOUR = 100;
const MAX_ACK_SYNCS_A_MINUTE = 10;
const MAX_OUTBOX_BYTES = 64 << 20;
const MAX_SENT_FILE_BYTES = 400 << 20;
const MAX_UNASKED_FILE_BYTES = 16 << 20;
/** After these the client joins again, and then sends again. */
const REJOIN_CODES: readonly string[] = ['no_participant', 'no_channel', 'other_epoch'];

/** What this client is: the keys of one run. */
export interface OwnSession {
  readonly sid: string;
  readonly card: Card;
  readonly sealedCard: Sealed;
  readonly ecdh: KeyPair;
  readonly ecdsa: KeyPair;
}

/** Sealed content, as the bytes that are posted for ever. */
export interface OutboxItem {
  /** Undefined for a broadcast. */
  readonly peer: Peer | undefined;
  readonly seq: number;
  readonly sealed: Sealed;
  isDue: boolean;
  /** When the bridge first took it. */
  postedAt: number | undefined;
}

interface OutgoingFile {
  readonly peer: Peer | undefined;
  readonly pieces: ReadonlyMap<string, { readonly blob: Buffer; putAt: number }>;
  readonly size: number;
}

interface IncomingFile {
  readonly peer: Peer;
  readonly name: string;
  readonly size: number;
  readonly sha256: string;
  readonly key: files.FileKey;
  readonly pieces: Map<string, Uint8Array>;
  isWanted: boolean;
  isStalled: boolean;
  newPieceAt: number;
  triedAt: number;
}

export interface Options {
  readonly name: string;
  readonly kind?: 'agent' | 'human';
  readonly fetch?: Fetch;
  /** Unix milliseconds. */
  readonly now?: () => number;
}

export class Client {
  /** What was told, in order. */
  readonly entries: Entry[] = [];
  readonly peers: Peer[] = [];
  readonly bridge: Bridge;
  readonly now: () => number;
  readonly roomKey: Buffer;
  session: OwnSession;
  outbox: OutboxItem[] = [];
  sealedBroadcasts = 0;
  epoch = '';
  cursor = 0;
  isClosed = false;
  reach: string | undefined;

  #joinIndex = 0;
  #firstJoin: { readonly epoch: string; readonly index: number } | undefined;
  #limits = { messageBytes: 0, pollSeconds: 0, blobBytes: 0 };
  #ticket: string | undefined;
  /** The session that the bridge lists now under each participant id. */
  readonly #listed = new Map<string, Peer>();
  readonly #reported = new Map<string, number>();
  #metAt: number[] = [];
  #ackSyncsAt: number[] = [];
  #order = 0;
  #pollsBegun = 0;
  #lastRequestAt: number;
  #hasReadCards = false;
  #isCopy = false;
  /** Whether the bridge has not been given the card of the session yet. */
  #mustJoin = true;
  readonly #formerSessions: string[] = [];
  #lastCopyAt = -Infinity;
  #serial: Promise<unknown> = Promise.resolve();
  #polling: Promise<void> | undefined;
  #transfers: Promise<void> | undefined;
  #outgoing: OutgoingFile[] = [];
  readonly #incoming: IncomingFile[] = [];
  readonly #wanted = new Set<string>();

  /** Makes a client that has not sent anything yet. */
  constructor(
    readonly url: string,
    readonly k: string,
    invite: string | undefined,
    { name, kind = 'agent', fetch, now = Date.now }: Options,
  ) {
    const checked = checkName(name);
    if (!checked.ok) throw new Error(`${name} cannot be a name: ${checked.reason}`);
    const access = crypto.accessToken(k);
    const place = {
      url,
      channel: crypto.channelId(access),
      access,
      participantId: crypto.participantId(k, name),
      token: crypto.randomHex(32),
      invite,
    };
    this.bridge = new Bridge(place, fetch);
    this.now = now;
    this.roomKey = crypto.aesKey(crypto.roomPassphrase(k));
    this.session = this.makeSession(kind, name);
    this.#lastRequestAt = now();
    this.#ticket = invite;
  }

  /** Opens a channel. `bridgeUrl` may end with `#i=SECRET`, for a bridge with a create secret. */
  static async create<T extends Client>(this: ClientClass<T>, bridgeUrl: string, options: Options): Promise<T> {
    const [url = '', fragment = ''] = bridgeUrl.split('#');
    const secret = new URLSearchParams(fragment).get('i') ?? undefined;
    return new this(url.replace(/\/$/, ''), crypto.randomHex(32), secret, options).enter();
  }

  static async join<T extends Client>(this: ClientClass<T>, joinUrl: string, options: Options): Promise<T> {
    const [, url = '', channel, fragment] = /^(https?:\/\/.+)\/c\/([0-9a-f]{32})#(.*)$/.exec(joinUrl) ?? [];
    const parameters = new URLSearchParams(fragment);
    const k = parameters.get('k') ?? '';
    if (!crypto.isHex(k, 64) || crypto.channelId(crypto.accessToken(k)) !== channel) {
      throw new Error('the link is damaged or of another version; ask for the whole link');
    }
    return new this(url, k, parameters.get('t') ?? undefined, options).enter();
  }

  // ---- what its user does ----

  get id(): string {
    return this.bridge.place.participantId;
  }

  get name(): string {
    return this.session.card.name;
  }

  /** What others need to join. It has the key. */
  get link(): string {
    const ticket = this.#ticket === undefined ? '' : `&t=${this.#ticket}`;
    return `${this.url}/c/${this.bridge.place.channel}#k=${this.k}${ticket}`;
  }

  /** Says something to everybody. Returns its sequence number; it is sealed for good even if it can't be posted now. */
  async say(text: string): Promise<number> {
    const { seq } = this.sealContent(undefined, 'text', {}, text);
    await this.flush();
    return seq;
  }

  /** Says something to one session: NAME, or NAME~N. */
  async direct(to: string, text: string): Promise<number> {
    const { seq } = this.sealContent(this.recipient(to), 'text', {}, text);
    await this.flush();
    return seq;
  }

  /** Sends a file to everybody or to one session. */
  async sendFile(name: string, bytes: Uint8Array, to?: string): Promise<number> {
    const peer = to === undefined ? undefined : this.recipient(to);
    if (bytes.length > Math.min(MAX_FILE_BYTES, this.#limits.blobBytes)) {
      throw new Error('the file is larger than this bridge takes');
    }
    const { f, pieces } = files.encryptFile(bytes);
    const byHash = new Map(pieces.map((blob) => [crypto.sha256(blob), { blob, putAt: -Infinity }]));
    for (const [digest, piece] of byHash) await this.#withRejoin(() => this.#putPiece(digest, piece));
    this.#outgoing.push({ peer, pieces: byHash, size: bytes.length });
    while (this.#outgoing.reduce((sum, { size }) => sum + size, 0) > MAX_SENT_FILE_BYTES) this.#outgoing.shift();
    const headers = { name: encodeFileName(name), size: String(bytes.length), sha256: crypto.sha256(bytes) };
    const { seq } = this.sealContent(peer, 'file', headers, files.hashLines([f, ...byHash.keys()]));
    await this.flush();
    return seq;
  }

  /** Asks for a file that is too large to be fetched without being asked for. */
  requestFile(sha256: string): void {
    for (const file of this.#incoming) {
      if (file.sha256 === sha256) file.isWanted = true;
    }
    this.#startTransfers();
  }

  /** Says what a message does to this client now; each change is told to everybody. */
  async setReach(reach: 'listening' | 'wakes' | 'reads'): Promise<void> {
    if (reach === this.reach) return;
    this.reach = reach;
    for (const peer of this.presentPeers) peer.isSyncDue = true;
    await this.flush();
  }

  /** Takes what has come, and sends what is due. Waits up to `waitSeconds` for something to come. */
  poll(waitSeconds = 0): Promise<void> {
    this.#polling ??= this.#pollOnce(waitSeconds).finally(() => {
      this.#polling = undefined;
    });
    return this.#polling;
  }

  async #pollOnce(waitSeconds: number): Promise<void> {
    if (this.isClosed) throw new Error('this client has left');
    if (this.#mustJoin) await this.#serially(() => this.#join());
    await this.#lookForCopy();
    this.#pollsBegun++;
    const polls = this.#pollsBegun;
    const { epoch, cursor } = this;
    const wait = Math.min(waitSeconds, this.#limits.pollSeconds);
    let polled;
    try {
      polled = await this.bridge.poll(epoch, cursor, wait);
    } catch (error) {
      if (!isRejoinError(error)) throw error;
      await this.#serially(() => this.#rejoin(epoch));
      await this.flush();
      return;
    }
    this.#lastRequestAt = this.now();
    if (polled.epoch !== this.epoch || cursor !== this.cursor || this.isClosed) return;
    this.#hasReadCards = false;
    if (polled.hasGap) await this.#noteGap();
    for (const event of polled.events) await this.#take(event);
    this.cursor = polled.cursor;
    for (const peer of this.peers) {
      if (peer.postedSync !== undefined && peer.postedSync.polls < polls) peer.confirmedSyncAt = peer.postedSync.at;
    }
    this.#checkMissing(polls);
    if (this.#isCopy) await this.#startNewSession();
    await this.flush();
    this.#startTransfers();
  }

  /** Polls until it is stopped. Waits a little after an error, as long as the error may pass. */
  async listen(signal: AbortSignal, waitSeconds = 50): Promise<void> {
    while (!signal.aborted && !this.isClosed) {
      try {
        await this.poll(waitSeconds);
      } catch (error) {
        if (!(error instanceof BridgeError) || !error.isTemporary) throw error;
        const delayMs = error.retryAfterSeconds * 1000;
        await new Promise((resolve) => setTimeout(resolve, delayMs));
      }
    }
  }

  /** Says goodbye and leaves. Nothing is sent after that. */
  async leave(): Promise<void> {
    await this.flush();
    await this.#serially(async () => {
      for (const peer of this.presentPeers) await this.#postControl(peer, 'bye').catch(() => undefined);
      this.isClosed = true;
      await this.bridge.leave();
    });
  }

  /** Resolves when no transfer of files is under way. */
  async idle(): Promise<void> {
    await this.#transfers;
  }

  get presentPeers(): readonly Peer[] {
    return this.peers.filter(({ isPresent }) => isPresent);
  }

  /** The session that NAME or NAME~N means now. */
  recipient(to: string): Peer {
    const ofName = this.peers.filter(({ card }) => card.name === to);
    const listed = ofName.find((peer) => peer === this.#listed.get(peer.id));
    const latest = ofName.filter(({ isPaired }) => isPaired).sort((a, b) => b.pairedAt - a.pairedAt)[0];
    const exact = this.peers.find(({ label }) => label === to && to.includes('~'));
    const found = exact ?? (listed?.isPaired ? listed : latest);
    if (found === undefined) throw new Error('nobody of that name is PAIRED');
    return found;
  }

  // ---- sealing ----

  protected makeSession(kind: string, name: string): OwnSession {
    const [ecdh, ecdsa] = [crypto.makeKeyPair(), crypto.makeKeyPair()];
    const card = { kind, name, pub: ecdh.public, sign: ecdsa.public };
    return { sid: crypto.sessionId(this.k, card), card, sealedCard: this.sealCard(card), ecdh, ecdsa };
  }

  protected sealCard(card: Headers): Sealed {
    const { channel, participantId } = this.bridge.place;
    return crypto.seal(this.roomKey, crypto.additionalData(channel, participantId, '*', 'card'), buildFrame(card));
  }

  protected aad(to: string): string {
    return crypto.additionalData(this.bridge.place.channel, this.id, to, 'message');
  }

  /** Seals a frame for one session, or signs and seals it for all. */
  protected seal(peer: Peer | undefined, headers: Headers, body: string | Uint8Array): Sealed {
    const aad = this.aad(peer?.id ?? '*');
    if (peer !== undefined) return crypto.seal(peer.directKey, aad, buildFrame(headers, body));
    const unsigned = buildFrame(headers, body);
    const signature = crypto.signFrame(this.session.ecdsa.private, this.session.sid, aad, unsigned);
    return crypto.seal(this.roomKey, aad, buildFrame(headers, body, signature));
  }

  /** Gives content its number, seals it and puts it into the outbox. */
  protected sealContent(peer: Peer | undefined, kind: string, extra: Headers, body: string | Uint8Array): OutboxItem {
    if (this.isClosed) throw new Error('this client has left');
    if (this.#isCopy) throw new Error('this session is a copy; poll, and say it again');
    if (Buffer.byteLength(body) > this.#limits.messageBytes) throw new Error('too long for a message; send a file');
    if (peer === undefined) this.sealedBroadcasts++;
    else peer.sealedDirects++;
    const seq = peer?.sealedDirects ?? this.sealedBroadcasts;
    const headers = { kind, seq: String(seq), ...this.stateHeaders(peer), ...this.seenHeader(), ...extra };
    const item: OutboxItem = { peer, seq, sealed: this.seal(peer, headers, body), isDue: true, postedAt: undefined };
    this.outbox.push(item);
    this.#trimOutbox();
    return item;
  }

  /** The headers `time`, `sent`, `received` and `reach`. */
  protected stateHeaders(peer: Peer | undefined): Headers {
    const headers: Record<string, string> = { time: String(this.now()) };
    if (this.reach !== undefined) headers.reach = this.reach;
    if (peer === undefined) return headers;
    const { broadcasts, directs, skippedBroadcasts, skippedDirects } = peer;
    headers.sent = `${peer.owedFrom} ${this.sealedBroadcasts} ${peer.sealedDirects}`;
    headers.received = `${broadcasts.processed} ${directs.processed} ${skippedBroadcasts + skippedDirects}`;
    return headers;
  }

  protected seenHeader(): Headers {
    const named = this.peers
      .filter(({ mark }) => mark > 0)
      .sort((a, b) => b.shownAt - a.shownAt)
      .slice(0, 64);
    if (named.length === 0) return {};
    const entries = named.map(({ seen: { session, mark, skipped, left } }) => {
      return `${session} ${mark} ${skipped}${left ? ' left' : ''}`;
    });
    return { seen: entries.join(',') };
  }

  protected async post(peer: Peer | undefined, sealed: Sealed): Promise<void> {
    await this.bridge.send(this.epoch, peer?.id ?? '*', sealed);
    this.#lastRequestAt = this.now();
  }

  /** Deletes the oldest content of an outbox that is too large; what is left begins later for everybody. */
  #trimOutbox(): void {
    let bytes = this.outbox.reduce((sum, { sealed }) => sum + sealed.ciphertext.length, 0);
    while (bytes > MAX_OUTBOX_BYTES) {
      const oldest = this.outbox.shift();
      if (oldest === undefined) return;
      bytes -= oldest.sealed.ciphertext.length;
      if (oldest.peer !== undefined) continue;
      for (const peer of this.peers) peer.owedFrom = Math.max(peer.owedFrom, oldest.seq + 1);
    }
  }

  // ---- sending ----

  /** One after the other: joining and sending must not overlap. */
  #serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#serial.then(work);
    this.#serial = result.catch(() => undefined);
    return result;
  }

  /** Sends what is due: control first, then content in the order in which it was sealed. */
  flush(): Promise<void> {
    return this.#serially(async () => {
      if (this.isClosed || this.#isCopy || this.#mustJoin) return;
      for (let attempt = 0; attempt < 3; attempt++) {
        const { epoch } = this;
        try {
          await this.#sendControl();
          await this.#drainOutbox();
          this.#reported.delete('refused');
          return;
        } catch (error) {
          if (!(error instanceof BridgeError)) throw error;
          if (isRejoinError(error) && (await this.#tryRejoin(epoch))) continue;
          if (!this.#reported.has('refused')) this.entries.push({ type: 'refused', code: error.code });
          this.#reported.set('refused', 1);
          return;
        }
      }
    });
  }

  async #tryRejoin(epoch: string): Promise<boolean> {
    try {
      await this.#rejoin(epoch);
      return true;
    } catch (error) {
      if (error instanceof BridgeError) return false;
      throw error;
    }
  }

  async #sendControl(): Promise<void> {
    const now = this.now();
    this.#askForAcknowledgements(now);
    for (const peer of this.peers) {
      if (peer.isAckDue && now - peer.lastAckAt >= CONTROL_INTERVAL_MS) {
        peer.lastAckAt = now;
        if (await this.#postControl(peer, 'ack')) peer.isAckDue = false;
      }
      const hasCause = peer.isSyncDue || (peer.isMissingSomething && peer.isPresent);
      if (hasCause && now - peer.lastSyncAt >= CONTROL_INTERVAL_MS) {
        peer.lastSyncAt = now;
        await this.#postControl(peer, 'sync');
        peer.isSyncDue = false;
        // One that has no recipient counts, too: who is not there will not repeat anything.
        peer.postedSync = { at: now, polls: this.#pollsBegun };
      }
    }
  }

  /** Posts a control message once. False if its recipient is not there. */
  async #postControl(peer: Peer, kind: string, body = ''): Promise<boolean> {
    const headers = { kind, ...this.stateHeaders(peer), ...this.#storedHeader(peer, kind) };
    try {
      await this.post(peer, this.seal(peer, headers, body));
      return true;
    } catch (error) {
      if (error instanceof BridgeError && error.code === 'no_recipient') return false;
      throw error;
    }
  }

  #storedHeader({ broadcasts, directs }: Peer, kind: string): Headers {
    const isMore = broadcasts.stored > broadcasts.processed || directs.stored > directs.processed;
    if (!isMore || (kind !== 'sync' && kind !== 'ack')) return {};
    return { stored: `${broadcasts.stored} ${directs.stored}` };
  }

  /** Lets those sync that have not acknowledged the newest content for a minute. */
  #askForAcknowledgements(now: number): void {
    this.#ackSyncsAt = this.#ackSyncsAt.filter((at) => now - at < MINUTE_MS);
    for (const peer of this.presentPeers) {
      const newest = this.outbox.findLast((item) => this.#isOwed(item, peer));
      if (newest === undefined || this.#isAcknowledged(newest, peer)) continue;
      if (newest.postedAt === undefined || now - newest.postedAt < MINUTE_MS) continue;
      const about = `${newest.peer === undefined ? '*' : 'direct'} ${newest.seq}`;
      if (peer.askedAbout === about || this.#ackSyncsAt.length >= MAX_ACK_SYNCS_A_MINUTE) continue;
      peer.askedAbout = about;
      peer.isSyncDue = true;
      this.#ackSyncsAt.push(now);
    }
  }

  #isOwed(item: OutboxItem, peer: Peer): boolean {
    return item.peer === undefined ? item.seq >= peer.owedFrom : item.peer === peer;
  }

  #isAcknowledged({ peer: to, seq }: OutboxItem, peer: Peer): boolean {
    return seq <= (to === undefined ? peer.ackedBroadcasts : peer.ackedDirects);
  }

  async #drainOutbox(): Promise<void> {
    for (const item of [...this.outbox]) {
      if (!item.isDue) continue;
      // Under its participant id there may be another session now, which could not open it.
      const listed = item.peer === undefined ? undefined : this.#listed.get(item.peer.id);
      const isReachable = listed === undefined || listed === item.peer;
      if (isReachable) {
        try {
          await this.post(item.peer, item.sealed);
          item.postedAt ??= this.now();
        } catch (error) {
          if (!(error instanceof BridgeError) || error.code !== 'no_recipient') throw error;
        }
      }
      item.isDue = false;
    }
  }

  /** Makes due what a session lacks by its own word. */
  #repeatFor(peer: Peer, { received, stored }: Message): void {
    const had = stored ?? received;
    if (had === undefined) return;
    const now = this.now();
    const state = `${this.epoch} ${had.broadcasts} ${had.directs}`;
    const isAgain = peer.repeated.state === state && now - peer.repeated.at < MINUTE_MS;
    for (const item of this.outbox) {
      const isLacking = this.#isOwed(item, peer) && item.seq > (item.peer === undefined ? had.broadcasts : had.directs);
      const isHeldBack = item.peer === peer && item.postedAt === undefined;
      if (isLacking && (!isAgain || isHeldBack)) item.isDue = true;
    }
    if (!isAgain) peer.repeated = { state, at: now };
  }

  // ---- joining ----

  /** Creates the channel if it does not exist, and joins it. */
  async enter(): Promise<this> {
    await this.#serially(() => this.#join());
    await this.flush();
    return this;
  }

  /** Joins again, unless that happened since the request that failed. */
  async #rejoin(failedEpoch: string): Promise<void> {
    if (this.isClosed || failedEpoch !== this.epoch) return;
    await this.#join();
  }

  async #join(): Promise<void> {
    const created = await this.bridge.create();
    const joined = await this.bridge.join(this.session.sealedCard);
    this.#mustJoin = false;
    this.#lastRequestAt = this.now();
    this.#limits = created;
    this.#ticket = created.ticket ?? this.#ticket;
    const isFirst = this.#firstJoin === undefined;
    const isNewEpoch = joined.epoch !== this.epoch;
    if (isNewEpoch || !joined.resumed) this.cursor = joined.cursor;
    this.epoch = joined.epoch;
    this.#joinIndex = joined.index;
    this.#firstJoin ??= { epoch: joined.epoch, index: joined.index };
    if (!isFirst) this.entries.push({ type: 'resumed', isNewEpoch });

    const counted = new Set(this.presentPeers);
    this.#readList(joined.participants, !isNewEpoch);
    for (const peer of this.presentPeers) counted.add(peer);
    for (const peer of this.#listed.values()) {
      peer.isSyncDue = true;
      peer.lastAckAt = -Infinity;
    }
    this.#rewindOutbox([...counted]);
  }

  /** Posts again from the first content that nobody has acknowledged, or that somebody still needs. */
  #rewindOutbox(counted: readonly Peer[]): void {
    const isNeeded = (item: OutboxItem) => {
      const hasNobody = item.peer === undefined && !counted.some((peer) => this.#isAcknowledged(item, peer));
      return hasNobody || counted.some((peer) => this.#isOwed(item, peer) && !this.#isAcknowledged(item, peer));
    };
    const start = this.outbox.findIndex(isNeeded);
    if (start < 0) return;
    for (const item of this.outbox.slice(start)) item.isDue = true;
  }

  /** Takes the bridge's list of who is in the channel. `isComplete`: who is not listed is not in the channel. */
  #readList(participants: readonly Participant[], isComplete: boolean): void {
    if (isComplete) {
      const ids = new Set(participants.map(({ id }) => id));
      for (const peer of this.peers) peer.isPresent &&= ids.has(peer.id);
    }
    this.#listed.clear();
    for (const { id, card } of participants) {
      if (id === this.id) continue;
      const peer = this.#meet(id, card);
      if (peer !== undefined) this.#list(peer);
    }
  }

  /** Reads the status for cards. */
  async #readStatus(): Promise<void> {
    this.#hasReadCards = true;
    const status = await this.bridge.status(this.epoch);
    this.#readList(status.participants, true);
  }

  async #noteGap(): Promise<void> {
    this.entries.push({ type: 'gap' });
    await this.#readStatus();
    for (const peer of this.presentPeers) peer.isSyncDue = true;
  }

  /** The session of a card, which may be new. */
  #meet(id: string, sealedCard: Sealed): Peer | undefined {
    const { channel } = this.bridge.place;
    const opened = unsealCard(this.k, channel, id, this.id, sealedCard);
    if (!opened.ok) {
      this.#reportOnce('bad-card', id, opened.reason);
      return undefined;
    }
    const { card, sid } = opened.value;
    const known = this.peers.find((peer) => peer.sid === sid);
    if (known !== undefined || sid === this.session.sid) return known;
    const now = this.now();
    this.#metAt = this.#metAt.filter((at) => now - at < HOUR_MS);
    if (this.#metAt.length >= MAX_NEW_SESSIONS_AN_HOUR) return undefined;
    this.#metAt.push(now);
    const directKey = this.#directKeyFor(sid, card);
    if (!directKey.ok) return undefined;
    const namesakes = this.peers.filter((peer) => peer.card.name === card.name).length;
    const label = namesakes === 0 ? card.name : `${card.name}~${namesakes + 1}`;
    this.#order++;
    const peer = new Peer(sid, id, card, label, directKey.value, this.#order, this.sealedBroadcasts + 1);
    this.peers.push(peer);
    if (namesakes > 0) this.entries.push({ type: 'new', name: label, sid });
    return peer;
  }

  #directKeyFor(sid: string, { pub }: Card): Result<Buffer> {
    const x = crypto.sharedX(this.session.ecdh.private, pub);
    if (!x.ok) return x;
    return crypto.accept(crypto.aesKey(crypto.directPassphrase(this.k, this.session.sid, sid, x.value)));
  }

  /** The bridge lists a session now under its participant id, so no other one. */
  #list(peer: Peer): void {
    for (const other of this.peers) {
      if (other.id === peer.id && other !== peer) other.isPresent = false;
    }
    this.#listed.set(peer.id, peer);
    this.#notePresent(peer);
    this.#dropUndeliverable(peer);
  }

  #notePresent(peer: Peer): void {
    if (peer.bye !== undefined) return;
    peer.isPresent = true;
    if (peer.hasBeenPresent) return;
    peer.hasBeenPresent = true;
    if (!peer.label.includes('~')) this.entries.push({ type: 'joined', name: peer.label, sid: peer.sid });
  }

  /** Tells which direct messages a former session under this id will never get. */
  #dropUndeliverable(peer: Peer): void {
    if (!peer.isPaired || this.#listed.get(peer.id) !== peer) return;
    const isLost = (item: OutboxItem) => item.peer !== undefined && item.peer !== peer && item.peer.id === peer.id;
    for (const item of this.outbox) {
      if (!isLost(item) || item.peer === undefined || this.#isAcknowledged(item, item.peer)) continue;
      this.entries.push({ type: 'undelivered', name: item.peer.label, seq: item.seq });
    }
    this.outbox = this.outbox.filter((item) => !isLost(item));
  }

  // ---- receiving ----

  async #take(event: Event): Promise<void> {
    if (event.type === 'message') {
      await this.#takeMessage(event);
      this.#deliver();
      return;
    }
    const isPast = event.index < this.#joinIndex; // the list of the joining is newer
    if (event.type === 'join' && event.from !== this.id) {
      const peer = this.#meet(event.from, event.card);
      if (peer !== undefined && !isPast) this.#list(peer);
    }
    if (event.type === 'leave' && !isPast) {
      this.#listed.delete(event.from);
      for (const peer of this.presentPeers) {
        if (peer.id !== event.from) continue;
        peer.isPresent = false;
        this.entries.push({ type: 'gone', name: peer.label, sid: peer.sid, reason: event.reason });
      }
    }
  }

  async #takeMessage(event: Event & { type: 'message' }): Promise<void> {
    const { from, to, sealed, index } = event;
    if (from === this.id || (to !== '*' && to !== this.id)) return this.#reportOnce('tampered', from, 'wrong-place');
    if (!this.peers.some(({ id }) => id === from) && !this.#hasReadCards) await this.#readStatus();
    const sessions = this.peers
      .filter(({ id }) => id === from)
      .reverse()
      .slice(0, MAX_SESSIONS_TRIED);
    const aad = crypto.additionalData(this.bridge.place.channel, from, to, 'message');
    const proved = to === '*' ? this.#proveBroadcast(sessions, aad, sealed) : this.#proveDirect(sessions, aad, sealed);
    if (proved.ok) return this.#takeProved(proved.value.peer, proved.value.frame, event);
    if (to === '*' && sessions.length > 0) return this.#reportOnce('tampered', from, proved.reason);
    if (index > this.#joinIndex) this.entries.push({ type: 'unreadable' });
  }

  #proveBroadcast(sessions: readonly Peer[], aad: string, sealed: Sealed): Result<Proved> {
    const plaintext = crypto.unseal(this.roomKey, aad, sealed);
    if (!plaintext.ok) return plaintext;
    const frame = parseFrame(plaintext.value);
    if (!frame.ok) return frame;
    const { signature, unsigned } = frame.value;
    if (signature === undefined) return crypto.reject('missing-signature');
    const peer = sessions.find(({ sid, card }) => {
      return crypto.isSignedBy({ sid, sign: card.sign }, aad, unsigned, signature);
    });
    return peer === undefined ? crypto.reject('bad-signature') : crypto.accept({ peer, frame });
  }

  #proveDirect(sessions: readonly Peer[], aad: string, sealed: Sealed): Result<Proved> {
    for (const peer of sessions) {
      const plaintext = crypto.unseal(peer.directKey, aad, sealed);
      if (plaintext.ok) return crypto.accept({ peer, frame: parseFrame(plaintext.value) });
    }
    return crypto.reject('auth-failed');
  }

  #takeProved(peer: Peer, frame: Result<Frame>, { to, index }: Event & { type: 'message' }): void {
    const isDirect = to !== '*';
    const now = this.now();
    peer.heardAt = now;
    if (isDirect) this.#notePaired(peer);
    if (!frame.ok) return;
    const checked = checkMessage(frame.value, isDirect);
    const { body } = frame.value;
    const isControl = checked.ok && checked.value.seq === undefined;
    const fileKey = fileKeyOf(checked, body);
    const problem = checked.ok ? (fileKey.ok ? undefined : fileKey.reason) : checked.reason;
    const message = checked.ok && problem === undefined ? checked.value : undefined;
    const seq = sequenceOf(frame.value);
    if (seq === undefined && message === undefined) return;

    let isNew = isControl;
    if (seq !== undefined && !isControl) {
      const { epoch, index: joinIndex } = this.#firstJoin ?? { epoch: '', index: 0 };
      const content: Content = {
        isDirect,
        message,
        problem,
        body,
        fileKey: fileKey.ok ? fileKey.value : undefined,
        isFromBeforeJoin: epoch === this.epoch && index < joinIndex,
        arrivedAt: now,
      };
      isNew = this.#place(peer, seq, frame.value, content);
    }
    if (isNew && (isDirect || index > this.#joinIndex)) this.#notePresent(peer);
    if (message === undefined) return;
    this.#applyState(peer, message);
    if (isControl) this.#act(peer, message, body);
  }

  /** Gives content its place in sequence. Whether it is new. */
  #place(peer: Peer, seq: number, frame: Frame, content: Content): boolean {
    const counter = content.isDirect ? peer.directs : peer.broadcasts;
    const place = counter.add(seq, crypto.sha256(frame.unsigned), content, this.now());
    if (place === 'conflict') this.#reportOnce('tampered', peer.id, 'two-with-one-number');
    if (place === 'late') this.#show(peer, seq, content, true);
    return place === 'waiting' || place === 'late';
  }

  /** What `sent`, `received`, `seen` and `reach` say counts on arrival. */
  #applyState(peer: Peer, { sent, received, seen, reach, time }: Message): void {
    const now = this.now();
    if (sent !== undefined) {
      const isBase = peer.base === undefined;
      peer.base ??= sent.first;
      peer.first = Math.max(peer.first, sent.first);
      peer.broadcasts.name(Math.max(sent.broadcasts, peer.first - 1), now);
      peer.directs.name(sent.directs, now);
      this.#reportGivenUp(peer, peer.broadcasts.giveUpBelow(peer.first), []);
      if (isBase && peer.broadcasts.processed < peer.base) peer.skippedBroadcasts = 0;
    }
    const own = seen.find(({ session }) => session === this.session.sid.slice(0, 16));
    for (const broadcasts of [received?.broadcasts ?? 0, own?.mark ?? 0]) {
      if (broadcasts > this.sealedBroadcasts) this.#noteCopy();
      else peer.ackedBroadcasts = Math.max(peer.ackedBroadcasts, broadcasts);
    }
    const directs = received?.directs ?? 0;
    if (directs > peer.sealedDirects) this.#noteCopy();
    else peer.ackedDirects = Math.max(peer.ackedDirects, directs);
    for (const { session, mark } of seen) {
      const other = this.peers.find(({ sid }) => sid.startsWith(session));
      if (other === undefined || mark <= Math.max(other.broadcasts.highest, other.seenByOthers)) continue;
      other.seenByOthers = mark;
      other.isSyncDue = other.isPresent;
    }
    if (time < peer.lastTime) return;
    peer.lastTime = time;
    peer.reach = reach ?? peer.reach;
  }

  #act(peer: Peer, message: Message, body: Buffer): void {
    if (message.kind === 'sync') peer.isAckDue = true;
    if (message.kind === 'sync' || message.kind === 'ack') this.#repeatFor(peer, message);
    if (message.kind === 'want') {
      const hashes = files.parseWantBody(body);
      if (hashes.ok) this.#serve(peer, hashes.value);
    }
    if (message.kind === 'bye' && message.sent !== undefined && peer.bye === undefined) {
      const { broadcasts, directs } = message.sent;
      peer.bye = { broadcasts, directs, polls: this.#pollsBegun };
      peer.isPresent = false;
    }
  }

  #notePaired(peer: Peer): void {
    if (peer.isPaired) return;
    peer.isPaired = true;
    this.#order++;
    peer.pairedAt = this.#order;
    this.entries.push({ type: 'paired', name: peer.label, sid: peer.sid });
    this.#dropUndeliverable(peer);
  }

  /** Shows all that is next in its sender's order. */
  #deliver(): void {
    for (const peer of this.peers) {
      const { broadcasts, directs } = peer;
      for (let next = broadcasts.next(() => true); next; next = broadcasts.next(() => true)) {
        this.#show(peer, next.seq, next.item, false);
      }
      const isReady = ({ message }: Content) => (message?.sent?.broadcasts ?? 0) <= broadcasts.processed;
      for (let next = directs.next(isReady); next; next = directs.next(isReady)) {
        this.#show(peer, next.seq, next.item, false);
      }
      const { bye } = peer;
      if (bye === undefined || peer.hasLeft) continue;
      if (broadcasts.processed < bye.broadcasts || directs.processed < bye.directs) continue;
      peer.hasLeft = true;
      this.entries.push({ type: 'left', name: peer.label, sid: peer.sid });
    }
  }

  #show(peer: Peer, seq: number, content: Content, isLate: boolean): void {
    const { message, problem, body, isDirect } = content;
    const { label: name, sid } = peer;
    if (problem !== undefined || message === undefined) {
      this.entries.push({ type: 'malformed', name, seq, reason: problem ?? 'malformed' });
      return;
    }
    if (!CONTENT_KINDS.includes(message.kind)) return;
    this.#order++;
    peer.shownAt = this.#order;
    const { session, sealedBroadcasts, peers } = this;
    const reader = { sid: session.sid, formerSids: this.#formerSessions, sealedBroadcasts, peers };
    const marks = marksOf(peer, content, seq, isLate, reader);
    const shown = { name, sid, isDirect, seq, marks };
    if (message.file === undefined || content.fileKey === undefined) {
      this.entries.push({ type: 'message', text: printable(body), ...shown });
      return;
    }
    const { name: file, size, sha256 } = message.file;
    this.entries.push({ type: 'file', file, size, sha256, ...shown });
    this.#incoming.push({
      ...{ peer, name: file, size, sha256, key: content.fileKey, pieces: new Map() },
      isWanted: size <= MAX_UNASKED_FILE_BYTES,
      isStalled: false,
      newPieceAt: this.now(),
      triedAt: -Infinity,
    });
  }

  // ---- missing numbers ----

  /** Gives up on what is due. `polls` is the poll that has just returned. */
  #checkMissing(polls: number): void {
    const now = this.now();
    for (const peer of this.peers) {
      const isDue = (lastFoundAt: number) => (since: number) => {
        if (peer.bye !== undefined) return polls > peer.bye.polls;
        if (!peer.isPresent) return true;
        return Math.min(now - since, now - lastFoundAt) >= MINUTE_MS && peer.confirmedSyncAt >= since;
      };
      const broadcasts = peer.broadcasts.giveUp(isDue(peer.broadcasts.lastFoundAt));
      this.#reportGivenUp(peer, broadcasts, peer.directs.giveUp(isDue(peer.directs.lastFoundAt)));
    }
    this.#deliver();
  }

  #reportGivenUp(peer: Peer, broadcasts: readonly Range[], directs: readonly Range[]): void {
    const { firstShown, firstWaiting, highest } = peer.broadcasts;
    // While no base is known, the first broadcast that was shown takes its place.
    const firstOfUse = firstShown > 0 ? firstShown : (firstWaiting ?? highest + 1);
    const base = peer.base ?? firstOfUse;
    let earlier = 0;
    let missed = 0;
    for (const { first, last } of broadcasts) {
      earlier += Math.max(0, Math.min(last, base - 1) - first + 1);
      missed += Math.max(0, last - Math.max(first, base) + 1);
    }
    const missedDirects = directs.reduce((sum, { first, last }) => sum + last - first + 1, 0);
    peer.skippedBroadcasts += missed;
    peer.skippedDirects += missedDirects;
    const name = peer.label;
    if (earlier > 0) this.entries.push({ type: 'earlier', name, count: earlier });
    if (missed + missedDirects > 0) this.entries.push({ type: 'missed', name, count: missed + missedDirects });
  }

  /** Reports a cause once for each name; later ones are only counted. */
  #reportOnce(type: 'tampered' | 'bad-card', from: string, reason: string): void {
    const name = this.peers.findLast(({ id }) => id === from)?.card.name ?? from;
    const key = `${type} ${reason} ${name}`;
    const count = this.#reported.get(key) ?? 0;
    this.#reported.set(key, count + 1);
    if (count === 0) this.entries.push({ type, name, reason });
  }

  /** How often a cause came up for a name. */
  countOf(type: 'tampered' | 'bad-card', reason: string, name: string): number {
    return this.#reported.get(`${type} ${reason} ${name}`) ?? 0;
  }

  // ---- a copy of this session ----

  /** Somebody knows numbers that this session never sealed: another run has the same keys. */
  #noteCopy(): void {
    if (this.now() - this.#lastCopyAt >= HOUR_MS) this.#isCopy = true;
  }

  /** After a minute of silence: whether another run has asked with this participant's token. */
  async #lookForCopy(): Promise<void> {
    if (this.now() - this.#lastRequestAt < MINUTE_MS) return;
    const { epoch, cursor } = this;
    let status;
    try {
      status = await this.bridge.status(epoch);
    } catch (error) {
      if (isRejoinError(error)) return;
      throw error;
    }
    const own = status.participants.find(({ id }) => id === this.id);
    if (own === undefined || own.fetched <= cursor) return;
    this.#noteCopy();
    if (this.#isCopy) await this.#startNewSession();
  }

  async #startNewSession(): Promise<void> {
    const isOpen = (item: OutboxItem) => {
      const readers = item.peer === undefined ? this.presentPeers : [item.peer];
      return readers.length === 0 || !readers.every((peer) => this.#isAcknowledged(item, peer));
    };
    const unacknowledged = this.outbox.filter(isOpen).map(({ peer, seq }) => ({ to: peer?.label ?? '*', seq }));
    this.entries.push({ type: 'copy', unacknowledged });
    this.#lastCopyAt = this.now();
    this.outbox = [];
    this.sealedBroadcasts = 0;
    this.#formerSessions.push(this.session.sid);
    this.session = this.makeSession(this.session.card.kind, this.name);
    this.#mustJoin = true;
    for (const peer of this.peers) {
      const directKey = this.#directKeyFor(peer.sid, peer.card);
      if (directKey.ok) peer.resetPair(directKey.value);
    }
    this.#isCopy = false;
    await this.#serially(() => this.#join());
  }

  // ---- files ----

  async #withRejoin(work: () => Promise<void>): Promise<void> {
    const { epoch } = this;
    try {
      await work();
    } catch (error) {
      if (!isRejoinError(error)) throw error;
      await this.#serially(() => this.#rejoin(epoch));
      await work();
    }
  }

  async #putPiece(digest: string, piece: { readonly blob: Buffer; putAt: number }): Promise<void> {
    if (await this.bridge.hasBlob(this.epoch, digest)) return;
    piece.putAt = this.now();
    await this.bridge.putBlob(this.epoch, digest, piece.blob);
  }

  /** Notes which pieces a session may have and wants. */
  #serve(peer: Peer, hashes: readonly string[]): void {
    for (const { peer: to, pieces } of this.#outgoing) {
      if (to !== undefined && to !== peer) continue;
      for (const hash of hashes) {
        if (pieces.has(hash)) this.#wanted.add(hash);
      }
    }
  }

  /** Transfers in the background: pieces delay no message. */
  #startTransfers(): void {
    this.#transfers ??= this.#transfer().finally(() => {
      this.#transfers = undefined;
    });
  }

  async #transfer(): Promise<void> {
    try {
      for (const digest of this.#wanted) {
        this.#wanted.delete(digest);
        const piece = this.#outgoing.map(({ pieces }) => pieces.get(digest)).find((found) => found !== undefined);
        if (piece === undefined || this.now() - piece.putAt < CONTROL_INTERVAL_MS) continue;
        await this.#putPiece(digest, piece);
      }
      for (const file of [...this.#incoming]) {
        if (file.isWanted && this.#mayTry(file)) await this.#fetchFile(file);
      }
    } catch (error) {
      if (!(error instanceof BridgeError)) throw error; // the next poll tries again
    }
  }

  #mayTry({ isStalled, triedAt, peer }: IncomingFile): boolean {
    return isStalled ? peer.heardAt > triedAt : this.now() - triedAt >= CONTROL_INTERVAL_MS;
  }

  async #fetchFile(file: IncomingFile): Promise<void> {
    const { peer, name, size, key, pieces } = file;
    file.triedAt = this.now();
    for (const [index, digest] of key.pieces.entries()) {
      if (pieces.has(digest) || this.isClosed) continue;
      const blob = await this.bridge.getBlob(this.epoch, digest);
      if (blob === undefined || !files.isPiece(index, size, digest, blob)) continue;
      pieces.set(digest, blob);
      file.newPieceAt = this.now();
      file.isStalled = false;
    }
    const lacking = key.pieces.filter((digest) => !pieces.has(digest));
    if (lacking.length === 0) return this.#finishFile(file);
    const now = this.now();
    if (now - peer.lastWantAt >= CONTROL_INTERVAL_MS) {
      peer.lastWantAt = now;
      const body = files.hashLines(lacking.slice(0, files.MAX_WANTED));
      await this.#serially(() => this.#postControl(peer, 'want', body));
    }
    if (now - file.newPieceAt < MINUTE_MS || file.isStalled) return;
    file.isStalled = true;
    this.entries.push({ type: 'file-stalled', name: peer.label, file: name });
  }

  #finishFile(file: IncomingFile): void {
    const { peer, name, size, sha256, key, pieces } = file;
    this.#incoming.splice(this.#incoming.indexOf(file), 1);
    const plaintext = key.pieces.map((digest, index) => {
      return files.cryptPiece(key.f, index, pieces.get(digest) ?? new Uint8Array());
    });
    const bytes = Buffer.concat(plaintext);
    const isRight = bytes.length === size && crypto.sha256(bytes) === sha256;
    if (isRight) this.entries.push({ type: 'file-complete', name: peer.label, file: name, bytes });
    else this.entries.push({ type: 'file-damaged', name: peer.label, file: name });
  }
}

type ClientClass<T extends Client> = new (...parameters: ConstructorParameters<typeof Client>) => T;
type Range = { readonly first: number; readonly last: number };
type Proved = { readonly peer: Peer; readonly frame: Result<Frame> };

const isRejoinError = (error: unknown): boolean => error instanceof BridgeError && REJOIN_CODES.includes(error.code);

/** The key in a proved file message; nothing for other messages. */
function fileKeyOf(checked: Result<Message>, body: Buffer): Result<files.FileKey | undefined> {
  if (!checked.ok || checked.value.file === undefined) return crypto.accept(undefined);
  return files.parseFileBody(body, checked.value.file.size);
}
