/** The pages for browsers: small, whole, readable by everybody, closed to everything else. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Page } from 'playwright-core';
import { publishedDocuments } from '../../scripts/documents.mjs';
import { BrowserUser } from '../lib/browser.ts';
import { ROOT } from '../lib/root.ts';
import { Agent } from './agent.ts';
import { bridge, done, opener, skip } from './fixture.ts';

const AXE = readFileSync(createRequire(join(ROOT, 'package.json')).resolve('axe-core/axe.min.js'), 'utf8');
const ROOM = `/c/${'0'.repeat(32)}`;
const DOCUMENTS = publishedDocuments(ROOT).map((name) => `/docs/${name.slice(0, -3)}`);

const get = (path: string, accept = 'text/html') => fetch(bridge.url + path, { headers: { accept } });
const html = async (path: string) => (await get(path)).text();
const inside = (text: string, tag: string) =>
  [...text.matchAll(new RegExp(`<${tag}(?: type="module")?>([^]*?)</${tag}>`, 'g'))].map(([, body = '']) => body);
const sha256 = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/** What axe finds serious: by all its rules in light colours, and by those about colours in dark ones. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  const find = (rules: readonly string[]) =>
    page.evaluate(async (runOnly) => {
      const { violations } = await (
        globalThis as unknown as { axe: { run(options: object): Promise<{ violations: any[] }> } }
      ).axe.run(runOnly.length === 0 ? {} : { runOnly });
      return violations
        .filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }: { html: string }) => html.slice(0, 120)).join(' | ')}`);
    }, rules);
  const found = await find([]);
  await page.emulateMedia({ colorScheme: 'dark' });
  found.push(...(await find(['color-contrast', 'link-in-text-block'])).map((each) => `dark: ${each}`));
  await page.emulateMedia({ colorScheme: 'light' });
  return found;
}

test('nothing runs or styles a page but what its policy names by its hash', async () => {
  for (const path of ['/', ROOM, ...DOCUMENTS]) {
    const response = await get(path);
    const text = await response.text();
    const policy = response.headers.get('content-security-policy') ?? '';
    const [script = '', ...scripts] = inside(text, 'script');
    const [style = '', ...styles] = inside(text, 'style');
    assert.deepEqual([scripts, styles], [[], []], path);
    assert.ok(policy.includes(`script-src ${sha256(script)};`), path);
    assert.ok(policy.includes(`style-src ${sha256(style)};`), path);
    assert.match(
      policy,
      /^default-src 'none'; .*connect-src 'self'; .*trusted-types 'none'; .*frame-ancestors 'none'$/,
    );
    assert.doesNotMatch(policy, /unsafe|\*|https?:/);
    assert.doesNotMatch(text.replace(script, ''), / on\w+="| style="|<script src|<link rel="stylesheet/, path);
    assert.doesNotMatch(text.replace(script, ''), /\{\{|undefined/, path);
    assert.doesNotMatch(
      script,
      /innerHTML|outerHTML|insertAdjacentHTML|document\.write|new Function|\beval\(|localStorage/,
      path,
    );
  }
  const plain = await get('/llms.txt');
  assert.doesNotMatch(plain.headers.get('content-security-policy') ?? '', /script-src/);
});

test('agents get each page as Markdown, and each HTML page names its twin', async () => {
  for (const path of DOCUMENTS) {
    const source = readFileSync(join(ROOT, `${path}.md`), 'utf8');
    for (const [twin, accept, type] of [
      [path, '*/*', 'text/markdown'],
      [`${path}.md`, '*/*', 'text/markdown'],
      [`${path}.md`, 'text/html', 'text/plain'],
    ] as const) {
      const response = await get(twin, accept);
      assert.equal(response.headers.get('content-type'), `${type}; charset=utf-8`);
      assert.equal(await response.text(), source);
    }
    assert.ok(
      (await html(path)).includes(`<link rel="alternate" type="text/markdown" href="${bridge.url}${path}.md">`),
    );
  }
  assert.ok((await html(ROOM)).includes(`<link rel="alternate" type="text/markdown" href="${bridge.url}${ROOM}">`));
});

test('every link of every page leads somewhere', async () => {
  for (const path of ['/', ROOM, ...DOCUMENTS]) {
    const text = (await html(path)).replace(/<script [^]*<\/script>/, '');
    for (const [, href = ''] of text.matchAll(/<a\b[^>]* href="([^"]+)"/g)) {
      const url = new URL(href, bridge.url + path);
      if (url.origin !== bridge.url) continue;
      const response = await fetch(url, { headers: { accept: 'text/html' } });
      assert.equal(response.status, 200, `${path}: ${href}`);
      const anchor = decodeURIComponent(url.hash.slice(1));
      if (anchor !== '')
        assert.match(await response.text(), new RegExp(`\\sid="?${anchor}["\\s>]`), `${path}: ${href}`);
    }
  }
});

test('axe finds nothing serious on any page, light or dark', { skip }, async () => {
  const user = await BrowserUser.at(bridge.url);
  for (const path of ['/', ROOM, ...DOCUMENTS]) {
    await user.page.goto(bridge.url + path);
    assert.deepEqual(await violations(user.page), [], path);
  }
  await done(user);
});

for (const width of [1280, 360]) {
  test(`nor in the room, at work, ${width} wide`, { skip }, async () => {
    const laptop = await opener('laptop');
    const user = await BrowserUser.at(bridge.url, { viewport: { width, height: 720 } });
    await user.page.goto(laptop.link);
    await user.page.getByLabel('Your name in the room').fill('ada');
    assert.deepEqual(await violations(user.page), [], 'the way in');
    await user.page.getByRole('button', { name: 'Join' }).click();
    await laptop.paired('ada');
    const others = await Promise.all(['b', 'c', 'd', 'e', 'f', 'g'].map((name) => Agent.join(laptop.link, { name })));
    for (const other of others) await other.say('a word of `mine`\n\n```diff\n@@ -1 +1 @@\n-a\n+b\n c\n```');
    await laptop.direct('ada', 'alone');
    await user.waitForEntry('alone');
    await user.say('mine', laptop.session.sid);
    await laptop.sendFile('a note.txt', Buffer.from('note'));
    await user.page.getByRole('button', { name: 'Save a note.txt' }).waitFor();
    await laptop.say('x\n'.repeat(80));
    await user.waitForEntry('Show all');
    // Another message under a number that it has used.
    await laptop.sendFrame(undefined, laptop.honestHeaders('text', 1), 'another first thing');
    await user.waitForEntry('TAMPERED');
    assert.deepEqual(await violations(user.page), [], 'talk');
    assert.equal(await user.page.evaluate(() => document.documentElement.scrollWidth), width, 'nothing is wider');
    await user.page.getByText('Menu', { exact: true }).click();
    await user.page.getByRole('button', { name: 'Timeline' }).click();
    await user.page.getByText('Menu', { exact: true }).click();
    assert.deepEqual(await violations(user.page), [], 'timeline and menu');
    await user.page.getByRole('button', { name: 'Leave the room' }).click();
    await user.page.getByText('You have left the room').waitFor();
    assert.deepEqual(await violations(user.page), [], 'left');
    await user.page.getByRole('button', { name: 'Join again' }).click();
    await user.page.getByRole('button', { name: 'Only watch' }).click();
    await user.page.locator('#watching').waitFor();
    assert.deepEqual(await violations(user.page), [], 'watching');
    await done(user);
    await laptop.stop();
  });
}

test('no page is wider than a screen of 320 pixels', { skip }, async () => {
  const user = await BrowserUser.at(bridge.url, { viewport: { width: 320, height: 600 } });
  for (const path of ['/', ROOM, ...DOCUMENTS]) {
    await user.page.goto(bridge.url + path);
    const width = await user.page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 320, `${path}: ${width}`);
  }
  await user.close();
});

test('start page and documents work without JavaScript, and the room says what to do', { skip }, async () => {
  const user = await BrowserUser.at(bridge.url, { javaScriptEnabled: false });
  await user.page.goto(bridge.url);
  await user.page.getByText('Talk to my other agent at').first().waitFor();
  await user.page.getByRole('link', { name: 'How it works' }).click();
  await user.page.getByRole('heading', { name: 'When something fails' }).waitFor();
  const contents = user.page.getByRole('navigation', { name: 'Documents' });
  await contents.getByRole('link', { name: 'The client' }).click();
  assert.match(user.page.url(), /#the-client$/);
  await user.page.goto(bridge.url + ROOM);
  await user.page.getByText('it needs JavaScript').waitFor();
  await user.close();
});

test('what is to be said is copied as one sentence', { skip }, async () => {
  const user = await BrowserUser.at(bridge.url, { permissions: ['clipboard-read', 'clipboard-write'] });
  await user.page.goto(bridge.url);
  await user.page.locator('.say').getByRole('button', { name: 'Copy' }).click();
  await user.page.locator('.say').getByRole('button', { name: 'Copied' }).waitFor();
  const text = await user.page.evaluate(() => navigator.clipboard.readText());
  assert.equal(
    text,
    `Talk to my other agent at ${bridge.url}. You may fetch its client, agentalk.sh, read it and run it.`,
  );
  await done(user);
});

test('on plain http from another machine the room says why, and the two ways out', { skip }, async () => {
  const laptop = await Agent.create(bridge.url, { name: 'laptop' });
  const other = bridge.url.replace('127.0.0.1', 'plain.example');
  const user = await BrowserUser.at(other);
  await user.page.goto(laptop.link.replace(bridge.url, other));
  await user.page.getByRole('heading', { name: 'This room needs https, or localhost' }).waitFor();
  await user.page.getByText(`ssh -N -L ${bridge.port}:127.0.0.1:${bridge.port} plain.example`).waitFor();
  assert.deepEqual(await violations(user.page), []);
  await done(user);
});
