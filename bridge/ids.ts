/**
 * The words that the bridge may hold, each a separate type, and the only hashing that it does. Everything comes from
 * strangers: a value has one of these types only after its check. Nothing here decrypts.
 */
import * as crypto from 'node:crypto';
import { createHash } from 'node:crypto';

declare const brand: unique symbol;
type Branded<Name> = string & { readonly [brand]: Name };
export type ChannelId = Branded<'ChannelId'>;
export type ParticipantId = Branded<'ParticipantId'>;
export type BlobId = Branded<'BlobId'>; // the SHA-256 of its bytes

export const BROADCAST = '*';
export type Recipient = ParticipantId | typeof BROADCAST;

/** Lowercase hex of so many digits. */
function isHex(value: unknown, digits: number): boolean {
  if (typeof value !== 'string' || value.length !== digits) return false;
  for (let i = 0; i < digits; i++) {
    const code = value.charCodeAt(i);
    if (code < 0x30 || code > 0x66 || (code > 0x39 && code < 0x61)) return false;
  }
  return true;
}
export const isChannelId = (value: unknown): value is ChannelId => isHex(value, 32);
export const isParticipantId = (value: unknown): value is ParticipantId => isHex(value, 32);
export const isBlobId = (value: unknown): value is BlobId => isHex(value, 64);
export const isEpoch = (value: unknown): value is string => isHex(value, 32);
export const isToken = (value: unknown): value is string => isHex(value, 64);
export const isNonce = (value: unknown): value is string => isHex(value, 24);
export const isTag = (value: unknown): value is string => isHex(value, 32);
export const isRecipient = (value: unknown): value is Recipient => value === BROADCAST || isHex(value, 32);

/** What is stored of a token: its SHA-256 in hex. */
export type TokenHash = Branded<'TokenHash'>;
export const hashToken = (token: string): TokenHash => sha256(token) as TokenHash;

/** Whether a bearer value is that token. */
export const isTokenOf = (hash: TokenHash, bearer: string): boolean => isEqual(hash, sha256(bearer));

/** A channel id commits to the access value (docs/protocol.md, Identities), so that no secret needs to be stored. */
export const isAccessTokenFor = (id: ChannelId, access: string): boolean =>
  isEqual(id, sha256('agentalk/1 channel ' + access).slice(0, 32));

/** Compares hashes in constant time. Strings need no memory outside the heap, as timingSafeEqual's buffers do. */
function isEqual(a: string, b: string): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i);
  return difference === 0;
}

/** Node 20.12 and later hash in one call, which takes half the time. All that is hashed here is ASCII. */
const hashInOneCall = (crypto as { hash?: (algorithm: string, data: string, encoding: 'hex') => string }).hash;

function sha256(text: string): string {
  if (hashInOneCall) return hashInOneCall('sha256', text, 'hex');
  return createHash('sha256').update(text).digest('hex');
}
