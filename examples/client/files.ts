/** Files: ciphertext in pieces (AES-256-CTR, NIST SP 800-38A), and the bodies of `file` and `want`. */
import { createCipheriv } from 'node:crypto';
import { accept, aesKey, filePassphrase, isHex, randomHex, reject, sha256 } from './crypto.ts';
import type { Result } from './crypto.ts';

export const PIECE_BYTES = 1_048_576;
const BLOCKS_PER_PIECE = PIECE_BYTES / 16;
export const MAX_WANTED = 32;

export type FileKey = { readonly f: string; readonly pieces: readonly string[] };

/** Encrypts or decrypts piece `index`, which starts at the counter index × 65,536. */
export function cryptPiece(f: string, index: number, data: Uint8Array): Buffer {
  const counter = Buffer.alloc(16);
  counter.writeBigUInt64BE(BigInt(index * BLOCKS_PER_PIECE), 8);
  const cipher = createCipheriv('aes-256-ctr', aesKey(filePassphrase(f)), counter);
  return Buffer.concat([cipher.update(data), cipher.final()]);
}

const pieceCount = (size: number): number => Math.ceil(size / PIECE_BYTES);

/** Whether a blob is the piece `index` of a file of `size` bytes. */
export function isPiece(index: number, size: number, digest: string, blob: Uint8Array): boolean {
  const expected = Math.min(PIECE_BYTES, size - index * PIECE_BYTES);
  return blob.length === expected && sha256(blob) === digest;
}

export function encryptFile(plaintext: Uint8Array): { readonly f: string; readonly pieces: readonly Buffer[] } {
  const f = randomHex(32);
  const pieces: Buffer[] = [];
  for (let index = 0; index < pieceCount(plaintext.length); index++) {
    const start = index * PIECE_BYTES;
    pieces.push(cryptPiece(f, index, plaintext.subarray(start, start + PIECE_BYTES)));
  }
  return { f, pieces };
}

export const hashLines = (hashes: readonly string[]): string => hashes.map((hash) => `${hash}\n`).join('');

/** The lines of a body in which each is 64 hex and followed by a newline. */
function parseHashLines(body: Uint8Array): readonly string[] | undefined {
  const lines = Buffer.from(body).toString('latin1').split('\n');
  const isTerminated = lines.pop() === '';
  return isTerminated && lines.every((line) => isHex(line, 64)) ? lines : undefined;
}

export function parseFileBody(body: Uint8Array, size: number): Result<FileKey> {
  const [f, ...pieces] = parseHashLines(body) ?? [];
  if (f === undefined || pieces.length !== pieceCount(size)) return reject('bad-file-body');
  return new Set(pieces).size === pieces.length ? accept({ f, pieces }) : reject('bad-file-body');
}

export function parseWantBody(body: Uint8Array): Result<readonly string[]> {
  const hashes = parseHashLines(body) ?? [];
  return hashes.length > 0 && hashes.length <= MAX_WANTED ? accept(hashes) : reject('bad-want-body');
}
