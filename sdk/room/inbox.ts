/**
 * What the others send (docs/protocol.md, Proof and Sequence numbers): unseal, prove, count each number once, deliver in
 * order, and skip what is missing when its time is over. Nothing counts before a session has proved it.
 */
import * as protocol from '../protocol.ts';
import { BROADCAST } from '../protocol.ts';
import type { Frame, Message } from '../protocol.ts';
import type { BridgeEvent, PollResponse } from './bridge-api.ts';
import { acknowledgeShown, requestAck, requestSync, scheduleControl, syncUnacked } from './control.ts';
import { receiveFile, senderHeard, serveWant } from './files.ts';
import { findSeen, orderMarks } from './order-marks.ts';
import { resendTo } from './outbox.ts';
import { save } from './persistence.ts';
import { applyChange, applyJoin, refreshStatus } from './presence.ts';
import { runsFrom, runsUpTo, totalLength } from './sequence.ts';
import type { Counter, Run } from './sequence.ts';
import { markInChannel, markOutOfChannel, markPaired, newestLabel } from './sessions.ts';
import { MAX_DECIMAL } from './state.ts';
import type { Entry, Incoming, Room, Scope, Session } from './state.ts';

/** Messages out of order take at most so much memory; what lies beyond is repeated. */
const MAX_BUFFERED_BYTES = 32 * 1024 * 1024;
const CLOCK_TOLERANCE_MS = 60_000;

type MessageEvent = BridgeEvent & { readonly type: 'message' };
/** Cards are read at most once for each poll response. */
type Batch = { hasReadCards: boolean };

/** Takes the response to a poll that began at `beganAt`, Unix ms, and stores what came of it. */
export async function applyPoll(room: Room, { events, cursor, hasGap }: PollResponse, beganAt: number): Promise<void> {
  const { position } = room;
  const { epoch } = position;
  const batch: Batch = { hasReadCards: false };
  if (hasGap) {
    room.extendEntry('gap', '', 1);
    await readCards(room, batch, true);
    for (const session of room.sessions) if (session.isInChannel) requestSync(room, session);
  }
  for (const event of events) {
    try {
      await applyEvent(room, event, batch);
    } catch (error) {
      // A defect of this page: one event must not stop all that come after it.
      console.error(error);
      room.countEntry('unreadable', newestLabel(room, event.from), 'failed');
    }
    // Another request may have found that the epoch is over.
    if (position.epoch !== epoch) return;
    position.highestIndex = Math.max(position.highestIndex, event.index);
  }
  position.cursor = cursor;
  room.lastPollBeganAt = beganAt;
  checkMissing(room);
  syncUnacked(room);
  save(room);
  scheduleControl(room);
  room.onChange();
}

async function applyEvent(room: Room, event: BridgeEvent, batch: Batch): Promise<void> {
  const isNew = event.index > room.position.highestIndex;
  if (event.from === room.own.participantId) {
    if (isNew) room.countEntry('tampered', '', 'own-id');
    return;
  }
  if (event.type === 'join') return applyJoin(room, event);
  if (event.type !== 'message') return applyChange(room, event);
  await applyMessageEvent(room, event, batch, isNew);
}

async function readCards(room: Room, batch: Batch, hasGap = false): Promise<void> {
  if (batch.hasReadCards) return;
  batch.hasReadCards = true;
  // Where that fails, what it was for can't be read; the poll finds out what is wrong.
  await refreshStatus(room, hasGap).catch(() => undefined);
}

// ---- proof ----

async function applyMessageEvent(room: Room, event: MessageEvent, batch: Batch, isNew: boolean): Promise<void> {
  const { own } = room;
  const { index, from, to, sealed } = event;
  const isDirect = to !== BROADCAST;
  if (isDirect && to !== own.participantId) {
    if (isNew) room.countEntry('tampered', '', 'wrong-recipient');
    return;
  }
  if (room.sessionsOf(from).length === 0) await readCards(room, batch);
  const sessions = room.sessionsOf(from);
  const aad = protocol.additionalData(own.channelId, from, to, 'message');
  const isBeforeJoin = room.isBeforeJoin(index);
  if (isDirect) {
    const candidates = sessions.map((session) => ({ session, direct: session.directKey }));
    const proved = await protocol.proveDirect(aad, sealed, candidates);
    if (!proved.ok) {
      if (isNew && !isBeforeJoin) room.countEntry('unreadable', newestLabel(room, from), 'direct');
      return;
    }
    const { session } = proved.value.session;
    markPaired(room, session);
    if (proved.value.frame.ok) await applyFrame(room, session, 'direct', proved.value.frame.value, isBeforeJoin);
    return;
  }
  const candidates = sessions.map((session) => ({ session, sid: session.sid, sign: session.card.sign }));
  const proved = await protocol.proveBroadcast(own.broadcastKey, aad, sealed, candidates);
  if (proved.ok) {
    await applyFrame(room, proved.value.session.session, 'broadcast', proved.value.frame, isBeforeJoin);
  } else if (sessions.length > 0) {
    if (isNew) room.countEntry('tampered', newestLabel(room, from), proved.reason);
  } else if (isNew && !isBeforeJoin) {
    room.countEntry('unreadable', '', 'unknown-sender');
  }
}

/** A frame that this session proved. */
async function applyFrame(
  room: Room,
  session: Session,
  scope: Scope,
  frame: Frame,
  isBeforeJoin: boolean,
): Promise<void> {
  room.touchSession(session);
  const message = protocol.checkMessage(frame, scope === 'direct');
  const seq = protocol.sequenceOf(frame);
  if (message.ok && message.value.seq === undefined) {
    markHeard(room, session, isBeforeJoin);
    applyHeaders(room, session, message.value);
    applyControl(room, session, message.value);
    deliverInOrder(room, session);
  }
  if (seq === undefined || (message.ok && message.value.seq === undefined)) return;
  const digest = await protocol.frameDigest(frame);
  const verdict = session.counter(scope).verdict(seq, digest);
  if (verdict === 'changed') {
    room.countEntry('tampered', session.label, 'sequence-reused');
    return;
  }
  const { unsigned } = frame;
  const item: Incoming = {
    scope,
    seq,
    message: message.ok ? message.value : { malformed: message.reason },
    unsigned,
    isBeforeJoin,
  };
  if (verdict === 'new' || verdict === 'beyond') buffer(room, session, item, digest, verdict === 'beyond');
  if (verdict !== 'duplicate') markHeard(room, session, isBeforeJoin);
  // A message takes its place before what its headers name: it is not missing.
  if (message.ok) applyHeaders(room, session, message.value);
  if (verdict === 'late') {
    session.counter(scope).addLate(seq, digest);
    deliver(room, session, item, true);
  }
  deliverInOrder(room, session);
}

/** Takes a message; of too many out of order only the number. */
function buffer(room: Room, session: Session, item: Incoming, digest: string, isBeyond: boolean): void {
  const counter = session.counter(item.scope);
  const isNext = item.seq === counter.processed + 1;
  const isTooMuch = !isNext && bufferedBytes(room) + item.unsigned.length > MAX_BUFFERED_BYTES;
  if (isBeyond || isTooMuch) counter.name(item.seq, Date.now());
  else counter.add(item.seq, digest, item, Date.now());
}

const bufferedBytes = (room: Room): number =>
  room.sessions
    .flatMap(({ broadcasts, directs }) => [...broadcasts.buffered.values(), ...directs.buffered.values()])
    .reduce((sum, { item }) => sum + item.unsigned.length, 0);

/** Something new of a session was proved: it is in the channel. What happened before we came says nothing about now. */
function markHeard(room: Room, session: Session, isBeforeJoin: boolean): void {
  if (isBeforeJoin) return;
  markInChannel(room, session);
  session.isAway = false;
  senderHeard(room, session);
}

// ---- headers, which count on arrival ----

function applyHeaders(room: Room, session: Session, message: Message): void {
  const { sent, received, stored, reach, time } = message;
  const now = Date.now();
  if (sent) {
    if (session.base === 0) session.base = sent.first;
    session.first = Math.max(session.first, sent.first);
    session.broadcasts.name(sent.broadcasts, now);
    session.directs.name(sent.directs, now);
    skipBelowFirst(room, session);
  }
  if (received) applyAck(room, session, received.broadcasts, received.directs, received.skipped);
  if (stored) {
    session.stored.broadcasts = Math.max(session.stored.broadcasts, stored.broadcasts);
    session.stored.directs = Math.max(session.stored.directs, stored.directs);
  }
  const own = findSeen(message.seen, room.me.sid);
  if (own) applyAck(room, session, own.mark, 0, 0);
  for (const entry of message.seen) {
    const other = room.sessions.find(({ sid }) => sid.startsWith(entry.session));
    if (!other?.isInChannel || other === session) continue;
    if (entry.mark <= Math.max(other.broadcasts.highest, other.control.askedForSeen)) continue;
    other.control.askedForSeen = entry.mark;
    requestSync(room, other);
  }
  if (reach && time >= session.reachTime) {
    session.reach = reach;
    session.reachTime = time;
  }
}

function applyAck(room: Room, session: Session, broadcasts: number, directs: number, skipped: number): void {
  if (broadcasts > room.position.broadcasts || directs > session.lastDirect) {
    // Numbers that this session never sealed: a copy of it did.
    room.hasCopy = true;
    return;
  }
  const { acked } = session;
  acked.broadcasts = Math.max(acked.broadcasts, broadcasts);
  acked.directs = Math.max(acked.directs, directs);
  if (skipped > session.skippedByPeer) {
    room.extendEntry('peer-missed', session.label, skipped - session.skippedByPeer);
    session.skippedByPeer = skipped;
  }
}

// ---- control ----

function applyControl(room: Room, session: Session, message: Message): void {
  const { kind, body } = message;
  if (kind === 'sync' || kind === 'ack') {
    const { acked, stored } = session;
    resendTo(room, session, {
      broadcasts: Math.max(acked.broadcasts, stored.broadcasts),
      directs: Math.max(acked.directs, stored.directs),
    });
  }
  if (kind === 'sync') requestAck(room, session);
  if (kind === 'want') {
    const digests = protocol.parseWantBody(body);
    if (digests.ok) void serveWant(room, session, digests.value);
  }
  if (kind === 'bye' && !session.hasLeft) {
    session.hasLeft = true;
    session.control.byeAt = Date.now();
    markOutOfChannel(room, session);
  }
}

// ---- order ----

/** Delivers what is next. A direct message also waits for its sender's broadcasts up to the N of its `sent`. */
function deliverInOrder(room: Room, session: Session): void {
  for (let item = takeNext(session); item; item = takeNext(session)) deliver(room, session, item, false);
  reportLeave(room, session);
}

function takeNext({ broadcasts, directs }: Session): Incoming | undefined {
  const direct = directs.peek();
  const awaited = direct && 'sent' in direct.message ? (direct.message.sent?.broadcasts ?? 0) : 0;
  const counter = direct && awaited <= broadcasts.processed ? directs : broadcasts;
  const item = counter.peek();
  if (item) counter.advance();
  return item;
}

/** Adds an entry for content that is due; a message of an unknown kind only takes its number. */
function deliver(room: Room, session: Session, item: Incoming, isLate: boolean): void {
  const { scope, seq, message } = item;
  room.touchSession(session);
  if ('malformed' in message) {
    room.countEntry('malformed', session.label, message.malformed);
    return;
  }
  if (scope === 'broadcast' && session.firstShown === 0) session.firstShown = seq;
  const isDirect = scope === 'direct';
  // The base is the sender's word; the index is the bridge's, and counts only as long as there is no other.
  const isBeforeJoin = !isDirect && (session.base === 0 ? item.isBeforeJoin : seq < session.base);
  // In docs/protocol.md's table of marks the lower ones leave out those above them.
  const isUnpaired = !isBeforeJoin && !session.isPaired;
  const marks = isBeforeJoin || isUnpaired ? undefined : orderMarks(room, session, message);
  const fields: Partial<Entry> = {
    sid: session.sid,
    kind: session.card.kind,
    to: isDirect ? room.me.name : undefined,
    isLate: isLate && !isBeforeJoin && !isUnpaired,
    isUnpaired,
    isBeforeJoin,
    ...(marks && { marks }),
    ...(Math.abs(Date.now() - message.time) > CLOCK_TOLERANCE_MS && { writtenAt: message.time }),
  };
  if (message.kind === 'text') {
    const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(message.body);
    session.lastEntryId = room.addEntry('text', session.label, { ...fields, text }).id;
  } else if (message.kind === 'file' && message.file) {
    const body = protocol.parseFileBody(message.body, message.file.size);
    if (!body.ok) {
      room.countEntry('malformed', session.label, body.reason);
      return;
    }
    const entry = receiveFile(room, session, {
      ...fields,
      file: { ...message.file, ...body.value, state: 'fetching', done: 0 },
    });
    session.lastEntryId = entry.id;
  }
}

/** All that is in the transcript was rendered in a visible tab: it is acknowledged. */
export function markShown(room: Room): void {
  for (const session of room.sessions) {
    const { delivered, shown } = session;
    const isSame =
      delivered.broadcasts === shown.broadcasts && delivered.directs === shown.directs && delivered.mark === shown.mark;
    if (isSame) continue;
    session.shown = delivered;
    room.touchSession(session);
    acknowledgeShown(room, session);
  }
  save(room);
}

/** LEFT: the session said `bye`, and all that it named was shown or skipped. */
function reportLeave(room: Room, session: Session): void {
  if (!session.hasLeft || session.isLeaveReported) return;
  if (!session.broadcasts.isComplete || !session.directs.isComplete) return;
  session.isLeaveReported = true;
  room.addEntry('left', session.label, { sid: session.sid });
}

// ---- what is missing ----

/** Requests what is missing, and skips what is due. All that is due is skipped together. */
export function checkMissing(room: Room): void {
  const now = Date.now();
  for (const session of room.sessions) {
    const { broadcasts, directs, control } = session;
    const isMissing = broadcasts.missing().length + directs.missing().length > 0;
    if (!isMissing) {
      control.missingSince = 0;
      continue;
    }
    if (session.isInChannel) {
      if (control.missingSince === 0) control.missingSince = now;
      const { askedUpTo, syncReturnedAt } = control;
      const isAskedNow = syncReturnedAt > control.missingSince;
      if (!isAskedNow || last(broadcasts) > askedUpTo.broadcasts || last(directs) > askedUpTo.directs) {
        requestSync(room, session);
      }
      if (isAskedNow && room.lastPollBeganAt > syncReturnedAt) {
        const dueBroadcasts = runsUpTo(broadcasts.due(now), askedUpTo.broadcasts);
        skip(room, session, dueBroadcasts, runsUpTo(directs.due(now), askedUpTo.directs));
      }
    } else if (room.lastPollBeganAt > control.byeAt) {
      skip(room, session, broadcasts.missing(), directs.missing());
    }
    deliverInOrder(room, session);
  }
}

/** The last number that is missing, or 0. */
const last = (counter: Counter<Incoming>): number => counter.missing().at(-1)?.to ?? 0;

/** A session does not repeat broadcasts below the highest F that it named. */
function skipBelowFirst(room: Room, session: Session): void {
  skip(room, session, runsUpTo(session.broadcasts.missing(), session.first - 1), []);
}

function skip(room: Room, session: Session, broadcasts: readonly Run[], directs: readonly Run[]): void {
  if (broadcasts.length + directs.length === 0) return;
  session.broadcasts.skip(broadcasts);
  session.directs.skip(directs);
  // While no base is known, the first broadcast that is shown takes its place.
  const base = session.base || session.firstShown || firstBuffered(session);
  const earlier = totalLength(runsUpTo(broadcasts, base - 1));
  const missed = totalLength(runsFrom(broadcasts, base)) + totalLength(directs);
  if (earlier > 0) room.extendEntry('earlier', session.label, Math.min(earlier, MAX_DECIMAL));
  if (missed > 0) room.extendEntry('missed', session.label, Math.min(missed, MAX_DECIMAL));
  room.touchSession(session);
}

const firstBuffered = ({ broadcasts }: Session): number =>
  Math.min(Infinity, ...[...broadcasts.buffered.keys()].filter((seq) => seq > broadcasts.processed));
