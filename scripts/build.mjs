/**
 * Builds dist/: agentalk.sh joined from its parts, and bridge.js with everything in it. The same commit gives the same
 * bytes: nothing of the time, the machine or the folder goes in.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants as zlib } from 'node:zlib';

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
const SOURCES = [
  'bridge.ts',
  'bridge',
  'sdk',
  'docs',
  'package.json',
  'package-lock.json',
  'scripts/build.mjs',
  'scripts/build-web-pages.mjs',
  'scripts/render-markdown.mjs',
];

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

/** Comments are part of what is audited. esbuild keeps those that are marked as legal, so all are, for the time of it. */
const keepComments = {
  name: 'keep-comments',
  setup(build) {
    build.onLoad({ filter: /\.ts$/ }, ({ path }) => {
      const source = readFileSync(path, 'utf8');
      const contents = source.replace(/^( *)\/\/ /gm, '$1//! ').replace(/^( *)\/\*\*/gm, '$1/*!');
      return { contents, loader: 'ts' };
    });
  },
};
const asWritten = (code) => code.replace(/^( *)\/\/! /gm, '$1// ').replace(/^( *)\/\*!/gm, '$1/**');

/** Two modules that are made here: the documents by file name, and the pages for browsers. */
const documents = {
  name: 'documents',
  setup(build) {
    build.onResolve({ filter: /^agentalk:/ }, ({ path }) => ({ path, namespace: 'agentalk' }));
    build.onLoad({ filter: /.*/, namespace: 'agentalk' }, async ({ path }) => {
      if (path === 'agentalk:docs') return { contents: await packedDocuments(), loader: 'js' };
      const { browserPages } = await import('./build-web-pages.mjs');
      return { contents: await browserPages(ROOT), loader: 'js' };
    });
  },
};

/** Of use only beside the code that they speak of. */
const UNSERVED = ['architecture.md', 'performance.md'];

/**
 * Each document as it was written and as HTML, by file name. They are no code, and would be half of the file: so they
 * are packed. Each Node packs them into the same bytes: .ci/run builds with three.
 */
async function packedDocuments() {
  const { document } = await import('./render-markdown.mjs');
  const names = readdirSync(at('docs')).filter((name) => name.endsWith('.md') && !UNSERVED.includes(name));
  const all = names.sort().map((name) => {
    const text = readFileSync(at('docs', name), 'utf8');
    return [name, { text, ...document(text) }];
  });
  const packed = brotliCompressSync(JSON.stringify(Object.fromEntries(all)), { params: BROTLI });
  return `import { brotliDecompressSync } from 'node:zlib';
// docs/*.md and what scripts/render-markdown.mjs makes of them: base64 of JSON packed by Brotli.
const packed = '${packed.toString('base64')}';
export default JSON.parse(brotliDecompressSync(Buffer.from(packed, 'base64')).toString());
`;
}
const BROTLI = { [zlib.BROTLI_PARAM_QUALITY]: 11, [zlib.BROTLI_PARAM_MODE]: zlib.BROTLI_MODE_TEXT };

/** Replaces a file at once: somebody may be running it. */
function put(name, contents, mode = 0o644) {
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
  put('package.json', '{ "type": "commonjs" }\n');
  put('agentalk.sh', joinClient(), 0o755);
  put('agentalk', readFileSync(at('sdk', 'launcher.sh'), 'utf8'), 0o755);
  const { outputFiles } = await bundle({
    entryPoints: [at('bridge.ts')],
    bundle: true,
    write: false,
    absWorkingDir: ROOT,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    charset: 'utf8',
    legalComments: 'inline',
    loader: { '.sh': 'text', '.md': 'text' },
    define: { RELEASE: JSON.stringify(release) },
    banner: {
      js: `#!/usr/bin/env node\n// ${release}, ${license} licence. One file; needs Node 20 or later and nothing else.`,
    },
    plugins: [keepComments, documents],
    logLevel: 'warning',
  });
  put('bridge.js', asWritten(outputFiles[0].text), 0o755);
  put('.built-from', stamp);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await build();
