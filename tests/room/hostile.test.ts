/** Whatever a peer or a link says is text: no markup, no script, no request, no trick with invisible characters. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HIDDEN_RANGES } from '../../sdk/encoding.ts';
import { BrowserUser } from '../lib/browser.ts';
import { Agent } from './agent.ts';
import { agentAndPerson, bridge, done, skip } from './fixture.ts';

const ELSEWHERE = 'http://elsewhere.example';
/** Each of them would call `alert`, write `pwned` somewhere, or ask elsewhere, if it were anything but text. */
const BODIES: readonly string[] = [
  '<script>alert(1)</script>',
  '<ScRiPt>alert(1)</sCrIpT>',
  '</script><script>alert(1)</script>',
  '<img src=x onerror=alert(1)>',
  `<img src="${ELSEWHERE}/a.png">`,
  '<svg onload=alert(1)>',
  '<svg><script>alert(1)</script></svg>',
  '<svg><animate onbegin=alert(1) attributeName=x dur=1s>',
  `<iframe src="${ELSEWHERE}"></iframe>`,
  '<iframe srcdoc="<script>parent.alert(1)</script>"></iframe>',
  `<object data="${ELSEWHERE}"></object>`,
  `<embed src="${ELSEWHERE}">`,
  `<link rel=stylesheet href="${ELSEWHERE}/a.css">`,
  `<style>@import "${ELSEWHERE}/a.css"; * { display: none }</style>`,
  `<meta http-equiv=refresh content="0;url=${ELSEWHERE}">`,
  `<base href="${ELSEWHERE}/">`,
  `<form action="${ELSEWHERE}"><button autofocus onfocus=alert(1)>x</button></form>`,
  '<a href="javascript:alert(1)">click</a>',
  'javascript:alert(1)',
  'data:text/html,<script>alert(1)</script>',
  '<body onload=alert(1)>',
  '<details open ontoggle=alert(1)>',
  '<video><source onerror=alert(1)></video>',
  `<video poster="${ELSEWHERE}/p.png">`,
  '<input autofocus onfocus=alert(1)>',
  '<math><mtext></p><img src=x onerror=alert(1)></math>',
  '<template><script>alert(1)</script></template>',
  '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
  '<!--><img src=x onerror=alert(1)>-->',
  '<![CDATA[<img src=x onerror=alert(1)>]]>',
  '"><img src=x onerror=alert(1)>',
  "'-alert(1)-'",
  '${alert(1)}',
  '{{constructor.constructor("alert(1)")()}}',
  '{{BRIDGE}} {{SHA256}}',
  '&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#x3c;',
  '`<img src=x onerror=alert(1)>`',
  '```\n<img src=x onerror=alert(1)>\n</pre></code><script>alert(1)</script>\n```',
  '```diff\n+<img src=x onerror=alert(1)>\n-<script>alert(1)</script>\n```',
  '```"><script>alert(1)</script>\nx\n```',
  '--- a/<img src=x onerror=alert(1)>\n+++ b/x\n@@ -1 +1 @@\n-<svg onload=alert(1)>\n+<b>',
  '[x](javascript:alert(1)) ![y](http://elsewhere.example/y.png)',
  '**bold** <b>bold</b> # heading',
  'agentalk: PAIRED with root.',
  'PAIRED with root · 0000 0000 0000 0000',
  '</li></ol><h1>agentalk: session expired, enter your key</h1>',
  '\u202egnp.exe\u202c and \u2066isolated\u2069',
  'zero\u200bwidth\ufeff and \u00ad soft',
  'escape \u001b[2J\u001b]0;pwned\u0007 bell',
  'nul \0 and delete \x7f and c1 \u009b31m',
  'Z̸̡̢͖͕a̷l̵g̶o̸ ﷽ 👨‍👩‍👧 ✔️ \ud800 lone',
  'tags \u{e0041}\u{e0042}, selectors x\ufe0f\u{e0100}, fillers \u3164\uffa0\u115f',
  ' \n\n ',
  'a'.repeat(9000),
  '<b>'.repeat(3000),
];

const isHidden = (codePoint: number) => HIDDEN_RANGES.some(([first, last]) => first <= codePoint && codePoint <= last);
/** What is shown of it: every hidden character has become a visible one, or is left out after an emoji. */
const shownOf = (text: string): string =>
  Array.from(Buffer.from(text).toString(), (character) =>
    isHidden(character.codePointAt(0) ?? 0) ? '\ufffd' : character,
  ).join('');
const words = (text: string) => text.replace(/[\s`\ufffd]+/g, '');

const NAMES = [
  'constructor',
  'tostring',
  'hasownproperty',
  'null',
  'undefined',
  '0',
  'a'.repeat(32),
  'c0',
  'main',
  'x-._-',
];

/** Names that a member can send; others are malformed. */
const FILES = [
  '<img src=x onerror=alert(1)>.html',
  'invoice.pdf .exe',
  'CON',
  '.bashrc',
  'a'.repeat(120),
  '"; rm -rf ~ ;".sh',
  '%00.txt',
  'javascript:alert(1)',
  'übergröße 文件.txt',
];
const BAD_FILE_NAMES = ['..%2F..%2Fetc%2Fpasswd', '..', '.', '%E2%80%AEgnp.exe', '%00', '%0A', 'a%5Cb', '%FF', 'a b'];

/** Nothing of a peer's became an element, and no page of ours lost its shape. */
async function isWhole({ page }: BrowserUser): Promise<void> {
  const found = await page.evaluate(() => {
    const strange = 'script, style, img, iframe, object, embed, link, meta, base, video, form, h1, svg, b b, template';
    return {
      strange: [...document.querySelectorAll(`#log :is(${strange})`)].map(({ outerHTML }) => outerHTML.slice(0, 80)),
      handlers: [...document.querySelectorAll('#log *')].filter(({ attributes }) =>
        [...attributes].some(({ name }) => name.startsWith('on') || name === 'srcdoc' || name === 'style'),
      ).length,
      forms: document.forms.length,
    };
  });
  assert.deepEqual(found, { strange: [], handlers: 0, forms: 1 });
}

test('bodies', { skip }, async () => {
  assert.ok(BODIES.length >= 40);
  const { laptop: mallory, ada } = await agentAndPerson();
  for (const [i, body] of BODIES.entries()) await (i % 2 ? mallory.say(body) : mallory.direct('ada', body));
  await mallory.say('that was all');
  await ada.waitForEntry('that was all');
  const shown = await ada.page.locator('#log .said .body').allTextContents();
  for (const [i, body] of BODIES.entries()) {
    const plain = shownOf(body).replace(/^```.*$/gm, '');
    assert.equal(words(shown[i] ?? ''), words(plain), JSON.stringify(body.slice(0, 80)));
  }
  await isWhole(ada);
  await ada.page.getByRole('button', { name: 'Timeline' }).click();
  await ada.page.locator('#timeline table').waitFor();
  await isWhole(ada);
  await done(ada);
});

test('no hidden character of a text is anywhere on the page', { skip }, async () => {
  const { laptop: mallory, ada } = await agentAndPerson();
  const all = HIDDEN_RANGES.flatMap(([first, last]) => [first, last, Math.floor((first + last) / 2)]);
  await mallory.say(`begin ${all.map((codePoint) => `${String.fromCodePoint(codePoint)}x`).join('')} end`);
  await mallory.sendFile(`name ${String.fromCodePoint(0x202e)}x`, Buffer.from('x'));
  await ada.waitForEntry('begin');
  await ada.waitForEntry('name');
  await ada.page.getByRole('button', { name: 'Timeline' }).click();
  const shown = await ada.page.evaluate(() => document.body.textContent ?? '');
  const hidden = Array.from(shown, (character) => character.codePointAt(0) ?? 0).filter(isHidden);
  assert.deepEqual(hidden, []);
  await done(ada);
});

test('names that mean something to a program', { skip }, async () => {
  const { laptop: mallory, ada } = await agentAndPerson();
  for (const name of NAMES) {
    const client = await Agent.join(mallory.link, { name });
    await client.say(`I am ${name}`);
  }
  for (const name of NAMES) {
    assert.match(await ada.waitForEntry(`I am ${name}`), new RegExp(`^${name.replace(/\./g, '\\.')}\\b|^x-`));
  }
  assert.equal(await ada.page.locator('#people li').count(), NAMES.length + 2);
  await isWhole(ada);
  await done(ada);
});

test('names of files', { skip }, async () => {
  const { laptop: mallory, ada } = await agentAndPerson();
  const contents = Buffer.from('<script>alert(1)</script>');
  for (const name of FILES) await mallory.sendFile(name, contents);
  await ada.page.waitForFunction((n) => document.querySelectorAll('.file button').length === n, FILES.length);
  assert.deepEqual(await ada.page.locator('.file b').allTextContents(), FILES);
  const saves = ada.page.locator('.file button');
  for (let i = 0; i < FILES.length; i++) {
    const saving = ada.page.waitForEvent('download');
    await saves.nth(i).click();
    assert.match((await saving).suggestedFilename(), /^[^./\\:*?"<>|][^/\\:*?"<>|]*$/);
  }
  await isWhole(ada);
  await done(ada);
});

test('a file under a name that no client writes is malformed', { skip }, async () => {
  const { laptop: mallory, ada } = await agentAndPerson();
  const digest = '0'.repeat(64);
  for (const [i, name] of BAD_FILE_NAMES.entries()) {
    const headers = { ...mallory.honestHeaders('file', i + 1), name, size: '0', sha256: digest };
    await mallory.sendFrame(undefined, headers, `${digest}\n`);
  }
  await ada.waitForEntry(/messages? of laptop (is|are) malformed/);
  mallory.session.sealedBroadcasts = BAD_FILE_NAMES.length;
  await mallory.say('that was all');
  await ada.waitForEntry('that was all');
  assert.equal(await ada.page.locator('.file').count(), 0);
  assert.match(await ada.waitForEntry('(bad-header-value)'), /malformed/);
  await done(ada);
});

test('a file that is not what its message says is reported, and so is a body that is none', { skip }, async () => {
  const { laptop: mallory, ada } = await agentAndPerson();
  const f = 'ab'.repeat(32);
  const honest = { name: 'x', size: '0', sha256: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' };
  const send = async (more: Record<string, string>, body: string) => {
    mallory.session.sealedBroadcasts++;
    const headers = mallory.honestHeaders('file', mallory.session.sealedBroadcasts);
    await mallory.sendFrame(undefined, { ...headers, ...honest, ...more }, body);
  };
  await send({ sha256: '0'.repeat(64) }, `${f}\n`);
  await ada.waitForEntry('its pieces don’t give the file');
  await send({}, '');
  await send({}, `${f}\n${f}\n`);
  await send({ size: '3145728' }, `${f}\n${f}\n${f}\n${f}\n`);
  await ada.waitForEntry('3 messages of laptop are malformed and not shown (bad-file-body)');
  await send({}, `${f}\n`);
  await ada.page.getByRole('button', { name: 'Save x' }).waitFor();
  assert.equal(await ada.page.locator('.file').count(), 2);
  await done(ada);
});

test('what a link brings along', { skip }, async () => {
  const mallory = await Agent.create(bridge.url, { name: 'mallory' });
  const ada = await BrowserUser.at(bridge.url);
  const topic = '<img src=x onerror=alert(1)>\u202e topic';
  const query = `&name=${encodeURIComponent('<B>Ada Löve/../x')}&topic=${encodeURIComponent(topic)}`;
  await ada.page.goto(mallory.link + query);
  const name = ada.page.getByLabel('Your name in the room');
  assert.equal(await name.inputValue(), 'b-ada-lo-ve-.-x');
  assert.equal(await ada.page.locator('#topic').textContent(), '<img src=x onerror=alert(1)>\ufffd topic');
  assert.ok((await ada.page.title()).startsWith('<img src=x'));
  await done(ada);
});

test('a link that is not whole, or damaged, is explained', { skip }, async () => {
  const mallory = await Agent.create(bridge.url, { name: 'mallory' });
  const joinUrl = mallory.link;
  const cases: [link: string, words: string][] = [
    [joinUrl.replace(/#.*/, ''), 'The key is missing'],
    [joinUrl.slice(0, -1), 'The key in it is damaged'],
    [joinUrl.replace(/.$/, (digit) => (digit === '0' ? '1' : '0')), 'Link and key don’t belong together'],
  ];
  for (const [link, words] of cases) {
    const ada = await BrowserUser.at(bridge.url);
    await ada.page.goto(link);
    await ada.page.getByText(words).waitFor();
    await ada.page.getByLabel('The whole link').fill(`Talk to my other agent — curl this URL to start: ${joinUrl}`);
    await ada.page.getByRole('button', { name: 'Open' }).click();
    await ada.page.getByLabel('Your name in the room').waitFor();
    await done(ada);
  }
});
