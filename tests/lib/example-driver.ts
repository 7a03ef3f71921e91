/** examples/client as a Driver of tests/lib/vectors.ts. */
import { createPrivateKey } from 'node:crypto';
import * as crypto from '../../examples/client/crypto.ts';
import * as files from '../../examples/client/files.ts';
import {
  checkMessage,
  checkName,
  isDecimal,
  parseFrame,
  sequenceOf,
  unsealCard,
} from '../../examples/client/message.ts';
import type { Message } from '../../examples/client/message.ts';
import { decodeFileName, encodeFileName } from '../../examples/client/text.ts';
import type { CheckedMessage, Driver } from './vectors.ts';

/** The headers of docs/protocol.md. */
const KNOWN_HEADERS = new Set('kind seq time sent received seen name size sha256 stored reach pub sign'.split(' '));

function toCheckedMessage({ kind, seq, time, sent, received, stored, seen, reach, file }: Message): CheckedMessage {
  return {
    ...{ kind, seq: seq ?? null, time },
    seen: seen.map(({ session, mark, skipped, left }) => [session, mark, skipped, left] as const),
    ...(sent && { sent: [sent.first, sent.broadcasts, sent.directs] }),
    ...(received && { received: [received.broadcasts, received.directs, received.skipped] }),
    ...(stored && { stored: [stored.broadcasts, stored.directs] }),
    ...(reach && { reach }),
    ...(file && { file }),
  };
}

export const exampleDriver: Driver = {
  deriveAccessToken: crypto.accessToken,
  deriveChannelId: crypto.channelId,
  deriveParticipantId: crypto.participantId,
  deriveSessionId: crypto.sessionId,
  broadcastPassphrase: crypto.broadcastPassphrase,
  directPassphrase: crypto.directPassphrase,
  filePassphrase: crypto.filePassphrase,
  additionalData: crypto.additionalData,
  checkName,
  isDecimal,
  encodeFileName,
  decodeFileName,
  parseFrame(bytes) {
    const frame = parseFrame(bytes);
    if (!frame.ok) return frame;
    const headers = Object.fromEntries([...frame.value.headers].filter(([name]) => KNOWN_HEADERS.has(name)));
    return crypto.accept({ ...frame.value, headers });
  },
  checkMessage(bytes, isDirect) {
    const frame = parseFrame(bytes);
    if (!frame.ok) return frame;
    const message = checkMessage(frame.value, isDirect);
    return message.ok ? crypto.accept(toCheckedMessage(message.value)) : message;
  },
  sequenceOf(bytes) {
    const frame = parseFrame(bytes);
    return frame.ok ? (sequenceOf(frame.value) ?? null) : null;
  },
  seal: (passphrase, aad, plaintext) => crypto.seal(crypto.aesKey(passphrase), aad, plaintext),
  unseal: (passphrase, aad, sealed) => crypto.unseal(crypto.aesKey(passphrase), aad, sealed),
  unsealCard,
  sign: (pem, sid, aad, unsigned) => crypto.signFrame(createPrivateKey(pem), sid, aad, unsigned),
  verifySignature(session, aad, bytes) {
    const frame = parseFrame(bytes);
    if (!frame.ok) return frame;
    const { signature, unsigned } = frame.value;
    if (signature === undefined) return crypto.reject('missing-signature');
    return crypto.isSignedBy(session, aad, unsigned, signature) ? crypto.accept(true) : crypto.reject('bad-signature');
  },
  sharedX: (pem, pub) => crypto.sharedX(createPrivateKey(pem), pub),
  unsealDirect(k, own, sender, aad, sealed) {
    const x = crypto.sharedX(createPrivateKey(own.private), sender.pub);
    if (!x.ok) return x;
    const passphrase = crypto.directPassphrase(k, own.sid, sender.sid, x.value);
    return crypto.unseal(crypto.aesKey(passphrase), aad, sealed);
  },
  encryptPiece: files.cryptPiece,
  decryptPiece(f, index, size, digest, ciphertext) {
    if (!files.isPiece(index, size, digest, ciphertext)) return crypto.reject('bad-file-piece');
    return crypto.accept(files.cryptPiece(f, index, ciphertext));
  },
  parseFileBody: files.parseFileBody,
  parseWantBody: files.parseWantBody,
};
