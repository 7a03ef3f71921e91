/** Much at once, of members, of the bridge, and of bob's own inattention: nothing is lost, doubled or confirmed unseen. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as protocol from '../../../sdk/protocol.ts';
import { startBridge } from '../../lib/bridge.ts';
import type { TestBridge } from '../../lib/bridge.ts';
import { AttackFixture, makeClient } from './fixture.ts';
import type { Member } from './member.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const { BROADCAST } = protocol;
/** 2000 with the released client; the default has a smaller bound. */
const OUT_OF_ORDER = Number(process.env['AGENTALK_TEST_OUT_OF_ORDER'] ?? 200);

/** The highest numbers of a member's broadcasts and direct messages that bob has confirmed to it. */
function confirmed(member: Member): readonly [broadcasts: number, directs: number] {
  const received = member.heard.flatMap(({ from, message }) =>
    from === 'bob' && message.received ? [message.received] : [],
  );
  return [
    Math.max(0, ...received.map(({ broadcasts }) => broadcasts)),
    Math.max(0, ...received.map(({ directs }) => directs)),
  ];
}

describe('what was not shown', { concurrency: 3 }, () => {
  test(`${OUT_OF_ORDER} messages before the first one are kept, and shown in order once it comes; what lies beyond is repeated`, async (t) => {
    const client = makeClient((source) => source.replace(/(upto \+ )2000\b/, `$1${OUT_OF_ORDER}`));
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory'], client);
    const mallory = fixture.member('mallory');
    const bob = mallory.peer('bob');
    const count = OUT_OF_ORDER + 1; // of which the last one lies beyond
    for (let n = 2; n <= count; n++)
      await mallory.send(bob, 'text', { body: `message ${n}`, headers: { seq: String(n), sent: `1 0 ${n}` } });
    await fixture.sendMarker('ada', OUT_OF_ORDER);
    const stored = () => readdirSync(join(fixture.session, 'received')).length;
    assert.equal(stored(), count - 2);
    const message = (n: number) =>
      mallory.send(bob, 'text', { body: `message ${n}`, headers: { seq: String(n), sent: `1 0 ${count}` } });
    await message(1);
    const said = Array.from({ length: count }, (_, i) => `message ${i + 1}`);
    const seesTo = async (end: number) => {
      for (let i = 0; i < OUT_OF_ORDER && fixture.texts('mallory').length < end; i++) await fixture.call('wait', '0');
      assert.deepEqual(fixture.texts('mallory'), said.slice(0, end));
    };
    await seesTo(count - 1);
    await message(count);
    await seesTo(count);
    assert.equal(stored(), 0);
    assert.equal(fixture.count('MISSED'), 0);
    t.diagnostic(`the longest call: ${fixture.longestMs} ms`);
    assert.deepEqual(fixture.tampered(), []);
    fixture.checkNothingRan();
  });

  test('280 unread messages come whole, each once, and each call confirms what it has shown', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'carol']);
    const [ada, carol] = [fixture.member('ada'), fixture.member('carol')];
    const said: string[] = [];
    for (let i = 1; i <= 140; i++)
      for (const [name, member] of [
        ['ada', ada],
        ['carol', carol],
      ] as const) {
        said.push(`${name} says ${i} ${'x'.repeat(i)}`);
        await (i % 2 === 0 ? member.say(said.at(-1) ?? '') : member.dm('bob', said.at(-1) ?? ''));
      }
    let calls = 0;
    while (fixture.texts().length < said.length && calls++ < 60) {
      const output = await fixture.call('wait', '0');
      assert.ok(output.length < 16_500, `${output.length} characters`);
      for (const member of [ada, carol]) {
        const shown = fixture.shown().filter(({ from }) => from === member.name);
        const [broadcasts, directs] = confirmed(member);
        assert.ok(broadcasts <= shown.filter(({ to }) => to === 'all').length, `${broadcasts} broadcasts confirmed`);
        assert.ok(directs <= shown.filter(({ to }) => to === 'you alone').length, `${directs} directs confirmed`);
      }
    }
    for (const name of ['ada', 'carol'])
      assert.deepEqual(
        fixture.texts(name),
        said.filter((text) => text.startsWith(name)),
      );
    for (const member of [ada, carol]) await member.control('bob', 'sync');
    await fixture.call('wait', '1');
    await fixture.sendMarker();
    assert.ok(fixture.longestMs < 30_000, `${fixture.longestMs} ms`);
    fixture.check(said);
    fixture.checkInbox();
  });

  for (const [what, redirection] of [
    ['closed', '>&-'],
    ['a full disk', '>/dev/full'],
    ['a pipe that nobody reads', '> >(exec 0<&-; read -t 0.2 </dev/zero)'],
  ] as const)
    test(`where stdout is ${what} nothing is confirmed, and it is shown later`, async (t) => {
      const fixture = await AttackFixture.open(t, bridge.url, ['ada']);
      const ada = fixture.member('ada');
      await ada.say('to all');
      await ada.dm('bob', 'to bob');
      for (const command of ['wait 1', 'listen', 'wait 1']) {
        const running = fixture.start(command.split(' '), '', redirection);
        const timer = setTimeout(() => void running.end('SIGTERM'), 8000);
        const { stdout } = await running.ended;
        clearTimeout(timer);
        assert.equal(stdout, '');
        await ada.control('bob', 'sync');
      }
      await fixture.start(['say', 'nobody sees that it is sent'], '', redirection).ended;
      await ada.waitForOutput('nobody sees that it is sent');
      assert.deepEqual(confirmed(ada), [0, 0]);
      assert.match(await fixture.call('who'), /ada .*(has not confirmed|was shown)/);
      assert.deepEqual(confirmed(ada), [0, 0]);
      fixture.screen = '';
      await fixture.waitForEntry(/\| to bob/);
      const lines = fixture.screen.replaceAll('(perhaps again) ', '');
      assert.deepEqual(
        fixture.shown(lines).map(({ text }) => text),
        ['to all', 'to bob'],
      );
      fixture.screen = '';
      await fixture.sendMarker();
      assert.ok(confirmed(ada)[0] >= 1 || confirmed(ada)[1] >= 1, 'then it is confirmed');
    });

  test('a number that is older than all digests is dropped unseen, whatever comes under it', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
    const mallory = fixture.member('mallory');
    const first = await mallory.say('the first', { headers: { seq: '1' } });
    await fixture.waitForEntry(/\| the first/);
    const others = [1900, 3800, 5700].map(String);
    for (const seq of others) {
      await mallory.say(seq, { headers: { seq } });
      await mallory.control('bob', 'sync', { headers: { sent: `${seq} ${seq} 0` } }); // what is before it is given up at once
      await fixture.waitForEntry(new RegExp(`\\| ${seq}`));
    }
    await mallory.say('another first', { headers: { seq: '1' } });
    await mallory.post(BROADCAST, await mallory.seal(BROADCAST, first.frame));
    await fixture.sendMarker('ada');
    fixture.check(['the first', ...others]);
  });

  test('`want` in floods is served within bounds, and delays no message', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
    const mallory = fixture.member('mallory');
    const path = join(fixture.home, 'some.txt');
    writeFileSync(path, randomBytes(3000));
    await fixture.call('send_file', path);
    const [hash = ''] = [...fixture.blobs.keys()];
    let puts = 0;
    const answerInstead = fixture.faultProxy.answerInstead;
    fixture.faultProxy.answerInstead = (asked, response) => {
      if (asked.kind === 'blobs' && asked.method === 'PUT') puts++;
      return answerInstead(asked, response);
    };
    for (let i = 0; i < 100; i++) await mallory.control('bob', 'want', { body: `${hash}\n`.repeat(1 + (i % 32)) });
    await fixture.sendMarker('ada', 90);
    await fixture.call('wait', '1');
    assert.ok(puts >= 1 && puts <= 20, `${puts} PUTs`);
    assert.ok(fixture.longestMs < 25_000, `${fixture.longestMs} ms`);
    fixture.check();
  });

  test('many small files fill the disk to a bound; beyond it a file comes when bob asks for it', async (t) => {
    const client = makeClient((source) => source.replace(/^MAX_FETCHED=\d+/m, 'MAX_FETCHED=300000'));
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory'], client);
    const mallory = fixture.member('mallory');
    const { makeFile } = await import('./file.ts');
    const files = Array.from({ length: 12 }, () => makeFile(randomBytes(50_000)));
    for (const file of files) {
      fixture.addBlobs(...file.pieces);
      await mallory.send(BROADCAST, 'file', { headers: file.headers, body: file.body, isCounted: true });
    }
    await fixture.sendMarker();
    for (let i = 0; i < 8; i++) await fixture.call('wait', '1');
    assert.equal(fixture.screen.match(/saved as/g)?.length, 6, '300,000 bytes');
    const inbox = () => readdirSync(join(fixture.session, 'inbox')).filter((name) => name.endsWith('-a.txt')).length;
    assert.equal(inbox(), 6);
    assert.equal(fixture.screen.match(/COMING #\d+ from mallory .*, fetched when you ask/g)?.length, 6);
    const number = /COMING #(\d+) from mallory [^\n]*fetched when you ask/.exec(fixture.screen)?.[1] ?? '';
    assert.match(await fixture.call('show', number), /saved as/);
    assert.equal(inbox(), 7);
    fixture.checkNothingRan();
  });
});
