/** Lists who is in the channel, and offers them as recipients. */
import { byId, element, joinNonEmpty } from './dom.ts';
import { fingerprint, formatTime } from './format.ts';
import type { Room, Session } from './state.ts';
import { colourOf } from './transcript-entry.ts';

const RECENT_MS = 60_000;
/** A program that can be woken says so again before this is over. */
const REACH_LASTS_MS = 8 * 3_600_000;
/** Of sessions that have left, only the last ones are listed. */
const MAX_LEFT = 20;

export function renderMembers(room: Room): void {
  const { me, sessions } = room;
  const left = sessions.filter(({ isInChannel }) => !isInChannel).slice(-MAX_LEFT);
  const present = sessions.filter(({ isInChannel }) => isInChannel);
  const items = [
    renderMember('c0 mine', 'human', me.name, me.isWatching ? 'you, watching' : 'you', me.sid),
    ...[...present, ...left].map((session) => {
      const { label, card, sid } = session;
      const classes = joinNonEmpty(
        ' ',
        colourOf(label),
        session.isInChannel ? isAttentive(session) && 'listening' : 'gone',
      );
      return renderMember(classes, card.kind, label, describeMember(session), sid);
    }),
  ];
  const list = byId('people');
  const textOf = (nodes: Iterable<Node>) => Array.from(nodes, ({ textContent }) => textContent).join('\n');
  if (textOf(items) !== textOf(list.children)) list.replaceChildren(...items);
  else items.forEach(({ className }, i) => list.children[i]?.setAttribute('class', className));
  renderRecipients(present);
}

const renderMember = (classes: string, kind: string, label: string, status: string, sid: string): HTMLElement =>
  element(
    'li',
    { class: classes },
    element(`span.avatar.${kind}`),
    element('b.who', label),
    element('span.status', status),
    element('code.fingerprint', { title: 'Fingerprint of the session’s keys' }, fingerprint(sid)),
  );

const isAttentive = ({ reported }: Session): boolean => reported.isListening;

function describeMember(session: Session): string {
  const { card, isPaired, isInChannel } = session;
  return joinNonEmpty(
    ', ',
    card.kind === 'human' ? 'person' : 'agent',
    describePresence(session),
    !isPaired && isInChannel && 'not PAIRED yet',
  );
}

/** Listening and away are the bridge's words; what a message does at that end is the session's own. */
function describePresence({ isInChannel, isAway, reported, reach, reachTime }: Session): string {
  if (!isInChannel) return 'left';
  if (isAway) return reported.seenAt === 0 ? 'away' : `away since ${formatTime(reported.seenAt)}`;
  if (reported.isListening) return reach === 'reads' ? 'looks elsewhere' : 'listening';
  if (reach === 'wakes' && Date.now() - reachTime < REACH_LASTS_MS) return 'is woken by a message';
  if (reported.seenAt === 0 || Date.now() - reported.seenAt < RECENT_MS) return 'here';
  return `not listening since ${formatTime(reported.seenAt)}`;
}

// ---- recipients ----

function renderRecipients(present: readonly Session[]): void {
  const select = byId<HTMLSelectElement>('to');
  const wanted = present.map(({ sid, label }) => `${sid} ${label}`);
  const options = Array.from(select.options).slice(1);
  if (options.map(({ value, dataset }) => `${value} ${dataset['label'] ?? ''}`).join() === wanted.join()) return;
  const chosen = select.value;
  select.replaceChildren(
    element('option', { value: '' }, 'everybody'),
    ...present.map(({ sid, label }) => element('option', { value: sid, 'data-label': label }, `${label} alone`)),
  );
  selectRecipient(present.some(({ sid }) => sid === chosen) ? chosen : '');
}

/** The session that is written to from now on; '' is everybody. */
export function selectRecipient(sid: string): void {
  const select = byId<HTMLSelectElement>('to');
  select.value = sid;
  select.dispatchEvent(new Event('change'));
}
