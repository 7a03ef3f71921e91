/**
 * In and out of a channel, and what goes on between: the poll that listens, and coming back where the bridge lost us.
 */
import { randomHex } from './legacy-bytes.ts';
import * as protocol from './legacy-protocol.ts';
import { EVERYBODY } from './legacy-protocol.ts';
import type { Keys } from './legacy-protocol.ts';
import { take } from './inbox.ts';
import { Kept, exportKeys, importKeys } from './kept.ts';
import type { KeptKeys } from './kept.ts';
import { ask, flush, lastTo, send, unsend } from './outbox.ts';
import { isThere, isWhole } from './peers.ts';
import { meet } from './presence.ts';
import { restore, save } from './reload.ts';
import { Room, codeOf } from './room.ts';
import type { Me } from './room.ts';
import { Refused } from './wire.ts';

const LOST = ['no_channel', 'no_participant', 'other_epoch'];
const FATAL = ['bad_token', 'wrong_key', 'name_taken'];
const POLL_SECONDS = 25;
/** How long after the tab is gone the room is left: a reload is back by then. */
const GRACE_SECONDS = 20;

/**
 * Enters under a name, and says hello. Throws Refused: `name_taken` means to try another.
 *
 * @param base where the bridge is, no slash at its end
 */
export async function enter(base: string, k: string, name: string, isWatching: boolean): Promise<Room> {
  const me = { name, isWatching, token: randomHex(32), stream: randomHex(8), challenge: randomHex(16) };
  const keys = await exportKeys(await protocol.makeKeys(true));
  const room = await makeRoom(base, k, me, await importKeys(keys));
  await join(room);
  room.kept.clear();
  room.kept.put('me', { ...me, keys });
  save(room);
  await send(room, undefined, 'hello', { challenge: me.challenge });
  return room;
}

/** The one that this tab was in before a reload. */
export async function resume(base: string, k: string, channel: string): Promise<Room | undefined> {
  const kept = new Kept(channel);
  const me = kept.get<Me & { keys: KeptKeys }>('me');
  if (!me || !kept.get('place')) return undefined;
  const room = await makeRoom(base, k, me, await importKeys(me.keys));
  await restore(room);
  return room;
}

async function makeRoom(base: string, k: string, me: Me, keys: Keys): Promise<Room> {
  const access = await protocol.accessOf(k);
  const channel = await protocol.channelOf(access);
  const id = await protocol.participantOf(k, me.name);
  const key = await protocol.aesKey(protocol.roomPassphrase(k));
  const frame = protocol.makeCard({ kind: 'human', name: me.name, pub: keys.pub, sign: keys.sign });
  const card = await protocol.seal(key, protocol.additionalData(channel, id, EVERYBODY, 'card'), frame);
  const room = new Room(base, id, me, { k, channel, access, key, keys, card });
  room.recover = (error, epoch) => recover(room, error, epoch);
  return room;
}

/** Listens until it is left. */
export async function run(room: Room): Promise<void> {
  for (let failures = 0; !room.isOver;) {
    const { epoch, cursor } = room.where;
    room.wake = new AbortController();
    room.polling = new AbortController();
    const stop = room.polling.signal;
    try {
      // Held back numbers are looked at again when their time is up; a first poll shows at once what is there.
      const hasHoles = room.peers.some(({ streams }) => !Object.values(streams).every(isWhole));
      const seconds = room.link !== 'online' ? 0 : hasHoles ? 5 : POLL_SECONDS;
      const batch = await room.wire.poll(epoch, cursor, seconds, stop);
      // Meanwhile a message may have found out that the epoch is another: this cursor means nothing there.
      if (batch.epoch === room.where.epoch) await take(room, batch);
      failures = 0;
      room.setLink('online');
      void flush(room);
    } catch (error) {
      if (stop.aborted && room.where.epoch !== epoch) continue;
      if (!(await recover(room, error, epoch))) await room.backOff(error, ++failures);
    }
  }
}

/** Goodbye, and out; nothing of it stays in the tab. */
export async function leave(room: Room): Promise<void> {
  const last = room.others.filter(isThere).map(({ id, pub }) => [id, lastTo(room, pub)]);
  const final = last.filter(([, seq]) => seq !== 0).map((pair) => pair.join(':'));
  const bye = send(room, undefined, 'bye', final.length > 0 ? { final: final.slice(0, 40).join() } : {});
  await Promise.race([bye.then(() => flush(room)), room.pause(3000)]).catch(() => undefined);
  room.setLink('left');
  room.polling.abort();
  room.wake.abort();
  room.kept.clear();
  await room.wire.leave(room.where.epoch, 0).catch(() => undefined);
}

/** The tab goes away, perhaps to come back. */
export function fade(room: Room): void {
  if (room.isOver) return;
  save(room);
  room.wire.leave(room.where.epoch, GRACE_SECONDS).catch(() => undefined);
}

async function join(room: Room): Promise<void> {
  const { wire, where, own, id } = room;
  room.maxBytes = await wire.create();
  const { epoch, cursor, index, participants } = await wire.join(own.card);
  const isFirst = where.born === '';
  if (epoch !== where.epoch) {
    room.indices.clear();
    where.high = 0;
  }
  Object.assign(where, { epoch, cursor }, isFirst && { born: epoch, bornAt: index });
  for (const participant of participants) {
    if (participant.id === id) continue;
    const peer = await meet(room, participant.id, participant.box, isFirst);
    if (!peer) continue;
    if (peer.state === 'gone') room.note('joined', peer.name);
    peer.state = 'here';
    room.present(participant);
  }
}

/** After a request failed: true if it can be tried again at once. */
async function recover(room: Room, error: unknown, epoch: string): Promise<boolean> {
  const code = codeOf(error);
  if (!(error instanceof Refused)) console.error(error);
  if (FATAL.includes(code)) {
    room.reason = code;
    room.setLink('refused');
  }
  if (code === 'unreachable') room.setLink('offline');
  if (!LOST.includes(code)) return false;
  if (room.where.epoch !== epoch) return true;
  room.rejoining ??= rejoin(room).finally(() => (room.rejoining = undefined));
  try {
    await room.rejoining;
    return true;
  } catch (reason) {
    return !LOST.includes(codeOf(reason)) && recover(room, reason, epoch);
  }
}

/** The bridge restarted or gave us up: the same channel, name and token again, and each that is back hears what we have. */
async function rejoin(room: Room): Promise<void> {
  const before = room.peers.map((peer) => [peer, peer.state] as const);
  for (const [peer, state] of before) if (state !== 'gone') peer.state = 'lost';
  try {
    await join(room);
  } catch (error) {
    for (const [peer, state] of before) peer.state = state;
    throw error;
  }
  room.polling.abort();
  unsend(room);
  for (const peer of room.peers) if (peer.state === 'here') ask(room, peer);
  room.note('resumed');
  save(room);
  room.setLink('online');
}
