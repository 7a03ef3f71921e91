/**
 * Our own documents, from Markdown to HTML: as much of Markdown as they use, in the form that prettier gives them. Its
 * input comes with the release, never from a request. A test holds what it makes to what a whole parser makes.
 */
import { diagram } from './diagrams.ts';
import { escape, scrolling } from './html.ts';

export type Heading = { readonly id: string; readonly html: string; readonly depth: number };
export type Document = { readonly title: string; readonly html: string; readonly headings: readonly Heading[] };

/** Where a link of the sources leads on a bridge. */
const SERVED: Readonly<Record<string, string>> = {
  '../sdk/pages/llms.md': '../llms.txt',
  '../sdk/pages/skill.md': '../skill.md',
};
const target = (href: string) => SERVED[href] ?? href.replace(/^([\w-]+)\.md(#.*)?$/, '$1$2');

const plain = (html: string) => html.replace(/<[^>]*>/g, '');
/** As GitHub makes them, so that links work in both places. */
const slug = (html: string) =>
  plain(html)
    .replace(/&\w+;/g, '')
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');

/** Code, an escaped sign, a link, bold, and words in italics; all else is text. */
const INLINE =
  /(`+)([^]*?[^`])\1(?!`)|\\([!-/:-@[-`{-~])|\[((?:`[^`]*`|[^\]])*)\]\(([^)\s]+)\)|\*\*([^]+?)\*\*|(?<![\w*])([*_])(?=\S)([^]*?\S)\7(?![\w*])/g;

function inline(text: string): string {
  let html = '';
  let end = 0;
  for (const found of text.matchAll(INLINE)) {
    const [all, , code, sign, words, href, bold, , italic] = found;
    html += escape(text.slice(end, found.index));
    end = found.index + all.length;
    if (code !== undefined) html += `<code>${escape(code.replace(/\s/g, ' ').replace(/^ (.*) $/, '$1'))}</code>`;
    else if (sign !== undefined) html += escape(sign);
    else if (href !== undefined) html += `<a href="${escape(target(href))}">${inline(words ?? '')}</a>`;
    else if (bold !== undefined) html += `<strong>${inline(bold)}</strong>`;
    else html += `<em>${inline(italic ?? '')}</em>`;
  }
  return html + escape(text.slice(end));
}

/** A row of a table; `\|` is no border. */
const cells = (line: string) =>
  line
    .replace(/^\s*\||\|\s*$/g, '')
    .split(/(?<!\\)\|/)
    .map((cell) => inline(cell.trim().replaceAll('\\|', '|')));

function table([head = '', , ...rows]: readonly string[]): string {
  const row = (line: string, tag: string, scope = '') =>
    `<tr>${cells(line)
      .map((html) => `<${tag}${scope}>${html}</${tag}>`)
      .join('')}</tr>`;
  const body = rows.map((line) => row(line, 'td')).join('\n');
  return scrolling('Table', `<table><thead>${row(head, 'th', ' scope="col"')}</thead><tbody>${body}</tbody></table>`);
}

const ITEM = /^(\s*)(?:[-*]|\d+\.)\s+/;

/** Items whose continuations are indented; where empty lines stand between them, their words are paragraphs. */
function list(lines: readonly string[], headings: Heading[]): string {
  const items: string[][] = [];
  const [mark = ''] = ITEM.exec(lines[0] ?? '') ?? [];
  const depth = mark.search(/\S/);
  let indent = 0;
  for (const line of lines) {
    const [own, before = ''] = ITEM.exec(line) ?? [];
    if (own !== undefined && before.length === depth) {
      indent = own.length;
      items.push([line.slice(indent)]);
    } else items.at(-1)?.push(line.slice(Math.min(indent, Math.max(0, line.search(/\S/)))));
  }
  const isLoose = items.some((item, i) => item.slice(0, i < items.length - 1 ? undefined : -1).includes(''));
  const inner = (item: readonly string[]) => {
    const html = blocks(item, headings);
    return isLoose ? html : html.replace(/<p>([^]*?)<\/p>\n?/, '$1');
  };
  const tag = /\d/.test(mark) ? 'ol' : 'ul';
  return `<${tag}>\n${items.map((item) => `<li>${inner(item)}</li>\n`).join('')}</${tag}>\n`;
}

function heading(line: string, headings: Heading[]): string {
  const [, marks = '', words = ''] = /^(#+) (.*)$/.exec(line) ?? [];
  const depth = marks.length;
  const html = inline(words);
  if (depth === 1) return `<h1>${html}</h1>\n`;
  const id = slug(html);
  if (depth < 4) headings.push({ id, html: plain(html), depth });
  return `<h${depth} id="${id}"><a href="#${id}">${html}</a></h${depth}>\n`;
}

const STARTS = /^(?:#+ |```|>|\||\s*[-*] |\s*\d+\. )/;

function blocks(lines: readonly string[], headings: Heading[]): string {
  let html = '';
  for (let at = 0; at < lines.length;) {
    const line = lines[at] ?? '';
    /** All lines from here on for which this holds, the first in any case. */
    const take = (holds: (line: string, next: string) => boolean) => {
      let end = at + 1;
      while (end < lines.length && holds(lines[end] ?? '', lines[end + 1] ?? '')) end++;
      return lines.slice(at, (at = end));
    };
    if (line.trim() === '') at++;
    else if (line.startsWith('```')) {
      const [, ...code] = take((other) => !other.startsWith('```'));
      at++;
      const text = code.join('\n');
      html += line === '```mermaid' ? diagram(text) : `<pre tabindex="0"><code>${escape(text)}</code></pre>\n`;
    } else if (line.startsWith('#')) html += heading(take(() => false)[0] ?? '', headings);
    else if (line.startsWith('|')) html += table(take((other) => other.startsWith('|')));
    else if (line.startsWith('>')) {
      const quoted = take((other) => other.startsWith('>')).map((other) => other.replace(/^> ?/, ''));
      html += `<blockquote>\n${blocks(quoted, headings)}</blockquote>\n`;
    } else if (ITEM.test(line)) {
      const isOurs = (other: string) => ITEM.test(other) || /^\s+\S/.test(other);
      html += list(
        take((other, next) => isOurs(other) || (other === '' && isOurs(next))),
        headings,
      );
    } else html += `<p>${inline(take((other) => other.trim() !== '' && !STARTS.test(other)).join('\n'))}</p>\n`;
  }
  return html;
}

export function document(markdown: string): Document {
  const headings: Heading[] = [];
  const html = blocks(markdown.trimEnd().split('\n'), headings);
  return { title: plain(/<h1>(.*)<\/h1>/.exec(html)?.[1] ?? ''), html, headings };
}
