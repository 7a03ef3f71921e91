/** What a person sees and does in the room, beyond the words themselves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBridge } from '../kit/bridge.ts';
import { Visitor } from '../kit/browser.ts';
import { ReferenceClient } from '../kit/client.ts';
import { bridge, done, listens, opener, skip } from './scene.ts';

/** A room of two agents and a person. */
async function three(options: Parameters<typeof Visitor.join>[2] = {}) {
  const laptop = await opener('laptop');
  const ada = await Visitor.join(laptop.joinUrl, 'ada', options);
  const server = listens(await ReferenceClient.join(laptop.joinUrl, 'server'));
  await Promise.all([laptop.paired('ada'), server.paired('ada'), server.paired('laptop')]);
  await ada.sees('paired with server');
  return { laptop, server, ada, page: ada.page };
}

test('the name is asked for once, and what the link suggests stands there', { skip }, async () => {
  const laptop = await opener('laptop');
  const ada = await Visitor.at(bridge.url);
  await ada.page.goto(`${laptop.joinUrl}&name=ada&topic=Worker%20leak`);
  assert.equal(await ada.page.getByLabel('Your name in the room').inputValue(), 'ada');
  assert.equal(await ada.page.title(), 'Worker leak · agentalk');
  await ada.page.getByRole('button', { name: 'Join' }).click();
  await laptop.paired('ada');
  await ada.page.reload();
  await ada.page.locator('#state.online').waitFor();
  assert.equal(await ada.page.locator('#gate').isVisible(), false);
  assert.equal(await ada.page.locator('#people .mine').innerText(), 'ada\nyou');
  await done(ada);
});

test('no request carries the key, in its address, its headers or its body', { skip }, async () => {
  const laptop = await opener('laptop');
  const ada = await Visitor.at(bridge.url);
  const sent: string[] = [];
  ada.context.on('request', (request) => {
    sent.push(`${request.method()} ${request.url()} ${JSON.stringify(request.headers())} ${request.postData() ?? ''}`);
  });
  await ada.page.goto(laptop.joinUrl);
  await ada.page.getByLabel('Your name in the room').fill('ada');
  await ada.page.getByRole('button', { name: 'Join' }).click();
  await laptop.paired('ada');
  await ada.say('the secret of the day');
  await laptop.hears('secret of the day');
  assert.ok(sent.some((request) => request.startsWith('POST') && request.includes('/send')));
  for (const request of sent) {
    // The browser's own record of the page's address has the fragment; what goes out has not.
    const wire = request.replace(/^GET \S+/, (line) => line.replace(/#.*/, ''));
    assert.ok(!wire.includes(laptop.k) && !/secret of the day|\bada\b|laptop/.test(wire), wire.slice(0, 300));
  }
  await done(ada);
});

test('each speaker has a colour, a name, a time and a shape', { skip }, async () => {
  const { laptop, server, ada, page } = await three();
  const bob = await Visitor.join(laptop.joinUrl, 'bob');
  await laptop.say('one');
  await server.say('two');
  await bob.say('three');
  await ada.say('four');
  for (const words of ['one', 'two', 'three', 'four']) await ada.sees(words);
  const said = await page.locator('#log .said').evaluateAll((items) =>
    items.map((item) => {
      const [who, node, time] = ['.who', '.node', 'time'].map((part) => item.querySelector(part));
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
  const { server, ada, page } = await three();
  const item = page.locator('#people li', { hasText: 'server' });
  await item.filter({ hasText: 'agent, listening' }).waitFor();
  await server.stop();
  // As if three minutes had passed: what the bridge says of the one who stopped.
  await page.route(`**/channels/${server.channel}?*`, async (route) => {
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
  const impatient = await startBridge(['--away-window', '1']);
  const laptop = (await ReferenceClient.create(impatient.url, 'laptop')).start();
  const ada = await Visitor.join(laptop.joinUrl, 'ada');
  await laptop.paired('ada');
  await laptop.stop();
  await ada.sees('laptop is away: what you say is kept for it');
  await ada.page.locator('#people li', { hasText: /agent, away since \d\d:\d\d/ }).waitFor();
  await ada.say('for later');
  laptop.start();
  await laptop.hears('for later');
  await ada.sees('laptop is back');
  await done(ada);
  await laptop.stop();
  await impatient.stop();
});

test(
  'a name that somebody else took over while the bridge was gone ends the session, and it says so',
  { skip },
  async () => {
    const first = await startBridge();
    const laptop = await ReferenceClient.create(first.url, 'laptop');
    const ada = await Visitor.join(laptop.joinUrl, 'ada');
    await ada.context.setOffline(true);
    await first.stop();
    const second = await startBridge(['--port', String(first.port)]);
    await ReferenceClient.join(laptop.joinUrl, 'ada');
    await ada.context.setOffline(false);
    await ada.page.getByText('The bridge refuses this session (name_taken)').waitFor();
    assert.equal(await ada.page.locator('#write').evaluate((form) => (form as HTMLElement).inert), true);
    await done(ada);
    await second.stop();
  },
);

test('how far each has what one wrote', { skip }, async () => {
  const { laptop, server, ada, page } = await three();
  await server.stop();
  await ada.say('who has this?');
  await laptop.hears('who has this?');
  await laptop.say('I do');
  const reach = page.locator('#log > li', { hasText: 'who has this?' }).locator('.reach');
  await reach.filter({ hasText: 'received by laptop · not yet by server' }).waitFor();
  server.start();
  await server.hears('who has this?');
  await server.say('so do I');
  await reach.filter({ hasText: /^received by laptop, server$/ }).waitFor();
  await done(ada);
});

test('diffs and code are told apart from prose, line by line', { skip }, async () => {
  const { laptop, ada, page } = await three();
  await laptop.say(
    'See:\n```diff\n@@ -1,2 +1,2 @@\n-old line\n+new line\n same\n```\nand\n```ts\nconst a = 1;\n```\ndone.',
  );
  await ada.sees('done.');
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
  const { laptop, ada, page } = await three();
  await laptop.say(Array.from({ length: 80 }, (_, i) => `line ${i + 1}`).join('\n'));
  await ada.sees('Show all 80 lines');
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
  const { laptop, server, ada, page } = await three();
  await server.say('a word with you?');
  await ada.sees('a word with you?');
  await page.getByRole('button', { name: 'Reply alone to server' }).click();
  const text = page.getByLabel('Message');
  await page.keyboard.type('yes,');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('say it');
  assert.equal(await text.inputValue(), 'yes,\nsay it');
  await page.keyboard.press('Enter');
  assert.equal(await text.inputValue(), '');
  await server.hears('yes,\nsay it');
  await page.locator('#to').selectOption('');
  await ada.say('to all');
  await laptop.hears('to all');
  assert.deepEqual(laptop.texts('ada'), ['to all']);
  await done(ada);
});

test('files can be dropped anywhere, and go to whom one writes', { skip }, async () => {
  const { laptop, server, ada, page } = await three();
  await page.locator('#to').selectOption('server');
  const data = await page.evaluateHandle(() => {
    const transfer = new DataTransfer();
    transfer.items.add(new File(['dropped'], 'a note.txt'));
    return transfer;
  });
  await page.dispatchEvent('#log', 'dragover', { dataTransfer: data });
  await page.getByText('Drop to send').waitFor();
  await page.dispatchEvent('#log', 'drop', { dataTransfer: data });
  await page.getByText('Drop to send').waitFor({ state: 'hidden' });
  const entry = await server.until(({ log }) => log.find((it) => it.type === 'message' && it.message.kind === 'file'));
  assert.ok(entry.type === 'message' && entry.to === 'me');
  assert.equal(Buffer.from(entry.message.body).toString(), 'dropped');
  assert.equal(entry.message.headers.get('name'), 'a_note.txt');
  assert.match(await ada.sees('a_note.txt'), /to server alone/);
  assert.ok(!laptop.log.some((it) => it.type === 'message' && it.message.kind === 'file'));
  await done(ada);
});

test('lanes show who spoke to whom', { skip }, async () => {
  const { laptop, server, ada, page } = await three();
  await laptop.say('to everybody');
  await ada.sees('to everybody');
  await server.dm('ada', 'to ada');
  await ada.sees('to ada');
  await page.getByRole('button', { name: 'Lanes' }).click();
  assert.deepEqual(await page.locator('#lanes thead .who').allInnerTexts(), ['ada', 'laptop', 'server']);
  const rows = await page.locator('#lanes tbody tr').evaluateAll((all) => all.map(({ textContent }) => textContent));
  assert.match(rows[0] ?? '', /to ada.*from laptop.*to server.*to everybody$/);
  assert.match(rows[1] ?? '', /to ada.*from server.*to ada$/);
  assert.doesNotMatch(rows[1] ?? '', /laptop/);
  await laptop.say('while one looks');
  await page.locator('#lanes tbody tr', { hasText: 'while one looks' }).waitFor();
  await page.getByRole('button', { name: 'Talk' }).click();
  await ada.sees('while one looks');
  await done(ada);
});

test('sound and notifications are off until one wants them, and tell nothing', { skip }, async () => {
  const { laptop, ada, page } = await three({ permissions: ['notifications'] });
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
  await ada.sees('unheard');
  assert.deepEqual(await told(), []);
  await page.getByText('Menu').click();
  assert.equal(await page.getByLabel('Sound for news').isChecked(), false);
  await page.getByLabel('Notification for news').check();
  await laptop.say('heard, and secret');
  await ada.sees('heard, and secret');
  assert.deepEqual(await told(), ['agentalk: Something new in the room']);
  await done(ada);
});

test('who is alone is told what to do, until somebody comes', { skip }, async () => {
  const laptop = await ReferenceClient.create(bridge.url, 'laptop');
  await laptop.leave();
  const ada = await Visitor.join(laptop.joinUrl, 'ada');
  await ada.page.getByText('Above you can copy an invitation').waitFor();
  const server = listens(await ReferenceClient.join(laptop.joinUrl, 'server'));
  await server.paired('ada');
  await ada.page.getByText('Above you can copy an invitation').waitFor({ state: 'hidden' });
  await done(ada);
});

test('an invitation for one more agent is copied as the one line that agents know', { skip }, async () => {
  const { laptop, ada, page } = await three({ permissions: ['clipboard-read', 'clipboard-write'] });
  await page.getByText('Menu').click();
  await page.getByRole('button', { name: 'Copy an invitation' }).click();
  await page.getByText('Copied').waitFor();
  const line = await page.evaluate(() => navigator.clipboard.readText());
  assert.equal(line, `Talk to my other Claude — curl this URL to start: ${laptop.joinUrl}`);
  await done(ada);
});

test('a name that is taken is said to be so, and another is proposed', { skip }, async () => {
  const laptop = await opener('laptop');
  const ada = await Visitor.at(bridge.url);
  await ada.page.goto(laptop.joinUrl);
  const name = ada.page.getByLabel('Your name in the room');
  await name.fill('laptop');
  await ada.page.getByRole('button', { name: 'Join' }).click();
  await ada.page.getByText('Somebody here is called laptop').waitFor();
  assert.equal(await name.inputValue(), 'laptop-2');
  await ada.page.getByRole('button', { name: 'Join' }).click();
  await laptop.paired('laptop-2');
  await done(ada);
});
