/** An entry of the transcript as an element. */
import type { Entry, Room } from './client.ts';
import { button, make } from './dom.ts';
import { unpack } from './kept.ts';
import { blocks, clock, markOf, safe, size } from './text.ts';
import type { Block } from './text.ts';
import { happened, isWarning } from './words.ts';

const FOLD_LINES = 26;
const FOLD_CHARACTERS = 2400;

/** Each speaker has a colour, in the order in which they appear; 0 is one's own. */
export class Colours {
  readonly #names = new Map<string, number>();

  of(name: string, isMine = false): string {
    if (isMine) return 'c0';
    const number = this.#names.get(name) ?? (this.#names.size % 7) + 1;
    this.#names.set(name, number);
    return `c${number}`;
  }
}

export function time(at: number): HTMLElement {
  return make('time', { datetime: new Date(at).toISOString() }, clock(at));
}

export function show(entry: Entry, room: Room, colours: Colours, reply: (name: string) => void): HTMLLIElement {
  const { what, name, isMine = false, to } = entry;
  const isSaid = what === 'text' || what === 'file';
  if (!isSaid) {
    const words = [safe(happened(entry)), ' ', time(entry.at)];
    if (!isWarning(entry)) return make('li.note', {}, make('span.node'), ...words);
    return make('li.note.warn' as 'li.note', {}, make('span.node'), make('div', {}, ...words));
  }
  const kind = isMine ? 'human' : (room.people.find(({ card }) => card.name === name)?.card.kind ?? 'agent');
  const classes = ['said', colours.of(name, isMine), isMine && 'mine', to !== undefined && 'alone'];
  const head = make(
    'div.head',
    {},
    make('span.who', {}, name),
    make('span.aside', {}, isMine ? '(you)' : kind === 'human' ? '(a person)' : '(an agent)'),
    time(entry.at),
    to !== undefined && make('span.tag', {}, isMine ? `to ${to} alone` : 'to you alone'),
    entry.isLate && make('span.tag', {}, 'late'),
    entry.hasNewKeys && make('span.tag.warn' as 'span.tag', {}, 'new keys'),
    !isMine && !room.isWatching && button('Reply alone', () => reply(name), { 'aria-label': `Reply alone to ${name}` }),
  );
  const body = what === 'file' ? file(entry) : words(entry.text ?? '');
  const reach = isMine && make('p.reach', {});
  return make(
    'li',
    { class: classes.filter(Boolean).join(' ') },
    make(`span.node.${kind}` as 'span.node'),
    head,
    body,
    reach,
  );
}

/** Who has what we said. Receipts are proved; that somebody fetched it is what the bridge says. */
export function reach(entry: Entry, room: Room): string {
  const progress = room.progress(entry);
  if (progress < 1) return progress === 0 ? 'waiting for the bridge…' : `sending, ${Math.floor(progress * 100)} %`;
  const receipts = room.receipts(entry);
  const names = (how: string) => receipts.filter((each) => each.how === how).map(({ name }) => name);
  const [has, fetched, late] = [names('has'), names('fetched'), names('not yet')];
  if (receipts.length === 0) return 'sent; nobody else is here yet';
  return [
    has.length > 0 && `received by ${has.join(', ')}`,
    fetched.length > 0 && `fetched by ${fetched.join(', ')}, says the bridge`,
    late.length > 0 && `not yet by ${late.join(', ')}`,
  ]
    .filter(Boolean)
    .join(' · ');
}

function words(text: string): HTMLElement {
  const shown = safe(text);
  const body = make('div.body', {}, ...blocks(shown).map(block));
  const isLong = shown.length > FOLD_CHARACTERS || shown.split('\n').length > FOLD_LINES;
  if (!isLong) return body;
  body.classList.add('folded');
  const unfold: HTMLButtonElement = button(
    `Show all ${shown.split('\n').length} lines`,
    () => {
      const isFolded = body.classList.toggle('folded');
      unfold.setAttribute('aria-expanded', String(!isFolded));
      unfold.textContent = isFolded ? `Show all ${shown.split('\n').length} lines` : 'Fold';
    },
    { class: 'unfold', 'aria-expanded': 'false' },
  );
  return make('div', {}, body, unfold);
}

function block({ kind, text }: Block): HTMLElement {
  if (kind === 'prose') {
    const parts = text.split(/`([^`\n]+)`/);
    return make('p.prose', {}, ...parts.map((part, i) => (i % 2 === 1 ? make('code', {}, part) : part)));
  }
  const lines = text
    .split('\n')
    .map((line, i, { length }) => make('span', { class: markOf(line) }, line, i < length - 1 && '\n'));
  const content = kind === 'diff' ? lines : [text];
  return make('pre', { class: kind, tabindex: '0', role: 'region', 'aria-label': kind }, make('code', {}, ...content));
}

function file({ file, name, isMine }: Entry): HTMLElement {
  if (!file) return make('div.body');
  const { name: called, size: length, bytes } = file;
  const shown = safe(called);
  const open = button('Save', () => save(called, unpack(bytes ?? '')), { 'aria-label': `Save ${shown}` });
  const why = isMine ? '' : `The file itself was not kept over the reload: ask ${name} to send it again.`;
  return make(
    'div.body',
    {},
    make('div.file', {}, make('b', {}, shown), make('span', {}, size(length)), bytes !== undefined && !isMine && open),
    bytes === undefined && why !== '' && make('p.fine', {}, why),
  );
}

/** As bytes, whatever they are: the browser is to show nothing of it. */
export function save(name: string, bytes: BlobPart, type = 'application/octet-stream'): void {
  const url = URL.createObjectURL(new Blob([bytes], { type }));
  const link = make('a', { href: url, download: name.replace(/[^A-Za-z0-9._-]/g, '_').replace(/^\.+/, '_') || 'file' });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
