/**
 * Reads what a session keeps, from its files alone and with none of the client's code: the records of log/N, the bodies
 * in inbox/, the words in said/.
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

/** A body of inbox/; between the commit that names it and its move there it is still in held/, under its own name. */
function readInbox(folder: string, name: string): Buffer {
  const places = [join('inbox', name), join('held', name.replace(/^\d+-/, ''))].map((path) => join(folder, path));
  const place = places.find((path) => existsSync(path)) ?? join(folder, 'inbox', name);
  return readFileSync(existsSync(place) ? place : join(folder, 'inbox', name));
}

/** All records. Throws where the files contradict themselves: a record, a commit or a message twice or missing. */
export function readLog(folder: string): Entry[] {
  const commits = numbers(join(folder, 'log'));
  commits.forEach((number, i) => assert.equal(number, i + 1, `${folder}: log/${i + 1} is missing`));
  const entries: Entry[] = [];
  for (const number of commits) {
    for (const line of readFileSync(join(folder, 'log', String(number)), 'latin1').split('\n')) {
      const [word, record = '', type = '', , name = '', ...words] = line.split(' ');
      if (word === 'upto') assert.equal(Number(record), entries.length, `${folder}: log/${number} and its records`);
      if (word !== 'rec') continue;
      assert.equal(Number(record), entries.length + 1, `${folder}: records of log/${number}`);
      const body =
        type === 'said'
          ? readFileSync(join(folder, 'said', words[0] ?? ''))
          : ['msg', 'file'].includes(type) && readInbox(folder, words[4] ?? '');
      entries.push({ record: Number(record), type, name, words, body: body || undefined });
    }
  }
  return entries;
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

export const isQuiet = (folder: string): string[] =>
  ['held', '.'].flatMap((name) =>
    existsSync(join(folder, name))
      ? readdirSync(join(folder, name)).filter((file) => name === 'held' || /^(tmp\.|.*\.lock$)/.test(file))
      : [],
  );

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
