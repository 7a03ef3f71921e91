/** The swarm from above: a wire for each participant, a beam for each thing that was said, from top to bottom. */
import type { Entry, Room } from './client.ts';
import { make } from './dom.ts';
import { safe } from './text.ts';
import { time } from './show.ts';
import type { Colours } from './show.ts';

const PAUSE_MS = 5 * 60_000;
const ROWS = 300;

export function lanes(room: Room, colours: Colours): HTMLElement {
  const said = room.entries.filter(({ what }) => what === 'text' || what === 'file').slice(-ROWS);
  const names = [room.name, ...new Set(said.map(({ name }) => name).concat(room.people.map(({ card }) => card.name)))];
  const columns = [...new Set(names)];
  if (said.length === 0)
    return make('p.fine', {}, 'Nobody has said anything yet. Each message will be a beam between these wires.');
  const heads = columns.map((name) =>
    make('th', { scope: 'col', class: colours.of(name, name === room.name) }, make('span.who', {}, name)),
  );
  const rows: HTMLElement[] = [];
  let before = said[0]?.at ?? 0;
  for (const entry of said) {
    const minutes = Math.round((entry.at - before) / 60_000);
    if (entry.at - before > PAUSE_MS) {
      const empty = columns.map(() => make('td.lane'));
      rows.push(make('tr.pause', {}, make('th', { scope: 'row' }, `${minutes} min later`), ...empty, make('td')));
    }
    before = entry.at;
    rows.push(row(entry, columns, room, colours));
  }
  const head = make(
    'tr',
    {},
    make('th', { scope: 'col' }, make('span.aside', {}, 'Time')),
    ...heads,
    make('th', { scope: 'col' }, make('span.aside', {}, 'What')),
  );
  return make('table', {}, make('thead', {}, head), make('tbody', {}, ...rows));
}

function row(entry: Entry, columns: readonly string[], room: Room, colours: Colours): HTMLElement {
  const { name, to, isMine = false, text = '', file } = entry;
  const from = columns.indexOf(name);
  const whom = to === undefined ? columns.map((_, i) => i) : [from, columns.indexOf(to)];
  const [first, last] = [Math.min(...whom), Math.max(...whom)];
  const kind = isMine ? 'human' : room.people.find(({ card }) => card.name === name)?.card.kind;
  const cells = columns.map((column, i) => {
    const isOn = i >= first && i <= last && first < last;
    const classes = ['lane', isOn && 'beam', i === first && 'first', i === last && 'last', to !== undefined && 'alone'];
    const sender = i === from && make('i', { class: `from ${kind ?? ''}` });
    const end = i !== from && whom.includes(i) && make('i');
    const spoken = i === from ? `from ${column}` : whom.includes(i) ? `to ${column}` : '';
    return make('td', { class: classes.filter(Boolean).join(' ') }, sender, end, make('span.aside', {}, spoken));
  });
  const words = safe(file ? `file ${file.name}` : text)
    .replace(/```\w*|\s+/g, ' ')
    .slice(0, 200);
  const stamp = make('th', { scope: 'row' }, time(entry.at));
  return make('tr', { class: colours.of(name, isMine) }, stamp, ...cells, make('td.words', {}, words));
}
