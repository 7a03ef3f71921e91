/** The lint of words finds what it is for, in pages and in code. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findLongSentences, findWords, proseOf, wordsOfCode } from '../../scripts/lint-words.mjs';

const found = (text: string) => findWords('page.md', text).map(({ text }) => text);

test('finds a word in each of its forms', () => {
  assert.deepEqual(found('It was mended.'), ['It was mended.']);
  assert.deepEqual(found('Whoever reads this'), ['Whoever reads this']);
  assert.deepEqual(found('a folder of its own'), ['a folder of its own']);
  assert.deepEqual(found('It must be fixed again.'), []);
});

test('does not read code and quotes in a page', () => {
  assert.deepEqual(found(proseOf('Say “mend it”, run `mend`.\n\n```sh\nmend\n```\n')), []);
});

test('finds a sentence of more than 25 words, and none of 25', () => {
  const sentence = (words: number) => `${Array.from({ length: words }, () => 'word').join(' ')}.`;
  assert.equal(findLongSentences('page.md', sentence(26)).length, 1);
  assert.equal(findLongSentences('page.md', sentence(25)).length, 0);
  assert.equal(findLongSentences('page.md', `${sentence(20)} ${sentence(20)}`).length, 0);
});

test('reads comments and sentences of TypeScript, bash and HTML, and no other code', () => {
  assert.deepEqual(found(wordsOfCode('a.ts', 'const anew = 1; // made anew')), ['// made anew']);
  assert.deepEqual(found(wordsOfCode('a.ts', 'const anew = 1;\n/** begins\n * anew */')), ['* anew */']);
  assert.deepEqual(found(wordsOfCode('a.ts', "fail('you have to join anew');")), ['you have to join anew']);
  assert.deepEqual(found(wordsOfCode('a.ts', "Math.floor(anew); call('anew');")), []);
  assert.deepEqual(found(wordsOfCode('a.sh', 'anew=1 # made anew')), ['made anew']);
  assert.deepEqual(found(wordsOfCode('a.sh', 'die "that was in vain, stop"')), ['that was in vain, stop']);
  assert.deepEqual(found(wordsOfCode('a.html', '<p id="anew">begin anew</p>')), ['begin anew']);
});
