/** Seals our own messages: the headers that every message has, the signature of broadcasts, the key of its recipient. */
import * as protocol from '../protocol.ts';
import { BROADCAST } from '../protocol.ts';
import type { Headers, Sealed } from '../protocol.ts';
import { seenHeader } from './order-marks.ts';
import { MAX_DECIMAL } from './state.ts';
import type { Marks, Room, Session } from './state.ts';

const optional = (name: string, value: string | undefined): Headers => (value === undefined ? {} : { [name]: value });

/** The F of our `sent` to a session. It never falls: both numbers only rise. */
const firstFor = (room: Room, session: Session): number => Math.max(session.owedFrom, room.firstStored);

/** Tells a session what of its messages was shown, and takes note of that. */
function receivedHeader(session: Session): Headers {
  const { broadcasts, directs, skippedBroadcasts, skippedDirects } = session.shown;
  session.control.told = { broadcasts, directs };
  session.control.ackShownAt = 0;
  const skipped = Math.min(skippedBroadcasts + skippedDirects, MAX_DECIMAL);
  return { received: protocol.formatReceived({ broadcasts, directs, skipped }) };
}

/** Content has a `seq`. The next numbers are those of the caller. */
export async function sealBroadcast(
  room: Room,
  seq: number,
  kind: string,
  more: Headers,
  body?: Uint8Array,
): Promise<Sealed> {
  const { own, me } = room;
  const headers: Headers = {
    kind,
    seq: String(seq),
    time: String(Date.now()),
    ...optional('seen', seenHeader(room)),
    reach: room.reach,
    ...more,
  };
  const aad = protocol.additionalData(own.channelId, own.participantId, BROADCAST, 'message');
  const frame = await protocol.signFrame(me.keys.ecdsa, aad, me.sid, headers, body);
  return protocol.seal(own.broadcastKey, aad, frame);
}

/** Content if it has a `seq`, else control. */
export async function sealDirect(
  room: Room,
  session: Session,
  seq: number | undefined,
  kind: string,
  more: Headers,
  body?: Uint8Array,
): Promise<Sealed> {
  const { own } = room;
  const isControl = seq === undefined;
  const sent = {
    first: firstFor(room, session),
    broadcasts: room.position.broadcasts,
    directs: seq ?? session.lastDirect,
  };
  const headers: Headers = {
    kind,
    ...optional('seq', seq === undefined ? undefined : String(seq)),
    time: String(Date.now()),
    sent: protocol.formatSent(sent),
    ...receivedHeader(session),
    ...optional('stored', kind === 'sync' || kind === 'ack' ? storedHeader(session) : undefined),
    ...optional('seen', isControl ? undefined : seenHeader(room)),
    reach: room.reach,
    ...more,
  };
  const aad = protocol.additionalData(own.channelId, own.participantId, session.participantId, 'message');
  return protocol.seal(session.directKey, aad, protocol.makeFrame(headers, body));
}

/** How far messages are stored without a gap, where that is more than was shown. */
function storedHeader(session: Session): string | undefined {
  const stored: Marks = { broadcasts: session.broadcasts.stored, directs: session.directs.stored };
  const isMore = stored.broadcasts > session.shown.broadcasts || stored.directs > session.shown.directs;
  return isMore ? protocol.formatStored(stored) : undefined;
}
