/**
 * Bytes and the forms that they travel in: hex, base64, and signatures as WebCrypto and as openssl have them. Strict: a
 * thing has one form, and no other is taken. For pages and Node alike; knows nothing of the protocol.
 */

/** Bytes that WebCrypto takes: never shared memory. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** What WebCrypto gives. */
export const bytesOf = (buffer: ArrayBuffer): Bytes => new Uint8Array(buffer);

/** ASCII text, as UTF-8. */
export const encode = (text: string): Bytes => new TextEncoder().encode(text);

export function concat(...parts: readonly Uint8Array[]): Bytes {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export const toHex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** Throws if it isn't lowercase hex of whole bytes: check with `isHex` what comes from others. */
export function fromHex(hex: string): Bytes {
  if (!/^(?:[0-9a-f]{2})*$/.test(hex)) throw new TypeError('expected lowercase hex of whole bytes');
  return Uint8Array.from({ length: hex.length / 2 }, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16));
}

export const isHex = (text: string, length: number): boolean => text.length === length && /^[0-9a-f]*$/.test(text);

export const randomHex = (bytes: number): string => toHex(globalThis.crypto.getRandomValues(new Uint8Array(bytes)));

/** Standard base64 with padding (RFC 4648, 4). */
export function toBase64(bytes: Uint8Array): string {
  let text = '';
  // A call takes only so many arguments.
  for (let at = 0; at < bytes.length; at += 4096) text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  return btoa(text);
}

/** Null unless canonical: whole groups, padded, no bits beyond the last byte (RFC 4648, 3.5), and not empty. */
export function fromBase64(text: string): Bytes | null {
  if (text === '' || text.length % 4 !== 0) return null;
  if (!/^[A-Za-z0-9+/]*(?:[AQgw]==|[AEIMQUYcgkosw048]=)?$/.test(text)) return null;
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

// WebCrypto has r and s as 32 bytes each, openssl as DER: SEQUENCE { r INTEGER, s INTEGER } (ANSI X9.62; X.690, 10).

/** 64 bytes -> DER. */
export function rawToDer(raw: Uint8Array): Bytes {
  if (raw.length !== 64) throw new TypeError('expected r and s of 32 bytes each');
  const integer = (bytes: Uint8Array) => {
    const start = bytes.findIndex((byte) => byte !== 0);
    const digits = bytes.subarray(start < 0 ? 31 : start);
    // A first bit would mean a negative number.
    const sign = digits[0]! >= 0x80 ? [0] : []; // digits is never empty
    return Uint8Array.of(0x02, sign.length + digits.length, ...sign, ...digits);
  };
  const both = concat(integer(raw.subarray(0, 32)), integer(raw.subarray(32)));
  return concat(Uint8Array.of(0x30, both.length), both);
}

/** Null unless it is the one DER encoding of two numbers that fit 32 bytes. */
export function derToRaw(der: Uint8Array): Bytes | null {
  const raw = new Uint8Array(64);
  let at = 2;
  for (const end of [32, 64]) {
    const next = at + 2 + (der[at + 1] ?? 0);
    const digits = der.subarray(der[at + 2] === 0 ? at + 3 : at + 2, next);
    if (digits.length > 32) return null;
    raw.set(digits, end - digits.length);
    at = next;
  }
  // Only the encoding that we would make ourselves is taken.
  const same = rawToDer(raw);
  return same.length === der.length && same.every((byte, i) => byte === der[i]) ? raw : null;
}
