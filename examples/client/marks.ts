/** What the reader's client says with each message: what its writer had read when it wrote. */
import type { Message } from './message.ts';
import { tagOf } from './peer.ts';
import type { Content, Peer } from './peer.ts';

export interface Marks {
  /** Of which other sessions its writer had not read how many broadcasts that were shown here. */
  readonly unread: readonly { readonly name: string; readonly count: number }[];
  /** How many of the reader's own messages its writer had not read. */
  readonly unreadOwn: number;
  /** Whose messages its writer has read that were not shown here. */
  readonly ahead: readonly string[];
  /** Whose messages its writer has skipped: a name, `you`, or the start of an unknown sid. */
  readonly missed: readonly string[];
  /** How many sessions that the reader does not know its writer has read. */
  readonly strangers: number;
  readonly isLate: boolean;
  readonly isUnpaired: boolean;
  readonly isBeforeJoin: boolean;
  /** The sender's clock, if it differs from the arrival by more than a minute. */
  readonly sentAt: number | undefined;
}

export interface Reader {
  readonly sid: string;
  readonly formerSids: readonly string[];
  readonly sealedBroadcasts: number;
  readonly peers: readonly Peer[];
}

const MINUTE_MS = 60_000;

export function marksOf(writer: Peer, content: Content, message: Message, isLate: boolean, reader: Reader): Marks {
  const { isDirect, arrivedAt } = content;
  const isBelowBase = writer.base === undefined ? content.isFromBeforeJoin : (message.seq ?? 0) < writer.base;
  const isBeforeJoin = !isDirect && isBelowBase;
  const isUnpaired = !writer.isPaired && !isBeforeJoin;
  const sentAt = Math.abs(message.time - arrivedAt) > MINUTE_MS ? message.time : undefined;
  const order =
    isBeforeJoin || isUnpaired
      ? { unread: [], unreadOwn: 0, ahead: [], missed: [], strangers: 0, isLate: false }
      : { ...orderMarksOf(writer, isDirect, message, reader), isLate };
  return { ...order, isUnpaired, isBeforeJoin, sentAt };
}

function orderMarksOf(writer: Peer, isDirect: boolean, message: Message, reader: Reader) {
  const others = reader.peers.filter((peer) => peer !== writer);
  const ownTag = tagOf(reader.sid);
  // Reversed, because of two with the same tag the first entry counts.
  const byTag = new Map(others.toReversed().map((peer) => [tagOf(peer.sid), peer]));
  const seen = new Map(message.seen.toReversed().map((entry) => [entry.session, entry]));
  const named = [...seen.values()];
  const markFor = (sid: string) => seen.get(tagOf(sid))?.mark ?? 0;
  const knownTags = new Set([...byTag.keys(), ...[reader.sid, writer.sid, ...reader.formerSids].map(tagOf)]);
  // What was sealed before the writer came is not owed to it.
  const unreadBroadcasts = reader.sealedBroadcasts - Math.max(markFor(reader.sid), writer.owedFrom - 1);
  const unreadDirects = isDirect ? writer.sealedDirects - (message.received?.directs ?? 0) : 0;
  return {
    unread: others
      .filter((peer) => peer.shownAt > writer.metAt)
      .map((peer) => ({ name: peer.label, count: peer.mark - markFor(peer.sid) }))
      .filter(({ count }) => count > 0),
    unreadOwn: Math.max(0, unreadBroadcasts) + Math.max(0, unreadDirects),
    ahead: named.flatMap(({ session, mark }) => {
      const peer = byTag.get(session);
      return peer !== undefined && mark > peer.mark ? [peer.label] : [];
    }),
    missed: named
      .filter(({ skipped }) => skipped > 0)
      .map(({ session }) => byTag.get(session)?.label ?? (session === ownTag ? 'you' : session)),
    strangers: named.filter(({ session, left }) => !left && !knownTags.has(session)).length,
  };
}
