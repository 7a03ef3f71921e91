/** Which documents there are, and which of them bridges serve. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Documents that are of use only next to the code. @type {readonly string[]} */
const UNPUBLISHED = ['architecture.md', 'machines.md'];

/** @param {string} root @param {string} folder @param {RegExp} pattern */
export const filesIn = (root, folder, pattern) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => pattern.test(name))
    .map((name) => join(folder, name))
    .sort();

/** The names in docs/ of what bridges serve. @param {string} root */
export const publishedDocuments = (root) =>
  readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md') && !UNPUBLISHED.includes(name))
    .sort();

/** The paths of all pages for people and agents. @param {string} root */
export const pages = (root) => [
  ...['README.md', 'SECURITY.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'bench/results.md', 'bench/scaling.md'],
  ...filesIn(root, 'docs', /\.md$/),
  ...filesIn(root, 'sdk/agent-pages', /\.md$/),
];
