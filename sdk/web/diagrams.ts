/** The two kinds of mermaid diagram that our documents have: who says what to whom, and what goes from where to where. */
import { escape, scrolling } from './html.ts';

const LANE = 176;
const ROW = 46;

export const diagram = (text: string): string => (text.startsWith('sequenceDiagram') ? sequence(text) : edges(text));

/** Participants, messages and notes, in the order of their lines. */
function sequence(text: string): string {
  const lanes = new Map<string, { name: string; x: number; isPerson: boolean }>();
  const said: { a: number; b: number; words: string; isNote: boolean }[] = [];
  const x = (id: string) => lanes.get(id)?.x ?? 0;
  for (const line of text.split('\n')) {
    const [, lane = '', name] = /^\s*(?:actor|participant) (\w+)(?: as (.*))?$/.exec(line) ?? [];
    const [, from, to = '', words = ''] = /^\s*(\w+)->>(\w+): (.*)$/.exec(line) ?? [];
    const [, first, last = '', note = ''] = /^\s*Note over (\w+),(\w+): (.*)$/.exec(line) ?? [];
    if (lane) lanes.set(lane, { name: name ?? lane, x: 90 + lanes.size * LANE, isPerson: !name });
    else if (from) said.push({ a: x(from), b: x(to), words, isNote: false });
    else if (first) said.push({ a: x(first), b: x(last), words: note, isNote: true });
  }
  const [width, height] = [180 + (lanes.size - 1) * LANE, 70 + said.length * ROW];
  const heads = Array.from(
    lanes.values(),
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
  const told = escape(`Who says what to whom: ${said.map(({ words }) => words).join('; ')}`);
  const drawn = `<g text-anchor="middle">${heads.join('')}${rows.join('')}</g>`;
  return scrolling(
    'Diagram',
    `<svg class="sequence" viewBox="0 0 ${width} ${height}" role="img" aria-label="${told}">${drawn}</svg>`,
  );
}

/** A flow chart, told as what goes from where to where. */
function edges(text: string): string {
  const names = new Map<string, string>();
  for (const [, id = '', name = ''] of text.matchAll(/(\w+)(?:\[|\(\()([^\])]+)(?:\]|\)\))/g)) names.set(id, name);
  const places = new Map<string, string>();
  let place = '';
  for (const line of text.split('\n')) {
    place = /^\s*subgraph (\w+)/.exec(line)?.[1] ?? (line.trim() === 'end' ? '' : place);
    for (const id of names.keys()) if (place !== '' && new RegExp(`\\b${id}\\b`).test(line)) places.set(id, place);
  }
  const told = (id: string) => escape((names.get(id) ?? id) + (places.has(id) ? ` (${places.get(id) ?? ''})` : ''));
  const found = text.matchAll(/^\s*(\w+)\S*\s*(?:--|-\.)\s*([^>]*?)\s*(?:-->|\.->|>)\s*(\w+)/gm);
  const items = Array.from(found, ([, from = '', words = '', to = '']) => {
    const label = escape(words.replace(/[-.]+$/, '').trim());
    return `<li><b>${told(from)}</b><span>${label}</span><b>${told(to)}</b></li>`;
  });
  return `<ul class="flow">${items.join('')}</ul>\n`;
}
