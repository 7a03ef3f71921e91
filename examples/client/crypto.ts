/** The cryptography of agentalk/1: derivations, sealing, key pairs and signatures. Nothing here knows of a bridge. */
import {
  ECDH,
  createCipheriv,
  createDecipheriv,
  createHash,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import type { KeyObject } from 'node:crypto';

/** What came from outside is either accepted or rejected for a reason of docs/protocol.md. */
export type Result<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reason: string };
export const accept = <T>(value: T): Result<T> => ({ ok: true, value });
export const reject = (reason: string): Result<never> => ({ ok: false, reason });

export type Sealed = { readonly nonce: string; readonly ciphertext: string; readonly tag: string };
export type Card = {
  readonly kind: 'agent' | 'human';
  readonly name: string;
  readonly pub: string;
  readonly sign: string;
};
/** A private key, and its public key as cards have it: base64 of DER SPKI. */
export type KeyPair = { readonly private: KeyObject; readonly public: string };

// ---- derivations ----

export const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex');
export const randomHex = (bytes: number): string => randomBytes(bytes).toString('hex');
const id = (text: string): string => sha256(text).slice(0, 32);

export const accessToken = (k: string): string => sha256(`agentalk/1 access ${k}`);
export const channelId = (access: string): string => id(`agentalk/1 channel ${access}`);
export const participantId = (k: string, name: string): string => id(`agentalk/1 participant ${k} ${name}`);
export const sessionId = (k: string, { kind, name, pub, sign }: Card): string =>
  id(`agentalk/1 session ${k} ${kind} ${name} ${pub} ${sign}`);

export const broadcastPassphrase = (k: string): string => `agentalk/1 room ${k}`;
export const filePassphrase = (f: string): string => `agentalk/1 file ${f}`;
export function directPassphrase(k: string, sidA: string, sidB: string, x: string): string {
  const [first, second] = sidA < sidB ? [sidA, sidB] : [sidB, sidA];
  return `agentalk/1 direct ${k} ${first} ${second} ${x}`;
}
export const aesKey = (passphrase: string): Buffer => createHash('sha256').update(passphrase).digest();

// ---- encodings ----

export const isHex = (text: string, digits: number): boolean => text.length === digits && /^[0-9a-f]+$/.test(text);

/** Bytes of canonical base64, or undefined. */
export function decodeBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}

// ---- sealing: AES-256-GCM (NIST SP 800-38D), 96-bit nonce, 128-bit tag ----

export const additionalData = (channel: string, from: string, to: string, type: 'card' | 'message'): string =>
  ['agentalk/1', channel, from, to, type].join('\n');

export function seal(key: Uint8Array, aad: string, plaintext: Uint8Array): Sealed {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(Buffer.from(aad));
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]).toString('base64');
  return { nonce: nonce.toString('hex'), ciphertext, tag: cipher.getAuthTag().toString('hex') };
}

export function unseal(key: Uint8Array, aad: string, { nonce, ciphertext, tag }: Sealed): Result<Buffer> {
  if (!isHex(nonce, 24)) return reject('bad-nonce');
  const bytes = decodeBase64(ciphertext);
  if (bytes === undefined || bytes.length === 0) return reject('bad-base64');
  if (!isHex(tag, 32)) return reject('bad-tag-format');
  const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(nonce, 'hex'), { authTagLength: 16 });
  decipher.setAAD(Buffer.from(aad));
  decipher.setAuthTag(Buffer.from(tag, 'hex'));
  const plaintext = decipher.update(bytes);
  try {
    decipher.final();
  } catch {
    return reject('auth-failed');
  }
  return accept(plaintext);
}

// ---- keys on P-256 ----

/** The start of every key in a card: DER SPKI of an uncompressed point on the named curve (RFC 5480). */
const KEY_PREFIX = 'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE';
const POINT_OFFSET = 26;

export function makeKeyPair(): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  return {
    private: privateKey,
    public: publicKey.export({ type: 'spki', format: 'der' }).toString('base64'),
  };
}

export function isKeyShape(key: string): boolean {
  return key.length === 124 && key.startsWith(KEY_PREFIX) && decodeBase64(key)?.length === 91;
}

/** SEC 1, 3.2.2.1. `convertKey` throws for coordinates that are no point on the curve. */
export function isOnCurve(key: string): boolean {
  try {
    ECDH.convertKey(Buffer.from(key, 'base64').subarray(POINT_OFFSET), 'prime256v1');
    return true;
  } catch {
    return false;
  }
}

const publicKey = (key: string): KeyObject =>
  createPublicKey({ key: Buffer.from(key, 'base64'), format: 'der', type: 'spki' });

/** The shared x-coordinate of ECDH (SEC 1, 3.3.1) as 64 hex. */
export function sharedX(own: KeyObject, pub: string): Result<string> {
  if (!isKeyShape(pub) || !isOnCurve(pub)) return reject('bad-key');
  return accept(diffieHellman({ privateKey: own, publicKey: publicKey(pub) }).toString('hex'));
}

// ---- signatures: ECDSA with SHA-256 (SEC 1, 4.1), DER, base64 ----

const signedBytes = (sid: string, aad: string, unsigned: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from(`${aad}\n${sid}\n\n`), unsigned]);

export const signFrame = (own: KeyObject, sid: string, aad: string, unsigned: Uint8Array): string =>
  sign('sha256', signedBytes(sid, aad, unsigned), own).toString('base64');

export function isSignedBy(session: { sign: string; sid: string }, aad: string, unsigned: Uint8Array, text: string) {
  const signature = decodeBase64(text);
  if (signature === undefined || !isStrictDer(signature)) return false;
  try {
    return verify('sha256', signedBytes(session.sid, aad, unsigned), publicKey(session.sign), signature);
  } catch {
    return false; // a `sign` that is not on the curve
  }
}

/** Whether bytes are the one DER encoding of two positive integers of at most 32 bytes each. */
function isStrictDer(der: Buffer): boolean {
  if (der[0] !== 0x30 || der[1] !== der.length - 2) return false;
  const end = integerEnd(der, 2);
  return end !== undefined && integerEnd(der, end) === der.length;
}

/** Where a positive DER integer that starts at `start` ends; undefined if there is none. */
function integerEnd(der: Buffer, start: number): number | undefined {
  const length = der[start + 1] ?? 0;
  const bytes = der.subarray(start + 2, start + 2 + length);
  const [first = 0, second = 0] = bytes;
  if (der[start] !== 0x02 || length === 0 || bytes.length !== length) return undefined;
  const isNegative = first >= 0x80;
  const isZero = length === 1 && first === 0;
  const isPadded = first === 0 && second < 0x80;
  const isTooLong = length > (first === 0 ? 33 : 32);
  return isNegative || isZero || isPadded || isTooLong ? undefined : start + 2 + length;
}
