/**
 * The channels: who is in them, the ordered log of each, who waits for more of it. It sees ids, ciphertext, sizes and
 * times, and never a key, a name or a message. No HTTP and no clock of its own: time and randomness are handed in.
 *
 * An event is visible to a participant if it is not its own and goes to everybody or to it. The log is a window over
 * the indices first..last; when a channel is full its oldest events go, unless a participant that is alive still has to
 * fetch them: then senders wait.
 */
import { BlobStore, Upload } from './blobs.ts';
import { Refusal } from './errors.ts';
import { EVERYBODY, hashToken, isTokenOf } from './ids.ts';
import type { BlobId, ChannelId, ParticipantId, Recipient, TokenHash } from './ids.ts';
import type { Limits } from './limits.ts';
import { Memory, type Holding, type Item, type Owner } from './memory.ts';
import { Shelf, isSame, type Block, type Kept } from './arena.ts';

export class Event implements Item {
  older: Item | undefined;
  newer: Item | undefined;

  constructor(
    readonly channel: Channel,
    readonly type: 'message' | 'join' | 'leave' | 'away' | 'back',
    readonly index: number,
    readonly at: number, // Unix milliseconds, like all times here
    readonly from: ParticipantId,
    readonly to: Recipient,
    readonly kept: Kept | undefined, // a message, or the card of a join
    readonly reason: 'left' | 'expired' | undefined, // of a leave
  ) {}

  /** The oldest of an owner is the oldest of its channel. */
  evict(): void {
    this.channel.evictOldest();
  }
}

/** What a poll is given. The gap says that visible events after its `since` up to `gap` are no longer held. */
export type Batch = { since: number; gap: number | undefined; events: readonly Event[]; cursor: number };

/** A poll that waits; settled once, with what it waited for or the reason why that will not come. */
export type Waiter = { readonly since: number; settle(outcome: Batch | Refusal): void };

export interface Participant {
  readonly id: ParticipantId;
  readonly tokenHash: TokenHash;
  card: Kept;
  joined: number; // the index of the join that brought its card
  readonly waiters: Set<Waiter>;
  polls: number; // that wait, or whose answer it has not read
  uploads: number; // blobs that it is sending
  fetched: number; // the highest `since` that it presented
  next: number; // no event visible to it lies between `fetched` and this: what it still has to fetch starts here or later
  lost: number; // the last event visible to it that is no longer held
  seenAt: number; // when its last request began or, if that waited, ended
  isAway: boolean;
  leaveAt: number; // when it leaves, unless it is heard of before
}

// What things take beside their ciphertext, about, so that the limits in bytes mean memory.
const EVENT_BYTES = 512; // with nonce and tag
const PARTICIPANT_BYTES = 1024;
const CHANNEL_BYTES = 2048;
const bytesOf = (kept: Kept | undefined) => (kept ? kept.end - kept.start : 0);
const sizeOf = (kept: Kept | undefined) => EVENT_BYTES + bytesOf(kept);
const isVisible = ({ from, to }: Event, { id }: Participant) => from !== id && (to === EVERYBODY || to === id);

export class Channel implements Holding {
  readonly participants = new Map<ParticipantId, Participant>();
  #log: (Event | undefined)[] = []; // the event of `index` is at `index - #base`; in by #push, out by #dropOldest
  #base = 1;
  readonly sent = new Map<string, Event>(); // the messages of the log by nonce; if two senders share one, the later
  #first = 1;
  last = 0;
  bytes = 0;
  usedAt = 0;
  #dueAt = 0; // before then time changes nothing
  #polls = 0; // of all participants
  readonly blobs: BlobStore;

  constructor(
    readonly id: ChannelId,
    readonly epoch: string,
    readonly house: Channels,
    readonly owner: Owner, // of its memory: who opened it
    readonly shelf: Shelf, // of its messages
  ) {
    this.blobs = new BlobStore(house.limits.blobBytes, house.memory, house.blobs);
  }

  get hasEvents(): boolean {
    return this.#first <= this.last;
  }

  /**
   * Lets a participant in, or finds it there when it comes back with its token. With another card it is another session
   * of the same participant: the others are given that card. Throws name_taken, participants_full, channel_full, bridge_full.
   */
  join(id: ParticipantId, token: string, card: Kept): Participant {
    const { limits, now } = this.house;
    if (this.participants.has(id)) return this.#joinAgain(this.enter(id, token, 'name_taken'), card);
    if (this.participants.size >= limits.participants) throw new Refusal('participants_full');
    this.house.use(this);
    this.#reserve(PARTICIPANT_BYTES + bytesOf(card) + sizeOf(card));
    const cursors = { joined: this.last + 1, fetched: this.#first - 1, next: this.#first, lost: this.#first - 1 };
    const presence = {
      waiters: new Set<Waiter>(),
      polls: 0,
      uploads: 0,
      seenAt: now(),
      isAway: false,
      leaveAt: Infinity,
    };
    const participant: Participant = { id, tokenHash: hashToken(token), card, ...cursors, ...presence };
    this.participants.set(id, participant);
    this.#push('join', id, EVERYBODY, card);
    return participant;
  }

  #joinAgain(participant: Participant, card: Kept): Participant {
    if (isSame(participant.card, card)) return participant;
    this.#reserve(Math.max(0, bytesOf(card) - bytesOf(participant.card)) + sizeOf(card));
    this.house.count(this, Math.min(0, bytesOf(card) - bytesOf(participant.card)));
    participant.card = card;
    participant.joined = this.#push('join', participant.id, EVERYBODY, card).index;
    return participant;
  }

  /** The participant with this id and token; that it was heard of is noted. Throws no_participant, bad_token. */
  enter(id: ParticipantId, token: string, otherwise: 'bad_token' | 'name_taken' = 'bad_token'): Participant {
    const participant = this.participants.get(id);
    if (!participant) throw new Refusal('no_participant');
    if (!isTokenOf(participant.tokenHash, token)) throw new Refusal(otherwise);
    participant.seenAt = this.house.use(this);
    participant.leaveAt = Infinity;
    if (participant.isAway) this.#announce('back', id);
    participant.isAway = false;
    return participant;
  }

  /** Notes how far a participant has fetched. Throws bad_request for a cursor that no answer can have given. */
  present(participant: Participant, since: number): void {
    if (since > this.last) throw new Refusal('bad_request', 'since');
    participant.fetched = Math.max(participant.fetched, since);
    participant.next = Math.max(participant.next, since + 1);
  }

  /**
   * Appends a message, a draft on the shelf, or finds the one with the same nonce; returns its index.
   * Throws nonce_reused, no_recipient, channel_full, bridge_full.
   */
  send({ id }: Participant, to: Recipient, draft: Kept): number {
    const sent = this.sent.get(draft.nonce);
    if (sent?.from === id) {
      if (sent.to !== to || !sent.kept || !isSame(sent.kept, draft)) throw new Refusal('nonce_reused');
      return sent.index;
    }
    const recipient = to === EVERYBODY ? to : this.participants.get(to)?.id;
    if (recipient === undefined) throw new Refusal('no_recipient');
    this.#reserve(sizeOf(draft));
    this.sent.set(draft.nonce, this.#push('message', id, recipient, this.shelf.keep(draft)));
    return this.last;
  }

  /** The visible events after `since`, as many as fit into an answer. Each invisible event is passed over only once. */
  read(participant: Participant, since: number): Batch {
    const gap = since < participant.lost ? participant.lost : undefined;
    const events: Event[] = [];
    let cursor = gap ?? since;
    let bytes = 0;
    const start = Math.max(cursor + 1, this.#first, since >= participant.fetched ? participant.next : 0);
    for (let index = start; index <= this.last && bytes < this.house.limits.answerBytes; index++) {
      const event = this.#log[index - this.#base];
      if (!event || !isVisible(event, participant)) continue;
      events.push(event);
      cursor = index;
      bytes += sizeOf(event.kept);
    }
    if (since === participant.fetched) participant.next = events[0]?.index ?? this.last + 1;
    return { since, gap, events, cursor };
  }

  /** A poll is there, and counts until endPoll(): while it waits, and while its answer is not read. Throws too_many_polls. */
  beginPoll(participant: Participant): void {
    const { waitingPolls, channelPolls } = this.house.limits;
    const isFull = participant.polls >= waitingPolls || this.#polls >= (channelPolls || Infinity);
    if (isFull) throw new Refusal('too_many_polls');
    participant.polls++;
    this.#polls++;
  }

  endPoll(participant: Participant): void {
    participant.polls--;
    this.#polls--;
  }

  wait({ waiters }: Participant, waiter: Waiter): void {
    waiters.add(waiter);
  }

  /** The poll is over: its time is up, its client has gone, or it is being settled. False if it was over before. */
  endWait(participant: Participant, waiter: Waiter): boolean {
    if (!participant.waiters.delete(waiter)) return false;
    participant.seenAt = this.house.now();
    return true;
  }

  /** Settles waiting polls that get nothing: with the reason, or with their own cursor. */
  release(participants: Iterable<Participant>, reason?: Refusal): void {
    for (const participant of participants) {
      for (const waiter of participant.waiters) {
        this.endWait(participant, waiter);
        waiter.settle(reason ?? { since: waiter.since, gap: undefined, events: [], cursor: waiter.since });
      }
    }
  }

  /** The blob is on its way: to be ended by endUpload(). Throws too_many_requests. */
  beginUpload(participant: Participant, id: BlobId, bytes: number, address: string): Upload {
    if (participant.uploads >= this.house.limits.participantUploads) throw new Refusal('too_many_requests');
    participant.uploads++;
    return new Upload(this.blobs, id, participant.id, address, bytes);
  }

  /** Whether the blob is new here. Throws bad_request, no_participant, no_channel. */
  completeUpload(participant: Participant, upload: Upload): boolean {
    if (this.participants.get(participant.id) !== participant) throw new Refusal('no_participant');
    return upload.complete(this.house.now());
  }

  endUpload(participant: Participant, upload: Upload): void {
    participant.uploads--;
    upload.abort();
  }

  /** Now, or after so many seconds unless another request of its comes before. */
  leave(participant: Participant, afterSeconds: number): void {
    if (afterSeconds === 0) this.#remove(participant, 'left');
    else [participant.leaveAt, this.#dueAt] = [this.house.now() + afterSeconds * 1000, 0];
  }

  /** What time alone brings about, if it is time. A waiting poll is a request that goes on; then the silence begins. */
  sweep(now: number): void {
    if (now < this.#dueAt) return; // of very many channels few have anything to be done
    const [idleMs, awayMs] = [this.house.limits.idleSeconds * 1000, this.house.limits.awaySeconds * 1000];
    this.#dueAt = this.usedAt + idleMs;
    if (this.participants.size === 0 && now >= this.#dueAt) this.house.end(this);
    for (const participant of this.participants.values()) {
      const seenAt = participant.waiters.size > 0 ? now : participant.seenAt;
      if (now >= participant.leaveAt) this.#remove(participant, 'left');
      else if (now - seenAt >= idleMs) this.#remove(participant, 'expired');
      else if (now - seenAt >= awayMs && !participant.isAway) {
        participant.isAway = true;
        this.#announce('away', participant.id);
      } else this.#dueAt = Math.min(this.#dueAt, participant.leaveAt, seenAt + (participant.isAway ? idleMs : awayMs));
    }
  }

  /** The one place where a participant goes; the last one takes the channel along. */
  #remove(participant: Participant, reason: 'left' | 'expired'): void {
    this.participants.delete(participant.id);
    this.release([participant], new Refusal('no_participant'));
    this.house.count(this, -PARTICIPANT_BYTES - bytesOf(participant.card));
    if (this.participants.size === 0) this.house.end(this);
    else this.#announce('leave', participant.id, reason);
  }

  /** Presence can't be refused. It may take a sixteenth more room than messages, and beyond that the oldest goes. */
  #announce(type: Event['type'], from: ParticipantId, reason?: Event['reason']): void {
    while (this.bytes + EVENT_BYTES > (this.house.limits.channelBytes * 17) / 16 && this.#first <= this.last) {
      this.evictOldest();
    }
    this.house.memory.force(this.owner, EVENT_BYTES, this);
    this.bytes += EVENT_BYTES;
    this.#push(type, from, EVERYBODY, undefined, reason);
  }

  /** Makes room, and counts it. Throws channel_full if that would take from somebody who is alive; bridge_full. */
  #reserve(bytes: number): void {
    while (this.bytes + bytes > this.house.limits.channelBytes) {
      if (!this.#dropFetchedOne()) throw new Refusal('channel_full');
    }
    this.house.memory.take(this.owner, bytes, this);
    this.bytes += bytes;
  }

  #dropFetchedOne(): boolean {
    const oldest = this.#log[this.#first - this.#base];
    if (!oldest || this.#isAwaited(oldest)) return false;
    this.evictOldest();
    return true;
  }

  dropFetched(bytes: number): boolean {
    const enough = this.bytes - bytes;
    if (!this.#dropFetchedOne()) return false;
    while (this.bytes > enough && this.#dropFetchedOne());
    return true;
  }

  isAlive(): boolean {
    return [...this.participants.values()].some((participant) => this.#isAlive(participant));
  }

  end(): void {
    this.house.giveUp(this);
  }

  #isAlive({ waiters, seenAt }: Participant): boolean {
    return waiters.size > 0 || seenAt > this.house.now() - this.house.limits.liveSeconds * 1000;
  }

  #isAwaited(event: Event): boolean {
    for (const participant of this.participants.values()) {
      const isVisibleNext = event.index >= participant.next && isVisible(event, participant);
      if (isVisibleNext && this.#isAlive(participant)) return true;
    }
    return false;
  }

  /** The one place where an event, and its nonce with it, is given up. */
  evictOldest(): void {
    const event = this.#log[this.#first - this.#base];
    if (!event) return;
    this.#log[this.#first++ - this.#base] = undefined;
    this.owner.events.remove(event);
    if (this.#first > this.last) this.owner.hasEvents(this, false);
    if (this.#first - this.#base > 64 + this.#log.length / 2) {
      this.#log = this.#log.slice(this.#first - this.#base);
      this.#base = this.#first;
    }
    if (event.kept && event.type === 'message') this.shelf.drop(event.kept);
    if (event.kept && this.sent.get(event.kept.nonce) === event) this.sent.delete(event.kept.nonce);
    this.house.count(this, -sizeOf(event.kept));
    for (const participant of this.participants.values()) {
      if (isVisible(event, participant)) participant.lost = event.index;
    }
  }

  /** The one place where an event enters; whoever waits for it has it at once. */
  #push(type: Event['type'], from: ParticipantId, to: Recipient, kept?: Kept, reason?: Event['reason']): Event {
    if (this.#first > this.last) this.owner.hasEvents(this, true);
    const event = new Event(this, type, ++this.last, this.house.now(), from, to, kept, reason);
    this.owner.events.add(event);
    if (type !== 'message') this.#dueAt = 0; // somebody came, went or is back
    this.#log.push(event);
    for (const participant of this.participants.values()) {
      if (participant.waiters.size === 0 || !isVisible(event, participant)) continue;
      for (const waiter of participant.waiters) {
        this.endWait(participant, waiter);
        waiter.settle(this.read(participant, waiter.since));
      }
    }
    return event;
  }
}

/** All channels. They share nothing but memory. */
export class Channels {
  readonly #channels = new Map<ChannelId, Channel>();
  readonly spare: Block[] = []; // of what channels have given up
  readonly memory: Memory;
  readonly blobs = { count: 0, bytes: 0 };
  givenUp = 0; // channels, so far

  constructor(
    readonly limits: Limits,
    readonly now: () => number,
    readonly randomHex: (bytes: number) => string,
  ) {
    this.memory = new Memory(limits.totalBytes);
  }

  has(id: ChannelId): boolean {
    return this.#channels.has(id);
  }

  /** Throws no_channel. */
  get(id: ChannelId): Channel {
    const channel = this.#channels.get(id);
    if (!channel) throw new Refusal('no_channel');
    return channel;
  }

  /** Makes a channel, whose memory is that of the address, or finds it. Throws bridge_full. */
  open(id: ChannelId, address: string): Channel {
    const known = this.#channels.get(id);
    if (known) {
      this.use(known);
      return known;
    }
    const owner = this.memory.owner(address);
    while (this.#channels.size >= this.limits.channels) this.memory.takePlace(owner);
    const channel = new Channel(id, this.randomHex(16), this, owner, new Shelf(this.spare));
    this.memory.take(owner, CHANNEL_BYTES);
    channel.bytes = CHANNEL_BYTES;
    this.#channels.set(id, channel);
    this.use(channel);
    return channel;
  }

  /** To the second: what is used all the time is not moved each time. Returns the time. */
  use(channel: Channel): number {
    const now = this.now();
    if (now - channel.usedAt < 1000) return now;
    channel.usedAt = now;
    channel.owner.use(channel, channel.hasEvents);
    return now;
  }

  count(channel: Channel, bytes: number): void {
    channel.bytes += bytes;
    this.memory.add(channel.owner, bytes);
  }

  /** Its memory or its place is needed. */
  giveUp(channel: Channel): void {
    this.givenUp++;
    this.end(channel);
  }

  /** The one place where a channel ends: everybody left or expired, or its memory was needed. */
  end(channel: Channel): void {
    if (!this.#channels.delete(channel.id)) return;
    channel.blobs.close();
    channel.release(channel.participants.values(), new Refusal('no_channel'));
    channel.participants.clear();
    while (channel.hasEvents) channel.evictOldest();
    channel.owner.drop(channel);
    this.count(channel, -channel.bytes);
  }

  /** To be called about once a second. */
  sweep(): void {
    for (const channel of this.#channels.values()) channel.sweep(this.now());
    this.spare.length -= Math.ceil(this.spare.length / 32); // what nobody needs is the system's again
  }

  /** Answers every waiting poll with nothing new, so that the process can end. */
  release(): void {
    for (const channel of this.#channels.values()) channel.release(channel.participants.values());
  }

  gauges() {
    let [participants, waiting_polls] = [0, 0];
    for (const channel of this.#channels.values()) {
      participants += channel.participants.size;
      for (const { waiters } of channel.participants.values()) waiting_polls += waiters.size;
    }
    const { count: blobs, bytes: blob_bytes } = this.blobs;
    const memory = { held_bytes: this.memory.bytes, blob_bytes, memory_owners: this.memory.owners };
    return { channels: this.#channels.size, participants, waiting_polls, blobs, ...memory };
  }
}
