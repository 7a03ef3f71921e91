/** sdk/protocol.ts against the vectors, node:crypto, and its own promises. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  createECDH,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  randomBytes,
} from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { concat, derToRaw, fromBase64, fromHex, rawToDer, toBase64, toHex } from '../sdk/bytes.ts';
import * as protocol from '../sdk/protocol.ts';
import { ROOT } from './kit/root.ts';
import { heldToVectors, interoperates, latin1, vectors } from './kit/vectors.ts';
import type { Driver } from './kit/vectors.ts';

const KNOWN = new Set(
  'kind stream seq time after seen re challenge answer name part size sha256 pub sign final'.split(' '),
);
const own = (bytes: Uint8Array) => Uint8Array.from(bytes);

async function privateKey(pem: string, name: 'ECDH' | 'ECDSA'): Promise<CryptoKey> {
  const der = own(Buffer.from(pem.replace(/-----[^\n]*\n|\n/g, ''), 'base64'));
  const usages: KeyUsage[] = name === 'ECDH' ? ['deriveBits'] : ['sign'];
  return crypto.subtle.importKey('pkcs8', der, { name, namedCurve: 'P-256' }, false, usages);
}

const driver: Driver = {
  access: protocol.accessOf,
  channel: protocol.channelOf,
  participant: protocol.participantOf,
  roomPassphrase: protocol.roomPassphrase,
  additionalData: (...where) => Buffer.from(protocol.additionalData(...where)).toString(),
  isName: protocol.isName,
  isDecimal: protocol.isDecimal,
  parseFrame(bytes) {
    const frame = protocol.parseFrame(own(bytes));
    if (!frame.ok) return frame;
    const headers = Object.fromEntries([...frame.value.headers].filter(([name]) => KNOWN.has(name)));
    return { ok: true, value: { ...frame.value, headers } };
  },
  checkMessage(bytes, isDirect) {
    const frame = protocol.parseFrame(own(bytes));
    return frame.ok ? protocol.checkMessage(frame.value, isDirect) : frame;
  },
  async seal(passphrase, aad, plaintext) {
    return protocol.seal(await protocol.aesKey(passphrase), latin1(aad), own(plaintext));
  },
  async open(passphrase, aad, sealed) {
    return protocol.open(await protocol.aesKey(passphrase), latin1(aad), sealed);
  },
  async openCard(k, channel, from, sealed) {
    return protocol.openCard(k, await protocol.aesKey(protocol.roomPassphrase(k)), channel, from, sealed);
  },
  async sign(pem, aad, unsigned) {
    const frame = protocol.parseFrame(own(unsigned));
    assert.ok(frame.ok);
    const { headers, body } = frame.value;
    const key = await privateKey(pem, 'ECDSA');
    const signed = protocol.parseFrame(await protocol.signFrame(key, latin1(aad), Object.fromEntries(headers), body));
    assert.ok(signed.ok && Buffer.from(signed.value.unsigned).equals(unsigned));
    return signed.value.signature ?? '';
  },
  async checkBroadcast(sign, aad, bytes) {
    const frame = protocol.parseFrame(own(bytes));
    return frame.ok ? protocol.checkSignature(sign, latin1(aad), frame.value) : frame;
  },
  async sharedX(pem, pub) {
    return protocol.sharedX(await privateKey(pem, 'ECDH'), pub);
  },
  directPassphrase: protocol.directPassphrase,
};

heldToVectors('protocol.ts', driver);
interoperates('protocol.ts', driver);

test('the vectors are those that scripts/vectors.mjs makes', () => {
  const folder = mkdtempSync(join(tmpdir(), 'agentalk-vectors-'));
  try {
    execFileSync(process.execPath, [join(ROOT, 'scripts', 'vectors.mjs'), folder]);
    const kept = join(ROOT, 'tests', 'vectors');
    assert.deepEqual(readdirSync(folder).sort(), readdirSync(kept).sort());
    for (const name of readdirSync(folder)) {
      assert.equal(readFileSync(join(folder, name), 'utf8'), readFileSync(join(kept, name), 'utf8'), name);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the vectors have each reason, and a shared x with a leading zero', () => {
  const files = ['frames', 'messages', 'seals', 'cards', 'broadcasts', 'directs'] as const;
  const found = new Set(files.flatMap((name) => vectors(name).bad.map(({ reason }) => reason)));
  const source = readFileSync(join(ROOT, 'sdk', 'protocol.ts'), 'utf8');
  const reasons = [...source.matchAll(/^ {2}\| '([a-z0-9-]+)'/gm)].map(([, reason]) => reason);
  assert.equal(reasons.length, 17);
  assert.deepEqual([...found].sort(), reasons.sort());
  assert.ok(vectors('directs').good.some(({ x }) => x.startsWith('00')));
});

test('what a message says is read as it stands', () => {
  for (const { about, to, frame, ...expected } of vectors('messages').good) {
    const parsed = protocol.parseFrame(latin1(frame));
    const message = parsed.ok && protocol.checkMessage(parsed.value, to === 'one');
    assert.ok(message && message.ok, about);
    const { kind, stream, seq, time, after, seen } = message.value;
    const receipts = seen.map(({ directs, ...receipt }) => (directs === undefined ? receipt : { ...receipt, directs }));
    assert.deepEqual(
      { after: undefined, seen: [], ...expected },
      { kind, stream, seq, time, after, seen: receipts },
      about,
    );
  }
});

test('a message goes from one to another, and to nobody else', async () => {
  const k = toHex(randomBytes(32));
  const channel = await protocol.channelOf(await protocol.accessOf(k));
  const [alice, bob, eve] = [await protocol.makeKeys(), await protocol.makeKeys(), await protocol.makeKeys()];
  const from = await protocol.participantOf(k, 'alice');
  const to = await protocol.participantOf(k, 'bob');
  const headers = { kind: 'text', stream: '0123456789abcdef', seq: '1', time: '0' };
  const room = await protocol.aesKey(protocol.roomPassphrase(k));
  const key = async (mine: protocol.Keys, theirs: protocol.Keys) => {
    const direct = await protocol.directKey(k, mine.ecdh, theirs.pub);
    assert.ok(direct.ok);
    return direct.value;
  };

  const aad = protocol.additionalData(channel, from, to, 'message');
  const frame = protocol.makeFrame({ ...headers, after: '0' }, latin1('for you'));
  const direct = await protocol.seal(await key(alice, bob), aad, frame);
  const heard = await protocol.openMessage(await key(bob, alice), aad, direct);
  assert.ok(heard.ok);
  assert.equal(Buffer.from(heard.value.body).toString(), 'for you');
  for (const wrong of [await key(eve, alice), await key(eve, bob), room]) {
    assert.deepEqual(await protocol.openMessage(wrong, aad, direct), { ok: false, reason: 'bad-tag' });
  }

  const incomplete = await protocol.seal(await key(alice, bob), aad, protocol.makeFrame(headers));
  const noAfter = await protocol.openMessage(await key(bob, alice), aad, incomplete);
  assert.deepEqual(noAfter, { ok: false, reason: 'missing-header' });

  const everybody = protocol.additionalData(channel, from, protocol.EVERYBODY, 'message');
  const signed = await protocol.signFrame(alice.ecdsa, everybody, headers, latin1('for all'));
  const broadcast = await protocol.seal(room, everybody, signed);
  const said = await protocol.openMessage(room, everybody, broadcast, alice.sign);
  assert.ok(said.ok);
  assert.equal(Buffer.from(said.value.body).toString(), 'for all');
  const asEve = await protocol.openMessage(room, everybody, broadcast, eve.sign);
  assert.deepEqual(asEve, { ok: false, reason: 'bad-signature' });

  const card = await protocol.seal(
    room,
    protocol.additionalData(channel, from, protocol.EVERYBODY, 'card'),
    protocol.makeCard({ kind: 'agent', name: 'alice', pub: alice.pub, sign: alice.sign }),
  );
  const shown = await protocol.openCard(k, room, channel, from, card);
  assert.ok(shown.ok && shown.value.name === 'alice' && shown.value.pub === alice.pub);
});

test('ECDH agrees with node:crypto, also where x starts with zeros', async () => {
  const mine = await crypto.subtle.generateKey({ name: 'ECDH', namedCurve: 'P-256' }, true, ['deriveBits']);
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey('pkcs8', mine.privateKey));
  const publicKey = createPublicKey(createPrivateKey({ key: pkcs8, type: 'pkcs8', format: 'der' }));
  for (let x = ''; !x.startsWith('00');) {
    const theirs = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const pub = theirs.publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
    x = diffieHellman({ privateKey: theirs.privateKey, publicKey }).toString('hex');
    assert.deepEqual(await protocol.sharedX(mine.privateKey, pub), { ok: true, value: x });
  }
});

test('a public key is taken in its one form only', () => {
  const point = createECDH('prime256v1').generateKeys();
  const start = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d030107034200', 'hex');
  const spki = Buffer.concat([start, point]).toString('base64');
  assert.equal(protocol.isPublicKey(spki), true);
  for (const other of ['', spki + '\n', ' ' + spki, spki.toLowerCase(), `${spki}=`, spki.replace('M', 'N')]) {
    assert.equal(protocol.isPublicKey(other), false, JSON.stringify(other));
  }
});

test('hex and base64 there and back, and only in their one form', () => {
  for (let length = 0; length <= 300; length++) {
    const bytes = own(randomBytes(length));
    assert.equal(toHex(bytes), Buffer.from(bytes).toString('hex'));
    assert.deepEqual(fromHex(toHex(bytes)), bytes);
    assert.equal(toBase64(bytes), Buffer.from(bytes).toString('base64'));
    assert.deepEqual(fromBase64(toBase64(bytes)), length === 0 ? null : bytes);
  }
  const large = own(randomBytes(300_000));
  assert.deepEqual(fromBase64(toBase64(large)), large);
  // Every group of two characters and padding: only those that node:crypto would write are taken.
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
  for (const text of [...alphabet].flatMap((a) => [`A${a}==`, `AA${a}=`])) {
    const isCanonical = Buffer.from(text, 'base64').toString('base64') === text;
    assert.equal(fromBase64(text) !== null, isCanonical, text);
  }
});

test('DER of signatures there and back, at its edges', () => {
  const edges = ['00', '01', '7f', '80', 'ff', '0080', '00ff', '7fff', 'ff00'].map((start) => start.padEnd(64, '5a'));
  edges.push('0'.repeat(64), '1'.padStart(64, '0'), '80'.padStart(64, '0'), 'f'.repeat(64));
  for (const r of edges) {
    for (const s of edges) {
      const raw = fromHex(r + s);
      const der = rawToDer(raw);
      assert.deepEqual(derToRaw(der), raw);
      assert.equal(derToRaw(concat(der, new Uint8Array(1))), null);
      assert.equal(derToRaw(der.subarray(0, -1)), null);
      for (const at of [0, 1, 2, 3]) {
        const spoilt = own(der);
        spoilt[at] = (spoilt[at] ?? 0) + 1;
        assert.equal(derToRaw(spoilt), null);
      }
    }
  }
  for (let length = 0; length < 80; length++) {
    for (let i = 0; i < 20; i++) assert.equal(derToRaw(randomBytes(length)), null);
  }
});

test('a caller’s own mistake throws', async () => {
  const k = '0'.repeat(64);
  const mistakes: (() => unknown)[] = [
    () => protocol.accessOf(k.slice(1)),
    () => protocol.accessOf('A' + k.slice(1)),
    () => protocol.channelOf('x'),
    () => protocol.participantOf(k, 'No Name'),
    () => protocol.directPassphrase(k, '0'),
    () => protocol.roomPassphrase(''),
    () => protocol.additionalData('x', 'y', '*', 'card'),
    () => protocol.makeFrame({ kind: 'a\nb: c' }),
    () => protocol.makeFrame({ kind: 'é' }),
    () => protocol.makeFrame({ kind: ' x' }),
    () => protocol.makeFrame({ kind: '' }),
    () => protocol.makeFrame({ Kind: 'text' }),
    () => protocol.makeFrame({ x: 'y'.repeat(4096) }),
    () => protocol.makeCard({ kind: 'agent', name: 'a', pub: '', sign: '' }),
    async () => protocol.seal(await protocol.aesKey('x'), new Uint8Array(), new Uint8Array()),
    () => rawToDer(new Uint8Array(63)),
    () => fromHex('0'),
  ];
  for (const mistake of mistakes) await assert.rejects(async () => mistake(), TypeError, mistake.toString());
});

test('a key can’t be taken out again, and a foreign kind of key is a mistake', async () => {
  const key = await protocol.aesKey('x');
  await assert.rejects(crypto.subtle.exportKey('raw', key));
  const { ecdh, ecdsa } = await protocol.makeKeys();
  await assert.rejects(crypto.subtle.exportKey('pkcs8', ecdh));
  await assert.rejects(crypto.subtle.exportKey('pkcs8', ecdsa));
  const sealed = await protocol.seal(key, new Uint8Array(), latin1('x'));
  await assert.rejects(protocol.open(ecdh, new Uint8Array(), sealed));
});
