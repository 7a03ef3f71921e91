/** Control messages that lie, repeat, come in floods, or go to all. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import * as protocol from '../../../sdk/protocol.ts';
import { startBridge } from '../../lib/bridge.ts';
import type { TestBridge } from '../../lib/bridge.ts';
import { AttackFixture, insertOnce, messageLine } from './fixture.ts';
import type { Sent } from './member.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const { BROADCAST } = protocol;
const HUGE = '999999999999999';
const open = (t: Parameters<typeof AttackFixture.open>[0], names = ['ada', 'mallory']) =>
  AttackFixture.open(t, bridge.url, names);

describe('a control message', { concurrency: 3 }, () => {
  test('to all, or with a number, does nothing', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    for (const kind of protocol.CONTROL_KINDS) {
      await mallory.send(BROADCAST, kind, { headers: { seq: null }, isCounted: false });
      await mallory.send(BROADCAST, kind, { isCounted: true });
      await mallory.send(mallory.peer('bob'), kind, { isCounted: true });
    }
    await fixture.sendMarker('mallory');
    fixture.check();
    assert.equal(fixture.count('LEFT'), 0);
    assert.ok(fixture.count('MALFORMED') >= 1);
    assert.deepEqual(fixture.tampered(), []);
  });

  test('`bye` of a member ends that session alone, and only what it named is waited for', async (t) => {
    const fixture = await open(t);
    const [ada, mallory] = [fixture.member('ada'), fixture.member('mallory')];
    await mallory.control('bob', 'bye', { from: ada.id });
    await mallory.control('bob', 'bye', { headers: { sent: `1 ${HUGE} ${HUGE}` } });
    const began = Date.now();
    await fixture.waitForEntry(/LEFT mallory: it has said goodbye/);
    assert.ok(Date.now() - began < 10_000, `${Date.now() - began} ms`);
    await fixture.sendMarker('ada');
    assert.equal(fixture.count('LEFT'), 1);
    assert.equal(fixture.count('MISSED'), 2);
    fixture.check();
  });

  test('`sync`, 30 times and again by the bridge, is answered by few acks', async (t) => {
    const fixture = await open(t);
    const [ada, mallory] = [fixture.member('ada'), fixture.member('mallory')];
    const before = mallory.controls('ack', 'bob').length;
    const sent: Sent[] = [];
    for (let i = 0; i < 30; i++) sent.push(await mallory.control('bob', 'sync'));
    insertOnce(fixture, () =>
      sent.map(({ sealed }) => messageLine(mallory.id, mallory.peer('bob').participantId, sealed)),
    );
    await fixture.sendMarker('mallory');
    await fixture.call('wait', '2');
    const acks = mallory.controls('ack', 'bob').length - before;
    assert.ok(acks >= 1 && acks <= 6, `${acks} acks`);
    await fixture.call('say', 'to all');
    await ada.waitForOutput('to all');
    assert.equal(ada.texts('bob').length, 1);
    fixture.check();
  });

  test('`want` of nonsense, of foreign hashes, and of a file for another moves nothing', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    const { writeFileSync } = await import('node:fs');
    const path = `${fixture.home}/secret.txt`;
    writeFileSync(path, 'for ada alone');
    await fixture.call('send_file', path, 'ada');
    const [hash = ''] = [...fixture.blobs.keys()];
    assert.match(hash, /^[0-9a-f]{64}$/);
    fixture.blobs.clear();
    const bodies = [
      `${hash}\n`,
      `${'0'.repeat(64)}\n`,
      '../../../etc/passwd\n',
      '$(>ran)\n',
      `${hash}`,
      `${hash.toUpperCase()}\n`,
      `${hash}\n`.repeat(40),
      '\0\n',
      '*\n',
      '',
    ];
    for (const body of bodies) await mallory.control('bob', 'want', { body });
    for (let i = 0; i < 3; i++) await fixture.call('wait', '1');
    assert.deepEqual([...fixture.blobs.keys()], [], 'nothing was put for mallory');
    await fixture.member('ada').control('bob', 'want', { body: `${hash}\n` });
    await fixture.call('wait', '2');
    assert.deepEqual([...fixture.blobs.keys()], [hash], 'and it was for ada');
    await fixture.sendMarker('mallory');
    fixture.check();
  });

  test('says what a message does to its sender’s agent: not with an older word, and not for ever', async (t) => {
    const fixture = await open(t, ['ada', 'zed', 'mallory', 'yan']);
    const now = Date.now();
    const words: Readonly<Record<string, readonly (readonly [reach: string, time: number])[]>> = {
      mallory: [
        ['wakes', now],
        ['reads', now - 60_000],
      ],
      yan: [
        ['wakes', now],
        ['reads', now + 1],
      ],
      zed: [['wakes', now - 9 * 3_600_000]],
    };
    for (const [name, said] of Object.entries(words)) {
      const member = fixture.member(name);
      for (const [reach, time] of said) await member.control('bob', 'sync', { headers: { reach, time: String(time) } });
    }
    await fixture.sendMarker('ada');
    const who = await fixture.call('who');
    assert.match(who, /^agentalk: mallory .*a message wakes it/m);
    assert.doesNotMatch(who, /^agentalk: (yan|zed|ada) .*wakes it/m);
    fixture.check();
  });

  test('with headers of other messages is taken without them', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    const bob = mallory.peer('bob');
    await fixture.call('say', 'one');
    await mallory.waitForOutput('one');
    for (const seen of [`${bob.sid.slice(0, 16)} 1 0`, `${bob.sid.slice(0, 16)} ${HUGE} 0`, 'nonsense', 'x[$(>ran)]'])
      await mallory.control('bob', 'sync', { headers: { seen, received: '0 0 0', size: 'x', name: '%', sha256: 'x' } });
    await fixture.sendMarker('ada');
    assert.equal(fixture.count('RESTORED'), 0);
    assert.match(await fixture.call('who'), /^agentalk: mallory .* has not confirmed your last 1 yet$/m);
    fixture.check();
  });
});
