/** The session file in each shell that an agent may have, on a PATH with curl, openssl and POSIX tools alone. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { requirePrograms } from '../lib/require-programs.ts';
import { Agent, BASH, POSIX_TOOLS, expectSuccess, makeFolder, pair, polling, toolFolder } from '../lib/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

/** As the whole PATH: what POSIX has, curl and openssl, and no bash even. */
const PATH = toolFolder(['curl', 'openssl', ...POSIX_TOOLS]);
const AWKWARD = `it's "quoted" \`id\` $(id) $HOME \\n \\\\ 100% {a,b} * ~ ! # & ; | < >\n\n\tend `;

for (const [name, shell] of [
  ['bash', BASH],
  ['zsh', 'zsh'],
  ['dash', 'dash'],
  ['ksh', 'ksh'],
] as const) {
  describe(name, { skip: requirePrograms(shell) }, () => {
    const agent = (who: string) => new Agent({ name: who, shell, env: { PATH } });
    const [laptop, server] = [agent('laptop'), agent('server')];
    let count = 0;
    /** What the server has got since it was last asked. */
    const got = async (more: number): Promise<string[]> => {
      await server.waitForOutput(new RegExp(`#${count + more} from laptop`));
      count += more;
      return server
        .inbox()
        .slice(count - more)
        .map(({ bytes }) => bytes.toString());
    };

    before(() => pair(bridge.url, laptop, server));

    test('all functions', async () => {
      assert.match((await laptop.call('say', AWKWARD)).stdout, /sent/);
      assert.match((await laptop.call('dm', 'server', AWKWARD, 'and more')).stdout, /sent/);
      assert.match((await laptop.pipe(AWKWARD)).stdout, /sent/);
      assert.match((await laptop.pipe(AWKWARD, 'dm', 'server')).stdout, /sent/);
      writeFileSync(join(laptop.home, 'a file'), AWKWARD);
      assert.match((await laptop.call('send_file', 'a file')).stdout, /sent/);
      await server.waitForOutput(/FILE #5 from laptop/);
      assert.deepEqual(
        server.inbox().map(({ bytes }) => bytes.toString()),
        [AWKWARD, `${AWKWARD} and more`, AWKWARD, AWKWARD, AWKWARD],
      );
      count = 5;
      assert.match((await server.call('show', '2')).stdout, /#2 from laptop to you alone/);
      assert.match((await server.call('log')).stdout, /#1 from laptop[^]*#4 from laptop/);
      assert.match((await laptop.call('who')).stdout, /server/);
      assert.ok((await laptop.call('invite')).stdout.includes(laptop.link));
      assert.equal((await laptop.call('wait', '0')).stderr, '');
    });

    test('an argument of any length up to the limit', async () => {
      const [half, limit] = ['ä'.repeat(29_999), 'ä'.repeat(32_768)];
      expectSuccess(await laptop.call('say', half));
      expectSuccess(await laptop.call('dm', 'server', limit));
      assert.deepEqual(await got(2), [half, limit]);
      for (const [text, error] of [
        [`${limit}.`, /error: a message has at most 65536 bytes/],
        ['', /error: nothing to say/],
      ] as const) {
        assert.match((await laptop.begin('say', text).ended).stderr, error);
        assert.match((await laptop.begin('dm', 'server', text).ended).stderr, error);
      }
    });

    test('here-documents', async () => {
      const text = `${AWKWARD}\nEN D\n`;
      for (const command of ['say', 'dm server']) {
        expectSuccess(await laptop.shell(`agentalk_${command} <<'END'\n${text}END\n`).ended);
      }
      assert.deepEqual(await got(2), [text, text]);
    });

    test('a caller with set -eu goes on after each call, and ends at one that fails', async () => {
      const code = `agentalk_say strict; agentalk_dm server strict too; printf piped | agentalk_say
        agentalk_wait 0; agentalk_who; agentalk_log >/dev/null; agentalk_invite >/dev/null; echo "on $?"`;
      const strict = (what: string) => laptop.start(shell, ['-euc', `. "$0"; ${what}`, laptop.sessionFile]).ended;
      assert.match(expectSuccess(await strict(code)).stdout, /^on 0$/m);
      assert.deepEqual(await got(3), ['strict', 'strict too', 'piped']);
      const { status, stdout } = await strict('agentalk_dm nobody text; echo on');
      assert.deepEqual([status, stdout], [1, '']);
    });

    test('a caller with hostile habits', async () => {
      const env = {
        IFS: 'agentlk_/ -',
        CDPATH: '/:/tmp',
        GREP_OPTIONS: '--color=always',
        LC_ALL: 'tr_TR.UTF-8',
        BASH_ENV: join(laptop.home, 'trap.sh'),
        ENV: join(laptop.home, 'trap.sh'),
        'BASH_FUNC_curl%%': '() { echo hijacked; }',
        ...{
          SESSION: 'x',
          KEY: 'x',
          ID: 'x',
          TMP: '/nonexistent',
          PEERS: 'a[$(touch ran)]',
          SPEED: '0',
          NOW: 'a[$(touch ran)]',
        },
        ...{
          AGENTALK_URL: 'http://127.0.0.1:1',
          AGENTALK_INTERNAL_PASS: 'x',
          AGENTALK_INTERNAL_LINK: 'x',
          OPENSSL_CONF: '/nonexistent',
        },
      };
      writeFileSync(join(laptop.home, 'trap.sh'), 'printf() { echo hijacked; }\n');
      expectSuccess(await laptop.shell('IFS=ax; agentalk_say a b c', [], { env }).ended);
      assert.match((await got(1))[0] ?? '', /^a.b.c$/);
      assert.ok(!existsSync(join(laptop.home, 'ran')));
    });

    test('leaving, while the other listens', async () => {
      const listening = server.begin('listen');
      await polling(bridge.url, 1);
      assert.match((await laptop.call('leave')).stdout, /left/);
      await listening.line(/LEFT laptop/);
      await listening.end();
    });
  });
}

test('a session in folders with awkward names', async () => {
  for (const name of [`it's "quoted" $HOME \`id\` $(id) 100%s* {a,b} [x] \\ ~ & ünï`, '-dash']) {
    const home = join(makeFolder(), name);
    mkdirSync(home);
    const laptop = new Agent({ name: 'laptop', home });
    await laptop.create(bridge.url);
    for (const shell of [BASH, 'dash']) {
      assert.match(expectSuccess(await laptop.shell('agentalk_say x', [], { shell }).ended).stdout, /sent/, shell);
    }
    // The command that it says is next is one to be pasted.
    const { stdout } = await laptop.call('wait', '0');
    const code = /(?<=: )\.\/agentalk (?=wait$)/m.exec(stdout)?.[0] + 'say x';
    assert.match(expectSuccess(await laptop.start(BASH, ['-c', code]).ended).stdout, /sent/, code);
  }
});

test('an executable in a folder whose name has a line break and code', async () => {
  const home = join(makeFolder(), 'line\nbreak a[$(touch ran)]=\nNAME a[$(touch ran)]');
  mkdirSync(home);
  const laptop = new Agent({ name: 'laptop', home, env: { AGENTALK_HOME: makeFolder() } });
  await laptop.create(bridge.url);
  assert.match(expectSuccess(await laptop.run(['say', 'x'])).stdout, /sent/);
  assert.match(expectSuccess(await laptop.run(['sessions'])).stdout, /^agentalk: laptop, made/);
  expectSuccess(await laptop.run(['leave']));
  assert.match(expectSuccess(await laptop.run(['sessions'])).stdout, /^agentalk: laptop has left/);
  assert.deepEqual(readdirSync(home), ['agentalk']);
});

test('the session file works after its agent has left, and runs nothing of who makes its folder anew', async () => {
  const laptop = new Agent({ name: 'laptop', shell: BASH });
  await laptop.create(bridge.url);
  await laptop.call('leave');
  rmSync(laptop.folder, { recursive: true });
  const { status, stdout } = await laptop.begin('say', 'x').ended;
  assert.deepEqual([status !== 0, stdout], [true, '']);
});

test('a relative AGENTALK_HOME, and one that is not there yet', async () => {
  const laptop = new Agent({ name: 'laptop', env: { AGENTALK_HOME: 'new/home' } });
  await laptop.create(bridge.url);
  const file = join(laptop.home, 'new', 'home', 'agentalk-session-laptop.env');
  const { status, stderr } = await laptop.start(BASH, ['-c', '. "$0"; agentalk_say x', file], { cwd: '/' }).ended;
  assert.deepEqual([status, stderr], [0, '']);
});

test('the session file holds no secret', async () => {
  const laptop = new Agent({ name: 'laptop' });
  await laptop.create(bridge.url);
  assert.doesNotMatch(readFileSync(laptop.sessionFile, 'utf8'), /[0-9a-f]{32}/);
});
