/** docs/architecture.md is right: its diagram has the imports of the code, and its list has them in dependency order. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from '../lib/root.ts';

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const files = (folder: string) =>
  readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `${folder}/${name}`);
const page = read('docs/architecture.md');

/** Files as the diagram calls them; bridge/ops/ is one box. */
const boxOf = (path: string) => (path.startsWith('bridge/ops/') ? 'ops' : path.replace(/^bridge\/|\.ts$/g, ''));

/** What a file imports from bridge/. */
function importsOf(path: string): string[] {
  const folder = path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '';
  return [...read(path).matchAll(/^(?:import |export |\} ).*from '(\.[^']+\.ts)';$/gm)]
    .map(([, to = '']) => join(folder, to))
    .filter((to) => to.startsWith('bridge/'));
}

test('the diagram has every import of bridge.ts and bridge/, and no other', () => {
  const [, diagram = ''] = /```mermaid\n(flowchart [^]*?)```/.exec(page) ?? [];
  const drawn = [...diagram.matchAll(/^ +([\w-]+)(?:\[[^\]]*\])? --> ([\w-]+)(?:\[[^\]]*\])?$/gm)].map(
    ([, from = '', to = '']) => `${from} --> ${to}`,
  );
  const edges = ['bridge.ts', ...files('bridge')].flatMap((path) => {
    const from = path === 'bridge.ts' ? 'program' : boxOf(path);
    return importsOf(path).map((to) => `${from} --> ${boxOf(to)}`);
  });
  assert.deepEqual(drawn.sort(), [...new Set(edges)].sort());
});

test('a module imports only modules below it in the list', () => {
  const [, list = ''] = /```\n(bridge\.ts [^]*?)```/.exec(page) ?? [];
  const order = list
    .split('\n')
    .filter((line) => line.startsWith('bridge'))
    .flatMap((line) => [...(line.split(/ {3,}/)[0] ?? '').matchAll(/[\w/-]+\.ts/g)].map(([name]) => name))
    .map((name) => (name.startsWith('bridge') ? name : `bridge/${name}`));
  assert.deepEqual([...order].sort(), ['bridge.ts', ...files('bridge')].sort(), 'every file is listed');
  for (const path of order) {
    for (const to of importsOf(path)) {
      if (path === 'bridge.ts' && to.startsWith('bridge/ops/')) continue;
      assert.ok(order.indexOf(to) > order.indexOf(path), `${path} imports ${to}, which is above it`);
    }
  }
});

test('the core imports nothing of the operator’s side: bridge.ts passes it what it needs', () => {
  for (const path of files('bridge')) {
    assert.doesNotMatch(read(path), /['"][./]*\bops\//, path);
  }
});

test('nothing under bridge/ imports from sdk/ but what is handed out', () => {
  for (const path of files('bridge')) {
    const found = [...read(path).matchAll(/from '\.\.\/sdk\/([^']+)'/g)].map(([, to]) => to);
    for (const to of found) assert.match(to ?? '', /^agent-pages\/\w+\.md$|^launcher\.sh$|^web\/html-pages\.ts$/, path);
  }
});
