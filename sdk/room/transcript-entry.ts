/** Renders entries of the transcript: events, messages, files, and what is known of the delivery of ours. */
import { button, element, joinNonEmpty } from './dom.ts';
import {
  describeDeliveries,
  describeEvent,
  describeFlags,
  describeMarks,
  describeTransfer,
  isMessage,
  isWarning,
} from './event-text.ts';
import { formatMoment, formatSize } from './format.ts';
import { deliveries } from './outbox.ts';
import { sanitize, sanitizeLine } from './sanitize.ts';
import type { Entry, FileEntry, Room } from './state.ts';
import { diffLineClass, parseBlocks } from './text-blocks.ts';
import type { Block } from './text-blocks.ts';

const FOLD_LINES = 26;
const FOLD_CHARACTERS = 2400;
/** Beyond these, a block is one plain text: each element costs. */
const MAX_DIFF_LINES = 2000;
const MAX_INLINE_CODE = 500;

/** What a person can do with an entry. */
export type EntryActions = {
  readonly reply: (sid: string) => void;
  readonly fetch: (entry: Entry) => void;
  readonly saveFile: (entry: Entry) => void;
  readonly cancel: (entry: Entry) => void;
};

/** Each speaker has a colour, in the order of appearance; 0 is one's own. */
const colours = new Map<string, number>();
export function colourOf(label: string, isMine = false): string {
  if (isMine) return 'c0';
  const number = colours.get(label) ?? (colours.size % 7) + 1;
  colours.set(label, number);
  return `c${number}`;
}

export const timeElement = (at: number): HTMLElement => {
  const now = Date.now();
  return element('time', { datetime: new Date(at).toISOString() }, formatMoment(at, now));
};

/** What of an entry may change after it was rendered: then it is rendered again. */
export const renderKey = ({ count, file }: Entry): string =>
  `${count ?? ''} ${file?.state ?? ''} ${file?.problem ?? ''}`;

export function renderEntry(entry: Entry, room: Room, actions: EntryActions): HTMLLIElement {
  return isMessage(entry) ? renderMessage(entry, room, actions) : renderEvent(entry);
}

function renderEvent(entry: Entry): HTMLLIElement {
  const words = [describeEvent(entry), ' ', timeElement(entry.at)];
  return isWarning(entry)
    ? element('li.note.warn', element('span.avatar'), element('div', ...words))
    : element('li.note', element('span.avatar'), ...words);
}

function renderMessage(entry: Entry, room: Room, actions: EntryActions): HTMLLIElement {
  const { label, isMine, to, kind = 'agent', text = '', file, marks } = entry;
  const notes = marks ? describeMarks(marks) : [];
  return element(
    'li',
    { class: joinNonEmpty(' ', 'said', colourOf(label, isMine), isMine && 'mine', to !== undefined && 'alone') },
    element(`span.avatar.${kind}`),
    renderHead(entry, room, actions),
    notes.length > 0 && element('p.marks', notes.join(' · ')),
    file ? renderFile(entry, file, actions) : renderText(text),
    isMine && element('p.delivery'),
  );
}

function renderHead(entry: Entry, room: Room, { reply }: EntryActions): HTMLElement {
  const { at, label, sid, isMine, to, kind, isUnpaired } = entry;
  const canReply = !isMine && sid !== undefined && !room.me.isWatching;
  const kindWords = kind === 'human' ? '(a person)' : '(an agent)';
  return element(
    'div.head',
    element('span.who', label),
    element('span.visually-hidden', isMine ? '(you)' : kindWords),
    timeElement(at),
    to !== undefined && element('span.tag', isMine ? `to ${to} alone` : 'to you alone'),
    ...describeFlags(entry).map((words) => element(isUnpaired ? 'span.tag.warn' : 'span.tag', words)),
    canReply && button('Reply alone', () => reply(sid), { 'aria-label': `Reply alone to ${label}` }),
  );
}

/** Who has what we sent. */
export function deliveryText(entry: Entry, room: Room): string {
  const { confirmedBy, outboxNumber, file } = entry;
  if (confirmedBy) return confirmedBy.length > 0 ? `shown to ${confirmedBy.join(', ')}` : 'not confirmed';
  const item = outboxNumber === undefined ? undefined : room.outbox[outboxNumber - 1];
  if (!item) return file ? '' : 'waiting';
  if (item.isUndelivered) return 'not delivered';
  if (item.number > room.position.posted) return 'waiting for the bridge…';
  return describeDeliveries(deliveries(room, item));
}

function renderText(text: string): HTMLElement {
  const shown = sanitize(text);
  const body = element('div.body', ...parseBlocks(shown).map(renderBlock));
  const lines = shown.split('\n').length;
  if (shown.length <= FOLD_CHARACTERS && lines <= FOLD_LINES) return body;
  const all = `Show all ${lines} lines`;
  const toggle = () => {
    const isFolded = body.classList.toggle('folded');
    unfold.setAttribute('aria-expanded', String(!isFolded));
    unfold.textContent = isFolded ? all : 'Fold';
  };
  const unfold = button(all, toggle, { class: 'unfold' });
  toggle();
  return element('div', body, unfold);
}

function renderBlock({ kind, text }: Block): HTMLElement {
  if (kind === 'prose') return renderProse(text);
  const lines = text.split('\n');
  const isPlain = kind === 'code' || lines.length > MAX_DIFF_LINES;
  const content = isPlain
    ? [text]
    : lines.map((line, i) => element(`span.${diffLineClass(line)}`, line, i < lines.length - 1 && '\n'));
  return element(`pre.${kind}`, { tabindex: '0', role: 'region', 'aria-label': kind }, element('code', ...content));
}

/** `code` between backticks is told from the rest. */
function renderProse(text: string): HTMLElement {
  const parts = text.split(/`([^`\n]+)`/);
  if (parts.length > 2 * MAX_INLINE_CODE) return element('p.prose', text);
  return element('p.prose', ...parts.map((part, i) => (i % 2 === 1 ? element('code', part) : part)));
}

function renderFile(entry: Entry, file: FileEntry, actions: EntryActions): HTMLElement {
  const { name, size, state } = file;
  const { isMine } = entry;
  const shown = sanitizeLine(name);
  const canFetch = !isMine && (state === 'waiting' || state === 'stalled');
  return element(
    'div.body',
    element(
      'div.file',
      element('b', shown),
      element('span', formatSize(size)),
      element('span.transfer', { role: 'status' }, describeTransfer(file)),
      (state === 'sending' || state === 'fetching') && element('progress', { max: '100', 'aria-label': shown }),
      state === 'sending' && button('Cancel', () => actions.cancel(entry), { 'aria-label': `Cancel ${shown}` }),
      canFetch && button('Fetch', () => actions.fetch(entry), { 'aria-label': `Fetch ${shown}` }),
      state === 'complete' &&
        !isMine &&
        button('Save', () => actions.saveFile(entry), { 'aria-label': `Save ${shown}` }),
    ),
  );
}

/** Updates how far a file is, without rendering it again. */
export function updateTransfer(item: Element, file: FileEntry): void {
  const progress = item.querySelector('progress');
  const words = item.querySelector('.transfer');
  const text = describeTransfer(file);
  if (words && words.textContent !== text) words.textContent = text;
  if (progress) progress.value = (100 * file.done) / Math.max(1, Math.ceil(file.size / 1_048_576));
}

/** Lets the person save bytes. The browser is to show nothing of them. */
export function saveAs(name: string, bytes: Blob): void {
  const href = URL.createObjectURL(bytes);
  element('a', { href, download: safeDownloadName(name) }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

/** A file's name for every system: no path, no leading dot. */
const safeDownloadName = (name: string): string =>
  sanitizeLine(name)
    .replace(/[/\\:*?"<>|\ufffd]/g, '_')
    .replace(/^\.+/, '_') || 'file';
