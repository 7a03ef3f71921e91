/** Frames and the messages in them: how they are built, parsed and checked. */
import {
  accept,
  aesKey,
  isHex,
  isKeyShape,
  isOnCurve,
  participantId,
  reject,
  broadcastPassphrase,
  sessionId,
} from './crypto.ts';
import { additionalData, unseal } from './crypto.ts';
import type { Card, Result, Sealed } from './crypto.ts';
import { decodeFileName } from './text.ts';

// ---- frames ----

export type Headers = Readonly<Record<string, string>>;
export interface Frame {
  readonly headers: ReadonlyMap<string, string>;
  readonly signature: string | undefined;
  readonly body: Buffer;
  /** The frame without its signature line: what is signed, and compared with a duplicate. */
  readonly unsigned: Buffer;
}

const MAX_HEADER_BYTES = 4096;
const HEADER = /^([a-z][a-z0-9-]{0,31}): ([!-~](?:[ -~]*[!-~])?)$/;
const LF = 0x0a;

export function buildFrame(headers: Headers, body: string | Uint8Array = '', signature?: string): Buffer {
  const all = Object.entries(signature === undefined ? headers : { ...headers, signature });
  const lines = all.map(([name, value]) => `${name}: ${value}\n`).join('');
  return Buffer.concat([Buffer.from(`${lines}\n`), Buffer.from(body)]);
}

export function parseFrame(bytes: Uint8Array): Result<Frame> {
  const frame = Buffer.from(bytes);
  const emptyLine = frame[0] === LF ? 0 : frame.indexOf('\n\n') + 1;
  if (emptyLine === 0 && frame[0] !== LF) return reject('unterminated-headers');
  if (emptyLine > MAX_HEADER_BYTES) return reject('headers-too-long');
  const lines = frame.subarray(0, emptyLine).toString('latin1').split('\n').slice(0, -1);
  const headers = new Map<string, string>();
  for (const line of lines) {
    const [, name, value] = HEADER.exec(line) ?? [];
    if (name === undefined || value === undefined) return reject('bad-header');
    if (headers.has('signature')) return reject('signature-not-last');
    if (headers.has(name)) return reject('duplicate-header');
    headers.set(name, value);
  }
  const signature = headers.get('signature');
  headers.delete('signature');
  const signatureBytes = signature === undefined ? 0 : `signature: ${signature}\n`.length;
  const unsigned = Buffer.concat([frame.subarray(0, emptyLine - signatureBytes), frame.subarray(emptyLine)]);
  return accept({ headers, signature, body: frame.subarray(emptyLine + 1), unsigned });
}

// ---- messages ----

export const CONTENT_KINDS: readonly string[] = ['text', 'file'];
export const CONTROL_KINDS: readonly string[] = ['sync', 'ack', 'want', 'bye'];
export const MAX_FILE_BYTES = 104_857_600;
const REACHES: readonly string[] = ['listening', 'wakes', 'reads'];

/** An entry of `seen`: the first 16 hex of a sid, the writer's mark for it, how many the writer gave up. */
export type Seen = {
  readonly session: string;
  readonly mark: number;
  readonly skipped: number;
  readonly left: boolean;
};
export type FileHeaders = { readonly name: string; readonly size: number; readonly sha256: string };
export interface Message {
  readonly kind: string;
  /** Undefined in control messages. */
  readonly seq: number | undefined;
  readonly time: number;
  readonly sent: { readonly first: number; readonly broadcasts: number; readonly directs: number } | undefined;
  readonly received: { readonly broadcasts: number; readonly directs: number; readonly skipped: number } | undefined;
  readonly stored: { readonly broadcasts: number; readonly directs: number } | undefined;
  readonly seen: readonly Seen[];
  readonly reach: string | undefined;
  readonly file: FileHeaders | undefined;
}

export const isDecimal = (text: string): boolean => /^(?:0|[1-9][0-9]{0,14})$/.test(text);

/** The decimals that a header consists of; undefined if it is anything else. */
function decimals(text: string, count: number): readonly number[] | undefined {
  const words = text.split(' ');
  return words.length === count && words.every(isDecimal) ? words.map(Number) : undefined;
}

function parseSeen(text: string): readonly Seen[] | undefined {
  const entries = text.split(',');
  if (entries.length > 64) return undefined;
  const seen: Seen[] = [];
  for (const entry of entries) {
    const [, session = '', mark = '', skipped = '', left] = /^(\S{16}) (\d+) (\d+)( left)?$/.exec(entry) ?? [];
    if (!isHex(session, 16) || !isDecimal(mark) || !isDecimal(skipped)) return undefined;
    seen.push({ session, mark: Number(mark), skipped: Number(skipped), left: left !== undefined });
  }
  return seen;
}

/** The number that a proved frame consumes even if it is rejected. */
export function sequenceOf({ headers }: Frame): number | undefined {
  const seq = headers.get('seq') ?? '';
  return isDecimal(seq) && seq !== '0' ? Number(seq) : undefined;
}

export function checkMessage(frame: Frame, isDirect: boolean): Result<Message> {
  const header = (name: string) => frame.headers.get(name);
  const kind = header('kind');
  if (kind === undefined || header('time') === undefined) return reject('missing-header');
  if (!/^[a-z][a-z-]{0,15}$/.test(kind)) return reject('bad-header-value');
  if (!isDecimal(header('time') ?? '')) return reject('bad-number');
  const time = Number(header('time'));

  const isControl = CONTROL_KINDS.includes(kind);
  if (isControl && !isDirect) return reject('control-broadcast');
  if (isControl && header('seq') !== undefined) return reject('unexpected-header');
  if (!isControl && header('seq') === undefined) return reject('missing-header');
  const seq = sequenceOf(frame);
  if (!isControl && seq === undefined) return reject('bad-number');

  let sent: Message['sent'];
  let received: Message['received'];
  if (isDirect) {
    const sentText = header('sent');
    const receivedText = header('received');
    if (sentText === undefined || receivedText === undefined) return reject('missing-header');
    const [first, broadcasts, directs] = decimals(sentText, 3) ?? [];
    const [processed, directsProcessed, skipped] = decimals(receivedText, 3) ?? [];
    if (first === undefined || broadcasts === undefined || directs === undefined) return reject('bad-header-value');
    if (processed === undefined || directsProcessed === undefined) return reject('bad-header-value');
    if (first === 0 || skipped === undefined) return reject('bad-header-value');
    sent = { first, broadcasts, directs };
    received = { broadcasts: processed, directs: directsProcessed, skipped };
  }

  let stored: Message['stored'];
  const storedText = kind === 'sync' || kind === 'ack' ? header('stored') : undefined;
  if (storedText !== undefined) {
    const [broadcasts, directs] = decimals(storedText, 2) ?? [];
    if (broadcasts === undefined || directs === undefined) return reject('bad-header-value');
    stored = { broadcasts, directs };
  }

  const seenText = isControl ? undefined : header('seen');
  const seen = seenText === undefined ? [] : parseSeen(seenText);
  if (seen === undefined) return reject('bad-header-value');
  const reach = header('reach');
  if (reach !== undefined && !REACHES.includes(reach)) return reject('bad-header-value');

  const file = kind === 'file' ? checkFileHeaders(frame) : accept(undefined);
  if (!file.ok) return file;
  return accept({ kind, seq, time, sent, received, stored, seen, reach, file: file.value });
}

function checkFileHeaders({ headers }: Frame): Result<FileHeaders> {
  const name = headers.get('name');
  const size = headers.get('size');
  const digest = headers.get('sha256');
  if (name === undefined || size === undefined || digest === undefined) return reject('missing-header');
  if (!isDecimal(size) || Number(size) > MAX_FILE_BYTES) return reject('bad-number');
  if (!isHex(digest, 64)) return reject('bad-header-value');
  const decoded = decodeFileName(name);
  return decoded.ok ? accept({ name: decoded.value, size: Number(size), sha256: digest }) : decoded;
}

// ---- cards ----

const RESERVED_NAMES: readonly string[] = ['agentalk', 'all', 'bridge', 'everybody', 'me', 'user', 'you'];

export function checkName(name: string): Result<string> {
  if (!/^[a-z0-9][a-z0-9._-]{0,31}$/.test(name) || name.includes('..')) return reject('bad-name');
  return RESERVED_NAMES.includes(name) ? reject('reserved-name') : accept(name);
}

/** Unseals and checks the card that the bridge has under the participant id `from`. */
export function unsealCard(
  k: string,
  channel: string,
  from: string,
  ownId: string,
  sealed: Sealed,
): Result<{ readonly card: Card; readonly sid: string }> {
  if (from === ownId) return reject('own-id');
  const plaintext = unseal(aesKey(broadcastPassphrase(k)), additionalData(channel, from, '*', 'card'), sealed);
  if (!plaintext.ok) return plaintext;
  const frame = parseFrame(plaintext.value);
  if (!frame.ok) return frame;
  const [kind, name, pub, sign] = ['kind', 'name', 'pub', 'sign'].map((each) => frame.value.headers.get(each));
  if (kind === undefined || name === undefined || pub === undefined || sign === undefined) {
    return reject('missing-header');
  }
  const checkedName = checkName(name);
  if (!checkedName.ok) return checkedName;
  if (participantId(k, name) !== from) return reject('id-mismatch');
  if (kind !== 'agent' && kind !== 'human') return reject('bad-header-value');
  if (!isKeyShape(pub) || !isKeyShape(sign) || !isOnCurve(pub)) return reject('bad-key');
  const card: Card = { kind, name, pub, sign };
  return accept({ card, sid: sessionId(k, card) });
}
