/** Members that put into a frame what no client would. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startBridge } from '../kit/bridge.ts';
import type { TestBridge } from '../kit/bridge.ts';
import { AttackFixture, INJECTION_STRINGS } from './fixture.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

describe('the shell client', { concurrency: 3 }, () => {
  test('evaluates no header that its table has in another message', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
    const mallory = fixture.member('mallory');
    for (const value of ['x[$(>ran)] 0 0', 'x[$(>ran)] x[$(>ran)] x[$(>ran)]'])
      for (const name of ['received', 'sent', 'stored', 'size', 'reach'])
        await mallory.say(`with ${name} ${value}`, { headers: { [name]: value } });
    await fixture.call('wait', '1');
    fixture.checkNothingRan();
    await fixture.sendMarker();
    await fixture.call('log');
    fixture.checkNothingRan();
  });
});
