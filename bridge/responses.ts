/**
 * The responses of docs/protocol.md, in JSON and as text. They are joined from strings, without a tree of objects: each
 * part is a checked id, a number, base64 or a constant, so nothing needs an escape.
 */
import type { PollResult, Channel, Event, Participant } from './channels.ts';
import { BROADCAST, type Recipient } from './ids.ts';
import type { Body, Part } from './http.ts';
import type { Limits } from './limits.ts';
import { base64LengthOf, ciphertextOf, sharedCiphertextOf, tagOf, type StoredCiphertext } from './arena.ts';

/** One event goes to many listeners at once: it is formatted for the first of them. */
function memoizeLast(format: (event: Event) => readonly Part[]): (event: Event) => readonly Part[] {
  let last: Event | undefined;
  let parts: readonly Part[] = [];
  return (event) => {
    if (event !== last) parts = format(event);
    last = event;
    return parts;
  };
}

/** Joins neighbouring strings into one. Buffers stay as they are, for responses to share. */
function joinStrings(parts: readonly Part[]): readonly Part[] {
  const all: Part[] = [];
  let text = '';
  for (const part of parts) {
    if (typeof part === 'string') {
      text += part;
    } else {
      all.push(text, part);
      text = '';
    }
  }
  return [...all, text];
}

/** About the length of the response to a poll: never less than it gets. */
export const pollBytes = ({ events }: PollResult): number =>
  events.reduce((sum, { payload }) => sum + 256 + (payload ? base64LengthOf(payload) : 0), 256);
/** The same for a response with all participants of a channel. */
export const statusBytes = ({ participants }: Channel): number =>
  [...participants.values()].reduce((sum, { card }) => sum + 256 + base64LengthOf(card), 256);

const isListening = ({ pendingPolls }: Participant) => pendingPolls.size > 0;
const inactiveSeconds = ({ registry }: Channel, { pendingPolls, lastActiveAt }: Participant) =>
  pendingPolls.size > 0 ? 0 : Math.max(0, Math.floor((registry.now() - lastActiveAt) / 1000));

type ParticipantFormatter = (channel: Channel, participant: Participant) => string;

/** All participants of the channel, or only the recipients of a message from `sender`. */
function joinParticipants(
  channel: Channel,
  format: ParticipantFormatter,
  separator = '',
  sender?: Participant,
  to: Recipient = BROADCAST,
): string {
  let joined = '';
  for (const participant of channel.participants.values()) {
    if (participant === sender || (to !== BROADCAST && to !== participant.id)) continue;
    if (joined !== '') joined += separator;
    joined += format(channel, participant);
  }
  return joined;
}

const sealedJson = (sealed: StoredCiphertext) =>
  `"nonce":"${sealed.nonce}","ciphertext":"${ciphertextOf(sealed)}","tag":"${tagOf(sealed)}"`;
const presenceJson: ParticipantFormatter = (channel, participant) =>
  `"participant_id":"${participant.id}","listening":${isListening(participant)},"seen_seconds":${inactiveSeconds(channel, participant)}`;
const recipientJson: ParticipantFormatter = (channel, participant) => `{${presenceJson(channel, participant)}}`;
const memberJson: ParticipantFormatter = (channel, participant) =>
  `{${presenceJson(channel, participant)},"fetched":${participant.ackedIndex},"card":{${sealedJson(participant.card)}}}`;

const eventJson = memoizeLast(({ type, index, at, from, to, payload, reason }) => {
  const start = `{"index":${index},"type":"${type}","at":${at},"from":"${from}"`;
  if (!payload) return [`${start}${reason ? `,"reason":"${reason}"` : ''}}`];
  if (type !== 'message') return [`${start},"card":{${sealedJson(payload)}}}`];
  const rest = `,"to":"${to}","nonce":"${payload.nonce}","ciphertext":"`;
  return joinStrings([start + rest, sharedCiphertextOf(payload), `","tag":"${tagOf(payload)}"}`]);
});

/** A response of each kind, for a form. */
export type Responses = typeof JSON_RESPONSES;

export const JSON_RESPONSES = {
  create: ({ epoch }: Channel, _isNew: boolean, limits: Limits, ticket = '') =>
    `{"epoch":"${epoch}","limits":{"message_bytes":${limits.messageBytes},"participants":${limits.participants},` +
    `"poll_seconds":${limits.pollSeconds},"idle_seconds":${limits.expirySeconds},` +
    `"blob_bytes":${limits.blobBytes}}${ticket && `,"ticket":"${ticket}"`}}`,
  join: (channel: Channel, { ackedIndex, joinIndex }: Participant, isResumed: boolean) =>
    `{"epoch":"${channel.epoch}","cursor":${ackedIndex},"index":${joinIndex},"resumed":${isResumed},` +
    `"participants":[${joinParticipants(channel, memberJson, ',')}]}`,
  recipients: (channel: Channel, sender: Participant, to: Recipient) =>
    joinParticipants(channel, recipientJson, ',', sender, to),
  send: ({ epoch }: Channel, index: number, recipients: string) =>
    `{"epoch":"${epoch}","index":${index},"recipients":[${recipients}]}`,
  poll: ({ epoch }: Channel, { since, gap, events, cursor }: PollResult): Body => {
    const parts: Part[] = [`{"epoch":"${epoch}","cursor":${cursor},"events":[`];
    if (gap !== undefined) parts.push(`{"type":"gap","since":${since},"until":${gap}}`);
    for (const event of events) {
      if (parts.length > 1) parts.push(',');
      parts.push(...eventJson(event));
    }
    parts.push(']}');
    return joinStrings(parts);
  },
  status: (channel: Channel) =>
    `{"epoch":"${channel.epoch}","cursor":${channel.lastIndex},"participants":[${joinParticipants(channel, memberJson, ',')}]}`,
  leave: ({ epoch }: Channel) => `{"epoch":"${epoch}","left":true}`,
  blob: ({ epoch }: Channel) => `{"epoch":"${epoch}"}`,
};

const sealedText = (sealed: StoredCiphertext) => `${sealed.nonce} ${ciphertextOf(sealed)} ${tagOf(sealed)}`;
const presenceText: ParticipantFormatter = (channel, participant) =>
  `${participant.id} ${isListening(participant) ? 'listening' : 'idle'} ${inactiveSeconds(channel, participant)}`;
const recipientText: ParticipantFormatter = (channel, participant) =>
  `recipient ${presenceText(channel, participant)}\n`;
const memberText: ParticipantFormatter = (channel, participant) =>
  `participant ${presenceText(channel, participant)} ${participant.ackedIndex} ${sealedText(participant.card)}\n`;

const eventText = memoizeLast(({ type, index, at, from, to, payload, reason }) => {
  const start = `${type} ${index} ${at} ${from}`;
  if (!payload) return [`${start}${reason ? ` ${reason}` : ''}\n`];
  if (type !== 'message') return [`${start} ${sealedText(payload)}\n`];
  return joinStrings([`${start} ${to} ${payload.nonce} `, sharedCiphertextOf(payload), ` ${tagOf(payload)}\n`]);
});

export const TEXT_RESPONSES: Responses = {
  create: ({ epoch }, isNew, { messageBytes, participants, pollSeconds, expirySeconds, blobBytes }, ticket = '') =>
    `channel ${epoch} ${isNew ? 'created' : 'found'} ${messageBytes} ${participants} ${pollSeconds} ${expirySeconds} ` +
    `${blobBytes}${ticket && ` ${ticket}`}\n`,
  join: (channel, { ackedIndex, joinIndex }, isResumed) =>
    joinParticipants(channel, memberText) +
    `cursor ${ackedIndex} ${channel.epoch} ${isResumed ? 'resumed' : 'new'} ${joinIndex}\n`,
  recipients: (channel, sender, to) => joinParticipants(channel, recipientText, '', sender, to),
  send: ({ epoch }, index, recipients) => `${recipients}sent ${index} ${epoch}\n`,
  poll: ({ epoch }, { since, gap, events, cursor }) => {
    const first = gap === undefined ? [] : [`gap ${since} ${gap}\n`];
    return joinStrings([...first, ...events.flatMap(eventText), `cursor ${cursor} ${epoch}\n`]);
  },
  status: (channel) => `${joinParticipants(channel, memberText)}cursor ${channel.lastIndex} ${channel.epoch}\n`,
  leave: ({ epoch }) => `left ${epoch}\n`,
  blob: ({ epoch }) => `blob ${epoch}\n`,
};
