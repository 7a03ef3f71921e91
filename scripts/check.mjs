/**
 * What can be said of the sources without running them: types, shell, formatting. Each check says what it found; the
 * status is 1 when one failed. A tool that is not installed is skipped loudly, and under AGENTALK_TEST_NO_SKIPS=1 failed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lintFiles } from './lint-bash32.mjs';
import { lintEffects } from './lint-effects.mjs';
import { formatFinding, lintWords } from './lint-words.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
process.chdir(ROOT);
const isStrict = !['', '0', undefined].includes(process.env.AGENTALK_TEST_NO_SKIPS);

const CLIENT = 'dist/agentalk.sh';
const parts = filesIn('sdk/shell').filter((path) => path.endsWith('.sh'));
/** tests/cases is as it was given to us. */
const others = filesIn('.').filter(
  (path) => !parts.includes(path) && !path.startsWith(join('tests', 'cases')) && isShell(path),
);
const posix = others.filter((path) => firstLine(path) === '#!/bin/sh');
const scripts = others.filter((path) => !posix.includes(path));

/** Of the parts alone shellcheck can't tell: a variable set in one is used in another. The joined client tells. */
const SHARED = ['SC2034', 'SC2153', 'SC2119', 'SC2120'];
const SHELLCHECK_EXCEPTIONS = [
  'SC2015', // `A && B || C`: C is meant for when either fails
  'SC2206', // words into an array: file patterns are off
  'SC2207', // lines into an array: mapfile is of bash 4, and file patterns are off
  'SC2219', // let: (( )) takes no name from a variable
  'SC2154', // the columns of peers and the headers of frames are assigned by name, by `read` and `printf -v`
];

function filesIn(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .filter(({ name }) => !['node_modules', 'dist', '.git'].includes(name))
    .flatMap((entry) => {
      const path = folder === '.' ? entry.name : join(folder, entry.name);
      return entry.isDirectory() ? filesIn(path) : entry.isFile() ? [path] : [];
    })
    .sort();
}

function firstLine(path) {
  return readFileSync(path, 'latin1').split('\n', 1)[0];
}

function isShell(path) {
  return path.endsWith('.sh') || /^#!.*\b(?:ba|da|z|k)?sh\b/.test(firstLine(path));
}

/** Runs a command. Null: all is well; a string: what is wrong; undefined: not installed. */
function run(command, ...args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { maxBuffer: 64 << 20 });
  if (error?.code === 'ENOENT') return undefined;
  if (error) throw error;
  return status === 0 ? null : `${stdout}${stderr}`.trimEnd() || `${command} ended with status ${status}`;
}
const tool = (name, ...args) => run(join('node_modules', '.bin', name), ...args);
const shellcheck = (...args) => run('shellcheck', '-s', 'bash', '-e', SHELLCHECK_EXCEPTIONS.join(), ...args);

const checks = {
  types: () => tool('tsc', '-p', '.'),
  'shellcheck, the parts of the client': () => shellcheck('-e', SHARED.join(), ...parts),
  'shellcheck, the client': () =>
    existsSync(CLIENT) ? shellcheck('-i', SHARED.join(), CLIENT) : `${CLIENT} is missing: npm run build`,
  'shellcheck, other scripts': () => (scripts.length === 0 ? null : shellcheck(...scripts)),
  'shellcheck, POSIX sh': () => (posix.length === 0 ? null : run('shellcheck', '-s', 'sh', ...posix)),
  'shfmt, POSIX sh': () => (posix.length === 0 ? null : run('shfmt', '-d', '-ln', 'posix', '-i', '0', '-ci', ...posix)),
  shfmt: () => run('shfmt', '-d', '-ln', 'bash', '-i', '0', '-ci', ...parts, ...scripts),
  'bash 3.2': () => lintFiles(parts).join('\n') || null,
  'effects of the client are in its part 1': () => {
    const findings = lintEffects(readFileSync(CLIENT, 'utf8'));
    return findings && (findings.join('\n') || null);
  },
  words: () => lintWords(ROOT).map(formatFinding).join('\n') || null,
  formatting: () => tool('prettier', '--check', '--log-level', 'warn', '.'),
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  const found = check();
  if (found === null) console.log(`ok       ${name}`);
  else if (found === undefined && !isStrict) console.log(`SKIPPED  ${name}: not installed here`);
  else {
    failed++;
    console.log(`FAILED   ${name}\n${(found ?? 'not installed here').replace(/^/gm, '         ')}`);
  }
}
console.log(failed === 0 ? 'all checks passed' : `${failed} of ${Object.keys(checks).length} checks failed`);
process.exitCode = failed === 0 ? 0 : 1;
