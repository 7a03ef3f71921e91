/** The shell client's own parts against the vectors and node:crypto, in one bash that has read all of it but `main`. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import type { Outcome, Reason } from '../sdk/protocol.ts';
import { BASH, CLIENT, makeFolder } from './kit/shell.ts';
import { LENGTHS, heldToVectors, interoperates } from './kit/vectors.ts';
import type { Driver } from './kit/vectors.ts';

const folder = makeFolder();
mkdirSync(join(folder, 'direct'));
const file = (name: string, contents: string | Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, contents, { mode: 0o600 });
  return path;
};
const client = readFileSync(CLIENT, 'utf8');
assert.ok(client.endsWith('\nmain "$@"\n'));
const functions = file('functions', client.slice(0, -'main "$@"\n'.length));

/** Runs code that ends in a NUL byte, and answers what it printed, its status and WHY it said no. */
const LOOP = `
  export LC_ALL=C
  . "$1" && TMP=$2/x S=$2
  while IFS= read -r -d '' code; do
    WHY=''
    eval "$code" </dev/null
    printf '\\0%s %s\\0' "$?" "$WHY"
  done`;
const bash = spawn(BASH, ['-c', LOOP, '-', functions, folder], { stdio: ['pipe', 'pipe', 'inherit'] });
after(() => bash.kill());
bash.stdout.setEncoding('latin1');

/** Resolves the oldest call with the next two pieces that bash prints. */
const calls: { resolve: (answer: Answer) => void; reject: (error: Error) => void }[] = [];
type Answer = { readonly printed: string; readonly isOk: boolean; readonly reason: Reason };
let output = '';
bash.stdout.on('data', (chunk: string) => {
  output += chunk;
  if (!chunk.includes('\0')) return;
  for (let pieces = output.split('\0'); pieces.length > 2; pieces = output.split('\0')) {
    const [printed = '', status = ''] = pieces;
    output = pieces.slice(2).join('\0');
    const [, number, why] = /^(\d+) (.*)$/.exec(status) ?? [];
    calls.shift()?.resolve({ printed, isOk: number === '0', reason: why as Reason });
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

/** A line of the client by how it starts, to be run here: what is said in one place only. */
const line = (start: string) => client.split('\n').find((each) => each.trim().startsWith(start)) ?? assert.fail(start);

const KNOWN = 'kind stream seq time after seen re challenge answer name part size sha256 pub sign final'.split(' ');
const PRINT_HEADERS = KNOWN.map((name) => `printf '%s: %s\\n' ${name} "$F_${name}"`).join('; ');

/** Makes a key's file, as a session does, and a new one for each passphrase: K. */
const withKey = (passphrase: string) => `
  [ "\${PASS:-}" = ${word(passphrase)} ] || { PASS=${word(passphrase)} K=$S/key$((++KEYS)) && make_key "$K" "$PASS"; }
  `;
/** The client's line that makes the key of the room or of two, run by a bash that only prints the passphrase. */
const ROOM_KEY = line('make_key "$S/direct/room"');
const DIRECT_KEY = line('WHY=bad-key && is_hex "$HEX" 64 && make_key');
const passphraseOf = (makeKey: string) => `(make_key() { printf %s "$2"; }; ${makeKey})`;

/** What stands before a plaintext in the client's files. */
const BLOCKS = Buffer.alloc(48);
const parsing = (frame: Uint8Array) => `parse_frame ${frame.length} <${word(file('parsed.frame', frame))}`;

const driver: Driver = {
  access: (k) => printed(call('labelled', 'access', k)),
  channel: (access) => printed(call('id_of', 'channel', access)),
  participant: (k, name) => printed(call('id_of', 'participant', k, name)),
  roomPassphrase: (k) => printed(`KEY=${k}; ${passphraseOf(ROOM_KEY)}`),
  additionalData: (channel, ...where) => printed(`CHANNEL=${channel}; ${call('aad', ...where)}; printf %s "$AAD"`),
  isName: (text) => isTrue(call('is_name', text)),
  isDecimal: (text) => isTrue(call('is_decimal', text)),
  parseFrame(frame) {
    const code = `${parsing(frame)} && body >"$TMP.parsed" && { printf '%s\\n' "$HEADERS" && body; } >"$TMP.unsigned" &&
      { ${PRINT_HEADERS}; printf 'signature: %s' "$F_signature"; }`;
    return outcome(code, (text) => {
      const all = text.split('\n').map((each) => each.split(/: (.*)/, 2) as [string, string]);
      const { signature, ...headers } = Object.fromEntries(all.filter(([, value]) => value !== ''));
      const [body, unsigned] = ['x.parsed', 'x.unsigned'].map((name) => readFileSync(join(folder, name)));
      assert.ok(body && unsigned);
      return { headers, signature, body, unsigned };
    });
  },
  checkMessage(frame, isDirect) {
    return outcome(`${parsing(frame)} && check_message ${isDirect ? 'me' : 'all'}`, () => true);
  },
  async seal(passphrase, aad, plaintext) {
    const path = file(`plaintext-${plaintext.length}`, Buffer.concat([BLOCKS, plaintext]));
    const code = `seal "$K" ${word(aad)} <${word(path)} && [ "$FRAME_BYTES" = ${plaintext.length} ] &&
      printf '%s %s %s' "$NONCE" "$TAG" "$CIPHERTEXT"`;
    const [nonce = '', tag = '', ciphertext = ''] = (await printed(withKey(passphrase) + code)).split(' ');
    return { nonce, ciphertext, tag };
  },
  open(passphrase, aad, { nonce, ciphertext, tag }) {
    // Not all that is sealed here is a frame.
    const code = `parse=$(declare -f parse_frame) && parse_frame() { :; }
      unseal "$K" ${[aad, nonce, ciphertext, tag].map(word).join(' ')}
      status=$?; eval "$parse"; [ $status -eq 0 ]`;
    return outcome(withKey(passphrase) + code, () => readFileSync(join(folder, 'x.frame')).subarray(BLOCKS.length));
  },
  openCard(k, channel, from, { nonce, ciphertext, tag }) {
    const code = `KEY=${k} CHANNEL=${channel}; ${call('aad', from, '*', 'card')}; rm -f "$S/direct/room"*; ${ROOM_KEY}
      unseal "$S/direct/room" "$AAD" ${[nonce, ciphertext, tag].map(word).join(' ')} &&
      check_card ${from} && printf '%s ' "$F_kind" "$F_name" "$F_pub" "$F_sign"`;
    return outcome(code, (text) => {
      const [kind, name = '', pub = '', sign = ''] = text.split(' ');
      return { kind: kind as 'agent' | 'human', name, pub, sign };
    });
  },
  sign(privatePem, aad, unsigned) {
    const [pem, data] = [
      file('private', privatePem),
      file('data', Buffer.concat([Buffer.from(`${aad}\n\n`), unsigned])),
    ];
    return printed(`sign ${word(pem)} ${word(data)} && printf %s "$SIGNATURE"`);
  },
  checkBroadcast(sign, aad, frame) {
    const path = file('checked.frame', frame);
    // What a message has to say, and its seal, have tests of their own.
    const code = `(
      unseal() { parse_frame ${frame.length} <${word(path)}; }; check_message() { :; }
      P_SIGN[0]=${sign} AAD=${word(aad)}; opened 0 all; status=$?; printf %s "$WHY"; exit $status)`;
    return run(code).then(({ isOk, printed: reason }) =>
      isOk ? { ok: true, value: true } : { ok: false, reason: reason as Reason },
    );
  },
  sharedX(privatePem, pub) {
    const code = `WHY=bad-key; ${call('is_public_key', pub)} && ${call('shared_x', file('private', privatePem), pub)} &&
      is_hex "$HEX" 64 && printf %s "$HEX"`;
    return outcome(code, (x) => x);
  },
  directPassphrase: (k, x) => printed(`KEY=${k} HEX=${x}; ${passphraseOf(DIRECT_KEY)}`),
};

heldToVectors('agentalk.sh', driver);
// Around the largest powers of two one length each: bash takes its time.
const isLast = (length: number) => [32767, 65537, 131072].includes(length);
interoperates(
  'agentalk.sh',
  driver,
  LENGTHS.filter((length) => length < 20_000 || isLast(length)),
);
