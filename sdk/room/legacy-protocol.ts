/**
 * agentalk/1 for TypeScript, as docs/protocol.md states it: derivations, frames, sealing, cards, signatures. It stands
 * on the members' side and handles keys, names and plaintext: the browser room uses it, the bridge never does. Only
 * WebCrypto, for pages and Node alike. sdk/shell states the same for bash, and tests/vectors holds both to it.
 *
 * What comes from others and is wrong is a value, `{ ok: false, reason }`; a caller's own mistake throws.
 */
import { bytesOf, concat, derToRaw, encode, fromBase64, fromHex, isHex, rawToDer, toBase64, toHex } from './legacy-bytes.ts';
import type { Bytes } from './legacy-bytes.ts';

const subtle = globalThis.crypto.subtle;

/** Why something is not believed. The shell client uses the same words. */
export type Reason =
  | 'bad-nonce' // not 24 lowercase hex
  | 'bad-base64' // not canonical standard base64 with padding, or empty
  | 'malformed-tag' // not 32 lowercase hex
  | 'bad-tag' // not sealed with this key, for this place, or changed since
  | 'no-empty-line' // a frame whose headers don't end
  | 'headers-too-long'
  | 'bad-header' // a line that is no `name: value`
  | 'twice' // a header that comes twice
  | 'missing-header'
  | 'bad-decimal'
  | 'bad-value' // a header's value of the wrong shape
  | 'unsigned' // a broadcast without a signature
  | 'signature-not-last'
  | 'bad-signature'
  | 'bad-name'
  | 'wrong-id' // a card whose name doesn't hash to the id that it came under
  | 'bad-key'; // not a P-256 public key in the one form that we take

export type Outcome<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reason: Reason };
const accepted = <T>(value: T) => ({ ok: true, value }) as const;
const refused = (reason: Reason) => ({ ok: false, reason }) as const;

// ---- words ----

const DECIMAL = '(?:0|[1-9][0-9]{0,14})';
/** Below 10^15, so it is exact as a number. */
export const isDecimal = (text: string): boolean => new RegExp(`^${DECIMAL}$`).test(text);

export const isName = (text: string): boolean => /^[a-z0-9][a-z0-9._-]{0,31}$/.test(text) && !text.includes('..');

export const sha256 = async (bytes: Bytes): Promise<Bytes> => bytesOf(await subtle.digest('SHA-256', bytes));

// ---- identities: everything comes from `k`, the channel key (64 lowercase hex) ----

const PROTOCOL = 'agentalk/1';
export const EVERYBODY = '*';

function expect(isRight: boolean, what: string): void {
  if (!isRight) throw new TypeError(`expected ${what}`);
}
const expectHex = (text: string, length: number, what: string) =>
  expect(isHex(text, length), `${what} of ${length} lowercase hex`);
const expectKey = (k: string) => expectHex(k, 64, 'a channel key');

const labelled = async (words: string): Promise<string> => toHex(await sha256(encode(`${PROTOCOL} ${words}`)));

/** 64 hex: the bearer value of create and join. The bridge sees it; it tells nothing about `k`. */
export async function accessOf(k: string): Promise<string> {
  expectKey(k);
  return labelled(`access ${k}`);
}

/** 32 hex. It commits to the access value. */
export async function channelOf(access: string): Promise<string> {
  expectHex(access, 64, 'an access value');
  return (await labelled(`channel ${access}`)).slice(0, 32);
}

/** 32 hex. */
export async function participantOf(k: string, name: string): Promise<string> {
  expectKey(k);
  expect(isName(name), 'a name');
  return (await labelled(`participant ${k} ${name}`)).slice(0, 32);
}

/** What the room key is the SHA-256 of. */
export function roomPassphrase(k: string): string {
  expectKey(k);
  return `${PROTOCOL} room ${k}`;
}

/** What the direct key of two participants is the SHA-256 of; `x` is what `sharedX` gives, 64 hex. */
export function directPassphrase(k: string, x: string): string {
  expectKey(k);
  expectHex(x, 64, 'a shared x-coordinate');
  return `${PROTOCOL} direct ${k} ${x}`;
}

/** AES-256 key = SHA-256 of the passphrase: what `openssl enc -md sha256 -pass` makes of it. Can't be exported. */
export async function aesKey(passphrase: string): Promise<CryptoKey> {
  return subtle.importKey('raw', await sha256(encode(passphrase)), 'AES-GCM', false, ['encrypt', 'decrypt']);
}

// ---- sealing: AES-256-GCM (NIST SP 800-38D; RFC 5116, 5.2), 96-bit random nonce, 128-bit tag ----

/** As on the wire: 24 hex, base64, 32 hex. */
export type Sealed = { readonly nonce: string; readonly ciphertext: string; readonly tag: string };

const gcm = (iv: Bytes, additionalData: Bytes) => ({ name: 'AES-GCM', iv, additionalData, tagLength: 128 });

/** What a sealed thing is bound to, so that a bridge can't give it out as something else. `to` is an id or `*`. */
export function additionalData(channel: string, from: string, to: string, type: 'card' | 'message'): Bytes {
  for (const id of [channel, from, ...(to === EVERYBODY ? [] : [to])]) expectHex(id, 32, 'an id');
  return encode([PROTOCOL, channel, from, to, type].join('\n'));
}

/** The plaintext is never empty (a frame can't be). A key may seal 2^32 times with random nonces (SP 800-38D, 8.3). */
export async function seal(key: CryptoKey, aad: Bytes, plaintext: Bytes): Promise<Sealed> {
  expect(plaintext.length > 0, 'a plaintext that is not empty');
  const iv = globalThis.crypto.getRandomValues(new Uint8Array(12));
  const both = bytesOf(await subtle.encrypt(gcm(iv, aad), key, plaintext));
  return { nonce: toHex(iv), ciphertext: toBase64(both.subarray(0, -16)), tag: toHex(both.subarray(-16)) };
}

/** The plaintext; or bad-nonce, malformed-tag, bad-base64, bad-tag. */
export async function open(key: CryptoKey, aad: Bytes, { nonce, ciphertext, tag }: Sealed): Promise<Outcome<Bytes>> {
  if (!isHex(nonce, 24)) return refused('bad-nonce');
  if (!isHex(tag, 32)) return refused('malformed-tag');
  const bytes = fromBase64(ciphertext);
  if (!bytes) return refused('bad-base64');
  const both = concat(bytes, fromHex(tag));
  try {
    return accepted(bytesOf(await subtle.decrypt(gcm(fromHex(nonce), aad), key, both)));
  } catch (error) {
    if (error instanceof DOMException && error.name === 'OperationError') return refused('bad-tag');
    throw error; // the key was not made for this
  }
}

// ---- frames ----

export interface Frame {
  /** All but `signature`. */
  readonly headers: ReadonlyMap<string, string>;
  readonly signature: string | undefined;
  readonly body: Bytes;
  /** The frame without its signature line: what is signed, and what makes two messages the same. */
  readonly unsigned: Bytes;
}

/** In the order in which they are written. */
type Headers = Readonly<Record<string, string>>;

const NEWLINE = 0x0a;
const MAX_HEADER_BYTES = 4096;
const HEADER = /^([a-z][a-z0-9-]{0,31}): ([!-~](?:[ -~]*[!-~])?)$/;

/** The bytes of a frame. Throws on a header that a receiver would refuse. */
export function makeFrame(headers: Headers, body: Uint8Array = new Uint8Array()): Bytes {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\n`);
  for (const line of lines) expect(HEADER.test(line.slice(0, -1)), 'headers of printable ASCII');
  const head = encode(lines.join(''));
  expect(head.length <= MAX_HEADER_BYTES, `at most ${MAX_HEADER_BYTES} bytes of headers`);
  return concat(head, Uint8Array.of(NEWLINE), body);
}

/** Takes a frame apart; or no-empty-line, headers-too-long, signature-not-last, bad-header, twice. */
export function parseFrame(bytes: Bytes): Outcome<Frame> {
  const headers = new Map<string, string>();
  let signature: string | undefined;
  let signatureAt = 0;
  for (let at = 0; ;) {
    const end = bytes.indexOf(NEWLINE, at);
    if (end < 0) return refused('no-empty-line');
    if (end === at) {
      const unsigned = signature === undefined ? bytes : concat(bytes.subarray(0, signatureAt), bytes.subarray(at));
      return accepted({ headers, signature, body: bytes.slice(at + 1), unsigned });
    }
    if (end + 1 > MAX_HEADER_BYTES) return refused('headers-too-long');
    if (signature !== undefined) return refused('signature-not-last');
    const [, name, value] = HEADER.exec(String.fromCharCode(...bytes.subarray(at, end))) ?? [];
    if (name === undefined || value === undefined) return refused('bad-header');
    if (headers.has(name)) return refused('twice');
    if (name === 'signature') [signature, signatureAt] = [value, at];
    else headers.set(name, value);
    at = end + 1;
  }
}

async function openFrame(key: CryptoKey, aad: Bytes, sealed: Sealed): Promise<Outcome<Frame>> {
  const bytes = await open(key, aad, sealed);
  return bytes.ok ? parseFrame(bytes.value) : bytes;
}

// ---- messages ----

/** The marks of one stream: its broadcasts, and (in direct messages) its direct messages to the sender of the marks. */
export type Receipt = { readonly stream: string; readonly broadcasts: number; readonly directs: number | undefined };

export interface Message extends Frame {
  readonly kind: string;
  readonly stream: string;
  readonly seq: number;
  /** Unix ms, by the sender's clock. */
  readonly time: number;
  /** In direct messages: the sender's last broadcast. */
  readonly after: number | undefined;
  readonly seen: readonly Receipt[];
}

const DECIMALS = ['seq', 'time', 'after', 'size'];
const SHAPES = Object.entries({
  kind: '[a-z][a-z-]{0,15}',
  stream: '[0-9a-f]{16}',
  challenge: '[0-9a-f]{32}',
  answer: '[0-9a-f]{32}',
  sha256: '[0-9a-f]{64}',
  re: `[0-9a-f]{32} [0-9a-f]{16} ${DECIMAL}`,
  part: `${DECIMAL}/${DECIMAL}`,
}).map(([name, shape]) => [name, new RegExp(`^${shape}$`)] as const);
const SEEN_DIRECT = new RegExp(`^[0-9a-f]{16} ${DECIMAL} ${DECIMAL}$`);
const SEEN_BROADCAST = new RegExp(`^[0-9a-f]{16} ${DECIMAL}(?:,[0-9a-f]{16} ${DECIMAL}){0,15}$`);

/** What each message has to say before anything counts with it; or missing-header, bad-decimal, bad-value. */
export function checkMessage(frame: Frame, isDirect: boolean): Outcome<Message> {
  const { headers } = frame;
  const [kind, stream, seq, time] = ['kind', 'stream', 'seq', 'time'].map((name) => headers.get(name));
  if (!kind || !stream || !seq || !time) return refused('missing-header');
  const after = headers.get('after');
  if (isDirect && !after) return refused('missing-header');
  if (DECIMALS.some((name) => !isDecimal(headers.get(name) ?? '0')) || seq === '0') return refused('bad-decimal');
  const isWrong = (name: string, shape: RegExp) => headers.has(name) && !shape.test(headers.get(name) ?? '');
  if (SHAPES.some(([name, shape]) => isWrong(name, shape))) return refused('bad-value');
  if (isWrong('seen', isDirect ? SEEN_DIRECT : SEEN_BROADCAST)) return refused('bad-value');
  const [part = 1, parts = 1] = headers.get('part')?.split('/').map(Number) ?? [];
  if (part < 1 || part > parts) return refused('bad-value');
  const number = (text: string | undefined) => (text === undefined ? undefined : Number(text));
  const seen = (headers.get('seen')?.split(',') ?? []).map((receipt) => {
    const [of = '', broadcasts, directs] = receipt.split(' ');
    return { stream: of, broadcasts: Number(broadcasts), directs: number(directs) };
  });
  return accepted({ ...frame, kind, stream, seq: Number(seq), time: Number(time), after: number(after), seen });
}

/**
 * A message, or why it is not believed. One to everybody takes the room key and `sign` of its sender's card; one to us
 * takes the direct key, which itself says who sent it.
 */
export async function openMessage(key: CryptoKey, aad: Bytes, box: Sealed, sign?: string): Promise<Outcome<Message>> {
  const frame = await openFrame(key, aad, box);
  if (!frame.ok) return frame;
  const signed = sign === undefined || (await checkSignature(sign, aad, frame.value));
  return signed === true || signed.ok ? checkMessage(frame.value, sign === undefined) : signed;
}

// ---- keys on P-256: ECDH (SEC 1, 3.3.1) and ECDSA with SHA-256 (SEC 1, 4.1), public in one fixed SPKI form (RFC 5480) ----

const ECDH = { name: 'ECDH', namedCurve: 'P-256' };
const ECDSA = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
/** id-ecPublicKey, prime256v1, and the 04 of an uncompressed point. */
const SPKI_START = 'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE';

/** Only the form: whether the point is on the curve shows at the first use. */
export const isPublicKey = (text: string): boolean =>
  text.length === 124 && text.startsWith(SPKI_START) && fromBase64(text) !== null;

/** The private halves, and the public ones as in a card. */
export type Keys = { readonly ecdh: CryptoKey; readonly ecdsa: CryptoKey; readonly pub: string; readonly sign: string };

/** The private halves can't be exported, unless that is asked for. */
export async function makeKeys(isExtractable = false): Promise<Keys> {
  const ecdh = await subtle.generateKey(ECDH, isExtractable, ['deriveBits']);
  const ecdsa = await subtle.generateKey(ECDSA, isExtractable, ['sign', 'verify']);
  const spki = async (key: CryptoKey) => toBase64(bytesOf(await subtle.exportKey('spki', key)));
  const publics = { pub: await spki(ecdh.publicKey), sign: await spki(ecdsa.publicKey) };
  return { ecdh: ecdh.privateKey, ecdsa: ecdsa.privateKey, ...publics };
}

/** Null if the form is wrong or the point is not on the curve (SEC 1, 3.2.2.1). */
async function importPublicKey(text: string, algorithm: typeof ECDH, usages: KeyUsage[]): Promise<CryptoKey | null> {
  const bytes = isPublicKey(text) ? fromBase64(text) : null;
  return bytes && subtle.importKey('spki', bytes, algorithm, true, usages).catch(() => null);
}

/** The shared x-coordinate: 64 hex, leading zeros kept; or bad-key. */
export async function sharedX(ecdh: CryptoKey, pub: string): Promise<Outcome<string>> {
  const theirs = await importPublicKey(pub, ECDH, []);
  if (!theirs) return refused('bad-key');
  const bits = await subtle.deriveBits({ name: 'ECDH', public: theirs }, ecdh, 256);
  return accepted(toHex(bytesOf(bits)));
}

/** The AES key of the owner of `ecdh` and the owner of `pub`; or bad-key. */
export async function directKey(k: string, ecdh: CryptoKey, pub: string): Promise<Outcome<CryptoKey>> {
  const x = await sharedX(ecdh, pub);
  return x.ok ? accepted(await aesKey(directPassphrase(k, x.value))) : x;
}

/** What a broadcast's signature is over; `unsigned` is the frame without its signature line. */
const signedBytes = (aad: Bytes, unsigned: Bytes): Bytes => concat(aad, encode('\n\n'), unsigned);

/** A frame of these headers with its signature as the last one. Throws as makeFrame does. */
export async function signFrame(ecdsa: CryptoKey, aad: Bytes, headers: Headers, body?: Uint8Array): Promise<Bytes> {
  const raw = bytesOf(await subtle.sign(ECDSA, ecdsa, signedBytes(aad, makeFrame(headers, body))));
  return makeFrame({ ...headers, signature: toBase64(rawToDer(raw)) }, body);
}

/** unsigned, bad-signature, or that the owner of `sign` said this here. Never compare signatures with each other. */
export async function checkSignature(sign: string, aad: Bytes, frame: Frame): Promise<Outcome<true>> {
  if (frame.signature === undefined) return refused('unsigned');
  const raw = derToRaw(fromBase64(frame.signature) ?? new Uint8Array());
  const key = await importPublicKey(sign, ECDSA, ['verify']);
  if (!raw || !key) return refused('bad-signature');
  const isGenuine = await subtle.verify(ECDSA, key, raw, signedBytes(aad, frame.unsigned));
  return isGenuine ? accepted(true) : refused('bad-signature');
}

// ---- cards ----

export type Card = {
  readonly kind: 'agent' | 'human';
  readonly name: string;
  readonly pub: string;
  readonly sign: string;
};

/** The frame of a card. */
export function makeCard({ kind, name, pub, sign }: Card): Bytes {
  expect(isName(name), 'a name');
  expect(isPublicKey(pub) && isPublicKey(sign), 'two public keys');
  return makeFrame({ kind, name, pub, sign });
}

/** What the participant `from` says of itself; or missing-header, bad-name, bad-value, bad-key, wrong-id. */
export async function checkCard(k: string, from: string, { headers }: Frame): Promise<Outcome<Card>> {
  const [kind, name, pub, sign] = ['kind', 'name', 'pub', 'sign'].map((header) => headers.get(header));
  if (!kind || !name || !pub || !sign) return refused('missing-header');
  if (!isName(name)) return refused('bad-name');
  if (kind !== 'agent' && kind !== 'human') return refused('bad-value');
  if (!isPublicKey(pub) || !isPublicKey(sign)) return refused('bad-key');
  if ((await participantOf(k, name)) !== from) return refused('wrong-id');
  return accepted({ kind, name, pub, sign });
}

/** The card that came under the id `from`; or why it is not believed. */
export async function openCard(
  k: string,
  room: CryptoKey,
  channel: string,
  from: string,
  sealed: Sealed,
): Promise<Outcome<Card>> {
  const frame = await openFrame(room, additionalData(channel, from, EVERYBODY, 'card'), sealed);
  return frame.ok ? checkCard(k, from, frame.value) : frame;
}
