/**
 * Writes tests/vectors/*.json, the test vectors of agentalk/1 (tests/vectors/README.md has their format). Uses node:crypto
 * alone, so that sdk/protocol.ts and sdk/shell are checked against something that shares no code with them. The output
 * is the same each time: keys and nonces are constants or hashes of their names, and a signature (ECDSA is random) is
 * reused from the present files as long as it verifies.
 *
 * node scripts/vectors.mjs [FOLDER]
 */
import {
  createCipheriv,
  createECDH,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  sign,
  verify,
} from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { format } from 'prettier';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const VECTORS = join(ROOT, 'tests', 'vectors');
const target = process.argv[2] ?? VECTORS;

/** In the files each character of a string of bytes is one byte. */
const latin1 = (text) => Buffer.from(text, 'latin1');
const utf8 = (text) => Buffer.from(text, 'utf8').toString('latin1');
const sha256 = (data) => createHash('sha256').update(data).digest();
const H = (text) => sha256(text).toString('hex');
const label = (text) => `agentalk test vectors: ${text}`;

// ---- cases ----

const slug = (text) =>
  text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
/** A case that is accepted, and one that is rejected for exactly one reason. */
const accept = (comment, rest) => ({ comment, ...rest });
const reject = (reason, comment, rest) => ({ comment, reason, ...rest });

const ids = new Set();
/** Gives each case its id: the path of its list, without accept and reject, and its comment. Throws if one comes twice. */
function withIds(path, value) {
  if (Array.isArray(value)) {
    return value.map(({ comment, ...rest }) => {
      const id = `${path}/${slug(comment)}`;
      if (ids.has(id)) throw new Error(`two cases have the id ${id}`);
      ids.add(id);
      return { id, comment, ...rest };
    });
  }
  if (typeof value !== 'object') return value;
  const pathOf = (key) => (key === 'accept' || key === 'reject' ? path : `${path}/${key}`);
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, withIds(pathOf(key), each)]));
}

/** A value changed in one place. */
const flip = (hex) => hex.slice(0, -1) + (parseInt(hex.slice(-1), 16) ^ 1).toString(16);
const flipBase64 = (text) => {
  const bytes = Buffer.from(text, 'base64');
  bytes[0] ^= 1;
  return bytes.toString('base64');
};
/** The same bytes in base64 with a bit set after the last byte. */
const withSpareBit = (text) => {
  const at = text.replace(/=+$/, '').length - 1;
  return text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) + 1) + text.slice(at + 1);
};

// ---- the example's channel and its sessions. None of these keys is a secret. ----

const K = '7'.padStart(64, '0');
const ADA_ECDH = `-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIK6EDujG4wtWCTXgbenEGEiomZgJw7oQbVJ190uOwrsHoAoGCCqGSM49
AwEHoUQDQgAEXEJp0GrekqUOGGkXr9LQT9RYeVvpjDdKi9MNLl79Wl+1V51lL11b
a0AZkrixbaz1KXvHGs0r2WRS98csXW63fg==
-----END EC PRIVATE KEY-----
`;
const ADA_ECDSA = `-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIEqBRHaXstqyqoniEyKVvWJTiISzwGonN0jHCtJHpiemoAoGCCqGSM49
AwEHoUQDQgAEM0nBaUQLfXCe+O38ps9W/rdbbVwW9uysQHKQFHoZCfHjk72wbrl0
EtnNBUf08c0YF2FuCq+avbPiNAFlE/6Hrg==
-----END EC PRIVATE KEY-----
`;
const BOB_ECDH = `-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIMOx/nGIyA2HUiL/AdOBUBAfJGqnHgZhsGC5OEYyiLVsoAoGCCqGSM49
AwEHoUQDQgAEt6yBzak0CQ/YYn/hqvUNIf4xpp87w7vSN+TOTOFZpCUHI2qTjFab
8YddPRf1FgAIrvEGkxwxn6ba/sNA7LORyw==
-----END EC PRIVATE KEY-----
`;
/** The private half is not published. */
const BOB_SIGN =
  'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEWMJYFhYTrVu53s3xINAJjxq3j1mo3jZt9K2hb0mhTUJTxxE8BmyZSjrV+xm+SX21Mq3hEqd1BINackgBBf0o3w==';
const EXAMPLE_SIGNATURE =
  'MEQCIC3VpBF6beEWt8Ms8+1wWnA5wU4aGKJq61rheKRZwfROAiBO0w9XyBO85xK/pdJxIlbjtbqHj+36csaxv+su7u8eHQ==';

const accessOf = (k) => H(`agentalk/1 access ${k}`);
const channelOf = (k) => H(`agentalk/1 channel ${accessOf(k)}`).slice(0, 32);
const idOf = (name, k = K) => H(`agentalk/1 participant ${k} ${name}`).slice(0, 32);
const sidOf = ({ kind, name, pub, sign }, k = K) =>
  H(`agentalk/1 session ${k} ${kind} ${name} ${pub} ${sign}`).slice(0, 32);
const broadcastPassphrase = (k) => `agentalk/1 room ${k}`;
const directPassphrase = (sidA, sidB, x, k = K) => `agentalk/1 direct ${k} ${[sidA, sidB].sort().join(' ')} ${x}`;
const filePassphrase = (f) => `agentalk/1 file ${f}`;

function keyPair(pem) {
  const key = createPrivateKey(pem);
  const publicKey = createPublicKey(key);
  const der = publicKey.export({ type: 'spki', format: 'der' });
  return { key, publicKey, spki: der.toString('base64'), point: der.subarray(26), pem };
}
/** A key pair whose private half is the hash of a label. */
function labelledPair(text) {
  const ecdh = createECDH('prime256v1');
  const d = sha256(label(`private key of ${text}`));
  ecdh.setPrivateKey(d);
  const point = ecdh.getPublicKey();
  const coordinate = (at) => point.subarray(at, at + 32).toString('base64url');
  const jwk = { kty: 'EC', crv: 'P-256', d: d.toString('base64url'), x: coordinate(1), y: coordinate(33) };
  return keyPair(createPrivateKey({ key: jwk, format: 'jwk' }).export({ type: 'sec1', format: 'pem' }));
}
const xOf = (mine, theirs) =>
  diffieHellman({ privateKey: mine.key, publicKey: theirs.publicKey }).toString('hex').padStart(64, '0');

function session(kind, name, ecdh, ecdsa, signKey = ecdsa.spki) {
  const card = { kind, name, pub: ecdh.spki, sign: signKey };
  return { ...card, id: idOf(name), sid: sidOf(card), card, ecdh, ecdsa };
}
const ada = session('agent', 'ada', keyPair(ADA_ECDH), keyPair(ADA_ECDSA));
const bob = session('human', 'bob', keyPair(BOB_ECDH), undefined, BOB_SIGN);
const carol = session('agent', 'carol', labelledPair('carol, ECDH'), labelledPair('carol, ECDSA'));
/** Another session of ada, with the same key for signatures: nobody should do that, and it must not help. */
const adaAgain = session('agent', 'ada', labelledPair('ada again, ECDH'), ada.ecdsa);

const CHANNEL = channelOf(K);
const ROOM = broadcastPassphrase(K);
const OTHER_K = flip(K);

const aadOf = ({ channel = CHANNEL, from = ada.id, to = '*', type = 'message' } = {}) =>
  ['agentalk/1', channel, from, to, type].join('\n');

const nonceOf = (name) => sha256(label(`nonce of ${name}`)).subarray(0, 12);
function seal(passphrase, aad, plaintext, nonce) {
  const cipher = createCipheriv('aes-256-gcm', sha256(passphrase), nonce);
  cipher.setAAD(Buffer.from(aad));
  const ciphertext = Buffer.concat([cipher.update(latin1(plaintext)), cipher.final()]).toString('base64');
  return { nonce: nonce.toString('hex'), ciphertext, tag: cipher.getAuthTag().toString('hex') };
}
function ctr(f, plaintext, piece) {
  const counter = Buffer.alloc(16);
  counter.writeUInt32BE(piece * 65_536, 12);
  const cipher = createCipheriv('aes-256-ctr', sha256(filePassphrase(f)), counter);
  return Buffer.concat([cipher.update(plaintext), cipher.final()]);
}

const makeFrame = (headers, body = '') =>
  Object.entries(headers)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('') + `\n${body}`;

// ---- example.json ----

const PIECE_BYTES = 1_048_576;
const TIME = 1767225600000;
const exampleText = makeFrame(
  { kind: 'text', seq: 3, time: TIME, seen: `${bob.sid.slice(0, 16)} 2 0` },
  utf8('Grüße\n'),
);
const withSignature = (frame, signature) => frame.replace('\n\n', `\nsignature: ${signature}\n\n`);
/** What a signature is over, as text of bytes. */
const signedText = (aad, sid, frame) => `${aad}\n${sid}\n\n${frame}`;
const exampleAck = makeFrame({ kind: 'ack', time: TIME + 1, sent: '1 3 0', received: '2 0 0' });
const F = 'ab'.repeat(32);
const plainFile = Buffer.concat([Buffer.alloc(PIECE_BYTES, 1), Buffer.from('end')]);
const pieces = [ctr(F, plainFile.subarray(0, PIECE_BYTES), 0), ctr(F, plainFile.subarray(PIECE_BYTES), 1)];
const pieceSums = pieces.map((piece) => sha256(piece).toString('hex'));
const numberedNonce = (number) => Buffer.from(number.toString(16).padStart(24, '0'), 'hex');
const sharedX = xOf(ada.ecdh, bob.ecdh);
const directAB = directPassphrase(ada.sid, bob.sid, sharedX);
const identity = ({ kind, name, pub, sign, id, sid, ecdh, ecdsa }) => ({
  ...{ kind, name, pub, sign, participant_id: id, sid, ecdh_private: ecdh.pem },
  ...(ecdsa && { ecdsa_private: ecdsa.pem }),
});

const exampleSigned = signedText(aadOf(), ada.sid, exampleText);
if (!verify('sha256', latin1(exampleSigned), ada.ecdsa.publicKey, Buffer.from(EXAMPLE_SIGNATURE, 'base64'))) {
  throw new Error('the signature of the example does not verify');
}
const example = {
  k: K,
  access: accessOf(K),
  channel: CHANNEL,
  room_key: H(ROOM),
  ada: identity(ada),
  bob: identity(bob),
  shared_x: sharedX,
  direct_key: H(directAB),
  card: {
    frame: makeFrame(ada.card),
    sealed: seal(ROOM, aadOf({ type: 'card' }), makeFrame(ada.card), numberedNonce(1)),
  },
  broadcast: {
    signed_bytes: latin1(exampleSigned).toString('utf8'),
    signature: EXAMPLE_SIGNATURE,
    sealed: seal(ROOM, aadOf(), withSignature(exampleText, EXAMPLE_SIGNATURE), numberedNonce(2)),
  },
  direct: {
    from: 'ada',
    to: 'bob',
    frame: exampleAck,
    sealed: seal(directAB, aadOf({ to: bob.id }), exampleAck, numberedNonce(3)),
  },
  file: {
    f: F,
    key: H(filePassphrase(F)),
    plaintext: '1,048,576 bytes 01, then "end"',
    sha256: sha256(plainFile).toString('hex'),
    size: plainFile.length,
    pieces: pieceSums,
    body: [F, ...pieceSums].map((line) => `${line}\n`).join(''),
    last_piece: pieces[1].toString('hex'),
  },
};

// ---- derivations.json ----

const keys = [K, H(label('channel key')), '0'.repeat(64), 'f'.repeat(64)];
const NAMES = ['a', 'laptop', 'ci.build_7-x', '0'.repeat(32)];
const derivations = {
  comment: 'What is derived from the channel key k. `aes` is the AES key of the passphrase, as hex.',
  channels: keys.map((k) =>
    accept(`key ${k.slice(0, 4)} to ${k.slice(-4)}`, {
      k,
      access: accessOf(k),
      channel: channelOf(k),
      room: { passphrase: broadcastPassphrase(k), aes: H(broadcastPassphrase(k)) },
      participants: NAMES.map((name) => ({ name, id: idOf(name, k) })),
    }),
  ),
  sessions: [
    accept('an agent', { k: K, card: ada.card, sid: ada.sid }),
    accept('a person', { k: K, card: bob.card, sid: bob.sid }),
    accept('the same keys as another kind', {
      k: K,
      card: { ...ada.card, kind: 'human' },
      sid: sidOf({ ...ada.card, kind: 'human' }),
    }),
    accept('the same keys under another name', {
      k: K,
      card: { ...ada.card, name: 'carol' },
      sid: sidOf({ ...ada.card, name: 'carol' }),
    }),
    accept('another pub', { k: K, card: adaAgain.card, sid: adaAgain.sid }),
    accept('another channel', { k: OTHER_K, card: ada.card, sid: sidOf(ada.card, OTHER_K) }),
  ],
  files: [F, '0'.repeat(64)].map((f) =>
    accept(`f of ${f.slice(0, 4)}`, { f, passphrase: filePassphrase(f), aes: H(filePassphrase(f)) }),
  ),
  additional_data: [
    accept('a card', { channel: CHANNEL, from: ada.id, to: '*', type: 'card', aad: aadOf({ type: 'card' }) }),
    accept('a broadcast', { channel: CHANNEL, from: ada.id, to: '*', type: 'message', aad: aadOf() }),
    accept('a direct message', {
      ...{ channel: CHANNEL, from: bob.id, to: ada.id, type: 'message' },
      aad: aadOf({ from: bob.id, to: ada.id }),
    }),
  ],
};

// ---- names.json ----

const HIDDEN = {
  'a newline': '\n',
  'a tab': '\t',
  'a NUL': '\0',
  'an escape character': '\x1b',
  'a DEL': '\x7f',
  'a C1 control': '\x9b',
  'a soft hyphen': '\xad',
  'a zero-width space': '\u200b',
  'a zero-width joiner': '\u200d',
  'a right-to-left override': '\u202e',
  'a right-to-left isolate': '\u2067',
  'a line separator': '\u2028',
  'a word joiner': '\u2060',
  'a variation selector': '\ufe0f',
  'a byte order mark': '\ufeff',
  'a Hangul filler': '\u3164',
  'an interlinear annotation': '\ufff9',
  'a tag': '\u{e0041}',
  'a supplementary variation selector': '\u{e0100}',
};
const percent = (text) =>
  Array.from(Buffer.from(text, 'utf8'), (byte) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z0-9._-]/.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }).join('');
const fileName = (comment, name) => accept(comment, { encoded: percent(name), name });
const badFileName = (comment, encoded) => reject('bad-header-value', comment, { encoded });

const names = {
  comment: 'Names of participants in cards, and file names in the header `name` of a `file` message.',
  participants: {
    accept: [
      ['a letter', 'a'],
      ['a digit', '7'],
      ['a word', 'laptop'],
      ['a dot inside', 'a.b'],
      ['a hyphen last', 'a-'],
      ['an underscore last', 'a_'],
      ['a dot last', 'a.'],
      ['32 characters', 'x'.repeat(32)],
      ['a reserved name and a digit', 'me2'],
      ['a name that starts with a reserved one', 'allison'],
      ['a reserved name and a number', 'agentalk-2'],
    ].map(([comment, name]) => accept(comment, { name })),
    reject: [
      ...[
        ['empty', ''],
        ['upper case', 'A'],
        ['a capital letter', 'Laptop'],
        ['a dot first', '.a'],
        ['a hyphen first', '-a'],
        ['an underscore first', '_a'],
        ['two dots', 'a..b'],
        ['a space', 'a b'],
        ['a slash', 'a/b'],
        ['a newline inside', 'a\nb'],
        ['a newline at the end', 'a\n'],
        ['a newline first', '\na'],
        ['33 characters', 'x'.repeat(33)],
        ['a command substitution', 'a$(id)'],
        ['an accent', 'é'],
        ['a fullwidth letter', 'ａ'],
        ['an asterisk', '*'],
        ['a backslash', 'a\\'],
        ['a tilde, as in NAME~2', 'a~2'],
      ].map(([comment, name]) => reject('bad-name', comment, { name })),
      ...['agentalk', 'all', 'bridge', 'everybody', 'me', 'user', 'you'].map((name) =>
        reject('reserved-name', `reserved ${name}`, { name }),
      ),
    ],
  },
  files: {
    accept: [
      fileName('ASCII', 'fix-1_final.patch'),
      fileName('a space', 'my file.txt'),
      fileName('Cyrillic', 'отчёт.txt'),
      fileName('Japanese', '日本語.md'),
      fileName('an accent', 'Résumé.pdf'),
      fileName('a decomposed accent', 'Re\u0301sume\u0301.pdf'),
      fileName('an emoji', '🎉.png'),
      fileName('what a shell would run', '$(id)`id`;*.sh'),
      fileName('a dot first', '.env'),
      fileName('three dots', '...'),
      fileName('a hyphen first', '-rf'),
      fileName('a percent sign', '100%.txt'),
      fileName('120 bytes of ASCII', 'x'.repeat(120)),
      fileName('120 bytes of three-byte characters', '語'.repeat(40)),
      accept('an encoding without need', { encoded: '%41.txt', name: 'A.txt' }),
    ],
    reject: [
      badFileName('a dot', '.'),
      badFileName('two dots', '..'),
      badFileName('two dots, encoded', '%2E%2E'),
      badFileName('a slash', 'a%2Fb'),
      badFileName('a slash as it is', 'a/b'),
      badFileName('a path upwards', '..%2F..%2Fetc%2Fpasswd'),
      badFileName('a backslash', '..%5Ca'),
      badFileName('lower case hex', 'caf%c3%a9'),
      badFileName('a percent sign alone', '100%'),
      badFileName('one hex digit', 'a%4'),
      badFileName('no hex digits', 'a%GG'),
      badFileName('a plus sign', 'a+b'),
      badFileName('a space as it is', 'a b'),
      badFileName('121 bytes', 'x'.repeat(121)),
      badFileName('121 bytes, all encoded', '%C3%A9'.repeat(60) + 'x'),
      badFileName('363 characters', '%61'.repeat(121)),
      badFileName('a byte that is not UTF-8', 'a%FFb'),
      badFileName('UTF-8 cut short', 'a%E8%AA'),
      badFileName('an overlong slash', 'a%C0%AFb'),
      badFileName('a surrogate', 'a%ED%A0%80b'),
      badFileName('beyond Unicode', 'a%F4%90%80%80'),
      ...Object.entries(HIDDEN).map(([comment, character]) => badFileName(comment, `a${percent(character)}b`)),
    ],
    encode: [
      accept('as it is', { name: 'fix-1_final.patch', encoded: 'fix-1_final.patch' }),
      accept('Cyrillic', { name: 'отчёт.txt', encoded: percent('отчёт.txt') }),
      accept('slash and backslash', { name: 'a/b\\c', encoded: 'a_b_c' }),
      accept('empty', { name: '', encoded: 'file' }),
      accept('a dot', { name: '.', encoded: 'file' }),
      accept('two dots', { name: '..', encoded: 'file' }),
      accept('a long stem keeps its ending', { name: `${'x'.repeat(200)}.patch`, encoded: `${'x'.repeat(114)}.patch` }),
      accept('a long stem is cut at a character', {
        name: `${'語'.repeat(50)}.md`,
        encoded: `${percent('語'.repeat(39))}.md`,
      }),
      accept('the last dot counts', { name: `${'x'.repeat(200)}.tar.gz`, encoded: `${'x'.repeat(117)}.gz` }),
      accept('an ending of 32 bytes is kept', {
        name: `${'x'.repeat(200)}.${'y'.repeat(31)}`,
        encoded: `${'x'.repeat(88)}.${'y'.repeat(31)}`,
      }),
      accept('an ending of 33 bytes is not kept', {
        name: `${'x'.repeat(119)}.${'y'.repeat(32)}`,
        encoded: `${'x'.repeat(119)}.`,
      }),
      accept('a dot first is no ending', {
        name: `.${'x'.repeat(31)}`.padEnd(130, 'x'),
        encoded: `.${'x'.repeat(119)}`,
      }),
      ...Object.entries(HIDDEN).map(([comment, character]) =>
        accept(comment, { name: `a${character}b`, encoded: 'a_b' }),
      ),
    ],
  },
};

// ---- frames.json ----

const BYTES = 'Each character of a frame, a body or a plaintext is one byte (Latin-1).';
const headers = { kind: 'text', seq: '1', time: String(TIME) };
const HEAD = makeFrame(headers).slice(0, -1);
/** Header lines of exactly so many bytes. */
const headOf = (bytes) => HEAD + `x: ${'y'.repeat(bytes - HEAD.length - 4)}\n`;
const parsed = (comment, frame, expected) => accept(comment, { frame, ...expected });
const badFrame = (reason, comment, frame) => reject(reason, comment, { frame });

const frames = {
  comment: `Frames as bytes, parsed. ${BYTES} \`headers\` are those of docs/protocol.md; readers ignore others.`,
  accept: [
    parsed('a text', `${HEAD}\nhello\n`, { headers, body: 'hello\n' }),
    parsed('an empty body', `${HEAD}\n`, { headers, body: '' }),
    parsed('no headers at all', '\nbody', { headers: {}, body: 'body' }),
    parsed('a body of newlines', `${HEAD}\n\n\n`, { headers, body: '\n\n' }),
    parsed('a body that looks like headers', `${HEAD}\nkind: bye\n\nx`, { headers, body: 'kind: bye\n\nx' }),
    parsed('a body of any bytes', `${HEAD}\n\0\x01\x7f\x80\xff\r\n\0`, { headers, body: '\0\x01\x7f\x80\xff\r\n\0' }),
    parsed('emoji and CJK', `${HEAD}\n${utf8('👋 会話')}`, { headers, body: utf8('👋 会話') }),
    parsed('unknown headers', `x-later: 1\n${HEAD}z9-: ~\n\nb`, { headers, body: 'b' }),
    parsed('a value with colons and spaces', `name: a: b  c:d\n${HEAD}\nb`, {
      headers: { name: 'a: b  c:d', ...headers },
      body: 'b',
    }),
    parsed('a value of one character', 'name: !\n\n', { headers: { name: '!' }, body: '' }),
    parsed('a value that a shell would run', 'name: $(id)`id`\\n%s*\n\n', {
      headers: { name: '$(id)`id`\\n%s*' },
      body: '',
    }),
    parsed('a header name of 32 characters', `${'n'.repeat(32)}: 1\n\n`, { headers: {}, body: '' }),
    parsed('4096 bytes of headers', `${headOf(4096)}\nb`, { headers, body: 'b' }),
    parsed('a signature', `${HEAD}signature: AAAA\n\nb`, {
      ...{ headers, signature: 'AAAA', body: 'b', unsigned: `${HEAD}\nb` },
    }),
    parsed('4096 bytes of headers with the signature', `${headOf(4096 - 16)}signature: AAAA\n\nb`, {
      ...{ headers, signature: 'AAAA', body: 'b', unsigned: `${headOf(4096 - 16)}\nb` },
    }),
  ],
  reject: [
    badFrame('unterminated-headers', 'nothing', ''),
    badFrame('unterminated-headers', 'headers only', HEAD),
    badFrame('unterminated-headers', 'a last line without its newline', HEAD.slice(0, -1)),
    badFrame('headers-too-long', '4097 bytes of headers', `${headOf(4097)}\nb`),
    badFrame('headers-too-long', '4097 bytes with the signature', `${headOf(4097 - 16)}signature: AAAA\n\nb`),
    badFrame(
      'headers-too-long',
      'many short headers',
      `${Array.from({ length: 342 }, (_, i) => `h${i + 100}: 12345\n`).join('')}\nb`,
    ),
    badFrame('bad-header', 'no colon', 'kind\n\n'),
    badFrame('bad-header', 'no space', 'kind:text\n\n'),
    badFrame('bad-header', 'two spaces', 'kind:  text\n\n'),
    badFrame('bad-header', 'a space at the end', 'kind: text \n\n'),
    badFrame('bad-header', 'no value', 'kind: \n\n'),
    badFrame('bad-header', 'no name', ': text\n\n'),
    badFrame('bad-header', 'a name in upper case', 'Kind: text\n\n'),
    badFrame('bad-header', 'a name that starts with a digit', '1kind: text\n\n'),
    badFrame('bad-header', 'a name with an underscore', 'my_kind: text\n\n'),
    badFrame('bad-header', 'a name with a space', 'kind : text\n\n'),
    badFrame('bad-header', 'a name of 33 characters', `${'n'.repeat(33)}: 1\n\n`),
    badFrame('bad-header', 'a space before the name', ' kind: text\n\n'),
    badFrame('bad-header', 'carriage returns', 'kind: text\r\n\r\n\n'),
    badFrame('bad-header', 'a tab in a value', 'name: a\tb\n\n'),
    badFrame('bad-header', 'an escape character in a value', 'name: \x1b[2J\n\n'),
    badFrame('bad-header', 'a NUL in a value', 'name: a\0b\n\n'),
    badFrame('bad-header', 'a NUL in a name', 'ki\0nd: text\n\n'),
    badFrame('bad-header', 'a DEL in a value', 'name: a\x7f\n\n'),
    badFrame('bad-header', 'UTF-8 in a value', utf8('name: é\n\n')),
    badFrame('bad-header', 'a byte above 127 in a value', 'name: a\xff\n\n'),
    badFrame('duplicate-header', 'two kinds', `${HEAD}kind: bye\n\nb`),
    badFrame('duplicate-header', 'two numbers', `${HEAD}seq: 2\n\nb`),
    badFrame('duplicate-header', 'an unknown header twice', `x: 1\n${HEAD}x: 1\n\nb`),
    badFrame('signature-not-last', 'a header after the signature', `signature: AAAA\n${HEAD}\nb`),
    badFrame('signature-not-last', 'two signatures', `${HEAD}signature: AAAA\nsignature: AAAA\n\nb`),
  ],
};

// ---- messages.json ----

const SIZE = String(PIECE_BYTES + 1);
const SUM = H(label('a file'));
const BOB_S = bob.sid.slice(0, 16);
const CAROL_S = carol.sid.slice(0, 16);
const MAX = '9'.repeat(15);

const textHeaders = { kind: 'text', seq: '1', time: String(TIME) };
const directHeaders = { ...textHeaders, sent: '1 3 1', received: '2 0 0' };
const fileHeaders = { ...textHeaders, kind: 'file', name: 'a.diff', size: SIZE, sha256: SUM };
const controlHeaders = (kind) => ({ kind, time: String(TIME), sent: '1 3 0', received: '2 0 0' });

const textFields = { kind: 'text', seq: 1, time: TIME, seen: [] };
const directFields = { ...textFields, sent: [1, 3, 1], received: [2, 0, 0] };
const controlFields = (kind) => ({ kind, seq: null, time: TIME, sent: [1, 3, 0], received: [2, 0, 0], seen: [] });

const message =
  (direct) =>
  (comment, headers, expected, body = 'b') =>
    accept(comment, { direct, frame: makeFrame(headers, body), message: expected });
const toAll = message(false);
const toOne = message(true);
/** `seq` is the number that the rejected frame consumes, or null. */
const badMessage =
  (direct) =>
  (reason, comment, headers, seq = 1) =>
    reject(reason, comment, { direct, frame: makeFrame(headers, 'b'), seq });
const badToAll = badMessage(false);
const badToOne = badMessage(true);
const entries = (count) => Array.from({ length: count }, (_, i) => [H(label(`session ${i}`)).slice(0, 16), i + 1, 0]);
const seenHeader = (list) => list.map((entry) => entry.join(' ')).join(',');
const seenFields = (list) => list.map((entry) => [...entry, false]);
const BAD_DECIMALS = ['01', '-1', '1.5', '1e3', '0x10', '1000000000000000', 'a[$(id)]', 'x'];

const messages = {
  comment: `Proved frames, checked as messages. \`direct\` says whether the message went to one session. ${BYTES}`,
  decimals: {
    accept: ['0', '1', '10', '4096', MAX].map((text) => accept(`decimal ${text}`, { text })),
    reject: [
      ['empty', ''],
      ['two zeros', '00'],
      ['a leading zero', '01'],
      ['a plus sign', '+1'],
      ['a minus sign', '-1'],
      ['minus zero', '-0'],
      ['a fraction', '1.0'],
      ['an exponent', '1e3'],
      ['hex', '0x1'],
      ['a space first', ' 1'],
      ['a space last', '1 '],
      ['a newline last', '1\n'],
      ['a newline first', '\n1'],
      ['16 digits', '1000000000000000'],
      ['a subscript that a shell would run', 'a[$(id)]'],
      ['Arabic digits', '١'],
      ['an underscore', '1_0'],
      ['a comma', '1,0'],
      ['a base', '16#ff'],
    ].map(([comment, text]) => reject('bad-number', comment, { text })),
  },
  accept: [
    toAll('a text to all', textHeaders, textFields),
    toOne('a text to one', directHeaders, directFields),
    toOne('a sync', controlHeaders('sync'), controlFields('sync'), ''),
    toOne('an ack', controlHeaders('ack'), controlFields('ack'), ''),
    toOne('a want', controlHeaders('want'), controlFields('want'), `${SUM}\n`),
    toOne('a bye', controlHeaders('bye'), controlFields('bye'), ''),
    toOne('a body of a sync, which is ignored', controlHeaders('sync'), controlFields('sync'), 'anything'),
    toOne(
      'stored in a sync',
      { ...controlHeaders('sync'), stored: '7 3' },
      { ...controlFields('sync'), stored: [7, 3] },
    ),
    toOne('stored in an ack', { ...controlHeaders('ack'), stored: '0 0' }, { ...controlFields('ack'), stored: [0, 0] }),
    ...['listening', 'wakes', 'reads'].map((reach) =>
      toOne(`reach ${reach}`, { ...controlHeaders('sync'), reach }, { ...controlFields('sync'), reach }),
    ),
    toAll('reach to all', { ...textHeaders, reach: 'wakes' }, { ...textFields, reach: 'wakes' }),
    toAll(
      'an unknown kind with a number',
      { ...textHeaders, kind: 'later-on-maybe-x' },
      { ...textFields, kind: 'later-on-maybe-x' },
    ),
    toOne(
      'an unknown kind with a number, to one',
      { ...directHeaders, kind: 'poll' },
      { ...directFields, kind: 'poll' },
    ),
    toAll('an unknown header', { ...textHeaders, 'x-later': '1' }, textFields),
    toOne(
      'the highest numbers',
      { ...directHeaders, seq: MAX, time: MAX, sent: `${MAX} ${MAX} ${MAX}`, received: `${MAX} ${MAX} ${MAX}` },
      {
        ...directFields,
        ...{ seq: Number(MAX), time: Number(MAX) },
        ...{ sent: [MAX, MAX, MAX].map(Number), received: [MAX, MAX, MAX].map(Number) },
      },
    ),
    toAll('a time of 0', { ...textHeaders, time: '0' }, { ...textFields, time: 0 }),
    toOne(
      'nothing sent or received yet',
      { ...directHeaders, sent: '1 0 0', received: '0 0 0' },
      { ...directFields, sent: [1, 0, 0], received: [0, 0, 0] },
    ),
    toAll(
      'one entry in seen',
      { ...textHeaders, seen: `${BOB_S} 2 0` },
      { ...textFields, seen: [[BOB_S, 2, 0, false]] },
    ),
    toOne(
      'seen in a direct message, of one that left',
      { ...directHeaders, seen: `${BOB_S} 12 3 left,${CAROL_S} 1 0` },
      {
        ...directFields,
        seen: [
          [BOB_S, 12, 3, true],
          [CAROL_S, 1, 0, false],
        ],
      },
    ),
    toAll(
      '64 entries in seen',
      { ...textHeaders, seen: seenHeader(entries(64)) },
      { ...textFields, seen: seenFields(entries(64)) },
    ),
    toAll(
      'an S that comes twice: the first entry counts',
      { ...textHeaders, seen: `${BOB_S} 2 0,${BOB_S} 9 9` },
      {
        ...textFields,
        seen: [
          [BOB_S, 2, 0, false],
          [BOB_S, 9, 9, false],
        ],
      },
    ),
    toAll('a file', fileHeaders, {
      ...textFields,
      kind: 'file',
      file: { name: 'a.diff', size: Number(SIZE), sha256: SUM },
    }),
    toOne(
      'an empty file to one',
      { ...directHeaders, kind: 'file', name: percent('отчёт.txt'), size: '0', sha256: SUM },
      { ...directFields, kind: 'file', file: { name: 'отчёт.txt', size: 0, sha256: SUM } },
    ),
    toAll(
      'a file of the largest size',
      { ...fileHeaders, size: '104857600' },
      { ...textFields, kind: 'file', file: { name: 'a.diff', size: 104857600, sha256: SUM } },
    ),
    toAll('sent and received to all, which are ignored', { ...textHeaders, sent: '0', received: 'x' }, textFields),
    toAll('stored in a text, which is ignored', { ...textHeaders, stored: 'x' }, textFields),
    toAll(
      'headers of a file in a text, which are ignored',
      { ...textHeaders, name: '..', size: 'x', sha256: 'x' },
      textFields,
    ),
    toOne('seen in a sync, which is ignored', { ...controlHeaders('sync'), seen: 'x' }, controlFields('sync')),
    toOne('stored in a bye, which is ignored', { ...controlHeaders('bye'), stored: 'x' }, controlFields('bye')),
    toOne('a signature to one, which is ignored', { ...directHeaders, signature: 'AAAA' }, directFields),
  ],
  reject: [
    badToAll('missing-header', 'no kind', { ...textHeaders, kind: undefined }),
    badToAll('missing-header', 'no seq', { ...textHeaders, seq: undefined }, null),
    badToAll('missing-header', 'no time', { ...textHeaders, time: undefined }),
    badToAll(
      'missing-header',
      'an unknown kind to all without seq',
      { ...textHeaders, kind: 'later', seq: undefined },
      null,
    ),
    badToOne(
      'missing-header',
      'an unknown kind to one without seq',
      { ...directHeaders, kind: 'later', seq: undefined },
      null,
    ),
    badToOne('missing-header', 'a text to one without seq', { ...directHeaders, seq: undefined }, null),
    badToOne('missing-header', 'a text to one without sent', { ...directHeaders, sent: undefined }),
    badToOne('missing-header', 'a text to one without received', { ...directHeaders, received: undefined }),
    badToOne('missing-header', 'a sync without sent', { ...controlHeaders('sync'), sent: undefined }, null),
    badToOne('missing-header', 'a sync without received', { ...controlHeaders('sync'), received: undefined }, null),
    badToOne('missing-header', 'a bye without time', { ...controlHeaders('bye'), time: undefined }, null),
    badToAll('missing-header', 'a file without a name', { ...fileHeaders, name: undefined }),
    badToAll('missing-header', 'a file without a size', { ...fileHeaders, size: undefined }),
    badToAll('missing-header', 'a file without sha256', { ...fileHeaders, sha256: undefined }),
    ...BAD_DECIMALS.map((seq) => badToAll('bad-number', `seq ${seq}`, { ...textHeaders, seq }, null)),
    badToAll('bad-number', 'seq 0', { ...textHeaders, seq: '0' }, null),
    badToAll('bad-number', 'a time that is no number', { ...textHeaders, time: 'now' }),
    badToAll('bad-number', 'a time of 16 digits', { ...textHeaders, time: '1000000000000000' }),
    badToAll('bad-number', 'a size that is no number', { ...fileHeaders, size: '7e4' }),
    badToAll('bad-number', 'a size above 100 MiB', { ...fileHeaders, size: '104857601' }),
    badToAll('bad-header-value', 'a kind in upper case', { ...textHeaders, kind: 'Text' }),
    badToAll('bad-header-value', 'a kind with a digit', { ...textHeaders, kind: 'text2' }),
    badToAll('bad-header-value', 'a kind of 17 characters', { ...textHeaders, kind: 'k'.repeat(17) }),
    badToAll('bad-header-value', 'a kind like a path', { ...textHeaders, kind: '../x' }),
    ...['0 1 1', '1 1', '1 1 1 1', '1 01 1', '1 1 -1', '1 1 a[$(id)]', '1 1000000000000000 1'].map((sent) =>
      badToOne('bad-header-value', `sent ${sent}`, { ...directHeaders, sent }),
    ),
    ...['1 1', '1 1 1 1', '1 01 1', '-1 1 1', 'x y z', '1 1 1000000000000000'].map((received) =>
      badToOne('bad-header-value', `received ${received}`, { ...directHeaders, received }),
    ),
    badToOne('bad-header-value', 'sent with commas', { ...directHeaders, sent: '1,1,1' }),
    badToOne('bad-header-value', 'sent with two spaces', { ...directHeaders, sent: '1  1 1' }),
    badToOne('bad-header-value', 'received in a sync', { ...controlHeaders('sync'), received: '1 1' }, null),
    ...['1', '1 1 1', '01 1', 'x 1'].map((stored) =>
      badToOne('bad-header-value', `stored ${stored}`, { ...controlHeaders('sync'), stored }, null),
    ),
    badToAll('bad-header-value', 'a reach that is none', { ...textHeaders, reach: 'asleep' }),
    badToAll('bad-header-value', '65 entries in seen', { ...textHeaders, seen: seenHeader(entries(65)) }),
    badToAll('bad-header-value', 'seen with two fields', { ...textHeaders, seen: `${BOB_S} 2` }),
    badToAll('bad-header-value', 'seen with another word than left', { ...textHeaders, seen: `${BOB_S} 2 0 gone` }),
    badToAll('bad-header-value', 'seen with five fields', { ...textHeaders, seen: `${BOB_S} 2 0 left left` }),
    badToAll('bad-header-value', 'seen with a short session', { ...textHeaders, seen: `${BOB_S.slice(1)} 2 0` }),
    badToAll('bad-header-value', 'seen with a whole sid', { ...textHeaders, seen: `${bob.sid} 2 0` }),
    badToAll('bad-header-value', 'seen with a session in upper case', { ...textHeaders, seen: 'ABCDEF0123456789 2 0' }),
    badToAll('bad-header-value', 'seen with a bad number', { ...textHeaders, seen: `${BOB_S} 02 0` }),
    badToAll('bad-header-value', 'seen with a space after the comma', {
      ...textHeaders,
      seen: `${BOB_S} 2 0, ${CAROL_S} 2 0`,
    }),
    badToAll('bad-header-value', 'seen with a comma at the end', { ...textHeaders, seen: `${BOB_S} 2 0,` }),
    badToAll('bad-header-value', 'a file with a path for a name', { ...fileHeaders, name: '..%2Fa' }),
    badToAll('bad-header-value', 'a file with a short sha256', { ...fileHeaders, sha256: SUM.slice(1) }),
    badToAll('bad-header-value', 'a file with sha256 in upper case', { ...fileHeaders, sha256: SUM.toUpperCase() }),
    ...['sync', 'ack', 'want', 'bye'].flatMap((kind) => [
      badToAll('control-broadcast', `${kind} to all`, { kind, time: String(TIME) }, null),
      badToOne('unexpected-header', `${kind} with a number`, { ...controlHeaders(kind), seq: '5' }, 5),
    ]),
    badToOne('unexpected-header', 'a sync with a bad number', { ...controlHeaders('sync'), seq: 'x' }, null),
  ],
};

// ---- seals.json ----

const everyByte = String.fromCharCode(...Array.from({ length: 256 }, (_, i) => i));
const sealed = (comment, plaintext, aad = aadOf(), nonce = nonceOf(comment)) =>
  accept(comment, { passphrase: ROOM, aad, sealed: seal(ROOM, aad, plaintext, nonce), plaintext });
const whole = sealed('what the bad ones are made from', makeFrame(textHeaders, 'believe me'));
// 1 byte ends in `==` with 4 bits to spare, 2 bytes in `=` with 2.
const one = sealed('one', 'x').sealed;
const two = sealed('two', 'xy').sealed;
const spoiltSeal = (reason, comment, changes, from = whole.sealed) =>
  reject(reason, comment, { passphrase: ROOM, aad: whole.aad, sealed: { ...from, ...changes } });
const misplaced = (comment, changes) =>
  reject('auth-failed', comment, { passphrase: ROOM, aad: whole.aad, ...changes, sealed: whole.sealed });
const { nonce, ciphertext, tag } = whole.sealed;

const seals = {
  comment: `AES-256-GCM; the AES key is the SHA-256 of the passphrase. ${BYTES}`,
  accept: [
    ...[1, 15, 16, 17, 31, 32, 33].map((length) =>
      sealed(`length ${length}`, 'abcdefghijklmnopqrstuvwxyz0123456789'.slice(0, length)),
    ),
    sealed('zeros', '\0'.repeat(20)),
    sealed('every byte', everyByte),
    sealed('a nonce of zeros', everyByte, aadOf(), Buffer.alloc(12)),
    sealed('a nonce whose second half is zeros', everyByte, aadOf(), Buffer.from('a5f3db4e532c000000000000', 'hex')),
    sealed('a nonce of ones', everyByte, aadOf(), Buffer.alloc(12, 255)),
    sealed('a frame', makeFrame(textHeaders, utf8('👋 会話 "$(id)" `id` \\n %s\n'))),
    sealed('no additional data', 'x', ''),
    sealed('additional data of one block', 'x', 'sixteen bytes!!!'),
    sealed('much additional data', 'x', 'additional data '.repeat(20) + '.'),
    sealed('the additional data of a card', 'x', aadOf({ type: 'card' })),
  ],
  reject: [
    spoiltSeal('bad-nonce', 'a short nonce', { nonce: nonce.slice(2) }),
    spoiltSeal('bad-nonce', 'a long nonce', { nonce: nonce + '00' }),
    spoiltSeal('bad-nonce', 'no nonce', { nonce: '' }),
    spoiltSeal('bad-nonce', 'a nonce in upper case', { nonce: nonce.toUpperCase() }),
    spoiltSeal('bad-nonce', 'a nonce that is no hex', { nonce: 'g' + nonce.slice(1) }),
    spoiltSeal('bad-tag-format', 'a short tag', { tag: tag.slice(2) }),
    spoiltSeal('bad-tag-format', 'a tag of one byte', { tag: tag.slice(0, 2) }),
    spoiltSeal('bad-tag-format', 'a long tag', { tag: tag + '00' }),
    spoiltSeal('bad-tag-format', 'no tag', { tag: '' }),
    spoiltSeal('bad-tag-format', 'a tag in upper case', { tag: tag.toUpperCase() }),
    spoiltSeal('bad-tag-format', 'a tag that is no hex', { tag: 'g' + tag.slice(1) }),
    spoiltSeal('bad-base64', 'no ciphertext', { ciphertext: '' }),
    spoiltSeal('bad-base64', 'a character that is not base64', { ciphertext: '!' + ciphertext.slice(1) }),
    spoiltSeal('bad-base64', 'a line break', { ciphertext: `${ciphertext.slice(0, 64)}\n${ciphertext.slice(64)}` }),
    spoiltSeal('bad-base64', 'a line break at the end', { ciphertext: ciphertext + '\n' }),
    spoiltSeal('bad-base64', 'a space', { ciphertext: ' ' + ciphertext }),
    spoiltSeal('bad-base64', 'the URL alphabet', { ciphertext: '-_-_' + ciphertext.slice(4) }),
    spoiltSeal('bad-base64', 'padding only', { ciphertext: '====' }),
    spoiltSeal('bad-base64', 'padding in the middle', { ciphertext: 'QQ==' + ciphertext }),
    spoiltSeal('bad-base64', 'no padding', { ciphertext: one.ciphertext.slice(0, -2) }, one),
    spoiltSeal('bad-base64', 'half the padding', { ciphertext: one.ciphertext.slice(0, -1) }, one),
    spoiltSeal('bad-base64', 'bits after the last of one byte', { ciphertext: withSpareBit(one.ciphertext) }, one),
    spoiltSeal('bad-base64', 'bits after the last of two bytes', { ciphertext: withSpareBit(two.ciphertext) }, two),
    spoiltSeal('auth-failed', 'another tag', { tag: flip(tag) }),
    spoiltSeal('auth-failed', 'a tag of zeros', { tag: '0'.repeat(32) }),
    spoiltSeal('auth-failed', 'a tag of which one bit of the first byte differs', {
      tag: (parseInt(tag[0], 16) ^ 8).toString(16) + tag.slice(1),
    }),
    spoiltSeal('auth-failed', 'another nonce', { nonce: flip(nonce) }),
    spoiltSeal('auth-failed', 'a changed ciphertext', { ciphertext: flipBase64(ciphertext) }),
    spoiltSeal('auth-failed', 'a ciphertext cut short', {
      ciphertext: Buffer.from(ciphertext, 'base64').subarray(0, -1).toString('base64'),
    }),
    spoiltSeal('auth-failed', 'a ciphertext with a zero byte more', {
      ciphertext: Buffer.concat([Buffer.from(ciphertext, 'base64'), Buffer.alloc(1)]).toString('base64'),
    }),
    misplaced('another key', { passphrase: broadcastPassphrase(OTHER_K) }),
    misplaced('another channel', { aad: aadOf({ channel: flip(CHANNEL) }) }),
    misplaced('another sender', { aad: aadOf({ from: bob.id }) }),
    misplaced('another recipient', { aad: aadOf({ to: bob.id }) }),
    misplaced('another type', { aad: aadOf({ type: 'card' }) }),
    misplaced('another version', { aad: aadOf().replace('agentalk/1', 'agentalk/2') }),
    misplaced('a newline after the additional data', { aad: aadOf() + '\n' }),
  ],
};

// ---- cards.json ----

const cardFrame = (changes = {}, body = '') => makeFrame({ ...ada.card, ...changes }, body);
function card(comment, frame, { from = ada.id, to = '*', type = 'card', passphrase = ROOM } = {}) {
  return { from, sealed: seal(passphrase, aadOf({ from, to, type }), frame, nonceOf(`card, ${comment}`)) };
}
const goodCard = (comment, frame, who = ada, expected = who.card) =>
  accept(comment, { ...card(comment, frame, { from: who.id }), card: expected, sid: sidOf(expected) });
const badCard = (reason, comment, frame, place) => reject(reason, comment, card(comment, frame, place));
const spkiOf = (point) => Buffer.concat([Buffer.from(ada.pub, 'base64').subarray(0, 26), point]).toString('base64');
const compressed = Buffer.concat([Buffer.of(2 + (ada.ecdh.point[64] & 1)), ada.ecdh.point.subarray(1, 33)]);
const p384 = createECDH('secp384r1');
p384.setPrivateKey(createHash('sha384').update(label('P-384')).digest());
const offCurve = Buffer.from(bob.ecdh.point);
offCurve[64] ^= 1;
const twisted = Buffer.from(bob.ecdh.point);
twisted[1] ^= 0x80;
const BAD_POINTS = {
  'a point that is not on the curve': spkiOf(offCurve),
  'another x': spkiOf(twisted),
  'the point (0, 0)': spkiOf(Buffer.concat([Buffer.of(4), Buffer.alloc(64)])),
  'coordinates beyond the field': spkiOf(Buffer.concat([Buffer.of(4), Buffer.alloc(64, 255)])),
};
const reader = carol;

const cards = {
  comment:
    'Cards sealed with the room key of k, under the id `from`, as a reader with the participant id `own_id` sees them.',
  k: K,
  channel: CHANNEL,
  own_id: reader.id,
  accept: [
    goodCard('an agent', cardFrame()),
    goodCard('a person', makeFrame(bob.card), bob),
    goodCard('an unknown header, which is ignored', `x-later: 1\n${cardFrame()}`),
    goodCard('a body, which is ignored', cardFrame({}, 'kind: human\n')),
    goodCard('a signature, which is ignored', cardFrame({ signature: 'AAAA' })),
    goodCard('headers in another order', makeFrame({ sign: ada.sign, pub: ada.pub, name: 'ada', kind: 'agent' })),
    goodCard('a second session of a name', makeFrame(adaAgain.card), ada, adaAgain.card),
    goodCard('a sign that is not on the curve, which verifies nothing', cardFrame({ sign: spkiOf(offCurve) }), ada, {
      ...ada.card,
      sign: spkiOf(offCurve),
    }),
    goodCard("somebody else's keys under an own name: another session", cardFrame({ name: 'bob' }), bob, {
      ...ada.card,
      name: 'bob',
    }),
  ],
  reject: [
    ...['kind', 'name', 'pub', 'sign'].map((name) =>
      badCard('missing-header', `no ${name}`, cardFrame({ [name]: undefined })),
    ),
    badCard('bad-header-value', 'a kind that is none', cardFrame({ kind: 'robot' })),
    badCard('bad-header-value', "a message's kind", cardFrame({ kind: 'text' })),
    ...[
      ['a capital letter in the name', 'Ada'],
      ['a dot first in the name', '.ada'],
      ['two dots in the name', 'a..b'],
      ['a space in the name', 'a b'],
      ['a slash in the name', 'a/b'],
      ['a name of 33 characters', 'a'.repeat(33)],
      ['a command substitution for a name', '$(id)'],
      ['a tilde in the name', 'ada~2'],
    ].map(([comment, name]) => badCard('bad-name', comment, cardFrame({ name }), { from: idOf(name) })),
    ...['agentalk', 'all', 'bridge', 'everybody', 'me', 'user', 'you'].map((name) =>
      badCard('reserved-name', `the name ${name}`, cardFrame({ name }), { from: idOf(name) }),
    ),
    badCard('id-mismatch', 'a name that gives another id', cardFrame({ name: 'bob' })),
    badCard('id-mismatch', "somebody else's card", cardFrame(), { from: bob.id }),
    badCard('own-id', "the reader's own id with other keys", cardFrame({ name: 'carol' }), { from: reader.id }),
    badCard('own-id', "the reader's own card", makeFrame(reader.card), { from: reader.id }),
    ...['pub', 'sign'].flatMap((name) => [
      badCard('bad-key', `${name}, a short key`, cardFrame({ [name]: ada.pub.slice(0, -4) })),
      badCard('bad-key', `${name}, a long key`, cardFrame({ [name]: ada.pub + 'AAAA' })),
      badCard(
        'bad-key',
        `${name}, bytes after the DER`,
        cardFrame({
          [name]: Buffer.concat([Buffer.from(ada.pub, 'base64'), Buffer.alloc(2)]).toString('base64'),
        }),
      ),
      badCard('bad-key', `${name}, no padding`, cardFrame({ [name]: ada.pub.slice(0, -2) })),
      badCard('bad-key', `${name}, no base64`, cardFrame({ [name]: ada.pub.slice(0, -3) + '!==' })),
      badCard('bad-key', `${name}, bits after the last byte`, cardFrame({ [name]: withSpareBit(ada.pub) })),
      badCard('bad-key', `${name}, another prefix`, cardFrame({ [name]: 'A' + ada.pub.slice(1) })),
      badCard('bad-key', `${name}, a compressed point`, cardFrame({ [name]: spkiOf(compressed) })),
      badCard('bad-key', `${name}, a key on P-384`, cardFrame({ [name]: spkiOf(p384.getPublicKey()) })),
    ]),
    ...Object.entries(BAD_POINTS).map(([comment, pub]) => badCard('bad-key', `pub, ${comment}`, cardFrame({ pub }))),
    badCard('duplicate-header', 'two names', `name: ada\n${cardFrame()}`),
    badCard('unterminated-headers', 'no empty line', cardFrame().slice(0, -1)),
    // A reader takes the additional data that a card must have, not the sealer's.
    badCard('auth-failed', 'sealed as a message', cardFrame(), { type: 'message' }),
    badCard('auth-failed', 'sealed for one', cardFrame(), { to: bob.id }),
    badCard('auth-failed', "sealed with another channel's key", cardFrame(), {
      passphrase: broadcastPassphrase(OTHER_K),
    }),
  ],
};

// ---- broadcasts.json ----

const previous = join(VECTORS, 'broadcasts.json');
const reusable = existsSync(previous)
  ? [...readFileSync(previous, 'utf8').matchAll(/signature: ([A-Za-z0-9+/=]{90,})\\n/g)].map(([, text]) => text)
  : [];
/** A DER signature, base64. Its r starts with a 1 bit, so that the DER has a byte of padding to spoil. */
function signatureOver({ key, publicKey }, text) {
  const data = latin1(text);
  const isPadded = (signature) => Buffer.from(signature, 'base64')[3] === 33;
  const isValid = (signature) => verify('sha256', data, publicKey, Buffer.from(signature, 'base64'));
  const again = reusable.find((signature) => isPadded(signature) && isValid(signature));
  if (again) return again;
  for (;;) {
    const fresh = sign('sha256', data, key).toString('base64');
    if (isPadded(fresh)) return fresh;
  }
}
const signFrame = (frame, { by = ada.ecdsa, aad = aadOf(), sid = ada.sid } = {}) =>
  withSignature(frame, signatureOver(by, signedText(aad, sid, frame)));

const text = makeFrame(textHeaders, 'it was me\n');
const signature = signatureOver(ada.ecdsa, signedText(aadOf(), ada.sid, text));
const der = Buffer.from(signature, 'base64');
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
const adas = { sid: ada.sid, sign: ada.sign };
const broadcast = (comment, frame) => accept(comment, { session: adas, frame });
const badBroadcast = (reason, comment, frame, session = adas) => reject(reason, comment, { session, frame });
const forged = (comment, bytes) =>
  badBroadcast('bad-signature', comment, withSignature(text, bytes.toString('base64')));

const broadcasts = {
  comment: `Frames to all under the id of ada, and the session that must have signed them. ${BYTES} The private key is for tests only.`,
  aad: aadOf(),
  private: ada.ecdsa.pem,
  accept: [
    broadcast('a text', withSignature(text, signature)),
    broadcast('the example', withSignature(exampleText, EXAMPLE_SIGNATURE)),
    broadcast('an empty body', signFrame(makeFrame(textHeaders))),
    broadcast('a body of any bytes', signFrame(makeFrame(textHeaders, '\0\xff\n\nsignature: AAAA\n\n\0'))),
    broadcast(
      "the same signature's twin, s to n - s: valid, so signatures are never compared",
      withSignature(text, sequence(integer(r), integer(digits(N - number(s)))).toString('base64')),
    ),
  ],
  reject: [
    badBroadcast('missing-signature', 'no signature', text),
    badBroadcast('missing-signature', 'a signature in the body', `${text}signature: ${signature}\n`),
    badBroadcast('signature-not-last', 'a header after it', withSignature(text, `${signature}\nx: 1`)),
    badBroadcast('signature-not-last', 'it comes first', `signature: ${signature}\n${text}`),
    badBroadcast('bad-signature', 'another body', withSignature(text.replace('me', 'you'), signature)),
    badBroadcast('bad-signature', 'another number', withSignature(text.replace('seq: 1', 'seq: 2'), signature)),
    badBroadcast('bad-signature', 'a header more', withSignature(`x: 1\n${text}`, signature)),
    badBroadcast('bad-signature', 'a header less', withSignature(text.replace(`time: ${TIME}\n`, ''), signature)),
    badBroadcast('bad-signature', 'signed by carol', signFrame(text, { by: carol.ecdsa })),
    badBroadcast('bad-signature', 'signed by carol as carol', signFrame(text, { by: carol.ecdsa, sid: carol.sid })),
    badBroadcast(
      'bad-signature',
      'signed as another session with the same sign',
      signFrame(text, { sid: adaAgain.sid }),
    ),
    badBroadcast('bad-signature', 'checked as another session with the same sign', withSignature(text, signature), {
      sid: adaAgain.sid,
      sign: ada.sign,
    }),
    badBroadcast('bad-signature', 'checked as bob', withSignature(text, signature), { sid: bob.sid, sign: bob.sign }),
    badBroadcast('bad-signature', 'checked with a sign that is not on the curve', withSignature(text, signature), {
      sid: ada.sid,
      sign: spkiOf(offCurve),
    }),
    badBroadcast('bad-signature', 'signed under another sender', signFrame(text, { aad: aadOf({ from: bob.id }) })),
    badBroadcast('bad-signature', 'signed for one', signFrame(text, { aad: aadOf({ to: bob.id }) })),
    badBroadcast('bad-signature', 'signed as a card', signFrame(text, { aad: aadOf({ type: 'card' }) })),
    badBroadcast(
      'bad-signature',
      'signed for another channel',
      signFrame(text, { aad: aadOf({ channel: flip(CHANNEL) }) }),
    ),
    badBroadcast(
      'bad-signature',
      'signed without a sid',
      withSignature(text, signatureOver(ada.ecdsa, `${aadOf()}\n\n${text}`)),
    ),
    badBroadcast('bad-signature', 'no base64', withSignature(text, '!!!!')),
    badBroadcast('bad-signature', 'base64 with padding to spare', withSignature(text, signature + '====')),
    forged('r and s as 64 bytes, not DER', Buffer.concat([fixed(r), fixed(s)])),
    forged('a byte after the DER', Buffer.concat([der, Buffer.alloc(1)])),
    forged('a byte after s', sequence(integer(r), integer(s), Buffer.alloc(1))),
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

// ---- directs.json ----

function leadingZero() {
  for (let i = 0; ; i++) {
    const pair = labelledPair(`somebody, ${i}`);
    if (xOf(ada.ecdh, pair).startsWith('00')) return session('agent', 'carol', pair, carol.ecdsa);
  }
}
const endOf = ({ ecdh, pub, sid }) => ({ private: ecdh.pem, pub, sid });
function pairOf(comment, a, b) {
  const x = xOf(a.ecdh, b.ecdh);
  const passphrase = directPassphrase(a.sid, b.sid, x);
  return accept(comment, { a: endOf(a), b: endOf(b), x, passphrase, aes: H(passphrase) });
}
/** Carol's card with the pub of ada: what she seals to it, ada can open; what ada seals to others she can't. */
const copied = session('agent', 'carol', ada.ecdh, carol.ecdsa);
const peer = ({ pub, sid }) => ({ pub, sid });
const toBob = aadOf({ to: bob.id });
const hello = makeFrame(directHeaders, 'for you\n');
const sealedDirect = (comment, { passphrase = directAB, aad = toBob, frame = hello } = {}) =>
  seal(passphrase, aad, frame, nonceOf(`direct, ${comment}`));
const badDirect = (comment, options, sender = ada, aad = toBob) =>
  reject('auth-failed', comment, { sender: peer(sender), aad, sealed: sealedDirect(comment, options) });

const directs = {
  comment:
    'Direct keys between two sessions in the channel of k, and messages to bob as bob opens them: `own` is his session, ' +
    `\`sender\` the session that is tried. ${BYTES} These keys are for tests only.`,
  k: K,
  own: endOf(bob),
  keys: {
    accept: [
      pairOf('ada and bob', ada, bob),
      pairOf('bob and carol', bob, carol),
      pairOf('an x-coordinate with a leading zero byte', ada, leadingZero()),
    ],
    reject: [
      ...Object.entries(BAD_POINTS).map(([comment, pub]) => reject('bad-key', comment, { pub })),
      reject('bad-key', 'a compressed point', { pub: spkiOf(compressed) }),
      reject('bad-key', 'a key on P-384', { pub: spkiOf(p384.getPublicKey()) }),
      reject('bad-key', 'a key cut short', { pub: ada.pub.slice(0, -4) }),
      reject('bad-key', 'bits after the last byte', { pub: withSpareBit(ada.pub) }),
      reject('bad-key', 'nothing', { pub: '' }),
    ],
  },
  messages: {
    accept: [
      accept('a text', { sender: peer(ada), aad: toBob, sealed: sealedDirect('a text'), frame: hello }),
      accept('the example', { sender: peer(ada), aad: toBob, sealed: example.direct.sealed, frame: exampleAck }),
      accept('a malformed frame, which is proved all the same', {
        ...{
          sender: peer(ada),
          aad: toBob,
          sealed: sealedDirect('malformed', { frame: 'no frame' }),
          frame: 'no frame',
        },
      }),
    ],
    reject: [
      badDirect('from another session', {}, carol),
      badDirect('from another session of the same participant', {}, adaAgain),
      badDirect('from a session that copied the public key', {}, copied),
      badDirect('sealed by one who copied the public key', {
        passphrase: directPassphrase(copied.sid, bob.sid, sharedX),
      }),
      badDirect('sealed with the sids in the other order', {
        passphrase: `agentalk/1 direct ${K} ${[ada.sid, bob.sid].sort().reverse().join(' ')} ${sharedX}`,
      }),
      badDirect('sealed without sids', { passphrase: `agentalk/1 direct ${K} ${sharedX}` }),
      badDirect('sealed with the room key', { passphrase: ROOM }),
      badDirect('sealed for another channel', {
        passphrase: directPassphrase(ada.sid, bob.sid, sharedX, OTHER_K),
      }),
      badDirect('sent back to its sender', {}, ada, aadOf({ from: bob.id, to: ada.id })),
      badDirect('sent to all', {}, ada, aadOf()),
      badDirect('given out as a card', {}, ada, aadOf({ to: bob.id, type: 'card' })),
      badDirect('given out under another sender', {}, ada, aadOf({ from: carol.id, to: bob.id })),
      badDirect('given out in another channel', {}, ada, aadOf({ to: bob.id, channel: flip(CHANNEL) })),
    ],
  },
};

// ---- files.json ----

const piece = (comment, f, index, size, plaintext) => {
  const encrypted = ctr(f, latin1(plaintext), index);
  return accept(comment, {
    ...{ f, index, size, plaintext, ciphertext: encrypted.toString('hex'), sha256: sha256(encrypted).toString('hex') },
  });
};
const filled = (comment, f, index, size, byte) =>
  accept(comment, {
    f,
    index,
    size,
    fill: byte,
    sha256: sha256(ctr(f, Buffer.alloc(PIECE_BYTES, byte), index)).toString('hex'),
  });
const lastPiece = piece('the last piece of the example', F, 1, plainFile.length, 'end');
const badPiece = (comment, changes) => {
  const { f, index, size, ciphertext, sha256 } = { ...lastPiece, ...changes };
  return reject('bad-file-piece', comment, { f, index, size, ciphertext, sha256 });
};
const lines = (...all) => all.map((line) => `${line}\n`).join('');
const sums = (count) => Array.from({ length: count }, (_, i) => H(label(`piece ${i}`)));
const fileBody = (comment, size, ...hashes) =>
  accept(comment, { size, body: lines(F, ...hashes), f: F, pieces: hashes });
const badBody = (comment, size, body) => reject('bad-file-body', comment, { size, body });
const want = (comment, hashes, body = lines(...hashes)) => accept(comment, { body, pieces: hashes });
const badWant = (comment, body) => reject('bad-want-body', comment, { body });
const [P0, P1] = sums(2);

const files = {
  comment:
    'Pieces of files, and the bodies of `file` and `want`. `size` is that of the whole file. A piece with `fill` is ' +
    `1,048,576 times that byte. \`ciphertext\` is hex. ${BYTES}`,
  pieces: {
    accept: [
      filled('the first piece of the example', F, 0, plainFile.length, 1),
      lastPiece,
      piece('a file of one byte', F, 0, 1, 'x'),
      piece('every byte', H(label('f')), 0, 256, everyByte),
      piece('the last piece of the largest file, cut to 20 bytes', F, 99, 99 * PIECE_BYTES + 20, 'x'.repeat(20)),
      piece('a counter above 16 bits', F, 2, 2 * PIECE_BYTES + 17, '\0'.repeat(17)),
    ],
    reject: [
      badPiece('another hash', { sha256: flip(lastPiece.sha256) }),
      badPiece('a changed byte', { ciphertext: flip(lastPiece.ciphertext) }),
      badPiece('the hash of the plaintext', { sha256: H('end') }),
      badPiece('a piece that is too short, under its own hash', {
        ...{ ciphertext: lastPiece.ciphertext.slice(0, -2), sha256: sha256(pieces[1].subarray(0, -1)).toString('hex') },
      }),
      badPiece('a piece that is too long, under its own hash', {
        ...{
          ciphertext: `${lastPiece.ciphertext}00`,
          sha256: sha256(Buffer.concat([pieces[1], Buffer.alloc(1)])).toString('hex'),
        },
      }),
      badPiece('an empty piece, under its own hash', { ciphertext: '', sha256: H('') }),
    ],
  },
  bodies: {
    accept: [
      fileBody('an empty file', 0),
      fileBody('one byte', 1, P0),
      fileBody('exactly one piece', PIECE_BYTES, P0),
      fileBody('the example', plainFile.length, ...pieceSums),
      fileBody('the largest file', 100 * PIECE_BYTES, ...sums(100)),
    ],
    reject: [
      badBody('nothing', 0, ''),
      badBody('a hash too many for an empty file', 0, lines(F, P0)),
      badBody('no hash for one byte', 1, lines(F)),
      badBody('one hash for one piece and a byte', PIECE_BYTES + 1, lines(F, P0)),
      badBody('two hashes for exactly one piece', PIECE_BYTES, lines(F, P0, P1)),
      badBody('a hash twice', PIECE_BYTES + 1, lines(F, P0, P0)),
      badBody('upper case', 1, lines(F, P0.toUpperCase())),
      badBody('a short hash', 1, lines(F, P0.slice(1))),
      badBody('a short f', 1, lines(F.slice(1), P0)),
      badBody('no newline at the end', 1, lines(F, P0).slice(0, -1)),
      badBody('an empty line at the end', 1, `${lines(F, P0)}\n`),
      badBody('carriage returns', 1, lines(`${F}\r`, `${P0}\r`)),
      badBody('bytes that are not UTF-8', 1, lines(F, `\xff${P0.slice(1)}`)),
      badBody('a NUL at the end', 1, `${lines(F, P0)}\0`),
    ],
  },
  wants: {
    accept: [want('one piece', [P0]), want('32 pieces', sums(32)), want('a piece twice', [P0, P0])],
    reject: [
      badWant('nothing', ''),
      badWant('33 pieces', lines(...sums(33))),
      badWant('upper case', lines(P0.toUpperCase())),
      badWant('a short hash', lines(P0.slice(1))),
      badWant('no newline at the end', P0),
      badWant('an empty line', lines(P0, '')),
      badWant('a path', lines('../'.padEnd(64, '0'))),
    ],
  },
};

// ---- output ----

const FORMAT_VERSION = 1;
const output = { derivations, names, frames, messages, seals, cards, broadcasts, directs, files };
const escapeUnit = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
async function write(name, value, isAscii) {
  const json = JSON.stringify(value, null, 2);
  const text = isAscii ? json.replace(/[\x7f-\uffff]/g, escapeUnit) : json;
  const pretty = await format(text, { parser: 'json', printWidth: 120, objectWrap: 'collapse' });
  writeFileSync(join(target, `${name}.json`), pretty);
}

mkdirSync(target, { recursive: true });
await write('example', example, false);
for (const [name, vectors] of Object.entries(output)) {
  const { comment, ...rest } = withIds(name, vectors);
  await write(name, { protocol: 'agentalk/1', format: FORMAT_VERSION, comment, ...rest }, true);
}
