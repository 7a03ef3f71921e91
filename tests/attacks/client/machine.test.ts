/**
 * The client on a machine that others use too, and in a shell whose owner has habits: what was laid in its way is
 * refused, no setting of the caller bends it, and the caller's shell is afterwards what it was.
 */
import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { FaultProxy } from '../../lib/fault-proxy.ts';
import { startBridge } from '../../lib/bridge.ts';
import type { TestBridge } from '../../lib/bridge.ts';
import { requirePrograms } from '../../lib/require-programs.ts';
import {
  Agent,
  BASH,
  expectSuccess,
  expectFailure,
  installClient,
  makeFolder,
  pair,
  unprivileged,
  until,
} from '../../lib/shell.ts';
import type { Result } from '../../lib/shell.ts';
import { INJECTION_STRINGS, LINE } from './fixture.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

/** Where this process is root the client runs as nobody: to root every folder is its own. */
const skip = process.getuid?.() === 0 && requirePrograms('setpriv');
const isRoot = process.getuid?.() === 0;

/** All that a session makes and keeps, by its path in the home. */
function pathsOf(home: string): string[] {
  const all = readdirSync(home, { recursive: true, encoding: 'utf8' });
  return all.filter((name) => name !== 'agentalk' && !name.includes('/tmp/'));
}

/** What the whole talk of a session is, in any shell. */
const TALK = `agentalk_say 'to all'; agentalk_dm server 'to one'; printf piped | agentalk_say; agentalk_wait 0
agentalk_who; agentalk_log; agentalk_show 1; agentalk_invite; agentalk_send_file agentalk`;

/** That it went as it should: everything sent, nothing said by a tool, nothing that the caller's habits changed. */
function expectTalk({ status, stdout, stderr }: Result, isQuiet = true): void {
  assert.equal(status, 0, stdout + stderr);
  assert.equal(stdout.match(/^agentalk: sent/gm)?.length, 4, stdout + stderr);
  assert.match(stdout, /^agentalk: you to server/m);
  assert.match(stdout, /^agentalk: #1 from server/m);
  assert.match(stdout, /^agentalk: server \(agent\) /m);
  if (isQuiet) assert.equal(stderr, '');
  assert.doesNotMatch(stdout, /hijacked/);
}

/** Two agents in a talk, in which server has said something already. */
async function pairedAgents(
  env: Readonly<Record<string, string>> = {},
  shell = BASH,
): Promise<readonly [Agent, Agent]> {
  const [laptop, server] = [new Agent({ name: 'laptop', env, shell }), new Agent({ name: 'server' })];
  await pair(bridge.url, laptop, server);
  await server.pipe('from the server');
  await laptop.waitForOutput(/#1 from server/);
  return [laptop, server];
}

describe('what lies in the way', { skip }, () => {
  /** Each kind of thing at each path, in the place of a session's parts, laid before they are made. */
  test('symlinks and files at each path that a session makes, while it is being made', async () => {
    const model = unprivileged('laptop');
    await model.create(bridge.url);
    const parts = pathsOf(model.home).filter((path) => path.split('/').length === 2);
    assert.ok(parts.length > 10, parts.join());
    // Somebody who can foretell the names lays them all: none is followed, the session is refused or is elsewhere.
    const elsewhere = makeFolder();
    chmodSync(elsewhere, 0o777);
    writeFileSync(join(elsewhere, 'file'), 'mine');
    chmodSync(join(elsewhere, 'file'), 0o666);
    const laptop = unprivileged('laptop');
    chmodSync(laptop.home, 0o777);
    mkdirSync(laptop.folder);
    chmodSync(laptop.folder, 0o777);
    for (const path of parts) symlinkSync(join(elsewhere, 'file'), join(laptop.home, path));
    // Its script is where only its owner can write.
    const args = [model.client, 'create', bridge.url, '--name', 'laptop'];
    const { stdout } = expectSuccess(await laptop.start(BASH, args).ended);
    assert.match(stdout, /the name laptop was taken: you are laptop-2\./);
    assert.equal(readFileSync(join(elsewhere, 'file'), 'utf8'), 'mine');
    assert.deepEqual(readdirSync(elsewhere), ['file']);
    for (const path of parts) assert.ok(lstatSync(join(laptop.home, path)).isSymbolicLink(), path);
  });

  test('what calls write for themselves goes with them', async () => {
    const laptop = unprivileged('laptop');
    await laptop.create(bridge.url);
    for (let i = 0; i < 3; i++) expectSuccess(await laptop.shell('agentalk_wait 0').ended);
    await until('an empty folder', () => readdirSync(join(laptop.folder, 'tmp')).length === 0);
  });

  test(
    "another user's folder as AGENTALK_HOME is left alone: sessions are elsewhere then",
    { skip: !isRoot && 'needs root' },
    async () => {
      const others = makeFolder(); // root's, 0700
      const laptop = unprivileged('laptop');
      // A link of somebody else's to it is no way in either.
      symlinkSync(others, join(laptop.home, 'link'));
      for (const home of [others, join(laptop.home, 'link')]) {
        const { stdout } = expectSuccess(await laptop.run(['create', bridge.url], { env: { AGENTALK_HOME: home } }));
        const [, folder = ''] = /The session is in (\/tmp\/agentalk-session-[\w.-]+)$/m.exec(stdout) ?? [];
        assert.notEqual(folder, '');
        for (const path of [folder, `${folder}.env`]) rmSync(path, { recursive: true });
        assert.deepEqual(readdirSync(others), []);
      }
    },
  );

  test('another session or folder of the same name: the new one has another name, and a key', async () => {
    const laptop = unprivileged('laptop');
    mkdirSync(laptop.folder);
    const links = [];
    for (let i = 0; i < 3; i++) {
      const { stdout } = expectSuccess(await laptop.run(['create', bridge.url, '--name', 'laptop']));
      links.push(/\/c\/([0-9a-f]{32})#k=([0-9a-f]{64})&/.exec(stdout) ?? assert.fail(`no key:\n${stdout}`));
    }
    for (const at of [1, 2]) assert.equal(new Set(links.map((link) => link[at])).size, 3, 'no key twice');
  });

  test('a folder that all may write, with the sticky bit as /tmp has it', async () => {
    const laptop = unprivileged('laptop');
    const home = makeFolder();
    chmodSync(home, 0o1777);
    const result = expectSuccess(
      await laptop.run(['create', bridge.url, '--name', 'laptop'], { env: { AGENTALK_HOME: home } }),
    );
    assert.match(result.stdout, /channel open/);
    assert.equal(lstatSync(join(home, 'agentalk-session-laptop')).mode & 0o777, 0o700);
    assert.equal(lstatSync(join(home, 'agentalk-session-laptop.env')).mode & 0o777, 0o600);
  });

  test('six that race for one name get a session each, whole, or are refused, and none gets a part of another’s', async () => {
    const agents = Array.from({ length: 6 }, () => unprivileged('laptop'));
    const home = agents[0]?.home ?? assert.fail();
    const env = { AGENTALK_HOME: home };
    const results = await Promise.all(
      agents.map((agent) => agent.run(['create', bridge.url, '--name', 'laptop'], { env })),
    );
    const keys = results.flatMap((result) => {
      if (result.status !== 0) expectFailure(result, /is there and is no session of yours/); // not yet
      return /#k=([0-9a-f]{64})&/m.exec(result.stdout)?.[1] ?? [];
    });
    assert.ok(keys.length >= 1);
    assert.equal(new Set(keys).size, keys.length);
    const files = readdirSync(home).filter((name) => name.endsWith('.env'));
    assert.equal(files.length, keys.length, files.join());
    for (const file of files) {
      const folder = join(home, file.slice(0, -4));
      const name = /^NAME (.*)$/m.exec(readFileSync(join(folder, 'session'), 'utf8'))?.[1];
      assert.equal(`agentalk-session-${name}.env`, file);
      assert.ok(keys.includes(/^KEY (.*)$/m.exec(readFileSync(join(folder, 'session'), 'utf8'))?.[1] ?? ''));
    }
  });

  test('somebody who takes the session file while the session is being made', async (t) => {
    const faultProxy = await FaultProxy.start(bridge.url);
    t.after(() => faultProxy.stop());
    const laptop = unprivileged('laptop');
    for (const target of ['nothing', 'file']) {
      const elsewhere = makeFolder();
      chmodSync(elsewhere, 0o777);
      writeFileSync(join(elsewhere, 'file'), 'mine');
      chmodSync(join(elsewhere, 'file'), 0o666);
      // Bridge and thief in one: the link is laid when the client has looked, and asks to join.
      faultProxy.answerInstead = ({ kind }) => {
        if (kind === 'join') {
          rmSync(laptop.sessionFile, { force: true });
          symlinkSync(join(elsewhere, target), laptop.sessionFile);
        }
        return false;
      };
      const result = await laptop.run(['create', faultProxy.urlFor('laptop'), '--name', 'laptop']);
      expectFailure(result, /can't make .*is something there already/s);
      assert.deepEqual(readdirSync(elsewhere), ['file']);
      assert.equal(readFileSync(join(elsewhere, 'file'), 'utf8'), 'mine');
      assert.ok(lstatSync(laptop.sessionFile).isSymbolicLink());
      await until('that nothing of it is left', () => !existsSync(laptop.folder));
      rmSync(laptop.sessionFile);
    }
  });
});

describe('a folder that is not what it was', { skip }, () => {
  /** Somebody else's session folder and client at the path of one that is gone. */
  const replaceFolder = (laptop: Agent, owner: number) => {
    rmSync(laptop.folder, { recursive: true });
    mkdirSync(laptop.folder, { mode: 0o755 });
    writeFileSync(join(laptop.folder, 'agentalk.sh'), `touch ${join(laptop.home, 'ran')}\n`, { mode: 0o755 });
    writeFileSync(
      join(laptop.folder, 'session'),
      'BRIDGE http://127.0.0.1:9\nNAME laptop\nMADE 1\nCALL ./ran\nKEY x\n',
    );
    for (const path of ['', 'agentalk.sh', 'session']) chownSync(join(laptop.folder, path), owner, owner);
  };

  test(
    'and belongs to another user now is not entered: by the .env file, by name, by sessions',
    { skip: !isRoot && 'needs root' },
    async () => {
      const laptop = unprivileged('laptop');
      await laptop.create(bridge.url);
      chmodSync(laptop.home, 0o777);
      replaceFolder(laptop, 0);
      for (const command of ['say x', 'wait 0', 'leave', 'log', 'who', 'invite']) {
        const { status, stdout } = await laptop.shell(`agentalk_${command}`).ended;
        assert.notEqual(status, 0, command);
        assert.equal(stdout, '');
      }
      assert.doesNotMatch((await laptop.run(['sessions'])).stdout, /\.\/ran|laptop/);
      assert.notEqual((await laptop.run(['--as', 'laptop', 'wait', '0'])).status, 0);
      // The same behind a symlink.
      const elsewhere = makeFolder();
      chmodSync(elsewhere, 0o755);
      writeFileSync(join(elsewhere, 'agentalk.sh'), `touch ${join(laptop.home, 'ran')}\n`, { mode: 0o755 });
      rmSync(laptop.folder, { recursive: true });
      symlinkSync(elsewhere, laptop.folder);
      assert.notEqual((await laptop.shell('agentalk_say x').ended).status, 0);
      assert.ok(!existsSync(join(laptop.home, 'ran')));
    },
  );

  test('a file called session beside the client makes no session of its folder', async () => {
    const laptop = new Agent({ name: 'laptop' });
    await laptop.create(bridge.url);
    const session = readFileSync(join(laptop.folder, 'session'), 'utf8');
    writeFileSync(join(laptop.home, 'session'), session.replace(/^BRIDGE .*/m, 'BRIDGE http://127.0.0.1:9'));
    const { stdout } = expectSuccess(await laptop.run(['who']));
    assert.ok(stdout.includes(bridge.url), stdout);
  });

  test('a session with words of others in its fields is none', async () => {
    const laptop = new Agent({ name: 'laptop' });
    await laptop.create(bridge.url);
    const path = join(laptop.folder, 'session');
    const session = readFileSync(path, 'utf8');
    for (const [field, value] of [
      ['NAME', 'laptop\u001b[2J'],
      ['NAME', '$(>ran)'],
      ['BRIDGE', 'http://x/\u001b]0;x\u0007'],
      ['BRIDGE', 'file:///etc/passwd'],
      ['MADE', 'a[$(>ran)]'],
      ['CALL', '\u001b[2J'],
      ['CHANNEL', '../x'],
      ['ACCESS', 'x"'],
      ['TOKEN', 'x" -o ran "'],
      ['TICKET', 'x"'],
      ['ID', 'x&y'],
      ['LIMIT', 'a[$(>ran)]'],
      ['BLOB_LIMIT', 'a[$(>ran)]'],
    ] as const) {
      const without = session.replace(new RegExp(`^${field} .*\n`, 'm'), '');
      writeFileSync(path, `${without}${field} ${value}\n`);
      for (const command of [['sessions'], ['who'], ['wait', '0'], ['say', '-'], ['send_file', 'agentalk']]) {
        const { status, stdout, stderr } = await laptop.run(command, { input: 'x' });
        if (field !== 'CALL' && command[0] !== 'sessions') assert.equal(status, 1, `${field} ${command.join(' ')}`);
        for (const line of (stdout + stderr).split('\n')) assert.match(line, LINE);
      }
    }
    assert.ok(!existsSync(join(laptop.home, 'ran')));
  });

  test('what a session file has besides the known fields is ignored', async () => {
    const laptop = new Agent({ name: 'laptop' });
    await laptop.create(bridge.url);
    const path = join(laptop.folder, 'session');
    const names = [
      'PATH',
      'SESSION',
      'TMP',
      'RUN_curl',
      'BASH_ENV',
      'SID',
      'IFS',
      'LINES',
      'x[$(>ran)]',
      '$(>ran)',
      '',
    ];
    const more = names.flatMap((name) => [`${name} /tmp/$(>ran)`, `${name}=x`, name]);
    const session = readFileSync(path, 'utf8');
    writeFileSync(path, `${more.join('\n')}\n${session}${more.join('\n')}\n\0\n`);
    assert.match(expectSuccess(await laptop.run(['say', 'x'])).stdout, /^agentalk: sent/);
    assert.match(expectSuccess(await laptop.run(['sessions'])).stdout, /^agentalk: laptop, made/);
    assert.ok(!existsSync(join(laptop.home, 'ran')));
  });

  test('a state with code in its fields, or files elsewhere, is damaged: nothing of it runs or is moved', async () => {
    const [laptop] = await pairedAgents();
    const folder = join(laptop.folder, 'state');
    const [head = ''] = readdirSync(folder).filter((name) => name.startsWith('head.'));
    const path = join(folder, head.replace('head', 'commit'));
    const state = readFileSync(path, 'utf8');
    const [fields = '', row = '', ...rest] = state.split('\n');
    const code = 'a[$(>ran)]';
    const changed = (line: string) =>
      line
        .trim()
        .split(' ')
        .flatMap((word, i, words) => (word === code ? [] : [words.with(i, code).join(' ')]));
    const victim = join(laptop.home, 'victim');
    writeFileSync(victim, 'mine');
    const states = [
      ...changed(fields).map((line) => [line, row, ...rest]),
      ...changed(row).map((line) => [fields, line, ...rest]),
      [fields.trim().split(' ').slice(0, 5).join(' '), row, ...rest],
      ...['record ../../victim x y', 'move session ../victim', 'move ../victim session', 'digest ../victim 1 x'].map(
        (line) => [fields, row, line, ...rest],
      ),
    ];
    const failed: string[] = [];
    // Some words, such as the list of what was reported, are compared only: then the call goes on.
    for (const [i, lines] of states.entries()) {
      writeFileSync(path, lines.join('\n'));
      const { stdout, stderr } = await laptop.run(i % 2 === 0 ? ['show', '1'] : ['log']);
      for (const line of (stdout + stderr).split('\n')) assert.match(line, LINE);
      if (/error: the state of .* is damaged/.test(stderr)) failed.push(lines.join('\n'));
    }
    assert.ok(failed.length >= states.length - 2, `${failed.length} of ${states.length}`);
    assert.equal(readFileSync(victim, 'utf8'), 'mine');
    for (const each of [laptop.home, laptop.folder]) assert.ok(!existsSync(join(each, 'ran')));
    writeFileSync(path, state);
    expectSuccess(await laptop.run(['say', 'x']));
  });

  for (const [what, corrupt] of [
    ['writable by all', (path: string) => chmodSync(path, 0o757)],
    ['writable by a group', (path: string) => (chownSync(path, 0, 50), chmodSync(path, 0o775))],
    ['in a folder that all may write', (path: string) => chmodSync(dirname(path), 0o777)],
    ['started by a launcher that all may write', (path: string) => chmodSync(path.slice(0, -3), 0o777)],
    ['another user’s', (path: string) => chownSync(path, 12345, 12345)],
  ] as const)
    test(
      `a client that is ${what} refuses to run, before and after it has a session`,
      { skip: !isRoot && 'needs root' },
      async () => {
        const laptop = unprivileged('laptop');
        const path = `${laptop.client}.sh`;
        installClient(path);
        chmodSync(path, 0o664); // as many a umask leaves it; root alone is in root's group
        await laptop.create(bridge.url);
        expectSuccess(await laptop.start(BASH, [path, 'say', 'x']).ended);
        corrupt(path);
        for (const args of [['wait', '0'], ['say', 'x'], ['sessions'], ['create', bridge.url], ['join', laptop.link]])
          expectFailure(
            await laptop.start(BASH, [path, ...args]).ended,
            /others on this machine can write the script .*chmod 755/,
          );
        // The copy in the session's folder is nobody else's, wherever its caller is.
        assert.match(expectSuccess(await laptop.shell('agentalk_say x').ended).stdout, /^agentalk: sent/);
      },
    );

  test('an exclude file of git that is a symlink is not written through', async () => {
    const laptop = new Agent({ name: 'laptop' });
    const target = join(makeFolder(), 'profile');
    writeFileSync(target, 'mine\n');
    mkdirSync(join(laptop.home, '.git', 'info'), { recursive: true });
    symlinkSync(target, join(laptop.home, '.git', 'info', 'exclude'));
    await laptop.create(bridge.url);
    assert.equal(readFileSync(target, 'utf8'), 'mine\n');
  });
});

// eslint-disable-next-line no-control-regex
const HIDDEN = /[\0-\x1f\x7f-\x9f]/;

describe('a folder whose name is code', () => {
  const names = [
    ...INJECTION_STRINGS.filter((name) => /[$`>\n\r\t\u001b\u202e"'*\\-]/.test(name) && !/[\0/]/.test(name)),
    'a\n$(>ran)',
    'a\nBRIDGE http://127.0.0.1:9',
    'a\nKEY x[$(>ran)]',
    "it's `>ran`",
    'x\n',
    '\u001b[2J',
    'MADE[$(>ran)]',
  ];
  test('as the working folder, with the client in it', async () => {
    const parent = makeFolder();
    for (const [i, name] of names.entries()) {
      const folder = join(parent, name);
      mkdirSync(folder, { recursive: true });
      installClient(join(folder, 'agentalk'));
      const home = makeFolder();
      const agent = new Agent({ name: `n${i}`, home });
      const run = (...args: readonly string[]) =>
        agent.start(BASH, ['./agentalk', ...args], { cwd: folder, env: { PWD: folder } }).ended;
      const created = await run('create', bridge.url, '--name', 'laptop');
      const outputs = [
        created,
        await run('sessions'),
        await run('say', 'x'),
        await run('wait', '0'),
        await run('leave'),
        await run('sessions'),
      ];
      for (const { stdout, stderr } of outputs)
        for (const line of (stdout + stderr).split('\n')) assert.doesNotMatch(line, HIDDEN, JSON.stringify(name));
      for (const each of [folder, parent, home]) assert.ok(!existsSync(join(each, 'ran')), JSON.stringify(name));
    }
  });

  test('as the place of the sessions: refused, or used without being run', async () => {
    const parent = makeFolder();
    for (const [i, name] of names.entries()) {
      const home = join(parent, `${i}`, name);
      mkdirSync(home, { recursive: true });
      const agent = new Agent({ name: 'laptop', home: makeFolder() });
      const env = { AGENTALK_HOME: home, PWD: home };
      const created = await agent.run(['create', bridge.url, '--name', 'laptop'], { env, cwd: home });
      const output = created.stdout + created.stderr;
      for (const line of output.split('\n')) assert.doesNotMatch(line, HIDDEN, JSON.stringify(name));
      // Where the place can't be taken the session is made in the next one, and the output says where.
      const session = /^agentalk: .* The session is in (.*)$/m.exec(output)?.[1] ?? assert.fail(output);
      const code = '. "$0"; agentalk_say x; agentalk_wait 0; agentalk_leave';
      const { stdout, stderr } = await agent.start(BASH, ['-c', code, `${session}.env`], { env, cwd: home }).ended;
      assert.match(stdout, /agentalk: sent/, JSON.stringify(name) + stderr);
      for (const path of [session, `${session}.env`]) rmSync(path, { recursive: true });
      for (const each of [home, join(parent, `${i}`), parent, agent.home])
        assert.ok(!existsSync(join(each, 'ran')), JSON.stringify(name));
    }
  });
});

describe('settings of the caller', () => {
  for (const umask of ['000', '777', '022', '277'])
    test(`umask ${umask}`, { skip }, async () => {
      const laptop = unprivileged('laptop');
      const code = `umask ${umask}; "$0" "$@"`;
      const created = await laptop.start(BASH, [
        '-c',
        code,
        BASH,
        laptop.client,
        'create',
        bridge.url,
        '--name',
        'laptop',
      ]).ended;
      expectSuccess(created);
      const talk = `umask ${umask}; agentalk_say x; agentalk_wait 0; agentalk_log; umask`;
      const { stdout } = expectSuccess(await laptop.shell(talk).ended);
      assert.match(stdout, /^agentalk: sent/m);
      assert.match(stdout, new RegExp(`^0${umask}$`, 'm'));
      for (const path of pathsOf(laptop.home).filter((each) => !/agentalk(\.sh)?$/.test(each))) {
        const { mode } = lstatSync(join(laptop.home, path));
        assert.equal(mode & 0o077, 0, path);
        assert.notEqual(mode & 0o400, 0, path);
      }
    });

  test('a TMPDIR that is not there, is a file, cannot be written, or is code', async () => {
    const [laptop] = await pairedAgents();
    const folder = makeFolder();
    writeFileSync(join(folder, 'file'), '');
    mkdirSync(join(folder, 'closed'), { mode: 0o500 });
    const trick = '$(touch${IFS}ran)';
    for (const TMPDIR of [join(folder, 'nothing'), join(folder, 'file'), join(folder, 'closed'), trick, '-rf', '']) {
      const env = { TMPDIR, TMP: TMPDIR, TEMP: TMPDIR };
      assert.match(
        expectSuccess(await laptop.shell('agentalk_say x; agentalk_wait 0', [], { env }).ended).stdout,
        /sent/,
      );
      expectSuccess(await laptop.run(['create', bridge.url, '--name', 'another'], { env }));
      rmSync(join(laptop.home, 'agentalk-session-another'), { recursive: true });
      rmSync(join(laptop.home, 'agentalk-session-another.env'));
    }
    assert.deepEqual(readdirSync(folder).sort(), ['closed', 'file']);
    assert.ok(!existsSync(join(laptop.home, 'ran')));
  });

  /** Files that a shell reads by itself, and lists of what it should leave out, in the environment of each call. */
  test('IFS, BASH_ENV, ENV, CDPATH, GLOBIGNORE, SHELLOPTS, BASHOPTS, POSIXLY_CORRECT', async () => {
    const folder = makeFolder();
    const trap = join(folder, 'trap.sh');
    writeFileSync(trap, 'curl() { echo hijacked; }; printf() { echo hijacked; }; echo hijacked >&2; touch ran\n');
    mkdirSync(join(folder, 'log'));
    const env = {
      IFS: 'agentlk_/ -=\n0',
      ENV: trap,
      CDPATH: `${folder}:/`,
      GLOBIGNORE: '*',
      SHELLOPTS: 'noglob:noclobber:nounset:errexit:posix',
      BASHOPTS: 'nullglob:failglob:nocasematch:extglob:dotglob',
      POSIXLY_CORRECT: '1',
      FIGNORE: 'sh',
      PS4: '$(touch ran)+ ',
      PROMPT_COMMAND: 'touch ran',
      TZ: '../../etc/passwd',
      LC_ALL: 'C.UTF-8',
      COLUMNS: '1',
      LINES: '0',
      OPTIND: '9',
      ...{ SECONDS: '-5', RANDOM: 'x', EPOCHSECONDS: 'x', HOSTNAME: '$(touch ran)', TMOUT: '1', EXECIGNORE: '*' },
      ...{ BASH_XTRACEFD: '1', BASH_COMPAT: '31', GREP_OPTIONS: '-v', LS_COLORS: 'x', OD: 'x', POSIX: 'x' },
    };
    const [laptop] = await pairedAgents(env);
    expectTalk(await laptop.shell(TALK, [], { env }).ended);
    // BASH_ENV is read by every bash that the caller starts, and would be by its own shell: ours has nothing of it.
    const { stdout, stderr, status } = await laptop.start(
      BASH,
      ['-c', `. "$0"; BASH_ENV=${trap} agentalk_say 'to all'; BASH_ENV=${trap} agentalk_wait 0`, laptop.sessionFile],
      { env },
    ).ended;
    assert.equal(status, 0, stdout + stderr);
    assert.match(stdout, /^agentalk: sent/m);
    assert.doesNotMatch(stdout + stderr, /hijacked/);
    assert.ok(!existsSync(join(laptop.home, 'ran')));
  });

  test('exported functions named like our tools and our own functions', async () => {
    const names =
      'curl openssl printf cat test [ cd read od sed tr mv rm mkdir ln say fail main request commit unset exec local set trap umask command builtin eval exit return'.split(
        ' ',
      );
    const env = Object.fromEntries(names.map((name) => [`BASH_FUNC_${name}%%`, '() { echo hijacked; touch ran; }']));
    const [laptop] = await pairedAgents();
    // The shell of the caller is told to forget them: it would use them itself, before anything of ours runs.
    const inner = TALK.replaceAll('\n', '; ');
    const { stdout } = await laptop.start(BASH, ['-p', '-c', `. "$0"; ${inner}`, laptop.sessionFile], { env }).ended;
    assert.equal(stdout.match(/^agentalk: sent/gm)?.length, 4, stdout);
    assert.doesNotMatch(stdout, /hijacked/);
    assert.ok(!existsSync(join(laptop.home, 'ran')));
  });

  test('a curlrc in CURL_HOME, the home and XDG_CONFIG_HOME', async () => {
    const folder = makeFolder();
    const stolen = join(folder, 'stolen');
    const config = `trace-ascii = "${stolen}"\nuser-agent = "hijacked"\nproxy = "http://127.0.0.1:9"\noutput = "${stolen}.out"\nverbose\n`;
    for (const name of ['.curlrc', 'curlrc', '_curlrc']) writeFileSync(join(folder, name), config);
    const env = { CURL_HOME: folder, HOME: folder, XDG_CONFIG_HOME: folder };
    const [laptop] = await pairedAgents(env);
    expectTalk(await laptop.shell(TALK, [], { env }).ended);
    assert.ok(!existsSync(stolen) && !existsSync(`${stolen}.out`));
  });

  test('proxy variables are honoured, and NO_PROXY too', async () => {
    const [laptop] = await pairedAgents();
    const dead = 'http://127.0.0.1:9';
    const say = async (env: Record<string, string>) => (await laptop.shell('agentalk_who', [], { env }).ended).status;
    assert.equal(await say({ http_proxy: dead }), 1);
    assert.equal(await say({ all_proxy: dead }), 1);
    assert.equal(await say({ http_proxy: dead, no_proxy: '127.0.0.1' }), 0);
  });

  test('an OPENSSL_CONF that is nonsense, is missing, or loads what it should not', async () => {
    const folder = makeFolder();
    const path = (name: string) => join(folder, name);
    writeFileSync(path('nonsense'), '\0\u0001[[[= not a configuration\n');
    writeFileSync(
      path('engine'),
      `openssl_conf = a\n[a]\nproviders = p\nengines = e\n[p]\nevil = v\n[v]\nmodule = ${path('evil.so')}\nactivate = 1\n[e]\nevil = w\n[w]\ndynamic_path = ${path('evil.so')}\n`,
    );
    writeFileSync(path('none'), 'openssl_conf = a\n[a]\nproviders = p\n[p]\nbase = b\n[b]\nactivate = 1\n');
    const [laptop, server] = await pairedAgents();
    for (const name of ['nonsense', 'engine', 'none', 'missing']) {
      const env = { OPENSSL_CONF: path(name) };
      const { stdout, stderr } = await laptop.shell('agentalk_say "$1"', [name], { env }).ended;
      // It works, or it says so and sends nothing: never something that is not sealed.
      assert.equal(stderr.replace(/^agentalk: (error|hint): .*\n/gm, ''), '');
      if (/^agentalk: sent/m.test(stdout)) await server.waitForOutput(new RegExp(`\\| ${name}$`, 'm'));
    }
    await laptop.pipe('in the end');
    const heard = await server.waitForOutput(/\| in the end/);
    assert.doesNotMatch(heard, /TAMPERED/);
  });
});

/** What a shell can tell of itself, but for what each call changes by its nature. */
const STATES: Readonly<Record<string, string>> = {
  bash: '{ set; set +o; shopt -p; trap -p; alias; pwd; umask; ulimit -a; times >/dev/null; jobs; } 2>&1',
  zsh: '{ set; set -o; setopt; trap; alias; pwd; umask; jobs; } 2>&1',
  dash: '{ set; set -o; trap; alias; pwd; umask; jobs; } 2>&1',
  ksh: '{ set; set -o; trap; alias; pwd; umask; jobs; } 2>&1',
};
const VOLATILE =
  /^(_|RANDOM|SECONDS|EPOCHSECONDS|EPOCHREALTIME|LINENO|PPID|BASHPID|SRANDOM|BASH_[A-Z]+|FUNCNAME|PIPESTATUS|pipestatus|status|\?|TTYIDLE|KSH_[A-Z]+|\.sh\..*|sh\..*|before|after|zsh_eval_context|funcstack|ZSH_[A-Z]+|COLUMNS|LINES|argv|\*|@|#|historywords)=?/;
const steady = (text: string) =>
  text.split('\n').filter((line) => !VOLATILE.test(line) && !/^[A-Za-z]*=?\( *\)$/.test(line));

for (const shell of ['bash', 'zsh', 'dash', 'ksh'] as const) {
  describe(`the session file in ${shell}`, { skip: requirePrograms(shell) }, () => {
    const path = shell === 'bash' ? BASH : shell;

    test('leaves the shell of its caller as it was', async () => {
      const [laptop] = await pairedAgents({}, path);
      const state = STATES[shell] ?? '';
      const code = `umask 027; cd /; trap 'echo bye' EXIT; trap 'echo got' USR1; alias ll='ls -l'
. "$0"
agentalk_say first >/dev/null
${state} >"$1/before"
agentalk_say 'to all'; agentalk_dm server one two; printf x | agentalk_say; agentalk_wait 0; agentalk_who; agentalk_log
agentalk_show 1; agentalk_invite; agentalk_send_file agentalk; agentalk_dm nobody x; agentalk_show 99; true
${state} >"$1/after"
:`;
      const { stdout } = await laptop.start(path, ['-c', code, laptop.sessionFile, laptop.home]).ended;
      assert.match(stdout, /^agentalk: sent/m);
      assert.match(stdout, /bye\n$/);
      const [before, after] = ['before', 'after'].map((name) => readFileSync(join(laptop.home, name), 'latin1'));
      assert.ok((before ?? '').length > 500);
      assert.deepEqual(steady(after ?? ''), steady(before ?? ''));
    });

    test('makes nothing but its functions', async () => {
      const [laptop] = await pairedAgents({}, path);
      const state = STATES[shell] ?? '';
      const code = `${state} >"$1/before"; . "$0"; ${state} >"$1/after"`;
      const { stdout, stderr } = await laptop.start(path, ['-c', code, laptop.sessionFile, laptop.home]).ended;
      assert.equal(stdout + stderr, '');
      const [before, after] = ['before', 'after'].map((name) =>
        steady(readFileSync(join(laptop.home, name), 'latin1')),
      );
      const more = after?.filter((line) => !before?.includes(line)) ?? [];
      for (const line of more) assert.match(line, /agentalk|^[\s{}]*$|printf|\bif\b|\belse\b|\bfi\b|shift/, line);
    });

    test('aliases and functions of the caller named like our tools change nothing', async () => {
      const [laptop] = await pairedAgents({}, path);
      const names = [
        'curl',
        'openssl',
        'cat',
        'fold',
        'sed',
        'tr',
        'mv',
        'rm',
        'ln',
        'mkdir',
        'date',
        'uname',
        'wc',
        'sleep',
      ];
      const functions = names.map((name) => `${name}() { echo hijacked; }`).join('\n');
      const aliases = ['curl', 'openssl', 'cat', 'read', 'local', 'exec']
        .map((name) => `alias ${name}='echo hijacked'`)
        .join('\n');
      const shopt = shell === 'bash' ? 'shopt -s expand_aliases' : ':';
      const code = `${shopt}\n${functions}\n. "$0"\n${TALK}`;
      expectTalk(await laptop.start(path, ['-c', code, laptop.sessionFile]).ended);
      expectTalk(await laptop.start(path, ['-c', `${shopt}\n${aliases}\n. "$0"\n${TALK}`, laptop.sessionFile]).ended);
    });

    test('set -e -u -f -x and noclobber: nothing breaks, and nothing leaks by -x', async () => {
      const [laptop] = await pairedAgents({}, path);
      const secrets = readFileSync(join(laptop.folder, 'session'), 'utf8').match(/\b[0-9a-f]{64}\b/g) ?? [];
      assert.ok(secrets.length >= 3);
      const code = `set -e -u -f -C -x\n. "$0"\n${TALK.replace('agentalk_invite; ', '')}\necho "on $?"`;
      const result = await laptop.start(path, ['-c', code, laptop.sessionFile]).ended;
      expectTalk(result, false);
      assert.match(result.stdout, /^on 0$/m);
      assert.match(result.stderr, /agentalk_say/); // it was traced
      for (const secret of secrets) assert.ok(!(result.stdout + result.stderr).includes(secret));
    });

    if (shell !== 'bash') return;
    test('set -x exported with SHELLOPTS leaks nothing either', async () => {
      const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
      const env = { SHELLOPTS: 'xtrace:verbose', BASH_XTRACEFD: '2' };
      await laptop.create(bridge.url);
      const joined = await server.run(['join', '-', '--name', 'server'], { env, input: laptop.link });
      expectSuccess(joined);
      const said = expectSuccess(await server.shell('agentalk_say x; agentalk_wait 0', [], { env }).ended);
      const output = joined.stdout + joined.stderr + said.stdout + said.stderr;
      const own = readFileSync(join(server.folder, 'session'), 'utf8').match(/\b[0-9a-f]{64}\b/g) ?? [];
      for (const secret of [laptop.key, ...own]) assert.ok(!output.includes(secret), 'a secret in the trace');
    });
  });
}
