/**
 * A peer's words as they are shown: harmless characters only, prose told from code and diffs. Everything ends as text
 * nodes; nothing here, or anywhere, makes markup of what a peer wrote.
 */

/** Whatever moves a cursor, hides, or turns text around shows as what it is: a character that doesn't belong there. */
export const safe = (text: string): string =>
  text
    .replace(/\r\n?/g, '\n')
    .replace(
      /[\0-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb]/g,
      '\ufffd',
    );

export type Block = { readonly kind: 'prose' | 'code' | 'diff'; readonly text: string };

const isDiff = (text: string) => /^@@ .*@@/m.test(text) || /^diff --git /m.test(text);
const isOfDiff = (line: string) => /^([-+ @\\]|diff |index |new |deleted |old |rename |similarity |$)/.test(line);
/** Columns and indented lines keep their shape only in a monospaced face. */
const isOfColumns = (line: string) => /^(?: {2,}|\t)\S/.test(line) || /\S {2,}\S/.test(line);

/** In their order, without empty ones. */
export function blocks(text: string): Block[] {
  const all: Block[] = [];
  const lines = text.split('\n');
  const add = (kind: Block['kind'], from: number, to: number) => {
    const body = lines
      .slice(from, to)
      .join('\n')
      .replace(/^\n+|\s+$/g, '');
    if (body !== '') all.push({ kind, text: body });
  };
  /** The first line that is none, or the end. */
  const endOf = (from: number, isOf: (line: string) => boolean) => {
    const end = lines.findIndex((line, i) => i >= from && !isOf(line));
    return end < 0 ? lines.length : end;
  };
  let prose = 0;
  for (let at = 0; at < lines.length;) {
    const line = lines[at] ?? '';
    const [, fence, language = ''] = /^\s*(```+|~~~+)\s*([\w+-]*)/.exec(line) ?? [];
    const isOpen = /^(diff --git |--- \S)/.test(line) && isDiff(lines.slice(at, at + 8).join('\n'));
    const isShaped = isOfColumns(line) && isOfColumns(lines[at + 1] ?? '');
    if (fence === undefined && !isOpen && !isShaped) {
      at++;
      continue;
    }
    add('prose', prose, at);
    if (fence !== undefined) {
      const end = endOf(at + 1, (other) => !other.trim().startsWith(fence));
      const body = lines.slice(at + 1, end).join('\n');
      add(/^(diff|patch)$/.test(language) || isDiff(body) ? 'diff' : 'code', at + 1, end);
      at = end + 1;
    } else {
      const end = endOf(at + 1, isOpen ? isOfDiff : isOfColumns);
      add(isOpen ? 'diff' : 'code', at, end);
      at = end;
    }
    prose = at;
  }
  add('prose', prose, lines.length);
  return all;
}

export type Mark = 'add' | 'del' | 'hunk' | 'plain';
export const markOf = (line: string): Mark =>
  /^(@@|diff |index |\+\+\+ |--- )/.test(line)
    ? 'hunk'
    : line.startsWith('+')
      ? 'add'
      : line.startsWith('-')
        ? 'del'
        : 'plain';

export const clock = (at: number): string =>
  new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });

export const size = (bytes: number): string =>
  bytes < 1024
    ? `${bytes} bytes`
    : bytes < 1024 ** 2
      ? `${(bytes / 1024).toFixed(1)} KB`
      : `${(bytes / 1024 ** 2).toFixed(1)} MB`;

/** What people type as a name, as a name of the protocol. */
export const asName = (text: string): string =>
  text
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/\.{2,}/g, '.')
    .replace(/^[._-]+|-+$/g, '')
    .slice(0, 32);
