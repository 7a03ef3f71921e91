/**
 * What an agent reads from the first page until PAIRED: its model takes every character in, and its user waits. The
 * pages are fetched as agents fetch them, and the commands are those of the pages.
 */
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { BASH, run } from '../scripts/child-processes.mjs';
import { figuresOf } from './measure.mjs';
import { atPlace, must, somebodyWaits } from './shell-clients.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */
/** @typedef {import('./shell-clients.mjs').Place} Place */

const MAX_CHARACTERS = 20_000;

/** An agent in a separate folder, and all that it has read. */
class Reader {
  text = '';

  constructor(/** @type {string} */ folder, /** @type {string} */ name) {
    this.folder = join(folder, name);
    this.name = name;
    mkdirSync(join(this.folder, 'home'), { recursive: true });
  }

  /** Runs a command of a page, and reads what it prints. */
  async call(/** @type {string} */ code) {
    const env = { AGENTALK_HOME: join(this.folder, 'home') };
    const { stdout, stderr } = await must(BASH, ['-c', code], { cwd: this.folder, env });
    this.text += stdout + stderr;
    return stdout;
  }

  /** Fetches the client, compares its sum, and reads its first part, as a page says. */
  async fetchClient(/** @type {string} */ page) {
    const [command = ''] = /^curl .*agentalk\.sh.*$/m.exec(page) ?? [];
    const lines = /lines 1 to (\d+)/.exec(page)?.[1];
    if (command === '' || lines === undefined)
      throw new Error('the page does not say how to fetch and read the client');
    await this.call(command);
    await this.call(`head -n ${lines} agentalk.sh`);
  }
}

/** Both agents, from what their users say until PAIRED. @param {Place} place */
async function pairByPages({ folder, bridge }) {
  const creator = new Reader(folder, 'laptop');
  const page = await creator.call(`curl -sS '${bridge}/llms.txt'`);
  await creator.fetchClient(page);
  const created = await creator.call(`./agentalk create '${bridge}' --name laptop`);
  const link = /\S+\/c\/\S+#\S+/.exec(created)?.[0] ?? '';
  const waiting = creator.call('./agentalk wait 100');
  await somebodyWaits(bridge);
  const joiner = new Reader(folder, 'server');
  joiner.text += created.split('\n').find((line) => line.includes(link)) ?? '';
  const joinPage = await joiner.call(`curl -sS '${link.replace(/#.*/, '')}'`);
  await joiner.fetchClient(joinPage);
  const joined = await joiner.call(`./agentalk join '${link}' --name server`);
  const heard = await waiting;
  if (!joined.includes('PAIRED') || !heard.includes('PAIRED')) throw new Error(`not paired:\n${joined}${heard}`);
  return { 'read by the one that opens': creator.text, 'read by the one that joins': joiner.text };
}

/** A tokenizer that anybody can fetch, fetched for this run. @returns {Promise<(text: string) => number>} */
async function tokenizer(/** @type {string} */ folder) {
  const flags = ['--no-audit', '--no-fund', '--no-save', '--prefix', folder];
  const { status } = await run('npm', ['install', ...flags, 'gpt-tokenizer@3'], { cwd: folder });
  if (status !== 0) throw new Error(`gpt-tokenizer could not be installed (npm ended with ${status})`);
  const { encode } = createRequire(join(folder, 'package.json'))('gpt-tokenizer');
  return (text) => encode(text).length;
}

/** @param {Place} place @returns {Promise<Figure[]>} */
async function charactersAndTokens(place) {
  const texts = Object.entries(await pairByPages(place));
  let note = '';
  const count = await tokenizer(place.folder).catch((/** @type {Error} */ error) => {
    note = error.message;
    return undefined;
  });
  return texts.map(([name, text]) => ({
    name,
    workload:
      'characters from the first page until PAIRED: the page, the sum and part 1 of the client, what the commands print',
    unit: 'characters',
    ours: { samples: [text.length] },
    target: { value: MAX_CHARACTERS },
    note: count ? `${count(text)} tokens, as gpt-tokenizer (o200k_base) counts` : note,
  }));
}

export const readingFigures = () =>
  atPlace((place) => figuresOf({ 'read until PAIRED': () => charactersAndTokens(place) }));
