/** examples/client.ts, which was written from docs/protocol.md alone, passes the vectors and talks over a real bridge. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { build } from 'esbuild';
import { BridgeError, Client } from '../../examples/client.ts';
import { makeKeyPair, randomHex } from '../../examples/client/crypto.ts';
import { ExampleSession, changingPolls, withholding } from '../lib/example-session.ts';
import type { PollEvent } from '../lib/example-session.ts';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { FakeClock } from '../lib/clock.ts';
import { exampleDriver } from '../lib/example-driver.ts';
import { ROOT } from '../lib/root.ts';
import { runInterop, runVectors } from '../lib/vectors.ts';

runVectors('examples/client', exampleDriver);
runInterop('examples/client', exampleDriver);

const MINUTE_MS = 60_000;
const UNMARKED = {
  unread: [],
  unreadOwn: 0,
  ahead: [],
  missed: [],
  strangers: 0,
  isLate: false,
  isUnpaired: false,
  isBeforeJoin: false,
  sentAt: undefined,
};

let bridge: TestBridge;
before(async () => {
  bridge = await startBridge();
});
after(() => bridge.stop());

interface Setup {
  readonly clock?: FakeClock;
  /** Between the second one and the bridge. */
  readonly fetch?: typeof fetch;
  readonly url?: string;
}

/** `ada` and `bob`, PAIRED, with nothing left to send. */
async function startPair({ clock = new FakeClock(), fetch, url = bridge.url }: Setup = {}) {
  const ada = await ExampleSession.create(url, { name: 'ada', now: clock.now });
  const bob = await ExampleSession.join(ada.link, { name: 'bob', now: clock.now, ...(fetch && { fetch }) });
  await flushEvents(ada, bob);
  assert.deepEqual(
    [ada.types(), bob.types()],
    [Array(2), Array(2)].map(() => ['joined', 'paired']),
  );
  return { ada, bob, clock };
}

/** `ada`, `bob` and `cleo`, PAIRED with each other. */
async function startThree(setup: Setup = {}) {
  const { ada, bob, clock } = await startPair(setup);
  const cleo = await ExampleSession.join(ada.link, { name: 'cleo', now: clock.now });
  await flushEvents(ada, bob, cleo);
  for (const each of [ada, bob, cleo]) assert.equal(each.entriesOf('paired').length, 2);
  return { ada, bob, cleo, clock };
}

/** Polls all of them until what one sent made no other one answer. */
async function flushEvents(...sessions: readonly ExampleSession[]): Promise<void> {
  for (let round = 0; round < 3; round++) {
    for (const session of sessions) await session.poll();
    for (const session of sessions) await session.transfers.idle();
  }
}

/** Restarts the bridge at the same address. */
async function restart(old: TestBridge): Promise<TestBridge> {
  await old.stop();
  return startBridge(['--port', String(old.port)]);
}

describe('a session', () => {
  test('tells PAIRED after the first direct message of each side', async () => {
    const ada = await ExampleSession.create(bridge.url, { name: 'ada' });
    const bob = await ExampleSession.join(ada.link, { name: 'bob', kind: 'human' });
    assert.deepEqual(bob.types(), ['joined']);
    await ada.poll();
    assert.deepEqual(ada.types(), ['joined', 'paired']);
    await bob.poll();
    assert.deepEqual(bob.types(), ['joined', 'paired']);
    assert.equal(ada.peer('bob').card.kind, 'human');
  });

  test('gets texts byte for byte, and shows hidden characters as replaced', async () => {
    const { ada, bob } = await startPair();
    const texts = ['', 'a', ' \n', '"$(id)" `id` \\n %s {}', '👋 会話\ttab', 'kind: bye\n\n'];
    for (const text of texts) await ada.say(text);
    await ada.say('\u001b[31m \u202e \r');
    await ada.say(Uint8Array.of(0x61, 0xff));
    await bob.poll();
    assert.deepEqual(bob.texts('ada'), [...texts, '\ufffd[31m \ufffd \ufffd', 'a\ufffd']);
    for (const { marks } of bob.entriesOf('message')) assert.deepEqual(marks, UNMARKED);
  });

  test('takes no link whose key and channel do not belong together, and sends nothing', async () => {
    const ada = await Client.create(bridge.url, { name: 'ada' });
    const fail = () => assert.fail('a request was sent');
    const other = ada.link.replace(ada.k, randomHex(32));
    await assert.rejects(Client.join(other, { name: 'bob', fetch: fail }), /damaged or of another version/);
    await assert.rejects(Client.join(ada.link.slice(0, -1), { name: 'bob', fetch: fail }), /damaged/);
  });

  test('passes on the ticket of a bridge with a create secret, so that others can create the channel again', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'agentalk-test-'));
    const secret = randomHex(16);
    writeFileSync(join(folder, 'secret'), `${secret}\n`);
    const closed = await startBridge(['--create-secret-file', join(folder, 'secret')]);
    try {
      await assert.rejects(
        ExampleSession.create(closed.url, { name: 'ada' }),
        ({ code }: BridgeError) => code === 'not_invited',
      );
      const ada = await ExampleSession.create(`${closed.url}#i=${secret}`, { name: 'ada' });
      assert.match(ada.link, /#k=[0-9a-f]{64}&t=[0-9a-f]{32}$/);
      assert.ok(!ada.link.includes(secret));
      await ada.leave();
      const bob = await ExampleSession.join(ada.link, { name: 'bob' });
      assert.equal(bob.link, ada.link);
    } finally {
      await closed.stop();
      rmSync(folder, { recursive: true });
    }
  });
});

describe('order', () => {
  test('a direct message waits for the broadcasts before it, and later broadcasts do not wait for it', async () => {
    let isReversed = false;
    const fetch = changingPolls((response) => {
      if (isReversed) response.events.reverse();
    });
    const { ada, bob } = await startPair({ fetch });
    await ada.say('1');
    await ada.dm('bob', '2');
    await ada.say('3');
    await ada.dm('bob', '4');
    isReversed = true;
    await bob.poll();
    assert.deepEqual(bob.texts(), ['1', '3', '2', '4']);
    assert.deepEqual(
      bob.entriesOf('message').map(({ isDirect, seq }) => [isDirect, seq]),
      [
        [false, 1],
        [false, 2],
        [true, 1],
        [true, 2],
      ],
    );
  });

  test('three get the same broadcasts, and direct messages only where they belong', async () => {
    const { ada, bob, cleo } = await startThree();
    await ada.say('to all');
    await ada.dm('bob', 'to bob');
    await cleo.dm('ada', 'to ada');
    await bob.say('from bob');
    await flushEvents(ada, bob, cleo);
    assert.deepEqual(ada.texts(), ['to ada', 'from bob']);
    assert.deepEqual(bob.texts(), ['to all', 'to bob']);
    assert.deepEqual(cleo.texts(), ['to all', 'from bob']);
    for (const each of [ada, bob, cleo]) assert.deepEqual(each.entriesOf('unreadable'), []);
  });

  test('marks what a writer had not read, of others and of the reader', async () => {
    const { ada, bob, cleo } = await startThree();
    await ada.say('a question');
    await cleo.say('an objection');
    await cleo.poll();
    await bob.say('an answer to neither');
    await bob.dm('cleo', 'nor this');
    await cleo.poll();
    const answer = { ...UNMARKED, unread: [{ name: 'ada', count: 1 }], unreadOwn: 1 };
    assert.deepEqual(cleo.message('an answer to neither').marks, answer);
    await cleo.dm('bob', 'have you read that?');
    await bob.dm('cleo', 'written before it was');
    await cleo.poll();
    assert.deepEqual(cleo.message('written before it was').marks, { ...answer, unreadOwn: 2 });
    await bob.poll();
    await bob.say('now to both');
    await cleo.poll();
    assert.deepEqual(cleo.message('now to both').marks, UNMARKED);
  });

  test('marks what a writer has read that is not here, and whom it has read that nobody knows here', async () => {
    let withheldFrom = '';
    const fetch = withholding(({ type, from }) => type !== 'leave' && from === withheldFrom);
    const { ada, bob, cleo } = await startThree({ fetch });
    withheldFrom = cleo.id;
    await cleo.say('not for bob');
    await ada.poll();
    await ada.say('as cleo says');
    await bob.poll();
    assert.deepEqual(bob.message('as cleo says').marks, { ...UNMARKED, ahead: ['cleo'] });
    const dan = await ExampleSession.join(ada.link, {
      name: 'dan',
      fetch: (...request) => globalThis.fetch(...request),
    });
    withheldFrom = dan.id;
    await flushEvents(ada, dan);
    await dan.say('nor this');
    await ada.poll();
    await ada.say('as dan says');
    await bob.poll();
    assert.deepEqual(bob.message('as dan says').marks, { ...UNMARKED, ahead: ['cleo'], strangers: 1 });
  });

  test('marks a time that is more than a minute off', async () => {
    const { ada, bob, clock } = await startPair();
    const time = clock.now() - MINUTE_MS - 1;
    await ada.send('*', 'text', { headers: { time: String(time) }, body: 'yesterday' });
    await bob.poll();
    assert.deepEqual(bob.message('yesterday').marks, { ...UNMARKED, sentAt: time });
  });
});

describe('a session that is not PAIRED', () => {
  test('is marked as that, and is nobody to write to', async () => {
    const fetch = withholding(({ type, to }) => type === 'message' && to !== '*');
    const ada = await ExampleSession.create(bridge.url, { name: 'ada' });
    const bob = await ExampleSession.join(ada.link, { name: 'bob', fetch });
    await flushEvents(ada, bob);
    await ada.say('believe me');
    await bob.poll();
    assert.deepEqual(bob.message('believe me').marks, { ...UNMARKED, isUnpaired: true });
    await assert.rejects(bob.dm('ada', 'is it you?'), /PAIRED/);
  });
});

describe('missing messages', () => {
  /** bob does not get ada's second broadcast. */
  async function startWithMissing() {
    const withheld: PollEvent[] = [];
    let isReleased = false;
    const setup: { index?: number } = {};
    const fetch = changingPolls((response) => {
      withheld.push(...response.events.filter(({ index }) => index === setup.index));
      response.events = response.events.filter(({ index }) => index !== setup.index);
      if (isReleased) response.events.unshift(...withheld.splice(0));
    });
    const { ada, bob, clock } = await startPair({ fetch });
    await ada.say('1');
    const json = { participant_id: ada.id, epoch: ada.epoch, to: '*' };
    const { sealed } = ada.build('*', 'text', { body: '2' });
    setup.index = Number((await ada.request('POST', '/send', { json: { ...json, ...sealed } }))['index']);
    await ada.say('3');
    return { ada, bob, clock, release: () => (isReleased = true) };
  }

  test('are waited for, asked for with one sync in 10 s, and given up after 60 s', async () => {
    const { ada, bob, clock } = await startWithMissing();
    clock.advance(10_000);
    await bob.poll();
    assert.deepEqual(bob.texts(), ['1']);
    const countSyncs = async () => {
      const { lastAckAt } = ada.peer('bob');
      await ada.poll();
      return ada.peer('bob').lastAckAt > lastAckAt ? 1 : 0;
    };
    assert.equal(await countSyncs(), 1);
    await bob.poll();
    assert.equal(await countSyncs(), 0);
    clock.advance(59_999);
    await flushEvents(ada, bob);
    assert.deepEqual(bob.texts(), ['1']);
    clock.advance(1);
    await bob.poll();
    assert.deepEqual(bob.types().slice(2), ['message', 'missed', 'message']);
    assert.deepEqual(bob.entriesOf('missed'), [{ type: 'missed', name: 'ada', count: 1 }]);
    await bob.say('and now?');
    await ada.poll();
    assert.deepEqual(ada.message('and now?').marks, { ...UNMARKED, missed: ['you'] });
  });

  test('are not given up before a poll after the sync has returned', async () => {
    const { bob, clock } = await startWithMissing();
    clock.advance(1);
    await bob.poll(); // within 10 s of the sync of its joining
    clock.advance(60_000);
    await bob.poll(); // now the sync goes out
    assert.deepEqual(bob.entriesOf('missed'), []);
    await bob.poll();
    assert.deepEqual(bob.entriesOf('missed').length, 1);
  });

  test('are shown once, as late, when they come after all', async () => {
    const { ada, bob, clock, release } = await startWithMissing();
    clock.advance(10_000);
    await bob.poll();
    clock.advance(60_000);
    await bob.poll();
    release();
    await bob.poll();
    assert.deepEqual(bob.texts(), ['1', '3', '2']);
    assert.deepEqual(bob.message('2').marks.isLate, true);
    await ada.post('*', ada.outbox.items[1]!.sealed);
    await bob.poll();
    assert.equal(bob.texts().length, 3);
  });

  test('are given up at once when their session is no longer in the channel', async () => {
    const { ada, bob } = await startWithMissing();
    await bob.poll();
    await ada.request('POST', '/leave', { json: { participant_id: ada.id } });
    await bob.poll();
    assert.deepEqual(bob.types().slice(2), ['message', 'gone', 'missed', 'message']);
  });

  test('that were named alone are missing, too', async () => {
    const { ada, bob, clock } = await startPair();
    ada.build('bob', 'text', { body: 'never posted' });
    await ada.send('bob', 'text', { body: 'the second' });
    clock.advance(10_000);
    await bob.poll();
    clock.advance(60_000);
    await bob.poll();
    assert.deepEqual(bob.types().slice(2), ['missed', 'message']);
  });

  test('of numbers up to 10^15 are given up without a loop over them', async () => {
    const { ada, bob, clock } = await startPair();
    await ada.send('bob', 'ack', { headers: { sent: '1 999999999999999 999999999999999' } });
    await bob.poll();
    clock.advance(10_000);
    await bob.poll();
    clock.advance(60_000);
    await bob.poll();
    assert.deepEqual(bob.entriesOf('missed'), [{ type: 'missed', name: 'ada', count: 2 * 999_999_999_999_999 }]);
    await bob.say('still here');
    await ada.poll();
    assert.deepEqual(ada.texts(), ['still here']);
  });
});

describe('numbers', () => {
  test('equal messages under one number are shown once, different ones are TAMPERED', async () => {
    const { ada, bob } = await startPair();
    const { frame } = await ada.send('*', 'text', { body: 'first' });
    await ada.send('*', 'text', { frame: () => frame, isCounted: false });
    await bob.poll();
    assert.deepEqual(bob.texts(), ['first']);
    assert.deepEqual(bob.entriesOf('tampered'), []);
    await ada.send('*', 'text', { headers: { seq: '1' }, body: 'second' });
    await ada.send('*', 'text', { headers: { seq: '1' }, body: 'third' });
    await bob.poll();
    assert.deepEqual(bob.texts(), ['first']);
    assert.deepEqual(bob.entriesOf('tampered'), [{ type: 'tampered', name: 'ada', reason: 'two-with-one-number' }]);
    assert.equal(bob.directory.reportsOf('tampered', 'ada', 'two-with-one-number'), 2);
  });

  test('a malformed message consumes its number in its turn', async () => {
    const { ada, bob } = await startPair();
    await ada.send('bob', 'text', { headers: { received: null }, body: 'malformed' });
    await ada.send('*', 'text', { headers: { reach: 'telepathy' }, body: 'malformed' });
    await ada.send('*', 'later-kind', { body: 'of another version' });
    await ada.send('*', 'text', { headers: { seq: '0' }, body: 'ignored' });
    await ada.say('next');
    await bob.poll();
    const malformed = (reason: string) => ({ type: 'malformed', name: 'ada', seq: 1, reason });
    assert.deepEqual(bob.entriesOf('malformed'), [malformed('missing-header'), malformed('bad-header-value')]);
    assert.deepEqual(bob.texts(), ['next']);
    assert.equal(bob.peer('ada').broadcasts.processed, 3);
  });

  test('a broadcast that another member signed, or that is signed over another sid, is TAMPERED', async () => {
    const { ada, bob, cleo } = await startThree();
    await cleo.send('*', 'text', { signer: makeKeyPair().private });
    await cleo.send('*', 'text', { sid: ada.session.sid });
    await cleo.send('*', 'text', { signature: () => undefined });
    await cleo.send('*', 'text', { from: ada.id });
    await bob.poll();
    assert.deepEqual(
      bob.entriesOf('tampered').map(({ name, reason }) => `${name} ${reason}`),
      ['cleo bad-signature', 'cleo missing-signature', 'cleo auth-failed'],
    );
    assert.equal(bob.directory.reportsOf('tampered', 'cleo', 'bad-signature'), 2);
    assert.deepEqual(bob.texts(), []);
  });

  test('a direct message that nobody proves is counted as unreadable', async () => {
    const { ada, bob, cleo } = await startThree();
    await cleo.send('bob', 'text', { from: ada.id });
    await cleo.send('bob', 'text', { key: cleo.broadcastKey });
    await bob.poll();
    assert.equal(bob.entriesOf('unreadable').length, 2);
    assert.deepEqual(bob.texts(), []);
  });
});

describe('a new epoch', () => {
  test('repeats what was lost with the old one, exactly once and in order', async () => {
    let own = await startBridge();
    try {
      const { ada, bob, cleo, clock } = await startThree({ url: own.url });
      await ada.say('1');
      await flushEvents(ada, bob, cleo);
      await ada.say('2');
      await ada.dm('bob', '3');
      await cleo.poll();
      own = await restart(own);
      clock.advance(10_000);
      await bob.poll();
      await ada.say('4');
      assert.deepEqual(ada.entriesOf('resumed'), [{ type: 'resumed', isNewEpoch: true }]);
      for (let round = 0; round < 4; round++) await flushEvents(bob, cleo, ada);
      assert.deepEqual(bob.texts(), ['1', '2', '3', '4']);
      assert.deepEqual(cleo.texts(), ['1', '2', '4']);
      for (const each of [ada, bob, cleo]) {
        assert.equal(each.entriesOf('resumed').length, 1);
        for (const type of ['missed', 'tampered', 'unreadable', 'refused'] as const) {
          assert.deepEqual(each.entriesOf(type), [], `${each.name} ${type}`);
        }
      }
    } finally {
      await own.stop();
    }
  });

  test('a direct message goes out when its session is back', async () => {
    let own = await startBridge();
    try {
      const { ada, bob, clock } = await startPair({ url: own.url });
      own = await restart(own);
      clock.advance(10_000);
      await ada.dm('bob', 'are you back?');
      await ada.say('first for all');
      assert.deepEqual(ada.entriesOf('refused'), []);
      await flushEvents(bob, ada);
      await flushEvents(bob, ada);
      assert.deepEqual(bob.texts().sort(), ['are you back?', 'first for all']);
    } finally {
      await own.stop();
    }
  });

  test('repeats what nobody acknowledged; a newcomer does not acknowledge what was said before it came', async () => {
    let own = await startBridge();
    try {
      const ada = await ExampleSession.create(own.url, { name: 'ada' });
      await ada.say('to nobody');
      const bob = await ExampleSession.join(ada.link, { name: 'bob' });
      await flushEvents(ada, bob);
      await bob.say('heard');
      await ada.poll();
      own = await restart(own);
      await ada.poll();
      const cleo = await ExampleSession.join(ada.link, { name: 'cleo' });
      await cleo.poll();
      assert.deepEqual(cleo.texts(), ['to nobody']);
    } finally {
      await own.stop();
    }
  });

  test('answers one sync in 10 s with an ack, and one in a new epoch', async () => {
    let own = await startBridge();
    try {
      const { ada, bob, clock } = await startPair({ url: own.url });
      const isAnswered = async () => {
        await bob.send('ada', 'sync');
        await ada.poll();
        return !ada.peer('bob').isAckDue;
      };
      assert.equal(await isAnswered(), false);
      clock.advance(10_000);
      assert.equal(await isAnswered(), true);
      assert.equal(await isAnswered(), false);
      own = await restart(own);
      await ada.poll();
      await bob.poll();
      assert.equal(await isAnswered(), true);
      assert.equal(await isAnswered(), false);
    } finally {
      await own.stop();
    }
  });

  test('who never comes back is not waited for', async () => {
    let own = await startBridge();
    try {
      const { ada, bob, cleo, clock } = await startThree({ url: own.url });
      ada.build('*', 'text', { body: 'never posted' });
      await ada.say('shown in the end');
      await bob.poll();
      own = await restart(own);
      clock.advance(10_000);
      await bob.poll();
      await cleo.poll();
      assert.deepEqual(bob.texts(), []);
      clock.advance(60_000);
      await flushEvents(bob, cleo);
      assert.deepEqual(bob.texts(), ['shown in the end']);
      assert.deepEqual(bob.entriesOf('missed'), [{ type: 'missed', name: 'ada', count: 1 }]);
    } finally {
      await own.stop();
    }
  });

  test('what the bridge refuses stays first in line', async () => {
    let isRefusing = false;
    const ada = await ExampleSession.create(bridge.url, {
      name: 'ada',
      async fetch(input, init) {
        if (!isRefusing || !String(input).endsWith('/send')) return fetch(input, init);
        return Response.json({ error: { code: 'bridge_full' } }, { status: 503 });
      },
    });
    const bob = await ExampleSession.join(ada.link, { name: 'bob' });
    await flushEvents(ada, bob);
    isRefusing = true;
    await ada.say('1');
    await ada.say('2');
    assert.deepEqual(ada.entriesOf('refused'), [{ type: 'refused', code: 'bridge_full' }]);
    isRefusing = false;
    await ada.say('3');
    await bob.poll();
    assert.deepEqual(bob.texts(), ['1', '2', '3']);
  });
});

describe('coming and leaving', () => {
  test('a newcomer is shown what was said before, marked, and told how much it does not have', async () => {
    const { ada, bob } = await startPair();
    await ada.say('before');
    const cleo = await ExampleSession.join(ada.link, { name: 'cleo' });
    await flushEvents(ada, bob, cleo);
    await ada.say('after');
    await cleo.poll();
    assert.deepEqual(cleo.message('before').marks, { ...UNMARKED, isBeforeJoin: true });
    assert.deepEqual(cleo.message('after').marks, UNMARKED);
    const dan = await ExampleSession.join(ada.link, {
      name: 'dan',
      fetch: withholding(({ type, from, to }) => type === 'message' && from === ada.id && to === '*'),
    });
    await flushEvents(ada, dan);
    assert.deepEqual(dan.entriesOf('earlier'), [{ type: 'earlier', name: 'ada', count: 2 }]);
    assert.deepEqual(dan.entriesOf('missed'), []);
  });

  test('a newcomer is not blamed for what was said before it came, and counts it as read', async () => {
    const { ada, bob } = await startPair();
    await ada.say('before');
    await bob.poll();
    const cleo = await ExampleSession.join(ada.link, {
      name: 'cleo',
      fetch: withholding(({ type, from, to }) => type === 'message' && from === ada.id && to === '*'),
    });
    await ada.poll();
    await cleo.say('first words');
    await ada.poll();
    assert.deepEqual(ada.message('first words').marks, UNMARKED);
    assert.equal(cleo.build('*', 'text').headers['seen'], undefined);
    await cleo.poll();
    assert.equal(cleo.build('*', 'text').headers['seen'], `${ada.session.sid.slice(0, 16)} 1 0`);
  });

  test('a direct message is not posted while another session has the place of its own', async () => {
    let isWithheld = false;
    const fetch = withholding(({ type, to }) => isWithheld && type === 'message' && to !== '*');
    const ada = await ExampleSession.create(bridge.url, { name: 'ada', fetch });
    const bob = await ExampleSession.join(ada.link, { name: 'bob' });
    await flushEvents(ada, bob);
    await bob.request('POST', '/leave', { json: { participant_id: bob.id } });
    isWithheld = true;
    const other = await ExampleSession.join(ada.link, { name: 'bob' });
    await ada.poll();
    await ada.dm('bob', 'to the first bob');
    await other.poll();
    assert.deepEqual(other.entriesOf('unreadable'), []);
    assert.deepEqual(ada.entriesOf('undelivered'), []);
  });

  test('LEFT is told when all before it was shown, or given up after one more poll', async () => {
    const fetch = withholding(({ type, to }) => type === 'message' && to === '*');
    const { ada, bob } = await startPair({ fetch });
    await ada.say('last words');
    await ada.leave();
    await bob.poll();
    assert.deepEqual(bob.types().slice(2), []);
    await bob.poll();
    assert.deepEqual(bob.types().slice(2), ['missed', 'left']);
    assert.equal(bob.directory.present.length, 0);
  });

  test('sends nothing after it left', async () => {
    const { ada, bob } = await startPair();
    await ada.say('last words');
    await ada.leave();
    await assert.rejects(ada.say('no'), /has left/);
    await assert.rejects(ada.poll(), /has left/);
    await bob.poll();
    assert.deepEqual(bob.types().slice(2), ['message', 'left']);
  });

  test('the second session of a name is told as new, and takes over the name when it is PAIRED', async () => {
    const { ada, bob } = await startPair();
    await bob.request('POST', '/leave', { json: { participant_id: bob.id } });
    await ada.dm('bob', 'to the first bob');
    const other = await ExampleSession.join(ada.link, { name: 'bob' });
    await flushEvents(ada, other);
    assert.deepEqual(
      ada.entriesOf('new').map(({ name }) => name),
      ['bob~2'],
    );
    assert.deepEqual(ada.entriesOf('undelivered'), [{ type: 'undelivered', name: 'bob', seq: 1 }]);
    assert.deepEqual(other.texts(), []);
    await ada.dm('bob', 'to the second');
    await ada.dm('bob~2', 'again');
    await other.poll();
    assert.deepEqual(other.texts(), ['to the second', 'again']);
  });
});

describe('listening', () => {
  test('in the background shows at the bridge, and ends with leave, which is final', async () => {
    const { ada, bob } = await startPair();
    bob.start();
    const isListening = async () => {
      const { participants } = await ada.bridge.status(ada.epoch);
      return participants.find(({ id }) => id === bob.id)?.listening;
    };
    while (!(await isListening())) await ada.say('are you there?');
    await ada.leave();
    while (bob.entriesOf('left').length === 0) await new Promise(setImmediate);
    await bob.leave();
    await bob.stop();
    assert.deepEqual(bob.entriesOf('resumed'), []);
    await assert.rejects(ada.bridge.status(ada.epoch), ({ code }: BridgeError) => code === 'no_channel');
  });

  test('the client for a terminal pairs and talks', async () => {
    const cli = join(ROOT, 'dist', 'tests', 'example-cli.mjs');
    const entryPoints = [join(ROOT, 'examples', 'client', 'cli.ts')];
    await build({ entryPoints, outfile: cli, bundle: true, platform: 'node', format: 'esm', logLevel: 'warning' });
    const ada = await ExampleSession.create(bridge.url, { name: 'ada' });
    const child = spawn(process.execPath, [cli, 'join', 'bob']);
    const closed = once(child, 'close');
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stdin.write(`${ada.link}\n`);
    await ada.paired('bob');
    await ada.say('two\nlines');
    await ada.until(() => output.includes('ada:\n| two\n| lines\n'));
    child.stdin.write('hello\n/dm ada only you\n/leave\n');
    await ada.until(() => ada.entriesOf('left').length > 0);
    assert.deepEqual(
      ada.entriesOf('message').map(({ text, isDirect }) => [text, isDirect]),
      [
        ['hello', false],
        ['only you', true],
      ],
    );
    const [status] = (await closed) as [number | null];
    assert.equal(status, 0, output);
  });
});

describe('a copy of a session', () => {
  test('notices it by what others have received, reuses no number, and goes on as a new session', async () => {
    const { ada, bob, clock } = await startPair();
    const twin = ada.copy();
    await ada.say('from the original');
    await bob.poll();
    await bob.say('heard');
    await twin.poll();
    assert.deepEqual(twin.entriesOf('copy'), [{ type: 'copy', unacknowledged: [] }]);
    assert.notEqual(twin.session.sid, ada.session.sid);
    clock.advance(10_000);
    await flushEvents(bob, twin);
    await twin.say('from the copy');
    await bob.poll();
    assert.deepEqual(bob.texts(), ['from the original', 'from the copy']);
    assert.deepEqual(
      bob.entriesOf('new').map(({ name }) => name),
      ['ada~2'],
    );
    assert.deepEqual(bob.entriesOf('tampered'), []);
    assert.deepEqual(twin.texts(), ['heard']);
  });

  test('notices it by what was fetched with its token, after a minute without a request', async () => {
    const { ada, bob, clock } = await startPair();
    const twin = ada.copy();
    await bob.say('for one of them');
    await ada.poll();
    await ada.poll();
    clock.advance(MINUTE_MS);
    await twin.poll();
    assert.equal(twin.entriesOf('copy').length, 1);
    await ada.poll();
  });

  test('tells which messages were not acknowledged', async () => {
    const { ada, bob } = await startPair();
    await ada.say('acknowledged');
    await bob.poll();
    await bob.say('heard');
    await ada.poll();
    await ada.dm('bob', 'open');
    await bob.send('ada', 'ack', { headers: { received: '7 0 0' } });
    await ada.poll();
    assert.deepEqual(ada.entriesOf('copy'), [{ type: 'copy', unacknowledged: [{ to: 'bob', seq: 1 }] }]);
  });

  test('opens a new session at most once an hour, whatever a member claims', async () => {
    const { ada, bob, clock } = await startPair();
    for (let i = 0; i < 3; i++) {
      await bob.send('ada', 'ack', { headers: { received: `${i + 7} 0 0` } });
      await flushEvents(ada, bob);
    }
    assert.equal(ada.entriesOf('copy').length, 1);
    clock.advance(60 * MINUTE_MS);
    await flushEvents(ada, bob);
    await bob.send('ada', 'ack', { headers: { received: '7 0 0' } });
    await ada.poll();
    assert.equal(ada.entriesOf('copy').length, 2);
  });
});

describe('files', () => {
  const large = Buffer.alloc(2_500_000, 'a piece of a file ');

  test('arrive whole, of any size and name', async () => {
    const { ada, bob } = await startPair();
    await ada.sendFile('ünï/code\u202e.txt', Buffer.from('hello'));
    await ada.sendFile('empty', Buffer.alloc(0), 'bob');
    await ada.sendFile('large.bin', large);
    await flushEvents(bob);
    const names = ['ünï_code_.txt', 'empty', 'large.bin'];
    assert.deepEqual(
      bob.entriesOf('file').map(({ file }) => file),
      names,
    );
    const complete = bob.entriesOf('file-complete');
    assert.deepEqual(
      complete.map(({ file }) => file),
      names,
    );
    assert.equal(complete[0]?.bytes.toString(), 'hello');
    assert.equal(complete[1]?.bytes.length, 0);
    assert.ok(complete[2]?.bytes.equals(large));
  });

  test('delay no message', async () => {
    let isSlow = true;
    const bobFetch: typeof fetch = async (input, init) => {
      if (isSlow && String(input).includes('/blobs/')) return new Response(null, { status: 503 });
      return fetch(input, init);
    };
    const { ada, bob, clock } = await startPair({ fetch: bobFetch });
    await ada.sendFile('a file', Buffer.from('late'));
    await ada.say('after the file');
    await flushEvents(bob);
    assert.deepEqual(bob.types().slice(2), ['file', 'message']);
    isSlow = false;
    clock.advance(10_000);
    await flushEvents(bob);
    assert.deepEqual(bob.types().slice(2), ['file', 'message', 'file-complete']);
  });

  test('come again when the bridge has lost pieces', async () => {
    let own = await startBridge();
    try {
      const { ada, bob, clock } = await startPair({ url: own.url });
      await ada.sendFile('large.bin', large);
      own = await restart(own);
      clock.advance(10_000);
      for (let round = 0; round < 6; round++) {
        await flushEvents(ada, bob);
        clock.advance(10_000);
      }
      assert.ok(bob.entriesOf('file-complete')[0]?.bytes.equals(large), bob.story());
    } finally {
      await own.stop();
    }
  });

  test('are served again to whom they were sent, and to nobody else', async () => {
    let own = await startBridge();
    const asked: string[] = [];
    const bobFetch: typeof fetch = (input, init) => {
      asked.push(...(/[0-9a-f]{64}/.exec(String(input)) ?? []));
      return fetch(input, init);
    };
    try {
      const { ada, bob, cleo, clock } = await startThree({ url: own.url, fetch: bobFetch });
      await ada.sendFile('private', Buffer.from('for bob'), 'bob');
      await flushEvents(bob);
      const [digest = ''] = asked;
      own = await restart(own);
      clock.advance(10_000);
      await flushEvents(ada, bob, cleo);
      const hasBlob = () => cleo.bridge.hasBlob(cleo.epoch, digest);
      await cleo.send('ada', 'want', { body: `${digest}\n` });
      await flushEvents(ada);
      assert.equal(await hasBlob(), false);
      await bob.send('ada', 'want', { body: `${digest}\n` });
      await flushEvents(ada);
      assert.equal(await hasBlob(), true);
    } finally {
      await own.stop();
    }
  });

  test('with a bad body or wrong bytes are not delivered', async () => {
    const { ada, bob } = await startPair();
    const headers = { name: 'x', size: '5', sha256: 'a'.repeat(64) };
    await ada.send('*', 'file', { headers, body: 'no key' });
    await ada.send('*', 'file', { headers: { ...headers, name: '..' }, body: `${'a'.repeat(64)}\n` });
    await flushEvents(bob);
    assert.deepEqual(
      bob.entriesOf('malformed').map(({ reason }) => reason),
      ['bad-file-body', 'bad-header-value'],
    );
    assert.deepEqual(bob.entriesOf('file'), []);
  });
});
