/**
 * Reads what a session stores, from its files alone and with none of the client's code: the newest commit of state/, the
 * records in journal/, the content in inbox/, the words in outbox/. What a commit still names to be written or moved counts
 * as done, as it does for the client.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../lib/root.ts';

export interface Entry {
  /** Its record; of `said` that of the last one before it. */
  readonly record: number;
  /** msg, coming, file, said, joined, paired, missed, … */
  readonly type: string;
  /** Who it is from; of `said` to whom it is. */
  readonly name: string;
  /** The words of the record after its name. */
  readonly words: readonly string[];
  /** Of msg, file and said: the bytes. */
  readonly body: Buffer | undefined;
}

/** Where a message stands in what its sender said: the start of its session id, B or D, its number. */
export interface Place {
  readonly session: string;
  readonly counter: string;
  readonly seq: number;
}

/** The fields of the newest commit by name, and its lines after the rows. */
export interface State {
  readonly fields: Readonly<Record<string, string>>;
  readonly rows: readonly (readonly string[])[];
  readonly unfinished: readonly string[];
}

/** In the order of sdk/shell/state.sh. */
const FIELDS = (() => {
  const source = readFileSync(join(ROOT, 'sdk', 'shell', 'state.sh'), 'utf8');
  return /^STATE_FIELDS='([^']+)'/m.exec(source)?.[1]?.split(/\s+/) ?? assert.fail('state.sh has STATE_FIELDS');
})();

const numbers = (folder: string) =>
  readdirSync(folder)
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);

/** Throws unless exactly one head is there, as at each moment of a session's life. */
export function readState(folder: string): State {
  for (let tries = 0; ; tries++) {
    const heads = readdirSync(join(folder, 'state')).filter((name) => name.startsWith('head.'));
    const [head = ''] = heads;
    const path = join(folder, 'state', head.replace('head.', 'commit.'));
    // Between the two looks another commit may have won.
    if (heads.length !== 1 || !existsSync(path)) {
      assert(tries < 100, `${folder}: heads ${heads.join(', ')}`);
      continue;
    }
    let text = '';
    try {
      text = readFileSync(path, 'latin1');
    } catch {
      continue;
    }
    assert.match(text, /\nend$/, `${path} is whole`);
    const lines = text.split('\n').slice(0, -1);
    const values = (lines[0] ?? '').trim().split(' ');
    assert.equal(values.length, FIELDS.length, `${path}: fields`);
    const fields = Object.fromEntries(FIELDS.map((name, i) => [name, values[i] ?? '']));
    const peers = Number(fields['PEERS']);
    return {
      fields,
      rows: lines.slice(1, 1 + peers).map((line) => line.trim().split(' ')),
      unfinished: lines.slice(1 + peers),
    };
  }
}

/** All records, and our own words where they were said. Throws where a record is missing or not whole. */
export function readLog(folder: string): Entry[] {
  const { fields, unfinished } = readState(folder);
  const moves = movesOf(unfinished);
  const pending = new Map(
    unfinished.flatMap((line) => {
      const [, number = '', text = ''] = /^record (\d+) (.*)$/.exec(line) ?? [];
      return number === '' ? [] : [[number, text] as const];
    }),
  );
  const entries: Entry[] = [];
  for (let record = 1; record <= Number(fields['RECORDS']); record++) {
    const path = join(folder, 'journal', String(record));
    const line = pending.get(String(record)) ?? readFileSync(path, 'latin1').replace(/\n$/, '');
    const [type = '', , name = '', ...words] = line.split(' ');
    const file =
      type === 'msg'
        ? words[9]
        : type === 'file'
          ? `${words[2]}-${name}-${decodeURIComponent(words[4] ?? '')}`
          : undefined;
    entries.push({ record, type, name, words, body: file === undefined ? undefined : readInbox(folder, file, moves) });
  }
  return [...entries, ...readOutbox(folder)].sort((a, b) => a.record - b.record);
}

/** What a commit still names to be moved: to where, from where. */
const movesOf = (unfinished: readonly string[]): ReadonlyMap<string, string> =>
  new Map(
    unfinished.flatMap((line) => {
      const [, from = '', to = ''] = /^move (\S+) (.*)$/.exec(line) ?? [];
      return from === '' ? [] : [[to, from] as const];
    }),
  );

function readInbox(folder: string, file: string, moves: ReadonlyMap<string, string>): Buffer {
  const from = moves.get(`inbox/${file}`);
  return readMoved(join(folder, 'inbox', file), from === undefined ? undefined : join(folder, from));
}

/** A file that may be moved from `from` to `path` just now. */
function readMoved(path: string, from: string | undefined): Buffer {
  for (const each of from === undefined ? [] : [path, from]) {
    try {
      return readFileSync(each);
    } catch {
      // It is at the other path.
    }
  }
  return readFileSync(path);
}

/** What we said, as entries of the type `said`, at the place of the record that was last then. Their words: to whom, number. */
export function readOutbox(folder: string, last = Infinity): Entry[] {
  const moves = movesOf(readState(folder).unfinished);
  const names = numbers(join(folder, 'outbox'));
  while (moves.has(`outbox/${names.length + 1}`)) names.push(names.length + 1);
  names.forEach((number, i) => assert.equal(number, i + 1, `${folder}: outbox/${i + 1} is missing`));
  return names.slice(-last).map((number) => {
    const from = moves.get(`outbox/${number}`);
    const bytes = readMoved(
      join(folder, 'outbox', String(number)),
      from === undefined ? undefined : join(folder, from),
    );
    const end = bytes.indexOf('\n');
    const [to = '', seq = '', , record = '', name = '', length = ''] = bytes
      .subarray(0, end)
      .toString('latin1')
      .split(' ');
    const body = bytes.subarray(end + 2 + Number(length));
    return { record: Number(record), type: 'said', name, words: [to, seq], body };
  });
}

/** Of a message that came. */
export function placeOf({ words }: Entry): Place | undefined {
  const [session = '', counter = '', seq = ''] = words;
  return /^[BD]$/.test(counter) ? { session, counter, seq: Number(seq) } : undefined;
}

/** What its line says of it: `late`, `past`, `unread:NAME:COUNT`, … */
export const marksOf = ({ type, words }: Entry): readonly string[] =>
  type === 'msg' || type === 'coming' ? (words[8] ?? '').split(',').filter((mark) => mark !== '-') : [];

/** To whom it was: `all` or `me`. */
export const scopeOf = ({ words }: Entry): string => words[4] ?? '';

/**
 * That each message is in the log once, in its sender's order unless it is marked as late, and in the inbox once, under
 * numbers without a gap.
 */
export function checkInbox(folder: string): Entry[] {
  const entries = readLog(folder);
  const numbered = entries.filter(({ type }) => type === 'msg' || type === 'coming');
  numbered.forEach(({ words }, i) => assert.equal(Number(words[5]), i + 1, `${folder}: numbers of messages`));
  const last = new Map<string, number>();
  const seen = new Set<string>();
  for (const entry of entries.filter(({ type }) => ['msg', 'coming', 'skip', 'malformed'].includes(type))) {
    const { session, counter, seq } = placeOf(entry) ?? assert.fail(`${folder}: record ${entry.record}`);
    const key = `${session} ${counter}`;
    assert(!seen.has(`${key} ${seq}`), `${folder}: ${key} ${seq} stands there twice`);
    seen.add(`${key} ${seq}`);
    if (marksOf(entry).includes('late')) continue;
    assert(seq > (last.get(key) ?? 0), `${folder}: ${key} ${seq} after ${last.get(key)}`);
    last.set(key, seq);
  }
  const named = entries.flatMap(({ type, name, words }) =>
    type === 'msg' ? [words[9]] : type === 'file' ? [`${words[2]}-${name}-${decodeURIComponent(words[4] ?? '')}`] : [],
  );
  const isPending = readState(folder).unfinished.some((line) => line.startsWith('move '));
  const there = readdirSync(join(folder, 'inbox')).sort();
  if (isPending)
    assert(
      there.every((name) => named.includes(name)),
      `${folder}: files in inbox/ and in the log`,
    );
  else assert.deepEqual(there, named.sort(), `${folder}: files in inbox/ and in the log`);
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
