/** sdk/protocol.ts passes tests/vectors/, agrees with node:crypto, and keeps its own contracts. */
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
import { mock, test } from 'node:test';
import * as encoding from '../../sdk/encoding.ts';
import { concat, fromHex, toHex, utf8Encode } from '../../sdk/encoding.ts';
import type { Bytes } from '../../sdk/encoding.ts';
import * as protocol from '../../sdk/protocol.ts';
import { ROOT } from '../lib/root.ts';
import { latin1, readVectors, runInterop, runVectors } from '../lib/vectors.ts';
import type { CheckedMessage, Driver } from '../lib/vectors.ts';

const copy = (bytes: Uint8Array): Bytes => Uint8Array.from(bytes);

const example = JSON.parse(readFileSync(join(ROOT, 'tests', 'vectors', 'example.json'), 'utf8')) as Example;
type Identity = protocol.Card & { participant_id: string; sid: string; ecdh_private: string; ecdsa_private: string };
interface Example {
  k: string;
  access: string;
  channel: string;
  room_key: string;
  ada: Identity;
  bob: Identity;
  shared_x: string;
  direct_key: string;
  card: { frame: string; sealed: protocol.Sealed };
  broadcast: { signed_bytes: string; signature: string; sealed: protocol.Sealed };
  direct: { frame: string; sealed: protocol.Sealed };
  file: { f: string; key: string; sha256: string; size: number; pieces: string[]; body: string; last_piece: string };
}

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();
function value<T>(result: protocol.Result<T>): T {
  assert.ok(result.ok, result.ok ? '' : result.reason);
  return result.value;
}
const hash = async (passphrase: string) => toHex(await protocol.sha256(utf8Encode(passphrase)));

async function privateKey(pem: string, name: 'ECDH' | 'ECDSA'): Promise<CryptoKey> {
  const der = Uint8Array.from(createPrivateKey(pem).export({ type: 'pkcs8', format: 'der' }));
  const usages: KeyUsage[] = name === 'ECDH' ? ['deriveBits'] : ['sign'];
  return crypto.subtle.importKey('pkcs8', der, { name, namedCurve: 'P-256' }, false, usages);
}

/** Seals under a given nonce, which the protocol itself never allows. */
async function sealWithNonce(key: CryptoKey, aad: Bytes, plaintext: Bytes, nonce: string): Promise<protocol.Sealed> {
  const random = mock.method(crypto, 'getRandomValues', () => fromHex(nonce));
  try {
    return await protocol.seal(key, aad, plaintext);
  } finally {
    random.mock.restore();
  }
}

/** The headers of docs/protocol.md. */
const KNOWN_HEADERS = new Set('kind seq time sent received seen name size sha256 stored reach pub sign'.split(' '));

function toCheckedMessage(message: protocol.Message): CheckedMessage {
  const { kind, seq = null, time, sent, received, seen, stored, reach, file } = message;
  return {
    ...{ kind, seq, time },
    seen: seen.map(({ session, mark, skipped, left }) => [session, mark, skipped, left] as const),
    ...(sent && { sent: [sent.first, sent.broadcasts, sent.directs] }),
    ...(received && { received: [received.broadcasts, received.directs, received.skipped] }),
    ...(stored && { stored: [stored.broadcasts, stored.directs] }),
    ...(reach && { reach }),
    ...(file && { file }),
  };
}

const driver: Driver = {
  deriveAccessToken: protocol.deriveAccessToken,
  deriveChannelId: protocol.deriveChannelId,
  deriveParticipantId: protocol.deriveParticipantId,
  deriveSessionId: (k, card) => protocol.deriveSessionId(k, card as protocol.Card),
  broadcastPassphrase: protocol.broadcastPassphrase,
  directPassphrase: protocol.directPassphrase,
  filePassphrase: protocol.filePassphrase,
  additionalData: (...place) => text(protocol.additionalData(...place)),
  checkName(name) {
    if (!protocol.isName(name)) return { ok: false, reason: 'bad-name' };
    return protocol.isReservedName(name) ? { ok: false, reason: 'reserved-name' } : { ok: true, value: true };
  },
  isDecimal: protocol.isDecimal,
  encodeFileName: encoding.encodeFileName,
  decodeFileName(encoded) {
    const name = encoding.decodeFileName(encoded);
    return name === null ? { ok: false, reason: 'bad-header-value' } : { ok: true, value: name };
  },
  parseFrame(bytes) {
    const frame = protocol.parseFrame(copy(bytes));
    if (!frame.ok) return frame;
    const headers = Object.fromEntries([...frame.value.headers].filter(([name]) => KNOWN_HEADERS.has(name)));
    return { ok: true, value: { ...frame.value, headers } };
  },
  checkMessage(bytes, isDirect) {
    const message = protocol.checkMessage(value(protocol.parseFrame(copy(bytes))), isDirect);
    return message.ok ? { ok: true, value: toCheckedMessage(message.value) } : message;
  },
  sequenceOf: (bytes) => protocol.sequenceOf(value(protocol.parseFrame(copy(bytes)))) ?? null,
  async seal(passphrase, aad, plaintext) {
    return protocol.seal(await protocol.aesKey(passphrase), latin1(aad), copy(plaintext));
  },
  async unseal(passphrase, aad, sealed) {
    return protocol.unseal(await protocol.aesKey(passphrase), latin1(aad), sealed);
  },
  async unsealCard(k, channel, from, ownId, sealed) {
    const broadcastKey = await protocol.aesKey(protocol.broadcastPassphrase(k));
    const session = await protocol.unsealCard(k, broadcastKey, channel, from, ownId, sealed);
    if (!session.ok) return session;
    const { participantId, sid, ...card } = session.value;
    assert.equal(participantId, from);
    return { ok: true, value: { card, sid } };
  },
  async sign(pem, sid, aad, unsigned) {
    const { headers, body } = value(protocol.parseFrame(copy(unsigned)));
    const ecdsa = await privateKey(pem, 'ECDSA');
    const signed = await protocol.signFrame(ecdsa, latin1(aad), sid, Object.fromEntries(headers), body);
    const frame = value(protocol.parseFrame(signed));
    assert.ok(Buffer.from(frame.unsigned).equals(unsigned));
    return frame.signature ?? '';
  },
  async verifySignature(session, aad, bytes) {
    const frame = protocol.parseFrame(copy(bytes));
    return frame.ok ? protocol.verifySignature(session, latin1(aad), frame.value) : frame;
  },
  async sharedX(pem, pub) {
    return protocol.sharedX(await privateKey(pem, 'ECDH'), pub);
  },
  async unsealDirect(k, own, sender, aad, sealed) {
    const ecdh = await privateKey(own.private, 'ECDH');
    const key = await protocol.directKey(k, ecdh, own.sid, sender.sid, sender.pub);
    return key.ok ? protocol.unseal(key.value, latin1(aad), sealed) : key;
  },
  async encryptPiece(f, index, plaintext) {
    const { ciphertext, sha256 } = await protocol.encryptPiece(await protocol.fileKey(f), index, copy(plaintext));
    assert.equal(sha256, toHex(await protocol.sha256(ciphertext)));
    return ciphertext;
  },
  async decryptPiece(f, index, size, digest, ciphertext) {
    return protocol.decryptPiece(await protocol.fileKey(f), index, size, digest, copy(ciphertext));
  },
  parseFileBody(body, size) {
    const parsed = protocol.parseFileBody(copy(body), size);
    return parsed.ok ? { ok: true, value: { f: parsed.value.fileSecret, pieces: parsed.value.pieces } } : parsed;
  },
  parseWantBody: (body) => protocol.parseWantBody(copy(body)),
};

runVectors('protocol.ts', driver);
runInterop('protocol.ts', driver);

test('the vectors are those that scripts/vectors.mjs writes', () => {
  const folder = mkdtempSync(join(tmpdir(), 'agentalk-vectors-'));
  const jsonFiles = (path: string) =>
    readdirSync(path)
      .filter((name) => name.endsWith('.json'))
      .sort();
  try {
    execFileSync(process.execPath, [join(ROOT, 'scripts', 'vectors.mjs'), folder]);
    const committed = join(ROOT, 'tests', 'vectors');
    assert.deepEqual(jsonFiles(folder), jsonFiles(committed));
    for (const name of jsonFiles(folder)) {
      assert.equal(readFileSync(join(folder, name), 'utf8'), readFileSync(join(committed, name), 'utf8'), name);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the vectors have each reason, and a shared x with a leading zero', () => {
  const { participants, files: names } = readVectors('names');
  const { keys, messages: directs } = readVectors('directs');
  const { pieces, bodies, wants } = readVectors('files');
  const lists = [
    ...(['frames', 'messages', 'seals', 'cards', 'broadcasts'] as const).map(readVectors),
    ...[participants, names, keys, directs, pieces, bodies, wants],
  ];
  const found = new Set(lists.flatMap(({ reject }) => reject.map(({ reason }) => reason)));
  const source = readFileSync(join(ROOT, 'sdk', 'protocol.ts'), 'utf8');
  const reasons = [...source.matchAll(/^ {2}\| '([a-z0-9-]+)'/gm)].map(([, reason]) => reason);
  assert.equal(reasons.length, 24);
  assert.deepEqual([...found].sort(), reasons.sort());
  assert.ok(keys.accept.some(({ x }) => x.startsWith('00')));
});

test('reproduces the derivations of the example', async () => {
  const { k, ada, bob } = example;
  assert.equal(await protocol.deriveAccessToken(k), example.access);
  assert.equal(await protocol.deriveChannelId(example.access), example.channel);
  assert.equal(await hash(protocol.broadcastPassphrase(k)), example.room_key);
  for (const identity of [ada, bob]) {
    assert.equal(await protocol.deriveParticipantId(k, identity.name), identity.participant_id);
    assert.equal(await protocol.deriveSessionId(k, identity), identity.sid);
  }
  assert.equal(value(await protocol.sharedX(await privateKey(ada.ecdh_private, 'ECDH'), bob.pub)), example.shared_x);
  assert.equal(value(await protocol.sharedX(await privateKey(bob.ecdh_private, 'ECDH'), ada.pub)), example.shared_x);
  for (const [one, other] of [
    [ada.sid, bob.sid],
    [bob.sid, ada.sid],
  ] as const) {
    assert.equal(await hash(protocol.directPassphrase(k, one, other, example.shared_x)), example.direct_key);
  }
});

test('reproduces the card of the example', async () => {
  const { k, channel, ada, bob, card } = example;
  const broadcastKey = await protocol.aesKey(protocol.broadcastPassphrase(k));
  const frame = protocol.makeCard(ada);
  assert.equal(text(frame), card.frame);
  const aad = protocol.additionalData(channel, ada.participant_id, protocol.BROADCAST, 'card');
  assert.deepEqual(await sealWithNonce(broadcastKey, aad, frame, card.sealed.nonce), card.sealed);
  const session = value(
    await protocol.unsealCard(k, broadcastKey, channel, ada.participant_id, bob.participant_id, card.sealed),
  );
  const { kind, name, pub, sign, sid, participant_id: participantId } = ada;
  assert.deepEqual(session, { kind, name, pub, sign, sid, participantId });
});

test('reproduces the broadcast of the example', async () => {
  const { k, channel, ada, broadcast } = example;
  const broadcastKey = await protocol.aesKey(protocol.broadcastPassphrase(k));
  const aad = protocol.additionalData(channel, ada.participant_id, protocol.BROADCAST, 'message');
  const unsigned = broadcast.signed_bytes.slice(text(aad).length + `\n${ada.sid}\n\n`.length);
  const headers = {
    kind: 'text',
    seq: '3',
    time: '1767225600000',
    seen: protocol.formatSeen([{ session: example.bob.sid, mark: 2, skipped: 0, left: false }]),
  };
  assert.equal(text(protocol.makeFrame(headers, utf8Encode('Grüße\n'))), unsigned);
  const frame = protocol.makeFrame({ ...headers, signature: broadcast.signature }, utf8Encode('Grüße\n'));
  assert.deepEqual(await sealWithNonce(broadcastKey, aad, frame, broadcast.sealed.nonce), broadcast.sealed);
  const proved = value(await protocol.proveBroadcast(broadcastKey, aad, broadcast.sealed, [example.bob, ada]));
  assert.equal(proved.session, ada);
  assert.equal(text(concat(aad, utf8Encode(`\n${ada.sid}\n\n`), proved.frame.unsigned)), broadcast.signed_bytes);
  const message = value(protocol.checkMessage(proved.frame, false));
  assert.equal(text(message.body), 'Grüße\n');
  assert.deepEqual([message.kind, message.seq, message.time, message.sent], ['text', 3, 1767225600000, undefined]);
  assert.deepEqual(message.seen, [{ session: example.bob.sid.slice(0, 16), mark: 2, skipped: 0, left: false }]);
  const ecdsa = await privateKey(ada.ecdsa_private, 'ECDSA');
  const signed = await protocol.signFrame(ecdsa, aad, ada.sid, headers, utf8Encode('Grüße\n'));
  value(await protocol.verifySignature(ada, aad, value(protocol.parseFrame(signed))));
  const asBob = await protocol.verifySignature({ sid: example.bob.sid, sign: ada.sign }, aad, proved.frame);
  assert.deepEqual(asBob, { ok: false, reason: 'bad-signature' });
});

test('reproduces the direct message of the example', async () => {
  const { k, channel, ada, bob, direct } = example;
  const aad = protocol.additionalData(channel, ada.participant_id, bob.participant_id, 'message');
  const headers = {
    kind: 'ack',
    time: '1767225600001',
    sent: protocol.formatSent({ first: 1, broadcasts: 3, directs: 0 }),
    received: protocol.formatReceived({ broadcasts: 2, directs: 0, skipped: 0 }),
  };
  const frame = protocol.makeFrame(headers);
  assert.equal(text(frame), direct.frame);
  const adas = await privateKey(ada.ecdh_private, 'ECDH');
  const key = value(await protocol.directKey(k, adas, ada.sid, bob.sid, bob.pub));
  assert.deepEqual(await sealWithNonce(key, aad, frame, direct.sealed.nonce), direct.sealed);
  const bobs = await privateKey(bob.ecdh_private, 'ECDH');
  const session = { sid: ada.sid, direct: value(await protocol.directKey(k, bobs, bob.sid, ada.sid, ada.pub)) };
  const proved = value(await protocol.proveDirect(aad, direct.sealed, [session]));
  assert.equal(proved.session, session);
  const message = value(protocol.checkMessage(value(proved.frame), true));
  assert.deepEqual(message.sent, { first: 1, broadcasts: 3, directs: 0 });
  assert.deepEqual(message.received, { broadcasts: 2, directs: 0, skipped: 0 });
  assert.deepEqual([message.kind, message.seq], ['ack', undefined]);
});

test('reproduces the file of the example', async () => {
  const { f, key, sha256, size, pieces, body, last_piece } = example.file;
  assert.equal(await hash(protocol.filePassphrase(f)), key);
  const plaintext = concat(new Uint8Array(protocol.PIECE_BYTES).fill(1), utf8Encode('end'));
  assert.equal(plaintext.length, size);
  assert.equal(toHex(await protocol.sha256(plaintext)), sha256);
  assert.equal(text(protocol.formatFileBody({ fileSecret: f, pieces })), body);
  assert.deepEqual(value(protocol.parseFileBody(utf8Encode(body), size)), { fileSecret: f, pieces });
  const aes = await protocol.fileKey(f);
  for (const [index, digest] of pieces.entries()) {
    const piece = plaintext.slice(index * protocol.PIECE_BYTES, (index + 1) * protocol.PIECE_BYTES);
    const encrypted = await protocol.encryptPiece(aes, index, piece);
    assert.equal(encrypted.sha256, digest);
    if (index === 1) assert.equal(toHex(encrypted.ciphertext), last_piece);
    const decrypted = value(await protocol.decryptPiece(aes, index, size, digest, encrypted.ciphertext));
    assert.ok(Buffer.from(decrypted).equals(piece));
  }
});

// ---- proofs ----

/** A member of a channel with its keys, made without the example's fixed ones. */
async function makeMember(k: string, name: string) {
  const keys = await protocol.makeKeys();
  const card = { kind: 'agent', name, pub: keys.pub, sign: keys.sign } as const;
  return {
    keys,
    card,
    sign: keys.sign,
    id: await protocol.deriveParticipantId(k, name),
    sid: await protocol.deriveSessionId(k, card),
  };
}
type Member = Awaited<ReturnType<typeof makeMember>>;

async function makeChannel() {
  const k = toHex(randomBytes(32));
  const channel = await protocol.deriveChannelId(await protocol.deriveAccessToken(k));
  const broadcastKey = await protocol.aesKey(protocol.broadcastPassphrase(k));
  const key = async (own: Member, their: Member) =>
    value(await protocol.directKey(k, own.keys.ecdh, own.sid, their.sid, their.keys.pub));
  const [ada, bob, carol] = [await makeMember(k, 'ada'), await makeMember(k, 'bob'), await makeMember(k, 'carol')];
  return { k, channel, broadcastKey, key, ada, bob, carol };
}
const TEXT_HEADERS = { kind: 'text', seq: '1', time: '0' };
const DIRECT_HEADERS = { ...TEXT_HEADERS, sent: '1 0 1', received: '0 0 0' };

test('proves a broadcast by one session of its sender, and by nobody else', async () => {
  const { k, channel, broadcastKey, ada, carol } = await makeChannel();
  const again = await makeMember(k, 'ada');
  const aad = protocol.additionalData(channel, ada.id, protocol.BROADCAST, 'message');
  const frame = await protocol.signFrame(ada.keys.ecdsa, aad, ada.sid, TEXT_HEADERS, latin1('for all'));
  const sealed = await protocol.seal(broadcastKey, aad, frame);
  const proved = value(await protocol.proveBroadcast(broadcastKey, aad, sealed, [again, ada]));
  assert.equal(proved.session, ada);
  assert.equal(text(proved.frame.body), 'for all');
  const attempt = (sessions: readonly protocol.Proof[]) => protocol.proveBroadcast(broadcastKey, aad, sealed, sessions);
  assert.deepEqual(await attempt([]), { ok: false, reason: 'bad-signature' });
  assert.deepEqual(await attempt([again, carol]), { ok: false, reason: 'bad-signature' });
  const copied = { sid: carol.sid, sign: ada.sign };
  assert.deepEqual(await attempt([copied]), { ok: false, reason: 'bad-signature' });
  const eighth = Array.from({ length: 7 }, () => again);
  assert.ok((await attempt([...eighth, ada])).ok, 'the eighth session is tried');
  assert.deepEqual(await attempt([...eighth, again, ada]), { ok: false, reason: 'bad-signature' });
});

test('rejects a broadcast that another member signed or that nobody signed', async () => {
  const { channel, broadcastKey, ada, carol } = await makeChannel();
  const aad = protocol.additionalData(channel, ada.id, protocol.BROADCAST, 'message');
  const attempt = async (frame: Bytes) =>
    protocol.proveBroadcast(broadcastKey, aad, await protocol.seal(broadcastKey, aad, frame), [ada]);
  for (const sid of [carol.sid, ada.sid]) {
    const forged = await protocol.signFrame(carol.keys.ecdsa, aad, sid, TEXT_HEADERS);
    assert.deepEqual(await attempt(forged), { ok: false, reason: 'bad-signature' });
  }
  assert.deepEqual(await attempt(protocol.makeFrame(TEXT_HEADERS)), { ok: false, reason: 'missing-signature' });
  assert.deepEqual(await attempt(latin1('no frame')), { ok: false, reason: 'unterminated-headers' });
});

test('proves a direct message by the key of two sessions, and by no other', async () => {
  const { k, channel, broadcastKey, key, ada, bob, carol } = await makeChannel();
  const aad = protocol.additionalData(channel, ada.id, bob.id, 'message');
  const sealed = await protocol.seal(await key(ada, bob), aad, protocol.makeFrame(DIRECT_HEADERS, latin1('for you')));
  const session = { direct: await key(bob, ada) };
  const others = [{ direct: await key(bob, carol) }, { direct: await key(carol, ada) }, { direct: broadcastKey }];
  const proved = value(await protocol.proveDirect(aad, sealed, [...others, session]));
  assert.equal(proved.session, session);
  assert.equal(text(value(proved.frame).body), 'for you');
  assert.deepEqual(await protocol.proveDirect(aad, sealed, others), { ok: false, reason: 'auth-failed' });
  const copied = { ...carol, keys: { ...carol.keys, pub: ada.keys.pub } };
  const withCopiedKey = [{ direct: await key(bob, copied) }];
  assert.deepEqual(await protocol.proveDirect(aad, sealed, withCopiedKey), { ok: false, reason: 'auth-failed' });
  const [other = session] = others;
  const eight = Array.from({ length: 8 }, () => other);
  assert.deepEqual(await protocol.proveDirect(aad, sealed, [...eight, session]), { ok: false, reason: 'auth-failed' });
  const spoilt = { ...sealed, nonce: '' };
  assert.deepEqual(await protocol.proveDirect(aad, spoilt, [session]), { ok: false, reason: 'bad-nonce' });
  assert.equal(k.length, 64);
});

test('proves a direct message whose frame is malformed', async () => {
  const { channel, key, ada, bob } = await makeChannel();
  const aad = protocol.additionalData(channel, ada.id, bob.id, 'message');
  const sealed = await protocol.seal(await key(ada, bob), aad, latin1('no frame'));
  const session = { direct: await key(bob, ada) };
  assert.deepEqual(value(await protocol.proveDirect(aad, sealed, [session])), {
    session,
    frame: { ok: false, reason: 'unterminated-headers' },
  });
});

test('two frames are the same if all but their signatures is', async () => {
  const digest = (frame: string) => protocol.frameDigest(value(protocol.parseFrame(latin1(frame))));
  const first = await digest('kind: text\nsignature: AAAA\n\nbody');
  assert.equal(await digest('kind: text\nsignature: BBBB\n\nbody'), first);
  assert.equal(await digest('kind: text\n\nbody'), first);
  assert.notEqual(await digest('kind: text\n\nbody '), first);
  assert.notEqual(await digest('kind: text\nx: 1\n\nbody'), first);
});

test('a control message to all with a number is rejected, and consumes the number', () => {
  const frame = value(protocol.parseFrame(latin1('kind: bye\nseq: 7\ntime: 0\n\n')));
  assert.deepEqual(protocol.checkMessage(frame, false), { ok: false, reason: 'control-broadcast' });
  assert.equal(protocol.sequenceOf(frame), 7);
});

test('no frame, body or name from others makes it throw', () => {
  const { accept, reject } = readVectors('messages');
  const frames = [...accept, ...reject].map(({ frame }) => latin1(frame));
  for (const frame of frames) {
    for (let i = 0; i < 40; i++) {
      const [at = 0, byte = 0, length = 0] = randomBytes(3);
      const spoilt = i % 2 ? copy(frame) : frame.slice(0, length);
      if (spoilt.length > 0) spoilt[at % spoilt.length] = byte;
      const parsed = protocol.parseFrame(spoilt);
      protocol.parseFileBody(spoilt, at);
      protocol.parseWantBody(spoilt);
      encoding.decodeFileName(Buffer.from(spoilt).toString('latin1'));
      if (!parsed.ok) continue;
      protocol.sequenceOf(parsed.value);
      for (const isDirect of [true, false]) protocol.checkMessage(parsed.value, isDirect);
    }
  }
});

test('formats headers that it parses again', () => {
  const sent = { first: 3, broadcasts: 7, directs: 2 };
  const received = { broadcasts: 5, directs: 4, skipped: 1 };
  const stored = { broadcasts: 9, directs: 6 };
  const seen = [
    { session: 'a'.repeat(16), mark: 4, skipped: 0, left: false },
    { session: 'b'.repeat(16), mark: 1, skipped: 2, left: true },
  ];
  const parse = (headers: protocol.Headers) =>
    value(protocol.checkMessage(value(protocol.parseFrame(protocol.makeFrame(headers))), true));
  const direct = { time: '1', sent: protocol.formatSent(sent), received: protocol.formatReceived(received) };
  const sync = parse({ kind: 'sync', ...direct, stored: protocol.formatStored(stored) });
  assert.deepEqual([sync.sent, sync.received, sync.stored], [sent, received, stored]);
  assert.deepEqual(parse({ kind: 'text', seq: '1', ...direct, seen: protocol.formatSeen(seen) }).seen, seen);
  const [first = assert.fail()] = seen;
  const whole = { ...first, session: 'a'.repeat(32) };
  assert.equal(protocol.formatSeen([whole]), protocol.formatSeen([first]));
  const body = protocol.formatWantBody(['c'.repeat(64)]);
  assert.deepEqual(value(protocol.parseWantBody(body)), ['c'.repeat(64)]);
});

test('cuts a file into pieces at their limits', () => {
  const MiB = 1_048_576;
  for (const [size, count] of [
    [0, 0],
    [1, 1],
    [MiB, 1],
    [MiB + 1, 2],
    [100 * MiB, 100],
  ] as const) {
    assert.equal(protocol.pieceCount(size), count);
  }
  assert.deepEqual(
    [0, 1].map((index) => protocol.pieceLength(MiB + 3, index)),
    [MiB, 3],
  );
  assert.equal(protocol.pieceLength(MiB, 0), MiB);
});

// ---- keys ----

test('ECDH agrees with node:crypto, also where x starts with zeros', async () => {
  const mine = await crypto.subtle.generateKey({ name: 'ECDH', namedCurve: 'P-256' }, true, ['deriveBits']);
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey('pkcs8', mine.privateKey));
  const own = createPrivateKey({ key: pkcs8, type: 'pkcs8', format: 'der' });
  for (let x = ''; !x.startsWith('00');) {
    const theirs = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const pub = theirs.publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
    x = diffieHellman({ privateKey: theirs.privateKey, publicKey: createPublicKey(own) }).toString('hex');
    assert.deepEqual(await protocol.sharedX(mine.privateKey, pub), { ok: true, value: x });
  }
});

test('accepts a public key in one form, and only points on the curve', () => {
  const prefix = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d030107034200', 'hex');
  for (let i = 0; i < 50; i++) {
    const point = createECDH('prime256v1').generateKeys();
    const spki = Buffer.concat([prefix, point]).toString('base64');
    assert.ok(protocol.isPublicKey(spki) && protocol.isOnCurve(spki));
    point[1 + (i % 64)]! ^= 1 << (i % 8); // within the 65 bytes
    const spoilt = Buffer.concat([prefix, point]).toString('base64');
    assert.ok(protocol.isPublicKey(spoilt) && !protocol.isOnCurve(spoilt));
    for (const other of ['', `${spki}\n`, ` ${spki}`, spki.toLowerCase(), `${spki}=`, spki.replace('M', 'N')]) {
      assert.ok(!protocol.isPublicKey(other) && !protocol.isOnCurve(other), JSON.stringify(other));
    }
  }
  // Coordinates must be below the field's prime: no second form of a point.
  assert.ok(!protocol.isOnCurve(Buffer.concat([prefix, Buffer.of(4), Buffer.alloc(64, 255)]).toString('base64')));
});

test('keys can not be exported, and a key for another algorithm is misuse', async () => {
  const key = await protocol.aesKey('x');
  await assert.rejects(crypto.subtle.exportKey('raw', key));
  await assert.rejects(crypto.subtle.exportKey('raw', await protocol.fileKey('0'.repeat(64))));
  const { ecdh, ecdsa } = await protocol.makeKeys();
  await assert.rejects(crypto.subtle.exportKey('pkcs8', ecdh));
  await assert.rejects(crypto.subtle.exportKey('pkcs8', ecdsa));
  const sealed = await protocol.seal(key, new Uint8Array(), latin1('x'));
  await assert.rejects(protocol.unseal(ecdh, new Uint8Array(), sealed));
  const extractable = await protocol.makeKeys(true);
  assert.ok((await crypto.subtle.exportKey('pkcs8', extractable.ecdh)).byteLength > 0);
});

test('seals under a new nonce each time', async () => {
  const key = await protocol.aesKey('x');
  const nonces = new Set<string>();
  for (let i = 0; i < 100; i++) nonces.add((await protocol.seal(key, new Uint8Array(), latin1('x'))).nonce);
  assert.equal(nonces.size, 100);
});

test('misuse by the caller throws', async () => {
  const k = '0'.repeat(64);
  const sid = '0'.repeat(32);
  const mistakes: (() => unknown)[] = [
    () => protocol.deriveAccessToken(k.slice(1)),
    () => protocol.deriveAccessToken('A' + k.slice(1)),
    () => protocol.deriveChannelId('x'),
    () => protocol.deriveParticipantId(k, 'No Name'),
    () => protocol.deriveSessionId('x', { kind: 'agent', name: 'a', pub: '', sign: '' }),
    () => protocol.directPassphrase(k, sid, sid, '0'),
    () => protocol.directPassphrase(k, sid, '0', k),
    () => protocol.broadcastPassphrase(''),
    () => protocol.filePassphrase('x'),
    () => protocol.fileKey('x'),
    () => protocol.additionalData('x', sid, '*', 'card'),
    () => protocol.additionalData(sid, sid, 'x', 'card'),
    () => protocol.makeFrame({ kind: 'a\nb: c' }),
    () => protocol.makeFrame({ kind: 'é' }),
    () => protocol.makeFrame({ kind: ' x' }),
    () => protocol.makeFrame({ kind: '' }),
    () => protocol.makeFrame({ Kind: 'text' }),
    () => protocol.makeFrame({ signature: 'AAAA', kind: 'text' }),
    () => protocol.makeFrame({ x: 'y'.repeat(4096) }),
    () => protocol.makeCard({ kind: 'agent', name: 'a', pub: '', sign: '' }),
    () => protocol.makeCard({ ...example.ada, name: 'all' }),
    async () => protocol.seal(await protocol.aesKey('x'), new Uint8Array(), new Uint8Array()),
    () => protocol.formatSent({ first: 0, broadcasts: 0, directs: 0 }),
    () => protocol.formatReceived({ broadcasts: -1, directs: 0, skipped: 0 }),
    () => protocol.formatStored({ broadcasts: 1.5, directs: 0 }),
    () => protocol.formatSeen([]),
    () => protocol.formatSeen([{ session: 'x', mark: 1, skipped: 0, left: false }]),
    () => protocol.formatSeen(Array.from({ length: 65 }, () => ({ session: sid, mark: 1, skipped: 0, left: false }))),
    () => protocol.pieceCount(104_857_601),
    () => protocol.pieceLength(1, 1),
    async () => protocol.encryptPiece(await protocol.fileKey(k), 0, new Uint8Array()),
    async () => protocol.encryptPiece(await protocol.fileKey(k), 0, new Uint8Array(1_048_577)),
    () => protocol.formatFileBody({ fileSecret: k, pieces: [k, k] }),
    () => protocol.formatFileBody({ fileSecret: 'x', pieces: [] }),
    () => protocol.formatWantBody([]),
    () => protocol.formatWantBody(Array.from({ length: 33 }, () => k)),
    () => encoding.rawToDer(new Uint8Array(63)),
    () => fromHex('0'),
  ];
  for (const mistake of mistakes) await assert.rejects(async () => mistake(), TypeError, mistake.toString());
});

// ---- encoding.ts ----

test('hex and base64 there and back, each in one form only', () => {
  const { fromBase64, toBase64 } = encoding;
  for (let length = 0; length <= 300; length++) {
    const bytes = copy(randomBytes(length));
    assert.equal(toHex(bytes), Buffer.from(bytes).toString('hex'));
    assert.deepEqual(fromHex(toHex(bytes)), bytes);
    assert.equal(toBase64(bytes), Buffer.from(bytes).toString('base64'));
    assert.deepEqual(fromBase64(toBase64(bytes)), length === 0 ? null : bytes);
  }
  const large = copy(randomBytes(300_000));
  assert.deepEqual(fromBase64(toBase64(large)), large);
  // Every group of two characters and padding: only those that node:crypto would write are accepted.
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
  for (const each of [...alphabet].flatMap((a) => [`A${a}==`, `AA${a}=`])) {
    const isCanonical = Buffer.from(each, 'base64').toString('base64') === each;
    assert.equal(fromBase64(each) !== null, isCanonical, each);
  }
});

test('DER of signatures there and back, at its edges', () => {
  const { derToRaw, rawToDer } = encoding;
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
        const spoilt = copy(der);
        spoilt[at] = (spoilt[at] ?? 0) + 1;
        assert.equal(derToRaw(spoilt), null);
      }
    }
  }
  for (let length = 0; length < 80; length++) {
    for (let i = 0; i < 20; i++) assert.equal(derToRaw(randomBytes(length)), null);
  }
});

test('hides exactly what Unicode calls control, format, ignorable, or a line separator', () => {
  const isHiddenByUnicode = (character: string) =>
    !/[\n\t]/.test(character) && /[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\p{Zl}\p{Zp}]/u.test(character);
  for (let codePoint = 0; codePoint <= 0x10ffff; codePoint++) {
    if (codePoint >= 0xd800 && codePoint <= 0xdfff) continue;
    const character = String.fromCodePoint(codePoint);
    const isHidden = encoding.replaceHidden(character, '') === '';
    if (isHidden !== isHiddenByUnicode(character)) assert.fail(`U+${codePoint.toString(16)}`);
  }
  assert.equal(encoding.replaceHidden('a\u202eb\nc\t\u{e0041}', '?'), 'a?b\nc\t?');
});

test('whatever a file is called, its encoded name is accepted', () => {
  const names = [
    '',
    '.',
    '..',
    '/',
    '\\',
    '\ud800',
    'a\udc00b',
    'x'.repeat(1000),
    '語'.repeat(1000),
    `${'.'.repeat(300)}`,
  ];
  for (let i = 0; i < 300; i++) names.push(Buffer.from(randomBytes(i)).toString(i % 2 ? 'utf8' : 'latin1'));
  for (const name of names) {
    const encoded = encoding.encodeFileName(name);
    assert.match(encoded, /^[A-Za-z0-9._%-]{1,360}$/);
    assert.notEqual(encoding.decodeFileName(encoded), null, JSON.stringify(name));
  }
});
