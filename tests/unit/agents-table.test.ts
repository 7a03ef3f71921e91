/** docs/agents.md says of each program what tests/agents measures. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from '../lib/root.ts';

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const PROGRAMS = {
  codex: 'Codex',
  claude: 'Claude Code',
  gemini: 'Gemini CLI',
  opencode: 'opencode',
  copilot: 'Copilot CLI',
  pi: 'pi',
};

test('the table of programs has the cells that tests/agents expects, and the pinned versions', () => {
  const page = read('docs/agents.md');
  const [, section = ''] = /\n## What is known of each program\n([^]*?)\n## /.exec(page) ?? [];
  const rows = section
    .split('\n')
    .filter((line) => line.startsWith('|') && !/^\| *-/.test(line))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.replaceAll('`', '').trim()),
    );
  const expected = JSON.parse(read('tests/agents/expected.json')) as Record<string, Record<string, string>>;
  const cells = Object.entries(expected).map(([row, of]) => [
    row,
    ...Object.keys(PROGRAMS).map((name) => of[name] ?? ''),
  ]);
  assert.deepEqual(rows, [['', ...Object.values(PROGRAMS)], ...cells]);
  const versions = JSON.parse(read('tests/agents/versions.json')) as Record<string, { version: string }>;
  for (const [name, title] of Object.entries(PROGRAMS)) {
    assert.ok(section.replace(/\s+/g, ' ').includes(`${title} ${versions[name]?.version}`), `${title}'s version`);
  }
});
