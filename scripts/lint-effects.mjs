/**
 * Holds part 2 of the client, the rules, to what its header promises: bash over the functions of part 1, and nothing
 * else. Parses the script with shfmt, and finds every program, redirection, here-document, process substitution, command
 * substitution of anything but own functions, and every builtin that could start, read or print something. Also holds
 * part 1, the effects, to its length.
 *
 *     node scripts/lint-effects.mjs FILE   prints one line for each finding; status 1 if there is one
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const PART_2 = '# ==== Part 2: the rules ====';
export const MAX_EFFECTS = 12_000; // characters: an agent reads all of part 1

/** Builtins that neither start a program, nor read, write or print. */
const PURE_BUILTINS = [
  ':',
  '[',
  'break',
  'continue',
  'exit',
  'false',
  'let',
  'return',
  'shift',
  'test',
  'true',
  'unset',
];

/**
 * @param {string} script the whole client
 * @returns {string[] | undefined} findings as `LINE: WHAT`; undefined where shfmt is not installed
 */
export function lintEffects(script) {
  const start = script.indexOf(PART_2);
  if (start < 0) return [`1: there is no line "${PART_2}"`];
  const { stdout, stderr, status, error } = spawnSync('shfmt', ['--to-json'], { input: script, maxBuffer: 256 << 20 });
  if (/** @type {NodeJS.ErrnoException | undefined} */ (error)?.code === 'ENOENT') return undefined;
  if (status !== 0) return [`1: shfmt can't parse it: ${stderr}`];
  const file = JSON.parse(stdout.toString());
  /** @type {Set<string>} */
  const functions = new Set();
  visit(file, (node) => {
    if (node.Type === 'FuncDecl') functions.add(node.Name.Value);
  });
  /** @type {string[]} */
  const findings = [];
  if (start > MAX_EFFECTS) findings.push(`1: part 1 has ${start} characters, at most ${MAX_EFFECTS} are allowed`);
  const startByte = Buffer.byteLength(script.slice(0, start));
  visit(file, (node) => {
    if (node.Pos?.Offset === undefined || node.Pos.Offset < startByte) return;
    const what = findingOf(node, functions);
    if (what) findings.push(`${node.Pos.Line}: ${what}`);
  });
  return findings;
}

/** @param {any} node of shfmt's syntax tree @param {(node: any) => void} act */
function visit(node, act) {
  if (typeof node !== 'object' || node === null) return;
  if (!Array.isArray(node)) act(node);
  for (const value of Object.values(node)) visit(value, act);
}

/** The text of a word, where it is a literal. @param {any} word @returns {string | undefined} */
const literal = (word) => (word.Parts.length === 1 && word.Parts[0].Type === 'Lit' ? word.Parts[0].Value : undefined);

/** @param {any} node @param {ReadonlySet<string>} functions @returns {string | undefined} */
function findingOf(node, functions) {
  if (Array.isArray(node.Redirs) && node.Redirs.length > 0) return 'a redirection';
  if (node.Background || node.Coprocess) return 'a process in the background';
  switch (node.Type) {
    case 'ProcSubst':
      return 'a process substitution';
    case 'CoprocClause':
      return 'a coprocess';
    case 'CmdSubst':
      return node.Stmts.every((/** @type {any} */ statement) => isOwnCall(statement.Cmd, functions))
        ? undefined
        : 'a command substitution of something else than own functions';
    case 'CallExpr':
      return node.Args ? callFinding(node, functions) : undefined;
    default:
      return undefined;
  }
}

/** @param {any} command @param {ReadonlySet<string>} functions */
function isOwnCall(command, functions) {
  return command?.Type === 'CallExpr' && command.Args && functions.has(literal(command.Args[0]) ?? '');
}

/** @param {any} call @param {ReadonlySet<string>} functions */
function callFinding({ Args: [first, second] }, functions) {
  const name = literal(first);
  if (name === undefined) {
    const part = first.Parts[0];
    const isCommand = part.Type === 'DblQuoted' && part.Parts[0]?.Value === 'cmd_'; // the commands of a user
    return isCommand ? undefined : 'a command whose name is not written there';
  }
  if (functions.has(name) || PURE_BUILTINS.includes(name)) return undefined;
  const option = second && literal(second);
  if (name === 'printf' && option === '-v') return undefined;
  if (name === 'set' && option === '--') return undefined;
  return `${name}: a program, or a builtin that is not pure`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const findings = lintEffects(readFileSync(process.argv[2] ?? 'dist/agentalk.sh', 'utf8'));
  if (!findings) console.error('shfmt is not installed');
  for (const finding of findings ?? []) console.log(finding);
  process.exitCode = findings?.length === 0 ? 0 : 1;
}
