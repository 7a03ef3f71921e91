/** What an operator is told before anything runs: --check-config, --help, and each wrong setting in one line. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { runBridge, startBridge } from '../../lib/bridge.ts';
import { Authority } from '../../lib/certificate.ts';
import type { Files } from '../../lib/certificate.ts';
import { flagsPage } from '../../../scripts/flags-page.mjs';
import { ROOT } from '../../lib/root.ts';
import { makeFolder } from '../../lib/shell.ts';

let files: Files;
let other: Files;
let expired: Files;
let folder: string;
before(() => {
  folder = makeFolder();
  const authority = new Authority(folder);
  [files, other, expired] = [authority.issue(), authority.issue(), authority.issue(-1)];
});

const variableOf = (flag: string) => flag.slice(2).toUpperCase().replaceAll('-', '_');

/** The lines of --check-config without those that depend on the machine. */
async function check(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const { status, stdout, stderr } = await runBridge([...args, '--check-config'], env);
  const lines = stdout.split('\n').filter((line) => line !== '' && !line.includes('open files'));
  return { status, stderr, lines };
}

test('--check-config says what would be done, and opens nothing', async () => {
  const running = await startBridge();
  const plain = await check(['--port', String(running.port)]);
  assert.deepEqual(plain, {
    status: 0,
    stderr: '',
    lines: [
      `listens on ${running.url}`,
      'TLS: none',
      'clients reach it at http:// and the host of their request',
      'trusted proxies: none',
      'metrics: on the same address, for this machine only',
      'channels may be created by everybody',
      'log: text on a terminal, else JSON',
      'requests in the log: none',
      'in order',
    ],
  });
  await running.stop();
});

test('--check-config tells TLS, public URL, metrics, changed limits, and variables that are none', async () => {
  const flags = ['--host', '::1', '--tls-cert', files.cert, '--tls-key', files.key, '--max-channels', '7'];
  const more = ['--public-url', 'https://bridge.example/a', '--metrics-listen', `${folder}/m.sock`];
  const env = { AGENTALK_EXPIRE_AFTER: '3h', AGENTALK_LOG_FORMAT: 'text', AGENTALK_PUBLIC_ULR: 'x' };
  const { status, lines } = await check([...flags, ...more], env);
  const day = new Date(Date.now() + 2 * 86_400_000).toISOString().slice(0, 10);
  assert.equal(status, 0);
  assert.deepEqual(lines, [
    'listens on https://[::1]:8787',
    `TLS: a certificate for localhost, 127.0.0.1, until ${day}`,
    'clients reach it at https://bridge.example/a',
    'trusted proxies: none',
    `metrics: unix:${folder}/m.sock only, for everybody who reaches it`,
    'channels may be created by everybody',
    'log: text',
    'requests in the log: none',
    '--max-channels 7 (default 20000)',
    '--expire-after 10800 (default 7200)',
    'warning: unknown setting AGENTALK_PUBLIC_ULR',
    'in order',
  ]);
});

test('--check-config says whom the bridge trusts, who sees its metrics, and what it logs', async () => {
  const env = { AGENTALK_TRUSTED_PROXIES: 'loopback, 10.0.0.0/8', AGENTALK_LOG_REQUESTS: 'yes' };
  const { lines } = await check(['--public-metrics'], env);
  for (const line of [
    'trusted proxies: loopback, 10.0.0.0/8',
    'metrics: on the same address, for everybody',
    'requests in the log: a line each, without addresses',
  ]) {
    assert.ok(lines.includes(line), lines.join('\n'));
  }
  const withAddresses = await check(['--log-addresses'], env);
  assert.ok(withAddresses.lines.includes('requests in the log: a line each, with the client address'));
  const useless = await check(['--log-addresses']);
  assert.ok(useless.lines.includes('warning: --log-addresses needs --log-requests'), useless.lines.join('\n'));
});

test('--help, --version and --check-config are flags, and not values of other flags', async () => {
  for (const command of ['--help', '--version', '--check-config']) {
    for (const args of [
      ['--public-url', command],
      ['--create-secret-file', command],
      ['--', command],
    ]) {
      const { status, stdout, stderr } = await runBridge(args);
      assert.deepEqual([status, stdout], [2, ''], args.join(' '));
      assert.match(stderr, /^agentalk-bridge: [^\n]+; see --help\n$/);
    }
  }
  const valued = await runBridge([`--create-secret-file=--version`, '--port', '0']);
  assert.match(valued.stderr, /can't read --version \(ENOENT\)/);
  const help = await runBridge(['--port', 'x', '--help']);
  assert.deepEqual([help.status, help.stderr], [0, ''], 'a wrong value does not hide the help');
  assert.match(help.stdout, /^Usage: /);
});

test('--check-config of a unix socket', async () => {
  const { lines } = await check(['--socket', `${folder}/s.sock`]);
  assert.equal(lines[0], `listens on unix:${folder}/s.sock`);
});

test('a file that is not in order is named, with status 2: by --check-config and at the start', async () => {
  const garbage = join(folder, 'garbage.pem');
  writeFileSync(garbage, '-----BEGIN CERTIFICATE-----\nnone\n');
  const pair = (cert: string, key: string) => ['--tls-cert', cert, '--tls-key', key];
  const bad: [args: string[], words: RegExp][] = [
    [pair(`${folder}/none.pem`, files.key), /--tls-cert can't be read \(ENOENT\): \S+none\.pem/],
    [pair(files.cert, folder), /--tls-key can't be read \(EISDIR\)/],
    [pair(garbage, files.key), /--tls-cert has no certificate in PEM/],
    [pair(files.cert, garbage), /--tls-key has no private key in PEM without a passphrase/],
    [pair(files.cert, other.key), /--tls-key is not the key of --tls-cert/],
    [pair(expired.cert, expired.key), /--tls-cert expired on \d{4}-\d\d-\d\d: get a new certificate/],
    [['--tls-cert', files.cert], /--tls-cert and --tls-key go together: give both; see --help/],
    [['--tls-key', files.key], /--tls-cert and --tls-key go together: give both; see --help/],
  ];
  for (const [args, words] of bad) {
    for (const more of [['--check-config'], ['--port', '0']]) {
      const { status, stdout, stderr } = await runBridge([...args, ...more]);
      assert.deepEqual([status, stdout], [2, ''], args.join(' '));
      assert.match(stderr, /^agentalk-bridge: [^\n]+\n$/);
      assert.match(stderr, words);
    }
  }
});

test('--check-config finds a folder in which no socket can be made', async () => {
  const { status, stderr } = await check(['--socket', `${folder}/none/s.sock`]);
  assert.equal(status, 2);
  assert.match(stderr, /^agentalk-bridge: can't write in the folder of \S+ \(ENOENT\)\n$/);
});

test('a wrong value is refused in one line that says what is wanted, by flag and by variable', async () => {
  const bad: [flag: string, value: string, wanted: string][] = [
    ['--host', 'a b', 'an address or a host name'],
    ['--port', '65536', 'a number from 0 to 65535'],
    ['--port', '-1', 'a number from 0 to 65535'],
    ['--port', '0x50', 'a number from 0 to 65535'],
    ['--socket', '/'.padEnd(104, 'a'), 'a path of at most 103 bytes'],
    ['--log-format', 'xml', 'text or json'],
    ['--max-channels', '0', 'a number from 1 to 1000000'],
    ['--max-channels', '1k', 'a number from 1 to 1000000'],
    ['--max-message-bytes', '2m', 'a number from 1 to 1048576'],
    ['--keep-alive-timeout', '2h', 'a number from 1 to 3600'],
    ...['9464', 'host', ':9464', '[::1]', '[::1]:x', 'a:b:1', 'h:65536', '/'.padEnd(104, 'a')].map(
      (value): [string, string, string] => [
        '--metrics-listen',
        value,
        'HOST:PORT, [IPv6]:PORT or the path of a unix socket, with a slash',
      ],
    ),
  ];
  for (const [flag, value, wanted] of bad) {
    const variable = `AGENTALK_${variableOf(flag)}`;
    const byFlag = await runBridge([`${flag}=${value}`]);
    const byVariable = await runBridge([], { [variable]: value });
    for (const [name, { status, stderr }] of [
      [flag, byFlag],
      [variable, byVariable],
    ] as const) {
      assert.equal(stderr, `agentalk-bridge: bad value for ${name}: expected ${wanted}; see --help\n`);
      assert.equal(status, 2);
    }
  }
});

test('what is no flag is refused in one line', async () => {
  for (const args of [
    ['--nothing'],
    ['--nothing=1'],
    ['-p', '1'],
    ['nothing'],
    ['--port'],
    ['--port', '--host'],
    ['--check-config=1'],
  ]) {
    const { status, stdout, stderr } = await runBridge(args);
    assert.deepEqual([status, stdout], [2, ''], args.join(' '));
    assert.match(stderr, /^agentalk-bridge: [^\n]+; see --help\n$/);
  }
});

test('every flag of --help is an environment variable too', async () => {
  const { stdout } = await runBridge(['--help']);
  const flags = [...stdout.matchAll(/^ {2}(--[a-z-]+) /gm)].map(([, flag = '']) => flag);
  const names = flags.filter((flag) => !['--help', '--version', '--check-config'].includes(flag));
  assert.ok(names.length > 20, stdout);
  // A variable that meant nothing would be named here.
  const { lines } = await check([], Object.fromEntries(names.map((flag) => [`AGENTALK_${variableOf(flag)}`, ''])));
  assert.deepEqual(
    lines.filter((line) => line.startsWith('warning')),
    [],
  );
});

test('docs/flags.md is what npm run docs:flags makes of --help', async () => {
  const { stdout } = await runBridge(['--help']);
  const page = readFileSync(join(ROOT, 'docs', 'flags.md'), 'utf8');
  const rows = (text: string) => [...text.matchAll(/^\| `--.*$/gm)].map(([row]) => row.replace(/ +/g, ' '));
  assert.deepEqual(rows(page), rows(flagsPage(stdout)));
  const flags = [...stdout.matchAll(/^ {2}(--[a-z-]+) /gm)].map(([, flag]) => flag);
  assert.deepEqual(
    rows(page)
      .map((row) => /`(--[a-z-]+)`/.exec(row)?.[1])
      .sort(),
    flags.sort(),
  );
});
