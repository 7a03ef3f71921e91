/**
 * Builds dist/: agentalk.sh joined from its parts, and bridge.js with everything in it, readable and with its comments.
 * The same commit gives the same bytes: they depend on no time, machine or folder.
 *
 *     npm run build    also prints what takes how much of bridge.js
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { publishedDocuments } from './documents.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const at = (...path) => join(ROOT, ...path);
const STAMP = at('dist', '.built-from');

/** The parts of agentalk.sh, in the order in which a reader should meet them: the effects, then the rules. */
const SHELL_PARTS = [
  'effects',
  'crypto',
  'frame',
  'state',
  'peers',
  'send',
  'receive',
  'files',
  'show',
  'talk',
  'session',
  'commands',
  'main',
];

/** What the result depends on. */
const SOURCES = ['bridge.ts', 'bridge', 'sdk', 'docs', 'package.json', 'package-lock.json', 'scripts/build.mjs'];

function filesOf(path) {
  if (!existsSync(path)) return [];
  if (path.endsWith('.json') || /\.\w+$/.test(path)) return [path];
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

/** The commit, marked where the sources differ from it; `unreleased` outside git. */
function commit() {
  const git = (...args) =>
    execFileSync('git', ['-C', ROOT, ...args], { stdio: ['ignore', 'pipe', 'ignore'] })
      .toString()
      .trim();
  try {
    if (git('rev-parse', '--show-toplevel') !== execFileSync('pwd', ['-P'], { cwd: ROOT }).toString().trim())
      return 'unreleased';
    const isChanged = git('status', '--porcelain', '--', ...SOURCES) !== '';
    return git('rev-parse', '--short=12', 'HEAD') + (isChanged ? ' with changes' : '');
  } catch {
    return 'unreleased';
  }
}

function fingerprint() {
  const hash = createHash('sha256').update(commit());
  for (const path of SOURCES.flatMap((source) => filesOf(at(source)))) {
    hash.update(`\0${relative(ROOT, path)}\0`).update(readFileSync(path));
  }
  return hash.digest('hex');
}

export function isBuilt() {
  const outputs = ['bridge.js', 'agentalk.sh', 'agentalk', 'package.json'].map((name) => at('dist', name));
  return [STAMP, ...outputs].every(existsSync) && readFileSync(STAMP, 'utf8') === fingerprint();
}

function joinClient() {
  const there = readdirSync(at('sdk', 'shell'))
    .filter((name) => name.endsWith('.sh'))
    .map((name) => name.slice(0, -3));
  const stray = there.filter((name) => !SHELL_PARTS.includes(name));
  if (stray.length > 0) throw new Error(`sdk/shell/${stray[0]}.sh has no place in SHELL_PARTS of scripts/build.mjs`);
  if (!there.includes('main')) throw new Error('sdk/shell/main.sh is missing');
  const parts = SHELL_PARTS.filter((name) => there.includes(name));
  return parts.map((name) => readFileSync(at('sdk', 'shell', `${name}.sh`), 'utf8')).join('\n');
}

/** Keeps comments, which are part of what is audited: esbuild keeps those that are marked as legal, so all are. */
const keepComments = {
  name: 'keep-comments',
  setup(build) {
    build.onLoad({ filter: /\.ts$/, namespace: 'file' }, ({ path }) => {
      const source = readFileSync(path, 'utf8');
      const contents = source.replace(/^( *)\/\/ /gm, '$1//! ').replace(/^( *)\/\*\*/gm, '$1/*!');
      return { contents, loader: 'ts' };
    });
  },
};
const restoreComments = (code) => code.replace(/^( *)\/\/! /gm, '$1// ').replace(/^( *)\/\*!/gm, '$1/**');

/** A module that exports a text, as a template literal: its lines are lines of the bundle, too. */
function textModule(text) {
  const literal = text.replace(/[\\`]|\$(?=\{)/g, '\\$&');
  return { contents: `export default \`${literal}\`;\n`, loader: 'js' };
}

/** Loads texts, scripts for browsers (`MODULE.ts?browser`), and the documents that bridges serve (`agentalk:docs`). */
const texts = {
  name: 'texts',
  setup(build) {
    build.onLoad({ filter: /\.(?:sh|md|css|html)$/ }, ({ path }) => textModule(readFileSync(path, 'utf8')));
    build.onResolve({ filter: /\?browser$/ }, ({ path, resolveDir }) => ({
      path: relative(ROOT, join(resolveDir, path.replace(/\?browser$/, ''))),
      namespace: 'browser',
    }));
    build.onLoad({ filter: /.*/, namespace: 'browser' }, async ({ path }) => textModule(await browserScript(path)));
    build.onResolve({ filter: /^agentalk:docs$/ }, () => ({ path: 'docs', namespace: 'agentalk' }));
    build.onLoad({ filter: /.*/, namespace: 'agentalk' }, () => {
      const names = publishedDocuments(ROOT);
      const imports = names.map((name, i) => `import text${i} from './docs/${name}';`);
      const entries = names.map((name, i) => `  '${name}': text${i},`);
      const contents = [...imports, 'export default {', ...entries, '};', ''].join('\n');
      return { contents, loader: 'js', resolveDir: ROOT };
    });
  },
};

/** A script for an inline element of a page: readable, and with its comments. */
async function browserScript(path) {
  const { build: bundle } = await import('esbuild');
  const { outputFiles } = await bundle({
    entryPoints: [at(path)],
    bundle: true,
    write: false,
    absWorkingDir: ROOT,
    target: 'es2022',
    define: { 'globalThis.crypto': 'crypto' },
    format: 'esm',
    charset: 'utf8',
    legalComments: 'inline',
    plugins: [keepComments],
    logLevel: 'warning',
  });
  const code = restoreComments(outputFiles[0].text);
  if (/<\/script|<!--/i.test(code)) throw new Error(`${path}: this script would end its element too early`);
  return code;
}

/** Replaces a file in one step, because it may be running. */
function replaceFile(name, contents, mode = 0o644) {
  const path = at('dist', name);
  const next = `${path}.${process.pid}`;
  writeFileSync(next, contents, { mode });
  renameSync(next, path);
}

/** A clone with core.autocrlf has sources with CR LF, and no bash can read a client that is built from these. */
function refuseCarriageReturns() {
  const names = SOURCES.flatMap((source) => filesOf(at(source))).filter((name) => !/\.(png|svg)$/.test(name));
  const name = names.find((each) => existsSync(each) && readFileSync(each).includes('\r\n'));
  if (name === undefined) return;
  throw new Error(`${relative(ROOT, name)} has CR LF line ends: clone again with git -c core.autocrlf=false clone`);
}

export async function build() {
  refuseCarriageReturns();
  const { build: bundle } = await import('esbuild');
  const { name, version, license } = JSON.parse(readFileSync(at('package.json'), 'utf8'));
  const stamp = fingerprint();
  const release = `${name} ${version} (${commit()})`;
  mkdirSync(at('dist'), { recursive: true });
  // bridge.js is CommonJS, so that it runs alone wherever it is copied; this says so next to our own package.json.
  replaceFile('package.json', '{ "type": "commonjs" }\n');
  replaceFile('agentalk.sh', joinClient(), 0o755);
  replaceFile('agentalk', readFileSync(at('sdk', 'launcher.sh'), 'utf8'), 0o755);
  const { outputFiles, metafile } = await bundle({
    entryPoints: [at('bridge.ts')],
    bundle: true,
    write: false,
    absWorkingDir: ROOT,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    charset: 'utf8',
    legalComments: 'inline',
    define: { RELEASE: JSON.stringify(release) },
    banner: {
      js: `#!/usr/bin/env node\n// ${release}, ${license} licence. One file; needs Node 20 or later and nothing else.`,
    },
    plugins: [keepComments, texts],
    metafile: true,
    logLevel: 'warning',
  });
  replaceFile('bridge.js', restoreComments(outputFiles[0].text), 0o755);
  const sizes = sizesOf(outputFiles[0].contents.length, metafile);
  replaceFile('.sizes.json', `${JSON.stringify(Object.fromEntries(sizes), null, 2)}\n`);
  replaceFile('.built-from', stamp);
  return sizes;
}

/** What a part of bridge.js is called, by the start of its sources' paths. The first that fits counts. */
const PARTS = [
  ['documents', 'docs/'],
  ['script of the room', 'browser:sdk/room/'],
  ['client, agentalk.sh', 'dist/agentalk.sh'],
  ['bridge, the core', 'bridge/(?!ops/)'],
  ['bridge, the operator’s side', 'bridge/ops/|bridge\\.ts'],
  ['pages for browsers, without the room’s script', 'sdk/room/|sdk/web/|browser:sdk/web/'],
  ['pages for agents, and the launcher', 'sdk/agent-pages/|sdk/launcher\\.sh'],
];

/** @returns {[part: string, bytes: number][]} the largest first, and the total last */
function sizesOf(total, { outputs }) {
  const sizes = new Map();
  const [{ inputs }] = Object.values(outputs);
  for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
    const [name] = PARTS.find(([, start]) => new RegExp(`^(?:${start})`).test(path)) ?? ['glue of the bundler'];
    sizes.set(name, (sizes.get(name) ?? 0) + bytesInOutput);
  }
  const known = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
  const glue = 'glue of the bundler';
  sizes.set(glue, (sizes.get(glue) ?? 0) + total - known);
  return [...[...sizes].sort(([, a], [, b]) => b - a), ['in all', total]];
}

export function formatSizes(sizes) {
  return sizes.map(([part, bytes]) => `${String(bytes).padStart(8)}  ${part}\n`).join('');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(`What takes how many bytes of bridge.js:\n${formatSizes(await build())}`);
}
