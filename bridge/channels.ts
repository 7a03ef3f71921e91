/**
 * The channels: who is in them, the ordered log of each, who waits for more of it. It sees ids, ciphertext, sizes and
 * times, and never a key, a name or a message. No HTTP and no clock of its own: time and randomness are handed in.
 *
 * An event is visible to a participant if it is not its own and goes to everybody or to it. The log is a window over
 * the indices `first`..`last`; when a channel is full its oldest events go, unless a participant that is alive still
 * has to fetch them: then senders wait.
 */
import { Refusal } from './errors.ts';
import { EVERYBODY, isSameHash } from './ids.ts';
import type { ChannelId, ParticipantId, Recipient, Sealed } from './ids.ts';
import type { Limits } from './limits.ts';
import { Log, Shelf } from './log.ts';

type Kind =
  | { readonly type: 'message' | 'join'; readonly sealed: Sealed }
  | { readonly type: 'leave'; readonly reason: 'left' | 'expired' }
  | { readonly type: 'away' | 'back' };
export type Event = Kind & {
  readonly index: number;
  /** Unix milliseconds. */
  readonly at: number;
  readonly from: ParticipantId;
  readonly to: Recipient;
};

/** What one poll is given. A gap says that visible events after `since` up to `until` are no longer held. */
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
  /** The index of its own join. */
  readonly joined: number;
  readonly waiters: Set<Waiter>;
  /** The highest `since` that it presented. */
  fetched: number;
  /** No event visible to it lies between `fetched` and this index: what it still has to fetch starts here or later. */
  next: number;
  /** The last event visible to it that is no longer held. */
  lost: number;
  /** When its last request began or ended, Unix ms. */
  seenAt: number;
  isAway: boolean;
  /** When it leaves unless it is heard of before, Unix ms. */
  leaveAt: number;
}

export interface Presence {
  readonly id: ParticipantId;
  readonly listening: boolean;
  readonly seenSeconds: number;
}

// What things cost beside their ciphertext, so that the byte limits mean memory: measured on Node 20, rounded up.
const EVENT_BYTES = 512;
const PARTICIPANT_BYTES = 1024;
const CHANNEL_BYTES = 2048;

const isVisible = (event: Event, { id }: Participant) =>
  event.from !== id && (event.to === EVERYBODY || event.to === id);
const bytesOf = (event: Kind) => EVENT_BYTES + ('sealed' in event ? event.sealed.ciphertext.length : 0);
const bytesOfParticipant = (card: Sealed) => PARTICIPANT_BYTES + card.ciphertext.length;

export class Channel {
  readonly id: ChannelId;
  readonly epoch: string;
  /** Nothing changes by the mere passing of time before this, Unix ms. */
  dueAt = 0;
  usedAt: number;
  bytes = 0;
  readonly #house: Channels;
  readonly #participants = new Map<ParticipantId, Participant>();
  readonly #log = new Log<Event>();
  /** The held messages by sender and nonce; they come and go with their events. */
  readonly #nonces = new Map<string, Event>();
  readonly #shelf = new Shelf();

  constructor(house: Channels, id: ChannelId, epoch: string, now: number) {
    this.#house = house;
    this.id = id;
    this.epoch = epoch;
    this.usedAt = now;
  }

  get last(): number {
    return this.#log.last;
  }

  get participants(): Iterable<Participant> {
    return this.#participants.values();
  }

  presence({ id, waiters, seenAt }: Participant): Presence {
    const listening = waiters.size > 0;
    return { id, listening, seenSeconds: listening ? 0 : Math.max(0, Math.floor((this.#house.now() - seenAt) / 1000)) };
  }

  /**
   * Lets a participant in, or finds it there when it comes back with its token. The card of its first joining stays.
   * Throws name_taken, participants_full, channel_full, bridge_full.
   */
  join(id: ParticipantId, tokenHash: Buffer, card: Sealed): { participant: Participant; isResumed: boolean } {
    const known = this.#participants.get(id);
    if (known) {
      if (!isSameHash(known.tokenHash, tokenHash)) throw new Refusal('name_taken');
      this.#heardOf(known);
      return { participant: known, isResumed: true };
    }
    const { limits } = this.#house;
    if (this.#participants.size >= limits.participants) throw new Refusal('participants_full');
    this.#house.used(this);
    this.#reserve(bytesOfParticipant(card) + EVENT_BYTES + card.ciphertext.length);
    const before = this.#log.first - 1;
    const joined = this.#log.last + 1;
    const seenAt = this.#house.now();
    const presence = { seenAt, isAway: false, leaveAt: Infinity, waiters: new Set<Waiter>() };
    const participant = {
      id,
      tokenHash,
      card,
      joined,
      fetched: before,
      next: this.#log.first,
      lost: before,
      ...presence,
    };
    this.#participants.set(id, participant);
    this.#house.participants++;
    this.dueAt = Math.min(this.dueAt, seenAt);
    this.#push({ type: 'join', sealed: card, index: joined, at: seenAt, from: id, to: EVERYBODY });
    return { participant, isResumed: false };
  }

  /** The participant with this id and token; that it was heard of is noted. Throws no_participant, bad_token. */
  enter(id: ParticipantId, tokenHash: Buffer): Participant {
    const participant = this.#participants.get(id);
    if (!participant) throw new Refusal('no_participant');
    if (!isSameHash(participant.tokenHash, tokenHash)) throw new Refusal('bad_token');
    this.#heardOf(participant);
    return participant;
  }

  /** Notes how far a participant has fetched. Throws bad_request for a cursor that no answer can have given. */
  present(participant: Participant, since: number): void {
    if (since > this.#log.last) throw new Refusal('bad_request', 'since');
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
    for (const other of this.#participants.values()) {
      if (other !== sender && (to === EVERYBODY || to === other.id)) recipients.push(this.presence(other));
    }
    const key = sender.id + sealed.nonce;
    const sent = this.#nonces.get(key);
    if (sent) {
      if (!isSameMessage(sent, to, sealed)) throw new Refusal('nonce_reused');
      return { index: sent.index, recipients, isNew: false };
    }
    if (to !== EVERYBODY && recipients.length === 0) throw new Refusal('no_recipient');
    this.#reserve(EVENT_BYTES + sealed.ciphertext.length);
    const index = this.#log.last + 1;
    const kept = this.#shelf.put(sealed, this.bytes);
    const event: Event = { type: 'message', sealed: kept, index, at: this.#house.now(), from: sender.id, to };
    this.#nonces.set(key, event);
    this.#push(event);
    return { index, recipients, isNew: true };
  }

  /** The visible events after `since`, as many as fit into an answer. Each invisible event is passed over only once. */
  read(participant: Participant, since: number): Batch {
    const gap = since < participant.lost ? { since, until: participant.lost } : undefined;
    const events: Event[] = [];
    let cursor = gap ? gap.until : since;
    let bytes = 0;
    const start = Math.max(cursor + 1, this.#log.first, since >= participant.fetched ? participant.next : 0);
    for (let index = start; index <= this.#log.last && bytes < this.#house.limits.answerBytes; index++) {
      const event = this.#log.get(index);
      if (!event || !isVisible(event, participant)) continue;
      events.push(event);
      cursor = index;
      bytes += bytesOf(event);
    }
    if (since === participant.fetched) participant.next = events[0]?.index ?? this.#log.last + 1;
    return { cursor, gap, events };
  }

  /** Throws too_many_polls. */
  wait({ waiters }: Participant, waiter: Waiter): void {
    if (waiters.size >= this.#house.limits.waitingPolls) throw new Refusal('too_many_polls');
    waiters.add(waiter);
    this.#house.waiting++;
  }

  /** The poll is over: its time is up, its client has gone, or it is being settled. False if it was over before. */
  endWait(participant: Participant, waiter: Waiter): boolean {
    if (!participant.waiters.delete(waiter)) return false;
    this.#house.waiting--;
    participant.seenAt = this.#house.now();
    return true;
  }

  /** Now, or after so many seconds unless another request of its comes before. */
  leave(participant: Participant, afterSeconds: number): void {
    if (afterSeconds === 0) return this.#remove(participant, 'left');
    participant.leaveAt = this.#house.now() + afterSeconds * 1000;
    this.dueAt = Math.min(this.dueAt, participant.leaveAt);
  }

  /** What time alone brings about: leaving, expiring, being away, and the end of a channel that nobody joined. */
  sweep(now: number): void {
    const { idleSeconds, awaySeconds } = this.#house.limits;
    if (this.#participants.size === 0) {
      this.dueAt = this.usedAt + idleSeconds * 1000;
      if (now >= this.dueAt) this.#house.end(this);
      return;
    }
    this.dueAt = Infinity;
    for (const participant of this.#participants.values()) {
      // A waiting poll is a request that goes on; when it ends, the silence starts anew.
      const since = participant.waiters.size > 0 ? now : participant.seenAt;
      const awayAt = participant.isAway ? Infinity : since + awaySeconds * 1000;
      const expiresAt = since + idleSeconds * 1000;
      if (now >= participant.leaveAt) this.#remove(participant, 'left');
      else if (now >= expiresAt) this.#remove(participant, 'expired');
      else {
        if (now >= awayAt) {
          participant.isAway = true;
          this.#announce({ type: 'away' }, participant.id);
        }
        this.dueAt = Math.min(this.dueAt, participant.leaveAt, expiresAt, now >= awayAt ? Infinity : awayAt);
      }
    }
  }

  /** Settles every waiting poll: with nothing new, or with the reason. */
  release(reason?: Refusal): void {
    for (const participant of this.#participants.values()) this.#release(participant, reason);
  }

  #release(participant: Participant, reason?: Refusal): void {
    for (const waiter of participant.waiters) {
      this.endWait(participant, waiter);
      waiter.settle(reason ?? { cursor: waiter.since, gap: undefined, events: [] });
    }
  }

  #heardOf(participant: Participant): void {
    this.#house.used(this);
    participant.seenAt = this.#house.now();
    participant.leaveAt = Infinity;
    if (!participant.isAway) return;
    participant.isAway = false;
    this.dueAt = Math.min(this.dueAt, participant.seenAt);
    this.#announce({ type: 'back' }, participant.id);
  }

  /** The one place where a participant leaves the Map; the last one takes the channel along. */
  #remove(participant: Participant, reason: 'left' | 'expired'): void {
    this.#participants.delete(participant.id);
    this.#house.participants--;
    this.#release(participant, new Refusal('no_participant'));
    this.#free(bytesOfParticipant(participant.card));
    if (this.#participants.size === 0) this.#house.end(this);
    else this.#announce({ type: 'leave', reason }, participant.id);
  }

  /** Presence can't be refused. It may use a sixteenth more than messages may, and then takes from the oldest. */
  #announce(kind: Kind, from: ParticipantId): void {
    const { channelBytes } = this.#house.limits;
    while (this.bytes + EVENT_BYTES > channelBytes + channelBytes / 16 && this.#log.last >= this.#log.first)
      this.#dropOldest();
    this.#house.claim(this, EVENT_BYTES, true);
    this.#push({ ...kind, index: this.#log.last + 1, at: this.#house.now(), from, to: EVERYBODY } as Event);
  }

  /** Makes room for bytes, and counts them. Throws channel_full when that would take from somebody who is alive. */
  #reserve(bytes: number): void {
    while (this.bytes + bytes > this.#house.limits.channelBytes) {
      const oldest = this.#log.get(this.#log.first);
      if (!oldest || this.#isAwaited(oldest)) throw new Refusal('channel_full');
      this.#dropOldest();
    }
    this.#house.claim(this, bytes, false);
  }

  #isAwaited(event: Event): boolean {
    const aliveSince = this.#house.now() - this.#house.limits.liveSeconds * 1000;
    for (const participant of this.#participants.values()) {
      const isAlive = participant.waiters.size > 0 || participant.seenAt > aliveSince;
      if (isAlive && event.index >= participant.next && isVisible(event, participant)) return true;
    }
    return false;
  }

  /** The one place where an event, and its nonce with it, is given up. */
  #dropOldest(): void {
    const event = this.#log.shift();
    if (!event) return;
    if (event.type === 'message') this.#nonces.delete(event.from + event.sealed.nonce);
    this.#free(bytesOf(event));
    for (const participant of this.#participants.values()) {
      if (isVisible(event, participant)) participant.lost = event.index;
    }
  }

  #free(bytes: number): void {
    this.bytes -= bytes;
    this.#house.bytes -= bytes;
  }

  /** The one place where an event enters; whoever waits for it has it at once. */
  #push(event: Event): void {
    this.#log.push(event);
    for (const participant of this.#participants.values()) {
      if (participant.waiters.size === 0 || !isVisible(event, participant)) continue;
      for (const waiter of participant.waiters) {
        this.endWait(participant, waiter);
        waiter.settle(this.read(participant, waiter.since));
      }
    }
  }
}

const isSameMessage = (event: Event, to: Recipient, { ciphertext, tag }: Sealed) =>
  event.type === 'message' && event.to === to && event.sealed.tag === tag && event.sealed.ciphertext === ciphertext;

/** All channels, the least recently used first. They share nothing but the memory that is counted here. */
export class Channels {
  readonly limits: Limits;
  /** Unix milliseconds. */
  readonly now: () => number;
  readonly #randomHex: (bytes: number) => string;
  readonly #channels = new Map<ChannelId, Channel>();
  #newest: Channel | undefined;
  bytes = 0;
  participants = 0;
  waiting = 0;

  constructor(limits: Limits, now: () => number, randomHex: (bytes: number) => string) {
    this.limits = limits;
    this.now = now;
    this.#randomHex = randomHex;
  }

  get size(): number {
    return this.#channels.size;
  }

  /** Throws no_channel. */
  get(id: ChannelId): Channel {
    const channel = this.#channels.get(id);
    if (!channel) throw new Refusal('no_channel');
    return channel;
  }

  /** Makes a channel or finds it. Throws bridge_full. */
  open(id: ChannelId): { channel: Channel; isNew: boolean } {
    const known = this.#channels.get(id);
    if (known) {
      this.used(known);
      return { channel: known, isNew: false };
    }
    const channel = new Channel(this, id, this.#randomHex(16), this.now());
    const oldest = this.#channels.size < this.limits.channels ? undefined : this.#leastRecent();
    if (oldest) this.end(oldest);
    this.#channels.set(id, channel);
    this.#newest = channel;
    this.claim(channel, CHANNEL_BYTES, true);
    return { channel, isNew: true };
  }

  used(channel: Channel): void {
    channel.usedAt = this.now();
    if (channel === this.#newest) return;
    this.#newest = channel;
    this.#channels.delete(channel.id);
    this.#channels.set(channel.id, channel);
  }

  /** Counts bytes for a channel that was just used; the least recently used others are given up whole to make room. */
  claim(channel: Channel, bytes: number, isForced: boolean): void {
    while (this.bytes + bytes > this.limits.totalBytes) {
      const oldest = this.#leastRecent();
      if (oldest && oldest !== channel) this.end(oldest);
      else if (isForced) break;
      else throw new Refusal('bridge_full');
    }
    channel.bytes += bytes;
    this.bytes += bytes;
  }

  /** The one place where a channel ends: everybody left or expired, or its memory was needed. */
  end(channel: Channel): void {
    this.#channels.delete(channel.id);
    if (this.#newest === channel) this.#newest = undefined;
    for (const _ of channel.participants) this.participants--;
    channel.release(new Refusal('no_channel'));
    this.bytes -= channel.bytes;
  }

  /** To be called about once a second: looks at each channel, works only on those where something is due. */
  sweep(): void {
    const now = this.now();
    for (const channel of this.#channels.values()) if (channel.dueAt <= now) channel.sweep(now);
  }

  /** Answers every waiting poll with nothing new, so that the process can end. */
  release(): void {
    for (const channel of this.#channels.values()) channel.release();
  }

  #leastRecent(): Channel | undefined {
    return this.#channels.values().next().value;
  }
}
