/** A message's text in blocks: prose, code and diffs. Each block stays plain text. */

export type Block = { readonly kind: 'prose' | 'code' | 'diff'; readonly text: string };

const hasDiff = (text: string) => /^@@ .*@@/m.test(text) || /^diff --git /m.test(text);
const isDiffLine = (line: string) => /^([-+ @\\]|diff |index |new |deleted |old |rename |similarity |$)/.test(line);
/** Columns and indented lines keep their shape only in a monospaced font. */
const isColumnLine = (line: string) => /^(?: {2,}|\t)\S/.test(line) || /\S {2,}\S/.test(line);

/** The blocks in order, without empty ones. */
export function parseBlocks(text: string): Block[] {
  const all: Block[] = [];
  const lines = text.split('\n');
  const add = (kind: Block['kind'], from: number, to: number) => {
    const body = lines.slice(from, to).join('\n').replace(/^\n+/, '').trimEnd();
    if (body !== '') all.push({ kind, text: body });
  };
  /** The first line that is not of the block, or the end. */
  const endOf = (from: number, isOf: (line: string) => boolean) => {
    let end = from;
    while (end < lines.length && isOf(lines[end] ?? '')) end++;
    return end;
  };
  let prose = 0;
  for (let at = 0; at < lines.length;) {
    const line = lines[at] ?? '';
    const [, fence, language = ''] = /^\s*(```+|~~~+)\s*([\w+-]*)/.exec(line) ?? [];
    const isOpen = /^(diff --git |--- \S)/.test(line) && hasDiff(lines.slice(at, at + 8).join('\n'));
    const isShaped = isColumnLine(line) && isColumnLine(lines[at + 1] ?? '');
    if (fence === undefined && !isOpen && !isShaped) {
      at++;
      continue;
    }
    add('prose', prose, at);
    if (fence !== undefined) {
      const end = endOf(at + 1, (other) => !other.trim().startsWith(fence));
      const body = lines.slice(at + 1, end).join('\n');
      add(/^(diff|patch)$/.test(language) || hasDiff(body) ? 'diff' : 'code', at + 1, end);
      at = end + 1;
    } else {
      const end = endOf(at + 1, isOpen ? isDiffLine : isColumnLine);
      add(isOpen ? 'diff' : 'code', at, end);
      at = end;
    }
    prose = at;
  }
  add('prose', prose, lines.length);
  return all;
}

export type DiffLine = 'add' | 'del' | 'hunk' | 'plain';

/** The CSS class of a line of a diff. */
export function diffLineClass(line: string): DiffLine {
  if (/^(@@|diff |index |\+\+\+ |--- )/.test(line)) return 'hunk';
  if (line.startsWith('+')) return 'add';
  return line.startsWith('-') ? 'del' : 'plain';
}
