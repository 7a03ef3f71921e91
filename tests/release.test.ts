/** What is released: one file that runs alone, the same bytes from the same commit, small enough to be audited. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, readdirSync, symlinkSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { startBridge } from './kit/bridge.ts';
import { ROOT } from './kit/root.ts';
import { makeFolder } from './kit/shell.ts';

const dist = (name: string) => readFileSync(join(ROOT, 'dist', name), 'utf8');

test('the same commit builds the same bytes, wherever it lies', () => {
  const files = [makeFolder(), makeFolder()].map((folder) => {
    const clone = join(folder, 'clone');
    execFileSync('git', ['clone', '-q', ROOT, clone]);
    symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
    execFileSync(process.execPath, [join(clone, 'scripts', 'build.mjs')], { cwd: folder });
    return ['bridge.js', 'agentalk.sh'].map((name) => readFileSync(join(clone, 'dist', name)));
  });
  assert.deepEqual(files[0], files[1]);
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

test('bridge.js is small: below 300 KB; the documents, below 75', () => {
  const bytes = Buffer.byteLength(dist('bridge.js'));
  assert.ok(bytes < 300_000, `bridge.js has ${bytes} bytes`);
  const documents = readdirSync(join(ROOT, 'docs')).filter((name) => name.endsWith('.md'));
  const words = documents.reduce((sum, name) => sum + readFileSync(join(ROOT, 'docs', name)).length, 0);
  assert.ok(words < 75_000, `the documents have ${words} bytes`);
});

test('what has to be trusted is small', () => {
  const parts = ['bridge.ts', ...readdirSync(join(ROOT, 'bridge')).map((name) => join('bridge', name))];
  const lines = parts.map((path) => readFileSync(join(ROOT, path), 'utf8').trimEnd().split('\n').length);
  const total = lines.reduce((sum, count) => sum + count, 0);
  assert.ok(total <= 1200, `bridge.ts and bridge/ have ${total} lines`);
  const { length } = dist('agentalk.sh');
  assert.ok(length <= 61_000, `the client has ${length} characters`); // docs/architecture.md says why so many
});
