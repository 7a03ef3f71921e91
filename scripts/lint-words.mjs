/**
 * Finds words that this project does not use, and sentences that are too long: in the pages, in the messages of the
 * client, the bridge and the room, and in the comments of the code. `npm run check` prints what it finds.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { filesIn, pages } from './documents.mjs';

/** A word, and what we write instead. @type {Readonly<Record<string, string>>} */
export const PLAINER = {
  'mend(?:s|ed|ing)?': 'fix',
  anew: 'again',
  'ha(?:s|ve|d) to be': 'must',
  beside: 'compared with, next to',
  'in vain': 'without success',
  'of (?:its|their|our|your) own': 'separate',
  'stands?|stood': 'is',
  'goes in': 'is passed with',
  'whoever|whom': 'anyone who, or a noun',
  'house|floors?|shelf|shelves|doors?|lends?|swallow(?:s|ed)?': 'the thing itself: no metaphor',
  'hand(?:s|ed)? over': 'send',
  'giv(?:e|es|en) up': 'evict a channel, skip a message',
};
const MAX_WORDS = 25;

/** @typedef {{ where: string, text: string, rather: string }} Finding */

/** The first place of each word. @param {string} where @param {string} text @returns {Finding[]} */
export function findWords(where, text) {
  return Object.entries(PLAINER).flatMap(([word, rather]) => {
    const found = new RegExp(`.{0,30}\\b(?:${word})\\b.{0,30}`, 'i').exec(text)?.[0];
    return found === undefined ? [] : [{ where, text: found.trim(), rather }];
  });
}

/** The prose of a page: without code, and without what is quoted. @param {string} markdown */
export const proseOf = (markdown) => markdown.replace(/^ *```[^]*?^ *```$/gm, '').replace(/`[^`]*`|“[^”]*”/g, 'code');

/** The sentences of a page: without code, tables, headings and the addresses of links. @param {string} markdown */
export function sentencesOf(markdown) {
  const prose = markdown
    .replace(/^---\n[^]*?\n---\n/, '')
    .replace(/^ *```[^]*?^ *```$/gm, '\n\n')
    .replace(/^ *(\||#).*$/gm, '\n')
    .replace(/!\[[^\]]*\]\([^)]*\)/g, '')
    .replace(/`[^`]*`/g, 'code')
    .replace(/\]\([^)]*\)/g, ']')
    .replace(/^ *(?:[-*>]|\d+\.) /gm, '\n\n');
  return prose
    .split(/\n\s*\n/)
    .flatMap((paragraph) => paragraph.replace(/\s+/g, ' ').split(/(?<=[.!?]["”)*_]*) /))
    .map((sentence) => sentence.trim())
    .filter((sentence) => sentence !== '');
}

/** @param {string} where @param {string} markdown @returns {Finding[]} */
export function findLongSentences(where, markdown) {
  return sentencesOf(markdown)
    .filter((sentence) => sentence.split(' ').length > MAX_WORDS)
    .map((text) => ({ where, text, rather: `at most ${MAX_WORDS} words a sentence` }));
}

/** The comments of a file, and its texts that look like sentences. @param {string} path @param {string} source */
export function wordsOfCode(path, source) {
  if (path.endsWith('.html')) return source.replace(/<[^>]*>/g, ' ');
  const isShell = path.endsWith('.sh');
  const comments = isShell
    ? [...source.matchAll(/(?:^|\s)#(?!!)(.*)$/gm)].map(([, text]) => text)
    : [...source.matchAll(/\/\*[^]*?\*\/|(?:^|\s)\/\/ .*$/gm)].map(([text]) => text);
  const code = isShell ? source.replace(/(^|\s)#.*$/gm, '$1') : source.replace(/\/\*[^]*?\*\/|(^|\s)\/\/ .*$/gm, '$1');
  const texts = [...code.matchAll(/'([^'\n]*)'|"([^"\n]*)"|`([^`]*)`/g)]
    .map(([, single, double, template]) => single ?? double ?? template ?? '')
    .filter((text) => /[a-z]{2,} [a-z]{2,} [a-z]/.test(text));
  return [...comments, ...texts].join('\n');
}

/** @param {string} root @returns {Finding[]} */
export function lintWords(root) {
  const read = (/** @type {string} */ path) => readFileSync(join(root, path), 'utf8');
  const ofPages = pages(root).flatMap((path) => [
    ...findWords(path, proseOf(read(path))),
    // A command writes the measurements, with a list of what each row is.
    ...(path === 'bench/results.md' ? [] : findLongSentences(path, read(path))),
  ]);
  const folders = ['bridge', 'sdk', 'scripts', 'bench', 'examples'];
  const code = ['bridge.ts', ...folders.flatMap((folder) => filesIn(root, folder, /\.(?:ts|mjs|sh|css|html)$/))];
  // This file has the list of the words.
  const others = code.filter((path) => path !== 'scripts/lint-words.mjs');
  return [...ofPages, ...others.flatMap((path) => findWords(path, wordsOfCode(path, read(path))))];
}

/** @param {Finding} finding */
export const formatFinding = ({ where, text, rather }) => `${where}: ${text}\n    rather: ${rather}`;
