/**
 * Odd machines: a file system that refuses what others allow, no /dev/fd, an openssl.cnf that lacks the default
 * provider, a curl that can't write here, another user's session. It works, or the failure is told as what it is.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { requirePrograms } from '../lib/require-programs.ts';
import { Agent, BASH, LINK, expectFailure, makeFolder, pair, pathOf, polling, unprivileged } from '../lib/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const canMount = () => spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0;
const skip = requirePrograms('unshare', 'mount', 'mknod') || (!canMount() && 'needs a user who may mount');
const isRoot = process.getuid?.() === 0;

/** A PATH that begins with these scripts. */
function pathWith(scripts: Readonly<Record<string, string>>): string {
  const folder = makeFolder();
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(folder, name), `#!${BASH}\n${script}\n`);
    chmodSync(join(folder, name), 0o755);
  }
  return [folder, process.env['PATH']].join(delimiter);
}

/** Where Debian has it. */
function findFakeTime(): string[] {
  const find = spawnSync(BASH, ['-c', 'ls /usr/lib/*/faketime/libfaketime.so.1'], { encoding: 'utf8' });
  return find.stdout.split('\n').filter(Boolean);
}

/** Both ways, to all, to one, and a file. */
async function talk(odd: Agent): Promise<void> {
  const plain = new Agent({ name: 'plain' });
  await pair(bridge.url, odd, plain);
  const data = randomBytes(1_200_000);
  writeFileSync(join(plain.home, 'data.bin'), data);
  await plain.call('say', 'to all');
  await plain.call('dm', odd.name, 'to you alone');
  await plain.call('send_file', 'data.bin');
  const heard = await odd.waitForOutput(/\| to all$/m, /\| to you alone$/m, /FILE #3 from plain/);
  assert.doesNotMatch(heard, /TAMPERED|UNREADABLE|MALFORMED/);
  assert.deepEqual(readFileSync(join(odd.folder, 'inbox', '3-plain-data.bin')), data);
  await odd.call('say', 'an answer');
  await plain.waitForOutput(/\| an answer$/m);
}

describe('a machine', () => {
  test('where /dev/fd leads nowhere', { skip }, async () => {
    const code = `mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 && exec "$@"`;
    const inside = ['unshare', '-m', BASH, '-c', code, 'bash'];
    const odd = new Agent({ name: 'odd', inside });
    const probe = await odd.start(BASH, ['-c', 'read -r line < <(echo it works); echo "$line"']).ended;
    assert.equal(probe.stdout, '\n');
    await talk(odd);
    assert.match((await odd.call('leave')).stdout, /^agentalk: left/m);
  });

  test('where nothing can be renamed into another folder, as with Landlock', { skip }, async () => {
    const home = makeFolder();
    const code = `for folder in "$AGENTALK_HOME"/agentalk-session-odd/*/; do [ ! -d "$folder" ] || mount --bind "$folder" "$folder" || exit; done; exec "$@"`;
    await talk(new Agent({ name: 'odd', home, inside: ['unshare', '-m', BASH, '-c', code, 'bash'] }));
  });

  test('without hard links and symbolic links', async () => {
    const refuse = 'echo "failed to create link: Permission denied" >&2; exit 1';
    await talk(new Agent({ name: 'odd', env: { PATH: pathWith({ ln: refuse, link: refuse }) } }));
  });

  test('whose file system refuses a name, as FAT does: the file comes under another one, and the talk goes on', async () => {
    const refuse = `for target in "$@"; do :; done
case \${target##*/} in *[?:]*) exit 1 ;; esac
exec '${pathOf('mv')}' "$@"`;
    const [odd, plain] = [
      new Agent({ name: 'odd', env: { PATH: pathWith({ mv: refuse }) } }),
      new Agent({ name: 'plain' }),
    ];
    await pair(bridge.url, odd, plain);
    writeFileSync(join(plain.home, 'a: what? really.txt'), 'its words');
    await plain.call('send_file', 'a: what? really.txt');
    const heard = await odd.waitForOutput(/FILE #1 from plain, .*saved as:\n/);
    assert.match(heard, /inbox\/1-plain-a__what__really\.txt$/m);
    assert.equal(readFileSync(join(odd.folder, 'inbox', '1-plain-a__what__really.txt'), 'utf8'), 'its words');
    await plain.call('say', 'go on');
    await odd.waitForOutput(/\| go on$/m);
  });

  const [fakeTime] = findFakeTime();
  test(
    'where only the time of day can be read: a clock that is set back during a wait makes it no longer',
    { skip: skip || (fakeTime ? false : 'libfaketime is not installed') },
    async (t) => {
      const folder = makeFolder();
      const offset = join(folder, 'offset');
      writeFileSync(offset, '+0');
      const code = 'mount --bind /dev/null /proc/uptime && exec "$@"';
      const odd = new Agent({
        name: 'odd',
        inside: ['unshare', '-m', BASH, '-c', code, 'bash'],
        env: {
          LD_PRELOAD: fakeTime ?? '',
          FAKETIME_TIMESTAMP_FILE: offset,
          FAKETIME_NO_CACHE: '1',
          FAKETIME_DONT_FAKE_MONOTONIC: '1',
        },
      });
      await odd.create(bridge.url);
      const start = Date.now();
      const waiting = odd.begin('wait', '6');
      t.after(() => waiting.end('SIGKILL'));
      await polling(bridge.url, 1);
      writeFileSync(offset, '-300');
      await waiting.line(/nobody else is in the channel yet/);
      assert.ok(Date.now() - start < 25_000, `it took ${Date.now() - start} ms`);
    },
  );

  test('whose openssl.cnf lacks the default provider; curl has its settings all the same', async () => {
    const folder = makeFolder();
    const config = join(folder, 'openssl.cnf');
    writeFileSync(config, 'openssl_conf = i\n[i]\nproviders = p\n[p]\nbase = b\n[b]\nactivate = 1\n');
    const broken = spawnSync('openssl', ['dgst', '-sha256'], {
      input: '',
      env: { ...process.env, OPENSSL_CONF: config },
    });
    if (/^OpenSSL 3/.test(spawnSync('openssl', ['version'], { encoding: 'utf8' }).stdout))
      assert.notEqual(broken.status, 0);
    const seen = join(folder, 'seen');
    const curl = `printf '%s\\n' "\${OPENSSL_CONF-unset}" >>'${seen}'; exec '${pathOf('curl')}' "$@"`;
    const env = { PATH: pathWith({ curl }), OPENSSL_CONF: config };
    await talk(new Agent({ name: 'odd', env }));
    assert.deepEqual(new Set(readFileSync(seen, 'utf8').trim().split('\n')), new Set([config]));
    rmSync(seen);
    await new Agent({ name: 'odd', env: { PATH: env.PATH } }).create(bridge.url);
    assert.deepEqual(new Set(readFileSync(seen, 'utf8').trim().split('\n')), new Set(['unset']));
  });

  for (const [status, words] of [
    [23, /curl can't read or write in \S+: perhaps the disk is full/],
    [26, /curl can't read or write in \S+: perhaps the disk is full/],
    [1, /this curl can't speak http/],
    [60, /certificate of .* is not trusted: .*--cacert.*date/],
    [77, /curl can't read the certificates to trust: install ca-certificates/],
    [126, /curl crashed, can't run or was ended \(126\)/],
    [139, /curl crashed, can't run or was ended \(139\)/],
  ] as const) {
    test(`whose curl ends with ${status} is told why`, async () => {
      const agent = new Agent({ env: { PATH: pathWith({ curl: `exit ${status}` }) } });
      expectFailure(await agent.run(['create', bridge.url, '--name', 'laptop']), words);
      assert.deepEqual(agent.traces(), []);
    });
  }
});

describe('a session', () => {
  test('of another user is told as that, to root and to others', { skip: !isRoot && 'needs root' }, async () => {
    const owner = unprivileged('laptop');
    chmodSync(owner.home, 0o755);
    await owner.create(bridge.url);
    const root = new Agent({ name: 'laptop', home: owner.home });
    expectFailure(await root.run(['say', 'x']), /no session of yours .*belong to other users.*without sudo/);
    const sourced = await root.shell('agentalk_say x').ended;
    assert.deepEqual([sourced.status, sourced.stdout], [1, '']);
    assert.match(sourced.stderr, /^agentalk: error: the folder of this session belongs to another user/);
    rmSync(owner.folder, { recursive: true });
    assert.match(
      (await root.shell('agentalk_say x').ended).stderr,
      /^agentalk: error: the folder of this session is gone/,
    );
  });

  test('whose folder is removed during a wait is told as gone, not as a full disk', async () => {
    const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
    await pair(bridge.url, laptop, server);
    const waiting = server.begin('wait', '20');
    await laptop.call('say', 'first');
    await waiting.ended;
    const next = server.begin('wait', '20');
    const released = new Promise((resolve) => setTimeout(resolve, 500));
    await released;
    rmSync(server.folder, { recursive: true, force: true, maxRetries: 5 });
    await laptop.call('say', 'second');
    expectFailure(await next.ended, /the folder of this session is gone/);
  });
});

describe('create', () => {
  test('with a link to join that is cut off opens nothing, and says what it is', async () => {
    const laptop = new Agent({ name: 'laptop' });
    await laptop.create(bridge.url);
    const [address = '', key = ''] = laptop.link.split('#k=');
    for (const link of [address, `${address}#k=`, `${address}#k=${key.slice(0, 40)}`, address.slice(0, -9)]) {
      const other = new Agent({ name: 'other' });
      expectFailure(
        await other.run(['create', link, '--name', 'other']),
        /that is a link to join, not a bridge .*give it whole/,
      );
      assert.deepEqual(other.traces(), []);
    }
  });

  test('checks the path of --invite-file and --cacert before it opens a channel', async () => {
    const agent = new Agent({ name: 'laptop' });
    for (const [option, path, words] of [
      ['--invite-file', agent.home, /--invite-file takes the path of a new file/],
      ['--invite-file', join(agent.home, 'none', 'invite'), /no such folder for --invite-file/],
      ['--invite-file', agent.client, /--invite-file takes the path of a new file/],
      ['--cacert', agent.home, /--cacert takes a file/],
      ['--cacert', join(agent.home, 'none.pem'), /--cacert takes a file/],
    ] as const) {
      expectFailure(await agent.run(['create', bridge.url, '--name', 'laptop', option, path]), words);
      assert.deepEqual(agent.traces(), []);
    }
  });

  test('at a path where there is no bridge says so', async () => {
    const agent = new Agent();
    expectFailure(await agent.run(['create', `${bridge.url}/talk`]), /no bridge is at .*\/talk: the path is wrong/);
  });
});

test('the script called with another shell than bash says so, and writes nothing', async () => {
  const agent = new Agent({ name: 'laptop' });
  for (const shell of ['sh', 'dash', 'zsh', 'ksh', 'busybox']) {
    if (requirePrograms(shell)) continue;
    const args = [...(shell === 'busybox' ? ['sh'] : []), agent.client, 'create', bridge.url, '--name', 'laptop'];
    const { status, stdout, stderr } = await agent.start(shell, args).ended;
    if (stdout.includes('channel open')) continue; // sh is bash here
    assert.deepEqual([status, stdout + stderr], [1, 'agentalk: error: call this with bash, not sh\n'], shell);
    assert.deepEqual(agent.traces(), []);
  }
});

test('create, join and a link that is wrong write nothing into the working folder', async () => {
  const cwd = makeFolder();
  const laptop = new Agent({ name: 'laptop' });
  const { stdout } = await laptop.run(['create', bridge.url, '--name', 'laptop'], { cwd });
  const link = LINK.exec(stdout)?.[0] ?? assert.fail(stdout);
  const other = new Agent({ name: 'other' });
  const wrong = link.replace(/#k=./, (start) => `#k=${start.endsWith('0') ? '1' : '0'}`);
  expectFailure(await other.run(['join', wrong, '--name', 'other'], { cwd }), /link and key don't belong together/);
  assert.deepEqual(other.traces(), []);
  assert.equal((await other.run(['join', link, '--name', 'other'], { cwd })).status, 0);
  assert.deepEqual(readdirSync(cwd), []);
});

test('join takes a link from a file as PowerShell and Notepad write it', async () => {
  const laptop = new Agent({ name: 'laptop' });
  await laptop.create(bridge.url);
  const line = `Talk to my other agent: ${laptop.link}\r\n`;
  for (const [name, bytes] of [
    ['utf16', Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(line, 'utf16le')])],
    ['utf8-bom', Buffer.from(`\ufeff${line}`)],
    ['crlf', Buffer.from(line)],
  ] as const) {
    const agent = new Agent({ name });
    writeFileSync(join(agent.home, 'link.txt'), bytes);
    assert.match((await agent.join('link.txt')).stdout, new RegExp(`joined as ${name} on`));
  }
});

test(
  'say --file has a sentence of its own for each thing that is no file',
  { skip: requirePrograms('mkfifo') },
  async () => {
    const agent = new Agent({ name: 'laptop' });
    await agent.create(bridge.url);
    mkdirSync(join(agent.home, 'folder'));
    spawnSync('mkfifo', [join(agent.home, 'pipe')]);
    writeFileSync(join(agent.home, '-c'), 'a name like an option');
    for (const [path, words] of [
      ['none', /there is no such file/],
      ['folder', /that is a folder/],
      ['pipe', /that is a pipe or a device/],
      ['/dev/zero', /that is a pipe or a device/],
    ] as const) {
      expectFailure(await agent.begin('say', '--file', path).ended, words);
    }
    assert.match((await agent.call('say', '--file', '-c')).stdout, /^agentalk: sent/);
  },
);

test('after a restart of the bridge, say names those who are not back yet', async () => {
  const first = await startBridge();
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await pair(first.url, laptop, server);
  await first.stop();
  const second = await startBridge(['--port', String(first.port)]);
  const { stdout } = await laptop.call('say', 'are you there?');
  assert.match(stdout, /^agentalk: sent, but not back since the bridge lost the channel: server\. It is said again/m);
  assert.doesNotMatch(stdout, /nobody else is in the channel/);
  await server.waitForOutput(/\| are you there\?$/m);
  await second.stop();
});
