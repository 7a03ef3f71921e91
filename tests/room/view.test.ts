/** What a person sees and does in the room, beyond the words themselves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import { BrowserUser } from '../lib/browser.ts';
import { Agent } from './agent.ts';
import { agentsAndPerson, bridge, done, joiner, opener, skip } from './fixture.ts';

test('the name is asked for once, and what the link suggests stands there', { skip }, async () => {
  const laptop = await opener('laptop');
  const ada = await BrowserUser.at(bridge.url);
  await ada.page.goto(`${laptop.link}&name=ada&topic=Worker%20leak`);
  assert.equal(await ada.page.getByLabel('Your name in the room').inputValue(), 'ada');
  assert.equal(await ada.page.title(), 'Worker leak · agentalk');
  await ada.page.getByRole('button', { name: 'Join' }).click();
  await laptop.paired('ada');
  await ada.page.reload();
  await ada.page.locator('#state.online').waitFor();
  assert.equal(await ada.page.locator('#gate').isVisible(), false);
  assert.match(await ada.page.locator('#people .mine').innerText(), /^ada\nyou\n(?:[0-9a-f]{4} ?){4}$/);
  await done(ada);
});

test('no request carries the key, in its address, its headers or its body', { skip }, async () => {
  const laptop = await opener('laptop');
  const ada = await BrowserUser.at(bridge.url);
  const sent: string[] = [];
  ada.context.on('request', (request) => {
    sent.push(`${request.method()} ${request.url()} ${JSON.stringify(request.headers())} ${request.postData() ?? ''}`);
  });
  await ada.page.goto(laptop.link);
  await ada.page.getByLabel('Your name in the room').fill('ada');
  await ada.page.getByRole('button', { name: 'Join' }).click();
  await laptop.paired('ada');
  await ada.say('the secret of the day');
  await laptop.reads('the secret of the day');
  assert.ok(sent.some((request) => request.startsWith('POST') && request.includes('/send')));
  for (const request of sent) {
    // The browser's own record of the page's address has the fragment; what goes out has not.
    const wire = request.replace(/^GET \S+/, (line) => line.replace(/#.*/, ''));
    assert.ok(!wire.includes(laptop.k) && !/secret of the day|\bada\b|laptop/.test(wire), wire.slice(0, 300));
  }
  await done(ada);
});

test('each speaker has a colour, a name, a time and a shape', { skip }, async () => {
  const { laptop, server, ada, page } = await agentsAndPerson();
  const bob = await BrowserUser.join(laptop.link, 'bob');
  await laptop.say('one');
  await server.say('two');
  await bob.say('three');
  await ada.say('four');
  for (const words of ['one', 'two', 'three', 'four']) await ada.waitForEntry(words);
  const said = await page.locator('#log .said').evaluateAll((items) =>
    items.map((item) => {
      const [who, node, time] = ['.who', '.avatar', 'time'].map((part) => item.querySelector(part));
      return {
        who: who?.textContent ?? '',
        colour: who ? getComputedStyle(who).color : '',
        isRound: node ? getComputedStyle(node).borderRadius === '50%' : false,
        time: time?.textContent ?? '',
      };
    }),
  );
  assert.deepEqual(
    said.map(({ who }) => who),
    ['laptop', 'server', 'bob', 'ada'],
  );
  assert.equal(new Set(said.map(({ colour }) => colour)).size, 4);
  assert.deepEqual(
    said.map(({ isRound }) => isRound),
    [false, false, true, true],
    'agents are square, people round',
  );
  for (const { time } of said) assert.match(time, /^\d\d:\d\d$/);
  await done(bob);
  await done(ada);
});

test('presence: who listens, who stopped and since when, who left', { skip }, async () => {
  const { server, ada, page } = await agentsAndPerson();
  const item = page.locator('#people li', { hasText: 'server' });
  await item.filter({ hasText: 'agent, listening' }).waitFor();
  await server.stop();
  // As if three minutes had passed: what the bridge says of the one who stopped.
  await page.route(`**/channels/${server.bridge.place.channel}?*`, async (route) => {
    const response = await route.fetch();
    const answer = (await response.json()) as { participants: { participant_id: string; seen_seconds: number }[] };
    for (const each of answer.participants) if (each.participant_id === server.id) each.seen_seconds = 180;
    await route.fulfill({ response, json: answer });
  });
  await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
  await item.filter({ hasText: /agent, not listening since \d\d:\d\d/ }).waitFor();
  await page.unrouteAll({ behavior: 'ignoreErrors' });
  await server.leave();
  await item.filter({ hasText: 'agent, left' }).waitFor();
  assert.ok(!(await page.locator('#to').innerText()).includes('server'), 'nobody writes to who has left');
  await done(ada);
});

test('who is silent for long is away, and comes back', { skip }, async () => {
  const impatient = await startBridge(['--away-after', '1']);
  const laptop = (await Agent.create(impatient.url, { name: 'laptop' })).start();
  const ada = await BrowserUser.join(laptop.link, 'ada');
  await laptop.paired('ada');
  await laptop.stop();
  await ada.waitForEntry('The bridge says that laptop is away: what you write is stored for it');
  await ada.page.locator('#people li', { hasText: /agent, away since \d\d:\d\d/ }).waitFor();
  await ada.say('for later');
  laptop.start();
  await laptop.reads('for later');
  await ada.waitForEntry('laptop is back');
  await done(ada);
  await laptop.stop();
  await impatient.stop();
});

test(
  'a name that somebody else took over while the bridge was gone ends the session, and it says so',
  { skip },
  async () => {
    const first = await startBridge();
    const laptop = await Agent.create(first.url, { name: 'laptop' });
    const ada = await BrowserUser.join(laptop.link, 'ada');
    await ada.context.setOffline(true);
    await first.stop();
    const second = await startBridge(['--port', String(first.port)]);
    await Agent.join(laptop.link, { name: 'ada' });
    await ada.context.setOffline(false);
    await ada.page.getByText('Somebody else has joined under your name').waitFor();
    assert.equal(await ada.page.locator('#write').evaluate((form) => (form as HTMLElement).inert), true);
    await done(ada);
    await second.stop();
  },
);

test('each own message says to whom it was shown', { skip }, async () => {
  const { laptop, server, ada, page } = await agentsAndPerson();
  await server.stop();
  await ada.say('who has this?');
  await laptop.reads('who has this?');
  await laptop.say('I do');
  const delivery = page.locator('#log > li', { hasText: 'who has this?' }).locator('.delivery');
  await delivery.filter({ hasText: 'shown to laptop · not confirmed yet: server' }).waitFor();
  server.start();
  await server.reads('who has this?');
  await server.say('so do I');
  await delivery.filter({ hasText: /^shown to laptop, server$/ }).waitFor();
  await done(ada);
});

test('diffs and code are told apart from prose, line by line', { skip }, async () => {
  const { laptop, ada, page } = await agentsAndPerson();
  await laptop.say(
    'See:\n```diff\n@@ -1,2 +1,2 @@\n-old line\n+new line\n same\n```\nand\n```ts\nconst a = 1;\n```\ndone.',
  );
  await ada.waitForEntry('done.');
  const lines = page.locator('#log pre.diff span');
  assert.deepEqual(await lines.evaluateAll((all) => all.map(({ className }) => className)), [
    ...['hunk', 'del', 'add', 'plain'],
  ]);
  const backgrounds = await lines.evaluateAll((all) => all.map((line) => getComputedStyle(line).backgroundColor));
  assert.equal(new Set(backgrounds).size, 3, 'taken away, added, and the rest');
  assert.equal(await page.locator('#log pre.code').innerText(), 'const a = 1;');
  assert.deepEqual(await page.locator('#log .prose').allInnerTexts(), ['See:', 'and', 'done.']);
  await done(ada);
});

test('a long message is folded, and unfolds', { skip }, async () => {
  const { laptop, ada, page } = await agentsAndPerson();
  await laptop.say(Array.from({ length: 80 }, (_, i) => `line ${i + 1}`).join('\n'));
  await ada.waitForEntry('Show all 80 lines');
  const body = page.locator('#log .body').last();
  const height = async () => (await body.boundingBox())?.height ?? 0;
  const folded = await height();
  await page.getByRole('button', { name: 'Show all 80 lines' }).click();
  assert.ok((await height()) > 4 * folded);
  await page.getByRole('button', { name: 'Fold' }).click();
  assert.equal(await height(), folded);
  await done(ada);
});

test('one answers one alone; Enter sends, Shift+Enter begins a line', { skip }, async () => {
  const { laptop, server, ada, page } = await agentsAndPerson();
  await server.say('a word with you?');
  await ada.waitForEntry('a word with you?');
  await page.getByRole('button', { name: 'Reply alone to server' }).click();
  const text = page.getByLabel('Message');
  await page.keyboard.type('yes,');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('say it');
  assert.equal(await text.inputValue(), 'yes,\nsay it');
  await page.keyboard.press('Enter');
  assert.equal(await text.inputValue(), '');
  await server.reads('yes,\nsay it');
  await page.locator('#to').selectOption('');
  await ada.say('to all');
  await laptop.reads('to all');
  assert.deepEqual(laptop.texts('ada'), ['to all']);
  await done(ada);
});

test('files can be dropped anywhere, and go to whom one writes', { skip }, async () => {
  const { laptop, server, ada, page } = await agentsAndPerson();
  await page.locator('#to').selectOption(server.session.sid);
  const data = await page.evaluateHandle(() => {
    const transfer = new DataTransfer();
    transfer.items.add(new File(['dropped'], 'a note.txt'));
    return transfer;
  });
  await page.dispatchEvent('#log', 'dragover', { dataTransfer: data });
  await page.getByText('Drop to send').waitFor();
  await page.dispatchEvent('#log', 'drop', { dataTransfer: data });
  await page.getByText('Drop to send').waitFor({ state: 'hidden' });
  const entry = await server.until(() => server.find('file-complete'));
  assert.deepEqual([entry.file, entry.bytes.toString()], ['a note.txt', 'dropped']);
  assert.match(await ada.waitForEntry('a note.txt'), /to server alone/);
  assert.equal(laptop.find('file'), undefined);
  await done(ada);
});

test('the timeline shows who wrote to whom', { skip }, async () => {
  const { laptop, server, ada, page } = await agentsAndPerson();
  await laptop.say('to everybody');
  await ada.waitForEntry('to everybody');
  await server.direct('ada', 'to ada');
  await ada.waitForEntry('to ada');
  await page.getByRole('button', { name: 'Timeline' }).click();
  assert.deepEqual(await page.locator('#timeline thead .who').allInnerTexts(), ['ada', 'laptop', 'server']);
  const rows = await page.locator('#timeline tbody tr').evaluateAll((all) => all.map(({ textContent }) => textContent));
  assert.match(rows[0] ?? '', /to ada.*from laptop.*to server.*to everybody$/);
  assert.match(rows[1] ?? '', /to ada.*from server.*to ada$/);
  assert.doesNotMatch(rows[1] ?? '', /laptop/);
  await laptop.say('while one looks');
  await page.locator('#timeline tbody tr', { hasText: 'while one looks' }).waitFor();
  await page.getByRole('button', { name: 'Messages' }).click();
  await ada.waitForEntry('while one looks');
  await done(ada);
});

test('sound and notifications are off until one wants them, and tell nothing', { skip }, async () => {
  const { laptop, ada, page } = await agentsAndPerson({ permissions: ['notifications'] });
  await page.evaluate(() => {
    const told: string[] = [];
    class Told {
      static requestPermission = () => Promise.resolve('granted');
      constructor(title: string, options?: NotificationOptions) {
        told.push(`${title}: ${options?.body ?? ''}`);
      }
    }
    Object.assign(globalThis, { Notification: Told, told, AudioContext: undefined });
    Object.defineProperty(document, 'hidden', { value: true, configurable: true });
  });
  const told = () => page.evaluate(() => (globalThis as unknown as { told: string[] }).told);
  await laptop.say('unheard');
  await ada.waitForEntry('unheard');
  assert.deepEqual(await told(), []);
  await page.getByText('Menu', { exact: true }).click();
  assert.equal(await page.getByLabel('Sound for news').isChecked(), false);
  await page.getByLabel('Notification for news').check();
  await laptop.say('heard, and secret');
  await ada.waitForEntry('heard, and secret');
  assert.deepEqual(await told(), ['agentalk: Something new in the room']);
  await done(ada);
});

test('who is alone is told what to do, until somebody comes', { skip }, async () => {
  const laptop = await Agent.create(bridge.url, { name: 'laptop' });
  await laptop.leave();
  const ada = await BrowserUser.join(laptop.link, 'ada');
  await ada.page.getByText('The menu above copies an invite').waitFor();
  const server = await joiner(laptop.link, 'server');
  await server.paired('ada');
  await ada.page.getByText('The menu above copies an invite').waitFor({ state: 'hidden' });
  await done(ada);
});

test('an invite for one more agent is copied as one line, with what the link had for it', { skip }, async () => {
  const laptop = await opener('laptop');
  const sum = '0123456789abcdef0123456789abcdef';
  const permissions = ['clipboard-read', 'clipboard-write'];
  for (const [parameters, expected] of [
    ['', ''],
    [`&t=a1b2&c=${sum}&x=y`, `&t=a1b2&c=${sum}`],
    ['&c=<b>', ''],
  ] as const) {
    const ada = await BrowserUser.join(laptop.link + parameters, `ada${expected.length}`, { permissions });
    await ada.page.getByText('Menu', { exact: true }).click();
    await ada.page.getByRole('button', { name: 'Copy an invite' }).click();
    await ada.page.getByText('Copied').waitFor();
    const line = await ada.page.evaluate(() => navigator.clipboard.readText());
    assert.equal(line, `Talk to my other agent — curl this URL to start: ${laptop.link}${expected}`);
    await ada.page.getByText('Menu', { exact: true }).click();
    await ada.page.getByRole('button', { name: 'Leave the room' }).click();
    await ada.page.getByText('You have left the room').waitFor();
    await done(ada);
  }
});

test('fingerprints are those of the sessions', { skip }, async () => {
  const { laptop, ada, page } = await agentsAndPerson();
  const own = (await laptop.until(() => laptop.directory.peers.find(({ label }) => label === 'ada'))).sid;
  const grouped = (sid: string) => sid.slice(0, 16).replace(/(.{4})(?=.)/g, '$1 ');
  assert.equal(
    await page.locator('#people li', { hasText: 'laptop' }).locator('.fingerprint').innerText(),
    grouped(laptop.session.sid),
  );
  assert.equal(await page.locator('#people .mine .fingerprint').innerText(), grouped(own));
  assert.equal(await page.locator('#own-fingerprint').textContent(), grouped(own));
  await done(ada);
});

test('a name that is taken is said to be so, and another is proposed', { skip }, async () => {
  const laptop = await opener('laptop');
  const ada = await BrowserUser.at(bridge.url);
  await ada.page.goto(laptop.link);
  const name = ada.page.getByLabel('Your name in the room');
  await name.fill('laptop');
  await ada.page.getByRole('button', { name: 'Join' }).click();
  await ada.page.getByText('Somebody here is called laptop').waitFor();
  assert.equal(await name.inputValue(), 'laptop-2');
  await ada.page.getByRole('button', { name: 'Join' }).click();
  await laptop.paired('laptop-2');
  await done(ada);
});
