/**
 * The words that the bridge may hold, each a type of its own, and the only hashing that it does. Everything comes from
 * strangers: a value has one of these types only after its check. Nothing here decrypts.
 */
import { createHash, hash, timingSafeEqual } from 'node:crypto';

declare const brand: unique symbol;
type Branded<Name> = string & { readonly [brand]: Name };
export type ChannelId = Branded<'ChannelId'>;
export type ParticipantId = Branded<'ParticipantId'>;
export type Ciphertext = Branded<'Ciphertext'>; // standard base64 with padding
export type Sealed = { readonly nonce: string; readonly ciphertext: Ciphertext; readonly tag: string };

/** A sealed thing at rest: nonce (24 characters), ciphertext and tag (32), outside the JavaScript heap. */
export type Kept = Buffer;
const charactersOf = ({ nonce, ciphertext, tag }: Sealed) => nonce + ciphertext + tag;
export function keep(sealed: Sealed): Kept {
  const text = charactersOf(sealed);
  const kept = Buffer.allocUnsafeSlow(text.length);
  kept.write(text, 'latin1');
  return kept;
}
export function take(kept: Kept): Sealed {
  const text = kept.toString('latin1');
  return { nonce: text.slice(0, 24), ciphertext: text.slice(24, -32) as Ciphertext, tag: text.slice(-32) };
}
export const isSameSealed = (kept: Kept, sealed: Sealed) => kept.toString('latin1') === charactersOf(sealed);

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

/** Decoding is the fastest check there is; what atob overlooks (spaces, padding left out) shows in the length. */
export const isCiphertext: Check<Ciphertext> = (value): value is Ciphertext => {
  if (typeof value !== 'string' || value === '') return false;
  try {
    return atob(value).length === (value.length / 4) * 3 - (value.endsWith('==') ? 2 : value.endsWith('=') ? 1 : 0);
  } catch {
    return false;
  }
};

/** SHA-256 of an ASCII string, 32 bytes. Of a token this is all that the bridge keeps. */
export const sha256 = (text: string): Buffer =>
  hash === undefined // before Node 20.12
    ? createHash('sha256').update(text, 'latin1').digest()
    : hash('sha256', text, 'buffer');

/** A channel id commits to the access value (docs/protocol.md, Identities), so that no secret needs to be stored. */
export const opens = (id: ChannelId, access: string): boolean =>
  timingSafeEqual(sha256('agentalk/1 channel ' + access).subarray(0, 16), Buffer.from(id, 'hex'));
