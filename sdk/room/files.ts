/** Files, which go as parts of at most a message each, and come as such. */
import { concat, isHex, toBase64, toHex } from './legacy-bytes.ts';
import type { Bytes } from './legacy-bytes.ts';
import { sha256 } from './legacy-protocol.ts';
import type { Message } from './legacy-protocol.ts';
import { noteOwn, send } from './outbox.ts';
import type { Peer, To } from './peers.ts';
import type { Entry, Room } from './room.ts';

export const MAX_FILE_BYTES = 10 * 1024 * 1024;
const MAX_PARTS = 4096;
const MAX_PENDING_BYTES = 64 * 1024 * 1024;

/** From 1 byte to MAX_FILE_BYTES. */
export async function sendFile(room: Room, called: string, bytes: Bytes, to?: Peer): Promise<void> {
  const { maxBytes } = room;
  const name = called.replace(/[^A-Za-z0-9._-]/g, '_').slice(-120) || 'file';
  const common = { name, size: String(bytes.length), sha256: toHex(await sha256(bytes)) };
  const count = Math.ceil(bytes.length / maxBytes);
  const numbers: number[] = [];
  for (let i = 0; i < count; i++) {
    const part = bytes.subarray(i * maxBytes, (i + 1) * maxBytes);
    numbers.push(await send(room, to, 'file', { ...common, part: `${i + 1}/${count}` }, part));
  }
  const file = { name, size: bytes.length, bytes: toBase64(bytes) };
  noteOwn(room, 'file', { to: to?.name, file, out: [Math.min(...numbers), Math.max(...numbers)] });
}

/** One part of a file; where all are there, the file. */
export async function takePart(room: Room, peer: Peer, message: Message, to: To): Promise<Entry['file']> {
  const { headers, stream, body } = message;
  const [i = 0, n = 0] = headers.get('part')?.split('/').map(Number) ?? [];
  const [hash = '', name = 'file'] = [headers.get('sha256'), headers.get('name')];
  const pending = [...room.parts.values()].flatMap((have) => [...have.values()]);
  const pendingBytes = pending.reduce((sum, { length }) => sum + length, body.length);
  if (n < 1 || n > MAX_PARTS || !isHex(hash, 64) || pendingBytes > MAX_PENDING_BYTES) {
    return room.warn('bad-part', peer.name);
  }
  const id = `${peer.id}-${stream}-${to}-${hash}-${n}`;
  const have = (room.parts.get(id) ?? new Map<number, Bytes>()).set(i, body);
  room.parts.set(id, have);
  if (have.size < n) {
    room.kept.put(`part/${id}/${i}`, toBase64(body));
    return undefined;
  }
  room.parts.delete(id);
  for (const part of have.keys()) room.kept.drop(`part/${id}/${part}`);
  const bytes = concat(...Array.from({ length: n }, (_, part) => have.get(part + 1) ?? new Uint8Array()));
  if (toHex(await sha256(bytes)) !== hash) return room.warn('broken-file', peer.name);
  return { name: name.replace(/^.*[\\/]/, '') || 'file', size: bytes.length, bytes: toBase64(bytes) };
}
