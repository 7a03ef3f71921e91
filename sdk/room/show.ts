/** An entry of the transcript as an element. */
import { button, join, make } from './dom.ts';
import { unpack } from './kept.ts';
import { progress, receipts } from './outbox.ts';
import type { Receipt } from './outbox.ts';
import type { Entry, Room } from './room.ts';
import { blocks, clock, markOf, safe, size } from './text.ts';
import type { Block } from './text.ts';
import { happened, isSaid, isWarning } from './words.ts';

const FOLD_LINES = 26;
const FOLD_CHARACTERS = 2400;

/** Each speaker has a colour, in the order in which they appear; 0 is one's own. */
const colours = new Map<string, number>();
export function colourOf(name: string, isMine = false): string {
  const number = isMine ? 0 : (colours.get(name) ?? (colours.size % 7) + 1);
  if (!isMine) colours.set(name, number);
  return `c${number}`;
}

export const kindOf = (room: Room, { name, isMine }: Entry): string =>
  isMine ? 'human' : (room.others.find((peer) => peer.name === name)?.kind ?? 'agent');

export const time = (at: number): HTMLElement => make('time', { datetime: new Date(at).toISOString() }, clock(at));

export function show(entry: Entry, room: Room, reply: (name: string) => void): HTMLLIElement {
  const { what, at, name, isMine, to, text = '', isLate, hasNewKeys } = entry;
  if (!isSaid(entry)) {
    const words = [safe(happened(entry)), ' ', time(at)];
    return isWarning(entry)
      ? make('li.note.warn', make('span.node'), make('div', ...words))
      : make('li.note', make('span.node'), ...words);
  }
  const kind = kindOf(room, entry);
  const head = make(
    'div.head',
    make('span.who', name),
    make('span.aside', isMine ? '(you)' : kind === 'human' ? '(a person)' : '(an agent)'),
    time(at),
    to && make('span.tag', isMine ? `to ${to} alone` : 'to you alone'),
    isLate && make('span.tag', 'late'),
    hasNewKeys && make('span.tag.warn', 'new keys'),
    !isMine &&
      !room.me.isWatching &&
      button('Reply alone', () => reply(name), { 'aria-label': `Reply alone to ${name}` }),
  );
  return make(
    'li',
    { class: join(' ', 'said', colourOf(name, isMine), isMine && 'mine', to && 'alone') },
    make(`span.node.${kind}`),
    head,
    what === 'file' ? file(entry) : words(text),
    isMine && make('p.reach'),
  );
}

/** Who has what we said. Receipts are proved; that somebody fetched it is what the bridge says. */
export function reach(entry: Entry, room: Room): string {
  const part = progress(room, entry);
  if (part < 1) return part === 0 ? 'waiting for the bridge…' : `sending, ${Math.floor(part * 100)} %`;
  const all = receipts(room, entry);
  if (all.length === 0) return 'sent; nobody else is here yet';
  const names = (words: string, how: Receipt['how'], after = '') => {
    const those = all.filter((each) => each.how === how).map(({ name }) => name);
    return those.length > 0 && `${words} by ${those.join(', ')}${after}`;
  };
  return join(
    ' · ',
    names('received', 'has'),
    names('fetched', 'fetched', ', says the bridge'),
    names('not yet', 'not yet'),
  );
}

function words(text: string): HTMLElement {
  const shown = safe(text);
  const body = make('div.body', ...blocks(shown).map(block));
  const lines = shown.split('\n').length;
  if (shown.length <= FOLD_CHARACTERS && lines <= FOLD_LINES) return body;
  const all = `Show all ${lines} lines`;
  const fold = () => {
    const isFolded = body.classList.toggle('folded');
    unfold.setAttribute('aria-expanded', String(!isFolded));
    unfold.textContent = isFolded ? all : 'Fold';
  };
  const unfold = button(all, fold, { class: 'unfold' });
  fold();
  return make('div', body, unfold);
}

function block({ kind, text }: Block): HTMLElement {
  if (kind === 'prose') {
    const parts = text.split(/`([^`\n]+)`/);
    return make('p.prose', ...parts.map((part, i) => (i % 2 === 1 ? make('code', part) : part)));
  }
  const lines = text
    .split('\n')
    .map((line, i, { length }) => make(`span.${markOf(line)}`, line, i < length - 1 && '\n'));
  const content = kind === 'diff' ? lines : [text];
  return make(`pre.${kind}`, { tabindex: '0', role: 'region', 'aria-label': kind }, make('code', ...content));
}

function file({ file: { name, size: length, bytes } = { name: '', size: 0 }, name: from, isMine }: Entry): HTMLElement {
  const shown = safe(name);
  const isHere = bytes !== undefined;
  const open = () => save(name, unpack(bytes));
  return make(
    'div.body',
    make(
      'div.file',
      make('b', shown),
      make('span', size(length)),
      isHere && !isMine && button('Save', open, { 'aria-label': `Save ${shown}` }),
    ),
    !isHere && !isMine && make('p.fine', `The file itself was not kept over the reload: ask ${from} to send it again.`),
  );
}

/** As bytes, whatever they are: the browser is to show nothing of it. */
export function save(name: string, bytes: BlobPart, type = 'application/octet-stream'): void {
  const href = URL.createObjectURL(new Blob([bytes], { type }));
  make('a', { href, download: name.replace(/[^A-Za-z0-9._-]/g, '_').replace(/^\.+/, '_') || 'file' }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}
