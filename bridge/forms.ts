/**
 * The answers of docs/protocol.md, in JSON and as text. They are put together as strings, without a tree in between:
 * every word is a checked id, a number, base64 or ours, so that nothing needs an escape.
 */
import type { Batch, Channel, Event, Participant } from './channels.ts';
import { take } from './ids.ts';
import type { Sealed } from './ids.ts';
import type { Limits } from './limits.ts';

const isListening = ({ waiters }: Participant) => waiters.size > 0;
const seenSeconds = ({ house }: Channel, { waiters, seenAt }: Participant) =>
  waiters.size > 0 ? 0 : Math.max(0, Math.floor((house.now() - seenAt) / 1000));
const everybody = (channel: Channel, form: (channel: Channel, participant: Participant) => string) =>
  Array.from(channel.participants.values(), (participant) => form(channel, participant));
const box = (sealed: Sealed) => `"nonce":"${sealed.nonce}","ciphertext":"${sealed.ciphertext}","tag":"${sealed.tag}"`;
const presence = (channel: Channel, who: Participant) =>
  `"participant_id":"${who.id}","listening":${isListening(who)},"seen_seconds":${seenSeconds(channel, who)}`;
const member = (channel: Channel, who: Participant) =>
  `{${presence(channel, who)},"fetched":${who.fetched},"card":{${box(who.card)}}}`;

function eventObject({ type, index, at, from, to, kept, reason }: Event): string {
  const what = kept ? (type === 'message' ? `,"to":"${to}",${box(take(kept))}` : `,"card":{${box(take(kept))}}`) : '';
  return `{"index":${index},"type":"${type}","at":${at},"from":"${from}"${what}${reason ? `,"reason":"${reason}"` : ''}}`;
}

export const JSON_FORM = {
  opened: ({ epoch }: Channel, _isNew: boolean, limits: Limits) =>
    `{"epoch":"${epoch}","limits":{"message_bytes":${limits.messageBytes},"participants":${limits.participants},` +
    `"poll_seconds":${limits.pollSeconds},"idle_seconds":${limits.idleSeconds}}}`,
  joined: (channel: Channel, { fetched, joined }: Participant, isResumed: boolean) =>
    `{"epoch":"${channel.epoch}","cursor":${fetched},"index":${joined},"resumed":${isResumed},` +
    `"participants":[${everybody(channel, member)}]}`,
  recipients: (channel: Channel, all: readonly Participant[]) => `${all.map((who) => `{${presence(channel, who)}}`)}`,
  sent: ({ epoch }: Channel, index: number, recipients: string) =>
    `{"epoch":"${epoch}","index":${index},"recipients":[${recipients}]}`,
  polled: ({ epoch }: Channel, { since, gap, events, cursor }: Batch) => {
    const first = gap === undefined ? [] : [`{"type":"gap","since":${since},"until":${gap}}`];
    return `{"epoch":"${epoch}","cursor":${cursor},"events":[${[...first, ...events.map(eventObject)]}]}`;
  },
  status: (channel: Channel) =>
    `{"epoch":"${channel.epoch}","cursor":${channel.last},"participants":[${everybody(channel, member)}]}`,
  left: ({ epoch }: Channel) => `{"epoch":"${epoch}","left":true}`,
};

const boxWords = ({ nonce, ciphertext, tag }: Sealed) => `${nonce} ${ciphertext} ${tag}`;
const presenceWords = (channel: Channel, who: Participant) =>
  `${who.id} ${isListening(who) ? 'listening' : 'idle'} ${seenSeconds(channel, who)}`;
const memberLine = (channel: Channel, who: Participant) =>
  `participant ${presenceWords(channel, who)} ${who.fetched} ${boxWords(who.card)}\n`;

function eventLine({ type, index, at, from, to, kept, reason }: Event): string {
  const what = kept ? `${type === 'message' ? ` ${to}` : ''} ${boxWords(take(kept))}` : '';
  return `${type} ${index} ${at} ${from}${what}${reason ? ` ${reason}` : ''}\n`;
}

export const TEXT_FORM: typeof JSON_FORM = {
  opened: ({ epoch }, isNew, { messageBytes, participants, pollSeconds, idleSeconds }) =>
    `channel ${epoch} ${isNew ? 'created' : 'found'} ${messageBytes} ${participants} ${pollSeconds} ${idleSeconds}\n`,
  joined: (channel, { fetched, joined }, isResumed) =>
    everybody(channel, memberLine).join('') +
    `cursor ${fetched} ${channel.epoch} ${isResumed ? 'resumed' : 'new'} ${joined}\n`,
  recipients: (channel, all) => all.map((who) => `recipient ${presenceWords(channel, who)}\n`).join(''),
  sent: ({ epoch }, index, recipients) => `${recipients}sent ${index} ${epoch}\n`,
  polled: ({ epoch }, { since, gap, events, cursor }) =>
    `${gap === undefined ? '' : `gap ${since} ${gap}\n`}${events.map(eventLine).join('')}cursor ${cursor} ${epoch}\n`,
  status: (channel) => `${everybody(channel, memberLine).join('')}cursor ${channel.last} ${channel.epoch}\n`,
  left: ({ epoch }) => `left ${epoch}\n`,
};
