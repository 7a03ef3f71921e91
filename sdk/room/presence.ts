/** Who is there: the cards by which they present themselves, and what the bridge says of their coming and going. */
import * as protocol from './legacy-protocol.ts';
import type { Sealed } from './legacy-protocol.ts';
import { ask } from './outbox.ts';
import type { Peer } from './peers.ts';
import type { Room } from './room.ts';
import type { Event } from './wire.ts';

/** Did it happen before we came? */
export const isEarly = ({ where }: Room, index: number): boolean => where.epoch === where.born && index < where.bornAt;

/** A card; keys are pinned when first seen. Undefined if it is none. */
export async function meet(room: Room, id: string, sealed: Sealed, isOlder: boolean): Promise<Peer | undefined> {
  const { k, key, channel, keys } = room.own;
  const card = await protocol.openCard(k, key, channel, id, sealed);
  if (!card.ok) return room.warn(`card-${card.reason}`, room.newest(id)?.name);
  const { name, pub, sign } = card.value;
  const known = room.peers.filter((peer) => peer.id === id);
  const same = known.find((peer) => peer.pub === pub && peer.sign === sign);
  if (same) return same;
  const direct = await protocol.directKey(k, keys.ecdh, pub);
  if (!direct.ok) return room.warn(`card-${direct.reason}`, name);
  const hasNewKeys = known.length > 0;
  for (const old of known) old.state = 'gone';
  if (hasNewKeys) room.note('keys', name);
  const peer: Peer = {
    ...card.value,
    ...{ id, direct: direct.value, isOlder, hasNewKeys, streams: {}, state: 'gone', has: { all: 0, me: 0 } },
    ...{ isListening: false, seenAt: 0, fetched: 0 },
  };
  room.peers.push(peer);
  return peer;
}

/** Who listens, and how far the bridge says they are. */
export async function look(room: Room): Promise<void> {
  if (room.link !== 'online') return;
  const { epoch } = room.where;
  try {
    for (const participant of await room.wire.who(epoch)) {
      const { id, box } = participant;
      if (id === room.id || room.where.epoch !== epoch) continue;
      const isNew = !room.newest(id);
      const peer = await meet(room, id, box, false);
      if (isNew && peer) peer.state = 'here'; // its joining is in a gap
      room.present(participant);
    }
    room.onChange();
  } catch {
    // The poll says what is wrong.
  }
}

export async function joined(
  room: Room,
  { index, from, box }: Event & { type: 'join' },
  isNew: boolean,
): Promise<void> {
  const isOlder = isEarly(room, index);
  const peer = await meet(room, from, box, isOlder);
  if (!peer || isOlder || !isNew || room.newest(from) !== peer) return;
  const { state, name, kind } = peer;
  peer.state = 'here';
  peer.seenAt = Date.now();
  if (state === 'gone') room.note('joined', name, { words: kind });
  else if (state === 'lost') {
    room.note('back', name);
    ask(room, peer);
  }
}

type Change = Event & { readonly type: 'leave' | 'away' | 'back' };
export function changed(room: Room, { type, from, reason, index }: Change): void {
  const peer = room.newest(from);
  if (!peer || peer.state === 'gone' || isEarly(room, index)) return;
  const [state, what] = ({ leave: ['gone', 'left'], away: ['away', 'away'], back: ['here', 'back'] } as const)[type];
  peer.state = state;
  peer.isListening = false;
  room.note(what, peer.name, { words: reason });
}
