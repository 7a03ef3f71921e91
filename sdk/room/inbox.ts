/**
 * What the others say: open, check, number, act, and keep where we stand. Nothing counts before it is authenticated,
 * each number counts once, and what is missing is asked for and, if it doesn't come, announced.
 */
import { randomHex, toHex } from './legacy-bytes.ts';
import * as protocol from './legacy-protocol.ts';
import { EVERYBODY } from './legacy-protocol.ts';
import type { Message } from './legacy-protocol.ts';
import { takePart } from './files.ts';
import { ask, owe, sendAgain, signal } from './outbox.ts';
import { NO_STREAM, giveUp, isWhole, newStream, next, remember } from './peers.ts';
import type { Peer, Stream, To } from './peers.ts';
import { changed, isEarly, joined, look } from './presence.ts';
import { save } from './reload.ts';
import type { Room } from './room.ts';
import type { Batch, Event } from './wire.ts';

const HOLE_MS = 60_000;
const MAX_HELD = 2000;
const MAX_STREAMS = 8;

export async function take(room: Room, { events, cursor, isGap }: Batch): Promise<void> {
  const { where } = room;
  if (isGap) {
    room.note('gap');
    await look(room);
    for (const peer of room.peers) ask(room, peer);
  }
  for (const event of events) {
    const { index, type, from } = event;
    // Seen before a reload, or before we joined this same epoch again.
    const isNew = index > where.high;
    if (from === room.id) warnOnce(room, isNew, 'malformed-answer');
    else if (type === 'message') await open(room, event, isNew);
    else if (type === 'join') await joined(room, event, isNew);
    else if (isNew) changed(room, event);
    where.high = Math.max(where.high, index);
  }
  where.cursor = cursor;
  for (const peer of room.peers) for (const stream of Object.values(peer.streams)) await mind(room, peer, stream);
  save(room);
  room.onChange();
}

const warnOnce = (room: Room, isNew: boolean, words: string, name?: string) => isNew && room.warn(words, name);

async function open(room: Room, { index, from, to, box }: Event & { type: 'message' }, isNew: boolean): Promise<void> {
  const isDirect = to !== EVERYBODY;
  if (isDirect && to !== room.id) return void warnOnce(room, isNew, 'not-for-us');
  const { channel, key } = room.own;
  const aad = protocol.additionalData(channel, from, to, 'message');
  let reason = 'unknown-sender';
  for (const peer of room.peers.filter(({ id }) => id === from).reverse()) {
    const { direct, sign } = peer;
    const message = await protocol.openMessage(isDirect ? direct : key, aad, box, isDirect ? undefined : sign);
    if (message.ok) return number(room, peer, isDirect ? 'me' : 'all', message.value, index);
    reason = message.reason;
  }
  // Sealed for an earlier bearer of our name, or its sender left before we came.
  if (isEarly(room, index) && (isDirect || reason === 'unknown-sender')) return;
  warnOnce(room, isNew, reason, room.newest(from)?.name);
}

/** Each number once, and in its order. */
async function number(room: Room, peer: Peer, to: To, message: Message, index: number): Promise<void> {
  const { seq, kind, after = 0 } = message;
  const { name, streams } = peer;
  let stream = streams[message.stream];
  if (!stream) {
    const others = Object.keys(streams).length;
    if (others >= MAX_STREAMS) return room.warn('too-many-streams', name);
    stream = newStream(!peer.isOlder || others > 0 ? 0 : to === 'me' ? after : seq - 1);
    streams[message.stream] = stream;
  }
  peer.stream = message.stream;
  const counter = stream[to];
  const digest = toHex(await protocol.sha256(message.unsigned));
  const known = counter.digests[seq];
  const isLate = counter.givenUp.includes(seq);
  if (!isLate && (known !== undefined || seq <= counter.upTo)) {
    if ((known ?? digest) !== digest && kind !== 'void') room.warn('two-with-one-number', name);
    return;
  }
  if (counter.held.size >= MAX_HELD) return room.warn('too-many-held', name);
  remember(counter, seq, digest);
  counter.givenUp = counter.givenUp.filter((missed) => missed !== seq);
  counter.top = Math.max(counter.top, seq);
  stream.all.top = Math.max(stream.all.top, after);
  receive(room, peer, to, message);
  if (isLate) return act(room, peer, message, to, true);
  counter.held.set(seq, { message, to, index });
  await release(room, peer, stream);
}

async function release(room: Room, peer: Peer, stream: Stream): Promise<void> {
  for (let held = next(stream); held; held = next(stream)) {
    const { message, to } = held;
    stream[to].upTo = message.seq;
    stream[to].held.delete(message.seq);
    await act(room, peer, message, to, false);
  }
}

/** What the sender says that it has of ours; and where it asks for the rest, the rest. */
function receive(room: Room, peer: Peer, to: To, { kind, seen }: Message): void {
  const asks = to === 'me' && kind === 'seen';
  for (const { stream, broadcasts, directs = 0 } of seen) {
    if (stream !== room.me.stream && !(asks && stream === NO_STREAM)) continue;
    peer.has = { all: Math.max(peer.has.all, broadcasts), me: Math.max(peer.has.me, directs) };
    if (asks) void sendAgain(room, peer, broadcasts, directs);
  }
}

async function act(room: Room, peer: Peer, message: Message, to: To, isLate: boolean): Promise<void> {
  const { kind, headers, body } = message;
  const { name, hasNewKeys } = peer;
  const isDirect = to === 'me';
  const [challenge, answer] = [headers.get('challenge'), headers.get('answer')];
  const common = { to: isDirect ? room.me.name : undefined, isLate, hasNewKeys };
  if (kind === 'text') {
    room.note(kind, name, { ...common, text: new TextDecoder().decode(body) });
    owe(room, peer);
  } else if (kind === 'file') {
    const file = await takePart(room, peer, message, to);
    if (!file) return;
    room.note(kind, name, { ...common, file });
    owe(room, peer);
  } else if (kind === 'hello' && !isDirect && challenge && peer.state !== 'gone') {
    peer.challenge ??= randomHex(16);
    signal(room, peer, 'welcome', { answer: challenge, challenge: peer.challenge });
  } else if (kind === 'welcome' && isDirect && answer === room.me.challenge) {
    pair(room, peer);
    if (challenge) signal(room, peer, 'ready', { answer: challenge });
  } else if (kind === 'ready' && isDirect && answer && answer === peer.challenge) {
    pair(room, peer);
  } else if (kind === 'bye') {
    const final = headers.get('final')?.split(',') ?? [];
    const [, seq = ''] = final.map((pair) => pair.split(':')).find(([id]) => id === room.id) ?? [];
    const ours = peer.streams[message.stream]?.me;
    if (ours && protocol.isDecimal(seq)) ours.top = Math.max(ours.top, Number(seq));
    if (peer.state !== 'gone') room.note('left', name);
    peer.state = 'gone';
  }
}

function pair(room: Room, peer: Peer): void {
  if (!peer.isPaired) room.note('paired', peer.name);
  peer.isPaired = true;
  setTimeout(() => void look(room), 500); // by then it listens, and is shown so
}

/** A hole asks for what it lacks, waits while nothing fills it, and is then announced and passed over. */
async function mind(room: Room, peer: Peer, stream: Stream): Promise<void> {
  if (isWhole(stream)) stream.holeAt = 0;
  else if (stream.holeAt === 0) {
    stream.holeAt = Date.now();
    ask(room, peer);
  } else if (Date.now() - stream.holeAt >= HOLE_MS) {
    stream.holeAt = 0;
    const missed = giveUp(stream.all) + giveUp(stream.me);
    if (missed > 0) room.note('missed', peer.name, { words: String(missed) });
    await release(room, peer, stream);
  }
}
