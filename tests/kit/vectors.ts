/**
 * Holds an implementation of agentalk/1 to tests/vectors/, and to node:crypto, which shares no code with ours. Each
 * implementation is plugged in by a Driver: sdk/protocol.ts in protocol.test.ts, the shell client in a test of its own.
 */
import assert from 'node:assert/strict';
import { createCipheriv, createDecipheriv, createHash, randomBytes, sign, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Card, Outcome, Sealed } from '../../sdk/protocol.ts';
import { ROOT } from './root.ts';

/** Results may come at once or later. Bytes are Buffers or Uint8Arrays; additional data is ASCII. */
type Later<T> = T | Promise<T>;

export interface ParsedFrame {
  /** Those of docs/protocol.md but `signature`; a header that is not named there may be left out. */
  readonly headers: Readonly<Record<string, string>>;
  readonly signature?: string | undefined;
  readonly body: Uint8Array;
  /** The frame without its signature line. */
  readonly unsigned: Uint8Array;
}

/** What an implementation has to be able to do. A driver leaves out what its implementation has no use for. */
export interface Driver {
  access(k: string): Later<string>;
  channel(access: string): Later<string>;
  participant(k: string, name: string): Later<string>;
  roomPassphrase(k: string): Later<string>;
  additionalData(channel: string, from: string, to: string, type: 'card' | 'message'): Later<string>;
  isName(text: string): Later<boolean>;
  isDecimal(text: string): Later<boolean>;
  parseFrame(frame: Uint8Array): Later<Outcome<ParsedFrame>>;
  /** Takes the frame apart and checks what a message has to say. */
  checkMessage(frame: Uint8Array, isDirect: boolean): Later<Outcome<unknown>>;
  seal(passphrase: string, aad: string, plaintext: Uint8Array): Later<Sealed>;
  open(passphrase: string, aad: string, sealed: Sealed): Later<Outcome<Uint8Array>>;
  openCard(k: string, channel: string, from: string, sealed: Sealed): Later<Outcome<Card>>;
  /** The signature, base64, that the owner of a PKCS #8 PEM puts under a frame that has none yet. */
  sign(privatePem: string, aad: string, unsigned: Uint8Array): Later<string>;
  /** Takes the frame apart and checks its signature against the public key `sign` of a card. */
  checkBroadcast(sign: string, aad: string, frame: Uint8Array): Later<Outcome<unknown>>;
  /** The shared x-coordinate, 64 hex. */
  sharedX(privatePem: string, pub: string): Later<Outcome<string>>;
  directPassphrase(k: string, x: string): Later<string>;
}

// ---- the files: scripts/vectors.mjs writes them ----

type About = { readonly about: string };
type Bad<T> = About & { readonly reason: string } & T;
type WithFrame = { readonly frame: string };
type WithSeal = Sealed & { readonly passphrase: string; readonly aad: string };
type WithCard = { readonly from: string; readonly sealed: Sealed };
type End = { readonly private: string; readonly pub: string };
type Destined = WithFrame & { readonly to: 'one' | 'everybody' };

export interface Vectors {
  derivations: {
    channels: {
      k: string;
      access: string;
      channel: string;
      room: { passphrase: string; aes: string };
      participants: { name: string; id: string }[];
    }[];
    additional_data: { channel: string; from: string; to: string; type: 'card' | 'message'; aad: string }[];
    names: { good: string[]; bad: string[] };
    decimals: { good: string[]; bad: string[] };
  };
  frames: {
    good: (About &
      WithFrame & { headers: Record<string, string>; signature?: string; body: string; unsigned?: string })[];
    bad: Bad<WithFrame>[];
  };
  messages: {
    good: (About &
      Destined & {
        kind: string;
        stream: string;
        seq: number;
        time: number;
        after?: number;
        seen?: { stream: string; broadcasts: number; directs?: number }[];
      })[];
    bad: Bad<Destined>[];
  };
  seals: { good: (About & WithSeal & { plaintext: string })[]; bad: Bad<WithSeal>[] };
  cards: { k: string; channel: string; good: (About & WithCard & { card: Card })[]; bad: Bad<WithCard>[] };
  broadcasts: {
    aad: string;
    sign: string;
    private: string;
    good: (About & WithFrame)[];
    bad: Bad<WithFrame>[];
  };
  directs: {
    k: string;
    private: string;
    good: (About & { a: End; b: End; x: string; passphrase: string; aes: string })[];
    bad: Bad<{ pub: string }>[];
  };
}

export const vectors = <Name extends keyof Vectors>(name: Name): Vectors[Name] =>
  JSON.parse(readFileSync(join(ROOT, 'tests', 'vectors', `${name}.json`), 'utf8')) as Vectors[Name];

/** In the vectors each character of a frame is one byte. */
export const latin1 = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.from(text, 'latin1'));

// ---- the tests ----

const refusedFor = (reason: string) => ({ ok: false, reason });

/** What must be right, and what was refused instead. */
function right<T>(outcome: Outcome<T>): T {
  assert.ok(outcome.ok, outcome.ok ? '' : `refused for ${outcome.reason}`);
  return outcome.value;
}

/** Every vector, a test each. */
export function heldToVectors(name: string, driver: Driver): void {
  describe(`${name}: derivations`, () => {
    const { channels, additional_data, names, decimals } = vectors('derivations');
    for (const { k, access, channel, room, participants } of channels) {
      test(`key ${k.slice(0, 8)}…`, async () => {
        assert.equal(await driver.access(k), access);
        assert.equal(await driver.channel(access), channel);
        assert.equal(await driver.roomPassphrase(k), room.passphrase);
        for (const { name, id } of participants) assert.equal(await driver.participant(k, name), id, name);
        const sealed = await driver.seal(room.passphrase, 'aad', latin1('x'));
        assert.equal(opened(Buffer.from(room.aes, 'hex'), 'aad', sealed).toString(), 'x');
      });
    }
    for (const { channel, from, to, type, aad } of additional_data) {
      test(`additional data of a ${type} to ${to.slice(0, 4)}`, async () => {
        assert.equal(await driver.additionalData(channel, from, to, type), aad);
      });
    }
    test('names', async () => {
      for (const text of names.good) assert.equal(await driver.isName(text), true, JSON.stringify(text));
      for (const text of names.bad) assert.equal(await driver.isName(text), false, JSON.stringify(text));
    });
    test('decimals', async () => {
      for (const text of decimals.good) assert.equal(await driver.isDecimal(text), true, JSON.stringify(text));
      for (const text of decimals.bad) assert.equal(await driver.isDecimal(text), false, JSON.stringify(text));
    });
  });

  describe(`${name}: frames`, () => {
    const { good, bad } = vectors('frames');
    for (const { about, frame, headers, signature, body, unsigned } of good) {
      test(about, async () => {
        const parsed = right(await driver.parseFrame(latin1(frame)));
        assert.deepEqual({ ...parsed.headers }, headers);
        assert.equal(parsed.signature, signature);
        assert.equal(Buffer.from(parsed.body).toString('latin1'), body);
        assert.equal(Buffer.from(parsed.unsigned).toString('latin1'), unsigned ?? frame);
      });
    }
    for (const { about, reason, frame } of bad) {
      test(`${reason}: ${about}`, async () => {
        assert.deepEqual(await driver.parseFrame(latin1(frame)), refusedFor(reason));
      });
    }
  });

  describe(`${name}: messages`, () => {
    const { good, bad } = vectors('messages');
    for (const { about, to, frame } of good) {
      test(about, async () => void right(await driver.checkMessage(latin1(frame), to === 'one')));
    }
    for (const { about, reason, to, frame } of bad) {
      test(`${reason}: ${about}`, async () => {
        assert.deepEqual(await driver.checkMessage(latin1(frame), to === 'one'), refusedFor(reason));
      });
    }
  });

  describe(`${name}: seals`, () => {
    const { good, bad } = vectors('seals');
    for (const { about, passphrase, aad, plaintext, ...sealed } of good) {
      test(about, async () => {
        const bytes = right(await driver.open(passphrase, aad, sealed));
        assert.equal(Buffer.from(bytes).toString('latin1'), plaintext);
      });
    }
    for (const { about, reason, passphrase, aad, ...sealed } of bad) {
      test(`${reason}: ${about}`, async () => {
        assert.deepEqual(await driver.open(passphrase, aad, sealed), refusedFor(reason));
      });
    }
  });

  describe(`${name}: cards`, () => {
    const { k, channel, good, bad } = vectors('cards');
    for (const { about, from, sealed, card } of good) {
      test(about, async () => assert.deepEqual(right(await driver.openCard(k, channel, from, sealed)), card));
    }
    for (const { about, reason, from, sealed } of bad) {
      test(`${reason}: ${about}`, async () => {
        assert.deepEqual(await driver.openCard(k, channel, from, sealed), refusedFor(reason));
      });
    }
  });

  describe(`${name}: broadcasts`, () => {
    const { aad, sign, private: pem, good, bad } = vectors('broadcasts');
    for (const { about, frame } of good) {
      test(about, async () => void right(await driver.checkBroadcast(sign, aad, latin1(frame))));
    }
    for (const { about, reason, frame } of bad) {
      test(`${reason}: ${about}`, async () => {
        assert.deepEqual(await driver.checkBroadcast(sign, aad, latin1(frame)), refusedFor(reason));
      });
    }
    test('what it signs, node:crypto verifies', async () => {
      const key = { key: Buffer.from(sign, 'base64'), type: 'spki', format: 'der' } as const;
      for (const body of ['', 'a text\n', '\0\xff\n\n']) {
        const unsigned = latin1(`kind: text\n\n${body}`);
        const signature = Buffer.from(await driver.sign(pem, aad, unsigned), 'base64');
        assert.ok(verify('sha256', Buffer.concat([Buffer.from(`${aad}\n\n`), unsigned]), key, signature));
      }
    });
    test('what node:crypto signs, it verifies', async () => {
      // Often enough that r or s comes short, or with and without a byte of padding.
      for (let i = 0; i < 24; i++) {
        const unsigned = `kind: text\n\n${i}`;
        const signature = node.sign(pem, `${aad}\n\n${unsigned}`);
        const frame = latin1(unsigned.replace('\n\n', `\nsignature: ${signature}\n\n`));
        right(await driver.checkBroadcast(sign, aad, frame));
      }
    });
  });

  describe(`${name}: direct keys`, () => {
    const { k, private: pem, good, bad } = vectors('directs');
    for (const { about, a, b, x, passphrase, aes } of good) {
      test(about, async () => {
        assert.equal(right(await driver.sharedX(a.private, b.pub)), x);
        assert.equal(right(await driver.sharedX(b.private, a.pub)), x);
        assert.equal(await driver.directPassphrase(k, x), passphrase);
        assert.equal(createHash('sha256').update(passphrase).digest('hex'), aes);
      });
    }
    for (const { about, reason, pub } of bad) {
      test(`${reason}: ${about}`, async () => {
        assert.deepEqual(await driver.sharedX(pem, pub), refusedFor(reason));
      });
    }
  });
}

/** An AES-256-GCM and an ECDSA that are not ours. */
const node = {
  sign: (pem: string, data: string) => sign('sha256', Buffer.from(data, 'latin1'), pem).toString('base64'),
};

function sealedBy(key: Buffer, aad: string, plaintext: Uint8Array): Sealed {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(Buffer.from(aad));
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]).toString('base64');
  return { nonce: nonce.toString('hex'), ciphertext, tag: cipher.getAuthTag().toString('hex') };
}

function opened(key: Buffer, aad: string, { nonce, ciphertext, tag }: Sealed): Buffer {
  assert.match(`${nonce} ${tag}`, /^[0-9a-f]{24} [0-9a-f]{32}$/);
  const bytes = Buffer.from(ciphertext, 'base64');
  assert.equal(bytes.toString('base64'), ciphertext, 'canonical base64');
  const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(nonce, 'hex'));
  decipher.setAAD(Buffer.from(aad));
  decipher.setAuthTag(Buffer.from(tag, 'hex'));
  return Buffer.concat([decipher.update(bytes), decipher.final()]);
}

const span = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
/** Bytes: 1 to 70, and around each power of two to 128 KiB. A sealed thing is never empty. */
export const LENGTHS: readonly number[] = [
  ...span(1, 70),
  ...span(7, 17).flatMap((power) => span(2 ** power - 1, 2 ** power + 1)),
];
const LONG = 'additional data, '.repeat(70);

/** Random plaintexts of many lengths, both ways between the implementation and node:crypto. */
export function interoperates(name: string, driver: Driver, lengths: readonly number[] = LENGTHS): void {
  describe(`${name} and node:crypto`, () => {
    for (const [what, aad] of [
      ['no additional data', ''],
      ['as in the protocol', vectors('broadcasts').aad],
      ['1190 bytes of it', LONG],
    ] as const) {
      test(`seal and open, ${what}`, async () => {
        const passphrase = `agentalk/1 room ${randomBytes(32).toString('hex')}`;
        const key = createHash('sha256').update(passphrase).digest();
        for (const length of lengths) {
          const plaintext = randomBytes(length);
          const theirs = sealedBy(key, aad, plaintext);
          const bytes = right(await driver.open(passphrase, aad, theirs));
          assert.ok(plaintext.equals(bytes), `opened ${length} bytes`);
          const ours = await driver.seal(passphrase, aad, plaintext);
          assert.ok(plaintext.equals(opened(key, aad, ours)), `sealed ${length} bytes`);
          assert.notEqual(ours.nonce, theirs.nonce);
        }
      });
    }
    test('what is empty is not opened', async () => {
      const key = createHash('sha256').update('empty').digest();
      const nothing = sealedBy(key, '', new Uint8Array());
      assert.deepEqual(await driver.open('empty', '', nothing), refusedFor('bad-base64'));
    });
  });
}
