/** The bridge's own renderer of documents says the same as a complete one, on each document. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Marked } from 'marked';
import { publishedDocuments } from '../../scripts/documents.mjs';
import { renderDocument } from '../../sdk/web/markdown.ts';
import { ROOT } from '../lib/root.ts';

const DOCUMENTS = publishedDocuments(ROOT);
/** The other renderer makes a link of each bare address, even of one in a sentence that a user shall say. */
const complete = new Marked({ tokenizer: { url: () => undefined } });

/** What a reader sees, and where: tags and text, without attributes and without space between lines. */
const structure = (html: string) =>
  html
    .replace(/<(\/?\w+)[^>]*>/g, '<$1>')
    .replace(/<\/?div>/g, '')
    .replace(/&(?:#39|apos);/g, "'")
    .replace(/\s+/g, ' ')
    .replace(/> | </g, (edge) => edge.trim());
/** Headings link to themselves only in our renderer. */
const withoutHeadingLinks = (html: string) => html.replace(/<(h\d) [^>]*><a [^>]*>(.*?)<\/a><\/h\d>/g, '<$1>$2</$1>');

for (const name of DOCUMENTS) {
  test(`docs/${name} has the structure that a complete renderer gives it`, () => {
    const markdown = readFileSync(join(ROOT, 'docs', name), 'utf8');
    const ours = structure(withoutHeadingLinks(renderDocument(markdown).html)).split('<');
    const expected = structure(complete.parse(markdown, { async: false })).split('<');
    const differs = expected.findIndex((part, i) => part !== ours[i]);
    assert.deepEqual(ours.slice(differs, differs + 5), expected.slice(differs, differs + 5));
    assert.equal(ours.length, expected.length);
  });
}

const EXAMPLES: readonly (readonly [name: string, markdown: string, html: string])[] = [
  ['text that looks like a tag is text', 'a <script> & "b"', '<p>a &lt;script&gt; &amp; &quot;b&quot;</p>\n'],
  ['code is verbatim', '`<a> **b** _c_`', '<p><code>&lt;a&gt; **b** _c_</code></p>\n'],
  ['a link to a page leads to its HTML', '[a](faq.md#b)', '<p><a href="faq#b">a</a></p>\n'],
  ['an underscore in a word is no emphasis', 'send_file and _this_', '<p>send_file and <em>this</em></p>\n'],
  [
    'a heading has the id that GitHub gives it',
    '## What `a` does',
    '<h2 id="what-a-does"><a href="#what-a-does">What <code>a</code> does</a></h2>\n',
  ],
];
for (const [name, markdown, html] of EXAMPLES) {
  test(name, () => assert.equal(renderDocument(markdown).html, html));
}
