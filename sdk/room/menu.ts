/** The menu of the room: it closes by itself, invites, and saves the transcript. Its other entries are news.ts and view.ts. */
import { at, on } from './dom.ts';
import { key, topic } from './gate.ts';
import type { Room } from './room.ts';
import { save } from './show.ts';
import { asName } from './text.ts';
import { TICKET } from './wire.ts';
import { asMarkdown } from './words.ts';

export function menu(room: Room, tell: (words: string, isGood?: boolean) => void): void {
  const details = at<HTMLDetailsElement>('menu');
  on(document, 'click', ({ target }) => {
    // What a button in it does is done then; its boxes may be ticked one after the other.
    if (!details.contains(target as Node) || target instanceof HTMLButtonElement) details.open = false;
  });
  on(details, 'keydown', (event) => {
    if (event.key !== 'Escape') return;
    details.open = false;
    details.querySelector('summary')?.focus();
  });
  on(at('invite'), 'click', () => {
    const link = `${location.origin}${location.pathname}#k=${key}${TICKET && `&t=${TICKET}`}`;
    const line = `Talk to my other Claude — curl this URL to start: ${link}`;
    const copied = () => tell('Copied: a line for one more agent, with the key of this room in it.', true);
    navigator.clipboard.writeText(line).then(copied, () => tell('Your browser lets this page copy nothing.'));
  });
  on(at('save'), 'click', () =>
    save(`${asName(topic) || 'room'}.md`, asMarkdown(topic, room.entries), 'text/markdown'),
  );
}
