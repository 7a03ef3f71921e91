/** The service files of deploy/systemd, as systemd itself sees them: right, and hardened. Needs no running systemd. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { requirePrograms } from '../lib/require-programs.ts';
import { ROOT } from '../lib/root.ts';
import { makeFolder } from '../lib/shell.ts';

/** systemd's exposure: 0 is a locked room, 10 is root's shell. */
const MOST_EXPOSED = 2;
const UNITS = ['agentalk.service', 'agentalk@.service'] as const;
const read = (unit: string) =>
  readFileSync(unit === 'agentalk.service' ? join(ROOT, unit) : join(ROOT, 'deploy', 'systemd', unit), 'utf8');
const skip = requirePrograms('systemd-analyze');

/** A unit in a folder, under an instance's name if it is a template; Node stands where it does here. */
function place(unit: string, change = (text: string) => text): string {
  const file = join(makeFolder(), unit.replace('@', '@8787'));
  const text = read(unit);
  assert.ok(text.includes('ExecStart=/usr/bin/node '));
  writeFileSync(file, change(text.replace('ExecStart=/usr/bin/node ', `ExecStart=${process.execPath} `)));
  return file;
}

function analyze(...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

const directives = (unit: string) =>
  read(unit)
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));

for (const unit of UNITS) {
  test(`${unit}: systemd finds nothing wrong`, { skip }, () => {
    assert.deepEqual(analyze('verify', place(unit)), { status: 0, output: '' });
    // It does look: a directive with a typing error is found.
    assert.match(
      analyze(
        'verify',
        place(unit, (text) => text.replace('NoNewPriv', 'NoNewPirv')),
      ).output,
      /NoNewPirv/,
    );
  });

  test(`${unit}: an exposure of at most ${MOST_EXPOSED}`, { skip }, (t) => {
    const { status, output } = analyze('security', '--offline=yes', `--threshold=${MOST_EXPOSED * 10}`, place(unit));
    t.diagnostic(output.trim().split('\n').at(-1) ?? '');
    assert.equal(status, 0, output);
  });

  test(`${unit}: nearly every directive has its reason`, () => {
    const lines = read(unit).split('\n');
    const comments = lines.filter((line) => /^# [^-]/.test(line)).length;
    assert.ok(comments >= directives(unit).length / 2, `${comments} lines of reasons`);
  });
}

test('agentalk.socket: systemd finds nothing wrong, and its service is agentalk.service', { skip }, () => {
  const socket = join(place('agentalk.service'), '..', 'agentalk.socket');
  writeFileSync(socket, read('agentalk.socket'));
  assert.deepEqual(analyze('verify', socket), { status: 0, output: '' });
  writeFileSync(socket, read('agentalk.socket').replace('Backlog', 'Bakclog'));
  assert.match(analyze('verify', socket).output, /Bakclog/);
});

test('the template differs from the single service in its instance alone', () => {
  const [single, template] = UNITS.map(directives) as [string[], string[]];
  const own = template.filter((line) => !single.includes(line));
  assert.deepEqual(
    own.map((line) => line.split('=')[0]),
    ['Description', 'EnvironmentFile', 'ExecStart'],
  );
  assert.ok(own.every((line) => line.includes('%i')));
  assert.equal(template.length, single.length + 1);
});
