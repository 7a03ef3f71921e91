/** kill -9 at every step of the client, and the locks that the dead leave behind. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { CLIENT } from '../kit/shell.ts';
import { checkInbox, readLog } from './reader.ts';
import { Stage, until } from './stage.ts';
import type { Session } from './stage.ts';

/** A stage with these participants, paired; it ends with the test. */
async function cast(t: TestContext, ...names: readonly string[]) {
  const stage = new Stage('kill');
  t.after(() => stage.close());
  const bridge = await stage.bridge();
  return { stage, bridge, sessions: await stage.cast(names, () => bridge.url) };
}

/**
 * Puts a client into the session's folder that kills itself before its n-th command inside the functions named, n being
 * AGENTALK_KILL_AT; returns its path. $$ is the call itself, also in a subshell.
 */
function mortal(session: Session, functions: string): string {
  const path = join(session.folder, 'mortal.sh');
  const trap = `[[ " ${functions} " != *" \${FUNCNAME[0]:-none} "* ]] || ((++STEP != AGENTALK_KILL_AT)) || kill -9 $$`;
  const [before, behind, ...others] = readFileSync(CLIENT, 'utf8').split(/^(?=case \$\{1:-\} in$)/m);
  assert.ok(behind && others.length === 0, 'from there on, the client runs its command');
  writeFileSync(path, `${before}\nSTEP=0\nset -T\ntrap '${trap}' DEBUG\n${behind}`);
  return path;
}

/** What stands between two kills: as if the ten seconds had passed after which a silent lock is taken over. */
function ageLocks(session: Session): void {
  for (const name of readdirSync(session.folder).filter((file) => file.endsWith('.lock'))) {
    const path = join(session.folder, name);
    writeFileSync(path, readFileSync(path, 'utf8').replace(/ \d+\n/, ' 1\n'));
  }
}

const bodies = (session: Session, type: string) =>
  readLog(session.folder)
    .filter((entry) => entry.type === type)
    .map(({ body }) => body?.toString());

describe('kill -9', { concurrency: 3 }, () => {
  test('a sender killed between any two steps: neither lost nor doubled once its next call runs', async (t) => {
    const { sessions } = await cast(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    const script = mortal(
      ada,
      'take_text read_body enqueue last_of count whom make seal digits gcm_tag sign trim hand_over flush post sent set_sent request',
    );
    const whole: string[] = [];
    let kills = 0;
    for (let step = 1; whole.length < 2; step++) {
      const text = `said at step ${step}`;
      const to = step % 2 === 0 ? ['say'] : ['dm', 'bob'];
      const call = ada.start(to, text, { script, env: { AGENTALK_KILL_AT: String(step) } });
      const result = await call.ended;
      if (result === 0) whole.push(text);
      else kills++;
      assert(result === 0 || result === 'SIGKILL', `${result}: ${call.output}`);
      ageLocks(ada);
      if (step % 5 === 0) await ada.wait(0);
    }
    t.diagnostic(`killed at ${kills} steps`);
    assert(kills > 50, 'the kills must have hit the sending itself');
    await ada.wait(0);
    const said = bodies(ada, 'said');
    assert.equal(new Set(said).size, said.length, 'its own log has each once');
    for (const text of whole) assert(said.includes(text), text);
    const end = bob.wait(0);
    await end;
    await until('all', 60, async () => {
      if (bodies(bob, 'msg').length >= said.length) return true;
      await bob.wait(0);
      return undefined;
    });
    checkInbox(bob.folder);
    const odd = (text = '') => /[13579]$/.test(text);
    const heard = bodies(bob, 'msg');
    assert.deepEqual(heard.slice().sort(), said.slice().sort(), 'bob has what ada has said');
    assert.deepEqual(heard.filter(odd), said.filter(odd), 'direct ones in order');
    assert.deepEqual(
      heard.filter((text) => !odd(text)),
      said.filter((text) => !odd(text)),
      'broadcasts in order',
    );
  });

  test('a receiver killed at any step: inbox and log have each once; a line that comes again says so', async (t) => {
    const { sessions } = await cast(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    const script = mortal(
      bob,
      'step receive take_in message opened is_whole kept stream_row receipts turn act into_inbox assemble commit load holes release show_new shown record flush_all lock mine',
    );
    const lines: string[] = [];
    const said: string[] = [];
    let isWhole = false;
    // Early steps one by one; what comes after is much alike, so the stride grows.
    for (let step = 1; !isWhole; step += 1 + Math.floor(step / 30)) {
      said.push(`heard at step ${step}`);
      await ada.say(`heard at step ${step}`);
      const call = bob.start(['wait', '1'], '', { script, env: { AGENTALK_KILL_AT: String(step) } });
      const result = await call.closed;
      lines.push(call.output);
      isWhole = result === 0;
      assert(isWhole || result === 'SIGKILL', `${result}: ${call.output}`);
      ageLocks(bob);
      lines.push(await bob.wait(0));
    }
    t.diagnostic(`killed ${said.length - 1} times`);
    assert(said.length > 50);
    checkInbox(bob.folder);
    assert.deepEqual(bodies(bob, 'msg'), said);
    const printed = lines.join('').match(/^agentalk: (\(again\) )?#\d+ from ada/gm) ?? [];
    const plain = printed.filter((line) => !line.includes('(again)'));
    assert.equal(new Set(plain).size, plain.length, 'none comes a second time without saying so');
    const numbers = new Set(printed.map((line) => /#(\d+)/.exec(line)?.[1]));
    assert.equal(numbers.size, said.length, 'each is printed');
  });

  test('what a killed receiver wrote half is not taken for whole', async (t) => {
    const { sessions } = await cast(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    const text = 'all of it\n'.repeat(1000);
    await ada.say(text);
    await bob.wait(10);
    const [first = ''] = readdirSync(join(bob.folder, 'in')).filter((name) => /-all-\d+$/.test(name));
    const [, stream, number] = /^(.*-all-)(\d+)$/.exec(first) ?? [];
    const kept = readFileSync(join(bob.folder, 'in', first));

    // A text that was committed, and a frame that was not: cut off anywhere, or empty.
    for (const [i, length] of [0, 1, 30, 4096, kept.length - 1].entries()) {
      const inbox = join(bob.folder, 'inbox', '1-ada.txt');
      writeFileSync(inbox, text.slice(0, length));
      assert.match(await bob.run(['show', '1']), /^agentalk: #1 from ada to all, 10000 bytes/);
      assert.equal(readFileSync(inbox, 'utf8'), text);
      writeFileSync(join(bob.folder, 'in', `${stream}${Number(number) + 1 + i}`), kept.subarray(0, length));
      await ada.say(text);
      assert.match(await bob.wait(10), new RegExp(`^agentalk: #${i + 2} from ada to all, 10000 bytes`));
    }
    checkInbox(bob.folder);
    assert.deepEqual(bodies(bob, 'msg'), Array(6).fill(text));
  });

  test('the lock of a listener that was killed is taken over within seconds', async (t) => {
    const { sessions } = await cast(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    const listener = bob.listen();
    await listener.says('listening');
    await until('its lock', 10, () => existsSync(join(bob.folder, 'receive.lock')) || undefined);
    await listener.kill();
    const next = bob.start(['wait', '30']);
    await ada.say('is anybody there?');
    const begun = Date.now();
    await next.says('#1 from ada', 16);
    assert(Date.now() - begun < 16_000);
    assert.equal(await next.ended, 0);
  });

  test('a frozen listener is replaced, and does no harm when it wakes', async (t) => {
    const { sessions } = await cast(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    const frozen = bob.listen();
    await frozen.says('listening');
    await ada.say('one');
    await frozen.says('#1 from ada');
    frozen.signal('SIGSTOP');
    const second = bob.listen();
    await ada.say('two');
    await second.says('#2 from ada', 20);
    frozen.signal('SIGCONT');
    for (const text of ['three', 'four', 'five']) await ada.say(text);
    await until('all', 20, () => /#5 from/.test(frozen.output + second.output) || undefined);
    checkInbox(bob.folder);
    assert.deepEqual(bodies(bob, 'msg'), ['one', 'two', 'three', 'four', 'five']);
    // One that was frozen while it printed may come a second time, and then says so.
    const numbers = (frozen.output + second.output).match(/(?<!\(again\) )#\d from ada/g) ?? [];
    assert.deepEqual(
      numbers.sort(),
      [1, 2, 3, 4, 5].map((n) => `#${n} from ada`),
      'each printed once by one of the two',
    );
  });

  test('listen, wait and a second listen at the same time: one receives, the others say so or follow', async (t) => {
    const { sessions } = await cast(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    const first = bob.listen();
    await first.says('listening');
    await until('its lock', 10, () => existsSync(join(bob.folder, 'receive.lock')) || undefined);
    const second = bob.listen();
    await second.says('another call of this session receives already');
    const waiting = bob.start(['wait', '20']);
    for (let i = 1; i <= 9; i++) await ada.say(`message ${i}`);
    const all = () => first.output + second.output + waiting.output;
    await until('all', 20, () => /#9 from/.test(all()) || undefined);
    const numbers = all().match(/#\d from ada/g) ?? [];
    assert.deepEqual(
      numbers.sort(),
      Array.from({ length: 9 }, (_, i) => `#${i + 1} from ada`),
    );
    checkInbox(bob.folder);
  });

  test('what the killed have left is swept away; a listener ends when its session leaves', async (t) => {
    const { stage, sessions } = await cast(t, 'ada', 'bob');
    const [ada] = sessions as [Session, Session];
    const killed = ada.listen();
    await killed.says('listening');
    await killed.kill();
    assert.notDeepEqual(ada.temporary, []);
    for (const left of ada.temporary) {
      // As if it had begun an hour ago.
      const older = left.replace(/^\d+/, (at) => String(Number(at) - 3600));
      renameSync(join(ada.folder, 'tmp', left), join(ada.folder, 'tmp', older));
    }
    ageLocks(ada);
    await ada.wait(0);
    await until('no temporary file', 10, () => ada.temporary.length === 0 || undefined);
    const listener = ada.listen();
    await listener.says('listening');
    await ada.run(['leave']);
    await until('its end', 40, () => listener.result !== undefined || undefined);
    await until('no temporary file', 10, () => ada.temporary.length === 0 || undefined);
    await until('no process', 10, () => stage.leftovers().length === 0 || undefined);
  });
});
