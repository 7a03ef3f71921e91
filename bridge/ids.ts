/**
 * The words that the bridge may hold, each a type of its own, and the only hashing that it does.
 * Everything here comes from strangers: a value has one of these types only after its check. Nothing here decrypts.
 */
import { createHash, timingSafeEqual } from 'node:crypto';

declare const brand: unique symbol;
type Branded<Name> = string & { readonly [brand]: Name };
export type ChannelId = Branded<'ChannelId'>;
export type ParticipantId = Branded<'ParticipantId'>;
/** Standard base64 with padding: a sealed frame, opaque here. */
export type Ciphertext = Branded<'Ciphertext'>;

export const EVERYBODY = '*';
export type Recipient = ParticipantId | typeof EVERYBODY;
export type Sealed = { readonly nonce: string; readonly ciphertext: Ciphertext; readonly tag: string };

const isHex = (value: unknown, pattern: RegExp): value is string => typeof value === 'string' && pattern.test(value);
export const isChannelId = (value: unknown): value is ChannelId => isHex(value, /^[0-9a-f]{32}$/);
export const isParticipantId = (value: unknown): value is ParticipantId => isHex(value, /^[0-9a-f]{32}$/);
export const isEpoch = (value: unknown): value is string => isHex(value, /^[0-9a-f]{32}$/);
export const isToken = (value: unknown): value is string => isHex(value, /^[0-9a-f]{64}$/);
export const isNonce = (value: unknown): value is string => isHex(value, /^[0-9a-f]{24}$/);
export const isTag = (value: unknown): value is string => isHex(value, /^[0-9a-f]{32}$/);
/** Looks for what may not be there: five times as fast as matching all that may. */
export function isCiphertext(value: unknown): value is Ciphertext {
  if (typeof value !== 'string' || value === '' || value.length % 4 !== 0 || /[^A-Za-z0-9+/=]/.test(value))
    return false;
  const padding = value.indexOf('=');
  return padding < 0 || padding === value.length - 1 || (padding === value.length - 2 && value.endsWith('=='));
}

/** SHA-256 of an ASCII string, 32 bytes. Of a token this is all that the bridge keeps. */
export const sha256 = (text: string): Buffer => createHash('sha256').update(text, 'latin1').digest();

/** Compares two hashes of equal length in constant time. */
export const isSameHash = (a: Buffer, b: Buffer): boolean => timingSafeEqual(a, b);

/** A channel id commits to the access value (docs/protocol.md, Identities), so no secret needs to be stored. */
export const opens = (id: ChannelId, access: string): boolean =>
  timingSafeEqual(sha256('agentalk/1 channel ' + access).subarray(0, 16), Buffer.from(id, 'hex'));
