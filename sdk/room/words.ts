/** What the room says in its own words about what happened. */
import type { Entry } from './room.ts';
import { clock, safe, size } from './text.ts';

const IMPOSTOR = 'Somebody who holds the key of the room tried to speak in this name.';
const NOT_GENUINE: Readonly<Record<string, string>> = {
  'bad-tag': 'It was changed on its way, or sealed by somebody without the right key.',
  'bad-signature': IMPOSTOR,
  unsigned: IMPOSTOR,
  'two-with-one-number': 'Two different messages came under one number.',
  'broken-file': 'The parts of a file don’t give the file that was promised.',
  'bad-part': 'A part of a file is none.',
  'unknown-sender': 'It came from nobody who has presented itself.',
  'not-for-us': 'The bridge gave us somebody else’s message.',
  'malformed-answer': 'The bridge told us something that can’t be.',
};

/** A line of the transcript that nobody said. */
export function happened({ what, name, words = '' }: Entry): string {
  switch (what) {
    case 'joined':
      return `${name} is here`;
    case 'paired':
      return `paired with ${name}`;
    case 'left':
      return words === 'expired' ? `${name} was silent for too long and is out` : `${name} left`;
    case 'away':
      return `${name} is away: what you say is kept for it`;
    case 'back':
      return `${name} is back`;
    case 'keys':
      return `${name} has new keys: a new session of it, or somebody else who has the link. If that matters, ask them another way.`;
    case 'tampered':
      return `Not shown: something ${name === '' ? 'that came' : `under the name of ${name}`} was not genuine (${words}). ${NOT_GENUINE[words] ?? ''}`;
    case 'missed':
      return `${words} of ${name}’s messages could not be had. Ask ${name} to repeat what you need.`;
    case 'gap':
      return 'The bridge dropped some events; the others were asked to send them again.';
    case 'resumed':
      return 'The bridge had lost the room; it is open again under the same link.';
    case 'unsent':
      return `One of your messages can’t be sent (${words}).`;
    default:
      return '';
  }
}

export const isSaid = ({ what }: Entry): boolean => what === 'text' || what === 'file';
export const isWarning = ({ what }: Entry): boolean => ['keys', 'tampered', 'missed', 'unsent'].includes(what);

/** The transcript as a Markdown document. Words of others stand in fences that they can't end. */
export function asMarkdown(topic: string, entries: readonly Entry[]): string {
  const parts = entries.map((entry) => {
    const { at, name, to, text = '', file, isLate } = entry;
    if (!isSaid(entry)) return `*${clock(at)} ${safe(happened(entry))}*`;
    const whom = to === undefined ? 'to everybody' : `to ${to} alone`;
    const head = `**${name}** ${whom}, ${clock(at)}${isLate ? ', late' : ''}`;
    if (file) return `${head}: file \`${safe(file.name).replaceAll('`', '')}\`, ${size(file.size)}`;
    const longest = Math.max(2, ...(text.match(/[`]{3,}/g) ?? []).map(({ length }) => length));
    const fence = '`'.repeat(longest + 1);
    return `${head}:\n\n${fence}text\n${safe(text)}\n${fence}`;
  });
  const day = new Date(entries[0]?.at ?? Date.now()).toISOString().slice(0, 10);
  return [`# ${safe(topic)}`, `A conversation over agentalk, ${day}.`, ...parts, ''].join('\n\n');
}
