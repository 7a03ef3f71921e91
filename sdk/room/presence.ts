/** Who is in the channel and who listens, by the word of the bridge: joins, leaves, and the channel's status. */
import type { BridgeEvent, Participant, ReportedPresence } from './bridge-api.ts';
import { requestSync } from './control.ts';
import { acceptCard, markListed, markOutOfChannel } from './sessions.ts';
import type { EntryType, Room, Session } from './state.ts';

const HOUR_MS = 3_600_000;
/** Presence is cheap to invent: the transcript has so many lines of it in an hour, the list of members has all. */
const MAX_LINES_PER_HOUR = 60;

/** Adds a line about presence, unless there are too many. */
function addPresenceLine(room: Room, type: EntryType, session: Session): void {
  const hour = Math.floor(Date.now() / HOUR_MS);
  if (room.presenceLines.hour !== hour) room.presenceLines = { hour, count: 0 };
  room.presenceLines.count++;
  if (room.presenceLines.count <= MAX_LINES_PER_HOUR) {
    room.addEntry(type, session.label, { sid: session.sid, kind: session.card.kind });
  } else if (room.presenceLines.count === MAX_LINES_PER_HOUR + 1) {
    room.addEntry('presence-limit');
  }
  room.onChange();
}

export function applyReported(session: Session, reported: ReportedPresence): void {
  session.reported = { ...session.reported, ...reported };
}

/**
 * The sessions that the bridge lists when we join: they were here before us. Each is sent a sync. In the same epoch a session
 * that is not listed has left; in a new one it may come back.
 */
export async function applyListed(
  room: Room,
  participants: readonly Participant[],
  isNewEpoch: boolean,
): Promise<void> {
  const before = room.sessions.filter(({ isInChannel }) => isInChannel);
  room.listed.clear();
  for (const { id, card, reported } of participants) {
    if (id === room.own.participantId) continue;
    const session = await acceptCard(room, id, card);
    if (!session) continue;
    applyReported(session, reported);
    if (markListed(room, session)) addPresenceLine(room, 'joined', session);
    if (!session.hasLeft) requestSync(room, session);
  }
  if (!isNewEpoch) markUnlisted(room, before);
}

function markUnlisted(room: Room, sessions: readonly Session[]): void {
  for (const session of sessions) {
    if (!session.isInChannel || room.listed.has(session.participantId)) continue;
    markOutOfChannel(room, session);
    addPresenceLine(room, 'bridge-left', session);
  }
}

/** Reads the channel's status: who listens, how far each fetched, and cards and leaves that a gap hides. */
export async function refreshStatus(room: Room, hasGap = false): Promise<void> {
  const { epoch } = room.position;
  const before = room.sessions.filter(({ isInChannel }) => isInChannel);
  const participants = await room.api.status(epoch);
  if (room.position.epoch !== epoch) return;
  if (hasGap) room.listed.clear();
  for (const { id, card, reported } of participants) {
    if (id === room.own.participantId) continue;
    const session = await acceptCard(room, id, card);
    if (!session || room.position.epoch !== epoch) continue;
    applyReported(session, reported);
    if (markListed(room, session)) addPresenceLine(room, 'joined', session);
  }
  if (hasGap) markUnlisted(room, before);
  room.onChange();
}

/** The bridge's row of ourselves says how far we fetched. Undefined if it lists us not, or another epoch began. */
export async function fetchedByUs(room: Room): Promise<number | undefined> {
  const { epoch } = room.position;
  const participants = await room.api.status(epoch);
  if (room.position.epoch !== epoch) return undefined;
  return participants.find(({ id }) => id === room.own.participantId)?.reported.fetched;
}

export async function applyJoin(room: Room, { index, from, card }: BridgeEvent & { type: 'join' }): Promise<void> {
  const session = await acceptCard(room, from, card);
  // Before we came there was another state; the response to our join had the present one.
  if (!session || room.isBeforeJoin(index) || index <= room.position.highestIndex) return;
  applyReported(session, { isListening: false, seenAt: Date.now() });
  if (markListed(room, session)) addPresenceLine(room, 'joined', session);
}

type Change = BridgeEvent & { readonly type: 'leave' | 'away' | 'back' };

export function applyChange(room: Room, { type, from, isExpired, index }: Change): void {
  if (room.isBeforeJoin(index) || index <= room.position.highestIndex) return;
  const session = room.sessionBySid(room.listed.get(from) ?? '') ?? room.sessionsOf(from)[0];
  if (!session) return;
  if (type === 'leave') {
    room.listed.delete(from);
    if (!session.isInChannel) return;
    markOutOfChannel(room, session);
    addPresenceLine(room, isExpired ? 'expired' : 'bridge-left', session);
    return;
  }
  if (!session.isInChannel || session.isAway === (type === 'away')) return;
  session.isAway = type === 'away';
  room.touchSession(session);
  addPresenceLine(room, type, session);
}
