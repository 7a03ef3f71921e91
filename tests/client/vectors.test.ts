/** The shell client's own parts against the vectors and node:crypto, in one bash that has read all of it but `main`. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { BASH, CLIENT, makeFolder } from '../lib/shell.ts';
import { LENGTHS, runInterop, runVectors } from '../lib/vectors.ts';
import type { Card, Driver, Outcome, Sealed } from '../lib/vectors.ts';

const folder = makeFolder();
mkdirSync(join(folder, 'keys'));
const file = (name: string, contents: string | Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, contents, { mode: 0o600 });
  return path;
};
const client = readFileSync(CLIENT, 'utf8');
assert.ok(client.endsWith('\nstart "$@"\n'));
const functions = file('functions', client.slice(0, -'start "$@"\n'.length));

/** Runs code that ends in a NUL byte, and answers what it printed, its status and REASON. */
const LOOP = `
  . "$1" && start_part_1 && SESSION=$2 TMP=$2/x TICKET='' ACCESS='' CACERT=''
  die() { printf 'died: %s' "$1"; }
  while IFS= read -r -d '' code; do
    REASON=''
    eval "$code" </dev/null
    printf '\\0%s %s\\0' "$?" "$REASON"
  done`;
const bash = spawn(BASH, ['-p', '-c', LOOP, '-', functions, folder], { stdio: ['pipe', 'pipe', 'inherit'] });
after(() => bash.kill());
bash.stdout.setEncoding('latin1');

/** Resolves the oldest call with the next two pieces that bash prints. */
const calls: { resolve: (answer: Answer) => void; reject: (error: Error) => void }[] = [];
type Answer = { readonly printed: string; readonly isOk: boolean; readonly reason: string };
let output = '';
bash.stdout.on('data', (chunk: string) => {
  output += chunk;
  if (!chunk.includes('\0')) return;
  for (let pieces = output.split('\0'); pieces.length > 2; pieces = output.split('\0')) {
    const [printed = '', status = ''] = pieces;
    output = pieces.slice(2).join('\0');
    const [, number, why] = /^(\d+) (.*)$/.exec(status) ?? [];
    calls.shift()?.resolve({ printed, isOk: number === '0', reason: why ?? '' });
  }
});
bash.on('close', () => calls.forEach(({ reject }) => reject(new Error('bash has ended'))));

function run(code: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    calls.push({ resolve, reject });
    bash.stdin.write(`${code}\0`);
  });
}

/** As one word of bash. */
const word = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
/** A function's call with any arguments. */
const call = (name: string, ...args: readonly string[]) => `${name} ${args.map(word).join(' ')}`;
/** What it prints, as `$( )` has it. */
const printed = async (code: string) => {
  const answer = await run(code);
  assert.ok(answer.isOk, answer.reason);
  return answer.printed.replace(/\n+$/, '');
};
const isTrue = async (code: string) => (await run(code)).isOk;

async function outcome<T>(code: string, value: (printed: string) => T): Promise<Outcome<T>> {
  const { isOk, printed: text, reason } = await run(code);
  return isOk ? { ok: true, value: value(text) } : { ok: false, reason };
}

/** The headers of docs/protocol.md but `signature`. */
const KNOWN = 'kind seq time sent received seen stored reach name size sha256 pub sign'.split(' ');
const PRINT_HEADERS = KNOWN.map((name) => `printf '%s: %s\\n' ${name} "$MSG_${name}"`).join('; ');

/** Makes a key once for each passphrase, as a session does: `key-N`. */
const withKey = (passphrase: string) =>
  `[ "\${PASS:-}" = ${word(passphrase)} ] || { PASS=${word(passphrase)} KEYS=$((KEYS + 1)) && make_key "key-$KEYS" "$PASS"; };`;
const makesKey = (code: string) => printed(`(make_key() { printf %s "$2"; }; ${code})`);
/** Reads bytes into BYTES, or into BODY. */
const reading = (bytes: Uint8Array) => `read_file ${word(file('bytes', bytes))}`;
const readingBody = (bytes: Uint8Array) => `${reading(bytes)} && BODY=("\${BYTES[@]}") BODY_LENGTH=$BYTES_LENGTH`;
const parsing = (frame: Uint8Array) => `${reading(frame)} && parse_frame`;
const printingBody = (name: string) => `write_body "$TMP.${name}" ''`;
const bytesOf = (name: string) => readFileSync(join(folder, `x.${name}`));
const sealedWords = ({ nonce, ciphertext, tag }: Sealed) => [nonce, ciphertext, tag].map(word).join(' ');
const numbers = (text: string) => text.split(' ').map(Number);

/** A message as the headers that check_message has left say it. */
function toMessage(text: string) {
  const headers = Object.fromEntries(text.split('\n').map((line) => line.split(/: (.*)/, 2) as [string, string]));
  const { kind = '', seq, time, sent, received, stored, seen, reach, name, size, sha256 } = headers;
  return {
    ...{ kind, seq: seq ? Number(seq) : null, time: Number(time) },
    seen: (seen ? seen.split(',') : []).map((entry) => {
      const [session = '', mark, lost, left] = entry.split(' ');
      return [session, Number(mark), Number(lost), left === 'left'] as const;
    }),
    ...(sent && { sent: numbers(sent) }),
    ...(received && { received: numbers(received) }),
    ...(stored && { stored: numbers(stored) }),
    ...(reach && { reach }),
    ...(kind === 'file' && {
      file: {
        name: Buffer.from(headers['fileName'] ?? name ?? '', 'latin1').toString(),
        size: Number(size),
        sha256: sha256 ?? '',
      },
    }),
  };
}

const PIECE = 1_048_576;
/** Any private key on the curve: it says whether somebody's public key is a point of it. */
const ECDH_PEM = file(
  'ecdh.pem',
  generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey.export({ type: 'sec1', format: 'pem' }).toString(),
);
async function cryptPiece(f: string, index: number, bytes: Uint8Array): Promise<Uint8Array> {
  const iv = (BigInt(index) * 65_536n).toString(16).padStart(32, '0');
  await printed(`aes_ctr "agentalk/1 file ${f}" ${iv} <${word(file('in', bytes))} >"$TMP.crypted"`);
  return bytesOf('crypted');
}

const driver: Driver = {
  // The client tells its user less than the vectors tell an implementer.
  coarseReasons: {
    'headers-too-long': 'unterminated-headers',
    'signature-not-last': 'bad-header',
    'reserved-name': 'bad-name',
    'own-id': 'id-mismatch',
    'messages/*': 'malformed',
    'cards/no-kind': 'bad-header-value',
    'cards/no-name': 'bad-name',
    'cards/no-pub': 'bad-key',
    'cards/no-sign': 'bad-key',
    // It reads headers up to the first NUL.
    'frames/a-nul-in-a-name': 'unterminated-headers',
    'frames/a-nul-in-a-value': 'unterminated-headers',
  },
  deriveAccessToken: (k) => printed(`${call('labelled_hash', 'access', k)}; printf %s "$HASH"`),
  deriveChannelId: (access) => printed(`${call('short_id', 'channel', access)}; printf %s "$HASH"`),
  deriveParticipantId: (k, name) => printed(`${call('short_id', 'participant', k, name)}; printf %s "$HASH"`),
  deriveSessionId: (k, { kind, name, pub, sign }: Card) =>
    printed(`${call('short_id', 'session', k, `${kind} ${name} ${pub} ${sign}`)}; printf %s "$HASH"`),
  broadcastPassphrase: (k) => Promise.resolve(`agentalk/1 room ${k}`),
  directPassphrase: (k, sidA, sidB, x) =>
    makesKey(`KEY=${k} SID=${sidA} P_SID[0]=${sidB}; read_public_keys() { :; }; ecdh() { HEX=${x}; }; direct_key_of 0`),
  filePassphrase: (f) => Promise.resolve(`agentalk/1 file ${f}`),
  additionalData: (channel, ...where) => printed(`CHANNEL=${channel}; ${call('set_aad', ...where)}; printf %s "$AAD"`),
  checkName: (text) => outcome(`REASON=bad-name; ${call('is_name', text)}`, () => true),
  isDecimal: (text) => isTrue(call('is_decimal', text)),
  // Its names are those of files: they have no slash and no NUL.
  encodeFileName: (name) => printed(`${call('encode_name', name.replace(/[/\0]/g, '\\'))}; printf %s "$ENCODED"`),
  decodeFileName: (encoded) =>
    outcome(`REASON=bad-header-value; ${call('decode_name', encoded)} && printf %s "$FILE_NAME"`, (text) =>
      Buffer.from(text, 'latin1').toString(),
    ),
  parseFrame(frame) {
    const code = `${parsing(frame)} && ${printingBody('body')} && write_body "$TMP.unsigned" "$UNSIGNED" &&
      { ${PRINT_HEADERS}; printf 'signature: %s' "$MSG_signature"; }`;
    return outcome(code, (text) => {
      const all = text.split('\n').map((each) => each.split(/: (.*)/, 2) as [string, string]);
      const { signature, ...headers } = Object.fromEntries(all.filter(([, value]) => value !== ''));
      return { headers, signature, body: bytesOf('body'), unsigned: bytesOf('unsigned') };
    });
  },
  checkMessage(frame, isDirect) {
    const code = `${parsing(frame)} && REASON=malformed && check_message ${isDirect ? 'yes' : "''"} &&
      { ${PRINT_HEADERS}; [ "$MSG_kind" != file ] || printf 'fileName: %s' "$FILE_NAME"; }`;
    return outcome(code, toMessage);
  },
  async sequenceOf(frame) {
    const text = await printed(`${parsing(frame)}; [[ $MSG_seq =~ ^[1-9][0-9]{0,14}$ ]] && printf %s "$MSG_seq"; true`);
    return text === '' ? null : Number(text);
  },
  async seal(passphrase, aad, plaintext) {
    // The client seals frames: with no header, the empty line stands before the body.
    const path = file('plaintext', plaintext);
    const code = `${withKey(passphrase)} read_file ${word(path)}; BODY=("\${BYTES[@]}")
      seal_bytes "$PASS" "\${NULLS:0:24}00000001" '' >/dev/null; random_hex 12; NONCE=$HEX; initial_counter "$NONCE"
      read_key "key-$KEYS"; seal_bytes "$PASSPHRASE" "$IV" ''; gcm_tag "$HASH_KEY" ${word(aad)}
      printf '%s %s %s' "$NONCE" "$TAG" "$CIPHERTEXT"`;
    const [nonce = '', tag = '', ciphertext = ''] = (await printed(code)).split(' ');
    return { nonce, ciphertext, tag };
  },
  unseal(passphrase, aad, sealed) {
    const code = `${withKey(passphrase)} unseal "key-$KEYS" ${word(aad)} ${sealedWords(sealed)} &&
      BODY=("\${BYTES[@]}") && ${printingBody('plain')}`;
    return outcome(code, () => bytesOf('plain'));
  },
  unsealCard(k, channel, from, ownId, sealed) {
    const code = `KEY=${k} CHANNEL=${channel} ID=${ownId}; ${call('set_aad', from, '*', 'card')}; make_key room "agentalk/1 room $KEY"
      unseal room "$AAD" ${sealedWords(sealed)} && parse_frame && check_card ${from} && card_key_is_valid &&
      printf '%s ' "$MSG_kind" "$MSG_name" "$MSG_pub" "$MSG_sign" && short_id session "$KEY" "$MSG_kind $MSG_name $MSG_pub $MSG_sign" && printf %s "$HASH"`;
    return outcome(
      `card_key_is_valid() { REASON=bad-key; write_pem "$MSG_pub" && ecdh ${word(ECDH_PEM)}; }; ${code}`,
      (text) => {
        const [kind = '', name = '', pub = '', sign = '', sid = ''] = text.split(' ');
        return { card: { kind, name, pub, sign }, sid };
      },
    );
  },
  sign(privatePem, sid, aad, unsigned) {
    const head = Buffer.from(unsigned).indexOf('\n\n') + 1;
    const [headers, body] = [unsigned.subarray(0, head), unsigned.subarray(head + 1)];
    const text = `${aad}\n${sid}\n\n${Buffer.from(headers).toString('latin1')}\n`;
    return printed(
      `${readingBody(body)}; ${call('write_signed', text)} && ${call('ecdsa_sign', file('private', privatePem))} && printf %s "$SIGNATURE"`,
    );
  },
  verifySignature({ sign, sid }, aad, frame) {
    // As in `prove`, with one session.
    const code = `(
      PEERS=1 PEER=0 P_ID[0]=id P_SID[0]=${sid} AAD=${word(aad)}
      unseal() { ${reading(frame)}; }; read_public_keys() { P_SIGN[0]=${word(sign)}; }
      prove id '' 0 0 0; status=$?; printf %s "$REASON"; exit $status)`;
    return run(code).then(({ isOk, printed: reason }) => (isOk ? { ok: true, value: true } : { ok: false, reason }));
  },
  sharedX: (privatePem, pub) =>
    outcome(
      `REASON=bad-key; ${call('is_public_key', pub)} && ${call('write_pem', pub)} && ${call('ecdh', file('private', privatePem))} && is_hex "$HEX" 64 && printf %s "$HEX"`,
      (x) => x,
    ),
  unsealDirect(k, own, sender, aad, sealed) {
    writeFileSync(join(folder, 'keys', `ecdh-${own.sid}`), own.private);
    const code = `KEY=${k} SID=${own.sid} P_SID[0]=${sender.sid} P_PUB[0]=${word(sender.pub)}; read_public_keys() { :; }
      "$RUN_rm" -f "$SESSION/keys/direct-${own.sid}-${sender.sid}"; REASON=bad-key; direct_key_of 0 && unseal "$KEY_NAME" ${word(aad)} ${sealedWords(sealed)} &&
      BODY=("\${BYTES[@]}") && ${printingBody('plain')}`;
    return outcome(code, () => bytesOf('plain'));
  },
  async encryptPiece(f, index, plaintext) {
    return cryptPiece(f, index, plaintext);
  },
  async decryptPiece(f, index, size, digest, ciphertext) {
    const isLast = index === Math.ceil(size / PIECE) - 1;
    const length = isLast ? size - index * PIECE : PIECE;
    const path = file('piece', ciphertext);
    const found = await printed(
      `file_size ${word(path)}; hash_files ${word(path)}; printf '%s:%s' "$SIZE" "\${HASHES[0]}"`,
    );
    if (found !== `${length}:${digest}`) return { ok: false, reason: 'bad-file-piece' };
    return { ok: true, value: await cryptPiece(f, index, ciphertext) };
  },
  parseFileBody: (body, size) =>
    outcome(
      `REASON=bad-file-body; ${readingBody(body)}; MSG_size=${size}; check_file_body && printf '%s\\n' "\${LINES[@]}"`,
      (text) => {
        const [f = '', ...pieces] = text.trim().split('\n');
        return { f, pieces };
      },
    ),
  parseWantBody: (body) =>
    outcome(`REASON=bad-want-body; ${readingBody(body)}; check_want && printf '%s\\n' "\${LINES[@]}"`, (text) =>
      text.trim().split('\n'),
    ),
};

runVectors('agentalk.sh', driver);
// Around the largest powers of two one length each: bash takes its time.
const isLast = (length: number) => [32767, 65537, 131072].includes(length);
runInterop(
  'agentalk.sh',
  driver,
  LENGTHS.filter((length) => length < 20_000 || isLast(length)),
);
