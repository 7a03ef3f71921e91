/** Each mutation of scripts/mutations.mjs still applies. Whether its test catches it takes `npm run mutants`. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from './kit/root.ts';

test('every mutation finds its text exactly once', () => {
  const { status, stdout } = spawnSync(process.execPath, [join(ROOT, 'scripts', 'mutants.mjs'), '--check']);
  assert.equal(status, 0, stdout.toString());
  assert.ok(Number(/^(\d+) of \1 mutations apply$/m.exec(stdout.toString())?.[1]) >= 25, stdout.toString());
});
