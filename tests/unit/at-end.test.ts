/** A test that fails before it stops its bridge does not keep its file running. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { build } from 'esbuild';
import { ROOT } from '../lib/root.ts';

const FAILING = `
  import { test } from 'node:test';
  import { startBridge } from './bridge.ts';
  test('fails before it stops its bridge', async () => {
    const bridge = await startBridge();
    console.log('pid ' + bridge.pid);
    throw new Error('a failed assertion');
  });`;

test('a bridge that a failed test has left ends with its file', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'agentalk-at-end-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const outfile = join(folder, 'failing.test.mjs');
  await build({
    stdin: { contents: FAILING, resolveDir: join(ROOT, 'tests', 'lib'), loader: 'ts' },
    define: { 'import.meta.url': JSON.stringify(import.meta.url) },
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
  });
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('NODE_TEST')));
  const child = spawn(process.execPath, ['--test', '--test-reporter=tap', outfile], { env, timeout: 30_000 });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const [status] = (await once(child, 'close')) as [number | null];
  assert.equal(status, 1, output); // null: it ran into the time limit
  const [, pid] = /pid (\d+)/.exec(output) ?? assert.fail(output);
  assert.throws(() => process.kill(Number(pid), 0), /ESRCH/, 'the bridge has ended');
});
