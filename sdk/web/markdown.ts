/**
 * Renders a document as HTML for browsers: headings that link, a list of contents, and wide parts that scroll in
 * themselves. Its input is the text of docs/ in this bundle, never anything from a request. It supports what these
 * documents use: headings, paragraphs, lists, quotes, tables, code, links, bold and emphasis. A test compares it with a
 * complete renderer on each document.
 */

export type Heading = { readonly id: string; readonly html: string; readonly depth: number };
export type RenderedDocument = { readonly html: string; readonly headings: readonly Heading[] };

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escapeHtml = (text: string) => text.replace(/[&<>"]/g, (character) => ESCAPES[character] ?? character);
const withoutTags = (html: string) => html.replace(/<[^>]*>/g, '');

/** The first heading of a document. */
export const titleOf = (markdown: string) => withoutTags(renderInline(/^# (.*)$/m.exec(markdown)?.[1] ?? ''));

/** The id of a heading as GitHub makes it, so that links work in both places. */
function headingId(html: string): string {
  return withoutTags(html)
    .replace(/&\w+;/g, '')
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');
}

/** Where the bridge serves a file that the documents link to. */
const SERVED: Readonly<Record<string, string>> = {
  '../sdk/agent-pages/llms.md': '../llms.txt',
  '../sdk/agent-pages/skill.md': '../skill.md',
};
const servedPath = (href: string) => SERVED[href] ?? href.replace(/^([\w-]+)\.md(#.*)?$/, '$1$2');

const INLINE = [
  /(?<ticks>`+)(?<code>.+?)\k<ticks>/,
  /\[(?<label>(?:`[^`]*`|[^\]])*)\]\((?<href>[^)\s]*)\)/,
  /<(?<link>https?:[^>\s]+)>/,
  /\*\*(?<bold>.+?)\*\*/,
  /(?<![\p{L}\p{N}])(?<mark>[*_])(?<emphasis>\S(?:.*?\S)?)\k<mark>(?![\p{L}\p{N}])/u,
  /\\(?<escaped>[!-/:-@[-`{-~])/,
];
const INLINE_PATTERN = new RegExp(INLINE.map(({ source }) => source).join('|'), 'gsu');

function renderInline(text: string): string {
  let html = '';
  let end = 0;
  for (const match of text.matchAll(INLINE_PATTERN)) {
    html += escapeHtml(text.slice(end, match.index));
    end = match.index + match[0].length;
    const { code, label, href, link, bold, emphasis, escaped } = match.groups ?? {};
    if (code !== undefined) html += `<code>${escapeHtml(code)}</code>`;
    else if (href !== undefined) html += `<a href="${escapeHtml(servedPath(href))}">${renderInline(label ?? '')}</a>`;
    else if (link !== undefined) html += `<a href="${escapeHtml(link)}">${escapeHtml(link)}</a>`;
    else if (bold !== undefined) html += `<strong>${renderInline(bold)}</strong>`;
    else if (emphasis !== undefined) html += `<em>${renderInline(emphasis)}</em>`;
    else html += escapeHtml(escaped ?? '');
  }
  return html + escapeHtml(text.slice(end));
}

/** The cells of a row of a table. A bar in code is written as `\|`. */
function cellsOf(row: string): string[] {
  const cells = row
    .trim()
    .slice(1, -1)
    .split(/(?<!\\)\|/);
  return cells.map((cell) => renderInline(cell.trim().replaceAll('\\|', '|')));
}

/** Each cell has its column's name: on a narrow screen the cells become lines, and the roles stay. */
function renderTable([header = '', , ...rows]: readonly string[]): string {
  const columns = cellsOf(header);
  const heads = columns.map((html) => `<th role="columnheader" scope="col">${html}</th>`);
  const body = rows.map((row) => {
    const cells = cellsOf(row).map(
      (html, i) => `<td role="cell" data-column="${withoutTags(columns[i] ?? '')}">${html}</td>`,
    );
    return `<tr role="row">${cells.join('')}</tr>`;
  });
  const parts = `<thead><tr role="row">${heads.join('')}</tr></thead><tbody>${body.join('\n')}</tbody>`;
  return (
    '<div class="scrolling" tabindex="0" role="region" aria-label="Table">' +
    `<table role="table">${parts}</table></div>\n`
  );
}

const FENCE = /^```/;
const HEADING = /^(#{1,6}) (.*)$/;
const ITEM = /^(?:[-*]|(\d+)\.) +/;
const QUOTE = /^> ?/;
const TABLE_ROW = /^\|/;
const startsBlock = (line: string) => [FENCE, HEADING, ITEM, QUOTE, TABLE_ROW].some((pattern) => pattern.test(line));

/** After an empty line only an item or an indented line belongs to the list. */
function continuesList(line: string, before: string): boolean {
  if (line === '' || line.startsWith('  ') || ITEM.test(line)) return true;
  return before !== '' && !startsBlock(line);
}

/** Renders lines as blocks, and notes the headings in the order in which they come. */
function renderBlocks(lines: readonly string[], headings: Heading[], isTight = false): string {
  let html = '';
  let next = 0;
  const takeWhile = (condition: (line: string, i: number) => boolean): string[] => {
    const start = next;
    while (next < lines.length && condition(lines[next] ?? '', next - start)) next++;
    return lines.slice(start, next);
  };
  while (next < lines.length) {
    const line = lines[next] ?? '';
    if (line.trim() === '') {
      next++;
    } else if (FENCE.test(line)) {
      const [, ...code] = takeWhile((each, i) => i === 0 || !FENCE.test(each));
      next++;
      html += `<pre tabindex="0"><code>${escapeHtml(code.join('\n'))}</code></pre>\n`;
    } else if (HEADING.test(line)) {
      next++;
      html += renderHeading(line, headings);
    } else if (TABLE_ROW.test(line)) {
      html += renderTable(takeWhile((each) => TABLE_ROW.test(each)));
    } else if (QUOTE.test(line)) {
      const quoted = takeWhile((each) => QUOTE.test(each)).map((each) => each.replace(QUOTE, ''));
      html += `<blockquote>\n${renderBlocks(quoted, headings)}</blockquote>\n`;
    } else if (ITEM.test(line)) {
      html += renderList(
        takeWhile((each, i) => i === 0 || continuesList(each, lines[next - 1] ?? '')),
        headings,
      );
    } else {
      const paragraph = takeWhile((each, i) => i === 0 || (each.trim() !== '' && !startsBlock(each)));
      const text = renderInline(paragraph.map((each) => each.trim()).join('\n'));
      html += isTight ? `${text}\n` : `<p>${text}</p>\n`;
    }
  }
  return html;
}

function renderHeading(line: string, headings: Heading[]): string {
  const [, marks = '', text = ''] = HEADING.exec(line) ?? [];
  const depth = marks.length;
  const html = renderInline(text);
  if (depth === 1) return `<h1>${html}</h1>\n`;
  const id = headingId(html);
  if (depth < 4) headings.push({ id, html: withoutTags(html), depth });
  return `<h${depth} id="${id}"><a href="#${id}">${html}</a></h${depth}>\n`;
}

/** A list is loose, with a paragraph for each item, where an empty line separates two of its items. */
function renderList(lines: readonly string[], headings: Heading[]): string {
  const items: string[][] = [];
  for (const line of lines) {
    const marker = ITEM.exec(line)?.[0];
    if (marker === undefined) items.at(-1)?.push(line.replace(/^ {2,3}/, ''));
    else items.push([line.slice(marker.length)]);
  }
  const text = lines.join('\n').trimEnd();
  const isTight = !/\n\n(?:[-*]|\d+\.|  )/.test(text);
  const tag = ITEM.exec(lines[0] ?? '')?.[1] === undefined ? 'ul' : 'ol';
  const body = items.map((item) => `<li>${renderBlocks(item, headings, isTight).trimEnd()}</li>\n`);
  return `<${tag}>\n${body.join('')}</${tag}>\n`;
}

export function renderDocument(markdown: string): RenderedDocument {
  const headings: Heading[] = [];
  const html = renderBlocks(markdown.split('\n'), headings);
  return { html, headings };
}
