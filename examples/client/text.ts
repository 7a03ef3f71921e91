/** What may be shown of a peer's text, and the names of files. */
import { accept, reject } from './crypto.ts';
import type { Result } from './crypto.ts';

/** Controls but newline and tab, format and default-ignorable characters, line and paragraph separators. */
const HIDDEN_RANGES =
  '0000-0008 000B-001F 007F-009F 00AD 034F 0600-0605 061C 06DD 070F 0890-0891 08E2 115F-1160 17B4-17B5 180B-180F ' +
  '200B-200F 2028-202E 2060-206F 3164 FE00-FE0F FEFF FFA0 FFF0-FFFB 110BD 110CD 13430-1343F 1BCA0-1BCA3 1D173-1D17A ' +
  'E0000-E0FFF';
const HIDDEN_CLASS = HIDDEN_RANGES.replace(/[0-9A-F]+/g, '\\u{$&}').replaceAll(' ', '');
const HIDDEN = new RegExp(`[${HIDDEN_CLASS}]`, 'gu');
const NOT_IN_FILE_NAMES = new RegExp(`[/\\\\\\n\\t${HIDDEN_CLASS}]`, 'gu');

/** A peer's bytes as text that is safe to print; malformed bytes and hidden characters become U+FFFD. */
export const printable = (bytes: Uint8Array): string => Buffer.from(bytes).toString('utf8').replace(HIDDEN, '\uFFFD');

const MAX_NAME_BYTES = 120;
const MAX_ENDING_BYTES = 32;

/** A file's name in the form of the header `name`. */
export function encodeFileName(name: string): string {
  const safe = shorten(Buffer.from(name).toString('utf8').replace(NOT_IN_FILE_NAMES, '_'));
  const usable = ['', '.', '..'].includes(safe) ? 'file' : safe;
  return [...Buffer.from(usable)].map(encodeByte).join('');
}

function encodeByte(byte: number): string {
  const character = String.fromCharCode(byte);
  if (/[A-Za-z0-9._-]/.test(character)) return character;
  return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
}

/** Cuts the stem of a long name at a character and keeps its ending. */
function shorten(name: string): string {
  if (Buffer.byteLength(name) <= MAX_NAME_BYTES) return name;
  const dot = name.lastIndexOf('.');
  const lastPart = dot > 0 ? name.slice(dot) : '';
  const ending = Buffer.byteLength(lastPart) <= MAX_ENDING_BYTES ? lastPart : '';
  let stem = '';
  for (const character of name.slice(0, name.length - ending.length)) {
    if (Buffer.byteLength(stem + character + ending) > MAX_NAME_BYTES) break;
    stem += character;
  }
  return stem + ending;
}

/** The name in a header `name`. */
export function decodeFileName(encoded: string): Result<string> {
  if (!/^(?:[A-Za-z0-9._-]|%[0-9A-F]{2}){1,360}$/.test(encoded) || encoded.length > 360) {
    return reject('bad-header-value');
  }
  const latin1 = encoded.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  const bytes = Buffer.from(latin1, 'latin1');
  const name = bytes.toString('utf8');
  const isWellFormed = Buffer.from(name).equals(bytes);
  if (!isWellFormed || bytes.length > MAX_NAME_BYTES || name === '.' || name === '..')
    return reject('bad-header-value');
  return name.search(NOT_IN_FILE_NAMES) < 0 ? accept(name) : reject('bad-header-value');
}
