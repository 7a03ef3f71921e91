/**
 * A third client of agentalk/1, written from docs/protocol.md alone: an example to read and to start from. It needs
 * Node 20 and nothing else, and has everything in memory: when the process ends, its session is gone.
 *
 * It trusts its own process only. What the bridge or other members sent is checked in client/ before anything depends
 * on it. It must never send the key `k`, and never print what a bridge said.
 */
import { Bridge, BridgeError } from './client/bridge.ts';
import type { Created, Event, Fetch } from './client/bridge.ts';
import * as crypto from './client/crypto.ts';
import type { Sealed } from './client/crypto.ts';
import { Directory } from './client/directory.ts';
import type { Entry } from './client/entries.ts';
import type { FileKey } from './client/files.ts';
import { Inbox } from './client/inbox.ts';
import { MAX_FILE_BYTES, buildFrame, checkName } from './client/message.ts';
import type { FileHeaders, Headers, Message } from './client/message.ts';
import { Outbox } from './client/outbox.ts';
import type { OutboxItem } from './client/outbox.ts';
import { tagOf } from './client/peer.ts';
import type { Peer } from './client/peer.ts';
import { OwnSession } from './client/session.ts';
import type { Context, Listener } from './client/session.ts';
import { encodeFileName } from './client/text.ts';
import { Transfers } from './client/transfers.ts';

export type { Entry } from './client/entries.ts';
export { BridgeError } from './client/bridge.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
/** Between two `sync`, and two `ack`, to one session. */
const CONTROL_INTERVAL_MS = 10_000;
const MAX_ACK_SYNCS_A_MINUTE = 10;
const MAX_SEEN = 64;
/** All headers together have at most 4096 bytes. */
const MAX_SEEN_CHARACTERS = 3000;
/** After these the client joins again, then sends again. */
const REJOIN_CODES: readonly string[] = ['no_participant', 'no_channel', 'other_epoch'];

export interface Options {
  readonly name: string;
  readonly kind?: 'agent' | 'human';
  readonly fetch?: Fetch;
  /** Unix milliseconds. */
  readonly now?: () => number;
  /** Gets each entry as it is told. */
  readonly onEntry?: (entry: Entry) => void;
}

type ClientClass<T extends Client> = new (...parameters: ConstructorParameters<typeof Client>) => T;

export class Client implements Context, Listener {
  /** What was told, in order. */
  readonly entries: Entry[] = [];
  readonly channel: string;
  readonly id: string;
  readonly broadcastKey: Buffer;
  readonly bridge: Bridge;
  readonly now: () => number;
  readonly onEntry: ((entry: Entry) => void) | undefined;
  readonly formerSids: string[] = [];
  session: OwnSession;
  epoch = '';
  cursor = 0;
  isClosed = false;
  readonly directory: Directory;
  readonly inbox: Inbox;
  readonly outbox = new Outbox();
  readonly transfers: Transfers;

  protected limits: Pick<Created, 'messageBytes' | 'pollSeconds' | 'blobBytes'> | undefined;
  protected reach: string | undefined;
  protected ticket: string | undefined;
  protected hasReadCards = false;
  protected lastRequestAt: number;
  protected ackSyncsAt: number[] = [];
  protected isRefused = false;
  /** Whether this session turned out to be a copy, and when one last did. */
  protected isCopy = false;
  protected lastCopyAt = -Infinity;
  /** Whether the bridge has not been given the session's card yet. */
  protected mustJoin = true;
  protected polling: Promise<void> | undefined;
  protected queue: Promise<unknown> = Promise.resolve();

  /** Makes a client that has not sent anything yet. `invite` is a create secret or a ticket. */
  constructor(
    readonly url: string,
    readonly k: string,
    invite: string | undefined,
    { name, kind = 'agent', fetch, now = Date.now, onEntry }: Options,
  ) {
    const checked = checkName(name);
    if (!checked.ok) throw new Error(`this cannot be a name (${checked.reason}); take another one`);
    const access = crypto.accessToken(k);
    this.channel = crypto.channelId(access);
    this.id = crypto.participantId(k, name);
    this.broadcastKey = crypto.aesKey(crypto.broadcastPassphrase(k));
    const token = crypto.randomHex(32);
    const place = { url, channel: this.channel, access, participantId: this.id, token, invite };
    this.bridge = new Bridge(place, fetch);
    this.now = now;
    this.onEntry = onEntry;
    this.lastRequestAt = now();
    this.session = new OwnSession(k, this.channel, this.id, kind, name);
    this.directory = new Directory(this);
    this.inbox = new Inbox(this, this.directory);
    this.transfers = new Transfers(this);
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
      throw new Error('this link is damaged or of another version; ask for the whole link');
    }
    return new this(url, k, parameters.get('t') ?? undefined, options).enter();
  }

  // ---- what its user does ----

  get name(): string {
    return this.session.card.name;
  }

  /** What others need to join. It has the key. */
  get link(): string {
    const ticket = this.ticket ?? this.bridge.place.invite;
    return `${this.url}/c/${this.channel}#k=${this.k}${ticket === undefined ? '' : `&t=${ticket}`}`;
  }

  /** Says something to everybody. Returns its sequence number. It is sealed for good, and posted as soon as it can be. */
  async say(text: string | Uint8Array): Promise<number> {
    const { seq } = this.sealContent(undefined, 'text', {}, text);
    await this.flush();
    return seq;
  }

  /** Says something to one session: NAME, or NAME~N. */
  async direct(to: string, text: string | Uint8Array): Promise<number> {
    const { seq } = this.sealContent(this.directory.find(to), 'text', {}, text);
    await this.flush();
    return seq;
  }

  /** Sends a file to everybody, or to one session. */
  async sendFile(name: string, bytes: Uint8Array, to?: string): Promise<number> {
    const peer = to === undefined ? undefined : this.directory.find(to);
    if (bytes.length > Math.min(MAX_FILE_BYTES, this.limits?.blobBytes ?? 0)) {
      throw new Error('the file is larger than this bridge takes; send less');
    }
    const body = await this.joiningAgain(() => this.transfers.upload(peer, bytes));
    const headers = { name: encodeFileName(name), size: String(bytes.length), sha256: crypto.sha256(bytes) };
    const { seq } = this.sealContent(peer, 'file', headers, body);
    await this.flush();
    return seq;
  }

  /** Tells everybody what a message does to this client now. */
  async setReach(reach: 'listening' | 'wakes' | 'reads'): Promise<void> {
    if (reach === this.reach) return;
    this.reach = reach;
    for (const peer of this.directory.present) peer.isSyncDue = true;
    await this.flush();
  }

  /** Takes what has come, waiting up to `waitSeconds` for it, and sends what is due. Throws BridgeError. */
  poll(waitSeconds = 0): Promise<void> {
    this.polling ??= this.pollOnce(waitSeconds).finally(() => {
      this.polling = undefined;
    });
    return this.polling;
  }

  /** Polls until it is stopped. After an error that may pass it waits a little. */
  async listen(signal: AbortSignal, waitSeconds = 50): Promise<void> {
    while (!signal.aborted && !this.isClosed) {
      try {
        await this.poll(waitSeconds);
      } catch (error) {
        if (this.isClosed) return;
        if (!(error instanceof BridgeError) || (!error.isTemporary && !isRejoinError(error))) throw error;
        const delayMs = error.retryAfterSeconds * 1000;
        await new Promise((resolve) => setTimeout(resolve, delayMs));
      }
    }
  }

  /** Says goodbye and leaves. Nothing is sent after that. */
  async leave(): Promise<void> {
    await this.flush();
    await this.oneByOne(async () => {
      for (const peer of this.directory.present) await this.postControl(peer, 'bye').catch(() => false);
      this.isClosed = true;
      await this.bridge.leave();
    });
  }

  // ---- sealing ----

  tell(entry: Entry): void {
    this.entries.push(entry);
    this.onEntry?.(entry);
  }

  protected aad(to: string): string {
    return crypto.additionalData(this.channel, this.id, to, 'message');
  }

  /** Seals a frame for one session, or signs it and seals it for all. */
  protected seal(peer: Peer | undefined, headers: Headers, body: string | Uint8Array): Sealed {
    const aad = this.aad(peer?.id ?? '*');
    const frame = buildFrame(headers, body);
    if (peer !== undefined) return crypto.seal(peer.directKey, aad, frame);
    const signature = crypto.signFrame(this.session.ecdsa.private, this.session.sid, aad, frame);
    return crypto.seal(this.broadcastKey, aad, buildFrame(headers, body, signature));
  }

  /** Gives content its number, seals it and stores it. Nothing leaves before that. */
  protected sealContent(peer: Peer | undefined, kind: string, extra: Headers, body: string | Uint8Array): OutboxItem {
    if (this.isClosed) throw new Error('this client has left; join again');
    if (this.isCopy) throw new Error('this session is a copy; poll, then say it again');
    if (Buffer.byteLength(body) > (this.limits?.messageBytes ?? 0)) throw new Error('too long; send it as a file');
    const headers = { kind, ...this.numberedHeaders(peer), ...extra };
    const item = {
      peer,
      seq: Number(headers.seq),
      sealed: this.seal(peer, headers, body),
      isDue: true,
      postedAt: undefined,
    };
    this.outbox.add(item, this.directory.peers);
    return item;
  }

  /** Takes the next number of a counter. */
  protected numberedHeaders(peer: Peer | undefined): Headers & { readonly seq: string } {
    if (peer === undefined) this.session.sealedBroadcasts++;
    else peer.sealedDirects++;
    const seq = String(peer?.sealedDirects ?? this.session.sealedBroadcasts);
    return { seq, ...this.stateHeaders(peer), ...this.seenHeader() };
  }

  /** The headers `time`, `reach`, `sent` and `received`. */
  protected stateHeaders(peer: Peer | undefined): Headers {
    const time = String(this.now());
    const reach = this.reach === undefined ? {} : { reach: this.reach };
    if (peer === undefined) return { time, ...reach };
    const sent = `${peer.owedFrom} ${this.session.sealedBroadcasts} ${peer.sealedDirects}`;
    return { time, ...reach, sent, received: peer.received };
  }

  /** What had been shown when this is written; of more than 64 sessions those that were shown last. */
  protected seenHeader(): Headers {
    const named = this.directory.peers
      .filter(({ mark }) => mark > 0)
      .sort((a, b) => b.shownAt - a.shownAt)
      .slice(0, MAX_SEEN);
    const entries = named.map(({ sid, mark, skippedBroadcasts, isPresent }) => {
      return `${tagOf(sid)} ${mark} ${skippedBroadcasts}${isPresent ? '' : ' left'}`;
    });
    while (entries.join(',').length > MAX_SEEN_CHARACTERS) entries.pop();
    return entries.length === 0 ? {} : { seen: entries.join(',') };
  }

  // ---- sending ----

  /** One after the other: joining and sending must not overlap. */
  protected oneByOne<T>(work: () => Promise<T>): Promise<T> {
    const result = this.queue.then(work);
    this.queue = result.catch(() => undefined);
    return result;
  }

  /** Sends what is due: control first, then content in the order in which it was sealed. */
  flush(): Promise<void> {
    return this.oneByOne(async () => {
      for (let attempt = 0; attempt < 3; attempt++) {
        if (this.isClosed || this.isCopy || this.mustJoin) return;
        try {
          await this.postDueControl();
          await this.postDueContent();
          this.isRefused = false;
          return;
        } catch (error) {
          if (!(error instanceof BridgeError)) throw error;
          if (isRejoinError(error) && (await this.hasRejoined())) continue;
          if (!this.isRefused) this.tell({ type: 'refused', code: error.code });
          this.isRefused = true;
          return;
        }
      }
    });
  }

  protected async hasRejoined(): Promise<boolean> {
    try {
      await this.joinChannel();
      return true;
    } catch (error) {
      if (error instanceof BridgeError) return false;
      throw error;
    }
  }

  protected async postDueControl(): Promise<void> {
    this.askForAcknowledgements();
    for (const peer of this.directory.peers) {
      const now = this.now();
      if (peer.isAckDue && now - peer.lastAckAt >= CONTROL_INTERVAL_MS) {
        const { lastAckAt } = peer;
        peer.lastAckAt = now;
        const hasRecipient = await this.postControl(peer, 'ack');
        peer.isAckDue = false;
        if (!hasRecipient) peer.lastAckAt = lastAckAt;
      }
      const hasCause = peer.isSyncDue || (peer.isPresent && peer.isMissingSomething);
      if (hasCause && now - peer.lastSyncAt >= CONTROL_INTERVAL_MS) {
        peer.lastSyncAt = now;
        await this.postControl(peer, 'sync');
        peer.isSyncDue = false;
        // Without a recipient, too: who does not come back must not be waited for.
        peer.postedSync = { at: now, polls: this.inbox.polls };
      }
    }
  }

  /** Posts a control message once. False if its recipient is not there: it is dropped. */
  protected async postControl(peer: Peer, kind: string, body = ''): Promise<boolean> {
    const { stored } = peer;
    const isAboutState = kind === 'sync' || kind === 'ack';
    const storedHeader = stored !== undefined && isAboutState ? { stored } : {};
    const sealed = this.seal(peer, { kind, ...this.stateHeaders(peer), ...storedHeader }, body);
    try {
      await this.post(peer.id, sealed);
      return true;
    } catch (error) {
      if (!(error instanceof BridgeError) || error.code !== 'no_recipient') throw error;
      return false;
    }
  }

  /** Lets those sync who have not acknowledged the newest content for a minute. */
  protected askForAcknowledgements(): void {
    const now = this.now();
    this.ackSyncsAt = this.ackSyncsAt.filter((at) => now - at < MINUTE_MS);
    for (const peer of this.directory.present) {
      const newest = this.outbox.newestUnacknowledged(peer);
      if (newest?.postedAt === undefined || now - newest.postedAt < MINUTE_MS) continue;
      if (peer.askedAbout === newest || this.ackSyncsAt.length >= MAX_ACK_SYNCS_A_MINUTE) continue;
      peer.askedAbout = newest;
      peer.isSyncDue = true;
      this.ackSyncsAt.push(now);
    }
  }

  protected async postDueContent(): Promise<void> {
    for (const item of [...this.outbox.items]) {
      if (!item.isDue) continue;
      // Another session under the id could not open it.
      const listed = item.peer === undefined ? undefined : this.directory.listed.get(item.peer.id);
      const isReachable = listed === undefined || listed === item.peer;
      if (isReachable) await this.postContent(item);
      item.isDue = false;
    }
  }

  /** What has no recipient goes out when its session syncs. */
  protected async postContent(item: OutboxItem): Promise<void> {
    try {
      await this.post(item.peer?.id ?? '*', item.sealed);
      item.postedAt ??= this.now();
    } catch (error) {
      if (!(error instanceof BridgeError) || error.code !== 'no_recipient') throw error;
    }
  }

  protected async post(to: string, sealed: Sealed): Promise<void> {
    await this.bridge.send(this.epoch, to, sealed);
    this.lastRequestAt = this.now();
  }

  onListed(peer: Peer): void {
    this.dropUndeliverable(peer);
  }

  onPaired(peer: Peer): void {
    this.dropUndeliverable(peer);
  }

  /** Tells which direct messages the former sessions of a participant will never get. */
  protected dropUndeliverable(peer: Peer): void {
    if (!peer.isPaired || this.directory.listed.get(peer.id) !== peer) return;
    for (const { peer: former, seq } of this.outbox.removeFor(peer)) {
      this.tell({ type: 'undelivered', name: former?.label ?? '', seq });
    }
  }

  onSyncOrAck(peer: Peer, message: Message): void {
    this.outbox.repeatFor(peer, message, this.epoch, this.now());
  }

  onWant(peer: Peer, pieces: readonly string[]): void {
    this.transfers.serve(peer, pieces);
  }

  onFile(peer: Peer, file: FileHeaders, key: FileKey): void {
    this.transfers.expect(peer, file, key);
  }

  async postWant(peer: Peer, body: string): Promise<void> {
    await this.oneByOne(() => this.postControl(peer, 'want', body));
  }

  // ---- being in the channel ----

  async enter(): Promise<this> {
    await this.oneByOne(() => this.joinChannel());
    await this.flush();
    return this;
  }

  /** Creates the channel if it does not exist, and joins it, for the first time or again. */
  protected async joinChannel(): Promise<void> {
    const created = await this.bridge.create();
    const joined = await this.bridge.join(this.session.sealedCard);
    const isNewEpoch = joined.epoch !== this.epoch;
    this.mustJoin = false;
    this.lastRequestAt = this.now();
    this.limits = created;
    this.ticket = created.ticket;
    this.epoch = joined.epoch;
    if (isNewEpoch || !joined.resumed) this.cursor = joined.cursor;
    this.inbox.joinIndex = joined.index;
    if (this.inbox.firstJoin !== undefined) this.tell({ type: 'resumed', isNewEpoch });
    this.inbox.firstJoin ??= { epoch: joined.epoch, index: joined.index };

    const before = this.directory.present;
    // In a new epoch others may only be slower.
    this.directory.readList(joined.participants, !isNewEpoch);
    for (const peer of this.directory.listed.values()) peer.isSyncDue = true;
    // One ack in 10 s is for each epoch.
    for (const peer of isNewEpoch ? this.directory.peers : []) peer.lastAckAt = -Infinity;
    this.outbox.rewind(this.directory.peers, [...before, ...this.directory.present]);
  }

  /** Does a request; where the bridge has lost this client, joins again and does it again. */
  protected async joiningAgain<T>(work: () => Promise<T>): Promise<T> {
    const { epoch } = this;
    try {
      return await work();
    } catch (error) {
      if (!isRejoinError(error) || this.isClosed) throw error;
      await this.oneByOne(async () => {
        if (this.epoch === epoch && !this.isClosed) await this.joinChannel();
      });
      return work();
    }
  }

  protected async pollOnce(waitSeconds: number): Promise<void> {
    if (this.isClosed) throw new Error('this client has left; join again');
    if (this.mustJoin) await this.enter();
    await this.lookForCopy();
    const wait = Math.min(waitSeconds, this.limits?.pollSeconds ?? 0);
    const polled = await this.joiningAgain(async () => {
      this.inbox.polls++;
      const { epoch, cursor } = this;
      return { ordinal: this.inbox.polls, since: cursor, ...(await this.bridge.poll(epoch, cursor, wait)) };
    });
    this.lastRequestAt = this.now();
    // Meanwhile a message may have found out that the epoch is another one.
    if (polled.epoch !== this.epoch || polled.since !== this.cursor || this.isClosed) return;
    if (polled.hasGap) await this.noteGap();
    this.hasReadCards = false;
    for (const event of polled.events) await this.take(event);
    this.cursor = polled.cursor;
    this.inbox.checkMissing(polled.ordinal);
    if (this.isCopy) await this.openNewSession();
    await this.flush();
    this.transfers.start();
  }

  protected async take(event: Event): Promise<void> {
    const isPast = event.index < this.inbox.joinIndex; // the list that came with the joining is newer
    if (event.type === 'join' && event.from !== this.id) {
      const peer = this.directory.meet(event.from, event.card);
      if (peer !== undefined && !isPast) this.directory.list(peer);
    }
    if (event.type === 'leave' && !isPast) this.directory.unlist(event.from, event.reason);
    if (event.type !== 'message') return;
    const isUnknown = event.from !== this.id && this.directory.sessionsOf(event.from).length === 0;
    if (isUnknown && !this.hasReadCards) await this.readStatus();
    this.inbox.take(event);
  }

  protected async readStatus(): Promise<void> {
    this.hasReadCards = true;
    const { participants } = await this.bridge.status(this.epoch);
    this.directory.readList(participants, true);
  }

  protected async noteGap(): Promise<void> {
    this.tell({ type: 'gap' });
    await this.readStatus();
    for (const peer of this.directory.present) peer.isSyncDue = true;
  }

  // ---- a copy of a session ----

  /** Somebody has what this session never sealed: another process has the same keys. */
  onCopy(): void {
    if (this.now() - this.lastCopyAt >= HOUR_MS) this.isCopy = true;
  }

  /** After a minute without a request: looks whether another process has asked with this token. */
  protected async lookForCopy(): Promise<void> {
    if (this.now() - this.lastRequestAt < MINUTE_MS) return;
    const fetched = await this.joiningAgain(async () => {
      const { participants } = await this.bridge.status(this.epoch);
      return participants.find(({ id }) => id === this.id)?.fetched ?? 0;
    });
    if (fetched > this.cursor) this.onCopy();
    if (this.isCopy) await this.openNewSession();
  }

  /** Other bytes may be out under the old session's numbers, so nothing more is sent under it. */
  protected async openNewSession(): Promise<void> {
    const { directory, session } = this;
    const open = this.outbox.unacknowledged(directory.present);
    this.tell({ type: 'copy', unacknowledged: open.map(({ peer, seq }) => ({ to: peer?.label ?? '*', seq })) });
    this.outbox.items = [];
    this.formerSids.push(session.sid);
    const { kind, name } = session.card;
    this.session = new OwnSession(this.k, this.channel, this.id, kind, name);
    for (const peer of directory.peers) {
      const directKey = this.session.directKeyFor(peer.sid, peer.card);
      if (directKey.ok) peer.resetPair(directKey.value);
    }
    this.lastCopyAt = this.now();
    this.isCopy = false;
    this.mustJoin = true;
    await this.enter();
  }
}

const isRejoinError = (error: unknown): boolean => error instanceof BridgeError && REJOIN_CODES.includes(error.code);
