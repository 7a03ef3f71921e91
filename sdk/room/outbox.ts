/**
 * Our content: number, seal, store, post in order, and again to sessions that lack it. A number is one message for ever:
 * what the bridge refuses stays first in line, and nothing is renumbered.
 */
import { utf8Encode } from '../encoding.ts';
import { BROADCAST } from '../protocol.ts';
import type { Headers } from '../protocol.ts';
import { codeOf } from './bridge-api.ts';
import { deleteSealed, save, saveOutboxItem } from './persistence.ts';
import { sealBroadcast, sealDirect } from './sealing.ts';
import type { Entry, Marks, OutboxItem, Room, Session } from './state.ts';

/** Another try does not help: the message stays first in line, and the user is told. */
const PERMANENT_CODES = ['bad_request', 'too_large', 'nonce_reused', 'not_json', 'method_not_allowed', 'not_found'];
/** 64 MiB of sealed content; then the oldest is deleted. */
const MAX_STORED_CHARACTERS = 64 * 1024 * 1024;
const RESEND_INTERVAL_MS = 60_000;

/** To all, or to one session. The entry is there at once; the message goes out when it can. */
export async function sendText(room: Room, text: string, recipient?: Session): Promise<void> {
  const item = await queueContent(room, recipient, 'text', {}, utf8Encode(text));
  addOwnEntry(room, 'text', recipient, { text, outboxNumber: item.number });
}

export function addOwnEntry(
  room: Room,
  type: 'text' | 'file',
  recipient: Session | undefined,
  fields: Partial<Entry>,
): Entry {
  const addressed = recipient && { sid: recipient.sid, to: recipient.label };
  const entry = room.addEntry(type, room.me.name, { ...fields, ...addressed, isMine: true, kind: 'human' });
  save(room);
  return entry;
}

/** Numbers, seals and stores a message, one after the other. It is posted by the send loop. */
export function queueContent(
  room: Room,
  recipient: Session | undefined,
  kind: string,
  more: Headers,
  body: Uint8Array,
): Promise<OutboxItem> {
  const sealed = room.sealing.then(async () => {
    if (room.isClosed) throw new Error('the session has ended');
    const item = await sealItem(room, recipient, kind, more, body);
    if (recipient) recipient.lastDirect = item.seq;
    else room.position.broadcasts = item.seq;
    room.outbox.push(item);
    saveOutboxItem(room, item, recipient);
    limitOutbox(room);
    room.outgoing.notify();
    return item;
  });
  room.sealing = sealed.catch(() => undefined);
  return sealed;
}

async function sealItem(
  room: Room,
  recipient: Session | undefined,
  kind: string,
  more: Headers,
  body: Uint8Array,
): Promise<OutboxItem> {
  const number = room.outbox.length + 1;
  if (!recipient) {
    const seq = room.position.broadcasts + 1;
    const sealed = await sealBroadcast(room, seq, kind, more, body);
    return { number, recipient: BROADCAST, to: BROADCAST, seq, sealed };
  }
  const seq = recipient.lastDirect + 1;
  const sealed = await sealDirect(room, recipient, seq, kind, more, body);
  return { number, recipient: recipient.sid, to: recipient.participantId, seq, sealed };
}

function limitOutbox(room: Room): void {
  let characters = room.outbox.reduce((sum, { sealed }) => sum + (sealed?.ciphertext.length ?? 0), 0);
  for (const item of room.outbox) {
    if (characters <= MAX_STORED_CHARACTERS || item.number > room.position.posted) return;
    characters -= item.sealed?.ciphertext.length ?? 0;
    if (item.sealed) deleteSealed(room, item);
  }
}

// ---- posting ----

/** True if there is something to post. */
export const hasOutgoing = (room: Room): boolean =>
  room.resends.length > 0 || room.position.posted < room.outbox.length;

/**
 * Posts what is first in line: what is repeated, then what is new. Throws ApiError where it was not posted, and the same
 * message is first in line again.
 */
export async function postNext(room: Room): Promise<void> {
  const [again] = room.resends;
  if (again !== undefined) {
    await postItem(room, again);
    // Another epoch may have begun meanwhile.
    if (room.resends[0] === again) room.resends.shift();
    return;
  }
  const number = room.position.posted + 1;
  const { epoch } = room.position;
  await postItem(room, number);
  if (room.position.epoch !== epoch || room.position.posted !== number - 1) return;
  room.position.posted = number;
  save(room);
  room.onChange();
}

async function postItem(room: Room, number: number): Promise<void> {
  const item = room.outbox[number - 1];
  if (!item?.sealed || item.isUndelivered) return;
  // The bridge lists another session under this id: that one could not read it.
  const listed = room.listed.get(item.to);
  if (item.recipient !== BROADCAST && listed !== undefined && listed !== item.recipient) return;
  const { epoch, cursor } = room.position;
  try {
    const { index, recipients } = await room.api.send(epoch, cursor, item.to, item.sealed);
    if (room.position.epoch === epoch) room.indices.set(number, index);
    room.postedAt.set(number, Date.now());
    for (const { id, reported } of recipients) {
      const session = room.sessionBySid(room.listed.get(id) ?? '');
      if (session) session.reported = { ...session.reported, ...reported };
    }
  } catch (error) {
    // It goes out when its session syncs.
    if (codeOf(error) !== 'no_recipient') throw error;
  }
}

/** Tells the user that the bridge refuses what is first in line. True if another try makes no sense for a while. */
export function reportBlocked(room: Room, error: unknown): boolean {
  const code = codeOf(error);
  if (!PERMANENT_CODES.includes(code)) return false;
  room.countEntry('blocked', '', code);
  return true;
}

/**
 * In each new epoch, and on joining again: what was posted goes out again, from the first that nobody acknowledged or
 * that a session is owed and has not acknowledged. New content comes after it.
 */
export function rewindOutbox(room: Room): void {
  const present = room.sessions.filter(({ isInChannel }) => isInChannel);
  const first = room.outbox.find((item) => {
    if (!item.sealed || item.isUndelivered) return false;
    const confirmed = room.sessions.some((session) => isAcked(item, session));
    return !confirmed || present.some((session) => isOwed(item, session) && !isAcked(item, session));
  });
  room.resends.length = 0;
  room.position.posted = Math.min(room.position.posted, (first?.number ?? Infinity) - 1);
}

/** Posts again what a session lacks, by the marks that it sent; at most once in 60 s for the same marks and epoch. */
export function resendTo(room: Room, session: Session, { broadcasts, directs }: Marks): void {
  const { control } = session;
  const { epoch, posted } = room.position;
  const key = `${broadcasts} ${directs} ${epoch}`;
  if (control.resentFor === key && Date.now() - control.resentAt < RESEND_INTERVAL_MS) return;
  control.resentFor = key;
  control.resentAt = Date.now();
  const queued = new Set(room.resends);
  for (const item of room.outbox.slice(0, posted)) {
    const lacks = isOwed(item, session) && item.seq > (item.recipient === BROADCAST ? broadcasts : directs);
    if (lacks && item.sealed && !queued.has(item.number)) room.resends.push(item.number);
  }
  room.outgoing.notify();
}

/** A session was replaced by another one under its id, which is PAIRED: what it did not acknowledge is not delivered. */
export function markUndelivered(room: Room, session: Session): void {
  const lost = room.outbox.filter(
    (item) => item.recipient === session.sid && !isAcked(item, session) && !item.isUndelivered,
  );
  for (const item of lost) {
    item.isUndelivered = true;
    saveOutboxItem(room, item, undefined);
  }
  if (lost.length > 0) room.addEntry('undelivered', session.label, { count: lost.length });
}

// ---- delivery ----

/** Is a message meant for this session? */
export const isOwed = (item: OutboxItem, session: Session): boolean =>
  item.recipient === BROADCAST ? item.seq >= session.owedFrom : item.recipient === session.sid;

export const isAcked = (item: OutboxItem, session: Session): boolean =>
  item.recipient === BROADCAST
    ? item.seq >= session.owedFrom && item.seq <= session.acked.broadcasts
    : item.recipient === session.sid && item.seq <= session.acked.directs;

/** - `fetched`: by the word of the bridge; the other two are proved */
export type Delivery = { readonly label: string; readonly state: 'shown' | 'stored' | 'fetched' | 'pending' | 'left' };

/** Who has a message of ours. */
export function deliveries(room: Room, item: OutboxItem): Delivery[] {
  const index = room.indices.get(item.number) ?? Infinity;
  return room.sessions
    .filter((session) => isOwed(item, session))
    .filter((session) => session.isInChannel || item.recipient !== BROADCAST || isAcked(item, session))
    .map((session) => {
      const { label, stored, reported, isInChannel } = session;
      const isStored = item.seq <= (item.recipient === BROADCAST ? stored.broadcasts : stored.directs);
      if (isAcked(item, session)) return { label, state: 'shown' };
      if (isStored) return { label, state: 'stored' };
      if (!isInChannel) return { label, state: 'left' };
      return { label, state: (reported.fetched ?? 0) >= index ? 'fetched' : 'pending' };
    });
}
