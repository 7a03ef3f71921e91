/** Bridges that die, come back, are two at once, or withhold; machines that sleep. The ends lose nothing of what was said. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { Processes, until } from './processes.ts';
import type { Bridge, Session } from './processes.ts';
import { ExampleSession, withholding } from '../lib/example-session.ts';
import { checkInbox, marksOf, readLog } from './session-reader.ts';

const NAMES = ['ada', 'bob', 'cyd'];

/** With clients whose timers run ten times as fast, but where that is what the test is about. */
async function open(t: TestContext, ...flags: readonly string[]) {
  return openWith(t, false, flags);
}

async function openWith(t: TestContext, isReleased: boolean, flags: readonly string[] = []) {
  const processes = new Processes('bridge', isReleased);
  t.after(() => processes.close());
  return { processes, bridge: await processes.bridge(...flags) };
}

const heard = ({ folder }: Session, from: string) =>
  checkInbox(folder)
    .filter(({ type, name }) => type === 'msg' && name === from)
    .map(({ body }) => body?.toString());
const TROUBLE = ['missed', 'tampered', 'malformed', 'new', 'copied', 'undelivered', 'unreadable'];
/** What it was told that should not have happened. */
const trouble = ({ folder }: Session) =>
  readLog(folder)
    .filter(({ type }) => TROUBLE.includes(type))
    .map(({ type, name, words }) => [type, name, ...words].join(' '));

/** Lets everybody wait in turn until each has heard so many messages of each other. */
async function exchange(sessions: readonly Session[], count: number, seconds = 60): Promise<void> {
  await until(`${count} from each`, seconds, async () => {
    await Promise.all(sessions.map((session) => session.wait(1)));
    const isDone = sessions.every((session) =>
      sessions.every((other) => other === session || heard(session, other.name).length >= count),
    );
    return isDone || undefined;
  });
}

// They wait most of the time: several at once.
describe('bridges', { concurrency: 4 }, () => {
  for (const [how, order] of [
    ['one after the other', ['ada', 'bob', 'cyd']],
    ['the other way round', ['cyd', 'bob', 'ada']],
    ['all at the same time', undefined],
  ] as const) {
    test(`the bridge is killed with words that nobody had fetched, and three resume ${how}`, async (t) => {
      const { processes, bridge } = await open(t);
      const sessions = await processes.startSessions(NAMES, () => bridge.url);
      for (const session of sessions) await session.say(`${session.name} before`);
      await bridge.kill();
      await bridge.start();
      const output: Record<string, string> = {};
      const resume = async (session: Session) => void (output[session.name] = await session.wait(3));
      if (order === undefined) await Promise.all(sessions.map(resume));
      else for (const name of order) await resume(sessions.find((session) => session.name === name) as Session);
      for (const { name } of sessions) assert.match(output[name] ?? '', /^agentalk: RESUMED/m);
      for (const session of sessions) await session.say(`${session.name} after`);
      await exchange(sessions, 2);
      for (const session of sessions) {
        for (const { name } of sessions.filter((other) => other !== session)) {
          assert.deepEqual(heard(session, name), [`${name} before`, `${name} after`]);
        }
        assert.deepEqual(trouble(session), []);
      }
    });
  }

  test('words that nobody has had are there again after a restart, for those who come then', async (t) => {
    const { processes, bridge } = await open(t);
    const ada = processes.session('ada');
    const opened = await ada.run(['create', bridge.url, '--name', 'ada']);
    const link = /\S+\/c\/\S+#k=[0-9a-f]{64}/.exec(opened)?.[0] ?? assert.fail(opened);
    await ada.say('is anybody there?');
    await bridge.kill();
    await bridge.start();
    assert.match(await ada.wait(1), /^agentalk: RESUMED/m);
    const bob = processes.session('bob');
    const listener = await ada.listening();
    const joined = await bob.run(['join', link, '--name', 'bob']);
    const output = joined + (joined.includes('is anybody there?') ? '' : await bob.wait(5));
    assert.match(output, /#1 from ada to all.*said before you came[^]*is anybody there\?/);
    await listener.kill();
  });

  test('words that a newcomer did not get are not taken for confirmed by it: after a restart they are there again', async (t) => {
    const { processes, bridge } = await open(t);
    const ada = processes.session('ada');
    const opened = await ada.run(['create', bridge.url, '--name', 'ada']);
    const link = /\S+\/c\/\S+#k=[0-9a-f]{64}/.exec(opened)?.[0] ?? assert.fail(opened);
    await ada.say('is anybody there?');
    const fetch = withholding(({ type, to }) => type === 'message' && to === '*');
    const bob = await ExampleSession.join(link, { name: 'bob', fetch });
    await ada.wait(2);
    await bob.paired('ada');
    // The base that ada named is above these words, so bob's mark is, too; but they were never there.
    await bob.send('ada', 'ack', { headers: { received: '1 0 0' } });
    await ada.wait(2);
    await bridge.kill();
    await bridge.start();
    assert.match(await ada.wait(1), /^agentalk: RESUMED/m);
    const listener = await ada.listening();
    const cyd = processes.session('cyd');
    const joined = await cyd.run(['join', link, '--name', 'cyd']);
    const output = joined + (joined.includes('is anybody there?') ? '' : await cyd.wait(5));
    assert.match(output, /is anybody there\?/);
    await listener.kill();
  });

  test('a say is what finds the bridge restarted: it resumes, and is heard', async (t) => {
    const { processes, bridge } = await open(t);
    const [ada, bob] = (await processes.startSessions(['ada', 'bob'], () => bridge.url)) as [Session, Session];
    await bridge.kill();
    await bridge.start();
    assert.match(await ada.say('still there?'), /^agentalk: sent/m);
    assert.match(await bob.wait(5), /^agentalk: RESUMED[^]*still there\?/m);
    assert.match(await ada.wait(1), /^agentalk: RESUMED/m);
  });

  test('a call that says while the bridge is being restarted waits for it', async (t) => {
    const { processes, bridge } = await open(t);
    const [ada, bob] = (await processes.startSessions(['ada', 'bob'], () => bridge.url)) as [Session, Session];
    await bridge.kill();
    const saying = ada.say('patience');
    const waiting = bob.start(['wait', '30']);
    await bridge.start();
    assert.match(await saying, /^agentalk: sent/m);
    await waiting.says('patience');
  });

  test('two incarnations alive at once behind a load balancer that flaps', async (t) => {
    const { processes, bridge } = await openWith(t, true);
    const other = await processes.bridge();
    const faultProxy = await processes.faultProxy(bridge);
    const sessions = await processes.startSessions(NAMES, (name) => faultProxy.urlFor(name));
    let flaps = 0;
    const flap = setInterval(() => {
      const target = flaps++ % 2 === 0 ? other.url : bridge.url;
      faultProxy.target = () => target;
    }, 2000);
    t.after(() => clearInterval(flap));
    for (const session of sessions) session.listen();
    await Promise.all(
      sessions.map(async (session) => {
        for (let i = 1; i <= 8; i++) {
          await session.say(`${session.name} ${i}`);
          await until('the next flap', 60, () => flaps >= i / 2 || undefined);
        }
      }),
    );
    clearInterval(flap);
    await until(
      'everything',
      90,
      () => sessions.every(({ folder }) => readdirSync(join(folder, 'inbox')).length >= 16) || undefined,
    );
    for (const session of sessions) {
      for (const { name } of sessions.filter((one) => one !== session)) {
        assert.deepEqual(
          heard(session, name),
          Array.from({ length: 8 }, (_, i) => `${name} ${i + 1}`),
        );
      }
      assert.deepEqual(trouble(session), []);
    }
    const resumed = sessions.flatMap(({ folder }) => readLog(folder).filter(({ type }) => type === 'resumed'));
    assert(resumed.length > 0, 'both incarnations were in use');
  });

  test('a session that comes back again and again, and gets nothing out, queues and sends no more for it', async (t) => {
    const { processes, bridge } = await open(t);
    const other = await processes.bridge();
    const faultProxy = await processes.faultProxy(bridge);
    const [ada, bob] = (await processes.startSessions(['ada', 'bob'], (name) => faultProxy.urlFor(name))) as [
      Session,
      Session,
    ];
    const outbox = () => readdirSync(join(ada.folder, 'outbox')).length;
    const before = outbox();
    faultProxy.plan = ({ client, kind }) => ({ what: client === 'ada' && kind === 'send' ? 'drop' : 'pass' });
    for (const { url } of [other, bridge, other, bridge]) {
      faultProxy.target = () => url;
      await bob.wait(0);
      const sent = faultProxy.asked.get('ada send') ?? 0;
      assert.match(await ada.wait(0), /RESUMED/);
      assert((faultProxy.asked.get('ada send') ?? 0) - sent <= 4, 'a sync or an ack now and then');
    }
    assert.equal(outbox(), before, 'control messages are not stored');
    faultProxy.plan = () => ({ what: 'pass' });
    await ada.say('at last');
    assert.match(await bob.wait(5), /at last/);
  });

  test('a bridge that stays away: what was said is kept, and the agent is told what to do', async (t) => {
    const { processes, bridge } = await open(t);
    const [ada, bob] = (await processes.startSessions(['ada', 'bob'], () => bridge.url)) as [Session, Session];
    await bridge.kill();
    const said = ada.run(['say'], 'into the dark', 1); // it tries for forty seconds
    assert.match(await bob.wait(2), /no news: .*takes no connection.*tell your user/);
    const listener = bob.listen();
    assert.match(await said, /not sent yet.*kept.*tell your user/);
    await listener.says(/^agentalk: OFFLINE.*tell your user/m, 90);
    await bridge.start();
    await listener.says(/^agentalk: ONLINE/m, 90);
    await listener.says(/^agentalk: RESUMED/m);
    await ada.wait(1);
    await listener.says('into the dark');
    assert.deepEqual(heard(bob, 'ada'), ['into the dark']);
  });

  test('a bridge that is full: told, kept, and sent when there is room', async (t) => {
    const { processes, bridge } = await open(t);
    const faultProxy = await processes.faultProxy(bridge);
    const [ada, bob] = (await processes.startSessions(['ada', 'bob'], (name) => faultProxy.urlFor(name))) as [
      Session,
      Session,
    ];
    faultProxy.plan = ({ kind }) =>
      kind === 'send' ? { what: 'refuse', status: 503, retryAfter: 50 } : { what: 'pass' };
    assert.match(
      await ada.run(['say'], 'no room', 1),
      /not sent yet/,
      'a Retry-After that is longer than the call is not waited for',
    );
    faultProxy.plan = () => ({ what: 'pass' });
    await ada.wait(0);
    assert.match(await bob.wait(5), /no room/);
  });

  test('a message that is withheld: MISSED says how many and from whom, and one that comes late says so', async (t) => {
    const { processes, bridge } = await open(t);
    const faultProxy = await processes.faultProxy(bridge);
    const [ada, bob] = (await processes.startSessions(['ada', 'bob'], (name) => faultProxy.urlFor(name))) as [
      Session,
      Session,
    ];
    // Of ada's messages to bob the longest is kept back, each time that it comes, until it is let go: then it takes the
    // place and the index of a direct one, which is a control message.
    const isIt = (line: string) => line.startsWith('message ') && line.length > 4000;
    let kept: string | undefined;
    let isFree = false;
    let isDelivered = false;
    const place = (line: string) => {
      const words = line.split(' ');
      if (!isFree || isDelivered || words[0] !== 'message' || words[4] === '*' || kept === undefined) return line;
      isDelivered = true;
      return kept.replace(/^message \d+/, `message ${words[1]}`);
    };
    faultProxy.rewrite = ({ client, kind }, body) => {
      if (client !== 'bob' || kind !== 'poll') return body;
      const lines = body.toString('latin1').split('\n');
      kept ??= lines.find(isIt);
      return Buffer.from(
        lines
          .filter((line) => !isIt(line))
          .map(place)
          .join('\n'),
        'latin1',
      );
    };
    const listener = await bob.listening();
    await ada.say('one');
    await ada.say('x'.repeat(5000));
    await ada.say('three');
    await listener.says('#1 from ada');
    await until('its being held back', 5, () => kept);
    const other = await ada.listening(); // it answers that it has sent it
    await listener.says(/^agentalk: MISSED 1 from ada/m, 100);
    await listener.says('#2 from ada to all, 5 bytes');
    isFree = true;
    await bob.say('a broadcast makes the two exchange control messages');
    await listener.says(/^agentalk: #\d from ada to all, 5000 bytes.*late/m);
    await ada.say('four');
    await listener.says(/^agentalk: #\d from ada to all, 4 bytes/m);
    await other.kill();
    const texts = heard(bob, 'ada').map((text = '') => text.slice(0, 5));
    assert.deepEqual(texts.sort(), ['four', 'one', 'three', 'xxxxx']);
    const late = checkInbox(bob.folder).filter((entry) => marksOf(entry).includes('late'));
    assert.equal(late.length, 1);
  });

  test('a bridge that can hold but a few: who comes back late is told of a GAP, and gets all the same', async (t) => {
    const { processes, bridge } = await open(
      t,
      ...['--max-message-bytes', '2000', '--max-channel-bytes', '40000', '--live-window', '1'],
    );
    const [ada, bob] = (await processes.startSessions(['ada', 'bob'], () => bridge.url)) as [Session, Session];
    const texts = Array.from({ length: 30 }, (_, i) => `${i + 1} ${'x'.repeat(1500)}`);
    for (const text of texts) await ada.say(text);
    const [listener] = [bob.listen(), ada.listen()];
    await listener.says(/^agentalk: GAP/m);
    await until('all', 90, () => readdirSync(join(bob.folder, 'inbox')).length === texts.length || undefined);
    assert.deepEqual(heard(bob, 'ada'), texts);
    assert.deepEqual(trouble(bob), []);
  });

  test('a laptop sleeps past the idle window, and comes back with what was said meanwhile', async (t) => {
    const { processes, bridge } = await open(t, '--expire-after', '3');
    const [ada, bob] = (await processes.startSessions(['ada', 'bob'], () => bridge.url)) as [Session, Session];
    const [near, far] = [await ada.listening(), await bob.listening()];
    await ada.say('sleep well');
    await far.says('sleep well');
    far.signal('SIGSTOP');
    await near.says(/^agentalk: LEFT bob.*tell your user/m, 30);
    await ada.say('while you slept');
    far.signal('SIGCONT');
    await far.says('while you slept');
    assert.doesNotMatch(far.output, /before you came|MISSED|UNREADABLE/);
    await near.says(/^agentalk: (JOINED|BACK) bob/m);
    await bob.say('good morning');
    await near.says('good morning');
    assert.deepEqual(heard(bob, 'ada'), ['sleep well', 'while you slept']);
  });

  test('everybody sleeps until the channel is gone, and all come back', async (t) => {
    const { processes, bridge } = await open(t, '--expire-after', '2');
    const sessions = await processes.startSessions(NAMES, () => bridge.url);
    const listeners = await Promise.all(sessions.map((session) => session.listening()));
    await sessions[0]?.say('good night');
    for (const listener of listeners.slice(1)) await listener.says('good night');
    for (const listener of listeners) listener.signal('SIGSTOP');
    await until('the end of the channel', 30, async () => (await bridge.metric('channels')) === 0 || undefined);
    for (const listener of listeners) listener.signal('SIGCONT');
    for (const listener of listeners) await listener.says(/^agentalk: RESUMED/m);
    await sessions[2]?.say('good morning');
    for (const listener of listeners.slice(0, 2)) await listener.says('good morning');
    for (const session of sessions.slice(1)) assert.deepEqual(heard(session, 'ada'), ['good night']);
  });

  /** How long ago the bridge says that somebody was heard of. */
  const aged = (seconds: number) => (_: unknown, body: Buffer) =>
    Buffer.from(
      body.toString('latin1').replace(/^((?:recipient|participant) \S+) idle \d+/gm, `$1 idle ${seconds}`),
      'latin1',
    );

  test('who listens, who was here, who is gone: said as it is', async (t) => {
    const { processes, bridge } = await open(t, '--away-after', '2');
    const faultProxy = await processes.faultProxy(bridge);
    const ada = processes.session('ada');
    await ada.run(['create', faultProxy.urlFor('ada'), '--name', 'ada']);
    assert.match(await ada.say('hello?'), /nobody else.*tell your user/i, 'an empty room');
    const [cyd, bob] = (await processes.startSessions(['cyd', 'bob'], (name) => faultProxy.urlFor(name))) as [
      Session,
      Session,
    ];
    const listener = await bob.listening();
    await until('its poll', 10, async () => (await bridge.metric('polls_pending')) > 0 || undefined);
    assert.match(await cyd.say('hello'), /bob \(agent\) listening now/);
    await until('its next poll', 10, async () => (await bridge.metric('polls_pending')) > 0 || undefined);
    assert.match(await cyd.run(['who']), /bob \(agent\) listening now/);
    await listener.kill('SIGTERM');
    await until('the end of its poll', 10, async () => (await bridge.metric('polls_pending')) === 0 || undefined);
    assert.match(await cyd.say('still there?'), /bob \(agent\) (last seen \d+ s ago|here a moment ago)/);
    faultProxy.rewrite = aged(60 * 4);
    assert.match(await cyd.run(['who']), /bob \(agent\) last seen 4 min ago/);
    assert.match(
      await cyd.say('anybody?'),
      /bob \(agent\) last seen 4 min ago.*Nobody is listening.*tell your user/,
      'a deaf room',
    );
    faultProxy.rewrite = (_, body) => body;
    const near = cyd.listen();
    await near.says(/^agentalk: AWAY bob/m);
    await bob.wait(0);
    await near.says(/^agentalk: BACK bob/m);
    await bob.run(['leave']);
    await near.says(/^agentalk: LEFT bob/m);
    assert.match(await cyd.run(['dm', 'bob'], 'wait!', 1), /bob has left/);
  });

  test('the memory of a bridge returns to its level', async (t) => {
    const { processes, bridge } = await open(t);
    const level = async (bridge: Bridge) =>
      Promise.all(
        ['channels', 'participants', 'polls_pending', 'channel_memory_bytes'].map((name) => bridge.metric(name)),
      );
    assert.deepEqual(await level(bridge), [0, 0, 0, 0]);
    const sessions = await processes.startSessions(NAMES, () => bridge.url);
    const listeners = sessions.map((session) => session.listen());
    for (const session of sessions) await session.say('x'.repeat(30_000));
    for (const listener of listeners) await listener.says('#2 from');
    await listeners[0]?.kill();
    await listeners[1]?.kill('SIGTERM');
    await listeners[2]?.kill('SIGKILL', 'it');
    // A poll is short: nobody looks for long as if they listened who doesn't.
    await until('no poll', 12, async () => (await bridge.metric('polls_pending')) === 0 || undefined);
    for (const session of sessions) await session.run(['leave']);
    assert.deepEqual(await level(bridge), [0, 0, 0, 0]);
  });
});
