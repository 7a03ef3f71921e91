/** `npm run demo`: it plays to its end, shows what it measured, and leaves nothing behind. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ROOT } from '../lib/root.ts';

const folder = mkdtempSync(join(tmpdir(), 'agentalk-test-'));
after(() => rmSync(folder, { recursive: true }));

/** Runs the demo; `onText` gets what it has printed so far. */
function demo(onText: (text: string, interrupt: () => void) => void = () => {}) {
  return new Promise<{ status: number | null; text: string }>((resolve, reject) => {
    const child = spawn(process.execPath, [join(ROOT, 'examples', 'review', 'run.mjs')], {
      env: { ...process.env, TMPDIR: folder },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (more: string) => {
        text += more;
        onText(text, () => child.kill('SIGINT'));
      });
    }
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, text }));
  });
}

test('both pair, the numbers are measured, both leave', async () => {
  const { status, text } = await demo();
  assert.equal(status, 0, text);
  assert.match(text, /laptop {2}PAIRED with server/);
  assert.match(text, /server {2}PAIRED with laptop, \d+ ms after join/);
  assert.match(text, /without( +\d+\.\d){5}\n.* with( +\d+\.\d){5}\n/);
  assert.match(text, /[1-9]\d* without, 0 with it\./);
  assert.match(text, /says to server alone:/);
  assert.match(text, /laptop {2}has left[^]*server {2}has left/);
  assert.doesNotMatch(text, /\x1b|[0-9a-f]{64}/, 'no colour outside a terminal, and no key');
  assert.deepEqual(readdirSync(folder), []);
});

test('Ctrl-C ends it, and nothing stays', async () => {
  let isInterrupted = false;
  const { status, text } = await demo((soFar, interrupt) => {
    if (isInterrupted || !soFar.includes('PAIRED')) return;
    isInterrupted = true;
    interrupt();
  });
  assert.equal(status, 130, text);
  assert.deepEqual(readdirSync(folder), []);
});
