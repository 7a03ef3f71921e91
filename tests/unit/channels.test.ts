/** The channel log by itself, under a FakeClock. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { ChannelRegistry } from '../../bridge/channels.ts';
import type { PollResult, Channel, Participant, PendingPoll } from '../../bridge/channels.ts';
import { ApiError } from '../../bridge/errors.ts';
import { BROADCAST } from '../../bridge/ids.ts';
import { Arena, ciphertextOf, tagOf } from '../../bridge/arena.ts';
import type { StoredCiphertext } from '../../bridge/arena.ts';
import type { ChannelId, ParticipantId, Recipient } from '../../bridge/ids.ts';
import { resolveConfig } from '../../bridge/ops/config.ts';
import type { Limits } from '../../bridge/limits.ts';
import { FakeClock } from '../lib/clock.ts';
import { Random } from '../lib/random.ts';

const NOTHING = {
  channels: 0,
  participants: 0,
  polls_pending: 0,
  blobs: 0,
  channel_memory_bytes: 0,
  blob_bytes: 0,
  memory_owners: 0,
};
const LIMITS = resolveConfig([], {}).limits;
const START = 1_767_225_600_000;
const SECOND = 1000;
const MINUTE = 60 * SECOND;

const hex = (n: number, length: number) => n.toString(16).padStart(length, '0');
const channelId = (n: number) => hex(n, 32) as ChannelId;
const participantId = (name: string) => createHash('sha256').update(name).digest('hex').slice(0, 32) as ParticipantId;

let nonces = 0;
/** Something sealed; with a new nonce unless one is given. */
const sealed = (bytes = 40, nonce = hex(++nonces, 24), tag = hex(bytes, 32)): StoredCiphertext => {
  const stored = new Arena().write(nonce, Buffer.from('A'.repeat(bytes)).toString('base64'), tag);
  assert.ok(stored);
  return stored;
};
/** The same in the arena of the channel, as what comes with a request is. */
function send(channel: Channel, from: Participant, to: Recipient, text: string): number {
  const draft = channel.arena.write(hex(++nonces, 24), text, hex(nonces, 32));
  assert.ok(draft);
  return channel.send(from, to, draft);
}

/** A registry whose clock the test moves. */
class RegistryFixture {
  readonly clock = new FakeClock(START);
  readonly registry: ChannelRegistry;
  #epochs = 0;

  constructor(limits: Partial<Limits> = {}) {
    this.registry = new ChannelRegistry({ ...LIMITS, ...limits }, this.clock.now, (bytes) =>
      hex(++this.#epochs, 2 * bytes),
    );
  }

  open(n = 1, address = '192.0.2.1'): Channel {
    return this.registry.getOrCreate(channelId(n), address);
  }

  pass(ms: number): void {
    this.clock.advance(ms);
    this.registry.sweep();
  }
}

const join = (channel: Channel, name: string, token = name) => channel.join(participantId(name), token, sealed());
const enter = (channel: Channel, name: string, token = name) => channel.authenticate(participantId(name), token);
const refuses = (code: string, action: () => unknown) =>
  assert.throws(action, (error) => error instanceof ApiError && error.code === code, code);

/** A batch in few words: `message 3` or, with a gap, `gap 0-2`. */
const words = ({ since, gap, events }: PollResult): string[] => [
  ...(gap === undefined ? [] : [`gap ${since}-${gap}`]),
  ...events.map(({ type, index }) => `${type} ${index}`),
];

/** As a client polls: presents its cursor, then reads. */
function poll(channel: Channel, participant: Participant, since: number): string[] {
  channel.acknowledge(participant, since);
  return words(channel.eventsAfter(participant, since));
}

/** A waiting poll, and what came of it. */
class Poll implements PendingPoll {
  outcome: PollResult | ApiError | undefined;
  constructor(readonly since: number) {}

  resolve(outcome: PollResult | ApiError): void {
    assert.equal(this.outcome, undefined, 'settled once');
    this.outcome = outcome;
  }

  get words(): string[] | string | undefined {
    return this.outcome instanceof ApiError ? this.outcome.code : this.outcome && words(this.outcome);
  }
}

function wait(channel: Channel, participant: Participant, since: number): Poll {
  const pending = new Poll(since);
  channel.addPendingPoll(participant, pending);
  return pending;
}

test('a broadcast goes to everybody else, a direct message to its recipient alone', () => {
  const channel = new RegistryFixture().open();
  const [a, b, c] = [join(channel, 'a'), join(channel, 'b'), join(channel, 'c')];
  channel.send(a, BROADCAST, sealed());
  channel.send(a, b.id, sealed());
  channel.send(c, a.id, sealed());
  assert.deepEqual(poll(channel, a, 0), ['join 2', 'join 3', 'message 6']);
  assert.deepEqual(poll(channel, b, 0), ['join 1', 'join 3', 'message 4', 'message 5']);
  assert.deepEqual(poll(channel, c, 0), ['join 1', 'join 2', 'message 4']);
});

test('what comes out is what went in', () => {
  const channel = new RegistryFixture().open();
  const [a, b] = [join(channel, 'a'), join(channel, 'b')];
  const texts = [1, 2, 800, 4079, 4080, 4081, 90_000, 3].map((bytes) => Buffer.alloc(bytes, bytes).toString('base64'));
  const before = nonces;
  for (const text of texts) send(channel, a, BROADCAST, text);
  const { events } = channel.eventsAfter(b, 2);
  assert.deepEqual(
    events.map(({ payload }) => payload && [payload.nonce, ciphertextOf(payload), tagOf(payload)]),
    texts.map((text, i) => [hex(before + i + 1, 24), text, hex(before + i + 1, 32)]),
  );
});

test('memory that is used again holds nothing of what is still kept, and is counted to the byte', () => {
  const fixture = new RegistryFixture({ channelBytes: 100_000 });
  const random = new Random('shelves');
  const enterBoth = (channel: Channel) => ({ channel, a: join(channel, 'a'), b: join(channel, 'b') });
  const rooms = [1, 2, 3, 4].map((n) => ({ ...enterBoth(fixture.open(n)), texts: new Map<number, string>() }));
  for (let i = 1; i <= 20_000; i++) {
    const room = random.pick(rooms);
    if (random.isLess(1 / 500)) {
      for (const participant of [room.a, room.b]) room.channel.leave(participant, 0);
      Object.assign(room, enterBoth(fixture.open(rooms.indexOf(room) + 1)), { texts: new Map() });
    }
    const { channel, a, b, texts } = room;
    channel.arena.write(hex(i, 24), 'AAAA'.repeat(random.between(1, 1000)), hex(i, 32)); // refused, and forgotten
    const most = random.isLess(1 / 20) ? 20_000 : 3000;
    const text = Buffer.alloc(random.between(1, most), i).toString('base64');
    texts.set(send(channel, a, BROADCAST, text), text);
    for (const reader of [a, b]) channel.acknowledge(reader, channel.lastIndex);
    if (!random.isLess(1 / 50)) continue;
    const events = [...channel.eventsAfter(a, 0).events, ...channel.eventsAfter(b, 0).events];
    for (const { type, index, payload } of events) {
      if (type === 'message') assert.ok(payload && ciphertextOf(payload) === texts.get(index), `${i}: event ${index}`);
    }
    const bytes = events.reduce((sum, { payload }) => sum + 512 + (payload ? payload.end - payload.start : 0), 0);
    const cards = [a, b].reduce((sum, { card }) => sum + card.end - card.start, 0);
    assert.equal(channel.bytes, 2048 + 2 * 1024 + cards + bytes);
  }
  assert.ok(fixture.registry.freeBlocks.length > 0, 'some is used again');
});

test('a newcomer starts before the oldest event, and gets broadcasts and what is addressed to its name', () => {
  const channel = new RegistryFixture().open();
  const a = join(channel, 'a');
  join(channel, 'c');
  const b = join(channel, 'b');
  channel.send(a, BROADCAST, sealed()); // 4
  channel.send(a, b.id, sealed()); // 5
  channel.send(b, BROADCAST, sealed()); // 6
  channel.leave(b, 0); // 7
  const again = join(channel, 'b', 'another token'); // 8
  assert.equal(again.ackedIndex, 0);
  assert.equal(again.joinIndex, 8);
  assert.deepEqual(poll(channel, again, 0), ['join 1', 'join 2', 'message 4', 'message 5']);
});

test('a name is taken while its owner is there, and the owner comes back by its token', () => {
  const channel = new RegistryFixture({ participants: 2 }).open();
  const a = join(channel, 'a');
  const b = join(channel, 'b');
  channel.send(b, BROADCAST, sealed());
  channel.acknowledge(a, 2);
  refuses('name_taken', () => join(channel, 'a', 'stolen'));
  refuses('participants_full', () => join(channel, 'c'));
  assert.equal(channel.join(a.id, 'a', a.card), a);
  assert.equal(a.ackedIndex, 2, 'goes on where it was');
  assert.equal(channel.lastIndex, 3, 'coming back is no event');
  const card = sealed();
  assert.equal(channel.join(a.id, 'a', card), a);
  assert.deepEqual([a.card, a.joinIndex, a.ackedIndex], [card, 4, 2], 'with another card it is another session');
  assert.deepEqual(poll(channel, b, 2), ['join 4']);
  channel.leave(b, 0);
  join(channel, 'c');
});

test('of a token only its hash is stored', () => {
  const fixture = new RegistryFixture();
  const channel = fixture.open();
  const token = 'f00d'.repeat(16);
  channel.join(participantId('a'), token, sealed());
  const all = inspect(channel.participants, { depth: Infinity, showHidden: true, maxStringLength: null });
  assert.ok(all.includes(participantId('a')) && !all.includes(token.slice(0, 8)));
  assert.equal(enter(channel, 'a', token).tokenHash, createHash('sha256').update(token).digest('hex'));
  for (const wrong of [token.toUpperCase(), token.slice(1), `${token}0`, '', hex(0, 64)])
    refuses('bad_token', () => enter(channel, 'a', wrong));
});

test('who is not in the channel, or has another token, does not enter', () => {
  const channel = new RegistryFixture().open();
  join(channel, 'a');
  assert.equal(enter(channel, 'a').id, participantId('a'));
  refuses('bad_token', () => enter(channel, 'a', 'guess'));
  refuses('no_participant', () => enter(channel, 'b'));
});

test('the same nonce is the same message, and with other contents is refused', () => {
  const channel = new RegistryFixture().open();
  const [a, b] = [join(channel, 'a'), join(channel, 'b')];
  const message = sealed(40);
  const index = channel.send(a, BROADCAST, message);
  assert.equal(channel.send(a, BROADCAST, { ...message }), index);
  assert.equal(channel.lastIndex, index);
  refuses('nonce_reused', () => channel.send(a, b.id, message));
  refuses('nonce_reused', () => channel.send(a, BROADCAST, sealed(44, message.nonce)));
  refuses('nonce_reused', () => channel.send(a, BROADCAST, sealed(40, message.nonce, hex(1, 32))));
  assert.equal(channel.send(b, BROADCAST, message), index + 1, 'another sender, another message');
});

test('a repeated direct message is known even when its recipient has left', () => {
  const channel = new RegistryFixture().open();
  const [a, b] = [join(channel, 'a'), join(channel, 'b')];
  const message = sealed();
  const index = channel.send(a, b.id, message);
  channel.leave(b, 0);
  assert.equal(channel.send(a, b.id, message), index);
  refuses('no_recipient', () => channel.send(a, b.id, sealed()));
});

test('one poll that wakes takes all, an invisible event wakes nobody', () => {
  const channel = new RegistryFixture().open();
  const [a, b, c] = [join(channel, 'a'), join(channel, 'b'), join(channel, 'c')];
  const polls = [wait(channel, b, 3), wait(channel, b, 3), wait(channel, b, 1)];
  channel.send(a, c.id, sealed());
  assert.ok(polls.every(({ outcome }) => outcome === undefined));
  channel.send(a, BROADCAST, sealed());
  assert.deepEqual(
    polls.map((each) => each.words),
    [['message 5'], ['message 5'], ['join 3', 'message 5']],
  );
  assert.equal(b.pendingPolls.size, 0);
});

test('a participant has so many polls, a channel so many, and no more; one whose answer was read makes room', () => {
  const channel = new RegistryFixture({ pollsPerParticipant: 2, pollsPerChannel: 3 }).open();
  const [a, b] = [join(channel, 'a'), join(channel, 'b')];
  channel.beginPoll(a);
  channel.beginPoll(a);
  refuses('too_many_polls', () => channel.beginPoll(a));
  channel.beginPoll(b);
  refuses('too_many_polls', () => channel.beginPoll(b));
  channel.endPoll(a);
  channel.beginPoll(b);
  refuses('too_many_polls', () => channel.beginPoll(a));
});

test('a poll ends once', () => {
  const channel = new RegistryFixture().open();
  const a = join(channel, 'a');
  const first = wait(channel, a, 0);
  assert.equal(channel.removePendingPoll(a, first), true);
  assert.equal(channel.removePendingPoll(a, first), false);
});

test('a cursor that no answer can have given is refused', () => {
  const channel = new RegistryFixture().open();
  const a = join(channel, 'a');
  channel.acknowledge(a, 1);
  refuses('bad_request', () => channel.acknowledge(a, 2));
  channel.acknowledge(a, 0);
  assert.equal(a.ackedIndex, 1, 'fetched is the highest');
});

test('an answer holds about so many bytes, and its cursor is the last event in it', () => {
  const channel = new RegistryFixture({ pollResponseBytes: 5000 }).open();
  const [a, b] = [join(channel, 'a'), join(channel, 'b')];
  for (let i = 0; i < 10; i++) channel.send(a, BROADCAST, sealed(2000));
  const seen: number[] = [];
  for (let cursor = 2; ;) {
    const batch = channel.eventsAfter(b, cursor);
    assert.ok(batch.events.length <= 2);
    if (batch.events.length === 0) break;
    seen.push(...batch.events.map(({ index }) => index));
    cursor = batch.cursor;
    assert.equal(cursor, seen.at(-1));
  }
  assert.deepEqual(seen, [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
});

const FULL = { channelBytes: 20_000, messageBytes: 1000 };

/** Sends until the channel is full, and says how many were taken. */
function fill(channel: Channel, sender: Participant, to: Recipient = BROADCAST, most = 100): number {
  for (let sent = 0; sent < most; sent++) {
    try {
      channel.send(sender, to, sealed(1000));
    } catch (error) {
      assert.ok(error instanceof ApiError && error.code === 'channel_full');
      return sent;
    }
  }
  return most;
}

test('a full channel gives up first what all have fetched', () => {
  const channel = new RegistryFixture(FULL).open();
  const [a, b] = [join(channel, 'a'), join(channel, 'b')];
  channel.acknowledge(a, 2);
  const sent = fill(channel, a);
  assert.ok(sent > 5 && sent < 20, `${sent}`);
  const { cursor } = channel.eventsAfter(b, 0);
  refuses('channel_full', () => channel.send(a, BROADCAST, sealed(1000)));
  channel.acknowledge(b, cursor);
  channel.send(a, BROADCAST, sealed(1000));
  assert.deepEqual(poll(channel, b, cursor), [`message ${cursor + 1}`], 'no gap for who has fetched');
  assert.ok(channel.bytes <= FULL.channelBytes);
});

test('a participant that is behind and alive holds senders back for two minutes; then it gets a gap', () => {
  const fixture = new RegistryFixture(FULL);
  const channel = fixture.open();
  const [a, b] = [join(channel, 'a'), join(channel, 'b')];
  channel.acknowledge(a, 2);
  fill(channel, a);
  fixture.pass(2 * MINUTE - 1);
  enter(channel, 'a');
  refuses('channel_full', () => channel.send(a, BROADCAST, sealed(1000)));
  fixture.pass(1);
  const index = channel.send(a, BROADCAST, sealed(1000));
  const [gap, first, ...rest] = poll(channel, b, 0);
  const lost = Number(/^gap 0-(\d+)$/.exec(gap ?? '')?.[1]);
  const next = Math.max(lost, 2) + 1; // 2 is its own joining
  assert.equal(first, `message ${next}`, 'nothing between the gap and what comes next');
  assert.equal(rest.at(-1), `message ${index}`);
});

test('a waiting poll keeps a participant alive', () => {
  const fixture = new RegistryFixture(FULL);
  const channel = fixture.open();
  const [a, b, c] = [join(channel, 'a'), join(channel, 'b'), join(channel, 'c')];
  channel.acknowledge(a, 3);
  channel.acknowledge(c, 3);
  fill(channel, a, c.id); // b waits and nothing for it comes; what it has not fetched is 1 and 3
  wait(channel, b, 3);
  fixture.pass(10 * MINUTE);
  enter(channel, 'a');
  refuses('channel_full', () => channel.send(a, BROADCAST, sealed(1000)));
});

test('what a participant can not see does not hold anybody back', () => {
  const channel = new RegistryFixture(FULL).open();
  const [a, b, c] = [join(channel, 'a'), join(channel, 'b'), join(channel, 'c')];
  for (const each of [a, b, c]) channel.acknowledge(each, 3);
  for (let i = 0; i < 100; i++) {
    channel.send(a, b.id, sealed(1000));
    for (const reader of [a, b]) channel.acknowledge(reader, channel.lastIndex);
  }
  assert.deepEqual(poll(channel, c, 3), [], 'and what it could not see is no gap');
  const alone = new RegistryFixture(FULL).open();
  assert.equal(fill(alone, join(alone, 'a')), 100, 'nobody else, nothing to hold back');
});

test('a gap ends where what is held begins, for a newcomer too, and comes once', () => {
  const channel = new RegistryFixture(FULL).open();
  const a = join(channel, 'a');
  fill(channel, a);
  const b = join(channel, 'b');
  assert.ok(b.ackedIndex > 0);
  const all = poll(channel, b, b.ackedIndex);
  assert.ok(all.every((each) => each.startsWith('message')));
  const batch = channel.eventsAfter(b, 0);
  assert.equal(batch.gap, b.ackedIndex);
  assert.equal(channel.eventsAfter(b, batch.cursor).gap, undefined);
  fill(channel, a);
});

test('a gap alone moves the cursor past itself', () => {
  const fixture = new RegistryFixture(FULL);
  const channel = fixture.open();
  const [a, b] = [join(channel, 'a'), join(channel, 'b')];
  channel.send(b, a.id, sealed(1000));
  channel.acknowledge(a, 0);
  fixture.pass(3 * MINUTE);
  enter(channel, 'b');
  fill(channel, b, BROADCAST, 5);
  channel.acknowledge(b, 1);
  fill(channel, b, BROADCAST, 100);
  const batch = channel.eventsAfter(a, 0);
  assert.ok(batch.gap !== undefined && batch.cursor >= batch.gap);
});

test('presence is told even in a channel that is full', () => {
  const channel = new RegistryFixture(FULL).open();
  const [a, b, c] = [join(channel, 'a'), join(channel, 'b'), join(channel, 'c')];
  channel.acknowledge(a, 3);
  fill(channel, a);
  refuses('channel_full', () => join(channel, 'd'));
  const before = channel.lastIndex;
  channel.leave(c, 0);
  assert.deepEqual(poll(channel, b, before), [`leave ${before + 1}`]);
  assert.equal(channel.eventsAfter(b, 0).gap, undefined, 'and nothing was taken for it');
});

test('however often presence changes, a channel keeps to its bytes', () => {
  const fixture = new RegistryFixture({ ...FULL, awaySeconds: 1 });
  const channel = fixture.open();
  const [a, b] = [join(channel, 'a'), join(channel, 'b')];
  fill(channel, a);
  for (let i = 0; i < 1000; i++) {
    fixture.pass(SECOND);
    enter(channel, 'a');
    enter(channel, 'b');
  }
  assert.ok(channel.bytes <= (FULL.channelBytes * 17) / 16, `${channel.bytes}`);
  assert.ok(b.lastEvictedIndex > 0);
});

test('away after five minutes without a request, back with the next one', () => {
  const fixture = new RegistryFixture();
  const channel = fixture.open();
  const [a, b] = [join(channel, 'a'), join(channel, 'b')];
  fixture.pass(4 * MINUTE);
  enter(channel, 'a');
  fixture.pass(MINUTE);
  assert.deepEqual(poll(channel, a, 2), ['away 3']);
  assert.ok(b.isAway && !a.isAway);
  fixture.pass(MINUTE);
  assert.equal(channel.lastIndex, 3, 'told once');
  enter(channel, 'b');
  enter(channel, 'b');
  assert.deepEqual(poll(channel, a, 3), ['back 4']);
  assert.deepEqual(poll(channel, b, 2), [], 'not to itself');
});

test('who waits is not away, and the silence begins when the poll ends', () => {
  const fixture = new RegistryFixture();
  const channel = fixture.open();
  const a = join(channel, 'a');
  const poll = wait(channel, a, 0);
  fixture.pass(60 * MINUTE);
  assert.equal(a.isAway, false);
  channel.removePendingPoll(a, poll);
  fixture.pass(5 * MINUTE - 1);
  assert.equal(a.isAway, false);
  fixture.pass(1);
  assert.equal(a.isAway, true);
});

test('out after the idle window; the channel ends with the last one', () => {
  const fixture = new RegistryFixture();
  const channel = fixture.open();
  const [a] = [join(channel, 'a'), join(channel, 'b')];
  fixture.pass(60 * MINUTE);
  enter(channel, 'a');
  const pending = wait(channel, a, channel.lastIndex);
  fixture.pass(60 * MINUTE);
  assert.ok(pending.outcome && !(pending.outcome instanceof ApiError));
  const [event] = pending.outcome.events;
  assert.deepEqual([event?.type, event?.from, event?.reason], ['leave', participantId('b'), 'expired']);
  refuses('no_participant', () => enter(channel, 'b'));
  fixture.pass(120 * MINUTE);
  refuses('no_channel', () => fixture.registry.get(channel.id));
  assert.deepEqual(fixture.registry.gauges(), NOTHING);
});

test('a channel that nobody joined ends after the idle window', () => {
  const fixture = new RegistryFixture();
  fixture.open();
  fixture.pass(119 * MINUTE);
  fixture.open(); // somebody asked for it again
  fixture.pass(119 * MINUTE);
  assert.equal(fixture.registry.has(channelId(1)), true);
  fixture.pass(MINUTE);
  assert.equal(fixture.registry.has(channelId(1)), false);
});

test('the last one out closes the channel, and made again it is another incarnation', () => {
  const fixture = new RegistryFixture();
  const channel = fixture.open();
  const [a, b] = [join(channel, 'a'), join(channel, 'b')];
  const pending = wait(channel, a, 2);
  channel.leave(b, 0);
  assert.deepEqual(pending.words, ['leave 3']);
  channel.leave(a, 0);
  assert.equal(fixture.registry.has(channel.id), false);
  assert.notEqual(fixture.open().epoch, channel.epoch);
});

test('who leaves while it waits is told so', () => {
  const channel = new RegistryFixture().open();
  const [a] = [join(channel, 'a'), join(channel, 'b')];
  const pending = wait(channel, a, 2);
  channel.leave(a, 0);
  assert.equal(pending.words, 'no_participant');
});

test('leaving after some seconds happens, unless a request comes before', () => {
  const fixture = new RegistryFixture();
  const channel = fixture.open();
  const [a, b] = [join(channel, 'a'), join(channel, 'b')];
  channel.leave(b, 30);
  fixture.pass(29 * SECOND);
  enter(channel, 'b');
  fixture.pass(60 * SECOND);
  assert.equal(channel.participants.size, 2);
  channel.leave(b, 30);
  fixture.pass(30 * SECOND);
  const event = channel.eventsAfter(a, 2).events[0];
  assert.deepEqual([event?.type, event?.reason], ['leave', 'left']);
});

/** Sends so many kilobytes, in messages of one each, by the one participant of a channel of this address. */
function fillAlone(fixture: RegistryFixture, n: number, address: string, kilobytes: number): Channel {
  const channel = fixture.open(n, address);
  const a = channel.participants.get(participantId('a')) ?? join(channel, 'a');
  for (let i = 0; i < kilobytes; i++) channel.send(a, BROADCAST, sealed(1000 - 528));
  return channel;
}

/** The same, to a listener who is alive and has yet to fetch all of it. */
function fillAwaited(fixture: RegistryFixture, n: number, address: string, kilobytes: number): Channel {
  const channel = fixture.open(n, address);
  if (!channel.participants.has(participantId('listener'))) join(channel, 'listener');
  return fillAlone(fixture, n, address, kilobytes);
}

test('for who has less than half, whoever has most gives its oldest events, alive or not, and nobody else any', () => {
  const fixture = new RegistryFixture({ memoryBytes: 200_000, channelBytes: 150_000 });
  const modest = fillAwaited(fixture, 1, 'modest', 30);
  fixture.pass(SECOND);
  const large = fillAwaited(fixture, 2, 'large', 135);
  const listener = enter(large, 'listener');
  const pending = wait(large, listener, large.lastIndex);
  const newcomer = fillAwaited(fixture, 3, 'newcomer', 45);
  assert.ok(newcomer.bytes > 45_000, 'it got what it asked for');
  assert.deepEqual(
    poll(modest, enter(modest, 'listener'), 0).length,
    31,
    'the older events of a smaller one are there',
  );
  const { gap, events } = large.eventsAfter(listener, 0);
  assert.ok(gap !== undefined && gap >= 20, 'the largest one’s reader is told of the gap');
  assert.equal(events.at(-1)?.index, large.lastIndex, 'its newest are there');
  assert.equal(pending.outcome, undefined, 'and who waits goes on waiting');
  assert.equal(fixture.registry.evictedCount, 0);
  assert.ok(fixture.registry.gauges().channel_memory_bytes <= 200_000);
});

test('who has half of the most, or most, gets nothing of others: bridge_full', () => {
  const fixture = new RegistryFixture({ memoryBytes: 200_000, channelBytes: 150_000 });
  const large = fillAwaited(fixture, 1, 'large', 110);
  const other = fillAwaited(fixture, 2, 'other', 60);
  refuses('bridge_full', () => fillAwaited(fixture, 2, 'other', 60));
  assert.ok(other.bytes > large.bytes / 2);
  refuses('bridge_full', () => fillAwaited(fixture, 1, 'large', 20));
  refuses('bridge_full', () => fillAwaited(fixture, 3, 'large', 20));
  const { bytes } = large;
  refuses('bridge_full', () => large.send(enter(large, 'a'), BROADCAST, sealed(1000)));
  assert.equal(large.bytes, bytes, 'a refusal costs nothing');
  assert.equal(large.eventsAfter(enter(large, 'listener'), 0).gap, undefined);
  assert.equal(other.eventsAfter(enter(other, 'listener'), 0).gap, undefined);
});

test('one address alone goes on: what nobody alive waits for goes first, from the channels used longest ago', () => {
  const fixture = new RegistryFixture({ memoryBytes: 200_000, channelBytes: 150_000 });
  const old = fillAlone(fixture, 1, 'one', 60);
  fixture.pass(2 * SECOND);
  const awaited = fillAwaited(fixture, 2, 'one', 60);
  fixture.pass(2 * SECOND);
  for (let n = 0; n < 20; n++) fillAlone(fixture, 3, 'one', 20);
  assert.equal(
    awaited.eventsAfter(enter(awaited, 'listener'), 0).gap,
    undefined,
    'what somebody alive waits for stays',
  );
  assert.ok(old.bytes < 6000, `${old.bytes}`);
  assert.ok(fixture.registry.has(channelId(1)), 'its channel stays while its participant is alive');
  fixture.pass(3 * MINUTE);
  fillAlone(fixture, 4, 'one', 145);
  assert.ok(awaited.bytes < 45_000, `nobody there is alive any more: ${awaited.bytes}`);
});

test('an address that has nothing but channels and participants loses the one that was used least recently', () => {
  const fixture = new RegistryFixture({ memoryBytes: 100_000, participants: 500 });
  const many = Array.from({ length: 30 }, (_, n) => {
    fixture.pass(SECOND);
    const channel = fixture.open(n, 'large');
    const a = join(channel, 'a');
    channel.acknowledge(a, 1);
    return channel;
  });
  const first = many[0] as Channel;
  const pending = wait(first, enter(first, 'a'), 1);
  while (fixture.registry.evictedCount < 3)
    join(fixture.open(1000 + fixture.registry.evictedCount, 'other'), `${nonces}`);
  assert.ok(fixture.registry.has(first.id), 'it has just been used');
  assert.equal(pending.outcome, undefined);
  assert.deepEqual(
    [1, 2, 3, 4, 29].map((n) => fixture.registry.has(channelId(n))),
    [false, false, false, true, true],
  );
});

test('there are so many channels and no more: one address gives up its own idle ones', () => {
  const fixture = new RegistryFixture({ channels: 3 });
  for (let n = 1; n <= 10; n++) fixture.open(n);
  assert.deepEqual(fixture.registry.gauges().channels, 3);
  assert.deepEqual(
    [7, 8, 9, 10].map((n) => fixture.registry.has(channelId(n))),
    [false, true, true, true],
  );
  for (const n of [8, 9, 10]) join(fixture.open(n), 'a');
  refuses('bridge_full', () => fixture.open(11));
  assert.equal(fixture.registry.gauges().channels, 3);
});

test('a place among the channels is given by who has most of them, and never by who has as few as the asker', () => {
  const fixture = new RegistryFixture({ channels: 6 });
  for (const n of [1, 2]) join(fixture.open(n, `single ${n}`), 'a');
  for (const n of [3, 4, 5, 6]) {
    fixture.pass(SECOND);
    join(fixture.open(n, 'many'), 'a');
  }
  for (const n of [11, 12]) join(fixture.open(n, `new ${n}`), 'a');
  assert.deepEqual(
    [1, 2, 3, 4, 5, 6, 11, 12].map((n) => fixture.registry.has(channelId(n))),
    [true, true, false, false, true, true, true, true],
  );
  join(fixture.open(13, 'new 13'), 'a');
  refuses('bridge_full', () => fixture.open(14, 'new 14'));
  assert.ok(fixture.registry.has(channelId(6)), 'the last one of many');
});

test('whatever is opened, sent and ended, each owner’s memory is the sum of what it has', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const pick = random(seed);
    const fixture = new RegistryFixture({
      memoryBytes: 150_000,
      channelBytes: 60_000,
      channels: 12,
      participants: 5,
      expirySeconds: 600,
    });
    const addresses = ['p', 'q', 'r', 's'];
    const made = new Set<Channel>();
    for (let step = 0; step < 1500; step++) {
      try {
        const channel = fixture.open(pick(20), addresses[pick(2) * pick(3)] ?? 'p');
        made.add(channel);
        const who = join(channel, ['a', 'b', 'c', 'd'][pick(4)] ?? 'a');
        if (pick(3) > 0) channel.send(who, BROADCAST, sealed(pick(5000) + 1));
        if (pick(4) === 0) channel.acknowledge(who, channel.lastIndex);
        if (pick(9) === 0) channel.leave(who, 0);
      } catch (error) {
        assert.ok(error instanceof ApiError && /_full$/.test(error.code), String(error));
      }
      if (pick(20) === 0) fixture.pass(pick(4) * MINUTE);
      const held = [...made].filter(
        (channel) => fixture.registry.has(channel.id) && fixture.registry.get(channel.id) === channel,
      );
      const sum = held.reduce((bytes, channel) => bytes + channel.bytes, 0);
      const { channel_memory_bytes, channels } = fixture.registry.gauges();
      assert.deepEqual([channel_memory_bytes, channels], [sum, held.length], `seed ${seed}, step ${step}`);
      assert.ok(channel_memory_bytes <= 150_000 * 1.07 && channels <= 12);
      for (const { owner } of held) {
        const own = held.filter((channel) => channel.owner === owner);
        assert.deepEqual([...owner.channels].length, own.length);
        assert.equal(
          owner.bytes,
          own.reduce((bytes, channel) => bytes + channel.bytes, 0),
        );
      }
    }
    fixture.pass(3 * 3600 * SECOND);
    fixture.pass(3 * 3600 * SECOND);
    assert.deepEqual(fixture.registry.gauges(), NOTHING);
  }
});

test('all that is counted is given back', () => {
  const fixture = new RegistryFixture(FULL);
  for (let n = 1; n <= 5; n++) {
    const channel = fixture.open(n);
    const [a, b] = [join(channel, 'a'), join(channel, 'b')];
    fill(channel, a);
    channel.leave(b, 0);
    fill(channel, a);
    channel.leave(a, 0);
  }
  assert.deepEqual(fixture.registry.gauges(), NOTHING);
});

test('when the bridge stops, every waiting poll is answered with its own cursor', () => {
  const fixture = new RegistryFixture();
  const channel = fixture.open();
  const [a, b] = [join(channel, 'a'), join(channel, 'b')];
  const polls = [wait(channel, a, 2), wait(channel, b, 1), wait(channel, b, 2)];
  fixture.registry.resolveAllPendingPolls();
  const outcomes = polls.map(({ outcome }) => outcome as PollResult);
  assert.deepEqual(
    outcomes.map(({ cursor, events }) => [cursor, events.length]),
    [
      [2, 0],
      [1, 0],
      [2, 0],
    ],
  );
  assert.equal(fixture.registry.gauges().polls_pending, 0);
});

/** Small, fast, the same everywhere (mulberry32). */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

test('whatever happens, each reader is given each visible event once and in order, or told of the gap', () => {
  for (let seed = 1; seed <= 60; seed++) {
    const pick = random(seed);
    const fixture = new RegistryFixture({ ...FULL, pollResponseBytes: 3000, awaySeconds: 30 });
    const channel = fixture.open();
    const names = ['a', 'b', 'c', 'd'];
    const all = names.map((name) => join(channel, name));
    const sent: { index: number; from: string; to: Recipient }[] = [];
    const readers = all.map((participant) => ({ participant, cursor: participant.ackedIndex, got: new Set<number>() }));
    for (let step = 0; step < 400; step++) {
      const reader = readers[pick(4)];
      const name = names[pick(4)] ?? 'a';
      assert.ok(reader);
      if (pick(3) > 0) {
        const sender = enter(channel, name);
        const to = pick(2) > 0 ? BROADCAST : participantId(names[pick(4)] ?? 'a');
        try {
          if (to !== sender.id)
            sent.push({ index: channel.send(sender, to, sealed(4 * pick(500) + 4)), from: sender.id, to });
        } catch (error) {
          assert.ok(error instanceof ApiError && error.code === 'channel_full');
        }
      } else if (pick(8) > 0) {
        const participant = enter(channel, names[readers.indexOf(reader)] ?? 'a');
        channel.acknowledge(participant, reader.cursor);
        const { gap, events, cursor } = channel.eventsAfter(participant, reader.cursor);
        for (let index = reader.cursor + 1; gap !== undefined && index <= gap; index++) reader.got.add(index);
        for (const { index } of events) {
          assert.ok(!reader.got.has(index) && index > reader.cursor, `seed ${seed}: ${index} once`);
          reader.got.add(index);
        }
        reader.cursor = cursor;
      } else fixture.pass(pick(3) * MINUTE);
    }
    for (const { participant, cursor, got } of readers) {
      const due = sent.filter(({ index, from, to }) => {
        return index <= cursor && from !== participant.id && (to === BROADCAST || to === participant.id);
      });
      for (const { index } of due)
        assert.ok(got.has(index), `seed ${seed}: ${index} was neither given nor told as lost`);
    }
    assert.ok(channel.bytes <= (FULL.channelBytes * 17) / 16);
  }
});
