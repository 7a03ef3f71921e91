/** docs/protocol.md says what the code does: its worked example, reasons, names, limits, hidden characters and errors. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ApiError, CODES } from '../../bridge/errors.ts';
import { HIDDEN_RANGES } from '../../sdk/encoding.ts';
import * as protocol from '../../sdk/protocol.ts';
import { ROOT } from '../lib/root.ts';

const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8');
const page = read('docs', 'protocol.md');

/** The text below a heading, up to the next one of the same or a higher level. */
function section(heading: string): string {
  const [marks = ''] = heading.split(' ');
  const start = page.indexOf(`\n${heading}\n`);
  assert.ok(start >= 0, heading);
  const rest = page.slice(start + heading.length + 2);
  const end = rest.search(new RegExp(`^#{1,${marks.length}} `, 'm'));
  return end < 0 ? rest : rest.slice(0, end);
}

/** The cells of each row of the tables in a text, without backticks. */
const rows = (text: string): string[][] =>
  [...text.matchAll(/^\| (.*) \|$/gm)].map(([, row = '']) => row.split(' | ').map((cell) => cell.trim()));
const quoted = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, word = '']) => word);

/** Every string in a JSON value. */
function strings(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(strings) : [];
}

test('the worked example has every value of example.json, and no other', () => {
  const example = section('## Worked example');
  const values = strings(JSON.parse(read('tests', 'vectors', 'example.json'))).filter(
    (value) => !value.startsWith('-----BEGIN') && !value.startsWith('1,048,576 bytes'),
  );
  for (const value of values) assert.ok(example.includes(value), JSON.stringify(value));
  const all = values.join('\n');
  const found = example.match(/[A-Za-z0-9+/=]{24,}/g) ?? [];
  assert.ok(found.length > 30);
  for (const value of found) assert.ok(all.includes(value), value);
});

test('each reason to reject that sdk/protocol.ts has is on the page', () => {
  const source = read('sdk', 'protocol.ts');
  const reasons = [...source.matchAll(/^ {2}\| '([a-z0-9-]+)'/gm)].map(([, reason = '']) => reason);
  assert.equal(reasons.length, 24);
  for (const reason of reasons) assert.ok(page.includes(`\`${reason}\``), reason);
});

test('names the same reserved names, hidden characters and limits as the code', () => {
  const reserved = /The names ([^]*?) are reserved/.exec(page)?.[1] ?? '';
  assert.deepEqual(quoted(reserved), protocol.RESERVED_NAMES);
  const ranges = section('## Text from others').match(/[0-9A-F]{4,5}(?:-[0-9A-F]{4,5})?/g) ?? [];
  const hex = (codePoint: number) => codePoint.toString(16).toUpperCase().padStart(4, '0');
  const expected = HIDDEN_RANGES.map(([first, last]) => (first === last ? hex(first) : `${hex(first)}-${hex(last)}`));
  assert.deepEqual(ranges, expected);
  const limits = new Map(rows(section('## Limits')).map(([what = '', limit = '']) => [what, limit]));
  assert.equal(limits.get('entries in `seen`'), String(protocol.MAX_SEEN));
  assert.equal(limits.get('hashes in a `want`'), String(protocol.MAX_WANTED));
  assert.equal(limits.get('sessions of one id that a reader tries'), String(protocol.MAX_SESSIONS_TRIED));
  const english = (bytes: number) => bytes.toLocaleString('en-US');
  const file = `${english(protocol.MAX_FILE_BYTES)} bytes in pieces of ${english(protocol.PIECE_BYTES)}`;
  assert.equal(limits.get('a file'), file);
});

test('lists the same kinds as the code', () => {
  const kinds = rows(section('## Messages')).filter(([, what]) => what === 'content' || what === 'control');
  const ofClass = (wanted: string) =>
    kinds.filter(([, what]) => what === wanted).flatMap(([kind = '']) => quoted(kind));
  assert.deepEqual(ofClass('content'), protocol.CONTENT_KINDS);
  assert.deepEqual(ofClass('control'), protocol.CONTROL_KINDS);
});

test('lists every error code of the bridge, and no other', () => {
  const documented = rows(section('### Errors'))
    .filter(([status = '']) => /^\d{3}$/.test(status))
    .flatMap(([, codes = '']) => quoted(codes))
    .filter((word) => /^[a-z_]+$/.test(word));
  assert.deepEqual(documented.sort(), [...CODES].sort());
});

test('the example of an error is one of the bridge', () => {
  const [, json = ''] = /```json\n([^]*?)```/.exec(section('### Errors')) ?? [];
  const { error } = JSON.parse(json) as { error: { code: 'no_channel'; message: string; hint: string } };
  const { code, message, hint } = new ApiError(error.code);
  assert.deepEqual([error.code, error.message], [code, message]);
  assert.ok(hint.startsWith(error.hint.replace(/ …$/, '')), hint);
});

test('each link within the page has its heading', () => {
  const headings = [...page.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^a-z0-9 _-]/g, '')
      .replaceAll(' ', '-'),
  );
  const links = [...page.matchAll(/\]\(#([^)]+)\)/g)].map(([, link = '']) => link);
  assert.ok(links.length > 5);
  for (const link of links) assert.ok(headings.includes(link), link);
});
