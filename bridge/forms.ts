/**
 * The answers of docs/protocol.md, in JSON and as text. They are put together as strings, without a tree in between:
 * every word is a checked id, a number, base64 or ours, so that nothing needs an escape.
 */
import type { Batch, Channel, Event, Participant } from './channels.ts';
import type { Sealed } from './ids.ts';
import type { Limits } from './limits.ts';
import { take } from './shelf.ts';

export interface Form {
  opened(channel: Channel, isNew: boolean, limits: Limits): string;
  joined(channel: Channel, participant: Participant, isResumed: boolean): string;
  recipients(channel: Channel, participants: readonly Participant[]): string;
  sent(channel: Channel, index: number, recipients: string): string;
  polled(channel: Channel, batch: Batch): string;
  status(channel: Channel): string;
  left(channel: Channel): string;
}

const seenSeconds = ({ house }: Channel, { waiters, seenAt }: Participant) =>
  waiters.size > 0 ? 0 : Math.max(0, Math.floor((house.now() - seenAt) / 1000));

// JSON

const box = (sealed: Sealed) => `"nonce":"${sealed.nonce}","ciphertext":"${sealed.ciphertext}","tag":"${sealed.tag}"`;
const presence = (channel: Channel, participant: Participant) =>
  `"participant_id":"${participant.id}","listening":${participant.waiters.size > 0},` +
  `"seen_seconds":${seenSeconds(channel, participant)}`;
const members = (channel: Channel) =>
  Array.from(channel.participants.values(), (participant) => {
    return `{${presence(channel, participant)},"fetched":${participant.fetched},"card":{${box(participant.card)}}}`;
  });

function eventObject({ type, index, at, from, to, kept, reason }: Event): string {
  const what = kept ? (type === 'message' ? `,"to":"${to}",${box(take(kept))}` : `,"card":{${box(take(kept))}}`) : '';
  return `{"index":${index},"type":"${type}","at":${at},"from":"${from}"${what}${reason ? `,"reason":"${reason}"` : ''}}`;
}

export const JSON_FORM: Form = {
  opened: ({ epoch }, _, { messageBytes, participants, pollSeconds, idleSeconds }) =>
    `{"epoch":"${epoch}","limits":{"message_bytes":${messageBytes},"participants":${participants},` +
    `"poll_seconds":${pollSeconds},"idle_seconds":${idleSeconds}}}`,
  joined: (channel, { fetched, joined }, isResumed) =>
    `{"epoch":"${channel.epoch}","cursor":${fetched},"index":${joined},"resumed":${isResumed},` +
    `"participants":[${members(channel)}]}`,
  recipients: (channel, participants) => `${participants.map((each) => `{${presence(channel, each)}}`)}`,
  sent: ({ epoch }, index, recipients) => `{"epoch":"${epoch}","index":${index},"recipients":[${recipients}]}`,
  polled({ epoch }, { since, gap, events, cursor }) {
    const first = gap === undefined ? [] : [`{"type":"gap","since":${since},"until":${gap}}`];
    return `{"epoch":"${epoch}","cursor":${cursor},"events":[${[...first, ...events.map(eventObject)]}]}`;
  },
  status: (channel) => `{"epoch":"${channel.epoch}","cursor":${channel.last},"participants":[${members(channel)}]}`,
  left: ({ epoch }) => `{"epoch":"${epoch}","left":true}`,
};

// Text: lines of words.

const boxWords = ({ nonce, ciphertext, tag }: Sealed) => `${nonce} ${ciphertext} ${tag}`;
const presenceWords = (channel: Channel, participant: Participant) =>
  `${participant.id} ${participant.waiters.size > 0 ? 'listening' : 'idle'} ${seenSeconds(channel, participant)}`;
const memberLines = (channel: Channel) =>
  Array.from(channel.participants.values(), (participant) => {
    return `participant ${presenceWords(channel, participant)} ${participant.fetched} ${boxWords(participant.card)}\n`;
  }).join('');

function eventLine({ type, index, at, from, to, kept, reason }: Event): string {
  const what = kept ? `${type === 'message' ? ` ${to}` : ''} ${boxWords(take(kept))}` : '';
  return `${type} ${index} ${at} ${from}${what}${reason ? ` ${reason}` : ''}\n`;
}

export const TEXT_FORM: Form = {
  opened: ({ epoch }, isNew, { messageBytes, participants, pollSeconds, idleSeconds }) =>
    `channel ${epoch} ${isNew ? 'created' : 'found'} ${messageBytes} ${participants} ${pollSeconds} ${idleSeconds}\n`,
  joined: (channel, { fetched, joined }, isResumed) =>
    `${memberLines(channel)}cursor ${fetched} ${channel.epoch} ${isResumed ? 'resumed' : 'new'} ${joined}\n`,
  recipients: (channel, participants) =>
    participants.map((each) => `recipient ${presenceWords(channel, each)}\n`).join(''),
  sent: ({ epoch }, index, recipients) => `${recipients}sent ${index} ${epoch}\n`,
  polled: ({ epoch }, { since, gap, events, cursor }) =>
    `${gap === undefined ? '' : `gap ${since} ${gap}\n`}${events.map(eventLine).join('')}cursor ${cursor} ${epoch}\n`,
  status: (channel) => `${memberLines(channel)}cursor ${channel.last} ${channel.epoch}\n`,
  left: ({ epoch }) => `left ${epoch}\n`,
};
