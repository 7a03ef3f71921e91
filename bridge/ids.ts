/**
 * The words that the bridge may hold, each a type of its own, and the only hashing that it does. Everything comes from
 * strangers: a value has one of these types only after its check. Nothing here decrypts.
 */
import { createHash, hash, timingSafeEqual } from 'node:crypto';

declare const brand: unique symbol;
type Branded<Name> = string & { readonly [brand]: Name };
export type ChannelId = Branded<'ChannelId'>;
export type ParticipantId = Branded<'ParticipantId'>;
/** What standard base64 with padding stands for. */
export type Ciphertext = Buffer & { readonly [brand]: 'Ciphertext' };
export type Sealed = { readonly nonce: string; readonly ciphertext: Ciphertext; readonly tag: string };

export const EVERYBODY = '*';
export type Recipient = ParticipantId | typeof EVERYBODY;

const matches = (pattern: RegExp) => (value: unknown) => typeof value === 'string' && pattern.test(value);
type Check<T> = (value: unknown) => value is T;
export const isParticipantId = matches(/^[0-9a-f]{32}$/) as Check<ParticipantId>;
export const isEpoch = matches(/^[0-9a-f]{32}$/) as Check<string>;
export const isToken = matches(/^[0-9a-f]{64}$/) as Check<string>;
export const isNonce = matches(/^[0-9a-f]{24}$/) as Check<string>;
export const isTag = matches(/^[0-9a-f]{32}$/) as Check<string>;
export const isRecipient: Check<Recipient> = (value) => value === EVERYBODY || isParticipantId(value);

let room = Buffer.alloc(0);
/**
 * The bytes of strict base64, good until the next call; undefined if `value` is something else. Decoding is the fastest
 * check there is: what it overlooks (spaces, padding left out) shows in the length, the URL's alphabet by itself.
 */
export function decode(value: string): Ciphertext | undefined {
  if (value === '' || value.includes('-') || value.includes('_')) return undefined;
  if (room.length < value.length) room = Buffer.allocUnsafeSlow(2 * value.length);
  const length = (value.length / 4) * 3 - (value.endsWith('==') ? 2 : value.endsWith('=') ? 1 : 0);
  return room.write(value, 'base64') === length ? (room.subarray(0, length) as Ciphertext) : undefined;
}

/** Compares in constant time. */
export const isSameToken = (a: string, b: string): boolean =>
  a.length === b.length && timingSafeEqual(Buffer.from(a, 'latin1'), Buffer.from(b, 'latin1'));

/** SHA-256 of an ASCII string, 32 bytes. */
const sha256 = (text: string): Buffer =>
  hash === undefined // before Node 20.12
    ? createHash('sha256').update(text, 'latin1').digest()
    : hash('sha256', text, 'buffer');

/** A channel id commits to the access value (docs/protocol.md, Identities), so that no secret needs to be stored. */
export const opens = (id: ChannelId, access: string): boolean =>
  timingSafeEqual(sha256('agentalk/1 channel ' + access).subarray(0, 16), Buffer.from(id, 'hex'));
