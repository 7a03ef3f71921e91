/**
 * Writes tests/vectors/*.json: what every implementation of agentalk/1 has to agree on. Made with node:crypto alone, so
 * that sdk/protocol.ts and sdk/shell are held to something that is neither. The same each time: keys and nonces are
 * hashes of their names, and a signature (ECDSA is random) is kept as long as it is right.
 *
 * node scripts/vectors.mjs [FOLDER]
 */
import { createCipheriv, createECDH, createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { format } from 'prettier';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const VECTORS = join(ROOT, 'tests', 'vectors');
const target = process.argv[2] ?? VECTORS;

const BYTES = 'Each character of a frame, a body or a plaintext is one byte (Latin-1).';
const latin1 = (text) => Buffer.from(text, 'latin1');
const utf8 = (text) => Buffer.from(text, 'utf8').toString('latin1');
const sha256 = (data) => createHash('sha256').update(data).digest();
const H = (text) => sha256(text).toString('hex');

// ---- fixed things: all from hashes of their names, none of them ever a secret ----

const K = H('agentalk test vectors: channel key');
const idOf = (name, k = K) => H(`agentalk/1 participant ${k} ${name}`).slice(0, 32);
const channelOf = (k) => H('agentalk/1 channel ' + H('agentalk/1 access ' + k)).slice(0, 32);
const CHANNEL = channelOf(K);
const ROOM = 'agentalk/1 room ' + K;
const ALICE = idOf('alice');
const BOB = idOf('bob');
const STREAM = H('agentalk test vectors: stream').slice(0, 16);
const CHALLENGE = H('agentalk test vectors: challenge').slice(0, 32);

function keyPair(label) {
  const ecdh = createECDH('prime256v1');
  const d = sha256(`agentalk test vectors: private key of ${label}`);
  ecdh.setPrivateKey(d);
  const point = ecdh.getPublicKey();
  const coordinate = (at) => point.subarray(at, at + 32).toString('base64url');
  const jwk = { kty: 'EC', crv: 'P-256', d: d.toString('base64url'), x: coordinate(1), y: coordinate(33) };
  const key = createPrivateKey({ key: jwk, format: 'jwk' });
  const publicKey = createPublicKey(key);
  const spki = publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
  return { ecdh, point, key, publicKey, spki, pem: key.export({ type: 'pkcs8', format: 'pem' }) };
}
const alice = { ecdh: keyPair('alice, ECDH'), ecdsa: keyPair('alice, ECDSA') };
const bob = { ecdh: keyPair('bob, ECDH'), ecdsa: keyPair('bob, ECDSA') };
const shared = (mine, theirs) => mine.ecdh.computeSecret(theirs.point).toString('hex');
const spkiOf = (point) =>
  Buffer.concat([Buffer.from(alice.ecdh.spki, 'base64').subarray(0, 26), point]).toString('base64');

const aadOf = ({ channel = CHANNEL, from = ALICE, to = '*', type = 'message' } = {}) =>
  ['agentalk/1', channel, from, to, type].join('\n');

const nonceOf = (name) => sha256(`agentalk test vectors: nonce of ${name}`).subarray(0, 12);
function seal(passphrase, aad, plaintext, name, nonce = nonceOf(name)) {
  const cipher = createCipheriv('aes-256-gcm', sha256(passphrase), nonce);
  cipher.setAAD(Buffer.from(aad));
  const ciphertext = Buffer.concat([cipher.update(latin1(plaintext)), cipher.final()]).toString('base64');
  return { nonce: nonce.toString('hex'), ciphertext, tag: cipher.getAuthTag().toString('hex') };
}

/** A value changed in one place. */
const flip = (hex) => hex.slice(0, -1) + (parseInt(hex.slice(-1), 16) ^ 1).toString(16);
const flipBase64 = (text) => {
  const bytes = Buffer.from(text, 'base64');
  bytes[0] ^= 1;
  return bytes.toString('base64');
};

const bad = (reason, about, rest) => ({ about, reason, ...rest });

// ---- derivations ----

const keys = [K, '0'.repeat(64), 'f'.repeat(64)];
const derivations = {
  about: 'What comes from the channel key k. `aes` is the AES key of the passphrase.',
  channels: keys.map((k) => ({
    k,
    access: H('agentalk/1 access ' + k),
    channel: channelOf(k),
    room: { passphrase: 'agentalk/1 room ' + k, aes: H('agentalk/1 room ' + k) },
    participants: ['a', 'laptop', 'ci.build_7-x', '0'.repeat(32)].map((name) => ({ name, id: idOf(name, k) })),
  })),
  additional_data: [
    { channel: CHANNEL, from: ALICE, to: '*', type: 'card', aad: aadOf({ type: 'card' }) },
    { channel: CHANNEL, from: ALICE, to: '*', type: 'message', aad: aadOf() },
    { channel: CHANNEL, from: BOB, to: ALICE, type: 'message', aad: aadOf({ from: BOB, to: ALICE }) },
  ],
  names: {
    good: ['a', '7', 'laptop', 'a.b', 'a-', 'a_', 'a.', 'x'.repeat(32)],
    bad: [
      ...['', 'A', 'Laptop', '.a', '-a', '_a', 'a..b', 'a b', 'a/b', 'a\nb', 'a\n', '\na', 'x'.repeat(33), 'a$(id)'],
      ...['é', 'ａ', '*', 'a\\'],
    ],
  },
  decimals: {
    good: ['0', '1', '10', '4096', '999999999999999'],
    bad: [
      ...[
        '',
        '00',
        '01',
        '+1',
        '-1',
        '-0',
        '1.0',
        '1e3',
        '0x1',
        ' 1',
        '1 ',
        '1\n',
        '\n1',
        '1000000000000000',
        'a[$(id)]',
      ],
      ...['١', '1_0', '1,0', '16#ff'],
    ],
  },
};

// ---- frames ----

const HEAD = `kind: text\nstream: ${STREAM}\nseq: 1\ntime: 1767225600000\n`;
/** Headers of exactly so many bytes. */
const headersOf = (bytes) => HEAD + `x: ${'y'.repeat(bytes - HEAD.length - 4)}\n`;
const headers = { kind: 'text', stream: STREAM, seq: '1', time: '1767225600000' };
const frame = (about, text, expected) => ({ about, frame: text, ...expected });

const frames = {
  about: `Frames as bytes, taken apart. ${BYTES} \`headers\` are those of docs/protocol.md; others are ignored.`,
  good: [
    frame('a text', `${HEAD}\nhello\n`, { headers, body: 'hello\n' }),
    frame('an empty body', `${HEAD}\n`, { headers, body: '' }),
    frame('no headers at all', '\nbody', { headers: {}, body: 'body' }),
    frame('a body of newlines', `${HEAD}\n\n\n`, { headers, body: '\n\n' }),
    frame('a body that looks like headers', `${HEAD}\nkind: bye\n\nx`, { headers, body: 'kind: bye\n\nx' }),
    frame('a body of any bytes', `${HEAD}\n\0\x01\x7f\x80\xff\r\n\0`, { headers, body: '\0\x01\x7f\x80\xff\r\n\0' }),
    frame('emoji and CJK', `${HEAD}\n${utf8('👋 会話')}`, { headers, body: utf8('👋 会話') }),
    frame('unknown headers', `x-later: 1\n${HEAD}z9-: ~\n\nb`, { headers, body: 'b' }),
    frame('a value with colons and spaces', `name: a: b  c:d\n${HEAD}\nb`, {
      headers: { name: 'a: b  c:d', ...headers },
      body: 'b',
    }),
    frame('a value of one character', 'name: !\n\n', { headers: { name: '!' }, body: '' }),
    frame('a value that a shell would run', 'name: $(id)`id`\\n%s*\n\n', {
      headers: { name: '$(id)`id`\\n%s*' },
      body: '',
    }),
    frame('a header name of 32 characters', `${'n'.repeat(32)}: 1\n\n`, { headers: {}, body: '' }),
    frame('4096 bytes of headers', `${headersOf(4096)}\nb`, { headers, body: 'b' }),
    frame('a signature', `${HEAD}signature: AAAA\n\nb`, {
      headers,
      signature: 'AAAA',
      body: 'b',
      unsigned: `${HEAD}\nb`,
    }),
  ],
  bad: [
    bad('no-empty-line', 'nothing', { frame: '' }),
    bad('no-empty-line', 'headers only', { frame: HEAD }),
    bad('no-empty-line', 'a last line without its end', { frame: HEAD.slice(0, -1) }),
    bad('headers-too-long', '4097 bytes of headers', { frame: `${headersOf(4097)}\nb` }),
    bad('headers-too-long', 'many short headers', {
      frame: `${Array.from({ length: 342 }, (_, i) => `h${i + 100}: 12345\n`).join('')}\nb`,
    }),
    bad('bad-header', 'no colon', { frame: 'kind\n\n' }),
    bad('bad-header', 'no space', { frame: 'kind:text\n\n' }),
    bad('bad-header', 'two spaces', { frame: 'kind:  text\n\n' }),
    bad('bad-header', 'a space at the end', { frame: 'kind: text \n\n' }),
    bad('bad-header', 'no value', { frame: 'kind: \n\n' }),
    bad('bad-header', 'no name', { frame: ': text\n\n' }),
    bad('bad-header', 'a name in upper case', { frame: 'Kind: text\n\n' }),
    bad('bad-header', 'a name that starts with a digit', { frame: '1kind: text\n\n' }),
    bad('bad-header', 'a name with an underscore', { frame: 'my_kind: text\n\n' }),
    bad('bad-header', 'a name with a space', { frame: 'kind : text\n\n' }),
    bad('bad-header', 'a name of 33 characters', { frame: `${'n'.repeat(33)}: 1\n\n` }),
    bad('bad-header', 'a space before the name', { frame: ' kind: text\n\n' }),
    bad('bad-header', 'carriage returns', { frame: 'kind: text\r\n\r\n\n' }),
    bad('bad-header', 'a tab in a value', { frame: 'name: a\tb\n\n' }),
    bad('bad-header', 'an escape character in a value', { frame: 'name: \x1b[2J\n\n' }),
    bad('bad-header', 'a NUL in a value', { frame: 'name: a\0b\n\n' }),
    bad('bad-header', 'a NUL in a name', { frame: 'ki\0nd: text\n\n' }),
    bad('bad-header', 'a DEL in a value', { frame: 'name: a\x7f\n\n' }),
    bad('bad-header', 'UTF-8 in a value', { frame: utf8('name: é\n\n') }),
    bad('bad-header', 'a byte above 127 in a value', { frame: 'name: a\xff\n\n' }),
    bad('twice', 'two kinds', { frame: `${HEAD}kind: bye\n\nb` }),
    bad('twice', 'an unknown header twice', { frame: `x: 1\n${HEAD}x: 1\n\nb` }),
    bad('signature-not-last', 'a header behind the signature', {
      frame: `signature: AAAA\n${HEAD}\nb`,
    }),
  ],
};

// ---- messages ----

const message = (changes, body = 'b') =>
  Object.entries({ ...headers, ...changes })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('') + `\n${body}`;
const direct = { after: '0' };
const base = { kind: 'text', stream: STREAM, seq: 1, time: 1767225600000 };
const OTHER = H('agentalk test vectors: another stream').slice(0, 16);
const SUM = H('agentalk test vectors: a file');
const file = { kind: 'file', name: 'a.diff', part: '1/2', size: '70000', sha256: SUM };
const pairs = (count) => Array.from({ length: count }, (_, i) => `${H(`stream ${i}`).slice(0, 16)} ${i}`).join(',');

const messages = {
  about: `What a message has to say before anything counts with it. ${BYTES}`,
  good: [
    { about: 'a broadcast', to: 'everybody', frame: message({}), ...base },
    { about: 'a direct message', to: 'one', frame: message(direct), ...base, after: 0 },
    {
      about: 'an unknown kind',
      to: 'everybody',
      frame: message({ kind: 'later-on-maybe-x' }),
      ...base,
      kind: 'later-on-maybe-x',
    },
    {
      about: 'the highest numbers',
      to: 'one',
      frame: message({ seq: '999999999999999', time: '999999999999999', after: '999999999999999' }),
      ...base,
      ...{ seq: 999999999999999, time: 999999999999999, after: 999999999999999 },
    },
    { about: 'a time of 0', to: 'everybody', frame: message({ time: '0' }), ...base, time: 0 },
    {
      about: 'a hello',
      to: 'everybody',
      frame: message({ kind: 'hello', challenge: CHALLENGE }),
      ...base,
      kind: 'hello',
    },
    {
      about: 'a welcome',
      to: 'one',
      frame: message({ ...direct, kind: 'welcome', challenge: CHALLENGE, answer: CHALLENGE }),
      ...base,
      ...{ kind: 'welcome', after: 0 },
    },
    {
      about: 'receipts in a direct message',
      to: 'one',
      frame: message({ ...direct, seen: `${OTHER} 12 3` }),
      ...base,
      ...{ after: 0, seen: [{ stream: OTHER, broadcasts: 12, directs: 3 }] },
    },
    {
      about: 'receipts in a broadcast',
      to: 'everybody',
      frame: message({ seen: `${OTHER} 12,${STREAM} 0` }),
      ...base,
      seen: [
        { stream: OTHER, broadcasts: 12 },
        { stream: STREAM, broadcasts: 0 },
      ],
    },
    {
      about: '16 receipts',
      to: 'everybody',
      frame: message({ seen: pairs(16) }),
      ...base,
      seen: pairs(16)
        .split(',')
        .map((pair) => ({ stream: pair.slice(0, 16), broadcasts: Number(pair.slice(17)) })),
    },
    { about: 'an answer to a message', to: 'everybody', frame: message({ re: `${BOB} ${OTHER} 7` }), ...base },
    { about: 'part of a file', to: 'everybody', frame: message(file), ...base, kind: 'file' },
    { about: 'a part of one', to: 'everybody', frame: message({ ...file, part: '1/1' }), ...base, kind: 'file' },
  ],
  bad: [
    ...['kind', 'stream', 'seq', 'time'].map((name) =>
      bad('missing-header', `no ${name}`, { to: 'everybody', frame: message({ [name]: undefined }) }),
    ),
    bad('missing-header', 'a direct message without after', { to: 'one', frame: message({}) }),
    bad('missing-header', 'no headers at all', { to: 'everybody', frame: '\nb' }),
    ...['01', '-1', '1.5', '0x10', '1000000000000000', 'a[$(id)]', 'x'].map((seq) =>
      bad('bad-decimal', `seq ${seq}`, { to: 'everybody', frame: message({ seq }) }),
    ),
    bad('bad-decimal', 'seq 0', { to: 'everybody', frame: message({ seq: '0' }) }),
    bad('bad-decimal', 'time', { to: 'everybody', frame: message({ time: 'now' }) }),
    bad('bad-decimal', 'after', { to: 'one', frame: message({ after: '-1' }) }),
    bad('bad-decimal', 'size', { to: 'everybody', frame: message({ ...file, size: '7e4' }) }),
    bad('bad-value', 'a kind in upper case', { to: 'everybody', frame: message({ kind: 'Text' }) }),
    bad('bad-value', 'a kind with a digit', { to: 'everybody', frame: message({ kind: 'text2' }) }),
    bad('bad-value', 'a kind of 17 characters', { to: 'everybody', frame: message({ kind: 'k'.repeat(17) }) }),
    bad('bad-value', 'a kind like a path', { to: 'everybody', frame: message({ kind: '../x' }) }),
    bad('bad-value', 'a short stream', { to: 'everybody', frame: message({ stream: STREAM.slice(1) }) }),
    bad('bad-value', 'a long stream', { to: 'everybody', frame: message({ stream: STREAM + '0' }) }),
    bad('bad-value', 'a stream in upper case', { to: 'everybody', frame: message({ stream: 'ABCDEF0123456789' }) }),
    bad('bad-value', 'a stream like a path', { to: 'everybody', frame: message({ stream: '../../etc/passwd' }) }),
    bad('bad-value', 'a short challenge', {
      to: 'everybody',
      frame: message({ kind: 'hello', challenge: CHALLENGE.slice(1) }),
    }),
    bad('bad-value', 'an answer that is no hex', {
      to: 'one',
      frame: message({ ...direct, kind: 'ready', answer: 'g'.repeat(32) }),
    }),
    bad('bad-value', 'a short sha256', { to: 'everybody', frame: message({ ...file, sha256: SUM.slice(1) }) }),
    ...['0/2', '3/2', '0/0', '1', '1/', '/1', '01/2', '1/2/3', '-1/2', '1/1000000000000000', 'a[$(id)]/2'].map((part) =>
      bad('bad-value', `part ${part}`, { to: 'everybody', frame: message({ ...file, part }) }),
    ),
    bad('bad-value', 're without a number', { to: 'everybody', frame: message({ re: `${BOB} ${OTHER}` }) }),
    bad('bad-value', 're with a bad number', { to: 'everybody', frame: message({ re: `${BOB} ${OTHER} 07` }) }),
    bad('bad-value', 'seen with one mark in a direct message', {
      to: 'one',
      frame: message({ ...direct, seen: `${OTHER} 12` }),
    }),
    bad('bad-value', 'seen with two marks in a broadcast', {
      to: 'everybody',
      frame: message({ seen: `${OTHER} 1 2` }),
    }),
    bad('bad-value', 'seen with a bad number', { to: 'one', frame: message({ ...direct, seen: `${OTHER} 1 02` }) }),
    bad('bad-value', 'seen with a bad stream', { to: 'everybody', frame: message({ seen: 'x 1' }) }),
    bad('bad-value', 'seen with a space behind the comma', {
      to: 'everybody',
      frame: message({ seen: `${OTHER} 1, ${STREAM} 2` }),
    }),
    bad('bad-value', '17 receipts', { to: 'everybody', frame: message({ seen: pairs(17) }) }),
  ],
};

// ---- seals ----

const everyByte = String.fromCharCode(...Array.from({ length: 256 }, (_, i) => i));
function sealed(about, plaintext, aad = aadOf(), nonce = undefined) {
  return { about, passphrase: ROOM, aad, ...seal(ROOM, aad, plaintext, about, nonce), plaintext };
}
const wire = ({ passphrase, aad, nonce, ciphertext, tag }) => ({ passphrase, aad, nonce, ciphertext, tag });
const whole = sealed('what the bad ones are made from', message({}, 'believe me'));
const spoilt = (reason, about, changes, from = whole) => bad(reason, about, { ...wire(from), ...changes });
// 1 byte ends in `==` with 4 bits to spare, 2 bytes in `=` with 2.
const one = sealed('one', 'x');
const two = sealed('two', 'xy');
const nextLetter = (text, padding) =>
  text.slice(0, -padding - 1) +
  String.fromCharCode(text.charCodeAt(text.length - padding - 1) + 1) +
  '='.repeat(padding);

const seals = {
  about: `AES-256-GCM; the AES key is the SHA-256 of the passphrase. ${BYTES}`,
  good: [
    ...[1, 15, 16, 17, 31, 32, 33].map((length) =>
      sealed(`${length} ${length === 1 ? 'byte' : 'bytes'}`, 'abcdefghijklmnopqrstuvwxyz0123456789'.slice(0, length)),
    ),
    sealed('zeros', '\0'.repeat(20)),
    sealed('every byte', everyByte),
    sealed('a nonce of zeros', everyByte, aadOf(), Buffer.alloc(12)),
    sealed('a nonce whose second half is zeros', everyByte, aadOf(), Buffer.from('a5f3db4e532c000000000000', 'hex')),
    sealed('a nonce of ones', everyByte, aadOf(), Buffer.alloc(12, 255)),
    sealed('a frame', message({}, utf8('👋 会話 "$(id)" `id` \\n %s\n'))),
    sealed('no additional data', 'x', ''),
    sealed('additional data of one block', 'x', 'sixteen bytes!!!'),
    sealed('much additional data', 'x', 'additional data '.repeat(20) + '.'),
    sealed('a card, its additional data', 'x', aadOf({ type: 'card' })),
  ],
  bad: [
    spoilt('bad-nonce', 'a short nonce', { nonce: whole.nonce.slice(2) }),
    spoilt('bad-nonce', 'a long nonce', { nonce: whole.nonce + '00' }),
    spoilt('bad-nonce', 'no nonce', { nonce: '' }),
    spoilt('bad-nonce', 'a nonce in upper case', { nonce: whole.nonce.toUpperCase() }),
    spoilt('bad-nonce', 'a nonce that is no hex', { nonce: 'g' + whole.nonce.slice(1) }),
    spoilt('malformed-tag', 'a short tag', { tag: whole.tag.slice(2) }),
    spoilt('malformed-tag', 'a tag of one byte', { tag: whole.tag.slice(0, 2) }),
    spoilt('malformed-tag', 'a long tag', { tag: whole.tag + '00' }),
    spoilt('malformed-tag', 'no tag', { tag: '' }),
    spoilt('malformed-tag', 'a tag in upper case', { tag: whole.tag.toUpperCase() }),
    spoilt('malformed-tag', 'a tag that is no hex', { tag: 'g' + whole.tag.slice(1) }),
    spoilt('bad-base64', 'no ciphertext', { ciphertext: '' }),
    spoilt('bad-base64', 'a character that is none of base64', { ciphertext: '!' + whole.ciphertext.slice(1) }),
    spoilt('bad-base64', 'a line break', {
      ciphertext: whole.ciphertext.slice(0, 64) + '\n' + whole.ciphertext.slice(64),
    }),
    spoilt('bad-base64', 'a line break at the end', { ciphertext: whole.ciphertext + '\n' }),
    spoilt('bad-base64', 'a space', { ciphertext: ' ' + whole.ciphertext }),
    spoilt('bad-base64', 'the URL alphabet', { ciphertext: '-_-_' + whole.ciphertext.slice(4) }),
    spoilt('bad-base64', 'padding only', { ciphertext: '====' }),
    spoilt('bad-base64', 'padding in the middle', { ciphertext: 'QQ==' + whole.ciphertext }),
    spoilt('bad-base64', 'no padding', { ciphertext: one.ciphertext.slice(0, -2) }, one),
    spoilt('bad-base64', 'half the padding', { ciphertext: one.ciphertext.slice(0, -1) }, one),
    spoilt('bad-base64', 'bits beyond the last of one byte', { ciphertext: nextLetter(one.ciphertext, 2) }, one),
    spoilt('bad-base64', 'bits beyond the last of two bytes', { ciphertext: nextLetter(two.ciphertext, 1) }, two),
    spoilt('bad-tag', 'another tag', { tag: flip(whole.tag) }),
    spoilt('bad-tag', 'a tag of zeros', { tag: '0'.repeat(32) }),
    spoilt('bad-tag', 'another nonce', { nonce: flip(whole.nonce) }),
    spoilt('bad-tag', 'a changed ciphertext', { ciphertext: flipBase64(whole.ciphertext) }),
    spoilt('bad-tag', 'a ciphertext cut short', {
      ciphertext: Buffer.from(whole.ciphertext, 'base64').subarray(0, -1).toString('base64'),
    }),
    spoilt('bad-tag', 'a ciphertext with a zero more', {
      ciphertext: Buffer.concat([Buffer.from(whole.ciphertext, 'base64'), Buffer.alloc(1)]).toString('base64'),
    }),
    spoilt('bad-tag', 'another key', { passphrase: 'agentalk/1 room ' + flip(K) }),
    spoilt('bad-tag', 'another channel', { aad: aadOf({ channel: flip(CHANNEL) }) }),
    spoilt('bad-tag', 'another sender', { aad: aadOf({ from: BOB }) }),
    spoilt('bad-tag', 'another recipient', { aad: aadOf({ to: BOB }) }),
    spoilt('bad-tag', 'another type', { aad: aadOf({ type: 'card' }) }),
    spoilt('bad-tag', 'a newline behind the additional data', { aad: aadOf() + '\n' }),
  ],
};

// ---- cards ----

const cardHeaders = { kind: 'agent', name: 'alice', pub: alice.ecdh.spki, sign: alice.ecdsa.spki };
const cardText = (changes = {}) =>
  Object.entries({ ...cardHeaders, ...changes })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('') + '\n';
function card(about, text, { from = ALICE, to = '*', type = 'card', passphrase = ROOM } = {}) {
  return { about, from, sealed: seal(passphrase, aadOf({ from, to, type }), text, `card, ${about}`) };
}
const badCard = (reason, about, text, changes) => ({ ...bad(reason, about), ...card(about, text, changes) });
const compressed = Buffer.concat([Buffer.of(2 + (alice.ecdh.point[64] & 1)), alice.ecdh.point.subarray(1, 33)]);
const p384 = createECDH('secp384r1');
p384.setPrivateKey(createHash('sha384').update('agentalk test vectors: P-384').digest());

const cards = {
  about: 'Sealed cards, with the room key of k, as they come under the id `from`.',
  k: K,
  channel: CHANNEL,
  good: [
    { ...card('an agent', cardText()), card: cardHeaders },
    {
      ...card('a person', cardText({ kind: 'human', name: 'bob', pub: bob.ecdh.spki, sign: bob.ecdsa.spki }), {
        from: BOB,
      }),
      card: { kind: 'human', name: 'bob', pub: bob.ecdh.spki, sign: bob.ecdsa.spki },
    },
    { ...card('an unknown header', `x-later: 1\n${cardText()}`), card: cardHeaders },
  ],
  bad: [
    ...['kind', 'name', 'pub', 'sign'].map((name) =>
      badCard('missing-header', `no ${name}`, cardText({ [name]: undefined })),
    ),
    badCard('bad-value', 'a kind that is none', cardText({ kind: 'robot' })),
    badCard('bad-value', 'a message’s kind', cardText({ kind: 'text' })),
    ...['Alice', '.alice', 'a..b', 'a b', 'a/b', 'a'.repeat(33), '$(id)'].map((name) =>
      badCard('bad-name', `the name ${name}`, cardText({ name }), { from: idOf(name) }),
    ),
    badCard('wrong-id', 'a name that hashes to another id', cardText({ name: 'bob' })),
    badCard('wrong-id', 'somebody else’s card', cardText(), { from: BOB }),
    ...['pub', 'sign'].flatMap((name) => [
      badCard('bad-key', `${name}: a short key`, cardText({ [name]: alice.ecdh.spki.slice(0, -4) })),
      badCard('bad-key', `${name}: a long key`, cardText({ [name]: alice.ecdh.spki + 'AAAA' })),
      badCard('bad-key', `${name}: no base64`, cardText({ [name]: alice.ecdh.spki.slice(0, -3) + '!==' })),
      badCard('bad-key', `${name}: bits beyond the last`, cardText({ [name]: nextLetter(alice.ecdh.spki, 2) })),
      badCard('bad-key', `${name}: another start`, cardText({ [name]: 'A' + alice.ecdh.spki.slice(1) })),
    ]),
    badCard('bad-key', 'pub: a compressed point', cardText({ pub: spkiOf(compressed) })),
    badCard('bad-key', 'pub: a key on P-384', cardText({ pub: spkiOf(p384.getPublicKey()) })),
    badCard('twice', 'two names', `name: alice\n${cardText()}`),
    badCard('no-empty-line', 'no end', cardText().slice(0, -1)),
    // A reader takes the additional data that a card must have, not what the sealer took.
    badCard('bad-tag', 'sealed as a message', cardText(), { type: 'message' }),
    badCard('bad-tag', 'sealed for one', cardText(), { to: BOB }),
    badCard('bad-tag', 'sealed with another channel’s key', cardText(), { passphrase: 'agentalk/1 room ' + flip(K) }),
  ],
};
// ---- broadcasts ----

const previous = join(VECTORS, 'broadcasts.json');
const kept = existsSync(previous)
  ? [...readFileSync(previous, 'utf8').matchAll(/signature: ([A-Za-z0-9+/=]{90,})\\n/g)].map(([, text]) => text)
  : [];
/** DER, base64. With a first r bit of 1, so that its DER has a byte of padding to spoil. */
function signed({ key, publicKey }, data) {
  const isPadded = (text) => Buffer.from(text, 'base64')[3] === 33;
  const again = kept.find((text) => isPadded(text) && verify('sha256', data, publicKey, Buffer.from(text, 'base64')));
  if (again) return again;
  for (;;) {
    const fresh = sign('sha256', data, key).toString('base64');
    if (isPadded(fresh)) return fresh;
  }
}
const said = (aad, text) => Buffer.concat([Buffer.from(aad + '\n\n'), latin1(text)]);
/** The frame with a last header more. */
const withSignature = (text, signature) => text.replace('\n\n', `\nsignature: ${signature}\n\n`);
const signText = (text, aad = aadOf(), who = alice.ecdsa) => withSignature(text, signed(who, said(aad, text)));

const text = message({}, 'it was me\n');
const der = Buffer.from(signed(alice.ecdsa, said(aadOf(), text)), 'base64');
const r = der.subarray(4, 4 + der[3]);
const s = der.subarray(6 + der[3]);
const integer = (digits) => Buffer.concat([Buffer.of(2, digits.length), digits]);
const sequence = (...values) => {
  const all = Buffer.concat(values);
  return Buffer.concat([Buffer.of(0x30, all.length), all]);
};
const N = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551'); // SEC 2, 2.4.2
const number = (digits) => BigInt('0x' + digits.toString('hex'));
const digits = (value) => {
  const bytes = Buffer.from(value.toString(16).padStart(64, '0'), 'hex');
  const start = bytes.findIndex((byte) => byte !== 0);
  return bytes[start] >= 0x80 ? Buffer.concat([Buffer.of(0), bytes.subarray(start)]) : bytes.subarray(start);
};
const fixed = (value) => Buffer.from(number(value).toString(16).padStart(64, '0'), 'hex');
const forged = (about, bytes) => bad('bad-signature', about, { frame: withSignature(text, bytes.toString('base64')) });
const signature = der.toString('base64');

const broadcasts = {
  about: `Frames to everybody, from alice, with her signature. ${BYTES} These keys are for tests only.`,
  aad: aadOf(),
  sign: alice.ecdsa.spki,
  private: alice.ecdsa.pem,
  good: [
    { about: 'a text', frame: withSignature(text, signature) },
    { about: 'an empty body', frame: signText(message({ kind: 'hello', challenge: CHALLENGE }, '')) },
    { about: 'a body of any bytes', frame: signText(message({}, '\0\xff\n\nsignature: AAAA\n\n\0')) },
    {
      about: 'the same signature’s twin, s → n − s: valid, so signatures are never compared',
      frame: withSignature(text, sequence(integer(r), integer(digits(N - number(s)))).toString('base64')),
    },
  ],
  bad: [
    bad('unsigned', 'no signature', { frame: text }),
    bad('unsigned', 'a signature in the body', { frame: `${text}signature: ${signature}\n` }),
    bad('signature-not-last', 'a header behind it', { frame: withSignature(text, `${signature}\nx: 1`) }),
    bad('signature-not-last', 'it comes first', { frame: `signature: ${signature}\n${text}` }),
    bad('bad-signature', 'another body', { frame: withSignature(text.replace('me', 'you'), signature) }),
    bad('bad-signature', 'another number', { frame: withSignature(text.replace('seq: 1', 'seq: 2'), signature) }),
    bad('bad-signature', 'a header more', { frame: withSignature(`x: 1\n${text}`, signature) }),
    bad('bad-signature', 'signed by bob', { frame: signText(text, aadOf(), bob.ecdsa) }),
    bad('bad-signature', 'signed as bob', { frame: signText(text, aadOf({ from: BOB })) }),
    bad('bad-signature', 'signed for another channel', { frame: signText(text, aadOf({ channel: flip(CHANNEL) })) }),
    bad('bad-signature', 'no base64', { frame: withSignature(text, '!!!!') }),
    bad('bad-signature', 'base64 with padding to spare', { frame: withSignature(text, signature + '====') }),
    forged('r and s as 64 bytes, not DER', Buffer.concat([fixed(r), fixed(s)])),
    forged('a byte behind the DER', Buffer.concat([der, Buffer.alloc(1)])),
    forged('a byte behind s', sequence(integer(r), integer(s), Buffer.alloc(1))),
    forged('DER cut short', der.subarray(0, -1)),
    forged('a zero too many before r', sequence(integer(Buffer.concat([Buffer.alloc(1), r])), integer(s))),
    forged('a zero too few before r', sequence(integer(r.subarray(1)), integer(s))),
    forged('a length in long form', Buffer.concat([Buffer.of(0x30, 0x81), der.subarray(1)])),
    forged('r alone', sequence(integer(r))),
    forged('r and s are 0', sequence(integer(Buffer.alloc(1)), integer(Buffer.alloc(1)))),
    forged('s + n', sequence(integer(r), integer(Buffer.from((number(s) + N).toString(16).padStart(66, '0'), 'hex')))),
    forged('r and s of 100 bytes', sequence(integer(Buffer.alloc(100, 1)), integer(Buffer.alloc(100, 1)))),
  ],
};

// ---- direct keys ----

function leadingZero() {
  for (let i = 0; ; i++) {
    const pair = keyPair(`somebody, ${i}`);
    if (shared(alice.ecdh, pair).startsWith('00')) return pair;
  }
}
function pairOf(about, mine, theirs) {
  const x = shared(mine, theirs);
  const passphrase = `agentalk/1 direct ${K} ${x}`;
  const end = ({ pem, spki }) => ({ private: pem, pub: spki });
  return { about, a: end(mine), b: end(theirs), x, passphrase, aes: H(passphrase) };
}
const offCurve = Buffer.from(bob.ecdh.point);
offCurve[64] ^= 1;

const directs = {
  about: 'Direct keys by ECDH on P-256, in the channel of k. These keys are for tests only.',
  k: K,
  good: [
    pairOf('alice and bob', alice.ecdh, bob.ecdh),
    pairOf('an x-coordinate with a leading zero byte', alice.ecdh, leadingZero()),
  ],
  private: alice.ecdh.pem,
  bad: [
    bad('bad-key', 'a point that is not on the curve', { pub: spkiOf(offCurve) }),
    bad('bad-key', 'the point (0, 0)', { pub: spkiOf(Buffer.concat([Buffer.of(4), Buffer.alloc(64)])) }),
    bad('bad-key', 'coordinates beyond the field', {
      pub: spkiOf(Buffer.concat([Buffer.of(4), Buffer.alloc(64, 255)])),
    }),
    bad('bad-key', 'a compressed point', { pub: spkiOf(compressed) }),
    bad('bad-key', 'a key on P-384', { pub: spkiOf(p384.getPublicKey()) }),
    bad('bad-key', 'a key cut short', { pub: bob.ecdh.spki.slice(0, -4) }),
    bad('bad-key', 'bits beyond the last', { pub: nextLetter(bob.ecdh.spki, 2) }),
    bad('bad-key', 'nothing', { pub: '' }),
  ],
};

mkdirSync(target, { recursive: true });
for (const [name, vectors] of Object.entries({ derivations, frames, messages, seals, cards, broadcasts, directs })) {
  const json = JSON.stringify(vectors, null, 2).replace(
    /[\x7f-\x9f\xad]/g,
    (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'),
  );
  writeFileSync(
    join(target, `${name}.json`),
    await format(json, { parser: 'json', printWidth: 120, objectWrap: 'collapse' }),
  );
}
