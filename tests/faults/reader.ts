/**
 * Reads what a session keeps, from its files alone and with none of the client's code: the records of log/N, the bodies
 * in inbox/, the words in outbox/N.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

export interface Entry {
  /** Its number in the conversation. */
  readonly record: number;
  /** msg, file, said, joined, paired, missed, … */
  readonly type: string;
  /** Who it is from; of `said` to whom it is. */
  readonly name: string;
  readonly words: readonly string[];
  /** Of msg, file and said: what the file has that keeps it. */
  readonly body: Buffer | undefined;
}

const numbers = (folder: string) =>
  readdirSync(folder)
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);

/** All records, and our own words where they were said. Throws where a commit is missing. */
export function readLog(folder: string): Entry[] {
  const commits = numbers(join(folder, 'log'));
  commits.forEach((number, i) => assert.equal(number, i + 1, `${folder}: log/${i + 1} is missing`));
  const entries: Entry[] = [];
  for (const number of commits) {
    const [line = ''] = readFileSync(join(folder, 'log', String(number)), 'latin1').split('\n', 1);
    const [, type = '', name = '', ...words] = line.split(' ');
    if (type === '-') continue;
    const path = join(folder, 'inbox', words[4] ?? '');
    // It is there a moment after the commit that names it, or when the next call shows it.
    const body = ['msg', 'file'].includes(type) && existsSync(path) ? readFileSync(path) : undefined;
    entries.push({ record: number, type, name, words, body });
  }
  return [...entries, ...readOutbox(folder)].sort((a, b) => a.record - b.record);
}

/** What we said, as entries of the type `said`, at the place of the record that was last then. */
export function readOutbox(folder: string, last = Infinity): Entry[] {
  const names = numbers(join(folder, 'outbox'));
  names.forEach((number, i) => assert.equal(number, i + 1, `${folder}: outbox/${i + 1} is missing`));
  return names.slice(-last).flatMap((number) => {
    const bytes = readFileSync(join(folder, 'outbox', String(number)));
    const first = bytes.indexOf('\n');
    const second = bytes.indexOf('\n', first + 1);
    const [, , , record = '', name = '', part = '', ...counts] = bytes.subarray(0, first).toString('latin1').split(' ');
    const body = bytes.subarray(second + 1);
    return name === '-' && part === '-'
      ? []
      : [{ record: Number(record), type: name === '-' ? 'part' : 'said', name, words: [part, ...counts], body }];
  });
}

/** That each message stands in the log once and in the inbox once, under numbers without a gap. */
export function checkInbox(folder: string): Entry[] {
  const entries = readLog(folder);
  const came = entries.filter(({ type }) => type === 'msg' || type === 'file');
  came.forEach(({ words }, i) => assert.equal(Number(words[1]), i + 1, `${folder}: numbers of messages`));
  const named = came.map(({ words }) => words[4]).sort();
  assert.deepEqual(readdirSync(join(folder, 'inbox')).sort(), named, `${folder}: files in inbox/ and in the log`);
  return entries;
}

/** A text that says whose it is, which, and how long: what comes out of an inbox can be checked by itself. */
export interface Numbered {
  readonly from: string;
  /** `all`, or a name. */
  readonly to: string;
  readonly n: number;
}

export function write({ from, to, n }: Numbered, padding = ''): string {
  const sum = createHash('sha256').update(padding).digest('hex').slice(0, 16);
  return `${from} to ${to}, ${n}, ${sum}\n${padding}`;
}

/** Throws where it is not as it was written. */
export function read(body: Buffer): Numbered {
  const text = body.toString();
  const [, from = '', to = '', n = '', sum] = /^(\S+) to (\S+), (\d+), (\S+)\n/.exec(text) ?? [];
  const padding = text.slice(text.indexOf('\n') + 1);
  assert.equal(sum, createHash('sha256').update(padding).digest('hex').slice(0, 16), `damaged: ${text.slice(0, 200)}`);
  return { from, to, n: Number(n) };
}
