/**
 * Runs one talk on each kind of machine that can be had here, and prints a table of what was run, what came of it and
 * what was not run. docs/machines.md has the last one.
 *
 *     npm run test:machines              prints the table
 *     npm run test:machines -- --write   and puts it into docs/machines.md
 *     npm run test:machines -- WORD…     only the rows with one of these words; with --write the page keeps the others
 *
 * What this machine lacks is named by the environment, and listed as not run where it is not:
 *     AGENTALK_TEST_BASHES       further versions of bash: paths, separated by colons
 *     AGENTALK_TEST_OPENSSLS     further versions of OpenSSL and LibreSSL: paths of their openssl, separated by colons
 *     AGENTALK_TEST_CURLS        further versions of curl: paths, separated by colons
 *     AGENTALK_TEST_OPENSSL_EXE  an openssl.exe, which wine runs (scripts/openssl-exe.sh builds one)
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, isBuilt } from './build.mjs';
import { load } from './bundle-tests.mjs';
import { requirePrograms } from './require-programs.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const PAGE = join(ROOT, 'docs', 'machines.md');
const CLIENT = join(ROOT, 'dist', 'agentalk.sh');
const TALK_TIMEOUT_MS = 300_000;
const BEGIN = '<!-- npm run test:machines -- --write -->';

requirePrograms('git', 'bash', 'curl', 'openssl');
if (!isBuilt()) await build();
const { installWindowsPrograms, OPENSSL_EXE } = await load('lib/windows.ts');

const work = mkdtempSync(join(tmpdir(), 'agentalk-machines-'));
process.on('exit', () => rmSync(work, { recursive: true, force: true, maxRetries: 5 }));

/** @param {string} program @returns {string | undefined} its path */
function find(program) {
  if (program.includes('/')) return existsSync(program) ? program : undefined;
  return (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, program))
    .find(existsSync);
}
const list = (/** @type {string} */ name) => (process.env[name] ?? '').split(':').filter(Boolean);
const firstLine = (/** @type {string[]} */ ...command) =>
  (spawnSync(command[0] ?? '', command.slice(1), { encoding: 'utf8' }).stdout ?? '').split('\n')[0]?.trim() ?? '';

let folders = 0;
function newFolder() {
  const folder = join(work, String(folders++));
  mkdirSync(folder);
  return folder;
}

/** A PATH that begins with these programs. @param {Record<string, string>} programs name and path */
function pathWith(programs) {
  const folder = newFolder();
  for (const [name, path] of Object.entries(programs)) symlinkSync(path, join(folder, name));
  return [folder, process.env.PATH].join(delimiter);
}

/** A PATH that has these tools of one program, curl, openssl and bash alone. @param {string} program */
function userland(program) {
  const folder = newFolder();
  const tools = 'cat date mkdir mv od rm sleep split stat tee wc'.split(' ');
  for (const tool of tools) {
    // Debian's busybox has no split: such a machine has that of another package.
    const has = spawnSync(program, [tool, '--help'], { encoding: 'utf8' });
    const isThere = !/not found|unknown command/i.test(`${has.stdout}${has.stderr}`);
    symlinkSync((isThere ? find(program) : find(tool)) ?? tool, join(folder, tool));
  }
  for (const tool of ['curl', 'openssl', 'bash', 'env']) symlinkSync(find(tool) ?? tool, join(folder, tool));
  return folder;
}

/** An ordinary agent and an odd one pair, talk both ways, to all and to one, and send a file each; then the odd one leaves. */
const TALK = `
set -u
cd "$WORK" && mkdir plain odd && head -c 1200000 /dev/urandom >data.bin || exit 1
session() { echo "$WORK/$1/agentalk-session-$1"; }
plain() { AGENTALK_HOME=$WORK/plain bash "$CLIENT" "$@"; }
say_plain() { bash "$(session plain)/agentalk.sh" "$@"; }
if [ -n "$SHELL_OF_ODD" ]; then
	say_odd() { PATH=$PATH_OF_ODD $SHELL_OF_ODD -c '. "$0"; command=$1; shift; "agentalk_$command" "$@"' "$(session odd).env" "$@"; }
else
	say_odd() { "\${INSIDE[@]}" env PATH="$PATH_OF_ODD" "$BASH_OF_ODD" "$(session odd)/agentalk.sh" "$@"; }
fi
INSIDE=("$@")
[ $# -gt 0 ] || INSIDE=(env)
plain create "$BRIDGE" --name plain >created || { cat created; exit 1; }
link=$(sed -n 's/^Talk to .* start: //p' created)
AGENTALK_HOME=$WORK/odd "\${INSIDE[@]}" env PATH="$PATH_OF_ODD" "$BASH_OF_ODD" "$CLIENT" join "$link" --name odd >joined 2>&1 &
joining=$!
for i in 1 2 3 4; do say_plain wait 20 >>heard-plain; ! grep -q PAIRED heard-plain || break; done
wait $joining || { cat joined; exit 1; }
cat joined >heard-odd
{ say_plain say 'one to all' && say_plain dm odd 'two to you' && say_plain send_file data.bin; } >said || exit 1
for i in 1 2 3 4 5; do
	say_odd wait 20 >>heard-odd 2>&1
	! grep -q 'FILE #3' heard-odd || break
done
{ say_odd say 'three to all' && say_odd dm plain 'four to you' && say_odd send_file data.bin; } >said 2>&1 || { cat said; exit 1; }
for i in 1 2 3 4 5; do
	say_plain wait 20 >>heard-plain
	! grep -q 'FILE #3' heard-plain || break
done
for words in 'PAIRED with plain' '| one to all' '| two to you'; do grep -q "$words" heard-odd || { echo "no '$words'"; exit 1; }; done
for words in 'PAIRED with odd' '| three to all' '| four to you'; do grep -q "$words" heard-plain || { echo "no '$words' from it"; exit 1; }; done
! grep -Eh 'TAMPERED|UNREADABLE|MALFORMED|MISSED|LOST' heard-odd heard-plain || exit 1
cmp data.bin "$(session odd)/inbox/3-plain-data.bin" && cmp data.bin "$(session plain)/inbox/3-odd-data.bin" || exit 1
say_odd leave >left 2>&1 && grep -q '^agentalk: left' left || { cat left; exit 1; }
`;

/** The tests of files: what is sent, resumed, tampered with. A talk has one file each way. @param {Record<string, string>} env */
function fileTests(env) {
  const { status, stdout } = spawnSync(process.execPath, [join(ROOT, 'scripts', 'test.mjs'), 'client/files'], {
    encoding: 'utf8',
    timeout: 4 * TALK_TIMEOUT_MS,
    env: { ...process.env, ...env },
  });
  const count = (/** @type {string} */ what) => new RegExp(`^ℹ ${what} (\\d+)$`, 'm').exec(stdout)?.[1] ?? 'unknown';
  return status === 0 ? `${count('pass')} tests pass` : `fails: ${count('fail')} of ${count('tests')} tests`;
}

/** @typedef {{bash?: string, path?: string, shell?: string, inside?: string[], home?: string, tests?: Record<string, string>}} Machine */

/** @param {string} bridge @param {Machine} machine @returns {string} what came of it */
function talk(bridge, machine) {
  const folder = newFolder();
  const { status, stdout, stderr, error } = spawnSync('bash', ['-c', TALK, 'talk', ...(machine.inside ?? [])], {
    encoding: 'utf8',
    timeout: TALK_TIMEOUT_MS,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('AGENTALK_'))),
      WORK: folder,
      CLIENT,
      BRIDGE: bridge,
      BASH_OF_ODD: machine.bash ?? find('bash') ?? 'bash',
      PATH_OF_ODD: machine.path ?? process.env.PATH ?? '',
      SHELL_OF_ODD: machine.shell ?? '',
    },
  });
  if (status === 0) return 'works';
  const lines = `${stdout}${stderr}`.trim().split('\n');
  return `fails: ${error ? 'it took too long' : (lines.at(-1) ?? '').replaceAll('|', '/').slice(0, 120)}`;
}

/** @type {{kind: string, name: string, machine?: Machine, why?: string}[]} */
const rows = [];
const add = (/** @type {string} */ kind, /** @type {string} */ name, /** @type {Machine} */ machine) =>
  void rows.push({ kind, name, machine });
const lack = (/** @type {string} */ kind, /** @type {string} */ name, /** @type {string} */ why) =>
  void rows.push({ kind, name, why });

const versionOfBash = (/** @type {string} */ path) => `bash ${firstLine(path, '-c', 'echo "${BASH_VERSION%%(*}"')}`;
for (const path of [find('bash') ?? '', ...list('AGENTALK_TEST_BASHES')])
  add('bash', versionOfBash(path), { bash: path });
for (const major of ['3.2', '4.2']) {
  if (!rows.some(({ name }) => name.startsWith(`bash ${major}`))) lack('bash', `bash ${major}`, 'not here');
}

for (const [shell, command] of [
  ['bash', 'bash'],
  ['zsh', 'zsh'],
  ['dash', 'dash'],
  ['ksh', 'ksh'],
  ['busybox ash', 'busybox sh'],
]) {
  if (find((command ?? '').split(' ')[0] ?? '')) add('session file', `sourced in ${shell}`, { shell: command });
  else lack('session file', `sourced in ${shell}`, 'not here');
}

for (const path of [find('openssl') ?? '', ...list('AGENTALK_TEST_OPENSSLS')]) {
  const [, version = firstLine(path, 'version')] = /^(\S+ \S+)/.exec(firstLine(path, 'version')) ?? [];
  add('openssl', version, { path: pathWith({ openssl: path }) });
}
for (const version of ['OpenSSL 1.1.1', 'LibreSSL']) {
  if (!rows.some(({ name }) => name.startsWith(version))) lack('openssl', version, 'not here');
}
for (const path of [find('curl') ?? '', ...list('AGENTALK_TEST_CURLS')]) {
  const [, version = ''] = /^(curl \S+)/.exec(firstLine(path, '--version')) ?? [];
  add('curl', version, { path: pathWith({ curl: path }) });
}

for (const program of ['busybox', 'toybox']) {
  if (find(program)) add('userland', program, { path: userland(program) });
  else lack('userland', program, 'not here');
}
lack('userland', 'uutils, BSD', 'no package of them on the machines of CI');

for (const path of list('AGENTALK_TEST_BASHES'))
  add('file tests', versionOfBash(path), { tests: { AGENTALK_TEST_BASH: path } });
for (const path of list('AGENTALK_TEST_OPENSSLS')) {
  const version = /^(\S+ \S+)/.exec(firstLine(path, 'version'))?.[1] ?? '';
  add('file tests', version, { tests: { PATH: pathWith({ openssl: path }) } });
}

const isRoot = process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0;
/** Code in a separate mount namespace. */
const inside = (/** @type {string} */ code) => ['unshare', '-m', 'bash', '-c', `${code}; exec "$@"`, 'bash'];
/** @type {[string, string[], boolean][]} */
const sandboxes = [
  ['eight open files (ulimit -n 8)', ['bash', '-c', 'ulimit -n 8; exec "$@"', 'bash'], false],
  [
    'no /dev/fd',
    inside('mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9'),
    true,
  ],
  ['no /proc', inside('mount -t tmpfs none /proc'), true],
];
for (const [name, command, needsRoot] of sandboxes) {
  if (needsRoot && !isRoot) lack('sandbox', name, 'needs root');
  else add('sandbox', name, { inside: command });
}
lack(
  'sandbox',
  'Landlock, seccomp',
  'CI has no program that sets them up; tests/client/machines.test.ts has renames that fail',
);

const substitutes = join(newFolder(), 'programs');
installWindowsPrograms(substitutes, (/** @type {string} */ program) => find(program) ?? program);
const windows = { path: [substitutes, process.env.PATH].join(delimiter) };
if (OPENSSL_EXE) {
  const version = /^(\S+ \S+)/.exec(firstLine(join(substitutes, 'openssl'), 'version'))?.[1] ?? '';
  add('Windows', `${version}, openssl.exe under wine`, windows);
} else {
  add('Windows', 'substitutes for openssl.exe and curl.exe', windows);
  lack('Windows', 'openssl.exe under wine', 'not here');
}
lack('Windows', 'Git Bash on a real Windows', 'no such machine');
lack('system', 'macOS, FreeBSD, Termux', 'no such machine');

const bridge = spawn(process.execPath, [join(ROOT, 'dist', 'bridge.js'), '--port', '0', '--drain-delay', '0']);
process.on('exit', () => bridge.kill());
const url = await new Promise((resolve) =>
  bridge.stdout.on('data', (chunk) => {
    const [, found] = /^listening on (\S+)$/m.exec(chunk.toString()) ?? [];
    if (found) resolve(found);
  }),
);

const system = /^PRETTY_NAME="(.*)"$/m.exec(
  existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '',
)?.[1];
/** @param {Machine | undefined} machine @param {string | undefined} why @returns {string} what came of it */
function run(machine, why) {
  if (!machine) return `not run: ${why}`;
  return machine.tests ? fileTests(machine.tests) : talk(String(url), machine);
}

let failed = 0;
const page = readFileSync(PAGE, 'utf8');
const start = page.indexOf(BEGIN) + BEGIN.length;
const end = page.indexOf('<!-- end -->', start);
if (start < BEGIN.length || end < 0) throw new Error(`docs/machines.md has no "${BEGIN}" and "<!-- end -->"`);
const before = page.slice(start, end).trim().split('\n');
const words = process.argv.slice(2).filter((word) => !word.startsWith('-'));
/** What the page says of a row. @param {string} kind @param {string} name */
const earlier = (kind, name) =>
  before.map((line) => line.split(/\s*\|\s*/)).find((cells) => cells[1] === kind && cells[2] === name)?.[3];

const lines = [`Run on ${new Date().toISOString().slice(0, 10)}, on ${system ?? process.platform}.`, ''];
lines.push('| what | version or kind | result |', '| ---- | --------------- | ------ |');
for (const { kind, name, machine, why } of rows) {
  const isChosen = words.length === 0 || words.some((word) => `${kind} ${name}`.includes(word));
  const result = isChosen ? run(machine, why) : earlier(kind, name);
  if (result === undefined) continue;
  if (result.startsWith('fails')) failed++;
  lines.push(`| ${kind} | ${name} | ${result} |`);
  console.log(lines.at(-1));
}
bridge.kill();

if (process.argv.includes('--write')) {
  if (words.length > 0) lines[0] = before[0] ?? '';
  writeFileSync(PAGE, `${page.slice(0, start)}\n\n${lines.join('\n')}\n\n${page.slice(end)}`);
  spawnSync(join(ROOT, 'node_modules', '.bin', 'prettier'), ['--write', PAGE]);
}
process.exitCode = failed > 0 ? 1 : 0;
process.exit();
