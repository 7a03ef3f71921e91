/**
 * Sequence numbers: two messages under one, numbers that are none, beyond reason or never sealed, counters that fall; and
 * a bridge that refuses one of bob's messages and then hands out what it likes.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import * as protocol from '../../../sdk/protocol.ts';
import { concat, utf8Encode } from '../../../sdk/encoding.ts';
import { startBridge } from '../../lib/bridge.ts';
import type { TestBridge } from '../../lib/bridge.ts';
import { until } from '../../lib/shell.ts';
import { sealWithTag } from './collision.ts';
import { AttackFixture, INJECTION_STRINGS, MISSING_SECONDS, insertOnce, messageLine } from './fixture.ts';
import { rawFrame } from './member.ts';
import type { Changes, Member } from './member.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const { BROADCAST } = protocol;
const HUGE = '999999999999999';
const open = (t: Parameters<typeof AttackFixture.open>[0], names = ['ada', 'mallory']) =>
  AttackFixture.open(t, bridge.url, names);

/** The passphrase of the direct key between a member and bob. */
async function directPassphrase(member: Member): Promise<string> {
  const bob = member.peer('bob');
  const x = await protocol.sharedX(member.keys.ecdh, bob.pub);
  return protocol.directPassphrase(member.channelKey, member.sid, bob.sid, x.ok ? x.value : assert.fail());
}

describe('two messages under one number', { concurrency: 3 }, () => {
  for (const to of ['all', 'one'] as const)
    test(`to ${to}: the first is shown, the second is TAMPERED`, async (t) => {
      const fixture = await open(t);
      const mallory = fixture.member('mallory');
      const send = (text: string, seq: number, kind = 'text') =>
        mallory.send(to === 'all' ? BROADCAST : mallory.peer('bob'), kind, {
          body: text,
          headers: { seq: String(seq) },
        });
      await send('first', 1);
      for (const text of ['second', 'third', 'first ', 'First']) await send(text, 1);
      await send('first', 1, 'unknown-kind');
      // Out of order: both wait for number 2.
      await send('fourth', 3);
      await send('not the fourth', 3);
      await fixture.sendMarker();
      assert.deepEqual(fixture.tampered(), ['sequence-reused mallory']);
      await send('in between', 2);
      await fixture.waitForEntry(/\| fourth/);
      await send('not the fourth', 3);
      await send('not in between', 2);
      await fixture.sendMarker();
      fixture.check(['first', 'in between', 'fourth']);
      assert.deepEqual(fixture.texts('mallory'), ['first', 'in between', 'fourth']);
      assert.deepEqual(fixture.tampered(), ['sequence-reused mallory']);
      fixture.checkInbox();
    });

  test('that both come before their turn are TAMPERED, too', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    for (const text of ['the second', 'not the second']) await mallory.say(text, { headers: { seq: '2' } });
    await mallory.say('the first');
    await fixture.waitForEntry(/\| the second/);
    mallory.broadcasts = 2;
    await fixture.sendMarker();
    fixture.check(['the first', 'the second']);
    assert.deepEqual(fixture.tampered(), ['sequence-reused mallory']);
  });

  test('that differ in one header only are two messages', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    const time = String(Date.now());
    for (const headers of [{}, { time: '1' }, { x: 'y' }, { reach: 'reads' }])
      await mallory.say('the same words', { headers: { seq: '1', time, ...headers } });
    await fixture.sendMarker();
    fixture.check(['the same words']);
    assert.deepEqual(fixture.tampered(), ['sequence-reused mallory']);
  });

  test('with the same nonce and the same tag, too, are two messages', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    const bob = mallory.peer('bob');
    const first = await mallory.sealMessage(bob, 'text', { body: 'the first of two' });
    const text = Buffer.from(first.frame)
      .toString()
      .replace('the first of two', `the second, and a free block${'.'.repeat(32)}`);
    const aad = mallory.aad(bob.participantId);
    const { nonce, tag } = first.sealed;
    const second = sealWithTag(await directPassphrase(mallory), aad, utf8Encode(text), nonce, tag);
    assert.notEqual(second.ciphertext, first.sealed.ciphertext);
    assert.ok((await protocol.unseal(bob.direct, aad, second)).ok, 'both are genuine');
    insertOnce(fixture, () =>
      [first.sealed, second, first.sealed].map((each) => messageLine(mallory.id, bob.participantId, each)),
    );
    await fixture.sendMarker();
    fixture.check(['the first of two']);
    assert.deepEqual(fixture.tampered(), ['sequence-reused mallory']);
  });

  test('one forged with nonce and tag of a genuine one before it does not take its place', async (t) => {
    const fixture = await open(t);
    const [ada, mallory] = [fixture.member('ada'), fixture.member('mallory')];
    const aad = mallory.aad(BROADCAST, 'message', ada.id);
    const room = protocol.broadcastPassphrase(mallory.channelKey);
    insertOnce(fixture, (line) => {
      const [, , , from = '', to = '', nonce = '', , tag = ''] = line.split(' ');
      const frame = rawFrame(
        [
          ['kind', 'text'],
          ['seq', '1'],
          ['time', '1'],
          ['signature', 'AAAA'],
        ],
        `forged ${'.'.repeat(40)}`,
      );
      return [messageLine(from, to, sealWithTag(room, aad, frame, nonce, tag))];
    });
    await fixture.sendMarker();
    fixture.check();
    assert.deepEqual(fixture.tampered(), ['bad-signature ada']);
  });

  test('a card forged with nonce and tag of a genuine one before it does not take its place', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    const room = protocol.broadcastPassphrase(mallory.channelKey);
    const keys = await protocol.makeKeys();
    fixture.rewrite = (lines, { kind }) =>
      kind !== 'poll'
        ? lines
        : lines.flatMap((line) => {
            const [word, index = '', at, from = '', nonce = '', , tag = ''] = line.split(' ');
            if (word !== 'join') return [line];
            const card = protocol.makeCard({ kind: 'agent', name: 'eve', pub: keys.pub, sign: keys.sign });
            const frame = concat(card, utf8Encode('.'.repeat(48)));
            const forged = sealWithTag(room, mallory.aad(BROADCAST, 'card', from), frame, nonce, tag);
            return [`join ${Number(index) - 1} ${at} ${from} ${nonce} ${forged.ciphertext} ${tag}`, line];
          });
    const eve = await fixture.enter('eve');
    await fixture.waitForEntry(/PAIRED with eve~2/);
    await eve.say('from eve herself');
    await fixture.waitForEntry(/\| from eve herself/);
    await fixture.sendMarker();
    fixture.check(['from eve herself']);
  });
});

describe('a number of a member', { concurrency: 3 }, () => {
  test('that is none is ignored, and does not become code', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    const bad = [
      '0',
      '-1',
      '+1',
      '01',
      '1.5',
      '1e3',
      '0x1',
      '1000000000000000',
      '9'.repeat(400),
      '1 1',
      ...INJECTION_STRINGS,
    ];
    for (const to of [BROADCAST, mallory.peer('bob')] as const)
      for (const seq of bad) await mallory.send(to, 'text', { headers: { seq }, body: 'under no number' });
    for (const to of [BROADCAST, mallory.peer('bob')] as const)
      await mallory.send(to, 'text', { headers: { seq: null }, isCounted: false, body: 'under no number' });
    await fixture.sendMarker('mallory');
    fixture.check();
    assert.equal(fixture.count('MISSED'), 0);
    for (const cause of fixture.tampered()) assert.match(cause, /^(bad-header|unterminated-headers) mallory$/);
  });

  test('is consumed by a malformed message, which is reported; what follows is shown at once', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    const shapes: readonly Changes[] = [
      ...['', '-1', '01', '1000000000000000', 'x[$(>ran)]', '1 2'].map((time) => ({ time })),
      { time: null },
      { kind: null },
      ...['Text', 'text!', 'x'.repeat(17), '-text', '$(>ran)'].map((kind) => ({ kind })),
      ...['', 'x', 'LISTENING', 'listening reads', 'x[$(>ran)]'].map((reach) => ({ reach })),
      ...['', 'x', `${'0'.repeat(16)} 1`, `${'0'.repeat(16)} 1 x[$(>ran)]`, `${'0'.repeat(15)}g 1 1`].map((seen) => ({
        seen,
      })),
      { seen: `${'0'.repeat(16)} 1 1,` },
      { seen: `${'0'.repeat(16)} 1 1 Left` },
      { seen: `${'0'.repeat(16)} 1 1  left` },
      { seen: Array.from({ length: 65 }, () => `${'0'.repeat(16)} 1 1`).join(',') },
      { kind: 'file' },
      { kind: 'sync' },
      { kind: 'bye' },
    ];
    const direct: readonly Changes[] = [
      ...['', '1 1', '0 1 1', '1 1 1 1', '01 1 1', '1 1 x[$(>ran)]', '1  1 1', '-1 0 0'].map((sent) => ({ sent })),
      ...['', '1 1', '1 1 1 1', '01 1 1', '1 1 x[$(>ran)]', '-1 0 0', `${HUGE}9 0 0`].map((received) => ({ received })),
      { sent: null },
      { received: null },
    ];
    const bob = mallory.peer('bob');
    let count = 0;
    for (const to of [BROADCAST, bob] as const)
      for (const headers of to === bob ? [...shapes, ...direct] : shapes) {
        await mallory.send(to, 'text', { headers, isCounted: true, body: 'malformed' });
        count++;
      }
    await fixture.sendMarker('mallory');
    fixture.check();
    assert.deepEqual(
      fixture.tampered().filter((cause) => cause !== 'bad-header mallory'),
      [],
    );
    assert.ok(fixture.count('MALFORMED') > 0);
    assert.ok(fixture.count('MALFORMED') <= count);
    assert.equal(fixture.count('LEFT'), 0);
    assert.equal(fixture.count('RESTORED'), 0);
  });

  test('is consumed by a kind that nobody knows, and its other headers count', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    await fixture.call('say', 'one');
    await mallory.waitForOutput('one');
    const bob = mallory.peer('bob');
    await mallory.send(BROADCAST, 'later-kind', {
      body: 'not shown',
      headers: { seen: `${bob.sid.slice(0, 16)} 1 0` },
      isCounted: true,
    });
    await mallory.send(bob, 'x', { body: 'not shown', isCounted: true });
    await mallory.send(bob, 'later-kind', { body: 'not shown', headers: { seq: null }, isCounted: false });
    await fixture.sendMarker('mallory');
    fixture.check();
    assert.match(await fixture.call('who'), /^agentalk: mallory .* was shown all that you said$/m);
    assert.equal(fixture.count('MALFORMED'), 0);
  });

  test('as large as there are neither loops nor holds up anybody else', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    const bob = mallory.peer('bob');
    const control = (kind: string, headers: Changes) => mallory.control('bob', kind, { headers });
    await control('sync', { sent: `1 ${HUGE} ${HUGE}` });
    await mallory.send(bob, 'text', {
      body: 'waits for all of them',
      headers: { sent: `1 ${HUGE} 1` },
      isCounted: true,
    });
    await mallory.send(BROADCAST, 'text', { body: 'the last that there is', headers: { seq: HUGE } });
    await mallory.send(bob, 'text', { body: 'the last to one', headers: { seq: HUGE } });
    const began = Date.now();
    await fixture.sendMarker();
    assert.ok(Date.now() - began < 10_000, `${Date.now() - began} ms`);
    await fixture.waitForEntry(/MISSED \d+ from mallory/, MISSING_SECONDS + 25);
    await fixture.waitForEntry(/\| waits for all of them/, 15);
    await fixture.sendMarker();
    fixture.check(['waits for all of them', 'the last that there is', 'the last to one']);
    assert.ok(fixture.longestMs < 15_000, `${fixture.longestMs} ms`);
  });

  test('F as large as there are, that falls, or rises over what is there, loses nothing of others and ends', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    const sync = (sent: string) => mallory.control('bob', 'sync', { headers: { sent } });
    await mallory.say('one');
    await fixture.waitForEntry(/\| one/);
    await mallory.send(BROADCAST, 'text', { body: 'three', headers: { seq: '3' } });
    await sync('3 3 0'); // 2 is not repeated: given up at once
    await fixture.waitForEntry(/\| three/, 5);
    assert.equal(fixture.count('MISSED 1 from mallory'), 1);
    await sync('1 3 0'); // F falls: no effect
    await mallory.send(BROADCAST, 'text', { body: 'four', headers: { seq: '4' } });
    await fixture.waitForEntry(/\| four/);
    await sync(`${HUGE} ${HUGE} 0`);
    await sync(`${HUGE} 4 0`);
    await sync('1 4 0');
    await fixture.sendMarker();
    await mallory.send(BROADCAST, 'text', { body: 'five, below F', headers: { seq: '5' } });
    await fixture.sendMarker();
    fixture.check(['one', 'three', 'four', 'five, below F']);
    assert.ok(fixture.longestMs < 15_000, `${fixture.longestMs} ms`);
  });
});

describe('counts of what bob sealed', { concurrency: 3 }, () => {
  const lies: Readonly<Record<string, (mallory: Member) => Promise<unknown>>> = {
    'broadcasts in `received`': (mallory) => mallory.control('bob', 'ack', { headers: { received: `${HUGE} 0 0` } }),
    'direct messages in `received`': (mallory) => mallory.control('bob', 'sync', { headers: { received: '0 7 0' } }),
    'broadcasts in the `seen` of a broadcast': (mallory) =>
      mallory.say(`with lie ${mallory.broadcasts + 1}`, {
        headers: { seen: `${mallory.peer('bob').sid.slice(0, 16)} 2 0` },
      }),
  };
  for (const [what, lie] of Object.entries(lies))
    test(`that were never sealed (${what}) begin one new session of bob, and no second`, async (t) => {
      const fixture = await open(t);
      const [ada, mallory] = [fixture.member('ada'), fixture.member('mallory')];
      await fixture.call('say', 'before');
      await ada.waitForOutput('before');
      await lie(mallory);
      await fixture.waitForEntry(/RESTORED/);
      await until('a new session', () => mallory.peers.filter(({ name }) => name === 'bob').length === 2);
      await ada.paired('bob');
      await mallory.control('bob', 'ack', { headers: { received: `${HUGE} ${HUGE} 0` } });
      await lie(mallory);
      for (let i = 0; i < 3; i++) await fixture.call('wait', '1');
      await fixture.call('say', 'after');
      await ada.waitForOutput('after');
      assert.equal(ada.peers.filter(({ name }) => name === 'bob').length, 2, 'bob begins anew once');
      assert.equal(fixture.count('RESTORED'), 1);
      await until('ada pairs again', () => ada.peer('bob').isPaired);
      await fixture.sendMarker();
      fixture.check(['with lie 1', 'with lie 2']);
      assert.match(
        await fixture.call('who'),
        /^agentalk: mallory .* has not confirmed your last 1 yet$/m,
        'a lie confirms nothing',
      );
    });

  test('that fall, and `stored` beyond what there is, change nothing', async (t) => {
    const fixture = await open(t);
    const [ada, mallory] = [fixture.member('ada'), fixture.member('mallory')];
    for (const text of ['one', 'two']) await fixture.call('say', text);
    await mallory.waitForOutput('two');
    await mallory.control('bob', 'ack');
    await fixture.call('wait', '1');
    const confirmed = /^agentalk: mallory .* was shown all that you said$/m;
    assert.match(await fixture.call('who'), confirmed);
    for (const received of ['1 0 0', '0 0 0', '0 0 5']) await mallory.control('bob', 'ack', { headers: { received } });
    for (const stored of [`${HUGE} ${HUGE}`, '3 0', '0 1', '0 0'])
      await mallory.control('bob', 'sync', { headers: { stored } });
    await fixture.sendMarker('mallory');
    assert.match(await fixture.call('who'), confirmed);
    await fixture.call('say', 'three');
    await ada.waitForOutput('three');
    assert.deepEqual(ada.texts('bob'), ['one', 'two', 'three']);
    assert.equal(fixture.count('RESTORED'), 0);
    fixture.check();
  });
});

describe('`seen` of a member', { concurrency: 3 }, () => {
  test('with unknown ids, 64 entries, entries twice and numbers as large as there are is told in marks and changes nothing', async (t) => {
    const fixture = await open(t);
    const [ada, mallory] = [fixture.member('ada'), fixture.member('mallory')];
    await ada.say('said by ada');
    await fixture.waitForEntry(/\| said by ada/);
    const entry = (sid: string, ...rest: string[]) => [sid.slice(0, 16), ...rest].join(' ');
    const unknown = (i: number) => entry(i.toString(16).padStart(16, 'f'), HUGE, HUGE);
    const said: Readonly<Record<string, string>> = {
      'nobody known': Array.from({ length: 64 }, (_, i) => unknown(i)).join(),
      'known and left': `${unknown(1)} left,${entry(ada.sid, '1', '0')}`,
      'too much': entry(ada.sid, HUGE, '0'),
      'much missed': entry(ada.sid, '1', HUGE),
      'twice, the first counts': `${entry(ada.sid, '1', '0')},${entry(ada.sid, '0', '9')}`,
      nothing: entry(ada.sid, '0', '0'),
      'no entry': '',
    };
    for (const [text, seen] of Object.entries(said))
      await mallory.say(text, { headers: { seen: seen || null }, isCounted: true });
    await fixture.sendMarker();
    fixture.check(['said by ada', ...Object.keys(said)]);
    const notes = Object.fromEntries(fixture.shown().map((each) => [each.text, each.notes]));
    assert.match(notes['nobody known'] ?? '', /somebody that you were not shown/);
    assert.match(notes['nobody known'] ?? '', /had not read the last 1 of ada/);
    assert.doesNotMatch(notes['known and left'] ?? '', /ada|somebody/);
    assert.match(notes['too much'] ?? '', /has read words of ada that are not here/);
    assert.match(notes['much missed'] ?? '', /has missed 999999999999999 of ada/);
    assert.doesNotMatch(notes['twice, the first counts'] ?? '', /ada/);
    assert.match(notes['nothing'] ?? '', /had not read the last 1 of ada/);
    assert.match(notes['no entry'] ?? '', /had not read the last 1 of ada/);
    assert.equal(fixture.count('MISSED'), 0);
    assert.equal(fixture.count('LEFT'), 0);
  });
});

describe('a message of bob that the bridge refuses', { concurrency: 3 }, () => {
  const refusals: readonly (readonly [status: number, code: string])[] = [
    [400, 'bad_request'],
    [413, 'too_large'],
    [409, 'nonce_reused'],
    [404, 'no_recipient'],
    [404, 'not_found'],
    [401, 'no_participant'],
    [409, 'other_epoch'],
    [404, 'no_channel'],
    [429, 'channel_full'],
    [503, 'bridge_full'],
    [500, 'internal'],
    [418, 'teapot'],
    [200, 'nonsense'],
  ];
  for (const [status, code] of refusals)
    test(`once with ${status} ${code} keeps its number and its bytes, and comes once`, async (t) => {
      const fixture = await open(t, ['ada']);
      const ada = fixture.member('ada');
      const bodies: { readonly to: string; readonly sealed: protocol.Sealed }[] = [];
      // Each message is refused when it is first posted; the second one has reached the bridge by then.
      let refused = 0;
      fixture.faultProxy.alter = (asked, answer) => {
        if (asked.kind !== 'send') return answer;
        const { to, nonce, ciphertext, tag } = JSON.parse(asked.body.toString()) as protocol.Sealed & { to: string };
        const isFirst = !bodies.some(({ sealed }) => sealed.nonce === nonce);
        bodies.push({ to, sealed: { nonce, ciphertext, tag } });
        if (!isFirst || refused >= 3) return answer;
        refused++;
        return {
          ...answer,
          status,
          body: Buffer.from(`error ${code} words of the bridge\nhint words of the bridge\n`),
        };
      };
      const drop = fixture.faultProxy.answerInstead;
      fixture.faultProxy.answerInstead = (asked, response) => {
        const isNew =
          asked.kind === 'send' && !bodies.some(({ sealed }) => asked.body.toString().includes(sealed.nonce));
        if (!isNew || refused !== 0) return drop(asked, response);
        refused++;
        const { to, nonce, ciphertext, tag } = JSON.parse(asked.body.toString()) as protocol.Sealed & { to: string };
        bodies.push({ to, sealed: { nonce, ciphertext, tag } });
        response.writeHead(status, { 'Content-Type': 'text/plain' });
        response.end(`error ${code} words of the bridge\nhint words of the bridge\n`);
        return true;
      };
      for (const text of ['one', 'two']) await fixture.call('say', text);
      await fixture.call('dm', 'ada', 'three');
      for (let i = 0; i < 3; i++) await fixture.call('wait', '1');
      await ada.control('bob', 'sync'); // what was refused as no_recipient goes out on that
      await fixture.waitForEntry(/./);
      for (let i = 0; i < 10 && ada.texts('bob').length < 3; i++) await fixture.call('wait', '1');
      assert.deepEqual(ada.texts('bob'), ['one', 'two', 'three']);
      // One ciphertext for each number, however often it was posted.
      const byNumber = new Map<string, Set<string>>();
      for (const { to, sealed } of bodies) {
        const key = to === BROADCAST ? ada.broadcastKey : ada.peer('bob').direct;
        const opened = await protocol.unseal(key, ada.aad(to, 'message', ada.peer('bob').participantId), sealed);
        const frame = opened.ok ? protocol.parseFrame(opened.value) : assert.fail('sealed by bob');
        const seq = frame.ok ? frame.value.headers.get('seq') : assert.fail('a frame');
        if (seq === undefined) continue;
        const name = `${to === BROADCAST ? 'all' : 'one'} ${seq}`;
        byNumber.set(name, (byNumber.get(name) ?? new Set()).add(JSON.stringify(sealed)));
      }
      assert.deepEqual([...byNumber.keys()].sort(), ['all 1', 'all 2', 'one 1']);
      for (const [name, versions] of byNumber) assert.equal(versions.size, 1, name);
      assert.doesNotMatch(fixture.screen, /words of the bridge/);
      if (status === 400 || status === 413) assert.match(fixture.screen, /not sent: .*leave, and join again/);
      await fixture.sendMarker();
      fixture.check();
    });
});
