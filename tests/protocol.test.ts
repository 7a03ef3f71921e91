/** sdk/protocol.ts reproduces tests/vectors/, agrees with node:crypto, and keeps its own contracts. */
import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { mock, test } from 'node:test';
import { concat, fromHex, toHex, utf8Encode } from '../sdk/encoding.ts';
import type { Bytes } from '../sdk/encoding.ts';
import * as protocol from '../sdk/protocol.ts';
import { ROOT } from './kit/root.ts';

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
  const roomKey = await protocol.aesKey(protocol.broadcastPassphrase(k));
  const frame = protocol.makeCard(ada);
  assert.equal(text(frame), card.frame);
  const aad = protocol.additionalData(channel, ada.participant_id, protocol.BROADCAST, 'card');
  assert.deepEqual(await sealWithNonce(roomKey, aad, frame, card.sealed.nonce), card.sealed);
  const session = value(
    await protocol.unsealCard(k, roomKey, channel, ada.participant_id, bob.participant_id, card.sealed),
  );
  const { kind, name, pub, sign, sid, participant_id: participantId } = ada;
  assert.deepEqual(session, { kind, name, pub, sign, sid, participantId });
});

test('reproduces the broadcast of the example', async () => {
  const { k, channel, ada, broadcast } = example;
  const roomKey = await protocol.aesKey(protocol.broadcastPassphrase(k));
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
  assert.deepEqual(await sealWithNonce(roomKey, aad, frame, broadcast.sealed.nonce), broadcast.sealed);
  const proved = value(await protocol.proveBroadcast(roomKey, aad, broadcast.sealed, [example.bob, ada]));
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
