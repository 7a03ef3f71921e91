/**
 * agentalk/1 in TypeScript, as docs/protocol.md defines it: derivations, sealing, frames, cards, proofs, messages,
 * pieces of files. It runs in a member's client and handles keys, names and plaintext; the bridge never loads it. It has
 * no state and no clock. WebCrypto only, in browsers and Node 20 or later. tests/vectors/ checks this file and sdk/shell.
 *
 * Failed authentication and malformed input from others are values, `{ ok: false, reason }`. Misuse by the caller throws
 * a TypeError.
 */
import {
  asBytes,
  concat,
  decodeFileName,
  derToRaw,
  fromBase64,
  fromHex,
  isHex,
  rawToDer,
  toBase64,
  toHex,
  utf8Decode,
  utf8Encode,
} from './encoding.ts';
import type { Bytes } from './encoding.ts';

const subtle = globalThis.crypto.subtle;

/** Why input was rejected. docs/protocol.md and the shell client use the same words. */
export type RejectReason =
  | 'bad-nonce' // not 24 lowercase hex
  | 'bad-tag-format' // not 32 lowercase hex
  | 'bad-base64' // not canonical standard base64 with padding, or empty
  | 'auth-failed' // not sealed with this key and this additional data
  | 'unterminated-headers' // a frame without the empty line
  | 'headers-too-long' // more than 4096 bytes of header lines
  | 'bad-header' // a line that is not `name: value`
  | 'duplicate-header'
  | 'signature-not-last' // a header after `signature`
  | 'missing-signature' // a broadcast without one
  | 'bad-signature'
  | 'missing-header'
  | 'unexpected-header' // `seq` in a control message
  | 'bad-number' // not a decimal, or out of range
  | 'bad-header-value'
  | 'control-broadcast' // a control message to everybody
  | 'bad-name' // not a participant's name
  | 'reserved-name'
  | 'id-mismatch' // a card whose name gives another participant id
  | 'own-id' // a card under the reader's own participant id
  | 'bad-key' // not a P-256 public key in the one accepted form
  | 'bad-file-body'
  | 'bad-file-piece' // another length or another SHA-256
  | 'bad-want-body';

export type Rejected = { readonly ok: false; readonly reason: RejectReason };
export type Result<T> = { readonly ok: true; readonly value: T } | Rejected;
const ok = <T>(value: T) => ({ ok: true, value }) as const;
const err = (reason: RejectReason): Rejected => ({ ok: false, reason });

function assertArgument(isValid: boolean, expected: string): void {
  if (!isValid) throw new TypeError(`expected ${expected}`);
}
const assertHex = (text: string, length: number, what: string) =>
  assertArgument(isHex(text, length), `${what} of ${length} lowercase hex digits`);

export const PROTOCOL = 'agentalk/1';
/** The `to` of cards and broadcasts. */
export const BROADCAST = '*';

// ---- syntax ----

const DECIMAL = '(?:0|[1-9][0-9]{0,14})';
const POSITIVE = '[1-9][0-9]{0,14}';
const DECIMAL_PATTERN = new RegExp(`^${DECIMAL}$`);

/** A decimal is below 10^15, so it is exact as a number. */
export const isDecimal = (text: string): boolean => DECIMAL_PATTERN.test(text);

/** The syntax only: a card is also checked with isReservedName. */
export const isName = (text: string): boolean => /^[a-z0-9][a-z0-9._-]{0,31}$/.test(text) && !text.includes('..');

/** Names that a client uses for itself, its user, the bridge or all participants. */
export const RESERVED_NAMES: readonly string[] = ['agentalk', 'all', 'bridge', 'everybody', 'me', 'user', 'you'];
export const isReservedName = (text: string): boolean => RESERVED_NAMES.includes(text);

/** SHA-256 (FIPS 180-4), 32 bytes. */
export const sha256 = async (bytes: Bytes): Promise<Bytes> => asBytes(await subtle.digest('SHA-256', bytes));

// ---- derivations: everything comes from the channel key, 64 lowercase hex ----

const labelledHash = async (text: string): Promise<string> => toHex(await sha256(utf8Encode(`${PROTOCOL} ${text}`)));
const assertChannelKey = (channelKey: string) => assertHex(channelKey, 64, 'a channel key');

/** 64 hex: the bearer token of create and join. It reveals nothing about the channel key. */
export async function deriveAccessToken(channelKey: string): Promise<string> {
  assertChannelKey(channelKey);
  return labelledHash(`access ${channelKey}`);
}

/** 32 hex. It commits to the access token. */
export async function deriveChannelId(accessToken: string): Promise<string> {
  assertHex(accessToken, 64, 'an access token');
  return (await labelledHash(`channel ${accessToken}`)).slice(0, 32);
}

/** 32 hex. */
export async function deriveParticipantId(channelKey: string, name: string): Promise<string> {
  assertChannelKey(channelKey);
  assertArgument(isName(name), 'a name');
  return (await labelledHash(`participant ${channelKey} ${name}`)).slice(0, 32);
}

/** The session id, sid: 32 hex over all that a card says. */
export async function deriveSessionId(channelKey: string, { kind, name, pub, sign }: Card): Promise<string> {
  assertChannelKey(channelKey);
  return (await labelledHash(`session ${channelKey} ${kind} ${name} ${pub} ${sign}`)).slice(0, 32);
}

/** The broadcast key seals cards and broadcasts; its AES key is the SHA-256 of this. */
export function broadcastPassphrase(channelKey: string): string {
  assertChannelKey(channelKey);
  return `${PROTOCOL} room ${channelKey}`;
}

/** Of the direct key between two sessions, in either order; `x` is their shared x-coordinate, 64 hex. */
export function directPassphrase(channelKey: string, sidA: string, sidB: string, x: string): string {
  assertChannelKey(channelKey);
  assertHex(sidA, 32, 'a session id');
  assertHex(sidB, 32, 'a session id');
  assertHex(x, 64, 'a shared x-coordinate');
  const [first, second] = sidA < sidB ? [sidA, sidB] : [sidB, sidA];
  return `${PROTOCOL} direct ${channelKey} ${first} ${second} ${x}`;
}

/** Of a file key; `fileSecret` is `f`, 64 hex. */
export function filePassphrase(fileSecret: string): string {
  assertHex(fileSecret, 64, 'a file secret');
  return `${PROTOCOL} file ${fileSecret}`;
}

/**
 * The AES-256-GCM key of a passphrase: its SHA-256, as `openssl enc -md sha256 -pass` derives it. Not extractable. One
 * key may seal 2^32 messages under random nonces (NIST SP 800-38D, 8.3).
 */
export async function aesKey(passphrase: string): Promise<CryptoKey> {
  return subtle.importKey('raw', await sha256(utf8Encode(passphrase)), 'AES-GCM', false, ['encrypt', 'decrypt']);
}

// ---- sealing: AES-256-GCM (NIST SP 800-38D; RFC 5116, 5.2), random 96-bit nonce, 128-bit tag ----

/** As on the wire: 24 hex, base64, 32 hex. */
export type Sealed = { readonly nonce: string; readonly ciphertext: string; readonly tag: string };

const gcm = (iv: Bytes, additionalData: Bytes) => ({ name: 'AES-GCM', iv, additionalData, tagLength: 128 });

/** The AAD binds ciphertext to its channel, sender, recipient and type. `to` is a participant id or BROADCAST. */
export function additionalData(channelId: string, from: string, to: string, type: 'card' | 'message'): Bytes {
  assertHex(channelId, 32, 'a channel id');
  assertHex(from, 32, 'a participant id');
  if (to !== BROADCAST) assertHex(to, 32, 'a participant id');
  return utf8Encode([PROTOCOL, channelId, from, to, type].join('\n'));
}

/** Seals a plaintext, which must not be empty, under a new random nonce. */
export async function seal(key: CryptoKey, aad: Bytes, plaintext: Bytes): Promise<Sealed> {
  assertArgument(plaintext.length > 0, 'a plaintext that is not empty');
  const iv = globalThis.crypto.getRandomValues(new Uint8Array(12));
  const output = asBytes(await subtle.encrypt(gcm(iv, aad), key, plaintext));
  return { nonce: toHex(iv), ciphertext: toBase64(output.subarray(0, -16)), tag: toHex(output.subarray(-16)) };
}

/** The plaintext; or bad-nonce, bad-tag-format, bad-base64, auth-failed. */
export async function unseal(key: CryptoKey, aad: Bytes, sealed: Sealed): Promise<Result<Bytes>> {
  if (!isHex(sealed.nonce, 24)) return err('bad-nonce');
  if (!isHex(sealed.tag, 32)) return err('bad-tag-format');
  const ciphertext = fromBase64(sealed.ciphertext);
  if (!ciphertext) return err('bad-base64');
  const input = concat(ciphertext, fromHex(sealed.tag));
  try {
    return ok(asBytes(await subtle.decrypt(gcm(fromHex(sealed.nonce), aad), key, input)));
  } catch (error) {
    if (error instanceof DOMException && error.name === 'OperationError') return err('auth-failed');
    throw error; // The caller passed a key for another algorithm.
  }
}

// ---- frames ----

export interface Frame {
  /** All but `signature`. */
  readonly headers: ReadonlyMap<string, string>;
  readonly signature: string | undefined;
  readonly body: Bytes;
  /** The frame without its signature line: these bytes are signed, and two messages are equal if these are. */
  readonly unsigned: Bytes;
}

/** Headers in the order in which they are written. */
export type Headers = Readonly<Record<string, string>>;

const NEWLINE = 0x0a;
const MAX_HEADER_BYTES = 4096;
const HEADER = /^([a-z][a-z0-9-]{0,31}): ([!-~](?:[ -~]*[!-~])?)$/;

/** The bytes of a frame. Throws on headers that a receiver would reject. */
export function makeFrame(headers: Headers, body: Uint8Array = new Uint8Array()): Bytes {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  assertArgument(
    lines.every((line) => HEADER.test(line)),
    'headers of printable ASCII',
  );
  assertArgument(!('signature' in headers) || Object.keys(headers).at(-1) === 'signature', 'the signature last');
  const head = utf8Encode(lines.map((line) => `${line}\n`).join(''));
  assertArgument(head.length <= MAX_HEADER_BYTES, `at most ${MAX_HEADER_BYTES} bytes of headers`);
  return concat(head, Uint8Array.of(NEWLINE), body);
}

/** Parses a frame; or unterminated-headers, headers-too-long, signature-not-last, bad-header, duplicate-header. */
export function parseFrame(bytes: Bytes): Result<Frame> {
  const headers = new Map<string, string>();
  let signature: string | undefined;
  let signatureStart = 0;
  let start = 0;
  for (;;) {
    const end = bytes.indexOf(NEWLINE, start);
    if (end < 0) return err('unterminated-headers');
    if (end === start) break;
    if (end + 1 > MAX_HEADER_BYTES) return err('headers-too-long');
    if (signature !== undefined) return err('signature-not-last');
    const [, name, value] = HEADER.exec(String.fromCharCode(...bytes.subarray(start, end))) ?? [];
    if (name === undefined || value === undefined) return err('bad-header');
    if (headers.has(name)) return err('duplicate-header');
    if (name === 'signature') {
      signature = value;
      signatureStart = start;
    } else {
      headers.set(name, value);
    }
    start = end + 1;
  }
  const body = bytes.slice(start + 1);
  const unsigned = signature === undefined ? bytes : concat(bytes.subarray(0, signatureStart), bytes.subarray(start));
  return ok({ headers, signature, body, unsigned });
}

/** What identifies a message under its number: 64 hex of the frame without its signature line. */
export const frameDigest = async (frame: Frame): Promise<string> => toHex(await sha256(frame.unsigned));

// ---- keys on P-256: ECDH (SEC 1, 3.3.1), ECDSA with SHA-256 (SEC 1, 4.1), public keys in one SPKI form (RFC 5480) ----

const ECDH = { name: 'ECDH', namedCurve: 'P-256' };
const ECDSA = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
/** Base64 of id-ecPublicKey, prime256v1, and the 04 of an uncompressed point. */
const SPKI_PREFIX = 'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE';

/** The form only, 91 bytes in 124 characters; isOnCurve checks the point. */
export const isPublicKey = (text: string): boolean =>
  text.length === 124 && text.startsWith(SPKI_PREFIX) && fromBase64(text)?.length === 91;

/** The field and the coefficient b of P-256 (SEC 2, 2.4.2; a is -3). */
const P = 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffffn;
const B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn;

/** Validates a public key (SEC 1, 3.2.2.1), so that no engine's own check is relied on. The cofactor is 1. */
export function isOnCurve(pub: string): boolean {
  const spki = isPublicKey(pub) ? fromBase64(pub) : null;
  if (!spki) return false;
  const x = BigInt(`0x${toHex(spki.subarray(-64, -32))}`);
  const y = BigInt(`0x${toHex(spki.subarray(-32))}`);
  return x < P && y < P && (y * y - x * x * x + 3n * x - B) % P === 0n;
}

/** The private keys of a session, and the public ones as in its card. */
export type Keys = { readonly ecdh: CryptoKey; readonly ecdsa: CryptoKey; readonly pub: string; readonly sign: string };

/** Generates both key pairs. The private keys are not extractable unless asked for. */
export async function makeKeys(isExtractable = false): Promise<Keys> {
  const ecdh = await subtle.generateKey(ECDH, isExtractable, ['deriveBits']);
  const ecdsa = await subtle.generateKey(ECDSA, isExtractable, ['sign', 'verify']);
  const spki = async (key: CryptoKey) => toBase64(asBytes(await subtle.exportKey('spki', key)));
  return {
    ecdh: ecdh.privateKey,
    ecdsa: ecdsa.privateKey,
    pub: await spki(ecdh.publicKey),
    sign: await spki(ecdsa.publicKey),
  };
}

/** Null if the form is wrong or the point is not on the curve. */
async function importPublicKey(text: string, algorithm: typeof ECDH, usages: KeyUsage[]): Promise<CryptoKey | null> {
  const spki = isOnCurve(text) ? fromBase64(text) : null;
  return spki && subtle.importKey('spki', spki, algorithm, true, usages);
}

/** The shared x-coordinate: 64 hex with leading zeros; or bad-key. */
export async function sharedX(ecdh: CryptoKey, pub: string): Promise<Result<string>> {
  const theirs = await importPublicKey(pub, ECDH, []);
  if (!theirs) return err('bad-key');
  return ok(toHex(asBytes(await subtle.deriveBits({ name: 'ECDH', public: theirs }, ecdh, 256))));
}

/** The AES key between the session of `ecdh` and the session of `pub`; or bad-key. */
export async function directKey(
  channelKey: string,
  ecdh: CryptoKey,
  ownSid: string,
  theirSid: string,
  pub: string,
): Promise<Result<CryptoKey>> {
  const x = await sharedX(ecdh, pub);
  return x.ok ? ok(await aesKey(directPassphrase(channelKey, ownSid, theirSid, x.value))) : x;
}

/** The bytes under a broadcast's signature. */
const signedBytes = (aad: Bytes, sid: string, unsigned: Bytes): Bytes =>
  concat(aad, utf8Encode(`\n${sid}\n\n`), unsigned);

/** The frame of a broadcast: these headers, then `signature`. `sid` is that of the signing session. */
export async function signFrame(
  ecdsa: CryptoKey,
  aad: Bytes,
  sid: string,
  headers: Headers,
  body?: Uint8Array,
): Promise<Bytes> {
  assertHex(sid, 32, 'a session id');
  const raw = asBytes(await subtle.sign(ECDSA, ecdsa, signedBytes(aad, sid, makeFrame(headers, body))));
  return makeFrame({ ...headers, signature: toBase64(rawToDer(raw)) }, body);
}

/** missing-signature, bad-signature, or that this session signed the frame. Never compare signatures: each has a twin. */
export async function verifySignature(session: Proof, aad: Bytes, frame: Frame): Promise<Result<true>> {
  assertHex(session.sid, 32, 'a session id');
  if (frame.signature === undefined) return err('missing-signature');
  const raw = derToRaw(fromBase64(frame.signature) ?? new Uint8Array());
  const key = await importPublicKey(session.sign, ECDSA, ['verify']);
  if (!raw || !key) return err('bad-signature');
  const isGenuine = await subtle.verify(ECDSA, key, raw, signedBytes(aad, session.sid, frame.unsigned));
  return isGenuine ? ok(true) : err('bad-signature');
}

// ---- cards ----

export type Card = {
  readonly kind: 'agent' | 'human';
  readonly name: string;
  readonly pub: string;
  readonly sign: string;
};

/** A session as its card presents it. */
export type Session = Card & { readonly participantId: string; readonly sid: string };

/** The frame of a card. */
export function makeCard({ kind, name, pub, sign }: Card): Bytes {
  assertArgument(isName(name) && !isReservedName(name), 'a name that is not reserved');
  assertArgument(isPublicKey(pub) && isPublicKey(sign), 'two public keys');
  return makeFrame({ kind, name, pub, sign });
}

/**
 * The session that a card under the id `from` presents; or missing-header, bad-header-value, bad-name, reserved-name,
 * bad-key, own-id, id-mismatch. `ownId` is the reader's participant id.
 */
export async function checkCard(
  channelKey: string,
  from: string,
  ownId: string,
  { headers }: Frame,
): Promise<Result<Session>> {
  if (from === ownId) return err('own-id');
  const [kind, name, pub, sign] = ['kind', 'name', 'pub', 'sign'].map((header) => headers.get(header));
  if (!kind || !name || !pub || !sign) return err('missing-header');
  if (kind !== 'agent' && kind !== 'human') return err('bad-header-value');
  if (!isName(name)) return err('bad-name');
  if (isReservedName(name)) return err('reserved-name');
  if ((await deriveParticipantId(channelKey, name)) !== from) return err('id-mismatch');
  if (!isOnCurve(pub) || !isPublicKey(sign)) return err('bad-key');
  const card: Card = { kind, name, pub, sign };
  return ok({ ...card, participantId: from, sid: await deriveSessionId(channelKey, card) });
}

/** Unseals a card with the broadcast key and checks it; or why it is rejected. */
export async function unsealCard(
  channelKey: string,
  broadcastKey: CryptoKey,
  channelId: string,
  from: string,
  ownId: string,
  sealed: Sealed,
): Promise<Result<Session>> {
  const bytes = await unseal(broadcastKey, additionalData(channelId, from, BROADCAST, 'card'), sealed);
  if (!bytes.ok) return bytes;
  const frame = parseFrame(bytes.value);
  return frame.ok ? checkCard(channelKey, from, ownId, frame.value) : frame;
}

// ---- proofs: which session a message belongs to ----

/** What verifies a session's broadcasts. */
export type Proof = { readonly sid: string; readonly sign: string };

/** A client tries that many sessions of a participant id, the newest first. */
export const MAX_SESSIONS_TRIED = 8;

/** The session that proves a broadcast, and its frame. `sessions` are those of `from`, the newest first. */
export async function proveBroadcast<S extends Proof>(
  broadcastKey: CryptoKey,
  aad: Bytes,
  sealed: Sealed,
  sessions: readonly S[],
): Promise<Result<{ readonly session: S; readonly frame: Frame }>> {
  const bytes = await unseal(broadcastKey, aad, sealed);
  if (!bytes.ok) return bytes;
  const frame = parseFrame(bytes.value);
  if (!frame.ok) return frame;
  if (frame.value.signature === undefined) return err('missing-signature');
  for (const session of sessions.slice(0, MAX_SESSIONS_TRIED)) {
    const verified = await verifySignature(session, aad, frame.value);
    if (verified.ok) return ok({ session, frame: frame.value });
  }
  return err('bad-signature');
}

/**
 * The session whose direct key opens a message. The frame may still be malformed: it is proved all the same.
 * `sessions` are those of `from`, the newest first.
 */
export async function proveDirect<S extends { readonly direct: CryptoKey }>(
  aad: Bytes,
  sealed: Sealed,
  sessions: readonly S[],
): Promise<Result<{ readonly session: S; readonly frame: Result<Frame> }>> {
  for (const session of sessions.slice(0, MAX_SESSIONS_TRIED)) {
    const bytes = await unseal(session.direct, aad, sealed);
    if (bytes.ok) return ok({ session, frame: parseFrame(bytes.value) });
    if (bytes.reason !== 'auth-failed') return bytes;
  }
  return err('auth-failed');
}

// ---- messages ----

/** `sent: F N M`: broadcasts 1 to N are sealed, F to N are repeated on request; direct messages 1 to M are sealed. */
export type Sent = { readonly first: number; readonly broadcasts: number; readonly directs: number };
/** `received: B D L`: up to B and D shown or skipped; L of the broadcasts and direct messages skipped. */
export type Received = { readonly broadcasts: number; readonly directs: number; readonly skipped: number };
/** `stored: B D`: stored without a gap up to there. */
export type Stored = { readonly broadcasts: number; readonly directs: number };
/** One entry of `seen`: the first 16 hex of a sid, the writer's mark, what it skipped, and whether it left. */
export type Seen = {
  readonly session: string;
  readonly mark: number;
  readonly skipped: number;
  readonly left: boolean;
};
export type Reach = 'listening' | 'wakes' | 'reads';
/** `name` is decoded; `size` in bytes; `sha256` 64 hex of the plaintext. */
export type FileHeaders = { readonly name: string; readonly size: number; readonly sha256: string };

export interface Message extends Frame {
  readonly kind: string;
  /** Undefined in control messages. */
  readonly seq: number | undefined;
  /** Unix ms by the sender's clock. */
  readonly time: number;
  /** In direct messages. */
  readonly sent: Sent | undefined;
  readonly received: Received | undefined;
  /** Empty in control messages. */
  readonly seen: readonly Seen[];
  readonly stored: Stored | undefined;
  readonly reach: Reach | undefined;
  /** In messages of kind `file`. */
  readonly file: FileHeaders | undefined;
}

export const CONTENT_KINDS: readonly string[] = ['text', 'file'];
/** Direct only, without a number, never stored. */
export const CONTROL_KINDS: readonly string[] = ['sync', 'ack', 'want', 'bye'];

export const MAX_SEEN = 64;
export const MAX_FILE_BYTES = 104_857_600;

const KIND = /^[a-z][a-z-]{0,15}$/;
const SENT = new RegExp(`^${POSITIVE} ${DECIMAL} ${DECIMAL}$`);
const RECEIVED = new RegExp(`^${DECIMAL} ${DECIMAL} ${DECIMAL}$`);
const STORED = new RegExp(`^${DECIMAL} ${DECIMAL}$`);
const SEEN_ENTRY = new RegExp(`^[0-9a-f]{16} ${DECIMAL} ${DECIMAL}(?: left)?$`);
const REACH = /^(?:listening|wakes|reads)$/;

/** The three (or two) decimals of a checked value. */
const decimals = (value: string): [number, number, number] => {
  const [first = 0, second = 0, third = 0] = value.split(' ').map(Number);
  return [first, second, third];
};

/** The value of a header; missing-header or bad-header-value otherwise. */
function required(frame: Frame, name: string, pattern: RegExp): Result<string> {
  const value = frame.headers.get(name);
  if (value === undefined) return err('missing-header');
  return pattern.test(value) ? ok(value) : err('bad-header-value');
}
const optional = (frame: Frame, name: string, pattern: RegExp): Result<string | undefined> =>
  frame.headers.has(name) ? required(frame, name, pattern) : ok(undefined);

/** A decimal from `min` to `max`; missing-header or bad-number otherwise. */
function requiredNumber(frame: Frame, name: string, min: number, max = Number.MAX_SAFE_INTEGER): Result<number> {
  const value = frame.headers.get(name);
  if (value === undefined) return err('missing-header');
  if (!isDecimal(value) || Number(value) < min || Number(value) > max) return err('bad-number');
  return ok(Number(value));
}

/** The number that a proved frame consumes, also when checkMessage rejects it; undefined where `seq` is not valid. */
export function sequenceOf(frame: Frame): number | undefined {
  const seq = requiredNumber(frame, 'seq', 1);
  return seq.ok ? seq.value : undefined;
}

function parseSeen(value: string | undefined): Result<readonly Seen[]> {
  if (value === undefined) return ok([]);
  const entries = value.split(',');
  if (entries.length > MAX_SEEN || !entries.every((entry) => SEEN_ENTRY.test(entry))) return err('bad-header-value');
  return ok(
    entries.map((entry) => {
      const [session = '', mark, skipped, left] = entry.split(' ');
      return { session, mark: Number(mark), skipped: Number(skipped), left: left === 'left' };
    }),
  );
}

function parseFileHeaders(frame: Frame): Result<FileHeaders> {
  const encoded = required(frame, 'name', /./);
  if (!encoded.ok) return encoded;
  const name = decodeFileName(encoded.value);
  if (name === null) return err('bad-header-value');
  const size = requiredNumber(frame, 'size', 0, MAX_FILE_BYTES);
  if (!size.ok) return size;
  const digest = required(frame, 'sha256', /^[0-9a-f]{64}$/);
  return digest.ok ? ok({ name, size: size.value, sha256: digest.value }) : digest;
}

/**
 * The message in a proved frame; or missing-header, unexpected-header, bad-number, bad-header-value, control-broadcast.
 * A rejected frame still consumes sequenceOf(frame). A header that this kind of message does not have is ignored.
 */
export function checkMessage(frame: Frame, isDirect: boolean): Result<Message> {
  const kind = required(frame, 'kind', KIND);
  if (!kind.ok) return kind;
  const isControl = CONTROL_KINDS.includes(kind.value);
  if (isControl && !isDirect) return err('control-broadcast');
  if (isControl && frame.headers.has('seq')) return err('unexpected-header');
  const seq = isControl ? ok(undefined) : requiredNumber(frame, 'seq', 1);
  if (!seq.ok) return seq;
  const time = requiredNumber(frame, 'time', 0);
  if (!time.ok) return time;
  const sent = isDirect ? required(frame, 'sent', SENT) : ok(undefined);
  if (!sent.ok) return sent;
  const received = isDirect ? required(frame, 'received', RECEIVED) : ok(undefined);
  if (!received.ok) return received;
  const seen = parseSeen(isControl ? undefined : frame.headers.get('seen'));
  if (!seen.ok) return seen;
  const hasStored = kind.value === 'sync' || kind.value === 'ack';
  const stored = hasStored ? optional(frame, 'stored', STORED) : ok(undefined);
  if (!stored.ok) return stored;
  const reach = optional(frame, 'reach', REACH);
  if (!reach.ok) return reach;
  const file = kind.value === 'file' ? parseFileHeaders(frame) : ok(undefined);
  if (!file.ok) return file;
  return ok({
    ...frame,
    kind: kind.value,
    seq: seq.value,
    time: time.value,
    sent: sent.value === undefined ? undefined : parseSent(sent.value),
    received: received.value === undefined ? undefined : parseReceived(received.value),
    seen: seen.value,
    stored: stored.value === undefined ? undefined : parseStored(stored.value),
    reach: reach.value as Reach | undefined, // REACH has these words only
    file: file.value,
  });
}

function parseSent(value: string): Sent {
  const [first, broadcasts, directs] = decimals(value);
  return { first, broadcasts, directs };
}

function parseReceived(value: string): Received {
  const [broadcasts, directs, skipped] = decimals(value);
  return { broadcasts, directs, skipped };
}

function parseStored(value: string): Stored {
  const [broadcasts, directs] = decimals(value);
  return { broadcasts, directs };
}

function assertFormat(value: string, pattern: RegExp, what: string): string {
  assertArgument(pattern.test(value), what);
  return value;
}

export const formatSent = ({ first, broadcasts, directs }: Sent): string =>
  assertFormat(`${first} ${broadcasts} ${directs}`, SENT, 'F from 1, N and M');

export const formatReceived = ({ broadcasts, directs, skipped }: Received): string =>
  assertFormat(`${broadcasts} ${directs} ${skipped}`, RECEIVED, 'B, D and L');

export const formatStored = ({ broadcasts, directs }: Stored): string =>
  assertFormat(`${broadcasts} ${directs}`, STORED, 'B and D');

/** At least one entry: a message without entries has no header `seen`. `session` may be a whole sid. */
export function formatSeen(entries: readonly Seen[]): string {
  assertArgument(entries.length >= 1 && entries.length <= MAX_SEEN, `1 to ${MAX_SEEN} entries`);
  const format = ({ session, mark, skipped, left }: Seen) =>
    assertFormat(
      `${session.slice(0, 16)} ${mark} ${skipped}${left ? ' left' : ''}`,
      SEEN_ENTRY,
      'a session id, a mark and a count',
    );
  return entries.map(format).join(',');
}

// ---- files: AES-256-CTR (NIST SP 800-38A, 6.5) in pieces, each authenticated by its SHA-256 in the sealed message ----

export const PIECE_BYTES = 1_048_576;
const BLOCKS_PER_PIECE = PIECE_BYTES / 16;
export const MAX_WANTED = 32;

const ctr = (index: number) => {
  const counter = new Uint8Array(16);
  new DataView(counter.buffer).setBigUint64(8, BigInt(index) * BigInt(BLOCKS_PER_PIECE));
  return { name: 'AES-CTR', counter, length: 64 };
};

/** The AES-256-CTR key of `f`, 64 hex. Use it for one file only. */
export async function fileKey(fileSecret: string): Promise<CryptoKey> {
  const key = await sha256(utf8Encode(filePassphrase(fileSecret)));
  return subtle.importKey('raw', key, 'AES-CTR', false, ['encrypt', 'decrypt']);
}

/** How many pieces a file of so many bytes has; an empty file has none. */
export function pieceCount(size: number): number {
  assertArgument(Number.isInteger(size) && size >= 0 && size <= MAX_FILE_BYTES, `a size up to ${MAX_FILE_BYTES}`);
  return Math.ceil(size / PIECE_BYTES);
}

/** The bytes of piece `index`, from 0, of a file of so many bytes. */
export function pieceLength(size: number, index: number): number {
  assertArgument(Number.isInteger(index) && index >= 0 && index < pieceCount(size), 'the index of a piece');
  return Math.min(PIECE_BYTES, size - index * PIECE_BYTES);
}

/** Encrypts piece `index`, from 0. Returns the ciphertext and its name at the bridge. */
export async function encryptPiece(
  key: CryptoKey,
  index: number,
  plaintext: Bytes,
): Promise<{ readonly ciphertext: Bytes; readonly sha256: string }> {
  assertArgument(plaintext.length >= 1 && plaintext.length <= PIECE_BYTES, `1 to ${PIECE_BYTES} bytes`);
  const ciphertext = asBytes(await subtle.encrypt(ctr(index), key, plaintext));
  return { ciphertext, sha256: toHex(await sha256(ciphertext)) };
}

/** True if a piece that arrived is the one that the message names. Check before it is stored. */
export const isPiece = async (ciphertext: Bytes, length: number, digest: string): Promise<boolean> =>
  ciphertext.length === length && toHex(await sha256(ciphertext)) === digest;

/** The plaintext of piece `index`; or bad-file-piece. `size` is that of the file, `digest` the piece's SHA-256. */
export async function decryptPiece(
  key: CryptoKey,
  index: number,
  size: number,
  digest: string,
  ciphertext: Bytes,
): Promise<Result<Bytes>> {
  if (!(await isPiece(ciphertext, pieceLength(size, index), digest))) return err('bad-file-piece');
  return ok(asBytes(await subtle.decrypt(ctr(index), key, ciphertext)));
}

/** The secret `f`, and the SHA-256 of each piece in order. */
export type FileBody = { readonly fileSecret: string; readonly pieces: readonly string[] };

/** Lines of 64 lowercase hex, each ended by a newline; null for anything else. */
function parseHexLines(body: Bytes): readonly string[] | null {
  const text = utf8Decode(body);
  return text !== null && /^(?:[0-9a-f]{64}\n)*$/.test(text) ? text.split('\n').slice(0, -1) : null;
}
const hexLines = (lines: readonly string[]): Bytes => utf8Encode(lines.map((line) => `${line}\n`).join(''));
const hasDuplicate = (lines: readonly string[]): boolean => new Set(lines).size < lines.length;

/** The body of a `file` message. */
export function formatFileBody({ fileSecret, pieces }: FileBody): Bytes {
  const lines = [fileSecret, ...pieces];
  assertArgument(lines.every((line) => isHex(line, 64)) && !hasDuplicate(pieces), 'different hashes of 64 hex digits');
  return hexLines(lines);
}

/** The body of a `file` message about so many bytes; or bad-file-body. */
export function parseFileBody(body: Bytes, size: number): Result<FileBody> {
  const [fileSecret, ...pieces] = parseHexLines(body) ?? [];
  if (fileSecret === undefined || pieces.length !== pieceCount(size) || hasDuplicate(pieces)) {
    return err('bad-file-body');
  }
  return ok({ fileSecret, pieces });
}

/** The body of a `want` message: 1 to 32 SHA-256 of pieces. */
export function formatWantBody(digests: readonly string[]): Bytes {
  const body = hexLines(digests);
  assertArgument(parseWantBody(body).ok, `1 to ${MAX_WANTED} hashes of 64 hex digits`);
  return body;
}

/** The pieces that a `want` message asks for; or bad-want-body. */
export function parseWantBody(body: Bytes): Result<readonly string[]> {
  const digests = parseHexLines(body);
  if (!digests || digests.length < 1 || digests.length > MAX_WANTED) return err('bad-want-body');
  return ok(digests);
}
