/**
 * The channels: who is in them, the ordered log of each, who waits for more of it. It sees ids, ciphertext, sizes and
 * times, and never a key, a name or a message. No HTTP and no clock of its own: time and randomness are handed in.
 *
 * An event is visible to a participant if it is not its own and goes to everybody or to it. The log is a window over
 * the indices first..last; when a channel is full its oldest events go, unless a participant that is alive still has to
 * fetch them: then senders wait.
 */
import { Refusal } from './errors.ts';
import { EVERYBODY, isSameHash } from './ids.ts';
import type { ChannelId, ParticipantId, Recipient, Sealed } from './ids.ts';
import type { Limits } from './limits.ts';
import { Shelf } from './shelf.ts';

type Kind =
  | { readonly type: 'message' | 'join'; readonly sealed: Sealed }
  | { readonly type: 'leave'; readonly reason: 'left' | 'expired' }
  | { readonly type: 'away' | 'back' };
type Envelope = { readonly index: number; readonly at: number; readonly from: ParticipantId; readonly to: Recipient };
/** `at` is Unix milliseconds, like all times here. */
export type Event = Kind & Envelope;

/** What a poll is given. The gap says that visible events after `since` up to `until` are no longer held. */
export interface Batch {
  readonly cursor: number;
  readonly gap: { readonly since: number; readonly until: number } | undefined;
  readonly events: readonly Event[];
}

/** A poll that waits. It is settled once: with what it waited for, or with the reason why that will not come. */
export interface Waiter {
  readonly since: number;
  settle(outcome: Batch | Refusal): void;
}

export interface Participant {
  readonly id: ParticipantId;
  readonly tokenHash: Buffer;
  readonly card: Sealed;
  readonly joined: number; // the index of its own join
  readonly waiters: Set<Waiter>;
  fetched: number; // the highest `since` that it presented
  next: number; // no event visible to it lies between `fetched` and this: what it still has to fetch starts here or later
  lost: number; // the last event visible to it that is no longer held
  seenAt: number; // when its last request began or, if that waited, ended
  isAway: boolean;
  leaveAt: number; // when it leaves, unless it is heard of before
}

export type Presence = { readonly id: ParticipantId; readonly listening: boolean; readonly seenSeconds: number };

// What things take beside their ciphertext, rounded up, so that the limits in bytes mean memory.
const EVENT_BYTES = 512;
const PARTICIPANT_BYTES = 1024;
const CHANNEL_BYTES = 2048;
const bytesOf = (event: Kind) => EVENT_BYTES + ('sealed' in event ? event.sealed.ciphertext.length : 0);

const isVisible = ({ from, to }: Event, { id }: Participant) => from !== id && (to === EVERYBODY || to === id);

export class Channel {
  readonly participants = new Map<ParticipantId, Participant>();
  readonly #log = new Map<number, Event>(); // by index; they enter in #push and leave in #dropOldest
  readonly #sent = new Map<string, Event>(); // the messages of the log by sender and nonce
  readonly #shelf = new Shelf();
  #first = 1;
  last = 0;
  bytes = 0;
  usedAt = 0;

  constructor(
    readonly id: ChannelId,
    readonly epoch: string,
    readonly house: Channels,
  ) {}

  presence({ id, waiters, seenAt }: Participant): Presence {
    const listening = waiters.size > 0;
    return { id, listening, seenSeconds: listening ? 0 : Math.max(0, Math.floor((this.house.now() - seenAt) / 1000)) };
  }

  /**
   * Lets a participant in, or finds it there when it comes back with its token; the card of its first joining stays.
   * Throws name_taken, participants_full, channel_full, bridge_full.
   */
  join(id: ParticipantId, tokenHash: Buffer, card: Sealed): { participant: Participant; isResumed: boolean } {
    const known = this.participants.get(id);
    if (known) {
      if (!isSameHash(known.tokenHash, tokenHash)) throw new Refusal('name_taken');
      this.#heardOf(known);
      return { participant: known, isResumed: true };
    }
    if (this.participants.size >= this.house.limits.participants) throw new Refusal('participants_full');
    this.house.use(this);
    this.#reserve(PARTICIPANT_BYTES + EVENT_BYTES + 2 * card.ciphertext.length);
    const cursors = { joined: this.last + 1, fetched: this.#first - 1, next: this.#first, lost: this.#first - 1 };
    const presence = { waiters: new Set<Waiter>(), seenAt: this.house.now(), isAway: false, leaveAt: Infinity };
    const participant: Participant = { id, tokenHash, card, ...cursors, ...presence };
    this.participants.set(id, participant);
    this.#push({ type: 'join', sealed: card }, id);
    return { participant, isResumed: false };
  }

  /** The participant with this id and token; that it was heard of is noted. Throws no_participant, bad_token. */
  enter(id: ParticipantId, tokenHash: Buffer): Participant {
    const participant = this.participants.get(id);
    if (!participant) throw new Refusal('no_participant');
    if (!isSameHash(participant.tokenHash, tokenHash)) throw new Refusal('bad_token');
    this.#heardOf(participant);
    return participant;
  }

  /** Notes how far a participant has fetched. Throws bad_request for a cursor that no answer can have given. */
  present(participant: Participant, since: number): void {
    if (since > this.last) throw new Refusal('bad_request', 'since');
    if (since <= participant.fetched) return;
    participant.fetched = since;
    participant.next = Math.max(participant.next, since + 1);
  }

  /**
   * Appends a message, or finds the one with the same nonce. Presence is as it was before the message came.
   * Throws nonce_reused, no_recipient, channel_full, bridge_full.
   */
  send(sender: Participant, to: Recipient, sealed: Sealed): { index: number; recipients: Presence[]; isNew: boolean } {
    const recipients: Presence[] = [];
    for (const other of this.participants.values()) {
      if (other !== sender && (to === EVERYBODY || to === other.id)) recipients.push(this.presence(other));
    }
    const key = sender.id + sealed.nonce;
    const sent = this.#sent.get(key);
    if (sent) {
      if (!isSame(sent, to, sealed)) throw new Refusal('nonce_reused');
      return { index: sent.index, recipients, isNew: false };
    }
    if (to !== EVERYBODY && recipients.length === 0) throw new Refusal('no_recipient');
    this.#reserve(EVENT_BYTES + sealed.ciphertext.length);
    const kept = this.#shelf.put(sealed, this.bytes);
    this.#sent.set(key, this.#push({ type: 'message', sealed: kept }, sender.id, to));
    return { index: this.last, recipients, isNew: true };
  }

  /** The visible events after `since`, as many as fit into an answer. Each invisible event is passed over only once. */
  read(participant: Participant, since: number): Batch {
    const gap = since < participant.lost ? { since, until: participant.lost } : undefined;
    const events: Event[] = [];
    let cursor = gap ? gap.until : since;
    let bytes = 0;
    const start = Math.max(cursor + 1, this.#first, since >= participant.fetched ? participant.next : 0);
    for (let index = start; index <= this.last && bytes < this.house.limits.answerBytes; index++) {
      const event = this.#log.get(index);
      if (!event || !isVisible(event, participant)) continue;
      events.push(event);
      cursor = index;
      bytes += bytesOf(event);
    }
    if (since === participant.fetched) participant.next = events[0]?.index ?? this.last + 1;
    return { cursor, gap, events };
  }

  /** Throws too_many_polls. */
  wait({ waiters }: Participant, waiter: Waiter): void {
    if (waiters.size >= this.house.limits.waitingPolls) throw new Refusal('too_many_polls');
    waiters.add(waiter);
  }

  /** The poll is over: its time is up, its client has gone, or it is being settled. False if it was over before. */
  endWait(participant: Participant, waiter: Waiter): boolean {
    if (!participant.waiters.delete(waiter)) return false;
    participant.seenAt = this.house.now();
    return true;
  }

  /** Settles waiting polls that will get nothing: with the reason, or with their own cursor. */
  release(participants: Iterable<Participant>, reason?: Refusal): void {
    for (const participant of participants) {
      for (const waiter of participant.waiters) {
        this.endWait(participant, waiter);
        waiter.settle(reason ?? { cursor: waiter.since, gap: undefined, events: [] });
      }
    }
  }

  /** Now, or after so many seconds unless another request of its comes before. */
  leave(participant: Participant, afterSeconds: number): void {
    if (afterSeconds === 0) this.#remove(participant, 'left');
    else participant.leaveAt = this.house.now() + afterSeconds * 1000;
  }

  /** What time alone brings about. A waiting poll is a request that goes on; when it ends, the silence begins. */
  sweep(): void {
    const { idleSeconds, awaySeconds } = this.house.limits;
    const now = this.house.now();
    if (this.participants.size === 0 && now - this.usedAt >= idleSeconds * 1000) return this.house.end(this);
    for (const participant of this.participants.values()) {
      const silentMs = participant.waiters.size > 0 ? 0 : now - participant.seenAt;
      if (now >= participant.leaveAt) this.#remove(participant, 'left');
      else if (silentMs >= idleSeconds * 1000) this.#remove(participant, 'expired');
      else if (silentMs >= awaySeconds * 1000 && !participant.isAway) {
        participant.isAway = true;
        this.#announce({ type: 'away' }, participant);
      }
    }
  }

  #heardOf(participant: Participant): void {
    this.house.use(this);
    participant.seenAt = this.house.now();
    participant.leaveAt = Infinity;
    if (!participant.isAway) return;
    participant.isAway = false;
    this.#announce({ type: 'back' }, participant);
  }

  /** The one place where a participant goes; the last one takes the channel along. */
  #remove(participant: Participant, reason: 'left' | 'expired'): void {
    this.participants.delete(participant.id);
    this.release([participant], new Refusal('no_participant'));
    this.house.count(this, -PARTICIPANT_BYTES - participant.card.ciphertext.length);
    if (this.participants.size === 0) this.house.end(this);
    else this.#announce({ type: 'leave', reason }, participant);
  }

  /** Presence can't be refused. It may take a sixteenth more room than messages, and beyond that the oldest goes. */
  #announce(kind: Kind, { id }: Participant): void {
    while (this.bytes + EVENT_BYTES > (this.house.limits.channelBytes * 17) / 16 && this.#dropOldest());
    this.house.count(this, EVENT_BYTES);
    this.#push(kind, id);
  }

  /** Makes room, and counts it. Throws channel_full if that would take from somebody who is alive; bridge_full. */
  #reserve(bytes: number): void {
    while (this.bytes + bytes > this.house.limits.channelBytes) {
      const oldest = this.#log.get(this.#first);
      if (!oldest || this.#isAwaited(oldest)) throw new Refusal('channel_full');
      this.#dropOldest();
    }
    this.house.makeRoom(this, bytes);
    this.house.count(this, bytes);
  }

  #isAwaited(event: Event): boolean {
    const aliveSince = this.house.now() - this.house.limits.liveSeconds * 1000;
    for (const participant of this.participants.values()) {
      const isAlive = participant.waiters.size > 0 || participant.seenAt > aliveSince;
      if (isAlive && event.index >= participant.next && isVisible(event, participant)) return true;
    }
    return false;
  }

  /** The one place where an event, and its nonce with it, is given up. */
  #dropOldest(): boolean {
    const event = this.#log.get(this.#first);
    if (!event) return false;
    this.#log.delete(this.#first++);
    if (event.type === 'message') this.#sent.delete(event.from + event.sealed.nonce);
    this.house.count(this, -bytesOf(event));
    for (const participant of this.participants.values()) {
      if (isVisible(event, participant)) participant.lost = event.index;
    }
    return true;
  }

  /** The one place where an event enters; whoever waits for it has it at once. */
  #push(kind: Kind, from: ParticipantId, to: Recipient = EVERYBODY): Event {
    const event: Event = { ...kind, index: ++this.last, at: this.house.now(), from, to };
    this.#log.set(event.index, event);
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

const isSame = (event: Event, to: Recipient, { ciphertext, tag }: Sealed) =>
  event.type === 'message' && event.to === to && event.sealed.tag === tag && event.sealed.ciphertext === ciphertext;

/** All channels. They share nothing but the memory that is counted here. */
export class Channels {
  readonly #channels = new Map<ChannelId, Channel>(); // the least recently used first
  #newest: Channel | undefined;
  #bytes = 0;

  constructor(
    readonly limits: Limits,
    readonly now: () => number,
    readonly randomHex: (bytes: number) => string,
  ) {}

  /** Throws no_channel. */
  get(id: ChannelId): Channel {
    const channel = this.#channels.get(id);
    if (!channel) throw new Refusal('no_channel');
    return channel;
  }

  /** Makes a channel or finds it. Throws bridge_full. */
  open(id: ChannelId): { channel: Channel; isNew: boolean } {
    const known = this.#channels.get(id);
    const channel = known ?? new Channel(id, this.randomHex(16), this);
    this.use(channel);
    if (known) return { channel, isNew: false };
    this.makeRoom(channel, CHANNEL_BYTES);
    this.count(channel, CHANNEL_BYTES);
    return { channel, isNew: true };
  }

  use(channel: Channel): void {
    channel.usedAt = this.now();
    if (channel === this.#newest) return;
    this.#newest = channel;
    this.#channels.delete(channel.id);
    this.#channels.set(channel.id, channel);
  }

  count(channel: Channel, bytes: number): void {
    channel.bytes += bytes;
    this.#bytes += bytes;
  }

  /** Gives up the least recently used channels, whole, for one that was just used. Throws bridge_full. */
  makeRoom(channel: Channel, bytes: number): void {
    while (this.#bytes + bytes > this.limits.totalBytes || this.#channels.size > this.limits.channels) {
      const [oldest] = this.#channels.values();
      if (!oldest || oldest === channel) throw new Refusal('bridge_full');
      this.end(oldest);
    }
  }

  /** The one place where a channel ends: everybody left or expired, or its memory was needed. */
  end(channel: Channel): void {
    this.#channels.delete(channel.id);
    if (this.#newest === channel) this.#newest = undefined;
    this.#bytes -= channel.bytes;
    channel.release(channel.participants.values(), new Refusal('no_channel'));
  }

  /** To be called about once a second. */
  sweep(): void {
    for (const channel of this.#channels.values()) channel.sweep();
  }

  /** Answers every waiting poll with nothing new, so that the process can end. */
  release(): void {
    for (const channel of this.#channels.values()) channel.release(channel.participants.values());
  }

  gauges(): { channels: number; participants: number; waiting_polls: number; held_bytes: number } {
    const gauges = { channels: this.#channels.size, participants: 0, waiting_polls: 0, held_bytes: this.#bytes };
    for (const { participants } of this.#channels.values()) {
      gauges.participants += participants.size;
      for (const { waiters } of participants.values()) gauges.waiting_polls += waiters.size;
    }
    return gauges;
  }
}
