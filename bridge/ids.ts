/**
 * The words that the bridge may hold, each a separate type, and the only hashing that it does. Everything comes from
 * strangers: a value has one of these types only after its check. Nothing here decrypts.
 */
import * as crypto from 'node:crypto';
import { createHash, timingSafeEqual } from 'node:crypto';

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

/** What is stored of a token. */
export type TokenHash = Buffer & { readonly [brand]: 'TokenHash' };
export const hashToken = (token: string): TokenHash => sha256(token) as TokenHash;

/** Whether a bearer value is that token. Compares in constant time. */
export const isTokenOf = (hash: TokenHash, bearer: string): boolean => timingSafeEqual(hash, sha256(bearer));

/** A channel id commits to the access value (docs/protocol.md, Identities), so that no secret needs to be stored. */
export const isAccessTokenFor = (id: ChannelId, access: string): boolean =>
  timingSafeEqual(sha256('agentalk/1 channel ' + access).subarray(0, 16), Buffer.from(id, 'hex'));

/** Node 20.12 and later hash in one call, which takes half the time. All that is hashed here is ASCII. */
const hashInOneCall = (crypto as { hash?: (algorithm: string, data: string, encoding: 'buffer') => Buffer }).hash;

function sha256(text: string): Buffer {
  if (hashInOneCall) return hashInOneCall('sha256', text, 'buffer');
  return createHash('sha256').update(text).digest();
}
