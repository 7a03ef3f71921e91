/** scripts/lint-effects.mjs: part 2 of the client has no effects of its own, and the lint finds each kind of one. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { MAX_EFFECTS, PART_2, lintEffects } from '../../scripts/lint-effects.mjs';
import { CLIENT, makeFolder } from '../lib/shell.ts';
import { requirePrograms } from '../lib/require-programs.ts';

const options = { skip: requirePrograms('shfmt') };
const script = (rules: string, effects = 'print() { printf "%s" "$1"; }') => `${effects}\n${PART_2}\n${rules}\n`;
const lint = (rules: string, effects?: string) => lintEffects(script(rules, effects)) ?? assert.fail('no shfmt');

test('part 2 of the client has no effects, and part 1 is short', options, () => {
  assert.deepEqual(lintEffects(readFileSync(CLIENT, 'utf8')), []);
});

const VET = /^# (sed .* \| grep -E '.*')$/m;

/** What the command prints that the script itself names, for a reader who has nothing else. */
function vetted(text: string): string {
  const folder = makeFolder();
  writeFileSync(join(folder, 'agentalk.sh'), text);
  const [, command = ''] = VET.exec(readFileSync(CLIENT, 'utf8')) ?? assert.fail('no command in the client');
  return spawnSync('sh', ['-c', command], { cwd: folder, encoding: 'utf8' }).stdout;
}

test('the command in the script’s part 2 prints nothing of it', () => {
  assert.equal(vetted(readFileSync(CLIENT, 'utf8')), '');
});

for (const code of [
  '\teval "$x"',
  'true && exec /bin/sh',
  '. ./file',
  'x=$(date)',
  'x=`date`',
  'print x >file',
  'print x >>"$file"',
  'done <file',
  'print <(print x)',
  'print x >&4',
  '"$RUN_curl" -q x',
  '\t/bin/rm -rf x',
  'if command ls; then',
]) {
  test(`it prints ${code.trim()}`, () => {
    const whole = `${readFileSync(CLIENT, 'utf8')}\n${code}\n`;
    assert.equal(vetted(whole), `${code}\n`);
  });
}

describe('finds in part 2', options, () => {
  const FORBIDDEN: readonly (readonly [what: string, code: string])[] = [
    ['a program', 'cat file'],
    ['a program in a function', 'f() { if true; then curl -q x; fi; }'],
    ['a program by its path', '/bin/ls'],
    ['a program by a variable', '"$RUN_cat" file'],
    ['a program behind an assignment', 'LC_ALL=C ls'],
    ['a redirection to a file', ': >file'],
    ['a redirection from a file', 'while true; do :; done <file'],
    ['a redirection of a group', '{ print x; } >>file'],
    ['a redirection of a file descriptor', 'print x >&2'],
    ['a here-document', 'print <<END\nx\nEND'],
    ['a here-string', 'print <<<x'],
    ['a process substitution', 'print <(print x)'],
    ['a command substitution of a program', 'x=$(date)'],
    ['a command substitution of a program, in quotes', 'x="a $(date) b"'],
    ['a command substitution in backticks', 'x=`date`'],
    ['a command substitution in arithmetic', 'x=$(($(date) + 1))'],
    ['a command substitution of a file', 'x=$(<file)'],
    ['a command substitution of a list', 'x=$(print a; date)'],
    ['eval', 'eval "$x"'],
    ['exec', 'exec ls'],
    ['source', 'source file'],
    ['the dot', '. file'],
    ['command', 'command ls'],
    ['builtin', 'builtin echo x'],
    ['echo', 'echo x'],
    ['printf to the screen', 'printf x'],
    ['read', 'read -r x'],
    ['trap', "trap 'ls' EXIT"],
    ['set with options', 'set +f'],
    ['a process in the background', 'print x &'],
    ['a coprocess', 'coproc print x'],
    ['cd', 'cd /'],
    ['kill', 'kill 1'],
  ];
  for (const [what, code] of FORBIDDEN) {
    test(what, () => {
      const findings = lint(code);
      assert.ok(findings.length > 0, code);
      assert.match(findings[0] ?? '', /^[3-9]: /); // the line of part 2
    });
  }
});

test('takes what is pure', options, () => {
  const pure = [
    'f() { local a=(1 2) i; for ((i = 0; i < 2; i++)); do ((i > 0)) || continue; done; }',
    'x=$(print a)',
    'printf -v y %s "${x#*a}"',
    'set -- a b',
    '[[ $x = a* && -e $y ]] || [ -n "$x" ]',
    '"cmd_$x" 1',
    'case $x in a) print b ;; esac',
  ];
  assert.deepEqual(lint(pure.join('\n')), []);
});

test('finds a part 1 that is too long, and a script without parts', options, () => {
  assert.match(lint(':', `# ${'x'.repeat(MAX_EFFECTS)}`)[0] ?? '', /at most 12000/);
  assert.match(lintEffects('ls\n')?.[0] ?? '', /there is no line/);
  assert.match(lint('if')[0] ?? '', /can't parse/);
});
