/**
 * Bytes and text: hex, base64, UTF-8, percent-encoding, DER signatures, and the characters that are never shown. Each
 * decoder takes exactly one form of a value and returns null for every other. Runs in browsers and in Node; it knows
 * nothing of keys or of the protocol.
 */

/** Bytes that WebCrypto accepts: never shared memory. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** Wraps what WebCrypto returns. */
export const asBytes = (buffer: ArrayBuffer): Bytes => new Uint8Array(buffer);

export const utf8Encode = (text: string): Bytes => new TextEncoder().encode(text);

/** Null unless the bytes are well-formed UTF-8 (RFC 3629). A byte order mark is a character like any other. */
export function utf8Decode(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

export function concat(...parts: readonly Uint8Array[]): Bytes {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}

// ---- hex ----

export const toHex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** Throws unless `hex` is lowercase hex of whole bytes: check input from others with `isHex` first. */
export function fromHex(hex: string): Bytes {
  if (!/^(?:[0-9a-f]{2})*$/.test(hex)) throw new TypeError('expected lowercase hex of whole bytes');
  return Uint8Array.from({ length: hex.length / 2 }, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16));
}

/** True for exactly `length` lowercase hex digits. */
export const isHex = (text: string, length: number): boolean => text.length === length && /^[0-9a-f]*$/.test(text);

/** Random bytes as hex, twice as many digits. */
export const randomHex = (bytes: number): string => toHex(globalThis.crypto.getRandomValues(new Uint8Array(bytes)));

// ---- base64 ----

/** Standard base64 with padding (RFC 4648, 4). */
export function toBase64(bytes: Uint8Array): string {
  let text = '';
  // A function call takes a limited number of arguments.
  for (let at = 0; at < bytes.length; at += 4096) text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  return btoa(text);
}

/** Null unless canonical (RFC 4648, 3.5): whole groups, padded, no bits after the last byte; and not empty. */
export function fromBase64(text: string): Bytes | null {
  if (text === '' || text.length % 4 !== 0) return null;
  if (!/^[A-Za-z0-9+/]*(?:[AQgw]==|[AEIMQUYcgkosw048]=)?$/.test(text)) return null;
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

// ---- characters that are never shown ----

/**
 * Code points, first and last of each range, that a client never shows: they move the cursor, reverse, join or hide text,
 * or have no shape. Newline and tab are not among them. docs/protocol.md has the same table; file names contain none.
 */
export const HIDDEN_RANGES: readonly (readonly [first: number, last: number])[] = [
  [0x00, 0x08], // C0 control
  [0x0b, 0x1f],
  [0x7f, 0x9f], // DEL and C1 control
  [0xad, 0xad], // soft hyphen
  [0x34f, 0x34f], // combining grapheme joiner
  [0x600, 0x605], // Arabic number signs (Cf)
  [0x61c, 0x61c], // Arabic letter mark
  [0x6dd, 0x6dd],
  [0x70f, 0x70f],
  [0x890, 0x891],
  [0x8e2, 0x8e2],
  [0x115f, 0x1160], // Hangul fillers
  [0x17b4, 0x17b5], // Khmer inherent vowels
  [0x180b, 0x180f], // Mongolian variation selectors and vowel separator
  [0x200b, 0x200f], // zero-width space, non-joiner, joiner; direction marks
  [0x2028, 0x202e], // line and paragraph separators; bidi embeddings and overrides
  [0x2060, 0x206f], // word joiner, invisible operators, bidi isolates
  [0x3164, 0x3164], // Hangul filler
  [0xfe00, 0xfe0f], // variation selectors
  [0xfeff, 0xfeff], // byte order mark
  [0xffa0, 0xffa0], // halfwidth Hangul filler
  [0xfff0, 0xfffb], // unassigned, invisible by default; interlinear annotation
  [0x110bd, 0x110bd], // Kaithi number signs (Cf)
  [0x110cd, 0x110cd],
  [0x13430, 0x1343f], // Egyptian hieroglyph format controls
  [0x1bca0, 0x1bca3], // shorthand format controls
  [0x1d173, 0x1d17a], // musical format controls
  [0xe0000, 0xe0fff], // tags, variation selectors supplement, the rest of that block
];

const escaped = (codePoint: number) => `\\u{${codePoint.toString(16)}}`;
const HIDDEN_CLASS = HIDDEN_RANGES.map(([first, last]) => `${escaped(first)}-${escaped(last)}`).join('');
const HIDDEN = new RegExp(`[${HIDDEN_CLASS}]`, 'gu');
const HIDDEN_OR_LINE_BREAK = new RegExp(`[${HIDDEN_CLASS}\\t\\n]`, 'gu');

/** The text with every hidden character replaced. */
export const replaceHidden = (text: string, replacement: string): string => text.replace(HIDDEN, () => replacement);

// ---- file names: UTF-8, percent-encoded (RFC 3986, 2.1) ----

const MAX_FILE_NAME_BYTES = 120;
/** Longer endings are cut like the rest of a name. */
const MAX_ENDING_BYTES = 32;
const FALLBACK_FILE_NAME = 'file';
const ENCODED_FILE_NAME = /^(?:[A-Za-z0-9._-]|%[0-9A-F]{2}){1,360}$/;

const isSafeFileName = (name: string): boolean =>
  name !== '' &&
  name !== '.' &&
  name !== '..' &&
  !/[/\\]/.test(name) &&
  name.replace(HIDDEN_OR_LINE_BREAK, '') === name;

/** The longest start of the text with at most so many bytes of UTF-8, cut between characters. */
function truncateUtf8(text: string, maxBytes: number): string {
  let bytes = 0;
  let start = '';
  for (const character of text) {
    bytes += utf8Encode(character).length;
    if (bytes > maxBytes) break;
    start += character;
  }
  return start;
}

/**
 * Any file name in the form of the header `name`. Slashes, backslashes, controls and hidden characters become `_`; a
 * name of more than 120 bytes loses the end of its stem and keeps its ending.
 */
export function encodeFileName(name: string): string {
  const replaced = name.replace(HIDDEN_OR_LINE_BREAK, '_').replace(/[/\\]|\p{Surrogate}/gu, '_');
  const safe = isSafeFileName(replaced) ? replaced : FALLBACK_FILE_NAME;
  const dot = safe.lastIndexOf('.');
  const ending = dot > 0 && utf8Encode(safe.slice(dot)).length <= MAX_ENDING_BYTES ? safe.slice(dot) : '';
  const stem = safe.slice(0, safe.length - ending.length);
  const cut = truncateUtf8(stem, MAX_FILE_NAME_BYTES - utf8Encode(ending).length) + ending;
  return Array.from(utf8Encode(cut), (byte) => {
    const character = String.fromCharCode(byte);
    if (/[A-Za-z0-9._-]/.test(character)) return character;
    return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }).join('');
}

/** The file name that a header `name` holds; null unless it is well-formed, safe and at most 120 bytes. */
export function decodeFileName(encoded: string): string | null {
  if (encoded.length > 360 || !ENCODED_FILE_NAME.test(encoded)) return null;
  const bytes = Array.from(encoded.matchAll(/%(..)|./g), ([character, hex]) =>
    hex === undefined ? character.charCodeAt(0) : parseInt(hex, 16),
  );
  if (bytes.length > MAX_FILE_NAME_BYTES) return null;
  const name = utf8Decode(Uint8Array.from(bytes));
  return name !== null && isSafeFileName(name) ? name : null;
}

// ---- ECDSA signatures: WebCrypto has r and s of 32 bytes each, openssl has DER ----
// SEQUENCE { r INTEGER, s INTEGER } (SEC 1, C.5; X.690, 8.3 and 10.1)

/** 64 bytes of r and s to DER. */
export function rawToDer(raw: Uint8Array): Bytes {
  if (raw.length !== 64) throw new TypeError('expected r and s of 32 bytes each');
  const integer = (bytes: Uint8Array) => {
    const start = bytes.findIndex((byte) => byte !== 0);
    const digits = bytes.subarray(start < 0 ? 31 : start);
    // A leading 1 bit would mean a negative number.
    const padding = digits[0]! >= 0x80 ? [0] : []; // digits is never empty
    return Uint8Array.of(0x02, padding.length + digits.length, ...padding, ...digits);
  };
  const both = concat(integer(raw.subarray(0, 32)), integer(raw.subarray(32)));
  return concat(Uint8Array.of(0x30, both.length), both);
}

/** Null unless it is the one DER encoding of two numbers that fit in 32 bytes. */
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
  // Accept only the encoding that rawToDer makes.
  const same = rawToDer(raw);
  return same.length === der.length && same.every((byte, i) => byte === der[i]) ? raw : null;
}
