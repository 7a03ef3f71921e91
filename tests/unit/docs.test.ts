/** The documents are true and plain: README's commands and transcript, links, words and the length of sentences. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { type TestBridge, startBridge } from '../lib/bridge.ts';
import { ROOT } from '../lib/root.ts';
import { BASH, Running, makeFolder } from '../lib/shell.ts';

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const inFolder = (folder: string) =>
  readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name));
const PAGES = ['README.md', 'SECURITY.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'docs', 'docs/decisions'].flatMap(
  (path) => (path.endsWith('.md') ? [path] : inFolder(path)),
);

// ---- README, run as it is ----

const readme = read('README.md');
const SHELL_BLOCKS = [...readme.matchAll(/```sh\n([^]*?)```/g)].map(([, text = '']) => text);
const [START = '', AGENT_COMMANDS = ''] = SHELL_BLOCKS;
const TRANSCRIPT = /```\n(laptop {2}[^]*?)```/.exec(readme)?.[1] ?? '';
const README_BRIDGE = 'http://127.0.0.1:8787';

/** What a transcript can't repeat: the time of day. */
const withoutTime = (text: string) => text.replace(/\d\d:\d\d UTC/g, 'HH:MM UTC');

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

/** An agent's tool: a new shell for each command, always in the same folder. */
class Machine {
  readonly #folder = makeFolder();
  #output = '';

  constructor(readonly name: string) {}

  async run(command: string): Promise<string> {
    const env = { PATH: process.env['PATH'] ?? '', HOME: this.#folder, AGENTALK_HOME: this.#folder, LANG: 'C.UTF-8' };
    const { status, stdout, stderr } = await new Running(BASH, ['-c', command], { cwd: this.#folder, env }).ended;
    assert.equal(status, 0, `${command}\n${stdout}${stderr}`);
    this.#output += stdout;
    return stdout;
  }

  /** The transcript's lines of this machine that it printed, in the order in which it printed them. */
  printed(lines: readonly string[]): string[] {
    const wanted = lines.map(withoutTime);
    return withoutTime(this.#output)
      .split('\n')
      .map((line) => `${this.name}  ${line}`)
      .filter((line) => wanted.includes(line));
  }
}

test('README: npm start is the first command, and the two commands of the agent follow', () => {
  assert.equal(START, 'npm start\n');
  assert.equal(AGENT_COMMANDS.trim().split('\n').length, 2);
  assert.ok(AGENT_COMMANDS.includes(README_BRIDGE));
});

test('README: its commands and words, run on two machines, print its transcript', async () => {
  const laptop = new Machine('laptop');
  const server = new Machine('server');
  const [download = '', create = ''] = AGENT_COMMANDS.replaceAll(README_BRIDGE, bridge.url).trim().split('\n');
  assert.match(await laptop.run(download), /^SHA2?-?256/);
  const invite = /^Talk to my other agent — curl this URL to start: (\S+)$/m.exec(await laptop.run(create));
  assert.ok(invite?.[1], 'an invite');

  await server.run(download);
  const waiting = laptop.run('./agentalk wait 30');
  await server.run(`./agentalk join '${invite[1]}' --name server`);
  await waiting;
  const [question = '', answer = ''] = [...TRANSCRIPT.matchAll(/ {2}\| (.*)$/gm)].map(([, words]) => words);
  await laptop.run(`./agentalk say '${question}'`);
  await server.run('./agentalk wait 30');
  await server.run(`./agentalk say '${answer}'`);
  await laptop.run('./agentalk wait 30');

  const lines = TRANSCRIPT.trimEnd().split('\n');
  assert.equal(lines.length, 6);
  for (const machine of [laptop, server]) {
    const expected = lines.filter((line) => line.startsWith(machine.name)).map(withoutTime);
    assert.deepEqual(machine.printed(lines), expected);
  }
});

test('README, docs/agents.md and the start page name the same commands that save questions', () => {
  const commands = SHELL_BLOCKS.map((block) => block.trim()).filter((block) => /^(?:claude|codex) /.test(block));
  assert.equal(commands.length, 2);
  const startPage = read('sdk/web/start.html').replace(/\s+/g, ' ');
  for (const command of commands) {
    assert.ok(read('docs/agents.md').includes(`\`${command}\``), command);
    assert.ok(startPage.includes(`<code>${command}</code>`), command);
  }
});

// ---- links ----

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
  const unserved = /^(?:architecture\.md|performance\.md|decisions\/)/;
  for (const page of inFolder('docs').filter((path) => !unserved.test(path.slice('docs/'.length)))) {
    for (const [, path = ''] of read(page).matchAll(/\]\((?!https?:)([^)#]+)/g)) {
      assert.doesNotMatch(path, unserved, page);
    }
  }
});

// ---- words ----

/** Pages that are still to be rewritten in these words. */
const LATER = [
  'docs/operations.md',
  'docs/self-hosting.md',
  'docs/performance.md',
  'docs/scaling.md',
  'docs/protocol.md',
];
const PLAIN_PAGES = PAGES.filter((page) => !LATER.includes(page));

/** Words that the pages don't use, and what they use instead. */
const PLAINER: Readonly<Record<string, string>> = {
  'mend(s|ed|ing)?': 'fix',
  anew: 'again',
  'ha(s|ve|d) to be': 'must',
  beside: 'compared with, next to',
  'in vain': 'without success',
  'of (its|their|our|your) own': 'separate',
  'stands?|stood': 'is',
  'goes in': 'is passed with',
  'whoever|whom': 'anyone who, or a noun',
  'house|floors?|shelf|shelves|doors?|lends?|swallow(s|ed)?': 'the thing itself: no metaphor',
};
const MOST_WORDS = 25;

/** The sentences of a page: without code, tables, headings and the addresses of links. */
function sentences(markdown: string): string[] {
  const prose = markdown
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

for (const page of PLAIN_PAGES) {
  test(`${page}: no sentence has more than ${MOST_WORDS} words`, () => {
    const long = sentences(read(page)).filter((sentence) => sentence.split(' ').length > MOST_WORDS);
    assert.deepEqual(long, []);
  });

  test(`${page}: uses plain words`, () => {
    const prose = read(page)
      .replace(/^ *```[^]*?^ *```$/gm, '')
      .replace(/`[^`]*`|“[^”]*”/g, 'code');
    for (const [word, plainer] of Object.entries(PLAINER)) {
      const found = new RegExp(`.{0,30}\\b(?:${word})\\b.{0,30}`, 'i').exec(prose)?.[0];
      assert.equal(found, undefined, `rather: ${plainer}`);
    }
  });
}
