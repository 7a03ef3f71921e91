/** The room's own words for what happened. Nothing of a peer or of the bridge is in them but checked labels and numbers. */
import { fingerprint, formatMoment, formatSize, formatTime, plural } from './format.ts';
import type { Delivery } from './outbox.ts';
import { sanitize, sanitizeLine } from './sanitize.ts';
import type { Entry, EntryType, FileEntry, Named, OrderMarks } from './state.ts';

const FORGED = 'Somebody who holds the channel key tried to speak in this name.';
/** Why something was rejected. */
const CAUSES: Readonly<Record<string, string>> = {
  'auth-failed': 'It was changed on its way, or sealed by somebody without the right key.',
  'bad-signature': FORGED,
  'missing-signature': FORGED,
  'sequence-reused': 'Two different messages came under one number.',
  'own-id': 'The bridge delivered something under your own id.',
  'wrong-recipient': 'The bridge delivered a message that is for somebody else.',
};

/** What another try may help against, by the bridge's code. */
const TROUBLES: Readonly<Record<string, string>> = {
  unreachable: 'No contact with the bridge, trying again',
  unavailable: 'The bridge is not available now, trying again',
  participants_full: 'The channel has as many participants as it may, trying again',
  channel_full: 'The channel is full, trying again',
  bridge_full: 'The bridge is full, trying again',
  stopping: 'The bridge is stopping, trying again',
  not_invited: 'The channel has ended, and this link may not create it again: ask for a new link',
};
const TOO_MANY = 'The bridge limits requests from your address, trying again';

export const describeTrouble = (code: string): string =>
  TROUBLES[code] ?? (code.startsWith('too_many') ? TOO_MANY : 'The bridge refuses requests, trying again');

const PERMANENT_PROBLEMS: Readonly<Record<string, string>> = {
  name_taken: 'Somebody else has joined under your name. Open the link in a new tab and take another name.',
  bad_token: 'The bridge does not accept this session any more. Open the link in a new tab to join again.',
  wrong_key: 'The bridge does not accept the key of this link. Ask for the whole link.',
};
export const describePermanentProblem = (code: string): string =>
  PERMANENT_PROBLEMS[code] ?? 'The bridge refuses this session. Open the link in a new tab to join again.';

const countOf = ({ count = 1 }: Entry): number => count;
const times = (entry: Entry): string => (countOf(entry) > 1 ? ` (${countOf(entry)} times)` : '');
const whose = ({ label }: Entry): string => (label === '' ? 'that came' : `under the name of ${label}`);

/** A line of the transcript that is no message. */
export function describeEvent(entry: Entry): string {
  const { type, label, cause = '', sid = '' } = entry;
  const count = countOf(entry);
  switch (type) {
    case 'joined':
      return `${label} has joined`;
    case 'new-session':
      return `NEW ${label}: another session under this name, perhaps somebody else. Its fingerprint is ${fingerprint(sid)}`;
    case 'paired':
      return `PAIRED with ${label} · ${fingerprint(sid)}`;
    case 'left':
      return `${label} left`;
    case 'bridge-left':
      return `The bridge says that ${label} left`;
    case 'expired':
      return `The bridge says that ${label} was silent for too long and is out`;
    case 'away':
      return `The bridge says that ${label} is away: what you write is stored for it`;
    case 'back':
      return `The bridge says that ${label} is back`;
    case 'presence-limit':
      return 'Presence changes too often to list here; the list of members shows it as it is now';
    case 'gap':
      return 'The bridge dropped some events; the others were asked to send them again';
    case 'resumed':
      return 'The bridge had lost the channel; it is open again under the same link';
    case 'earlier':
      return `${plural(count, 'earlier message')} of ${label}, before you came`;
    case 'missed':
      return `MISSED: ${plural(count, 'message')} of ${label} did not arrive. Ask ${label} to repeat what you need.`;
    case 'peer-missed':
      return `${label} did not get ${plural(count, 'message')} of yours`;
    case 'malformed':
      return `${plural(count, 'message')} of ${label} ${count === 1 ? 'is' : 'are'} malformed and not shown (${cause})`;
    case 'tampered':
      return `TAMPERED: something ${whose(entry)} is not genuine and not shown (${cause})${times(entry)}. ${CAUSES[cause] ?? ''}`;
    case 'unreadable':
      return `${plural(count, 'message')}${label === '' ? '' : ` under the name of ${label}`} could not be read`;
    case 'bad-card':
      return `A session ${label === '' ? '' : `under the name of ${label} `}presented itself with a card that is not valid (${cause})${times(entry)}`;
    case 'too-many-sessions':
      return `More than 100 new sessions within an hour: ${plural(count, 'further one')} ignored`;
    case 'blocked':
      return `The bridge refuses your message (${cause})${times(entry)}. It stays first in line and is tried again. If that goes on, leave and join again.`;
    case 'undelivered':
      return `${plural(count, 'message')} to ${label} alone not delivered: another session has replaced it`;
    case 'copied':
      return `This session exists twice, perhaps in a duplicated tab, so a new one was begun under the same name. ${
        count === 0
          ? 'All your messages were confirmed.'
          : `${plural(count, 'message')} of yours not confirmed: send again what matters.`
      }`;
    case 'storage-lost':
      return 'This browser stores nothing for this page (cookies may be blocked, or storage is full). The room works, but after a reload you join again, without this transcript.';
    default:
      return '';
  }
}

export const isMessage = ({ type }: Entry): boolean => type === 'text' || type === 'file';

const WARNINGS: readonly EntryType[] = [
  ...(['new-session', 'tampered', 'missed', 'peer-missed', 'malformed', 'unreadable', 'bad-card'] as const),
  ...(['too-many-sessions', 'blocked', 'undelivered', 'copied', 'storage-lost'] as const),
];
export const isWarning = ({ type }: Entry): boolean => WARNINGS.includes(type);

// ---- notes on a message ----

const listNames = (names: readonly string[]): string =>
  names.length <= 3 ? names.join(', ') : `${names.slice(0, 3).join(', ')} and ${names.length - 3} more`;
const listCounts = (all: readonly Named[]): string => listNames(all.map(({ label, count }) => `${count} by ${label}`));

/** What its writer had and had not read. */
export function describeMarks({ unread, unreadOwn, ahead, missed, hasUnknown }: OrderMarks): string[] {
  const unreadAll = [...unread, ...(unreadOwn > 0 ? [{ label: 'you', count: unreadOwn }] : [])];
  return [
    unreadAll.length > 0 && `had not read ${listCounts(unreadAll)}`,
    ahead.length > 0 && `has read something by ${listNames(ahead)} that is not here`,
    missed.length > 0 && `has missed ${listCounts(missed)}`,
    hasUnknown && 'has read somebody you were not shown',
  ].filter((words) => words !== false);
}

/** Short words on a message's line: how it came. */
export function describeFlags({ at, isLate, isUnpaired, isBeforeJoin, writtenAt }: Entry): string[] {
  return [
    isBeforeJoin && 'before you came',
    isUnpaired && 'not PAIRED',
    isLate && 'late',
    writtenAt !== undefined && `written ${formatMoment(writtenAt, at)} by its clock`,
  ].filter((words) => words !== false && words !== undefined);
}

const DELIVERIES: readonly (readonly [Delivery['state'], (names: string) => string])[] = [
  ['shown', (names) => `shown to ${names}`],
  ['stored', (names) => `arrived at ${names}, not shown yet`],
  ['fetched', (names) => `fetched by ${names}, says the bridge`],
  ['pending', (names) => `not confirmed yet: ${names}`],
  ['left', (names) => `${names} left without confirming`],
];

/** Who has a message of ours. */
export function describeDeliveries(all: readonly Delivery[]): string {
  if (all.length === 0) return 'sent; nobody else is here yet';
  return DELIVERIES.flatMap(([state, describe]) => {
    const names = all.filter((each) => each.state === state).map(({ label }) => label);
    return names.length === 0 ? [] : [describe(listNames(names))];
  }).join(' · ');
}

const PROBLEMS: Readonly<Record<string, string>> = {
  canceled: 'not sent: you canceled it',
  reloaded: 'not sent: the page was reloaded',
  unreadable: 'not sent: your browser can’t read it (any more)',
  too_large: 'not sent: the bridge takes no files of this size',
  sha256: 'not genuine: its pieces don’t give the file that was announced',
  'no-piece': 'its pieces are not at the bridge; its sender was asked for them',
};

/** How far a file is. */
export function describeTransfer({ state, done, pieces, size, problem = '' }: FileEntry): string {
  const total = Math.max(1, Math.ceil(size / 1_048_576));
  const percent = `${Math.floor((100 * done) / Math.max(total, pieces.length))} %`;
  switch (state) {
    case 'sending':
      return `sending, ${percent}`;
    case 'not-sent':
      return PROBLEMS[problem] ?? 'not sent: the bridge did not take it';
    case 'waiting':
      return 'not fetched yet';
    case 'fetching':
      return `on its way, ${percent}`;
    case 'stalled':
      return `stopped at ${percent}: ${PROBLEMS[problem] ?? 'it can’t be fetched now'}`;
    case 'bad':
      return PROBLEMS['sha256'] ?? '';
    default:
      return '';
  }
}

/** The transcript as a Markdown document. Words of others are in fences that they can't end. */
export function asMarkdown(topic: string, entries: readonly Entry[]): string {
  const parts = entries.map((entry) => {
    const { at, label, to, text = '', file } = entry;
    if (!isMessage(entry)) return `*${formatTime(at)} ${describeEvent(entry)}*`;
    const scope = to === undefined ? 'to everybody' : `to ${to} alone`;
    const notes = [...describeFlags(entry), ...(entry.marks ? describeMarks(entry.marks) : [])];
    const head = [`**${label}** ${scope}`, formatTime(at), ...notes].join(', ');
    if (file) return `${head}: file \`${sanitizeLine(file.name).replaceAll('`', '')}\`, ${formatSize(file.size)}`;
    const shown = sanitize(text);
    const longest = Math.max(2, ...(shown.match(/`{3,}/g) ?? []).map((fence) => fence.length));
    const fence = '`'.repeat(longest + 1);
    return `${head}:\n\n${fence}text\n${shown}\n${fence}`;
  });
  const day = new Date(entries[0]?.at ?? Date.now()).toISOString().slice(0, 10);
  return [`# ${sanitizeLine(topic)}`, `A conversation over agentalk, ${day}.`, ...parts, ''].join('\n\n');
}
