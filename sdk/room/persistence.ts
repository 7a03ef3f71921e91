/**
 * Stores a room in its tab, so that a reload continues the same session, and restores it. Order matters: what came from
 * the bridge is stored before its cursor is presented, and what goes out is stored before it leaves.
 */
import { fromBase64, toBase64 } from '../encoding.ts';
import type { Bytes } from '../encoding.ts';
import * as protocol from '../protocol.ts';
import type { Limits } from './bridge-api.ts';
import { Counter } from './sequence.ts';
import type { CounterFields } from './sequence.ts';
import { ControlState, Session } from './state.ts';
import type { Entry, Incoming, OutboxItem, Position, Room, Scope } from './state.ts';

const DIGESTS_PER_RECORD = 128;
/** Lines of the transcript go first where nothing more fits, so many at a time, but for the last ones. */
const LINES_DROPPED_AT_ONCE = 50;
const LINES_ALWAYS_STORED = 20;
const SCOPES: readonly Scope[] = ['broadcast', 'direct'];

/** The fields of a session that are stored as they are. */
const PLAIN_FIELDS = [
  ...['isPaired', 'pairedOrder', 'isInChannel', 'isAway', 'hasLeft', 'isLeaveReported', 'first', 'base', 'firstShown'],
  ...['shown', 'lastEntryId', 'lastDirect', 'acked', 'stored', 'skippedByPeer', 'reach', 'reachTime', 'reported'],
] as const satisfies readonly (keyof Session)[];

type StoredSession = {
  readonly card: protocol.Session;
  readonly label: string;
  readonly owedFrom: number;
  readonly metAfterEntry: number;
  readonly counters: Readonly<Record<Scope, CounterFields>>;
  readonly fields: Partial<Session>;
};
type StoredIncoming = { readonly unsigned: string; readonly isBeforeJoin: boolean; readonly arrivedAt: number };

// ---- storing ----

/** Stores all that changed. */
export function save(room: Room): void {
  const { unsaved } = room;
  for (const entry of unsaved.entries) store(room, `log/${entry.id}`, entry);
  unsaved.entries.clear();
  for (const session of unsaved.sessions) saveSession(room, session);
  unsaved.sessions.clear();
  store(room, 'position', room.position);
}

function saveSession(room: Room, session: Session): void {
  const { card, label, owedFrom, metAfterEntry } = session;
  const fields = Object.fromEntries(PLAIN_FIELDS.map((name) => [name, session[name]]));
  const counters = { broadcast: session.broadcasts.toFields(), direct: session.directs.toFields() };
  store(room, `session/${session.sid}`, { card, label, owedFrom, metAfterEntry, counters, fields });
  for (const scope of SCOPES) saveCounter(room, session, scope);
}

/** Stores the digests and the buffered messages that changed. */
function saveCounter(room: Room, session: Session, scope: Scope): void {
  const { changed, digests, buffered } = session.counter(scope);
  const folder = `${session.sid}/${scope}`;
  for (const number of new Set([...changed.digests].map((seq) => Math.floor(seq / DIGESTS_PER_RECORD)))) {
    const start = number * DIGESTS_PER_RECORD;
    const numbers = Array.from({ length: DIGESTS_PER_RECORD }, (_, i) => start + i);
    const record = numbers.flatMap((seq) => (digests.has(seq) ? [[seq, digests.get(seq)]] : []));
    if (record.length > 0) store(room, `digests/${folder}/${number}`, Object.fromEntries(record));
    else room.storage.delete(`digests/${folder}/${number}`);
  }
  for (const seq of changed.buffered) {
    const message = buffered.get(seq);
    if (message) {
      const { unsigned, isBeforeJoin } = message.item;
      const stored: StoredIncoming = { unsigned: toBase64(unsigned), isBeforeJoin, arrivedAt: message.arrivedAt };
      store(room, `buffered/${folder}/${seq}`, stored);
    } else {
      room.storage.delete(`buffered/${folder}/${seq}`);
    }
  }
  changed.digests.clear();
  changed.buffered.clear();
}

/** A message of ours, before it leaves. */
export function saveOutboxItem(room: Room, item: OutboxItem, session: Session | undefined): void {
  store(room, `out/${item.number}`, item);
  if (session) saveSession(room, session);
  store(room, 'position', room.position);
}

/** Stores a value; where it doesn't fit, older ones go first. */
export function store(room: Room, name: string, value: unknown): void {
  const { storage } = room;
  if (storage.set(name, value)) return;
  const lines = storage.listNumbers('log').slice(0, -LINES_ALWAYS_STORED);
  while (lines.length > 0) {
    for (const id of lines.splice(0, LINES_DROPPED_AT_ONCE)) storage.delete(`log/${id}`);
    if (storage.set(name, value)) return;
  }
  for (const item of room.outbox) {
    if (!item.sealed || item.number > room.position.posted) continue;
    deleteSealed(room, item);
    if (storage.set(name, value)) return;
  }
  storage.disable();
  room.addEntry('storage-lost');
}

/** Of limits a sender forgets its oldest messages: it can't repeat them any more, and says so by F. */
export function deleteSealed(room: Room, item: OutboxItem): void {
  delete item.sealed;
  if (item.recipient === protocol.BROADCAST) room.firstStored = Math.max(room.firstStored, item.seq + 1);
  room.storage.set(`out/${item.number}`, item);
}

// ---- restoring ----

/** Fills a room with what its tab stored. */
export async function restore(room: Room): Promise<void> {
  const { storage } = room;
  room.position = storage.get<Position>('position') ?? room.position;
  room.limits = storage.get<Limits>('limits') ?? room.limits;
  restoreOutbox(room);
  const stored = storage.names('session/').flatMap((name) => storage.get<StoredSession>(name) ?? []);
  // In the order in which they were met.
  for (const each of stored.sort((a, b) => a.metAfterEntry - b.metAfterEntry || compareLabels(a.label, b.label))) {
    await restoreSession(room, each);
  }
  room.restoreEntries(storage.listNumbers('log').flatMap((id) => storage.get<Entry>(`log/${id}`) ?? []));
}

const compareLabels = (a: string, b: string): number => a.localeCompare(b, 'en', { numeric: true });

function restoreOutbox(room: Room): void {
  for (const number of room.storage.listNumbers('out')) {
    const item = room.storage.get<OutboxItem>(`out/${number}`);
    if (!item) continue;
    while (room.outbox.length < number - 1) room.outbox.push(missingItem(room.outbox.length + 1));
    room.outbox.push(item);
    if (item.recipient !== protocol.BROADCAST) continue;
    room.position.broadcasts = Math.max(room.position.broadcasts, item.seq);
    if (!item.sealed) room.firstStored = Math.max(room.firstStored, item.seq + 1);
  }
}

/** In the place of a message that was not stored. */
const missingItem = (number: number): OutboxItem => ({ number, recipient: '', to: '', seq: 0 });

async function restoreSession(room: Room, stored: StoredSession): Promise<void> {
  const { own, me } = room;
  const { card, label, owedFrom, metAfterEntry, counters, fields } = stored;
  const key = await protocol.directKey(own.channelKey, me.keys.ecdh, me.sid, card.sid, card.pub);
  if (!key.ok) return;
  const session = new Session(card, label, key.value, owedFrom, metAfterEntry);
  Object.assign(session, fields, { control: new ControlState() });
  session.broadcasts = await restoreCounter(room, session, 'broadcast', counters.broadcast);
  session.directs = await restoreCounter(room, session, 'direct', counters.direct);
  for (const item of room.outbox) {
    if (item.recipient === session.sid) session.lastDirect = Math.max(session.lastDirect, item.seq);
  }
  room.sessions.push(session);
  room.sessionsOfName.set(card.name, (room.sessionsOfName.get(card.name) ?? 0) + 1);
}

async function restoreCounter(
  room: Room,
  session: Session,
  scope: Scope,
  fields: CounterFields,
): Promise<Counter<Incoming>> {
  const { storage } = room;
  const counter = Counter.restore<Incoming>(fields, Date.now());
  const folder = `${session.sid}/${scope}`;
  for (const name of storage.names(`digests/${folder}/`)) {
    const record = storage.get<Record<string, string>>(name) ?? {};
    for (const [seq, digest] of Object.entries(record)) counter.digests.set(Number(seq), digest);
  }
  for (const seq of storage.listNumbers(`buffered/${folder}`)) {
    const stored = storage.get<StoredIncoming>(`buffered/${folder}/${seq}`);
    const unsigned = fromBase64(stored?.unsigned ?? '');
    if (!stored || !unsigned) continue;
    const { isBeforeJoin, arrivedAt } = stored;
    const item: Incoming = { scope, seq, message: parseMessage(unsigned, scope), unsigned, isBeforeJoin };
    counter.buffered.set(seq, { item, arrivedAt });
  }
  return counter;
}

/** The message in a proved frame that was stored; it was checked when it came. */
function parseMessage(unsigned: Bytes, scope: Scope): Incoming['message'] {
  const frame = protocol.parseFrame(unsigned);
  if (!frame.ok) return { malformed: frame.reason };
  const message = protocol.checkMessage(frame.value, scope === 'direct');
  return message.ok ? message.value : { malformed: message.reason };
}
