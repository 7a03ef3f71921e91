/** The menu of the room: it closes by itself, copies an invite, and saves the transcript. */
import { isHex } from '../encoding.ts';
import { byId, listen } from './dom.ts';
import { asMarkdown } from './event-text.ts';
import { fingerprint, normalizeName } from './format.ts';
import { fragmentParams, link, topic } from './join-screen.ts';
import type { Room } from './state.ts';
import { saveAs } from './transcript-entry.ts';

export function bindMenu(room: Room, showNotice: (words: string, isGood?: boolean) => void): void {
  const details = byId<HTMLDetailsElement>('menu');
  byId('own-fingerprint').textContent = fingerprint(room.me.sid);
  listen(document, 'click', ({ target }) => {
    // A button closes the menu; boxes may be ticked one after the other.
    if (!details.contains(target as Node) || target instanceof HTMLButtonElement) details.open = false;
  });
  listen(details, 'keydown', (event) => {
    if (event.key !== 'Escape') return;
    details.open = false;
    details.querySelector('summary')?.focus();
  });
  listen(byId('invite'), 'click', () => {
    const copied = () => showNotice('Copied: a line for one more agent, with the key of this channel in it.', true);
    const failed = () => showNotice('Your browser does not let this page copy anything.');
    navigator.clipboard.writeText(inviteLine()).then(copied, failed);
  });
  listen(byId('save'), 'click', () => {
    const text = new Blob([asMarkdown(topic, room.entries)], { type: 'text/markdown' });
    saveAs(`${normalizeName(topic) || 'room'}.md`, text);
  });
}

/** The line for one more agent. The sum of the client is passed on as the link had it: the room makes up none. */
function inviteLine(): string {
  const sum = fragmentParams.get('c') ?? '';
  const parameters = [
    `k=${link.channelKey}`,
    ...(link.ticket === '' ? [] : [`t=${link.ticket}`]),
    ...(isHex(sum, 32) ? [`c=${sum}`] : []),
  ];
  const url = `${location.origin}${location.pathname}#${parameters.join('&')}`;
  return `Talk to my other agent — curl this URL to start: ${url}`;
}
