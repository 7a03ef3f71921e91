/**
 * What of a room outlives a reload of its tab (kept.ts says where): written while it goes on, and read once. `me` with
 * the keys is written when it is entered, `out/…` by outbox.ts and `part/…` by files.ts as they come.
 */
import type { Bytes } from './legacy-bytes.ts';
import { directKey } from './legacy-protocol.ts';
import { unpack } from './kept.ts';
import { countersOf } from './peers.ts';
import type { Peer } from './peers.ts';
import type { Entry, Place, Room, Sent } from './room.ts';

const KEPT_FILE_CHARACTERS = 256 * 1024;
/** In the place of one of ours that there was no room for. */
const FORGOTTEN: Sent = { pub: '', to: '', seq: 0, all: 0 };

export function save(room: Room): void {
  const { kept, entries, peers, where } = room;
  for (const entry of entries.slice(room.saved)) {
    const { n, file } = entry;
    const short = { ...entry, file: file && { ...file, bytes: undefined } };
    const isLarge = (file?.bytes?.length ?? 0) > KEPT_FILE_CHARACTERS;
    if (kept.put(`log/${n}`, isLarge ? short : entry)) continue;
    for (const old of kept.numbers('log').slice(0, 50)) kept.drop(`log/${old}`);
    kept.put(`log/${n}`, short);
  }
  room.saved = entries.length;
  // What is held before its turn is fetched again after a reload.
  const held = peers.flatMap(countersOf).flatMap((counter) => [...counter.held.values()]);
  kept.put('place', { ...where, cursor: Math.min(where.cursor, ...held.map(({ index }) => index - 1)) });
  kept.put('met', peers);
}

export async function restore(room: Room): Promise<void> {
  const { kept, outbox, entries, parts, own } = room;
  room.where = kept.get<Place>('place') ?? room.where;
  for (const n of kept.numbers('out')) {
    while (outbox.length < n - 1) outbox.push(FORGOTTEN);
    outbox.push(kept.get<Sent>(`out/${n}`) ?? FORGOTTEN);
  }
  for (const peer of kept.get<Peer[]>('met') ?? []) {
    const direct = await directKey(own.k, own.keys.ecdh, peer.pub);
    if (!direct.ok) continue;
    for (const counter of countersOf(peer)) counter.held = new Map();
    room.peers.push({ ...peer, direct: direct.value });
  }
  entries.push(...kept.numbers('log').flatMap((n) => kept.get<Entry>(`log/${n}`) ?? []));
  room.saved = entries.length;
  for (const name of kept.names('part/')) {
    const [, id = '', i] = name.split('/');
    const have = parts.get(id) ?? new Map<number, Bytes>();
    parts.set(id, have.set(Number(i), unpack(kept.get<string>(name))));
  }
}
