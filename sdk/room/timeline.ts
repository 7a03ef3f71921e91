/** The timeline: a column for each participant, a line for each message, from top to bottom. */
import { element, joinNonEmpty } from './dom.ts';
import { isMessage } from './event-text.ts';
import { sanitizeLine } from './sanitize.ts';
import type { Entry, Room } from './state.ts';
import { colourOf, timeElement } from './transcript-entry.ts';

const PAUSE_MS = 5 * 60_000;
const MAX_ROWS = 300;
const MAX_COLUMNS = 40;
const MAX_WORDS = 200;

export function renderTimeline(room: Room): HTMLElement {
  const said = room.entries.filter(isMessage).slice(-MAX_ROWS);
  if (said.length === 0) {
    return element('p.hint', 'Nobody has said anything yet. Each message will be a line between these columns.');
  }
  const own = room.me.name;
  const present = room.sessions.filter(({ isInChannel }) => isInChannel);
  const speakers = said.flatMap(({ label, to }) => (to === undefined ? [label] : [label, to]));
  const labels = [...new Set([own, ...speakers, ...present.map(({ label }) => label)])].slice(0, MAX_COLUMNS);
  const heads = labels.map((label) =>
    element('th', { scope: 'col', class: colourOf(label, label === own) }, element('span.who', label)),
  );
  const hiddenHead = (words: string) => element('th', { scope: 'col' }, element('span.visually-hidden', words));
  return element(
    'table',
    element('thead', element('tr', hiddenHead('Time'), ...heads, hiddenHead('Message'))),
    element('tbody', ...renderRows(said, labels)),
  );
}

function renderRows(said: readonly Entry[], labels: readonly string[]): HTMLElement[] {
  const rows: HTMLElement[] = [];
  let before = said[0]?.at ?? 0;
  for (const entry of said) {
    const pauseMs = entry.at - before;
    before = entry.at;
    if (pauseMs > PAUSE_MS) rows.push(renderPause(pauseMs, labels));
    rows.push(renderRow(entry, labels));
  }
  return rows;
}

function renderPause(pauseMs: number, labels: readonly string[]): HTMLElement {
  const words = `${Math.round(pauseMs / 60_000)} min later`;
  const columns = labels.map(() => element('td.column'));
  return element('tr.pause', element('th', { scope: 'row' }, words), ...columns, element('td'));
}

function renderRow(entry: Entry, labels: readonly string[]): HTMLElement {
  const { at, label, to, isMine, kind = 'agent', text = '', file } = entry;
  const from = labels.indexOf(label);
  const reached = to === undefined ? [...labels.keys()] : [from, labels.indexOf(to)];
  const first = Math.min(...reached);
  const last = Math.max(...reached);
  const cells = labels.map((name, i) => {
    const isOn = i >= first && i <= last && first < last;
    const classes = [
      'column',
      isOn && 'line',
      i === first && 'first',
      i === last && 'last',
      to !== undefined && 'alone',
    ];
    const cell = element('td', { class: joinNonEmpty(' ', ...classes) });
    if (i === from) cell.append(element(`i.from.${kind}`), element('span.visually-hidden', `from ${name}`));
    else if (reached.includes(i)) cell.append(element('i'), element('span.visually-hidden', `to ${name}`));
    return cell;
  });
  const words = sanitizeLine(file ? `file ${file.name}` : text.slice(0, 4 * MAX_WORDS))
    .replace(/```\w*|\s+/g, ' ')
    .slice(0, MAX_WORDS);
  const time = element('th', { scope: 'row' }, timeElement(at));
  return element('tr', { class: colourOf(label, isMine) }, time, ...cells, element('td.words', words));
}
