/** The swarm from above: a wire for each participant, a beam for each thing that was said, from top to bottom. */
import { join, make } from './dom.ts';
import type { Entry, Room } from './room.ts';
import { colourOf, kindOf, time } from './show.ts';
import { safe } from './text.ts';
import { isSaid } from './words.ts';

const PAUSE_MS = 5 * 60_000;
const ROWS = 300;

export function lanes(room: Room): HTMLElement {
  const said = room.entries.filter(isSaid).slice(-ROWS);
  const [first] = said;
  if (!first) return make('p.fine', 'Nobody has said anything yet. Each message will be a beam between these wires.');
  const us = room.me.name;
  const columns = [...new Set([us, ...[...said, ...room.others].map(({ name }) => name)])];
  const col = { scope: 'col' };
  const heads = columns.map((name) =>
    make('th', { ...col, class: colourOf(name, name === us) }, make('span.who', name)),
  );
  let before = first.at;
  const rows = said.flatMap((entry) => {
    const pauseMs = entry.at - before;
    before = entry.at;
    const words = `${Math.round(pauseMs / 60_000)} min later`;
    const empty = columns.map(() => make('td.lane'));
    const pause = make('tr.pause', make('th', { scope: 'row' }, words), ...empty, make('td'));
    return pauseMs > PAUSE_MS ? [pause, row(entry, columns, room)] : row(entry, columns, room);
  });
  const aside = (words: string) => make('th', col, make('span.aside', words));
  return make('table', make('thead', make('tr', aside('Time'), ...heads, aside('What'))), make('tbody', ...rows));
}

function row(entry: Entry, columns: readonly string[], room: Room): HTMLElement {
  const { at, name, to, isMine, text = '', file } = entry;
  const from = columns.indexOf(name);
  const whom = to === undefined ? [...columns.keys()] : [from, columns.indexOf(to)];
  const [first, last] = [Math.min(...whom), Math.max(...whom)];
  const cells = columns.map((column, i) => {
    const isOn = i >= first && i <= last && first < last;
    const classes = ['lane', isOn && 'beam', i === first && 'first', i === last && 'last', to && 'alone'];
    const [node, spoken] =
      i === from
        ? [make(`i.from.${kindOf(room, entry)}`), `from ${column}`]
        : whom.includes(i)
          ? [make('i'), `to ${column}`]
          : [];
    return make('td', { class: join(' ', ...classes) }, node, make('span.aside', spoken));
  });
  const words = safe(file ? `file ${file.name}` : text)
    .replace(/```\w*|\s+/g, ' ')
    .slice(0, 200);
  const stamp = make('th', { scope: 'row' }, time(at));
  return make('tr', { class: colourOf(name, isMine) }, stamp, ...cells, make('td.words', words));
}
