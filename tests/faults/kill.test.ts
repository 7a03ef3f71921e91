/** A call of the client that is killed, ended or frozen at any of its steps; several calls of one session at a time. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { Processes, until } from './processes.ts';
import type { Running, Session } from './processes.ts';
import { checkInbox, readLog } from './session-reader.ts';

/** Participants that are paired; they end with the test. */
async function startSessions(t: TestContext, ...names: readonly string[]) {
  const processes = new Processes('kill');
  t.after(() => processes.close());
  const bridge = await processes.bridge();
  return { processes, bridge, sessions: await processes.startSessions(names, () => bridge.url) };
}

type Signal = 'KILL' | 'TERM' | 'STOP';

/**
 * Changes the session's own client, so that it can send itself a signal before its n-th command inside the functions
 * named; returns the environment that makes it do so. $$ is the call itself, also in a subshell.
 */
function signalAtStep(session: Session, functions: string, signal: Signal): (step: number) => NodeJS.ProcessEnv {
  const trap = `[[ " ${functions} " != *" \${FUNCNAME[0]:-none} "* ]] || ((++STEP != AGENTALK_SIGNAL_AT)) || kill -${signal} $$`;
  const source = readFileSync(join(session.folder, 'agentalk.sh'), 'utf8');
  for (const name of functions.split(' ')) assert(source.includes(`\n${name}() {`), `the client has ${name}`);
  session.instrument(`if [ -n "\${AGENTALK_SIGNAL_AT:-}" ]; then\nSTEP=0\nset -T\ntrap '${trap}' DEBUG\nfi`);
  return (step) => ({ AGENTALK_SIGNAL_AT: String(step) });
}

const SENDING =
  'read_text queue_message seen_header seal_message seal ecdsa_sign write_body new_temp add_move commit_state finish ' +
  'rename send_queued is_owed read_outbox_line read_outbox post request http_request send_controls send_and_report clean_up';
const RECEIVING =
  'wait_for_news poll_or_yield lock poll watch_polls apply_answer apply_event on_message prove on_headers on_content deliver add_digest ' +
  'add_record add_move commit_state finish rename write_file write_same print_new claim_printer holds_printer format_record ' +
  'note_shown print send_queued send_controls clean_up';

/**
 * Each third step, from another one each day; each one in the weekly workflow. An odd stride, because even steps do
 * something else than odd ones. What comes after the first steps is much alike, so the stride grows.
 */
const isThorough = process.env['AGENTALK_TEST_EACH_STEP'] !== undefined;
const FIRST_STEP = isThorough ? 1 : 1 + (Math.floor(Date.now() / 86_400_000) % 3);
const next = (step: number, growth: number) => step + (isThorough ? 1 : 3) + 2 * Math.floor(step / growth);

const bodies = (session: Session, type: string) =>
  readLog(session.folder)
    .filter((entry) => entry.type === type)
    .map(({ body }) => body?.toString());

/** Lines with a message of ada in what calls printed: how often each came, and how often without being marked. */
function printed(output: string): { times: Map<string, number>; unmarked: Map<string, number> } {
  const times = new Map<string, number>();
  const unmarked = new Map<string, number>();
  for (const [, mark, number = ''] of output.matchAll(/^agentalk: (\(perhaps again\) )?#(\d+) from ada/gm)) {
    times.set(number, (times.get(number) ?? 0) + 1);
    if (mark === undefined) unmarked.set(number, (unmarked.get(number) ?? 0) + 1);
  }
  return { times, unmarked };
}

const moreThanOnce = (counts: ReadonlyMap<string, number>) => [...counts].filter(([, count]) => count > 1);

/** Waits until bob has what ada has said, and checks it: each once, in order. */
async function checkSame(ada: Session, bob: Session): Promise<string> {
  let output = '';
  await ada.wait(0);
  const said = readLog(ada.folder).filter(({ type }) => type === 'said');
  await until('all', 60, async () => {
    output += await bob.wait(0);
    return bodies(bob, 'msg').length >= said.length || undefined;
  });
  output += await bob.wait(0);
  checkInbox(bob.folder);
  const heard = readLog(bob.folder).filter(({ type }) => type === 'msg');
  for (const [to, scope] of [
    ['all', 'all'],
    ['bob', 'me'],
  ]) {
    assert.deepEqual(
      heard.filter(({ words }) => words[4] === scope).map(({ body }) => body?.toString()),
      said.filter(({ name }) => name === to).map(({ body }) => body?.toString()),
      `what ada said to ${to}`,
    );
  }
  const trouble = readLog(bob.folder).filter(({ type }) =>
    ['tampered', 'missed', 'copied', 'malformed'].includes(type),
  );
  assert.deepEqual(trouble, []);
  return output;
}

describe('a call that ends at any step', { concurrency: 2 }, () => {
  for (const signal of ['KILL', 'TERM'] as const) {
    test(`loses and doubles nothing that it says (${signal})`, async (t) => {
      const { sessions } = await startSessions(t, 'ada', 'bob');
      const [ada, bob] = sessions as [Session, Session];
      const at = signalAtStep(ada, SENDING, signal);
      const whole: string[] = [];
      let ended = 0;
      for (let step = FIRST_STEP; whole.length < 2; step = next(step, 40)) {
        const text = `said at step ${step}`;
        const to = step % 2 === 0 ? ['say'] : ['dm', 'bob'];
        const call = ada.start(to, text, { env: at(step) });
        const result = await call.ended;
        if (result === 0) whole.push(text);
        else ended++;
        assert(result === 0 || result === (signal === 'KILL' ? 'SIGKILL' : 130), `${result}: ${call.output}`);
        if (ended % 2 === 0) await ada.wait(0);
      }
      t.diagnostic(`ended at ${ended} steps`);
      assert(ended > 20, 'the steps must be those of sending');
      await checkSame(ada, bob);
      const said = bodies(ada, 'said');
      assert.equal(new Set(said).size, said.length, 'its own log has each once');
      for (const text of whole) assert(said.includes(text), text);
    });
  }

  test('loses and doubles nothing that it hears; a line that comes again says so (KILL)', async (t) => {
    const { sessions } = await startSessions(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    const at = signalAtStep(bob, RECEIVING, 'KILL');
    let output = '';
    let count = 0;
    let isWhole = false;
    for (let step = FIRST_STEP; !isWhole; step = next(step, 30)) {
      await ada.run(step % 2 === 0 ? ['say'] : ['dm', 'bob'], `heard at step ${step}`);
      count++;
      const call = bob.start(['wait', '1'], '', { env: at(step) });
      const result = await call.closed;
      isWhole = result === 0;
      assert(isWhole || result === 'SIGKILL', `${result}: ${call.output}`);
      output += call.output + (await bob.wait(0));
    }
    t.diagnostic(`killed ${count - 1} times`);
    assert(count > 20);
    output += await checkSame(ada, bob);
    const { times, unmarked } = printed(output);
    assert.deepEqual(moreThanOnce(unmarked), [], 'none comes a second time without saying so');
    assert.equal(times.size, count, 'each is printed');
  });

  test('loses nothing and prints nothing twice (TERM)', async (t) => {
    const { sessions } = await startSessions(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    const at = signalAtStep(bob, RECEIVING, 'TERM');
    let output = '';
    let count = 0;
    let isWhole = false;
    for (let step = FIRST_STEP; !isWhole; step = next(step, 30)) {
      await ada.say(`heard at step ${step}`);
      count++;
      const call = bob.start(['wait', '1'], '', { env: at(step) });
      const result = await call.closed;
      isWhole = result === 0;
      assert(isWhole || result === 130, `${result}: ${call.output}`);
      output += call.output + (await bob.wait(0));
    }
    t.diagnostic(`ended ${count - 1} times`);
    assert(count > 20);
    output += await checkSame(ada, bob);
    const { times } = printed(output);
    assert.deepEqual(moreThanOnce(times), []);
    assert.equal(times.size, count, 'each is printed');
  });
});

/** As if the time were over for which a call holds the poll: what is frozen counts as running. */
function expireLocks(session: Session): void {
  const lock = join(session.folder, 'poll.lock');
  if (existsSync(lock)) writeFileSync(lock, readFileSync(lock, 'latin1').replace(/ \d+$/, ' 1'));
}

const isStopped = ({ pid }: Running) => {
  try {
    return /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
};

/** Lets it go on to its end. A part of it that runs in a subshell counts the steps, too, and may freeze it once more. */
async function thaw(call: Running): Promise<void> {
  await until('its end', 60, () => {
    if (isStopped(call)) call.signal('SIGCONT', 'it');
    return call.result !== undefined || undefined;
  });
  assert.equal(await call.closed, 0, call.output);
}

describe('a call that is frozen at any step', { concurrency: 2 }, () => {
  test('while another one hears in its place: each once', async (t) => {
    const { sessions } = await startSessions(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    // Others leave a call that has stopped in the middle of printing four seconds for that, instead of ten.
    bob.edit(/(?<=^\tPRINTER=\$PROCESS_ID:\$\(\(TICKS \+ )10(?=\)\)$)/m, '4');
    bob.edit(/(?<=^\t\(\(TICKS \+ )3(?= < \$\{PRINTER##\*:\}\)\))/m, '1');
    const at = signalAtStep(bob, RECEIVING, 'STOP');
    let output = '';
    let count = 0;
    let frozen = 0;
    for (let step = FIRST_STEP; ; step = next(step, 12)) {
      await ada.say(`heard at step ${step}`);
      count++;
      const call = bob.start(['wait', '1'], '', { env: at(step) });
      await until('its end, or a stop', 30, () => call.result !== undefined || isStopped(call) || undefined);
      if (call.result !== undefined) {
        assert.equal(await call.closed, 0, call.output);
        output += call.output;
        break;
      }
      frozen++;
      await ada.say(`heard while it is frozen at step ${step}`);
      count++;
      expireLocks(bob);
      output += await bob.wait(8); // a frozen call that may be printing is waited for
      await thaw(call);
      output += call.output;
    }
    t.diagnostic(`frozen ${frozen} times`);
    assert(frozen > 15);
    output += await checkSame(ada, bob);
    const { times, unmarked } = printed(output);
    assert.deepEqual(moreThanOnce(unmarked), [], 'none comes a second time without saying so');
    assert.equal(times.size, count, 'each is printed');
  });

  test('while another one says: each once, in the order of its log', async (t) => {
    const { sessions } = await startSessions(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    const at = signalAtStep(ada, SENDING, 'STOP');
    let frozen = 0;
    for (let step = FIRST_STEP; ; step = next(step, 20)) {
      const call = ada.start(['say'], `frozen at step ${step}`, { env: at(step) });
      await until('its end, or a stop', 30, () => call.result !== undefined || isStopped(call) || undefined);
      if (call.result !== undefined) {
        assert.equal(call.result, 0, call.output);
        break;
      }
      frozen++;
      await ada.say(`said meanwhile, ${step}`);
      await ada.dm('bob', `and to bob, ${step}`);
      await thaw(call);
    }
    t.diagnostic(`frozen ${frozen} times`);
    assert(frozen > 15);
    await checkSame(ada, bob);
    assert.equal(bodies(ada, 'said').length, 3 * frozen + 1);
  });
});

describe('calls of one session at a time', { concurrency: 3 }, () => {
  test('what a killed call holds is taken over at once', async (t) => {
    const { sessions } = await startSessions(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    const listener = await bob.listening();
    await listener.kill();
    const begun = Date.now();
    const call = bob.start(['wait', '30']);
    await bob.polls(call, 5);
    await ada.say('is anybody there?');
    await call.says('#1 from ada', 10);
    assert(Date.now() - begun < 10_000);
    assert.equal(await call.ended, 0);
  });

  test('a frozen listener is replaced, and does no harm when it wakes', async (t) => {
    const { sessions } = await startSessions(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    const frozen = await bob.listening();
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
    const { times, unmarked } = printed(`${frozen.output}\n${second.output}`);
    assert.deepEqual(moreThanOnce(unmarked), []);
    assert.equal(times.size, 5);
  });

  test('two that listen and one that waits: each message is printed by one of them, once', async (t) => {
    const { sessions } = await startSessions(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    const calls = [await bob.listening(), bob.listen(), bob.start(['wait', '20'])];
    for (let i = 1; i <= 12; i++) await ada.say(`message ${i}`);
    const all = () => calls.map(({ output }) => output).join('\n');
    await until('all', 30, () => printed(all()).times.size === 12 || undefined);
    assert.deepEqual(moreThanOnce(printed(all()).times), []);
    checkInbox(bob.folder);
    assert.equal(bodies(bob, 'msg').length, 12);
  });

  test('while one is slow to print another one leaves it that', async (t) => {
    const { sessions } = await startSessions(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    bob.printSlowly();
    await ada.say('one');
    await ada.say('two');
    const slow = bob.start(['wait', '5'], '', { env: { AGENTALK_SLOW: '2' } });
    await until('its commit', 10, () => bodies(bob, 'msg').length === 2 || undefined);
    const quick = await bob.wait(1);
    assert.equal(await slow.closed, 0);
    assert.match(quick, /another call of this session is showing the news/);
    assert.deepEqual(
      [...printed(`${quick}\n${slow.output}`).times],
      [
        ['1', 1],
        ['2', 1],
      ],
    );
  });

  test('ten that say while one listens: all of it goes out, each once', async (t) => {
    const { sessions } = await startSessions(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    const listener = await bob.listening();
    await Promise.all(
      Array.from({ length: 10 }, async (_, i) => {
        await Promise.all([bob.say(`bob ${i}`), ada.run(i % 2 === 0 ? ['say'] : ['dm', 'bob'], `ada ${i}`)]);
      }),
    );
    await checkSame(ada, bob);
    await checkSame(bob, ada).catch((error: Error) => assert.fail(error)); // to ada all is public
    assert.deepEqual(moreThanOnce(printed(listener.output).times), []);
  });

  test('two that speak without a pause hear each other meanwhile', async (t) => {
    const { sessions } = await startSessions(t, 'ada', 'bob');
    const listeners = await Promise.all(sessions.map((session) => session.listening()));
    await Promise.all(
      sessions.map(async (session) => {
        for (let i = 1; i <= 20; i++) await session.say(`${session.name} ${i}`);
      }),
    );
    for (const session of sessions) {
      const count = bodies(session, 'msg').length;
      assert(count > 10, `${session.name} has ${count} of 20`);
    }
    for (const [i, listener] of listeners.entries()) await listener.says(`#20 from ${sessions[1 - i]?.name}`, 30);
    for (const session of sessions) checkInbox(session.folder);
  });

  test('a call does not take its own words for those of a copy', async (t) => {
    const { sessions } = await startSessions(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    // While ada's listener polls, another call says, and the answer of bob acknowledges more than the listener knows of.
    const [near, far] = [await ada.listening(), await bob.listening()];
    for (let i = 1; i <= 10; i++) {
      await ada.say(`number ${i}`);
      await far.says(`#${i} from ada`);
      await bob.dm('ada', `I have number ${i}`);
      await near.says(`#${i} from bob`);
    }
    assert.deepEqual(
      [...readLog(ada.folder), ...readLog(bob.folder)].filter(({ type }) =>
        ['copied', 'new', 'tampered'].includes(type),
      ),
      [],
    );
  });

  test('what the killed have left is removed; files stay bounded', async (t) => {
    const { processes, sessions } = await startSessions(t, 'ada', 'bob');
    const [ada, bob] = sessions as [Session, Session];
    for (let i = 0; i < 5; i++) {
      const killed = await ada.listening();
      await killed.kill();
    }
    assert.notDeepEqual(ada.temporary, []);
    // As if all of that had been an hour ago, and more.
    const now = Date.now() / 1000;
    for (const left of ada.temporary) utimesSync(join(ada.folder, 'tmp', left), now - 7200, now - 7200);
    const swept = join(ada.folder, 'swept');
    writeFileSync(swept, String(Math.floor(now) - 3700));
    utimesSync(swept, now - 3700, now - 3700);
    await ada.wait(0);
    await until('no temporary file', 10, () => ada.temporary.length === 0 || undefined);

    const exchange = async () => {
      for (let i = 0; i < 15; i++) {
        await Promise.all([ada.say(`ada ${i}`), bob.dm('ada', `bob ${i}`)]);
        await Promise.all([ada.wait(0), bob.wait(0)]);
      }
      await until('no temporary file', 10, () => [...ada.temporary, ...bob.temporary].length === 0 || undefined);
      return [ada, bob].map(({ files }) => files.length);
    };
    const first = await exchange();
    const second = await exchange();
    for (const [i, count] of second.entries()) {
      assert(count <= (first[i] ?? 0) + 4, `${count} files after 30 messages, ${first[i]} after 15`);
    }
    await until('no process', 10, () => processes.leftovers().every((line) => line.includes('bridge.js')) || undefined);
  });

  test('leave while a listener and others that say run: no one joins again, and no secret stays', async (t) => {
    const { processes, bridge, sessions } = await startSessions(t, 'ada', 'bob', 'cyd');
    const [ada, ...others] = sessions as [Session, Session, Session];
    const near = await ada.listening();
    for (const session of others) {
      const listener = await session.listening();
      const saying = [1, 2, 3].map((i) => session.start(['say', `last words ${i}`]));
      const [key = ''] = /[0-9a-f]{64}/.exec(readFileSync(join(session.folder, 'session'), 'latin1')) ?? [];
      assert.match(await session.run(['leave']), /^agentalk: left/m);
      await until('the end of its listener', 40, () => listener.result !== undefined || undefined);
      assert.match(listener.output, /has left/);
      for (const call of saying) assert([0, 1].includes(Number(await call.closed)), call.output);
      await near.says(`LEFT ${session.name}`);
      await until('no temporary file', 10, () => session.temporary.length === 0 || undefined);
      assert(!existsSync(join(session.folder, 'keys')));
      for (const name of readdirSync(session.folder).filter((each) => !['inbox', 'journal', 'outbox'].includes(each))) {
        const path = join(session.folder, name);
        if (existsSync(path) && readdirSyncOrNone(path) === undefined) {
          assert(!readFileSync(path, 'latin1').includes(key), `${name} has the key`);
        }
      }
      assert.match(await session.run(['say', 'more'], '', 1), /has left/);
    }
    await until('one participant', 5, async () => (await bridge.metric('participants')) === 1 || undefined);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    assert.equal(await bridge.metric('participants'), 1, 'nobody has come back');
    await near.kill();
    await until('no process', 10, () => processes.leftovers().every((line) => line.includes('bridge.js')) || undefined);
  });

  test('a leave that is killed at any step is finished by the next call', async (t) => {
    const processes = new Processes('kill');
    t.after(() => processes.close());
    const bridge = await processes.bridge();
    let count = 0;
    for (let step = 1; ; step += 3) {
      const session = processes.session(`ada${step}`);
      await session.run(['create', bridge.url, '--name', session.name]);
      const at = signalAtStep(session, 'cmd_leave erase_keys', 'KILL');
      const call = session.start(['leave'], '', { env: at(step) });
      if ((await call.closed) === 0) break;
      count++;
      const output = await session.run(['leave'], '', null);
      assert.match(output, /^agentalk: left|has left the channel/m);
      assert(!existsSync(join(session.folder, 'keys')), `step ${step}`);
      assert.doesNotMatch(readFileSync(join(session.folder, 'session'), 'latin1'), /^(key|token|access) /m);
    }
    assert(count > 5);
  });
});

const readdirSyncOrNone = (path: string) => {
  try {
    return readdirSync(path);
  } catch {
    return undefined;
  }
};
