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
/** Columns and indented lines keep their shape only in a monospaced face. */
const isColumns = (line: string) => /^(?: {2,}|\t)\S/.test(line) || /\S {2,}\S/.test(line);

/** In their order, without empty ones. */
export function blocks(text: string): Block[] {
  const all: Block[] = [];
  const add = (kind: Block['kind'], lines: readonly string[]) => {
    const body = lines.join('\n').replace(/^\n+|\s+$/g, '');
    if (body !== '') all.push({ kind, text: body });
  };
  const lines = text.split('\n');
  let prose: string[] = [];
  const flush = () => {
    add('prose', prose);
    prose = [];
  };
  for (let at = 0; at < lines.length;) {
    const line = lines[at] ?? '';
    const [, fence, language = ''] = /^\s*(```+|~~~+)\s*([\w+-]*)/.exec(line) ?? [];
    if (fence !== undefined) {
      const end = lines.findIndex((other, i) => i > at && other.trim().startsWith(fence));
      const body = lines.slice(at + 1, end < 0 ? undefined : end);
      flush();
      add(/^(diff|patch)$/.test(language) || isDiff(body.join('\n')) ? 'diff' : 'code', body);
      at = end < 0 ? lines.length : end + 1;
    } else if (/^(diff --git |--- \S)/.test(line) && isDiff(lines.slice(at, at + 8).join('\n'))) {
      let end = at + 1;
      while (
        end < lines.length &&
        /^([-+ @\\]|diff |index |new |deleted |old |rename |similarity |$)/.test(lines[end] ?? '')
      )
        end++;
      flush();
      add('diff', lines.slice(at, end));
      at = end;
    } else if (isColumns(line) && isColumns(lines[at + 1] ?? '')) {
      let end = at + 2;
      while (isColumns(lines[end] ?? '')) end++;
      flush();
      add('code', lines.slice(at, end));
      at = end;
    } else {
      prose.push(line);
      at++;
    }
  }
  flush();
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
