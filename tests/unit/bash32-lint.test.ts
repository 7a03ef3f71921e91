/** scripts/lint-bash32.mjs finds each thing that bash 3.2 lacks, and only those. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { ROOT } from '../lib/root.ts';

const folder = mkdtempSync(join(tmpdir(), 'agentalk-lint-'));
after(() => rmSync(folder, { recursive: true }));

function lint(script: string): { status: number | null; lines: string[]; path: string } {
  const path = join(folder, 'script.sh');
  writeFileSync(path, script);
  const { status, stdout } = spawnSync(process.execPath, [join(ROOT, 'scripts', 'lint-bash32.mjs'), path]);
  return { status, lines: stdout.toString().split('\n').filter(Boolean), path };
}

/** Each in words that say what the reason must speak of. */
const LACKING: readonly (readonly [script: string, reason: RegExp])[] = [
  ['declare -A map', /associative/],
  ['  local -A map=()', /associative/],
  ['local -r -A map', /associative/],
  ['typeset -rA map', /associative/],
  ['declare -g x=1', /declare -g/],
  ['declare -n ref=$1', /nameref/],
  ['local -n ref=$1', /nameref/],
  ['declare -u x', /declare -l/],
  ['f() { local -; set +e; }', /local -/],
  ['echo "${x^^}"', /case/],
  ['echo "${x,,}"', /case/],
  ['echo "${x^}"', /case/],
  ['echo "${x[1],}"', /case/],
  ['y=${x@Q}', /@Q/],
  ['y="${x[@]@A}"', /@Q/],
  ['y=${x:0:-1}', /negative length/],
  ['y=${x:1: -1}', /negative length/],
  ['y=${x:${#z}:-1}', /negative length/],
  ['echo "${list[-1]}"', /negative subscript/],
  ['list[-1]=x', /negative subscript/],
  ['mapfile -t list <file', /mapfile/],
  ['while :; do readarray list; done', /mapfile/],
  ['wait -n', /wait -n/],
  ['wait -p pid -n', /wait -n/],
  ['read -N 4 x', /read -N/],
  ['IFS= read -r -N4 x', /read -N/],
  ['read -e -i text x', /read -i/],
  ['read -r -t 0.1 x', /fraction/],
  ['read -t .5 x', /fraction/],
  ['read -t 0 && echo there', /read -t 0/],
  ['printf -v list[1] %s x', /printf -v/],
  ['printf -v "list[i]" %s x', /printf -v/],
  ['printf -v "P_${field}[i]" %s x', /printf -v/],
  ["printf '%(%s)T' -1", /%\(…\)T/],
  ['make &>>log', /&>>/],
  ['make |& tee log', /\|&/],
  ['case $x in a) b ;& c) d ;; esac', /;&/],
  ['case $x in a) b ;;& c) d ;; esac', /;&/],
  ['coproc cat', /coproc/],
  ['coproc NAME { cat; }', /coproc/],
  ['exec {fd}>file', /descriptor/],
  ['exec {fd}<&-', /descriptor/],
  ['[[ -v x ]]', /-v/],
  ['if test -v x; then :; fi', /-v/],
  ['[ ! -v x ]', /-v/],
  ['[[ -n $y && -v x ]]', /-v/],
  ['for i in {1..9..2}; do :; done', /steps/],
  ['for i in {01..10}; do :; done', /zeros/],
  ['shopt -s globstar', /shopt/],
  ['shopt -s nullglob lastpipe', /shopt/],
  ['for file in **/*.sh; do :; done', /\*\*/],
  ['ls src/**', /\*\*/],
  ['now=$EPOCHSECONDS', /EPOCHSECONDS/],
  ['now=${EPOCHREALTIME/./}', /EPOCHREALTIME/],
  ['x=$SRANDOM', /variable/],
  ['x=${BASHPID}', /variable/],
  ['exec 9>log; BASH_XTRACEFD=9', /without effect/],
  ["x=$'\\u2014'", /\\u/],
  ['x=$(case $y in a) echo b ;; esac)', /case in/],
];

/** What 3.2 has, and what only looks like something that it lacks. */
const THERE = [
  'local -a list=() text=$1',
  'declare -r x=1; declare -i n; readonly y; export -n z; typeset -x w',
  'echo "${x^}" # bash 5 only, guarded',
  'now=$EPOCHSECONDS # bash 5 only, guarded',
  '# declare -A map is what we would use in bash 4',
  'true # mapfile would do it',
  'x=${y:-a:-b} z=${y:=-1} w=${y: -4} v=${y: -4:2} u=${y:0:4} t=${y:0:${#z}-1}',
  'x=${y#*:} x=${y%%,*} x=${y//,/;} x=${y/%,/} x=${#y} x=${!y} x=${#list[@]}',
  'x=${list[i - 1]} y=${list[$((n - 1))]}',
  'wait "$pid"; wait; wait_for -n',
  'read -r -t 5 x; read -r -d "" -n 4 y; read -a list',
  'printf -v x %s y; printf -v "$name" %s y; printf "(%s)T" x',
  'make &>log; make >>log 2>&1; a || b & c && d &',
  'case $x in a) b ;; esac & wait',
  'x=${list[@]}>file; printf %s "${x}" >file; f() { g; } >file',
  '[ -n "$(command -v curl)" ] && command -v openssl',
  'for i in {1..10}; do :; done; echo $((2 ** 3)); ((n = 2**i))',
  'shopt -s nullglob extglob',
  'case $x in */*) : ;; **) : ;; esac; ls */*.sh',
  'x=$RANDOM y=$SECONDS z=$BASH_VERSINFO',
  "x=$'\\342\\200\\224\\n' y='\\u2014'",
  'x=$(case $y in (a) echo b ;; esac)',
  'x=${y#"#"} z=${#y} # a comment',
];

describe('the lint for bash 3.2', () => {
  const lacking = lint(LACKING.map(([script]) => script).join('\n'));
  for (const [at, [script, reason]] of LACKING.entries()) {
    test(`finds ${script}`, () => {
      const start = `${lacking.path}:${at + 1}: `;
      const found = lacking.lines.filter((line) => line.startsWith(start)).map((line) => line.slice(start.length));
      assert.ok(
        found.some((line) => reason.test(line) && line.endsWith(`: ${script.trim()}`)),
        found.join('\n'),
      );
    });
  }
  test('ends with status 1 when something is found', () => assert.equal(lacking.status, 1));

  const there = lint(THERE.join('\n'));
  for (const [at, script] of THERE.entries()) {
    test(`lets pass ${script}`, () => {
      const found = there.lines.filter((line) => line.startsWith(`${there.path}:${at + 1}: `));
      assert.deepEqual(found, []);
    });
  }
  test('ends with status 0 when nothing is found', () => assert.deepEqual([there.status, there.lines], [0, []]));
});
