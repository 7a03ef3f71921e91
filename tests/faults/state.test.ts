/** What an attacker of the session's folder tries: copies, snapshots, disks that are full, few descriptors, containers. */
import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { requirePrograms } from '../lib/require-programs.ts';
import { Processes, until } from './processes.ts';
import type { Home, Session } from './processes.ts';
import { checkInbox, readLog, readState } from './session-reader.ts';

async function open(t: TestContext, homes: (processes: Processes) => Record<string, Home> = () => ({})) {
  const processes = new Processes('state');
  t.after(() => processes.close());
  const bridge = await processes.bridge();
  const sessions = await processes.startSessions(['ada', 'bob'], () => bridge.url, homes(processes));
  return { processes, bridge, ada: sessions[0] as Session, bob: sessions[1] as Session };
}

/** As `cp -a` does: with times, owners and links. */
function copy(from: string, to: string): number {
  return spawnSync('cp', ['-a', from, to]).status ?? 1;
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const types = ({ folder }: Session, ...wanted: string[]) => readLog(folder).filter(({ type }) => wanted.includes(type));
const heard = ({ folder }: Session) =>
  checkInbox(folder).flatMap(({ type, body }) => (type === 'msg' ? [body?.toString()] : []));

/** Until bob has heard these words. */
async function hears(bob: Session, ...words: readonly string[]): Promise<string> {
  let output = '';
  await until(words.join(', '), 40, async () => {
    output += await bob.wait(1);
    return words.every((each) => heard(bob).includes(each)) || undefined;
  });
  return output;
}

describe('a copy of a session', { concurrency: 3 }, () => {
  test('that is restored in its place begins anew, and all that it says comes', async (t) => {
    const { processes, ada, bob } = await open(t);
    const snapshot = join(processes.folder, 'snapshot');
    await ada.say('before');
    await pause(1100); // a copy that is made in the second of its session's making is not told from it
    copy(ada.home, snapshot);
    await ada.say('after the snapshot');
    await ada.dm('bob', 'to bob, after the snapshot');
    await hears(bob, 'after the snapshot', 'to bob, after the snapshot');
    for (let i = 1; i <= 2; i++) {
      rmSync(ada.home, { recursive: true });
      copy(snapshot, ada.home);
      const said = await ada.say(`restored ${i}`);
      assert.match(said, /^agentalk: RESTORED[^]*^agentalk: sent/m);
      assert.match(await ada.wait(1), /^(?![^]*RESTORED)[^]*(PAIRED|no news)/, 'it is told once');
      await ada.say(`restored ${i}, and on`);
      const output = await hears(bob, `restored ${i}`, `restored ${i}, and on`);
      assert.match(output, new RegExp(`^agentalk: NEW ada~${i + 1}`, 'm'));
      await ada.wait(3);
      assert.match(await ada.dm('bob', `direct ${i}`), /^agentalk: sent/m);
      await hears(bob, `direct ${i}`);
      await pause(1100);
    }
    assert.deepEqual(types(bob, 'tampered', 'malformed', 'missed'), []);
  });

  test('that lives beside it takes nothing from it: the words of both come', async (t) => {
    const { processes, ada, bob } = await open(t);
    await ada.say('before');
    await pause(1100);
    const other = join(processes.folder, 'other');
    copy(ada.home, other);
    const twin = processes.session('ada', { path: other, seen: other, inside: [] });
    assert.match(await twin.say('from the copy'), /^agentalk: RESTORED/m);
    await ada.say('from the original');
    await twin.say('from the copy again');
    await hears(bob, 'before', 'from the copy', 'from the original', 'from the copy again');
    assert.deepEqual(types(bob, 'tampered', 'malformed', 'missed'), []);
  });

  test('that only others and the bridge can tell of begins anew, too', async (t) => {
    const { processes, ada, bob } = await open(t);
    const snapshot = join(processes.folder, 'snapshot');
    await ada.say('before');
    await hears(bob, 'before');
    await ada.wait(1);
    copy(ada.folder, snapshot);
    // A machine that goes back to a snapshot: each file is as it was, its times, too.
    const goBack = () => {
      for (const name of readdirSync(ada.folder).filter((each) => each !== 'keys')) {
        rmSync(join(ada.folder, name), { recursive: true });
        copy(join(snapshot, name), join(ada.folder, name));
      }
    };
    await ada.say('two');
    await ada.say('three');
    await hears(bob, 'two', 'three');
    await bob.say('I have them');
    goBack();
    const output = await ada.wait(5); // bob's words name what this session has never said
    assert.match(output, /^agentalk: RESTORED/m);
    await ada.say('anew');
    await hears(bob, 'anew');
    assert.deepEqual(types(bob, 'tampered'), []);

    // Nobody acknowledges, but the bridge says how far this session has fetched.
    await pause(3000);
    await ada.wait(3);
    rmSync(snapshot, { recursive: true });
    copy(ada.folder, snapshot);
    await bob.say('something to fetch');
    await ada.wait(3);
    await ada.wait(0);
    goBack();
    const { fields } = readState(ada.folder);
    const commit = readdirSync(join(ada.folder, 'state')).filter((name) => name.startsWith('commit.'));
    for (const name of commit) {
      // As if it had restarted an hour ago, since nobody's word makes it do so more often.
      const path = join(ada.folder, 'state', name);
      writeFileSync(path, readFileSync(path, 'latin1').replaceAll(` ${fields['STARTED_OVER']} `, ' 1 '), 'latin1');
    }
    await pause(7000);
    assert.match(await ada.say('once more'), /^agentalk: RESTORED/m);
    await hears(bob, 'once more');
    assert.deepEqual(types(bob, 'tampered'), []);
  });

  test('that is taken while calls run works as a copy, or says that it is damaged', async (t) => {
    const { processes, ada, bob } = await open(t);
    const listener = await ada.listening();
    await pause(1100);
    const said: string[] = [];
    let isOver = false;
    const speaking = (async () => {
      for (let i = 1; !isOver; i++) {
        await Promise.all([ada.say(`ada ${i}`), bob.say(`bob ${i}`)]);
        said.push(`ada ${i}`);
      }
    })();
    const copies: string[] = [];
    for (let i = 0; i < 12; i++) {
      const path = join(processes.folder, `copy${i}`);
      copy(ada.home, path);
      copies.push(path);
      await pause(137);
    }
    isOver = true;
    await speaking;
    await listener.kill('SIGTERM');
    let working = 0;
    for (const [i, path] of copies.entries()) {
      const twin = processes.session('ada', { path, seen: path, inside: [] });
      const call = twin.start(['say', `from copy ${i}`]);
      const status = await call.closed;
      if (status === 0) {
        working++;
        assert.match(call.output, /^agentalk: RESTORED/m);
        said.push(`from copy ${i}`);
      } else assert.match(call.output, /is damaged/);
    }
    t.diagnostic(`${working} of ${copies.length} copies work`);
    assert(working > 0);
    await hears(bob, ...said);
    assert.deepEqual(types(bob, 'tampered', 'malformed'), []);
  });
});

describe('a machine that lacks something', { concurrency: 3 }, () => {
  test('the disk is full at any write: the call says so, and nothing is lost, doubled or half-done', async (t) => {
    const { ada, bob } = await open(t);
    // The n-th write puts down a half of what it should, or is refused.
    const code = `
      WRITES=0
      is_full() { ((++WRITES == \${AGENTALK_FULL_AT:-0})); }
      write_half() { printf %s "\${2:0:\${#2}/2}" >"$1"; die_disk; }
      write_file() { ! is_full || write_half "$1" "$2"; printf %s "$2" >"$1" || die_disk; }
      write_body() { ! is_full || write_half "$1" "$2"; { printf %s "$2" && print_body; } >"$1" || die_disk; }
      write_same() { ! is_full || { printf %s "\${2:0:\${#2}/2}" 1<>"$1"; die_disk; }; printf %s "$2" 1<>"$1" || die_disk; }
      append_file() { ! is_full || { printf %s "\${2:0:\${#2}/2}" >>"$1"; return 1; }; printf %s "$2" >>"$1"; }
      rename() { ! is_full && "$RUN_mv" -f "$1" "$2"; }`;
    ada.instrument(code);
    bob.instrument(code);
    let output = '';
    // To all and to one the same step is another write: each of them meets each.
    for (let at = 1, isDirect = false; ; isDirect = !isDirect, at += isDirect ? 0 : 1) {
      const env = { AGENTALK_FULL_AT: String(at) };
      const text = `full at write ${at}, ${isDirect ? 'direct' : 'to all'}`;
      const words = isDirect ? ['dm', 'bob', text] : ['say', text];
      const saying = ada.start(words, '', { env });
      const said = await saying.closed;
      if (said !== 0) {
        assert.match(saying.output, /error: can't write in .*\n.*disk full/);
        await pause(500); // a call removes its files after its end
      }
      const isStored = readLog(ada.folder).some(({ type, body }) => type === 'said' && body?.toString() === text);
      if (!isStored) await ada.run(words);
      else await ada.wait(0);
      const waiting = bob.start(['wait', '2'], '', { env });
      const waited = await waiting.closed;
      if (waited !== 0) assert.match(waiting.output, /error: can't write in .*\n.*disk full/);
      output += waiting.output;
      if (said === 0 && waited === 0 && isDirect) break;
      output += await bob.wait(0);
    }
    output += await hears(
      bob,
      ...readLog(ada.folder).flatMap(({ type, body }) => (type === 'said' ? [`${body?.toString()}`] : [])),
    );
    const said = readLog(ada.folder).filter(({ type }) => type === 'said');
    t.diagnostic(`${said.length - 1} writes`);
    assert(said.length > 10);
    assert.equal(heard(bob).length, said.length);
    const lines = output.match(/^agentalk: #\d+/gm) ?? [];
    assert.equal(new Set(lines).size, lines.length, 'none is printed twice without saying so');
  });

  test('eight file descriptors are enough', async (t) => {
    const few = (processes: Processes): Record<string, Home> =>
      Object.fromEntries(
        ['ada', 'bob'].map((name) => {
          const path = join(processes.folder, name);
          return [name, { path, seen: path, inside: ['bash', '-c', 'ulimit -n 8; exec "$@"', 'bash'] }];
        }),
      );
    const { processes, ada, bob } = await open(t, few);
    const file = join(processes.folder, 'file.bin');
    writeFileSync(file, Buffer.alloc(3_000_000, 7));
    await ada.say('one');
    await ada.dm('bob', 'two');
    await ada.run(['send_file', file]);
    await hears(bob, 'one', 'two');
    await until('the file', 30, async () => (await bob.wait(1), types(bob, 'file').length === 1 || undefined));
    assert.deepEqual(types(bob, 'file')[0]?.body, readFileSync(file));
    assert.match(await bob.run(['leave']), /^agentalk: left/m);
  });

  test(
    'calls in containers of their own, which do not see each other: each message is printed once',
    {
      skip: requirePrograms('unshare') || (process.getuid?.() !== 0 && 'needs root'),
    },
    async (t) => {
      const { ada, bob } = await open(t);
      const inside = ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'];
      const calls = [bob.start(['listen'], '', { inside }), bob.start(['listen'], '', { inside }), bob.listen()];
      await pause(500);
      for (let i = 1; i <= 12; i++) await ada.say(`message ${i}`);
      const lines = () => calls.flatMap(({ output }) => output.match(/^agentalk: .*#\d+ from ada/gm) ?? []);
      await until('all', 40, () => lines().length >= 12 || undefined);
      await pause(1000);
      assert.deepEqual(lines().sort(), Array.from({ length: 12 }, (_, i) => `agentalk: #${i + 1} from ada`).sort());
      assert.equal(heard(bob).length, 12);
    },
  );

  test(
    'a call in a container that is slow to print is not taken for one that has ended',
    {
      skip: requirePrograms('unshare') || (process.getuid?.() !== 0 && 'needs root'),
    },
    async (t) => {
      const { ada, bob } = await open(t);
      bob.printSlowly();
      await ada.say('one');
      // Its process has a number in there that no process outside has.
      let number = 600;
      while (existsSync(`/proc/${number}`) || existsSync(`/proc/${number + 1}`)) number += 7;
      const code = `while p=$(sh -c 'echo $$') && [ "$p" -lt ${number - 1} ]; do :; done; "$@"; exit $?`;
      const inside = ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child', 'bash', '-c', code, 'bash'];
      const slow = bob.start(['wait', '5'], '', { inside, env: { AGENTALK_SLOW: '3' } });
      await until('its commit', 30, () => heard(bob).length === 1 || undefined);
      const quick = await bob.wait(1);
      assert.equal(await slow.closed, 0);
      assert.match(slow.output, /^agentalk: #1 from ada/m);
      assert.doesNotMatch(quick, /#1 from ada/);
    },
  );

  test('a state whose head is gone, or whose commit is cut off, is told as damaged', async (t) => {
    const { processes, ada } = await open(t);
    for (const corrupt of [
      (folder: string) => readdirSync(folder).forEach((name) => name.startsWith('head.') && rmSync(join(folder, name))),
      (folder: string) =>
        readdirSync(folder).forEach((name) => {
          if (!name.startsWith('commit.')) return;
          const bytes = readFileSync(join(folder, name));
          writeFileSync(join(folder, name), bytes.subarray(0, bytes.length - 20));
        }),
    ]) {
      const path = join(processes.folder, `spoilt${corrupt.length}${Math.random()}`);
      cpSync(ada.home, path, { recursive: true });
      corrupt(join(path, 'agentalk-session-ada', 'state'));
      const twin = processes.session('ada', { path, seen: path, inside: [] });
      assert.match(await twin.run(['wait', '0'], '', 1), /is damaged/);
      assert(existsSync(join(path, 'agentalk-session-ada', 'session')));
    }
  });
});
