/** The shell client's own functions against the vectors and node:crypto, in one bash that has read all of it but its start. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { HIDDEN_RANGES, replaceHidden } from '../sdk/encoding.ts';
import { BASH, CLIENT, makeFolder } from './kit/shell.ts';
import { LENGTHS, runInterop, runVectors } from './kit/vectors.ts';
import type { CheckedMessage, Driver, Outcome } from './kit/vectors.ts';

const folder = makeFolder();
for (const name of ['keys', 'files', 'tmp']) mkdirSync(join(folder, name));
const file = (name: string, contents: string | Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, contents, { mode: 0o600 });
  return path;
};
const client = readFileSync(CLIENT, 'utf8');
const START = '\nstart "$@"\n';
assert.ok(client.endsWith(START));
const functions = file('functions', client.slice(0, -START.length));

/** Runs code that ends in a NUL byte, and tells what it printed, its status and the reason for which it said no. */
const LOOP = `
  . "$1"
  start_part_1
  TMP=$2/tmp/x SESSION=$2 PROCESS_ID=x CALL=x
  while IFS= read -r -d '' code; do
    REASON=''
    eval "$code" </dev/null
    printf '\\0%s %s\\0' "$?" "$REASON"
  done`;
const bash = spawn(BASH, ['-p', '-c', LOOP, '-', functions, folder], { stdio: ['pipe', 'pipe', 'inherit'] });
after(() => bash.kill());
bash.stdout.setEncoding('latin1');

type Answer = { readonly printed: string; readonly isOk: boolean; readonly reason: string };
const calls: { resolve: (answer: Answer) => void; reject: (error: Error) => void }[] = [];
let output = '';
bash.stdout.on('data', (chunk: string) => {
  output += chunk;
  if (!chunk.includes('\0')) return;
  for (let pieces = output.split('\0'); pieces.length > 2; pieces = output.split('\0')) {
    const [printed = '', status = ''] = pieces;
    output = pieces.slice(2).join('\0');
    const [, number, reason = ''] = /^(\d+) (.*)$/.exec(status) ?? [];
    calls.shift()?.resolve({ printed, isOk: number === '0', reason });
  }
});
bash.on('close', () => calls.forEach(({ reject }) => reject(new Error('bash has ended'))));

function run(code: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    calls.push({ resolve, reject });
    bash.stdin.write(Buffer.from(`${code}\0`));
  });
}

/** As one word of bash. */
const word = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
/** A function's call with any arguments. */
const call = (name: string, ...args: readonly string[]) => `${name} ${args.map(word).join(' ')}`;
async function printed(code: string): Promise<string> {
  const answer = await run(code);
  assert.ok(answer.isOk, answer.reason);
  return answer.printed;
}
async function outcome<T>(code: string, value: (printed: string) => T): Promise<Outcome<T>> {
  const { isOk, printed: text, reason } = await run(code);
  return isOk ? { ok: true, value: value(text) } : { ok: false, reason };
}
const utf8 = (text: string) => Buffer.from(text, 'latin1').toString();

/** The passphrase that the client makes a key of, by a make_key that only prints it. */
const passphraseOf = (code: string) => `(make_key() { printf %s "$2"; }; ${code})`;
/** The client's line that makes the key of the room, to be run here: what is said in one place only. */
const ROOM_KEY = /^\t*(make_key room .*)$/m.exec(client)?.[1] ?? assert.fail('no room key');

let keys = 0;
const keyOf = new Map<string, string>();
/** Code that makes the key's file once, and its name. */
function withKey(passphrase: string): readonly [code: string, key: string] {
  const known = keyOf.get(passphrase);
  if (known !== undefined) return ['', known];
  const name = `test-${++keys}`;
  keyOf.set(passphrase, name);
  return [`${call('make_key', name, passphrase)}; `, name];
}
const reading = (bytes: Uint8Array, name = 'frame') => `read_file ${word(file(name, bytes))}; `;
const HEADERS = /^HEADERS='(.*)'$/m.exec(client)?.[1]?.split(' ') ?? assert.fail('no headers');
const PRINT_HEADERS = HEADERS.map((name) => `printf '%s: %s\\n' ${name} "$MSG_${name}"`).join('; ');
const headersOf = (text: string): Record<string, string> =>
  Object.fromEntries(
    text
      .split('\n')
      .map((line) => line.split(/: (.*)/, 2) as [string, string])
      .filter(([, value]) => value),
  );
const numbers = (text: string) => text.split(' ').map(Number);

const driver: Driver = {
  deriveAccessToken: (k) => printed(`${call('labelled_hash', 'access', k)}; printf %s "$HASH"`),
  deriveChannelId: (access) => printed(`${call('short_id', 'channel', access)}; printf %s "$HASH"`),
  deriveParticipantId: (k, name) => printed(`${call('short_id', 'participant', k, name)}; printf %s "$HASH"`),
  deriveSessionId: (k, { kind, name, pub, sign }) =>
    printed(`${call('short_id', 'session', k, `${kind} ${name} ${pub} ${sign}`)}; printf %s "$HASH"`),
  broadcastPassphrase: (k) => printed(`KEY=${k}; ${passphraseOf(ROOM_KEY)}`),
  directPassphrase: (k, sidA, sidB, x) =>
    printed(
      `KEY=${k} SID=${sidA} P_SID=(${sidB}); rm -f "$SESSION/keys/direct-"*; ${passphraseOf(
        `read_public_keys() { :; }; ecdh() { HEX=${x}; }; direct_key_of 0`,
      )}`,
    ),
  filePassphrase: (f) => `agentalk/1 file ${f}`,
  additionalData: (channel, ...where) => printed(`CHANNEL=${channel}; ${call('set_aad', ...where)}; printf %s "$AAD"`),
  checkName: (name) => outcome(call('is_name', name), () => true),
  isDecimal: async (text) => (await run(call('is_decimal', text))).isOk,
  // What is given is a path: its last part has neither a slash nor a NUL.
  encodeFileName: (name) => printed(`${call('encode_name', name.replace(/[/\0]/g, '_'))}; printf %s "$ENCODED"`),
  decodeFileName: (encoded) => outcome(`${call('decode_name', encoded)} && printf %s "$FILE_NAME"`, utf8),
  parseFrame(frame) {
    const code = `${reading(frame)} parse_frame && write_body "$TMP.body" '' && write_body "$TMP.unsigned" "$UNSIGNED" &&
      { ${PRINT_HEADERS}; }`;
    return outcome(code, (text) => {
      const { signature, ...headers } = headersOf(text);
      const [body, unsigned] = ['x.body', 'x.unsigned'].map((name) => readFileSync(join(folder, 'tmp', name)));
      assert.ok(body && unsigned);
      return { headers, signature, body, unsigned };
    });
  },
  checkMessage(frame, isDirect) {
    const code = `${reading(frame)} parse_frame && { [ -z "$MSG_seq" ] || [[ $MSG_seq =~ ^[1-9][0-9]{0,14}$ ]]; } &&
      check_message ${isDirect ? 'yes' : "''"} && { [ -n "$MSG_seq" ] || is_control; } && { ${PRINT_HEADERS}; }`;
    return outcome(code, (text) => checked(headersOf(text), isDirect));
  },
  async sequenceOf(frame) {
    const seq = await run(`${reading(frame)} parse_frame && printf %s "$MSG_seq"`);
    return seq.isOk && /^[1-9][0-9]{0,14}$/.test(seq.printed) ? Number(seq.printed) : null;
  },
  async seal(passphrase, aad, plaintext) {
    const [make, key] = withKey(passphrase);
    // `seal` ends the headers with an empty line: its parts are called here for plaintexts that are no frames.
    const code = `${make}${reading(plaintext, 'plaintext')} BODY=("\${BYTES[@]}"); read_key ${key}; random_hex 12; NONCE=$HEX
      initial_counter "$NONCE"; seal_bytes "$PASSPHRASE" "$IV" ''; gcm_tag "$HASH_KEY" ${word(aad)}; printf '%s %s %s' "$NONCE" "$TAG" "$CIPHERTEXT"`;
    const [nonce = '', tag = '', ciphertext = ''] = (await printed(code)).split(' ');
    return { nonce, ciphertext, tag };
  },
  unseal(passphrase, aad, { nonce, ciphertext, tag }) {
    const [make, key] = withKey(passphrase);
    const code = `${make}${call('unseal', key, aad, nonce, ciphertext, tag)} && BODY=("\${BYTES[@]}") && write_body "$TMP.plain" ''`;
    return outcome(code, () => readFileSync(join(folder, 'tmp', 'x.plain')));
  },
  unsealCard(k, channel, from, ownId, { nonce, ciphertext, tag }) {
    const code = `KEY=${k} CHANNEL=${channel} ID=${ownId}; ${ROOM_KEY}; ${call('set_aad', from, '*', 'card')}
      unseal room "$AAD" ${[nonce, ciphertext, tag].map(word).join(' ')} && parse_frame && check_card ${from} &&
      make_key_pair "$TMP.own" && ecdh "$TMP.own" "$MSG_pub" && is_hex "$HEX" 64 &&
      short_id session "$KEY" "$MSG_kind $MSG_name $MSG_pub $MSG_sign" && printf '%s ' "$MSG_kind" "$MSG_name" "$MSG_pub" "$MSG_sign" "$HASH"`;
    return outcome(code, (text) => {
      const [kind = '', name = '', pub = '', sign = '', sid = ''] = text.split(' ');
      return { card: { kind, name, pub, sign }, sid };
    });
  },
  sign(privatePem, sid, aad, unsigned) {
    const text = Buffer.from(unsigned).toString('latin1');
    const end = text.indexOf('\n\n') + 2;
    const code = `${reading(unsigned.subarray(end), 'body')} BODY=("\${BYTES[@]}")
      ecdsa_sign ${word(file('private', privatePem))} ${word(aad)}$'\\n'${sid}$'\\n\\n'${word(text.slice(0, end))} && printf %s "$SIGNATURE"`;
    return printed(code);
  },
  verifySignature({ sign, sid }, aad, frame) {
    // The client's own steps of a broadcast, with a frame that was opened.
    const code = `${reading(frame)} REASON=missing-signature; PEERS=1 PEER=0 P_ID=(x) P_SID=(${sid}) AAD=${word(aad)}
      read_public_keys() { P_SIGN[0]=${word(sign)}; }; unseal() { :; }; prove x '' n c t; status=$?; . ${word(functions)}; [ $status -eq 0 ]`;
    return outcome(code, () => true);
  },
  sharedX(privatePem, pub) {
    const code = `REASON=bad-key; ${call('is_public_key', pub)} && ${call('ecdh', file('private', privatePem), pub)} && is_hex "$HEX" 64 && printf %s "$HEX"`;
    return outcome(code, (x) => x);
  },
  async unsealDirect(k, own, sender, aad, { nonce, ciphertext, tag }) {
    const code = `KEY=${k} SID=${own.sid} P_SID=(${sender.sid}) P_PUB=(${word(sender.pub)}); rm -f "$SESSION/keys/direct-"*
      read_public_keys() { :; }; REASON=bad-key; direct_key_of 0 &&
      ${call('unseal', 'KEY_NAME', aad, nonce, ciphertext, tag).replace("'KEY_NAME'", '"$KEY_NAME"')} &&
      BODY=("\${BYTES[@]}") && write_body "$TMP.plain" ''; status=$?; . ${word(functions)}; [ $status -eq 0 ]`;
    file(join('keys', `ecdh-${own.sid}`), own.private);
    return outcome(code, () => readFileSync(join(folder, 'tmp', 'x.plain')));
  },
  async encryptPiece(f, index, plaintext) {
    const code = `aes_ctr "agentalk/1 file ${f}" ${counter(index)} <${word(file('piece', plaintext))} >"$TMP.piece"`;
    await printed(code);
    return readFileSync(join(folder, 'tmp', 'x.piece'));
  },
  decryptPiece: undefined as never,
  parseFileBody: undefined as never,
  parseWantBody: undefined as never,
};
const counter = (index: number) => (index * 65536).toString(16).padStart(32, '0');

function checked(headers: Record<string, string>, isDirect: boolean): CheckedMessage {
  const { kind = '', seq, time = '', sent, received, seen, stored, reach, name, size = '', sha256 = '' } = headers;
  const isControl = /^(sync|ack|want|bye)$/.test(kind);
  return {
    kind,
    seq: seq === undefined || isControl ? null : Number(seq),
    time: Number(time),
    ...(isDirect && sent ? { sent: numbers(sent) } : {}),
    ...(isDirect && received ? { received: numbers(received) } : {}),
    seen: (isControl ? '' : (seen ?? ''))
      .split(',')
      .filter(Boolean)
      .map((entry) => {
        const [sid = '', mark, skipped, left] = entry.split(' ');
        return [sid, Number(mark), Number(skipped), left === 'left'] as const;
      }),
    ...(stored && /^(sync|ack)$/.test(kind) ? { stored: numbers(stored) } : {}),
    ...(reach ? { reach } : {}),
    ...(kind === 'file' && name ? { file: { name: decodeURIComponent(name), size: Number(size), sha256 } } : {}),
  };
}

runVectors('agentalk.sh', driver, { hasReasons: false, hasFiles: false });
// Around the largest powers of two one length each: bash takes its time.
const isLast = (length: number) => [32767, 65537, 131072].includes(length);
runInterop(
  'agentalk.sh',
  driver,
  LENGTHS.filter((length) => length < 5_000 || isLast(length)),
);

test('shows the characters that the other clients show, and hides those that they hide', async () => {
  const codes = [...HIDDEN_RANGES.flatMap(([first, last]) => [first - 1, first, last, last + 1])];
  for (let code = 0x80; code < 0x110000; code += code < 0x10000 ? 251 : 8191) codes.push(code);
  const characters = codes.filter((code) => code > 0 && code !== 13 && (code < 0xd800 || code > 0xdfff));
  const text = characters.map((code) => `${code.toString(16)} ${String.fromCodePoint(code)}\n`).join('');
  const clean = await printed(`${reading(Buffer.from(text), 'text')} sanitize "\${BYTES[0]}"; printf %s "$CLEAN"`);
  assert.equal(utf8(clean), replaceHidden(text, '\ufffd'));
});
