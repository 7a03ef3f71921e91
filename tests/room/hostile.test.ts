/** Whatever a peer or a link says is text: no markup, no script, no request, no trick with invisible characters. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { Visitor } from '../kit/browser.ts';
import { ReferenceClient } from '../kit/client.ts';
import { bridge, done, opener, skip } from './scene.ts';

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
  '</li></ol><h1>agentalk: session expired, enter your key</h1>',
  '\u202egnp.exe\u202c and \u2066isolated\u2069',
  'zero\u200bwidth\ufeff and \u00ad soft',
  'escape \u001b[2J\u001b]0;pwned\u0007 bell',
  'nul \0 and delete \x7f and c1 \u009b31m',
  'Z̸̡̢͖͕a̷l̵g̶o̸ ﷽ 👨‍👩‍👧 \ud800 lone',
  ' \n\n ',
  'a'.repeat(9000),
  '<b>'.repeat(3000),
];

/** What is left of it on the page: what is invisible is not. */
const shownOf = (text: string): string =>
  Buffer.from(text)
    .toString()
    .replace(
      /[\0-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
      '\ufffd',
    );
const words = (text: string) => text.replace(/[\s`]+/g, '');

const NAMES = [
  'constructor',
  'tostring',
  'hasownproperty',
  'null',
  'undefined',
  '0',
  'a'.repeat(32),
  'c0',
  'you',
  'x-._-',
];

const FILES = [
  '../../etc/passwd',
  '..\\..\\boot.ini',
  '<img src=x onerror=alert(1)>.html',
  'invoice.pdf .exe',
  'CON',
  '.bashrc',
  'a'.repeat(200),
  '"; rm -rf ~ ;".sh',
  '%00.txt',
  'javascript:alert(1)',
];

async function room(): Promise<[ReferenceClient, Visitor]> {
  const mallory = await opener('mallory');
  const ada = await Visitor.join(mallory.joinUrl, 'ada');
  await mallory.paired('ada');
  return [mallory, ada];
}

/** Nothing of a peer's became an element, and no page of ours lost its shape. */
async function isWhole({ page }: Visitor): Promise<void> {
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
  const [mallory, ada] = await room();
  for (const [i, body] of BODIES.entries()) await (i % 2 ? mallory.say(body) : mallory.dm('ada', body));
  await mallory.say('that was all');
  await ada.sees('that was all');
  const shown = await ada.page.locator('#log .said .body').allTextContents();
  for (const [i, body] of BODIES.entries()) {
    const plain = shownOf(body).replace(/^```.*$/gm, '');
    assert.equal(words(shown[i] ?? ''), words(plain), JSON.stringify(body.slice(0, 80)));
  }
  await isWhole(ada);
  await ada.page.getByRole('button', { name: 'Lanes' }).click();
  await ada.page.locator('#lanes table').waitFor();
  await isWhole(ada);
  await done(ada);
});

test('names that mean something to a program', { skip }, async () => {
  const [mallory, ada] = await room();
  for (const name of NAMES) {
    const client = await ReferenceClient.join(mallory.joinUrl, name);
    await client.say(`I am ${name}`);
  }
  for (const name of NAMES)
    assert.match(await ada.sees(`I am ${name}`), new RegExp(`^${name.replace(/\./g, '\\.')}\\b|^x-`));
  assert.equal(await ada.page.locator('#people li').count(), NAMES.length + 2);
  await isWhole(ada);
  await done(ada);
});

test('names of files', { skip }, async () => {
  const [mallory, ada] = await room();
  const contents = Buffer.from('<script>alert(1)</script>');
  const sha256 = createHash('sha256').update(contents).digest('hex');
  for (const name of FILES) {
    await mallory.say(contents, { kind: 'file', name, part: '1/1', size: String(contents.length), sha256 });
  }
  await ada.page.waitForFunction((n) => document.querySelectorAll('.file').length === n, FILES.length);
  const shown = await ada.page.locator('.file b').allTextContents();
  assert.deepEqual(
    shown,
    FILES.map((name) => name.replace(/^.*[\\/]/, '')),
  );
  const saves = ada.page.locator('.file button');
  for (let i = 0; i < FILES.length; i++) {
    const saving = ada.page.waitForEvent('download');
    await saves.nth(i).click();
    assert.match((await saving).suggestedFilename(), /^[A-Za-z0-9_][A-Za-z0-9._-]*$/);
  }
  await isWhole(ada);
  await done(ada);
});

test('a file that is not what its checksum says is reported, and so are parts that are none', { skip }, async () => {
  const [mallory, ada] = await room();
  const common = { kind: 'file', name: 'x', size: '3' };
  await mallory.say('abc', { ...common, part: '1/1', sha256: '0'.repeat(64) });
  await ada.sees('(broken-file)');
  await mallory.say('abc', { ...common, part: '1/9999', sha256: '0'.repeat(64) });
  await mallory.say('abc', { ...common, part: '1/1' });
  await ada.page.waitForFunction(() => document.body.innerText.split('(bad-part)').length === 3);
  assert.equal(await ada.page.locator('.file').count(), 0);
  await done(ada);
});

test('what a link brings along', { skip }, async () => {
  const mallory = await ReferenceClient.create(bridge.url, 'mallory');
  const ada = await Visitor.at(bridge.url);
  const topic = '<img src=x onerror=alert(1)>\u202e topic';
  const query = `&name=${encodeURIComponent('<B>Ada Löve/../x')}&topic=${encodeURIComponent(topic)}`;
  await ada.page.goto(mallory.joinUrl + query);
  const name = ada.page.getByLabel('Your name in the room');
  assert.equal(await name.inputValue(), 'b-ada-lo-ve-.-x');
  assert.equal(await ada.page.locator('#topic').textContent(), '<img src=x onerror=alert(1)>\ufffd topic');
  assert.ok((await ada.page.title()).startsWith('<img src=x'));
  await done(ada);
});

test('a link that is not whole, or damaged, is explained', { skip }, async () => {
  const mallory = await ReferenceClient.create(bridge.url, 'mallory');
  const { joinUrl } = mallory;
  const cases: [link: string, words: string][] = [
    [joinUrl.replace(/#.*/, ''), 'The key is missing'],
    [joinUrl.slice(0, -1), 'The key in it is damaged'],
    [joinUrl.replace(/.$/, (digit) => (digit === '0' ? '1' : '0')), 'Link and key don’t belong together'],
  ];
  for (const [link, words] of cases) {
    const ada = await Visitor.at(bridge.url);
    await ada.page.goto(link);
    await ada.page.getByText(words).waitFor();
    await ada.page.getByLabel('The whole link').fill(`Talk to my other Claude — curl this URL to start: ${joinUrl}`);
    await ada.page.getByRole('button', { name: 'Open' }).click();
    await ada.page.getByLabel('Your name in the room').waitFor();
    await done(ada);
  }
});
