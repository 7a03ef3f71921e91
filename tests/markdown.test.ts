/** The documents as HTML: our small parser against a whole one, on all that we have, and on what could mislead it. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Marked } from 'marked';
import { document } from '../sdk/web/markdown.ts';
import { ROOT } from './kit/root.ts';

/** Marked, with raw HTML as text and without diagrams: ours has more to say there. */
const whole = new Marked({
  renderer: {
    html: ({ text }) => text.replaceAll('<', '&lt;').replaceAll('>', '&gt;'),
    code: ({ text, lang }) =>
      lang === 'mermaid' ? '' : `<pre>${text.replace(/&/g, '&amp;').replace(/</g, '&lt;')}</pre>`,
  },
});

/** Words and bare tags, without what is ours alone: links, frames of what scrolls, diagrams. */
const gist = (html: string) =>
  html
    .replace(/<div[^>]*><svg[^]*?<\/svg><\/div>|<ul class="flow">[^]*?<\/ul>/g, '')
    .replace(/<\/?(?:a|div|code)\b[^>]*>/g, '')
    .replace(/<(\w+)[^>]*>/g, '<$1>')
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&gt;', '>')
    .replace(/\s*(<[^>]*>)\s*/g, '$1')
    .trim();
const compare = (markdown: string) =>
  assert.equal(gist(document(markdown).html), gist(whole.parse(markdown, { async: false })));

for (const name of readdirSync(join(ROOT, 'docs')).filter((file) => file.endsWith('.md'))) {
  test(`docs/${name}`, () => {
    const text = readFileSync(join(ROOT, 'docs', name), 'utf8');
    compare(text);
    assert.notEqual(document(text).title, '');
  });
}

test('what could mislead it', () => {
  for (const text of [
    'a `*` and `**` and ``a ` b``, *one* and _two_ and **three *four* five**, snake_case_word, 2 * 3 * 4',
    '1. one\n   goes on\n2. two\n   - inner\n   - inner too\n\nafter',
    '- one\n\n  more of it\n\n- two',
    '- one\n- two\n\nafter\n\n1. three',
    '> quoted\n> on\n>\n> - a list\n\nafter',
    '| a | b |\n| - | - |\n| `x \\| y` | **b** |\n| <b> | & |\n\nafter',
    '```sh\n# no heading\n- no item\n\n<b> & "\n```\n\nafter',
    'a [link](x.md), [`code`](https://bridge.example/a_b_c), and <script>alert(1)</script> \\* \\_',
    '# Title\n\nwords\n\n## `code` in a heading\n\nwords\nand more\n- an item at once',
  ])
    compare(text);
});

test('diagrams are drawn with all that they say', () => {
  const { html } = document(
    '```mermaid\nsequenceDiagram\n    actor You\n    participant A as An agent\n    You->>A: Talk <b>\n    Note over You,A: done\n```',
  );
  for (const words of ['You', 'An agent', 'Talk &lt;b&gt;', 'done'])
    assert.ok(html.includes(`>${words}</text>`), words);
  const flow = document('```mermaid\nflowchart LR\n    A[one] -- words --> B((two))\n```');
  assert.match(flow.html, /<b>one<\/b><span>words<\/span><b>two<\/b>/);
});
