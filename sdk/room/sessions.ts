/**
 * The other sessions: the cards by which they present themselves, their labels, and which of them are PAIRED and in the
 * channel. A session is its keys; a name is only a label.
 */
import * as protocol from '../protocol.ts';
import type { Sealed } from '../protocol.ts';
import { markUndelivered } from './outbox.ts';
import { Session } from './state.ts';
import type { Room } from './state.ts';

const HOUR_MS = 3_600_000;
const MAX_NEW_SESSIONS_PER_HOUR = 100;
/** Beyond these, sessions that never proved anything and are not in the channel are forgotten. */
const MAX_SESSIONS = 300;
const MAX_BAD_CARDS = 200;
const MAX_KEY_CHARACTERS = 100;

/** The session of a card. Undefined if the card is rejected, or too many sessions came within an hour. */
export async function acceptCard(room: Room, participantId: string, sealed: Sealed): Promise<Session | undefined> {
  const { own, me } = room;
  const card = await protocol.unsealCard(
    own.channelKey,
    own.broadcastKey,
    own.channelId,
    participantId,
    own.participantId,
    sealed,
  );
  if (!card.ok) {
    countBadCard(room, participantId, sealed, card.reason);
    return undefined;
  }
  const { sid, name, pub } = card.value;
  const known = room.sessionBySid(sid);
  if (known) return known;
  const now = Date.now();
  room.metAt = room.metAt.filter((at) => now - at < HOUR_MS);
  if (room.metAt.length >= MAX_NEW_SESSIONS_PER_HOUR) {
    room.countEntry('too-many-sessions', '', 'limit');
    return undefined;
  }
  const key = await protocol.directKey(own.channelKey, me.keys.ecdh, me.sid, sid, pub);
  // A poll and a status request may have brought the same card at the same time.
  const met = room.sessionBySid(sid);
  if (met || !key.ok) return met;
  room.metAt.push(now);
  return addSession(room, card.value, key.value, labelFor(room, name));
}

/** The bridge lists a card again and again: each is counted once. */
function countBadCard(room: Room, participantId: string, { nonce, tag }: Sealed, reason: string): void {
  const key = `${participantId} ${nonce} ${tag}`.slice(0, MAX_KEY_CHARACTERS);
  if (room.badCards.has(key)) return;
  const [oldest] = room.badCards;
  if (room.badCards.size >= MAX_BAD_CARDS && oldest !== undefined) room.badCards.delete(oldest);
  room.badCards.add(key);
  room.countEntry('bad-card', newestLabel(room, participantId), reason);
}

function addSession(room: Room, card: protocol.Session, key: CryptoKey, label: string): Session {
  const isAnother = label !== card.name;
  const owedFrom = room.position.broadcasts + 1;
  const session = new Session(card, label, key, owedFrom, room.entries.at(-1)?.id ?? 0);
  room.sessions.push(session);
  room.touchSession(session);
  if (isAnother) room.addEntry('new-session', label, { sid: session.sid });
  if (room.sessions.length > MAX_SESSIONS) forgetOne(room);
  return session;
}

/** The second session of a name is `name~2`, the third `name~3`. */
function labelFor(room: Room, name: string): string {
  const count = (room.sessionsOfName.get(name) ?? 0) + 1;
  room.sessionsOfName.set(name, count);
  return count === 1 ? name : `${name}~${count}`;
}

function forgetOne(room: Room): void {
  const at = room.sessions.findIndex(
    ({ isPaired, isInChannel, broadcasts, lastDirect }) =>
      !isPaired && !isInChannel && broadcasts.highest === 0 && lastDirect === 0,
  );
  const [forgotten] = at < 0 ? [] : room.sessions.splice(at, 1);
  if (forgotten) room.storage.delete(`session/${forgotten.sid}`);
}

export const newestLabel = (room: Room, participantId: string): string =>
  room.sessionsOf(participantId)[0]?.label ?? '';

/** The first direct message of a session opened: its sender holds its keys, and acted after our session began. */
export function markPaired(room: Room, session: Session): void {
  if (session.isPaired) return;
  session.isPaired = true;
  session.pairedOrder = Math.max(0, ...room.sessions.map(({ pairedOrder }) => pairedOrder)) + 1;
  room.touchSession(session);
  room.addEntry('paired', session.label, { sid: session.sid });
  replaceOlder(room, session.participantId);
}

/**
 * The bridge lists this session under its id, and no longer the one before it. True if it was not in the channel before.
 */
export function markListed(room: Room, session: Session): boolean {
  room.listed.set(session.participantId, session.sid);
  for (const other of room.sessionsOf(session.participantId)) {
    if (other !== session && other.isInChannel) markOutOfChannel(room, other);
  }
  const isNew = markInChannel(room, session);
  replaceOlder(room, session.participantId);
  return isNew;
}

/** The bridge lists it, or something new of it was proved. After its `bye` it stays away. */
export function markInChannel(room: Room, session: Session): boolean {
  if (session.isInChannel || session.hasLeft) return false;
  session.isInChannel = true;
  room.touchSession(session);
  return true;
}

export function markOutOfChannel(room: Room, session: Session): void {
  session.isInChannel = false;
  session.reported = { ...session.reported, isListening: false };
  room.touchSession(session);
}

/** Where the listed session is PAIRED, those that were PAIRED before it have ended: nothing reaches them any more. */
function replaceOlder(room: Room, participantId: string): void {
  const listed = room.sessionBySid(room.listed.get(participantId) ?? '');
  if (!listed?.isPaired) return;
  for (const session of room.sessionsOf(participantId)) {
    if (session === listed || session.pairedOrder > listed.pairedOrder) continue;
    markUndelivered(room, session);
  }
}

/**
 * The same session as a new session of ours meets it: what came of its broadcasts stays, and all that is between two
 * sessions begins again.
 */
export function successorOf(session: Session, directKey: CryptoKey): Session {
  const successor = new Session(session.card, session.label, directKey, 1, session.metAfterEntry);
  const { isInChannel, hasLeft, isLeaveReported, base, first, firstShown, lastEntryId, broadcasts, shown } = session;
  Object.assign(successor, { isInChannel, hasLeft, isLeaveReported, base, first, firstShown, lastEntryId, broadcasts });
  successor.shown = { ...shown, directs: 0, skippedDirects: 0 };
  for (const seq of broadcasts.digests.keys()) broadcasts.changed.digests.add(seq);
  for (const seq of broadcasts.buffered.keys()) broadcasts.changed.buffered.add(seq);
  return successor;
}
