/**
 * The channels: the participants of each, its ordered log of events, and the polls that wait for more of it. This module
 * sees ids, ciphertext, sizes and times, and never a key, a name or a message. It knows no HTTP and has no clock: time
 * and randomness are passed in.
 *
 * An event is visible to a participant if it is from another one, and is a broadcast or for this participant. The log is
 * a window over the indices firstIndex..lastIndex. A full channel evicts its oldest events, unless an active participant
 * still has to fetch them: then sends fail.
 */
import { BlobStore, Upload } from './blobs.ts';
import { ApiError } from './errors.ts';
import { BROADCAST, hashToken, isTokenOf } from './ids.ts';
import type { BlobId, ChannelId, ParticipantId, Recipient, TokenHash } from './ids.ts';
import type { Limits } from './limits.ts';
import { Memory, type OwnedChannel, type Item, type Owner } from './memory.ts';
import { Arena, equalCiphertext, type Block, type StoredCiphertext } from './arena.ts';

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
    readonly payload: StoredCiphertext | undefined, // a message, or the card of a join
    readonly reason: 'left' | 'expired' | undefined, // of a leave
  ) {}

  /** The oldest of an owner is the oldest of its channel. */
  evict(): void {
    this.channel.evictOldest();
  }
}

/** The result of a poll. With a gap, visible events after `since` up to `gap` were evicted. */
export type PollResult = { since: number; gap: number | undefined; events: readonly Event[]; cursor: number };

/** A poll that waits; resolved once, with its result or the error that ends it. */
export type PendingPoll = { readonly since: number; resolve(outcome: PollResult | ApiError): void };

export interface Participant {
  readonly id: ParticipantId;
  readonly tokenHash: TokenHash;
  card: StoredCiphertext;
  joinIndex: number; // the index of the join that brought its card
  readonly pendingPolls: Set<PendingPoll>;
  polls: number; // that are pending, or whose response it has not read
  uploads: number; // blobs in progress
  ackedIndex: number; // the highest `since` that it has sent
  scanFrom: number; // no event between `ackedIndex` and this one is visible to it
  lastEvictedIndex: number; // of the events visible to it
  lastActiveAt: number; // when its last request began or, for a pending poll, ended
  isAway: boolean;
  scheduledLeaveAt: number; // when it leaves, unless it sends a request before
}

// About how much memory things take in addition to their ciphertext, so that the limits in bytes mean memory.
const EVENT_BYTES = 512; // with nonce and tag
const PARTICIPANT_BYTES = 1024;
const CHANNEL_BYTES = 2048;
const bytesOf = (payload: StoredCiphertext | undefined) => (payload ? payload.end - payload.start : 0);
const sizeOf = (payload: StoredCiphertext | undefined) => EVENT_BYTES + bytesOf(payload);
const isVisible = ({ from, to }: Event, { id }: Participant) => from !== id && (to === BROADCAST || to === id);

export class Channel implements OwnedChannel {
  readonly participants = new Map<ParticipantId, Participant>();
  #log: (Event | undefined)[] = []; // event `index` is at `index - #offset`; in by #append, out by evictOldest
  #offset = 1;
  readonly messagesByNonce = new Map<string, Event>(); // of the log; if two senders share a nonce, the later message
  #firstIndex = 1;
  lastIndex = 0;
  bytes = 0;
  lastUsedAt = 0;
  #nextDeadline = 0; // before then no timeout is due
  #polls = 0; // of all participants
  readonly blobs: BlobStore;

  constructor(
    readonly id: ChannelId,
    readonly epoch: string,
    readonly registry: ChannelRegistry,
    readonly owner: Owner, // of its memory: the address that created it
    readonly arena: Arena, // of its messages
  ) {
    this.blobs = new BlobStore(registry.limits.blobBytes, registry.memory, registry.blobs);
  }

  get hasEvents(): boolean {
    return this.#firstIndex <= this.lastIndex;
  }

  /**
   * Adds a participant, or finds it when it comes back with its token. With another card it is another session of the
   * same participant, and the others get that card. Throws name_taken, participants_full, channel_full, bridge_full.
   */
  join(id: ParticipantId, token: string, card: StoredCiphertext): Participant {
    const { limits, now } = this.registry;
    if (this.participants.has(id)) return this.#joinAgain(this.authenticate(id, token, 'name_taken'), card);
    if (this.participants.size >= limits.participants) throw new ApiError('participants_full');
    this.registry.touch(this);
    this.#reserve(PARTICIPANT_BYTES + bytesOf(card) + sizeOf(card));
    const participant: Participant = {
      id,
      tokenHash: hashToken(token),
      card,
      joinIndex: this.lastIndex + 1,
      pendingPolls: new Set(),
      polls: 0,
      uploads: 0,
      ackedIndex: this.#firstIndex - 1,
      scanFrom: this.#firstIndex,
      lastEvictedIndex: this.#firstIndex - 1,
      lastActiveAt: now(),
      isAway: false,
      scheduledLeaveAt: Infinity,
    };
    this.participants.set(id, participant);
    this.#append('join', id, BROADCAST, card);
    return participant;
  }

  #joinAgain(participant: Participant, card: StoredCiphertext): Participant {
    if (equalCiphertext(participant.card, card)) return participant;
    this.#reserve(Math.max(0, bytesOf(card) - bytesOf(participant.card)) + sizeOf(card));
    this.registry.addBytes(this, Math.min(0, bytesOf(card) - bytesOf(participant.card)));
    participant.card = card;
    participant.joinIndex = this.#append('join', participant.id, BROADCAST, card).index;
    return participant;
  }

  /** The participant with this id and token, which is active from now on. Throws no_participant, bad_token. */
  authenticate(id: ParticipantId, token: string, wrongToken: 'bad_token' | 'name_taken' = 'bad_token'): Participant {
    const participant = this.participants.get(id);
    if (!participant) throw new ApiError('no_participant');
    if (!isTokenOf(participant.tokenHash, token)) throw new ApiError(wrongToken);
    participant.lastActiveAt = this.registry.touch(this);
    participant.scheduledLeaveAt = Infinity;
    if (participant.isAway) this.#appendPresence('back', id);
    participant.isAway = false;
    return participant;
  }

  /** Notes how far a participant has fetched. Throws bad_request for a cursor that no response can have had. */
  acknowledge(participant: Participant, since: number): void {
    if (since > this.lastIndex) throw new ApiError('bad_request', 'since');
    participant.ackedIndex = Math.max(participant.ackedIndex, since);
    participant.scanFrom = Math.max(participant.scanFrom, since + 1);
  }

  /**
   * Appends a message, which is the last one written in the arena, or finds the one with the same nonce; returns its index.
   * Throws nonce_reused, no_recipient, channel_full, bridge_full.
   */
  send({ id }: Participant, to: Recipient, message: StoredCiphertext): number {
    const sent = this.messagesByNonce.get(message.nonce);
    if (sent?.from === id) {
      const isSame = sent.to === to && sent.payload !== undefined && equalCiphertext(sent.payload, message);
      if (!isSame) throw new ApiError('nonce_reused');
      return sent.index;
    }
    const recipient = to === BROADCAST ? to : this.participants.get(to)?.id;
    if (recipient === undefined) throw new ApiError('no_recipient');
    this.#reserve(sizeOf(message));
    const event = this.#append('message', id, recipient, this.arena.commit(message));
    this.messagesByNonce.set(message.nonce, event);
    return event.index;
  }

  /** The visible events after `since`, as many as fit into a response. Each invisible event is skipped only once. */
  eventsAfter(participant: Participant, since: number): PollResult {
    const gap = since < participant.lastEvictedIndex ? participant.lastEvictedIndex : undefined;
    const events: Event[] = [];
    let cursor = gap ?? since;
    let bytes = 0;
    const start = Math.max(cursor + 1, this.#firstIndex, since >= participant.ackedIndex ? participant.scanFrom : 0);
    for (let index = start; index <= this.lastIndex && bytes < this.registry.limits.pollResponseBytes; index++) {
      const event = this.#log[index - this.#offset];
      if (!event || !isVisible(event, participant)) continue;
      events.push(event);
      cursor = index;
      bytes += sizeOf(event.payload);
    }
    if (since === participant.ackedIndex) participant.scanFrom = events[0]?.index ?? this.lastIndex + 1;
    return { since, gap, events, cursor };
  }

  /** Counts a poll until endPoll(): while it is pending, and while its response is not read. Throws too_many_polls. */
  beginPoll(participant: Participant): void {
    const { pollsPerParticipant, pollsPerChannel } = this.registry.limits;
    const maxPolls = pollsPerChannel || Infinity; // 0 is no limit
    const isFull = participant.polls >= pollsPerParticipant || this.#polls >= maxPolls;
    if (isFull) throw new ApiError('too_many_polls');
    participant.polls++;
    this.#polls++;
  }

  endPoll(participant: Participant): void {
    participant.polls--;
    this.#polls--;
  }

  addPendingPoll({ pendingPolls }: Participant, poll: PendingPoll): void {
    pendingPolls.add(poll);
  }

  /** For a poll whose time is up, whose client has gone, or that is being resolved. False if it was removed before. */
  removePendingPoll(participant: Participant, poll: PendingPoll): boolean {
    if (!participant.pendingPolls.delete(poll)) return false;
    participant.lastActiveAt = this.registry.now();
    return true;
  }

  /** Resolves pending polls without events: with an error, or with their own cursor. */
  resolvePendingPolls(participants: Iterable<Participant>, error?: ApiError): void {
    for (const participant of participants) {
      for (const poll of participant.pendingPolls) {
        this.removePendingPoll(participant, poll);
        poll.resolve(error ?? { since: poll.since, gap: undefined, events: [], cursor: poll.since });
      }
    }
  }

  /** Begins an upload, which endUpload() must end. Throws too_many_requests. */
  beginUpload(participant: Participant, id: BlobId, bytes: number, address: string): Upload {
    if (participant.uploads >= this.registry.limits.uploadsPerParticipant) throw new ApiError('too_many_requests');
    participant.uploads++;
    return new Upload(this.blobs, id, participant.id, address, bytes);
  }

  /** Whether the blob is new here. Throws bad_request, no_participant, no_channel. */
  completeUpload(participant: Participant, upload: Upload): boolean {
    if (this.participants.get(participant.id) !== participant) throw new ApiError('no_participant');
    return upload.complete(this.registry.now());
  }

  endUpload(participant: Participant, upload: Upload): void {
    participant.uploads--;
    upload.abort();
  }

  /** Now, or after so many seconds unless the participant sends another request before. */
  leave(participant: Participant, afterSeconds: number): void {
    if (afterSeconds === 0) {
      this.#remove(participant, 'left');
      return;
    }
    participant.scheduledLeaveAt = this.registry.now() + afterSeconds * 1000;
    this.#nextDeadline = 0;
  }

  /** Applies timeouts: away, expiry, scheduled leave. A participant with a pending poll is active. */
  sweep(now: number): void {
    if (now < this.#nextDeadline) return; // most channels have nothing due
    const expiryMs = this.registry.limits.expirySeconds * 1000;
    this.#nextDeadline = this.lastUsedAt + expiryMs;
    if (this.participants.size === 0 && now >= this.#nextDeadline) this.registry.delete(this);
    for (const participant of this.participants.values()) this.#applyTimeouts(participant, now, expiryMs);
  }

  #applyTimeouts(participant: Participant, now: number, expiryMs: number): void {
    const awayMs = this.registry.limits.awaySeconds * 1000;
    const activeAt = participant.pendingPolls.size > 0 ? now : participant.lastActiveAt;
    const inactiveMs = now - activeAt;
    if (now >= participant.scheduledLeaveAt) {
      this.#remove(participant, 'left');
    } else if (inactiveMs >= expiryMs) {
      this.#remove(participant, 'expired');
    } else if (inactiveMs >= awayMs && !participant.isAway) {
      participant.isAway = true;
      this.#appendPresence('away', participant.id);
    } else {
      const nextTimeoutMs = participant.isAway ? expiryMs : awayMs;
      this.#nextDeadline = Math.min(this.#nextDeadline, participant.scheduledLeaveAt, activeAt + nextTimeoutMs);
    }
  }

  /** The one place where a participant is removed. The channel ends with its last one. */
  #remove(participant: Participant, reason: 'left' | 'expired'): void {
    this.participants.delete(participant.id);
    this.resolvePendingPolls([participant], new ApiError('no_participant'));
    this.registry.addBytes(this, -PARTICIPANT_BYTES - bytesOf(participant.card));
    if (this.participants.size === 0) this.registry.delete(this);
    else this.#appendPresence('leave', participant.id, reason);
  }

  /** Presence events never fail. They may take a sixteenth more memory than messages; beyond that the oldest goes. */
  #appendPresence(type: Event['type'], from: ParticipantId, reason?: Event['reason']): void {
    const maxBytes = (this.registry.limits.channelBytes * 17) / 16;
    while (this.bytes + EVENT_BYTES > maxBytes && this.hasEvents) this.evictOldest();
    this.registry.memory.reserveAnyway(this.owner, EVENT_BYTES, this);
    this.bytes += EVENT_BYTES;
    this.#append(type, from, BROADCAST, undefined, reason);
  }

  /** Makes room, and counts it. Throws channel_full if an active participant still has to fetch the oldest; bridge_full. */
  #reserve(bytes: number): void {
    while (this.bytes + bytes > this.registry.limits.channelBytes) {
      if (!this.#evictAckedOne()) throw new ApiError('channel_full');
    }
    this.registry.memory.reserve(this.owner, bytes, this);
    this.bytes += bytes;
  }

  #evictAckedOne(): boolean {
    const oldest = this.#log[this.#firstIndex - this.#offset];
    if (!oldest || this.#isUnacked(oldest)) return false;
    this.evictOldest();
    return true;
  }

  evictAcked(bytes: number): boolean {
    const targetBytes = this.bytes - bytes;
    let isAnyEvicted = false;
    while (this.bytes > targetBytes && this.#evictAckedOne()) isAnyEvicted = true;
    return isAnyEvicted;
  }

  isActive(): boolean {
    return [...this.participants.values()].some((participant) => this.#isActive(participant));
  }

  evict(): void {
    this.registry.evict(this);
  }

  #isActive({ pendingPolls, lastActiveAt }: Participant): boolean {
    return pendingPolls.size > 0 || lastActiveAt > this.registry.now() - this.registry.limits.liveSeconds * 1000;
  }

  #isUnacked(event: Event): boolean {
    for (const participant of this.participants.values()) {
      const isVisibleNext = event.index >= participant.scanFrom && isVisible(event, participant);
      if (isVisibleNext && this.#isActive(participant)) return true;
    }
    return false;
  }

  /** The one place where an event, and its nonce with it, is removed. */
  evictOldest(): void {
    const event = this.#log[this.#firstIndex - this.#offset];
    if (!event) return;
    this.#log[this.#firstIndex - this.#offset] = undefined;
    this.#firstIndex++;
    this.owner.events.remove(event);
    if (!this.hasEvents) this.owner.setHasEvents(this, false);
    if (this.#firstIndex - this.#offset > 64 + this.#log.length / 2) {
      this.#log = this.#log.slice(this.#firstIndex - this.#offset);
      this.#offset = this.#firstIndex;
    }
    if (event.payload && event.type === 'message') {
      const { nonce } = event.payload;
      this.arena.free(event.payload);
      if (this.messagesByNonce.get(nonce) === event) this.messagesByNonce.delete(nonce);
    }
    this.registry.addBytes(this, -sizeOf(event.payload));
    for (const participant of this.participants.values()) {
      if (isVisible(event, participant)) participant.lastEvictedIndex = event.index;
    }
  }

  /** The one place where an event is added. Resolves the pending polls that it is visible to. */
  #append(
    type: Event['type'],
    from: ParticipantId,
    to: Recipient,
    payload?: StoredCiphertext,
    reason?: Event['reason'],
  ): Event {
    if (!this.hasEvents) this.owner.setHasEvents(this, true);
    this.lastIndex++;
    const event = new Event(this, type, this.lastIndex, this.registry.now(), from, to, payload, reason);
    this.owner.events.add(event);
    if (type !== 'message') this.#nextDeadline = 0; // who is there has changed
    this.#log.push(event);
    for (const participant of this.participants.values()) {
      if (participant.pendingPolls.size === 0 || !isVisible(event, participant)) continue;
      for (const poll of participant.pendingPolls) {
        this.removePendingPoll(participant, poll);
        poll.resolve(this.eventsAfter(participant, poll.since));
      }
    }
    return event;
  }
}

/** All channels. They share nothing but memory. */
export class ChannelRegistry {
  readonly #channels = new Map<ChannelId, Channel>();
  readonly freeBlocks: Block[] = []; // of all arenas
  readonly memory: Memory;
  readonly blobs = { count: 0, bytes: 0 };
  evictedCount = 0; // channels, so far

  constructor(
    readonly limits: Limits,
    readonly now: () => number,
    readonly randomHex: (bytes: number) => string,
  ) {
    this.memory = new Memory(limits.memoryBytes);
  }

  has(id: ChannelId): boolean {
    return this.#channels.has(id);
  }

  /** Throws no_channel. */
  get(id: ChannelId): Channel {
    const channel = this.#channels.get(id);
    if (!channel) throw new ApiError('no_channel');
    return channel;
  }

  /** Finds a channel, or creates it with its memory charged to the address. Throws bridge_full. */
  getOrCreate(id: ChannelId, address: string): Channel {
    const known = this.#channels.get(id);
    if (known) {
      this.touch(known);
      return known;
    }
    const owner = this.memory.owner(address);
    while (this.#channels.size >= this.limits.channels) this.memory.reserveChannel(owner);
    const channel = new Channel(id, this.randomHex(16), this, owner, new Arena(this.freeBlocks));
    this.memory.reserve(owner, CHANNEL_BYTES);
    channel.bytes = CHANNEL_BYTES;
    this.#channels.set(id, channel);
    this.touch(channel);
    return channel;
  }

  /** Notes that a channel is used, once a second at most. Returns the time. */
  touch(channel: Channel): number {
    const now = this.now();
    if (now - channel.lastUsedAt < 1000) return now;
    channel.lastUsedAt = now;
    channel.owner.touch(channel, channel.hasEvents);
    return now;
  }

  addBytes(channel: Channel, bytes: number): void {
    channel.bytes += bytes;
    this.memory.add(channel.owner, bytes);
  }

  /** For a channel whose memory or place is needed. */
  evict(channel: Channel): void {
    this.evictedCount++;
    this.delete(channel);
  }

  /** The one place where a channel ends: everybody left or expired, or its memory was needed. */
  delete(channel: Channel): void {
    if (!this.#channels.delete(channel.id)) return;
    channel.blobs.close();
    channel.resolvePendingPolls(channel.participants.values(), new ApiError('no_channel'));
    channel.participants.clear();
    while (channel.hasEvents) channel.evictOldest();
    channel.owner.remove(channel);
    this.addBytes(channel, -channel.bytes);
  }

  /** To be called about once a second. */
  sweep(): void {
    for (const channel of this.#channels.values()) channel.sweep(this.now());
    this.freeBlocks.length -= Math.ceil(this.freeBlocks.length / 32); // the system gets back what is not needed
  }

  /** So that the process can end. */
  resolveAllPendingPolls(): void {
    for (const channel of this.#channels.values()) channel.resolvePendingPolls(channel.participants.values());
  }

  gauges() {
    let participants = 0;
    let pollsPending = 0;
    for (const channel of this.#channels.values()) {
      participants += channel.participants.size;
      for (const { pendingPolls } of channel.participants.values()) pollsPending += pendingPolls.size;
    }
    return {
      channels: this.#channels.size,
      participants,
      polls_pending: pollsPending,
      blobs: this.blobs.count,
      blob_bytes: this.blobs.bytes,
      channel_memory_bytes: this.memory.bytes,
      memory_owners: this.memory.owners,
    };
  }
}
