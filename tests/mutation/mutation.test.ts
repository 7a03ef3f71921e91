/** Each mutation of tests/mutation/list.mjs still applies. Whether its test catches it takes `npm run test:mutation`. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from '../lib/root.ts';

test('every mutation finds its text exactly once', () => {
  const { status, stdout } = spawnSync(process.execPath, [join(ROOT, 'tests', 'mutation', 'run.mjs'), '--check']);
  assert.equal(status, 0, stdout.toString());
  assert.ok(Number(/^(\d+) of \1 mutations apply$/m.exec(stdout.toString())?.[1]) >= 25, stdout.toString());
});
