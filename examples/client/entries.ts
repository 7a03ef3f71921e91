/** What a client tells its user, in the order in which it does, and how each message is marked. */
import type { Content, Peer } from './peer.ts';

export interface Marks {
  /** Of which other sessions its writer had not read how many broadcasts that were shown here. */
  readonly unread: readonly { readonly name: string; readonly count: number }[];
  /** How many of the reader's own messages its writer had not read. */
  readonly unreadOwn: number;
  /** Whose messages its writer has read that were not shown here. */
  readonly ahead: readonly string[];
  /** Whose messages its writer has given up on; `you` is the reader. */
  readonly missed: readonly string[];
  /** How many sessions that the reader does not know its writer has read. */
  readonly strangers: number;
  readonly isLate: boolean;
  readonly isUnpaired: boolean;
  readonly isBeforeJoin: boolean;
  /** The sender's clock, if it differs from the arrival by more than a minute. */
  readonly sentAt: number | undefined;
}

interface Shown {
  readonly name: string;
  readonly sid: string;
  readonly isDirect: boolean;
  readonly seq: number;
  readonly marks: Marks;
}

export type Entry =
  | ({ readonly type: 'message'; readonly text: string } & Shown)
  | ({ readonly type: 'file'; readonly file: string; readonly size: number; readonly sha256: string } & Shown)
  | { readonly type: 'file-complete'; readonly name: string; readonly file: string; readonly bytes: Buffer }
  | { readonly type: 'file-stalled' | 'file-damaged'; readonly name: string; readonly file: string }
  | { readonly type: 'joined' | 'new' | 'paired' | 'left'; readonly name: string; readonly sid: string }
  | { readonly type: 'gone'; readonly name: string; readonly sid: string; readonly reason: 'left' | 'expired' }
  | { readonly type: 'missed' | 'earlier'; readonly name: string; readonly count: number }
  | { readonly type: 'tampered' | 'bad-card'; readonly name: string; readonly reason: string }
  | { readonly type: 'malformed'; readonly name: string; readonly seq: number; readonly reason: string }
  | { readonly type: 'unreadable' }
  | { readonly type: 'undelivered'; readonly name: string; readonly seq: number }
  | { readonly type: 'copy'; readonly unacknowledged: readonly { readonly to: string; readonly seq: number }[] }
  | { readonly type: 'resumed'; readonly isNewEpoch: boolean }
  | { readonly type: 'refused'; readonly code: string }
  | { readonly type: 'gap' };

const MINUTE_MS = 60_000;

export interface Reader {
  readonly sid: string;
  /** Of its sessions before this one, where it noticed that it was a copy. */
  readonly formerSids: readonly string[];
  readonly sealedBroadcasts: number;
  readonly peers: readonly Peer[];
}

/** What the reader's client says with a message of `writer`. */
export function marksOf(writer: Peer, content: Content, seq: number, isLate: boolean, reader: Reader): Marks {
  const { message, isDirect, isFromBeforeJoin, arrivedAt } = content;
  const seen = new Map((message?.seen ?? []).toReversed().map((entry) => [entry.session, entry]));
  const time = message?.time ?? arrivedAt;
  const marks: Marks = {
    unread: [],
    unreadOwn: 0,
    ahead: [],
    missed: [],
    strangers: 0,
    isLate: false,
    isUnpaired: !writer.isPaired,
    isBeforeJoin: !isDirect && (isFromBeforeJoin || seq < (writer.base ?? 0)),
    sentAt: Math.abs(time - arrivedAt) > MINUTE_MS ? time : undefined,
  };
  if (marks.isBeforeJoin) return { ...marks, isUnpaired: false };
  if (marks.isUnpaired) return marks;

  const others = reader.peers.filter((peer) => peer !== writer);
  const byTag = new Map(others.toReversed().map((peer) => [tagOf(peer.sid), peer]));
  const ownTag = tagOf(reader.sid);
  const ownTags = [ownTag, tagOf(writer.sid), ...reader.formerSids.map(tagOf)];
  const markFor = (sid: string) => seen.get(tagOf(sid))?.mark ?? 0;
  const named = [...seen.values()];
  const readOfOwn = Math.max(markFor(reader.sid), writer.owedFrom - 1);
  const unreadDirects = isDirect ? writer.sealedDirects - (message?.received?.directs ?? 0) : 0;
  return {
    ...marks,
    isLate,
    unread: others
      .filter((peer) => peer.shownAt > writer.metAt)
      .map((peer) => ({ name: peer.label, count: peer.mark - markFor(peer.sid) }))
      .filter(({ count }) => count > 0),
    unreadOwn: Math.max(0, reader.sealedBroadcasts - readOfOwn) + Math.max(0, unreadDirects),
    ahead: named.flatMap(({ session, mark }) => {
      const peer = byTag.get(session);
      return peer !== undefined && mark > peer.mark ? [peer.label] : [];
    }),
    missed: named
      .filter(({ skipped }) => skipped > 0)
      .map(({ session }) => byTag.get(session)?.label ?? (session === ownTag ? 'you' : session)),
    strangers: named.filter(({ session, left }) => !left && !byTag.has(session) && !ownTags.includes(session)).length,
  };
}

/** How `seen` names a session. */
const tagOf = (sid: string): string => sid.slice(0, 16);
