/**
 * Checks an implementation of agentalk/1 against tests/vectors/ (its README has the format) and against node:crypto. An
 * implementation is plugged in as a Driver: sdk/protocol.ts in protocol.test.ts, the others in tests of their own.
 */
import assert from 'node:assert/strict';
import { createCipheriv, createDecipheriv, createHash, createPublicKey, randomBytes, sign, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ROOT } from './root.ts';

/** Results may come at once or later. Bytes are Buffers or Uint8Arrays; additional data is ASCII. */
type Awaitable<T> = T | Promise<T>;
/** As in sdk/protocol.ts, but an implementation may have its own type for reasons. */
export type Outcome<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reason: string };

export type Sealed = { readonly nonce: string; readonly ciphertext: string; readonly tag: string };
export type Card = { readonly kind: string; readonly name: string; readonly pub: string; readonly sign: string };
/** The own end of a direct key: a private key as PEM. */
export type OwnEnd = { readonly private: string; readonly pub: string; readonly sid: string };
export type Peer = { readonly pub: string; readonly sid: string };
export type Signer = { readonly sign: string; readonly sid: string };

export interface ParsedFrame {
  /** Those of docs/protocol.md but `signature`; a header that is not named there may be left out. */
  readonly headers: Readonly<Record<string, string>>;
  readonly signature?: string | undefined;
  readonly body: Uint8Array;
  /** The frame without its signature line. */
  readonly unsigned: Uint8Array;
}

/** In the form of messages.json: what a header does not say is left out. */
export interface CheckedMessage {
  readonly kind: string;
  readonly seq: number | null;
  readonly time: number;
  readonly sent?: readonly number[];
  readonly received?: readonly number[];
  readonly seen: readonly (readonly [session: string, mark: number, skipped: number, left: boolean])[];
  readonly stored?: readonly number[];
  readonly reach?: string;
  readonly file?: { readonly name: string; readonly size: number; readonly sha256: string };
}

/** What an implementation must be able to do. */
export interface Driver {
  /** Where it tells fewer reasons apart than the vectors: its own word for a case's id, a file's cases (`cards/*`), or a reason. */
  readonly coarseReasons?: Readonly<Record<string, string>>;
  deriveAccessToken(k: string): Awaitable<string>;
  deriveChannelId(access: string): Awaitable<string>;
  deriveParticipantId(k: string, name: string): Awaitable<string>;
  deriveSessionId(k: string, card: Card): Awaitable<string>;
  broadcastPassphrase(k: string): Awaitable<string>;
  directPassphrase(k: string, sidA: string, sidB: string, x: string): Awaitable<string>;
  filePassphrase(f: string): Awaitable<string>;
  additionalData(channel: string, from: string, to: string, type: 'card' | 'message'): Awaitable<string>;
  /** Of a participant; or bad-name, reserved-name. */
  checkName(name: string): Awaitable<Outcome<unknown>>;
  isDecimal(text: string): Awaitable<boolean>;
  /** A file name in the form of the header `name`. */
  encodeFileName(name: string): Awaitable<string>;
  decodeFileName(encoded: string): Awaitable<Outcome<string>>;
  parseFrame(frame: Uint8Array): Awaitable<Outcome<ParsedFrame>>;
  /** Parses the frame and checks it as a message. */
  checkMessage(frame: Uint8Array, isDirect: boolean): Awaitable<Outcome<CheckedMessage>>;
  /** Parses the frame; the number that it consumes, or null. */
  sequenceOf(frame: Uint8Array): Awaitable<number | null>;
  seal(passphrase: string, aad: string, plaintext: Uint8Array): Awaitable<Sealed>;
  unseal(passphrase: string, aad: string, sealed: Sealed): Awaitable<Outcome<Uint8Array>>;
  unsealCard(
    k: string,
    channel: string,
    from: string,
    ownId: string,
    sealed: Sealed,
  ): Awaitable<Outcome<{ readonly card: Card; readonly sid: string }>>;
  /** The signature, base64, that the session `sid` puts under a frame that has none yet. */
  sign(privatePem: string, sid: string, aad: string, unsigned: Uint8Array): Awaitable<string>;
  /** Parses the frame and checks its signature. */
  verifySignature(session: Signer, aad: string, frame: Uint8Array): Awaitable<Outcome<unknown>>;
  /** The shared x-coordinate, 64 hex. */
  sharedX(privatePem: string, pub: string): Awaitable<Outcome<string>>;
  /** Opens a direct message that `sender` may have sent; the frame's bytes. */
  unsealDirect(k: string, own: OwnEnd, sender: Peer, aad: string, sealed: Sealed): Awaitable<Outcome<Uint8Array>>;
  encryptPiece(f: string, index: number, plaintext: Uint8Array): Awaitable<Uint8Array>;
  /** Checks length and SHA-256 of a piece and decrypts it. `size` is that of the file. */
  decryptPiece(
    f: string,
    index: number,
    size: number,
    sha256: string,
    ciphertext: Uint8Array,
  ): Awaitable<Outcome<Uint8Array>>;
  parseFileBody(
    body: Uint8Array,
    size: number,
  ): Awaitable<Outcome<{ readonly f: string; readonly pieces: readonly string[] }>>;
  parseWantBody(body: Uint8Array): Awaitable<Outcome<readonly string[]>>;
}

// ---- the files: scripts/vectors.mjs writes them ----

type Case = { readonly id: string; readonly comment: string };
type Accepted<T> = readonly (Case & T)[];
type Rejected<T> = readonly (Case & { readonly reason: string } & T)[];
type Lists<Input, Output> = { readonly accept: Accepted<Input & Output>; readonly reject: Rejected<Input> };
type Passphrase = { readonly passphrase: string; readonly aes: string };
type Frame = { readonly frame: string };
type Piece = { readonly f: string; readonly index: number; readonly size: number; readonly sha256: string };

export interface Vectors {
  readonly derivations: {
    readonly channels: Accepted<{
      k: string;
      access: string;
      channel: string;
      room: Passphrase;
      participants: readonly { name: string; id: string }[];
    }>;
    readonly sessions: Accepted<{ k: string; card: Card; sid: string }>;
    readonly files: Accepted<{ f: string } & Passphrase>;
    readonly additional_data: Accepted<{
      channel: string;
      from: string;
      to: string;
      type: 'card' | 'message';
      aad: string;
    }>;
  };
  readonly names: {
    readonly participants: Lists<{ name: string }, unknown>;
    readonly files: Lists<{ encoded: string }, { name: string }> & {
      readonly encode: Accepted<{ name: string; encoded: string }>;
    };
  };
  readonly frames: Lists<
    Frame,
    { headers: Record<string, string>; signature?: string; body: string; unsigned?: string }
  >;
  readonly messages: {
    readonly decimals: Lists<{ text: string }, unknown>;
    readonly accept: Accepted<Frame & { direct: boolean; message: CheckedMessage }>;
    readonly reject: Rejected<Frame & { direct: boolean; seq: number | null }>;
  };
  readonly seals: Lists<{ passphrase: string; aad: string; sealed: Sealed }, { plaintext: string }>;
  readonly cards: { readonly k: string; readonly channel: string; readonly own_id: string } & Lists<
    { from: string; sealed: Sealed },
    { card: Card; sid: string }
  >;
  readonly broadcasts: { readonly aad: string; readonly private: string } & Lists<Frame & { session: Signer }, unknown>;
  readonly directs: {
    readonly k: string;
    readonly own: OwnEnd;
    readonly keys: {
      readonly accept: Accepted<{ a: OwnEnd; b: OwnEnd; x: string } & Passphrase>;
      readonly reject: Rejected<{ pub: string }>;
    };
    readonly messages: Lists<{ sender: Peer; aad: string; sealed: Sealed }, Frame>;
  };
  readonly files: {
    readonly pieces: {
      readonly accept: Accepted<Piece & { plaintext?: string; fill?: number; ciphertext?: string }>;
      readonly reject: Rejected<Piece & { ciphertext: string }>;
    };
    readonly bodies: Lists<{ size: number; body: string }, { f: string; pieces: readonly string[] }>;
    readonly wants: Lists<{ body: string }, { pieces: readonly string[] }>;
  };
}

/** One file of vectors. Throws if its format is another one. */
export function readVectors<Name extends keyof Vectors>(name: Name): Vectors[Name] {
  const path = join(ROOT, 'tests', 'vectors', `${name}.json`);
  const vectors = JSON.parse(readFileSync(path, 'utf8')) as Vectors[Name] & { protocol: string; format: number };
  assert.deepEqual([vectors.protocol, vectors.format], ['agentalk/1', 1], name);
  return vectors;
}

/** In the vectors each character of a string of bytes is one byte. */
export const latin1 = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.from(text, 'latin1'));
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const sha256 = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex');

// ---- the tests ----

const rejectedFor = (reason: string) => ({ ok: false, reason });

/** The value of what must be accepted. */
function accepted<T>(outcome: Outcome<T>): T {
  assert.ok(outcome.ok, outcome.ok ? '' : `rejected: ${outcome.reason}`);
  return outcome.value;
}

/** A test for each case. */
function accepts<C extends Case>(cases: readonly C[], check: (each: C) => Promise<void>): void {
  for (const each of cases) test(each.id, () => check(each));
}
function rejects<C extends Case & { readonly reason: string }>(
  { coarseReasons = {} }: Driver,
  cases: readonly C[],
  attempt: (each: C) => Awaitable<Outcome<unknown>>,
): void {
  for (const each of cases) {
    test(`${each.id}: ${each.reason}`, async () => {
      assert.deepEqual(
        await attempt(each),
        rejectedFor(
          coarseReasons[each.id] ??
            coarseReasons[`${each.id.split('/')[0]}/*`] ??
            coarseReasons[each.reason] ??
            each.reason,
        ),
      );
    });
  }
}

/** Every case of every file, a test each. */
export function runVectors(name: string, driver: Driver): void {
  describe(`${name}: derivations`, () => {
    const { channels, sessions, files, additional_data } = readVectors('derivations');
    accepts(channels, async ({ k, access, channel, room, participants }) => {
      assert.equal(await driver.deriveAccessToken(k), access);
      assert.equal(await driver.deriveChannelId(access), channel);
      assert.equal(await driver.broadcastPassphrase(k), room.passphrase);
      assert.equal(sha256(room.passphrase), room.aes);
      for (const { name, id } of participants) assert.equal(await driver.deriveParticipantId(k, name), id, name);
      const sealed = await driver.seal(room.passphrase, 'aad', latin1('x'));
      assert.equal(unsealWithNode(Buffer.from(room.aes, 'hex'), 'aad', sealed).toString(), 'x');
    });
    accepts(sessions, async ({ k, card, sid }) => assert.equal(await driver.deriveSessionId(k, card), sid));
    accepts(files, async ({ f, passphrase, aes }) => {
      assert.equal(await driver.filePassphrase(f), passphrase);
      assert.equal(sha256(passphrase), aes);
    });
    accepts(additional_data, async ({ channel, from, to, type, aad }) => {
      assert.equal(await driver.additionalData(channel, from, to, type), aad);
    });
  });

  describe(`${name}: names`, () => {
    const { participants, files } = readVectors('names');
    accepts(participants.accept, async (each) => void accepted(await driver.checkName(each.name)));
    rejects(driver, participants.reject, (each) => driver.checkName(each.name));
    accepts(files.accept, async (each) => {
      assert.equal(accepted(await driver.decodeFileName(each.encoded)), each.name);
    });
    rejects(driver, files.reject, ({ encoded }) => driver.decodeFileName(encoded));
    accepts(files.encode, async (each) => assert.equal(await driver.encodeFileName(each.name), each.encoded));
  });

  describe(`${name}: frames`, () => {
    const { accept, reject } = readVectors('frames');
    accepts(accept, async ({ frame, headers, signature, body, unsigned }) => {
      const parsed = accepted(await driver.parseFrame(latin1(frame)));
      assert.deepEqual({ ...parsed.headers }, headers);
      assert.equal(parsed.signature, signature);
      assert.equal(text(parsed.body), body);
      assert.equal(text(parsed.unsigned), unsigned ?? frame);
    });
    rejects(driver, reject, ({ frame }) => driver.parseFrame(latin1(frame)));
  });

  describe(`${name}: messages`, () => {
    const { decimals, accept, reject } = readVectors('messages');
    accepts(decimals.accept, async (each) => assert.equal(await driver.isDecimal(each.text), true));
    accepts(decimals.reject, async (each) => assert.equal(await driver.isDecimal(each.text), false));
    accepts(accept, async ({ frame, direct, message }) => {
      assert.deepEqual(accepted(await driver.checkMessage(latin1(frame), direct)), message);
    });
    rejects(driver, reject, ({ frame, direct }) => driver.checkMessage(latin1(frame), direct));
    test('a rejected frame consumes its number if that is valid', async () => {
      for (const { id, frame, seq } of reject) assert.equal(await driver.sequenceOf(latin1(frame)), seq, id);
    });
  });

  describe(`${name}: seals`, () => {
    const { accept, reject } = readVectors('seals');
    accepts(accept, async ({ passphrase, aad, plaintext, sealed }) => {
      assert.equal(text(accepted(await driver.unseal(passphrase, aad, sealed))), plaintext);
    });
    rejects(driver, reject, ({ passphrase, aad, sealed }) => driver.unseal(passphrase, aad, sealed));
  });

  describe(`${name}: cards`, () => {
    const { k, channel, own_id: ownId, accept, reject } = readVectors('cards');
    accepts(accept, async ({ from, sealed, card, sid }) => {
      const { card: found, sid: foundSid } = accepted(await driver.unsealCard(k, channel, from, ownId, sealed));
      assert.deepEqual({ card: found, sid: foundSid }, { card, sid });
    });
    rejects(driver, reject, ({ from, sealed }) => driver.unsealCard(k, channel, from, ownId, sealed));
  });

  describe(`${name}: broadcasts`, () => {
    const { aad, private: pem, accept, reject } = readVectors('broadcasts');
    accepts(accept, async ({ session, frame }) => {
      accepted(await driver.verifySignature(session, aad, latin1(frame)));
    });
    rejects(driver, reject, ({ session, frame }) => driver.verifySignature(session, aad, latin1(frame)));
    const session = accept[0]?.session ?? assert.fail('no case');
    const signedBytes = (unsigned: string) => Buffer.from(`${aad}\n${session.sid}\n\n${unsigned}`, 'latin1');
    test('node:crypto verifies its signatures', async () => {
      for (const body of ['', 'a text\n', '\0\xff\n\n']) {
        const unsigned = `kind: text\n\n${body}`;
        const signature = await driver.sign(pem, session.sid, aad, latin1(unsigned));
        const isGenuine = verify(
          'sha256',
          signedBytes(unsigned),
          createPublicKey(pem),
          Buffer.from(signature, 'base64'),
        );
        assert.ok(isGenuine, JSON.stringify(body));
      }
    });
    test('it verifies signatures of node:crypto', async () => {
      // Often enough that r or s is short, or has a byte of padding.
      for (let i = 0; i < 24; i++) {
        const unsigned = `kind: text\n\n${i}`;
        const signature = sign('sha256', signedBytes(unsigned), pem).toString('base64');
        const frame = latin1(unsigned.replace('\n\n', `\nsignature: ${signature}\n\n`));
        accepted(await driver.verifySignature(session, aad, frame));
      }
    });
  });

  describe(`${name}: direct messages`, () => {
    const { k, own, keys, messages } = readVectors('directs');
    accepts(keys.accept, async ({ a, b, x, passphrase, aes }) => {
      assert.equal(accepted(await driver.sharedX(a.private, b.pub)), x);
      assert.equal(accepted(await driver.sharedX(b.private, a.pub)), x);
      assert.equal(await driver.directPassphrase(k, a.sid, b.sid, x), passphrase);
      assert.equal(await driver.directPassphrase(k, b.sid, a.sid, x), passphrase);
      assert.equal(sha256(passphrase), aes);
    });
    rejects(driver, keys.reject, ({ pub }) => driver.sharedX(own.private, pub));
    accepts(messages.accept, async ({ sender, aad, sealed, frame }) => {
      assert.equal(text(accepted(await driver.unsealDirect(k, own, sender, aad, sealed))), frame);
    });
    rejects(driver, messages.reject, ({ sender, aad, sealed }) => driver.unsealDirect(k, own, sender, aad, sealed));
  });

  describe(`${name}: files`, () => {
    const { pieces, bodies, wants } = readVectors('files');
    accepts(pieces.accept, async ({ f, index, size, plaintext, fill, ciphertext, sha256: digest }) => {
      const plain = plaintext === undefined ? new Uint8Array(1_048_576).fill(fill ?? 0) : latin1(plaintext);
      const encrypted = await driver.encryptPiece(f, index, plain);
      if (ciphertext !== undefined) assert.equal(hex(encrypted), ciphertext);
      assert.equal(sha256(encrypted), digest);
      const decrypted = accepted(await driver.decryptPiece(f, index, size, digest, Uint8Array.from(encrypted)));
      assert.ok(Buffer.from(decrypted).equals(plain));
    });
    rejects(driver, pieces.reject, ({ f, index, size, ciphertext, sha256: digest }) =>
      driver.decryptPiece(f, index, size, digest, Uint8Array.from(Buffer.from(ciphertext, 'hex'))),
    );
    accepts(bodies.accept, async ({ size, body, f, pieces: hashes }) => {
      assert.deepEqual(accepted(await driver.parseFileBody(latin1(body), size)), { f, pieces: hashes });
    });
    rejects(driver, bodies.reject, ({ size, body }) => driver.parseFileBody(latin1(body), size));
    accepts(wants.accept, async ({ body, pieces: hashes }) => {
      assert.deepEqual(accepted(await driver.parseWantBody(latin1(body))), hashes);
    });
    rejects(driver, wants.reject, ({ body }) => driver.parseWantBody(latin1(body)));
  });
}

// ---- AES-256-GCM of node:crypto ----

function sealWithNode(key: Buffer, aad: string, plaintext: Uint8Array): Sealed {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(Buffer.from(aad));
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]).toString('base64');
  return { nonce: nonce.toString('hex'), ciphertext, tag: cipher.getAuthTag().toString('hex') };
}

function unsealWithNode(key: Buffer, aad: string, { nonce, ciphertext, tag }: Sealed): Buffer {
  assert.match(`${nonce} ${tag}`, /^[0-9a-f]{24} [0-9a-f]{32}$/);
  const bytes = Buffer.from(ciphertext, 'base64');
  assert.equal(bytes.toString('base64'), ciphertext, 'canonical base64');
  const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(nonce, 'hex'));
  decipher.setAAD(Buffer.from(aad));
  decipher.setAuthTag(Buffer.from(tag, 'hex'));
  return Buffer.concat([decipher.update(bytes), decipher.final()]);
}

const range = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i);
/** Bytes: 1 to 70, and around each power of two to 128 KiB. A plaintext is never empty. */
export const LENGTHS: readonly number[] = [
  ...range(1, 70),
  ...range(7, 17).flatMap((power) => range(2 ** power - 1, 2 ** power + 1)),
];
const LONG = 'additional data, '.repeat(70);
/** With other additional data than the protocol's: each length of the last block, and those around 4 KiB and more. */
const isForAnyData = (length: number) => length <= 33 || length > 4000;

/** Seals random plaintexts of many lengths with the implementation and opens them with node:crypto, and back. */
export function runInterop(name: string, driver: Driver, lengths: readonly number[] = LENGTHS): void {
  describe(`${name} and node:crypto`, () => {
    for (const [what, aad, hasAllLengths] of [
      ['no additional data', '', false],
      ['that of the protocol', readVectors('broadcasts').aad, true],
      ['1190 bytes of it', LONG, false],
    ] as const) {
      test(`seal and unseal, ${what}`, async () => {
        const passphrase = `agentalk/1 room ${randomBytes(32).toString('hex')}`;
        const key = createHash('sha256').update(passphrase).digest();
        for (const length of hasAllLengths ? lengths : lengths.filter(isForAnyData)) {
          const plaintext = randomBytes(length);
          const theirs = sealWithNode(key, aad, plaintext);
          const bytes = accepted(await driver.unseal(passphrase, aad, theirs));
          assert.ok(plaintext.equals(bytes), `unsealed ${length} bytes`);
          const ours = await driver.seal(passphrase, aad, plaintext);
          assert.ok(plaintext.equals(unsealWithNode(key, aad, ours)), `sealed ${length} bytes`);
          assert.notEqual(ours.nonce, theirs.nonce);
        }
      });
    }
    test('rejects an empty ciphertext with a right tag', async () => {
      const key = createHash('sha256').update('empty').digest();
      const nothing = sealWithNode(key, '', new Uint8Array());
      assert.deepEqual(await driver.unseal('empty', '', nothing), rejectedFor('bad-base64'));
    });
  });
}
