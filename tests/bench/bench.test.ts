/** `npm run bench`: that it runs, and that its report says what was measured. How fast anything is, is no test. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { requirePrograms } from '../lib/require-programs.ts';
import { ROOT } from '../lib/root.ts';

const folder = mkdtempSync(join(tmpdir(), 'agentalk-test-'));
after(() => rmSync(folder, { recursive: true }));

function bench(...args: string[]) {
  return benchIn(process.env, ...args);
}

function benchIn(env: NodeJS.ProcessEnv, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(ROOT, 'bench', 'run.mjs'), ...args], {
    env,
  });
  return { status, stdout: stdout.toString(), stderr: stderr.toString() };
}

const RUN = {
  machine: '2 x Some CPU, Linux 6.1; Node 20.0.0',
  date: '2026-01-01',
  loads: [0.25, 1.5],
  isQuick: true,
  results: {
    bridge: [
      {
        name: 'send',
        workload: 'all of <it> & more',
        unit: '/s',
        ours: { samples: [9000, 10_000, 11_000], cpuMs: 0.05 },
        baseline: { name: 'bare node:http', samples: [20_000, 20_000], cpuMs: 0.025 },
        target: { ratio: 0.7 },
      },
      { name: 'start', workload: 'from the start', unit: 'ms', ours: { samples: [90] } },
      {
        name: 'wandering',
        workload: 'on a machine whose speed changes from round to round',
        unit: 'ms',
        ours: { samples: [10, 20, 60] },
        baseline: { name: 'curl', samples: [5, 4, 30] },
      },
    ],
    peers: [{ name: 'curls', workload: '', unit: 'ms', ours: { samples: [] }, missing: 'no curl here' }],
  },
};

test('it names its groups to whoever asks for another one', () => {
  const { status, stderr } = bench('speed');
  assert.equal(status, 2);
  assert.match(
    stderr,
    /^there is no group speed; there are: client, reading, bridge, wrk, latency, memory, polls, channels, peers$/m,
  );
});

test('a run as a table, and as a report with its plots: medians, ratios, targets, what is missing', () => {
  const path = join(folder, 'run.json');
  writeFileSync(path, JSON.stringify(RUN));
  const { status, stdout, stderr } = bench('--from', path, '--into', folder);
  assert.equal(status, 0, stderr);
  assert.match(
    stdout,
    /^send +10.0 k\/s \(9500 \/s…10.5\) +3 +bare node:http 20.0 k\/s .* 0.50x +50.0 µs, 2.0x +at least 0.70x +MISSED$/m,
  );
  assert.match(stdout, /^start +90.0 ms +1$/m);
  assert.match(stdout, /^wandering +20.0 ms .* curl 5.0 ms .* 2.0x$/m);
  assert.match(stdout, /^ +not measured: no curl here$/m);

  const report = readFileSync(join(folder, 'results.md'), 'utf8');
  assert.match(
    report,
    /shortened run[^]*2 x Some CPU[^]*load\s+averages\s+from\s+before\s+it\s+to\s+its\s+end:\s+0.25,\s+1.50/,
  );
  assert.match(report, /^\| send +\| 10.0 k\/s .*: \*\*missed\*\* \|$/m);
  assert.match(report, /^- \*\*curls\*\*: not measured: no curl here$/m);
  const plots = [...report.matchAll(/!\[[^\]]*\]\((images\/[^)]+\.svg)\)/g)].map(([, image = '']) =>
    join(folder, image),
  );
  assert.equal(plots.length, 1, 'nothing is drawn of what was not measured');
  const svg = readFileSync(plots[0] ?? '', 'utf8');
  assert.match(svg, /prefers-color-scheme: dark/);
  assert.match(
    svg,
    /<desc>send 10.0 k\/s, bare node:http 20.0 k\/s; start 90.0 ms; wandering 20.0 ms, curl 5.0 ms<\/desc>/,
  );
});

test('one group is measured: each row has its figure or says why not, and nothing names this machine', () => {
  const path = join(folder, 'memory.json');
  const { status, stdout, stderr } = bench('memory', '--quick', '--json', path);
  assert.equal(status, 0, stderr);
  const run = JSON.parse(readFileSync(path, 'utf8')) as typeof RUN & {
    results: { memory: (typeof RUN.results.peers)[0][] };
  };
  assert.deepEqual(Object.keys(run.results), ['memory']);
  assert.ok(run.results.memory.length >= 4, stdout);
  for (const { name, ours, missing } of run.results.memory) assert.ok(ours.samples.length > 0 || missing, name);
  assert.ok(!stdout.includes(hostname()) || hostname().length < 4, stdout);
});

test('what can not be measured is a row that says so, and the run goes on to its end', () => {
  const inBash = 'ulimit -n 100; exec "$@" memory --quick';
  const { status, stdout, stderr } = spawnSync(
    'bash',
    ['-c', inBash, 'bench', process.execPath, join(ROOT, 'bench', 'run.mjs')],
    { timeout: 60_000, encoding: 'utf8' },
  );
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^ +not measured: the crowd has gone: /m);
});

test('wrk sends and polls, each a row with the bare handler as its baseline', { skip: requirePrograms('wrk') }, () => {
  const path = join(folder, 'wrk.json');
  const { status, stdout, stderr } = bench('wrk', '--quick', '--json', path);
  assert.equal(status, 0, stderr);
  const { results } = JSON.parse(readFileSync(path, 'utf8')) as { results: { wrk: typeof RUN.results.bridge } };
  assert.deepEqual(
    results.wrk.map(({ name, ours, baseline }) => [name, ours.samples.length, baseline?.samples.length]),
    [
      ['send', 1, 1],
      ['poll', 1, 1],
    ],
    stdout,
  );
});

test('where wrk is not installed a row says so', () => {
  const { status, stdout, stderr } = benchIn({ ...process.env, PATH: folder }, 'wrk', '--quick');
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^send, poll\n +not measured: wrk is not installed$/m);
});
