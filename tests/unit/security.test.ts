/** docs/security.md names, for each promise, a test that is there. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from '../lib/root.ts';

test('each promise names the test that attacks it, and that test exists', () => {
  const text = readFileSync(join(ROOT, 'docs', 'security.md'), 'utf8');
  const promises = text.slice(text.indexOf('## What is promised'), text.indexOf('## What is not'));
  const rows = promises.split('\n').filter((line) => line.startsWith('| ') && !/^\| (promise|-)/.test(line));
  assert.ok(rows.length >= 30, `${rows.length} promises`);
  for (const row of rows) {
    const [, file = '', name = ''] = /`(tests\/\S+\.test\.ts)`: “([^”]+)” *\|$/.exec(row) ?? assert.fail(row);
    // As the file writes it, from its first word on. `…` is a value that the file puts in.
    const source = readFileSync(join(ROOT, file), 'utf8');
    for (const part of name.split(' › ')) {
      const words = part.split('…').map((text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
      const pattern = new RegExp(`['"\`]${words.join('\\$\\{[^}]+\\}')}`);
      assert.match(source, pattern, `${file} has no test “${part}”`);
    }
  }
});
