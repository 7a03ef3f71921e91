/**
 * A document in Markdown as HTML for browsers: headings that link, a list of contents, wide things that scroll in
 * themselves, and the two kinds of mermaid diagram that our documents have. Its input is the repository's own.
 */
import { Marked } from 'marked';

const escape = (text) => text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
const plain = (html) => html.replace(/<[^>]*>/g, '');
/** As GitHub makes them, so that links work in both places. */
const slug = (html) =>
  plain(html)
    .replace(/&\w+;/g, '')
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');

/** Where a link of the sources leads on the bridge. */
const SERVED = { '../sdk/agent-pages/llms.md': '../llms.txt', '../sdk/agent-pages/skill.md': '../skill.md' };
const target = (href) => SERVED[href] ?? href.replace(/^([\w-]+)\.md(#.*)?$/, '$1$2');

const scrolling = (label, html) => `<div class="wide" tabindex="0" role="region" aria-label="${label}">${html}</div>\n`;

/** @returns {{ title: string, html: string, headings: { id: string, html: string, depth: number }[] }} */
export function document(markdown) {
  const headings = [];
  let title = '';
  const renderer = {
    heading({ tokens, depth }) {
      const html = this.parser.parseInline(tokens);
      if (depth === 1) {
        title = plain(html);
        return `<h1>${html}</h1>\n`;
      }
      const id = slug(html);
      if (depth < 4) headings.push({ id, html: plain(html), depth });
      return `<h${depth} id="${id}"><a href="#${id}">${html}</a></h${depth}>\n`;
    },
    link({ href, tokens }) {
      return `<a href="${escape(target(href))}">${this.parser.parseInline(tokens)}</a>`;
    },
    code({ text, lang }) {
      if (lang === 'mermaid') return text.startsWith('sequenceDiagram') ? sequence(text) : edges(text);
      return `<pre tabindex="0"><code>${escape(text)}</code></pre>\n`;
    },
    /** Each cell knows its column's name, and the roles stay when a narrow screen makes lines of the cells. */
    table({ header, rows }) {
      const columns = header.map(({ tokens }) => this.parser.parseInline(tokens));
      const heads = columns.map((html) => `<th role="columnheader" scope="col">${html}</th>`);
      const cell = ({ tokens }, i) =>
        `<td role="cell" data-of="${plain(columns[i])}">${this.parser.parseInline(tokens)}</td>`;
      const body = rows.map((cells) => `<tr role="row">${cells.map(cell).join('')}</tr>`);
      const parts = `<thead><tr role="row">${heads.join('')}</tr></thead><tbody>${body.join('\n')}</tbody>`;
      return scrolling('Table', `<table role="table">${parts}</table>`);
    },
    html: ({ text }) => escape(text),
  };
  const html = new Marked({ renderer }).parse(markdown);
  return { title, html, headings };
}

// ---- diagrams ----

const LANE = 176;
const ROW = 46;

/** Participants, messages and notes, in the order of their lines. */
function sequence(text) {
  const lines = text.split('\n').slice(1);
  const names = lines.map((line) => /^\s*(?:actor|participant) (\w+)(?: as (.*))?$/.exec(line)).filter(Boolean);
  const lanes = new Map(names.map(([, id, name], i) => [id, { name: name ?? id, x: 90 + i * LANE, isPerson: !name }]));
  const said = [];
  for (const line of lines) {
    const [, from, to, words] = /^\s*(\w+)->>(\w+): (.*)$/.exec(line) ?? [];
    const [, first, last, note] = /^\s*Note over (\w+),(\w+): (.*)$/.exec(line) ?? [];
    if (from) said.push({ a: lanes.get(from).x, b: lanes.get(to).x, words });
    else if (first) said.push({ a: lanes.get(first).x, b: lanes.get(last).x, words: note, isNote: true });
  }
  const width = 2 * 90 + (lanes.size - 1) * LANE;
  const height = 70 + said.length * ROW;
  const heads = [...lanes.values()].map(
    ({ name, x, isPerson }) =>
      `<path class="lane" d="M${x} 34V${height}"/><rect x="${x - 82}" y="2" width="164" height="32" rx="${isPerson ? 16 : 0}"/><text x="${x}" y="23">${escape(name)}</text>`,
  );
  const rows = said.map(({ a, b, words, isNote }, i) => {
    const y = 80 + i * ROW;
    const middle = (a + b) / 2;
    if (isNote) {
      const half = Math.abs(b - a) / 2 + 40;
      return `<rect class="note" x="${middle - half}" y="${y - 20}" width="${2 * half}" height="28"/><text x="${middle}" y="${y - 1}">${escape(words)}</text>`;
    }
    const end = b > a ? b - 8 : b + 8;
    const tip = `M${b} ${y}L${end} ${y - 5}V${y + 5}Z`;
    return `<path class="beam" d="M${a} ${y}H${end}"/><path class="tip" d="${tip}"/><text class="words" x="${middle}" y="${y - 8}">${escape(words)}</text>`;
  });
  const spoken = said.map(({ words }) => words).join('; ');
  const svg = `<svg class="sequence" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(`Who says what to whom: ${spoken}`)}"><g text-anchor="middle">${heads.join('')}${rows.join('')}</g></svg>`;
  return scrolling('Diagram', svg);
}

/** A flow chart, told as what goes from where to where. */
function edges(text) {
  const names = new Map();
  for (const [, id, name] of text.matchAll(/(\w+)(?:\[|\(\()([^\])]+)(?:\]|\)\))/g)) names.set(id, name);
  const places = new Map();
  let place = '';
  for (const line of text.split('\n')) {
    place = /^\s*subgraph (\w+)/.exec(line)?.[1] ?? (line.trim() === 'end' ? '' : place);
    for (const id of names.keys()) if (place !== '' && new RegExp(`\\b${id}\\b`).test(line)) places.set(id, place);
  }
  const told = (id) => escape(places.has(id) ? `${names.get(id)} (${places.get(id)})` : (names.get(id) ?? id));
  const found = text.matchAll(/^\s*(\w+)\S*\s*(?:--|-\.)\s*([^>]*?)\s*(?:-->|\.->|>)\s*(\w+)/gm);
  const items = Array.from(found, ([, from, words, to]) => {
    const label = words.replace(/[-.]+$/, '').trim();
    return `<li><b>${told(from)}</b><span>${label === '' ? '' : escape(label)}</span><b>${told(to)}</b></li>`;
  });
  return `<ul class="flow">${items.join('')}</ul>\n`;
}
