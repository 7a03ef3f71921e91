/**
 * Order between speakers (docs/protocol.md, Order): the header `seen` of our messages, and what is shown with each
 * message of the others. Nothing waits for it, and it changes no counter.
 */
import { MAX_SEEN, formatSeen } from '../protocol.ts';
import type { Message, Seen } from '../protocol.ts';
import type { Named, OrderMarks, Room, Session } from './state.ts';

const SHORT_SID = 16;
/** The header lines of a frame have at most 4096 bytes, and there are others. */
const MAX_SEEN_CHARACTERS = 3000;

/** What was shown here of each other session, the last heard first. Undefined if that is nothing. */
export function seenHeader(room: Room): string | undefined {
  const entries: Seen[] = room.sessions
    .filter(({ shown }) => shown.mark > 0)
    .sort((a, b) => b.lastEntryId - a.lastEntryId)
    .slice(0, MAX_SEEN)
    .map((session) => ({
      session: session.sid,
      mark: session.shown.mark,
      skipped: session.shown.skippedBroadcasts,
      left: !session.isInChannel,
    }));
  while (entries.length > 0 && formatSeen(entries).length > MAX_SEEN_CHARACTERS) entries.pop();
  return entries.length === 0 ? undefined : formatSeen(entries);
}

export const findSeen = (seen: readonly Seen[], sid: string): Seen | undefined =>
  seen.find(({ session }) => session === sid.slice(0, SHORT_SID));

/** What the writer of a message had and had not read, compared with what is above it here. */
export function orderMarks(room: Room, writer: Session, { seen, received }: Message): OrderMarks | undefined {
  const others = room.sessions.filter((session) => session !== writer);
  const unread: Named[] = others
    .filter(({ lastEntryId }) => lastEntryId > writer.metAfterEntry)
    .map((session) => ({
      label: session.label,
      count: session.mark - (findSeen(seen, session.sid)?.mark ?? 0),
    }))
    .filter(({ count }) => count > 0);
  const known = seen.flatMap((entry) => {
    const session = others.find(({ sid }) => sid.startsWith(entry.session));
    return session ? [{ session, entry }] : [];
  });
  const own = findSeen(seen, room.me.sid);
  const knownSids = [room.me.sid, ...room.me.formerSids, ...room.sessions.map(({ sid }) => sid)];
  const marks: OrderMarks = {
    unread,
    unreadOwn: unreadOwn(room, writer, own?.mark ?? 0, received?.directs),
    ahead: known.filter(({ session, entry }) => entry.mark > session.mark).map(({ session }) => session.label),
    missed: [
      ...known.map(({ session, entry }) => ({ label: session.label, count: entry.skipped })),
      ...(own ? [{ label: 'you', count: own.skipped }] : []),
    ].filter(({ count }) => count > 0),
    hasUnknown: seen.some(({ session, left }) => !left && !knownSids.some((sid) => sid.startsWith(session))),
  };
  const isEmpty =
    marks.unread.length + marks.unreadOwn + marks.ahead.length + marks.missed.length === 0 && !marks.hasUnknown;
  return isEmpty ? undefined : marks;
}

/** Our broadcasts that are sent to it, and in a direct message our direct ones, which it had not read. */
function unreadOwn(room: Room, writer: Session, mark: number, directs: number | undefined): number {
  const broadcasts = Math.max(0, room.position.broadcasts - Math.max(mark, writer.owedFrom - 1));
  return broadcasts + (directs === undefined ? 0 : Math.max(0, writer.lastDirect - directs));
}
