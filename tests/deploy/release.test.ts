/** What is released: one file that runs alone, the same bytes from the same commit, small enough to be audited. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { ROOT } from '../lib/root.ts';
import { makeFolder } from '../lib/shell.ts';

const dist = (name: string) => readFileSync(join(ROOT, 'dist', name), 'utf8');

test('the same commit builds the same bytes, wherever it lies', () => {
  const files = [makeFolder(), makeFolder()].map((folder) => {
    const clone = join(folder, 'clone');
    execFileSync('git', ['clone', '-q', ROOT, clone]);
    symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
    execFileSync(process.execPath, [join(clone, 'scripts', 'build.mjs')], { cwd: folder, stdio: 'pipe' });
    return ['bridge.js', 'agentalk.sh'].map((name) => readFileSync(join(clone, 'dist', name)));
  });
  assert.deepEqual(files[0], files[1]);
});

test('a clone by Git for Windows builds the same client, and a source with CR LF is refused', () => {
  const clone = join(makeFolder(), 'clone');
  execFileSync('git', ['-c', 'core.autocrlf=true', 'clone', '-q', '-c', 'core.autocrlf=true', ROOT, clone]);
  symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
  const build = () => spawnSync(process.execPath, [join(clone, 'scripts', 'build.mjs')], { encoding: 'utf8' });
  assert.equal(build().status, 0);
  const client = () => readFileSync(join(clone, 'dist', 'agentalk.sh'), 'utf8');
  const before = client();
  assert.ok(!before.includes('\r'));
  const source = join(clone, 'sdk', 'shell', 'frame.sh');
  writeFileSync(source, readFileSync(source, 'utf8').replaceAll('\n', '\r\n'));
  const refused = build();
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /Error: sdk\/shell\/frame\.sh has CR LF line ends: clone again/);
  assert.equal(client(), before);
});

test('bridge.js runs alone in an empty folder, and requires nothing but node', async () => {
  const folder = makeFolder();
  copyFileSync(join(ROOT, 'dist', 'bridge.js'), join(folder, 'bridge.js'));
  const bridge = await startBridge([], { file: join(folder, 'bridge.js') });
  const answer = await fetch(`${bridge.url}/agentalk.sh`);
  assert.equal(await answer.text(), dist('agentalk.sh'));
  await bridge.stop();
  const required = [...dist('bridge.js').matchAll(/\brequire\("([^"]+)"\)/g)].map(([, name = '']) => name);
  assert.ok(required.length > 0);
  for (const name of required) assert.ok(builtinModules.includes(name.replace(/^node:/, '')), name);
});

test('docs/architecture.md says what takes how much of bridge.js', () => {
  const sizes = JSON.parse(dist('.sizes.json')) as Record<string, number>;
  const page = readFileSync(join(ROOT, 'docs', 'architecture.md'), 'utf8');
  const table = /^\| part of bridge\.js[^]*?\n\n/m.exec(page)?.[0] ?? '';
  const rows = [...table.matchAll(/^\| (\S.*?) +\| +(\d+) \|$/gm)];
  assert.deepEqual(rows.map(([, part]) => part).sort(), Object.keys(sizes).sort(), 'the parts');
  for (const [, part = '', kilobytes] of rows) {
    const actual = (sizes[part] ?? 0) / 1000;
    const words = `${part}: ${actual.toFixed(0)} KB, and ${kilobytes} in the table: npm run docs:sizes`;
    assert.ok(Math.abs(Number(kilobytes) - actual) <= 1 + actual * 0.03, words);
  }
});

test('bridge.js is readable: no packed or minified text is in it', () => {
  const lines = dist('bridge.js').split('\n');
  const long = lines.filter((line) => line.length > 1000);
  assert.deepEqual(
    long.map((line) => line.slice(0, 100)),
    [],
  );
  // docs/protocol.md has an example in bytes.
  const packed = lines.filter((line) => /[A-Za-z0-9+/]{200}/.test(line) && !line.startsWith('ciphertext '));
  assert.deepEqual(packed, []);
  const comments = lines.filter((line) => /^\s*(?:\/\/|\/?\*)/.test(line));
  assert.ok(comments.length > 1000, `${comments.length} lines of comments`);
});

// The goal is 60,000. An agent reads part 1, which a lint holds to 12,000; what follows must not grow.
test('the client has at most 138,000 characters', () => {
  const { length } = dist('agentalk.sh');
  assert.ok(length <= 138_000, `the client has ${length} characters`);
});

test('npm run release: files that check out, a bill of materials, and a package that runs', () => {
  const folder = makeFolder();
  const clone = join(folder, 'clone');
  execFileSync('git', ['clone', '-q', ROOT, clone]);
  symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
  const told = execFileSync(process.execPath, ['scripts/release.mjs'], { cwd: clone, encoding: 'utf8' });
  const commit = execFileSync('git', ['rev-parse', '--short=12', 'HEAD'], { cwd: clone, encoding: 'utf8' }).trim();
  assert.match(told, new RegExp(`^agentalk-bridge \\S+ \\(${commit}\\)\n`));
  assert.match(told, /^ +\d+ {2}in all$/m);
  const release = join(clone, 'release');
  const names = readdirSync(release).sort();
  const tarball = names.find((name) => name.endsWith('.tgz')) ?? '';
  assert.deepEqual(names, [
    'RELEASE_NOTES.md',
    'SHA256SUMS',
    'agentalk',
    tarball,
    'agentalk.sh',
    'bridge.cdx.json',
    'bridge.js',
  ]);
  for (const line of readFileSync(join(release, 'SHA256SUMS'), 'utf8').trim().split('\n')) {
    const [sum, name = ''] = line.split('  ');
    const bytes = readFileSync(join(release, name));
    assert.equal(createHash('sha256').update(bytes).digest('hex'), sum, name);
  }
  const notes = readFileSync(join(release, 'RELEASE_NOTES.md'), 'utf8');
  assert.ok(notes.includes(readFileSync(join(release, 'SHA256SUMS'), 'utf8')), 'the notes have the sums');
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  assert.match(notes, new RegExp(`^# agentalk ${version}, \\d{4}-\\d{2}-\\d{2}\n\n[^]*### Added\n`));
  assert.ok(notes.includes(`(${commit}) builds these files`));
  const bill = JSON.parse(readFileSync(join(release, 'bridge.cdx.json'), 'utf8')) as {
    bomFormat: string;
    components: { name: string; scope: string; purl: string; hashes: unknown[] }[];
    dependencies: { dependsOn: unknown[] }[];
  };
  assert.equal(bill.bomFormat, 'CycloneDX');
  assert.deepEqual(bill.dependencies[0]?.dependsOn, []);
  assert.ok(bill.components.some(({ name }) => name === 'esbuild'));
  for (const { name, scope, purl, hashes } of bill.components) {
    assert.equal(scope, 'excluded', name);
    assert.match(purl, /^pkg:npm\/\S+@\d/);
    assert.ok(hashes.length > 0, name);
  }
  const inside = execFileSync('tar', ['-tzf', join(release, tarball)], { encoding: 'utf8' })
    .trim()
    .split('\n');
  const allowed =
    /^package\/(package\.json|README\.md|LICENSE|SECURITY\.md|dist\/(bridge\.js|agentalk(\.sh)?|package\.json)|deploy\/[\w./@-]+)$/;
  for (const path of inside) assert.match(path, allowed);
  for (const path of ['dist/bridge.js', 'dist/agentalk.sh', 'LICENSE']) assert.ok(inside.includes(`package/${path}`));
  const npx = [
    'exec',
    '--offline',
    '--yes',
    `--package=${join(release, tarball)}`,
    '--',
    'agentalk-bridge',
    '--version',
  ];
  const home = makeFolder();
  const env = { ...process.env, HOME: home, npm_config_cache: join(home, 'cache') };
  assert.match(
    execFileSync('npm', npx, { cwd: home, env, encoding: 'utf8', stdio: 'pipe' }),
    new RegExp(`\\(${commit}\\)\n$`),
  );
});

test('a bridge hands out itself, with its sums', async () => {
  const bridge = await startBridge();
  const sums = await (await fetch(`${bridge.url}/SHA256SUMS`)).text();
  for (const line of sums.trim().split('\n')) {
    const [sum, name = ''] = line.split('  ');
    const bytes = Buffer.from(await (await fetch(`${bridge.url}/${name}`)).arrayBuffer());
    assert.equal(createHash('sha256').update(bytes).digest('hex'), sum, name);
    assert.ok(bytes.equals(readFileSync(join(ROOT, 'dist', name))));
  }
  await bridge.stop();
});

/** The commands in the block of a page that has `word` in it, with another bridge than the page's. */
function commands(page: string, word: string, bridge: TestBridge): string {
  const blocks = [...readFileSync(join(ROOT, page), 'utf8').matchAll(/^```sh\n([^`]*)^```$/gm)].map(
    ([, code = '']) => code,
  );
  const found = blocks.filter((block) => block.includes(word));
  assert.equal(found.length, 1, `${page}: ${word}`);
  return found[0]!.replace(/https?:\/\/(bridge\.example|127\.0\.0\.1:8787)/g, bridge.url);
}

test('the README’s way to verify a bridge does, and notices another client', async (t) => {
  const bridge = await startBridge();
  t.after(() => bridge.stop());
  const folder = makeFolder();
  const check = commands('README.md', 'SHA256SUMS', bridge).replace('npm run build\n', '');
  mkdirSync(join(folder, 'dist'));
  for (const name of ['bridge.js', 'agentalk.sh', 'agentalk'])
    copyFileSync(join(ROOT, 'dist', name), join(folder, 'dist', name));
  assert.match(execFileSync('bash', ['-c', check], { cwd: folder, encoding: 'utf8' }), /^agentalk\.sh: OK$/m);
  appendFileSync(join(folder, 'dist', 'agentalk.sh'), '#');
  assert.throws(
    () => execFileSync('bash', ['-c', check], { cwd: folder, stdio: 'pipe' }),
    /agentalk\.sh: FAILED|did NOT match/,
  );
});

test('from a running bridge comes one that runs', async (t) => {
  const bridge = await startBridge();
  t.after(() => bridge.stop());
  const folder = makeFolder();
  const [get = '', check = '', start] = commands('docs/self-hosting.md', 'SHA256SUMS', bridge).trimEnd().split('\n');
  execFileSync('bash', ['-c', get], { cwd: folder, stdio: 'pipe' });
  assert.match(execFileSync('bash', ['-c', check], { cwd: folder, encoding: 'utf8' }), /^bridge\.js: OK$/m);
  assert.equal(start, 'node bridge.js');
  const next = await startBridge([], { file: join(folder, 'bridge.js') });
  t.after(() => next.stop());
  assert.equal((await fetch(`${next.url}/ready`)).status, 200);
});
