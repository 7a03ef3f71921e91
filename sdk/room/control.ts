/**
 * Control messages (docs/protocol.md, Synchronisation): sync, ack, want and bye. They go to one session, have no number
 * and are not stored. Each has a rate; what is due later waits for its time.
 */
import type { Headers, Reach } from '../protocol.ts';
import { formatWantBody } from '../protocol.ts';
import { ApiError, codeOf } from './bridge-api.ts';
import { isAcked, isOwed } from './outbox.ts';
import { sealDirect } from './sealing.ts';
import type { OutboxItem, Room, Session } from './state.ts';

const INTERVAL_MS = 10_000;
/** What was shown is acknowledged unasked after this time: the sender need not ask. */
const ACK_DELAY_MS = 4_000;
const UNACKED_MS = 60_000;
const MAX_ACK_SYNCS_PER_MINUTE = 10;
const MAX_BYE_MS = 3_000;

/** Seals and posts one control message. True if the bridge took it, or has no such recipient; else it is dropped. */
async function sendControl(
  room: Room,
  session: Session,
  kind: string,
  more: Headers = {},
  body?: Uint8Array,
): Promise<boolean> {
  const { epoch, cursor } = room.position;
  try {
    const sealed = await sealDirect(room, session, undefined, kind, more, body);
    await room.api.send(epoch, cursor, session.participantId, sealed);
    return true;
  } catch (error) {
    if (!(error instanceof ApiError)) console.error(error);
    return codeOf(error) === 'no_recipient';
  }
}

/** Asks a session for what it has sealed, and what it has of ours. Repeated requests within 10 s become one. */
export function requestSync(room: Room, session: Session): void {
  session.control.wantsSync = true;
  scheduleControl(room);
}

/** A session asked for our state. */
export function requestAck(room: Room, session: Session): void {
  session.control.owesAck = true;
  scheduleControl(room);
}

/** What was shown of a session is acknowledged soon. */
export function acknowledgeShown(room: Room, session: Session): void {
  const { control, shown } = session;
  const isTold = shown.broadcasts <= control.told.broadcasts && shown.directs <= control.told.directs;
  if (isTold || control.ackShownAt > 0) return;
  control.ackShownAt = Date.now() + ACK_DELAY_MS;
  scheduleControl(room);
}

/** What a message does now at this end; each session in the channel is told of a change. */
export function setReach(room: Room, reach: Reach): void {
  if (room.reach === reach) return;
  room.reach = reach;
  for (const session of room.sessions) if (session.isInChannel) requestSync(room, session);
}

/** The sender of a file is asked for pieces, at most once in 10 s. True if it was. */
export async function sendWant(room: Room, session: Session, digests: readonly string[]): Promise<boolean> {
  const now = Date.now();
  if (session.hasLeft || now - session.control.lastWantAt < INTERVAL_MS) return false;
  session.control.lastWantAt = now;
  return sendControl(room, session, 'want', {}, formatWantBody(digests));
}

/** The session ends: nothing is sent after this. */
export async function sayBye(room: Room): Promise<void> {
  const present = room.sessions.filter(({ isInChannel }) => isInChannel);
  const all = Promise.all(present.map((session) => sendControl(room, session, 'bye')));
  await Promise.race([all, room.retry.wait(MAX_BYE_MS)]);
}

// ---- when what is due ----

/** When an ack may go, Unix ms; Infinity: none is owed. */
function ackDueAt(room: Room, { control, isInChannel, hasLeft }: Session): number {
  const isOwedNow = control.owesAck && !hasLeft;
  const shownAt = isInChannel && control.ackShownAt > 0 ? control.ackShownAt : Infinity;
  const earliest = control.ackEpoch === room.position.epoch ? control.lastAckAt + INTERVAL_MS : 0;
  return Math.max(earliest, isOwedNow ? 0 : shownAt);
}

function syncDueAt({ control, hasLeft }: Session): number {
  return control.wantsSync && !hasLeft ? control.lastSyncAt + INTERVAL_MS : Infinity;
}

type Schedule = { timer: ReturnType<typeof setTimeout> | undefined; isRunning: boolean; ackSyncs: number[] };
const schedules = new WeakMap<Room, Schedule>();

function scheduleOf(room: Room): Schedule {
  const schedule = schedules.get(room) ?? { timer: undefined, isRunning: false, ackSyncs: [] };
  schedules.set(room, schedule);
  return schedule;
}

/** Sends what is due now, and sets a timer for what is due next. */
export function scheduleControl(room: Room): void {
  const schedule = scheduleOf(room);
  clearTimeout(schedule.timer);
  if (room.isClosed || room.connection !== 'online' || schedule.isRunning) return;
  const next = Math.min(...room.sessions.map((session) => Math.min(ackDueAt(room, session), syncDueAt(session))));
  if (next === Infinity) return;
  schedule.timer = setTimeout(() => void runControl(room), Math.max(0, next - Date.now()));
}

async function runControl(room: Room): Promise<void> {
  const schedule = scheduleOf(room);
  if (schedule.isRunning) return;
  schedule.isRunning = true;
  for (const session of room.sessions) {
    if (room.isClosed || room.connection !== 'online') break;
    if (syncDueAt(session) <= Date.now()) await sendSync(room, session);
    if (ackDueAt(room, session) <= Date.now()) await sendAck(room, session);
  }
  schedule.isRunning = false;
  scheduleControl(room);
}

async function sendSync(room: Room, session: Session): Promise<void> {
  const { control } = session;
  control.wantsSync = false;
  control.lastSyncAt = Date.now();
  const askedUpTo = { broadcasts: session.broadcasts.highest, directs: session.directs.highest };
  if (!(await sendControl(room, session, 'sync'))) return;
  control.syncReturnedAt = Date.now();
  control.askedUpTo = askedUpTo;
}

async function sendAck(room: Room, session: Session): Promise<void> {
  const { control } = session;
  control.owesAck = false;
  control.ackShownAt = 0;
  control.lastAckAt = Date.now();
  control.ackEpoch = room.position.epoch;
  await sendControl(room, session, 'ack');
}

/** Asks once for the newest content that a session in the channel has not acknowledged for 60 s. */
export function syncUnacked(room: Room): void {
  const schedule = scheduleOf(room);
  const now = Date.now();
  schedule.ackSyncs = schedule.ackSyncs.filter((at) => now - at < 60_000);
  for (const session of room.sessions) {
    if (!session.isInChannel || schedule.ackSyncs.length >= MAX_ACK_SYNCS_PER_MINUTE) continue;
    const isOld = ({ number }: OutboxItem) => now - (room.postedAt.get(number) ?? room.startedAt) >= UNACKED_MS;
    const newest = room.outbox.findLast(
      (item) => item.number <= room.position.posted && isOwed(item, session) && isOld(item),
    );
    if (!newest || isAcked(newest, session) || session.control.askedForNumber >= newest.number) continue;
    session.control.askedForNumber = newest.number;
    schedule.ackSyncs.push(now);
    requestSync(room, session);
  }
}
