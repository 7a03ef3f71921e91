/** Files as their senders seal them (docs/protocol.md, Files). */
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import * as protocol from '../../../sdk/protocol.ts';
import { sha256Hex } from './member.ts';

/** Pieces, body and headers of a file. */
export function makeFile(contents: Uint8Array) {
  const secret = randomBytes(32).toString('hex');
  const key = createHash('sha256').update(protocol.filePassphrase(secret)).digest();
  const bytes = createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(contents);
  const pieces = Array.from({ length: Math.ceil(bytes.length / protocol.PIECE_BYTES) }, (_, i) =>
    bytes.subarray(i * protocol.PIECE_BYTES, (i + 1) * protocol.PIECE_BYTES),
  );
  const body = [secret, ...pieces.map(sha256Hex)].map((line) => `${line}\n`).join('');
  return {
    secret,
    pieces,
    body,
    headers: { name: 'a.txt', size: String(contents.length), sha256: sha256Hex(contents) },
  };
}
