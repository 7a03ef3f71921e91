/**
 * Finds what bash 3.2 lacks (the bash of every Mac, and the oldest that the client runs in). Line by line, by shape: it
 * knows no grammar, so it is no proof; AGENTALK_TEST_BASH=/path/to/bash-3.2 npm test is.
 *
 * node scripts/lint-bash32.mjs FILE…
 *
 * A use that follows a test of BASH_VERSINFO says so on its line: # bash 5 only, guarded
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const GUARDED = /# bash [45] only, guarded/;

/** A variable's name and perhaps a subscript, as it follows `${`. */
const NAME = String.raw`\$\{[!#]?\w+(?:\[[^\]]*\])?`;
/** `declare`, `local` and their like with an option among others. */
const declaring = (options) =>
  new RegExp(String.raw`\b(?:declare|typeset|local|readonly)\s+(?:-\w+\s+)*-\w*[${options}]`);

const RULES = [
  [declaring('A'), 'associative arrays (bash 4.0)'],
  [declaring('g'), 'declare -g (bash 4.2)'],
  [declaring('n'), 'namerefs, declare -n (bash 4.3)'],
  [declaring('luc'), 'declare -l, -u, -c (bash 4.0)'],
  [/\blocal\s+-(?=[\s;]|$)/, 'local - (bash 4.4)'],
  [new RegExp(NAME + String.raw`(?:\^|,|~)`), 'change of case, ${x^^} or ${x,,} (bash 4.0): use tr'],
  [new RegExp(NAME + String.raw`@[A-Za-z]\}`), '${x@Q} and its like (bash 4.4)'],
  [new RegExp(NAME + String.raw`:(?![-=+?])(?:[^:{}]|\$\{[^}]*\})*:\s*-`), 'a negative length, ${x:0:-1} (bash 4.2)'],
  [/\b\w+\[\s*-\d+\s*\]/, 'a negative subscript (bash 4.2)'],
  [/(?:^|[\s;&|({!])(?:mapfile|readarray)(?=\s|$)/, 'mapfile, readarray (bash 4.0): use while read'],
  [/\bwait\s+(?:-\w+\s+)*-\w*[nfp]/, 'wait -n, -f, -p (bash 4.3)'],
  [/\bread\s(?:[^|;&]*\s)?-\w*N/, 'read -N (bash 4.1)'],
  [/\bread\s(?:[^|;&]*\s)?-\w*i\b/, 'read -i (bash 4.0)'],
  [/\bread\s(?:[^|;&]*\s)?-\w*t\s*["']?\d*\.\d/, 'read -t with a fraction (bash 4.0)'],
  [/\bread\s(?:[^|;&]*\s)?-\w*t\s*["']?0(?![.\d])/, 'read -t 0 (bash 4.0)'],
  [/\bprintf\s+-v\s*["']?[\w${}]+\[/, 'printf -v into an array (bash 4.1)'],
  [/%[-\d.]*\([^)]*\)T/, 'printf %(…)T (bash 4.2): use date'],
  [/&>>/, '&>> (bash 4.0): use >>file 2>&1'],
  [/\|&/, '|& (bash 4.0): use 2>&1 |'],
  [/;;?&(?!&)/, ';& and ;;& in case (bash 4.0)'],
  [/(?:^|[\s;&|({!])coproc(?=\s|$)/, 'coproc (bash 4.0)'],
  [/(?<![$\w])\{[A-Za-z_]\w*\}[<>]/, 'a descriptor of bash’s choice, {fd}> (bash 4.1)'],
  [/(?:\[\[?|\btest|&&|\|\||!)\s+-[vR]\s/, '[[ -v x ]] (bash 4.2): use ${x+set}'],
  [/\{[+-]?\d+\.\.[+-]?\d+\.\.[+-]?\d+\}|\{[a-zA-Z]\.\.[a-zA-Z]\.\.[+-]?\d+\}/, 'steps in {1..9..2} (bash 4.0)'],
  [/\{[+-]?0\d+\.\.|\.\.[+-]?0\d+\}/, 'zeros in {01..10} (bash 4.0)'],
  [
    /\bshopt\s.*\b(?:globstar|lastpipe|inherit_errexit|autocd|checkjobs|dirspell|direxpand|localvar_inherit)\b/,
    'a shopt that 3.2 lacks',
  ],
  [/(?:^|[\s"'=/])\*\*\/|\/\*\*(?=[\s"';)]|$)/, '** over folders (bash 4.0)'],
  [/\$\{?(?:EPOCHSECONDS|EPOCHREALTIME)\b/, 'EPOCHSECONDS, EPOCHREALTIME (bash 5.0): use date +%s'],
  [
    /\$\{?(?:SRANDOM|BASHPID|BASH_ARGV0|BASH_LOADABLES_PATH|BASH_MONOSECONDS)\b/,
    'a variable that 3.2 lacks (it is empty there)',
  ],
  [/\bBASH_XTRACEFD=|\bPROMPT_DIRTRIM=|\bFUNCNEST=/, 'a variable without effect in 3.2'],
  [/\$'(?:[^'\\]|\\.)*\\[uU][0-9a-fA-F]/, "\\u in $'…' (bash 4.2): write the UTF-8 bytes"],
  [/\$\([^()]*\bcase\s[^()]*\sin\s+[^(\s)][^()]*\)/, 'case in $( ) needs (pattern) in 3.2'],
];

/** Without a comment. A # inside quotes or an expansion has no space before it, or a quote behind it. */
const code = (line) => line.replace(/(?:^|\s)#(?!\S*["'`]\s*(?:[;|&)]|$)).*$/, '');

/** Each use in the text of a script: `{ line, reason, text }`, lines counted from 1. */
export function lint(text) {
  return text.split('\n').flatMap((text, at) => {
    if (GUARDED.test(text)) return [];
    return RULES.filter(([shape]) => shape.test(code(text))).map(([, reason]) => ({ line: at + 1, reason, text }));
  });
}

/** Lines for people: `file:line: reason: the line`. */
export const lintFiles = (paths) =>
  paths.flatMap((path) =>
    lint(readFileSync(path, 'utf8')).map(({ line, reason, text }) => `${path}:${line}: ${reason}: ${text.trim()}`),
  );

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const found = lintFiles(process.argv.slice(2));
  for (const line of found) console.log(line);
  process.exitCode = found.length > 0 ? 1 : 0;
}
