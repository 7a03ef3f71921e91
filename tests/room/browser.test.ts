/** What browsers and networks do to a room: blocked storage, full storage, proxies that give up, sleep. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FaultProxy } from '../lib/fault-proxy.ts';
import { BrowserUser } from '../lib/browser.ts';
import { agentAndPerson, bridge, done, opener, skip } from './fixture.ts';

/** As with all cookies blocked: each kind of storage throws when it is looked at. */
function blockStorage(): void {
  const blocked = () => {
    throw new DOMException('blocked', 'SecurityError');
  };
  for (const name of ['sessionStorage', 'localStorage', 'indexedDB']) {
    Object.defineProperty(window, name, { get: blocked, configurable: true });
  }
  navigator.locks.request = () => Promise.reject(new DOMException('blocked', 'SecurityError'));
  navigator.locks.query = () => Promise.reject(new DOMException('blocked', 'SecurityError'));
}

test('without any storage the room works, and says what that means', { skip }, async () => {
  const laptop = await opener('laptop');
  const ada = await BrowserUser.at(bridge.url);
  await ada.page.addInitScript(blockStorage);
  await ada.page.goto(laptop.link);
  await ada.page.getByText('This browser stores nothing for this page').waitFor();
  await ada.page.getByLabel('Your name in the room').fill('ada');
  await ada.page.getByRole('button', { name: 'Join' }).click();
  await laptop.paired('ada');
  await ada.waitForEntry('This browser stores nothing for this page');
  await laptop.say('one');
  await ada.waitForEntry('one');
  await ada.say('two');
  await laptop.reads('two');
  await laptop.sendFile('file.bin', Buffer.alloc(1_100_000, 7));
  await ada.page.getByRole('button', { name: 'Save file.bin' }).waitFor();
  // A reload leaves at once, and joins anew under the same name.
  await ada.page.reload();
  await laptop.until(({ entries }) => entries.find(({ type }) => type === 'gone'));
  await ada.page.getByLabel('Your name in the room').fill('ada');
  await ada.page.getByRole('button', { name: 'Join' }).click();
  await laptop.paired('ada~2');
  await done(ada);
});

test('where storage is full the room goes on, and a reload never uses a number twice', { skip }, async () => {
  const { laptop, ada } = await agentAndPerson();
  await ada.say('stored');
  await laptop.reads('stored');
  await ada.page.evaluate(() => {
    Storage.prototype.setItem = () => {
      throw new DOMException('full', 'QuotaExceededError');
    };
  });
  await ada.say('not stored');
  await laptop.reads('not stored');
  await ada.waitForEntry('This browser stores nothing for this page');
  assert.equal(await ada.page.evaluate(() => sessionStorage.length), 0);
  await ada.page.reload();
  await ada.page.getByLabel('Your name in the room').waitFor();
  assert.deepEqual(laptop.texts('ada'), ['stored', 'not stored']);
  await done(ada);
});

test('where the transcript fills the storage its oldest lines go first', { skip }, async () => {
  const { laptop, ada } = await agentAndPerson();
  const line = 'x'.repeat(60_000);
  for (let i = 0; i < 120; i++) await laptop.say(`${i} ${line}`);
  await laptop.say('the last line');
  await ada.waitForEntry('the last line');
  await ada.page.reload();
  await ada.waitForEntry('the last line');
  assert.equal(await ada.page.getByText('This browser stores nothing').count(), 0);
  await ada.say('still the same session');
  await laptop.reads('still the same session');
  assert.equal(laptop.directory.peers.length, 1);
  await done(ada);
});

test('no poll waits longer than 25 seconds', { skip }, async () => {
  const { ada } = await agentAndPerson();
  const waits: number[] = [];
  ada.page.on('request', (request) => {
    const wait = new URL(request.url()).searchParams.get('wait');
    if (wait !== null) waits.push(Number(wait));
  });
  await ada.say('one');
  await ada.page.reload();
  await ada.page.locator('#state.online').waitFor();
  await ada.page.waitForTimeout(1000);
  assert.ok(waits.length > 0 && Math.max(...waits) <= 25, waits.join());
  await done(ada);
});

test('a machine that slept a while checks first whether a copy of the session went on', { skip }, async () => {
  const laptop = await opener('laptop');
  const relay = await FaultProxy.start(bridge.url);
  const ada = await BrowserUser.at(relay.urlFor('ada'));
  await ada.page.clock.install();
  await ada.page.goto(laptop.link.replace(bridge.url, relay.urlFor('ada')));
  await ada.page.getByLabel('Your name in the room').fill('ada');
  await ada.page.getByRole('button', { name: 'Join' }).click();
  await laptop.paired('ada');
  await laptop.say('before');
  await ada.waitForEntry('before');
  // The bridge says that a cursor was presented that this tab never had.
  relay.rewrite = ({ kind }, body) => {
    if (kind !== 'status') return body;
    const fields = JSON.parse(body.toString()) as { participants: { fetched: number }[] };
    for (const participant of fields.participants) participant.fetched += 1000;
    return Buffer.from(JSON.stringify(fields));
  };
  await ada.context.setOffline(true);
  await ada.page.clock.fastForward(120_000);
  await ada.context.setOffline(false);
  await ada.waitForEntry('This session exists twice');
  await laptop.paired('ada~2');
  await done(ada);
  await relay.stop();
});
