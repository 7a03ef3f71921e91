/** The documents: their links lead somewhere, and a page that bridges serve links to no other. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { test } from 'node:test';
import { pages, publishedDocuments } from '../../scripts/documents.mjs';
import { ROOT } from '../lib/root.ts';

const PAGES = pages(ROOT);
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

const slug = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');
const headings = (text: string) => [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => slug(heading));

for (const page of PAGES) {
  test(`${page}: each link leads to a file and a heading that exist`, () => {
    for (const [, path = '', anchor = ''] of read(page).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)) {
      const target = path === '' ? page : join(dirname(page), path);
      assert.ok(existsSync(join(ROOT, target)), path);
      if (anchor !== '') assert.ok(headings(read(target)).includes(anchor), `${path}#${anchor}`);
    }
  });
}

test('a page that bridges serve links to no page that they do not serve', () => {
  const isServed = (path: string) => dirname(path) === 'docs' && publishedDocuments(ROOT).includes(basename(path));
  for (const page of PAGES.filter(isServed)) {
    for (const [, path = ''] of read(page).matchAll(/\]\((?!https?:)([^)#]+\.md)/g)) {
      const target = join('docs', path);
      assert.ok(!target.startsWith('docs/') || isServed(target), `${page} links to ${target}`);
    }
  }
});
