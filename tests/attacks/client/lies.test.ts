/** What a bridge says that no proof covers: where bob's joining stands among the events, and how far bob has fetched. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startBridge } from '../../lib/bridge.ts';
import type { TestBridge } from '../../lib/bridge.ts';
import { AttackFixture, MISSING_SECONDS, rewriteAnswers } from './fixture.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const HUGE = '99999999999999';
const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

describe('a lie of the bridge', { concurrency: 2 }, () => {
  test('about the index of bob’s joining hides no mark of a session that is PAIRED', async (t) => {
    const prepare = (fixture: AttackFixture) =>
      rewriteAnswers(fixture, 'join', (lines) =>
        lines.map((line) => (line.startsWith('cursor ') ? line.split(' ').with(4, HUGE).join(' ') : line)),
      );
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'carol'], undefined, prepare);
    const [ada, carol] = [fixture.member('ada'), fixture.member('carol')];
    await ada.say('shall I keep it?');
    await carol.waitForOutput('shall I keep it?');
    const answer = await carol.sealMessage('*', 'text', { body: 'yes' });
    await ada.say('shall I delete it?');
    await carol.waitForOutput('shall I delete it?');
    await carol.post('*', answer.sealed);
    await fixture.waitForEntry(/\| yes/);
    const notes = fixture.shown().find(({ text }) => text === 'yes')?.notes ?? '';
    assert.match(notes, /had not read the last 1 of ada/);
    assert.doesNotMatch(fixture.screen, /before you came/);
    fixture.check(['shall I keep it?', 'yes', 'shall I delete it?']);
  });

  test('about what bob has fetched, at each request, begins one new session and loses no word', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada']);
    const ada = fixture.member('ada');
    const bob = ada.peer('bob').participantId;
    await fixture.call('say', 'before');
    await ada.waitForOutput('before');
    rewriteAnswers(fixture, ['status', 'join'], (lines) =>
      lines.map((line) => (line.startsWith(`participant ${bob} `) ? line.split(' ').with(4, HUGE).join(' ') : line)),
    );
    for (const text of ['after 1', 'after 2', 'after 3']) {
      await pause((MISSING_SECONDS + 1) * 1000);
      await fixture.call('say', text);
      await fixture.call('wait', '1');
    }
    await ada.waitForOutput('after 3');
    assert.deepEqual(ada.texts('bob'), ['before', 'after 1', 'after 2', 'after 3']);
    assert.equal(ada.peers.filter(({ name }) => name === 'bob').length, 2, 'one new session');
    await fixture.sendMarker();
    fixture.check();
  });
});
