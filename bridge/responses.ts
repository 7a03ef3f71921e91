/**
 * The answers of docs/protocol.md, in JSON and as text. They are put together as strings, without a tree in between:
 * every word is a checked id, a number, base64 or ours, so that nothing needs an escape.
 */
import type { Batch, Channel, Event, Participant } from './channels.ts';
import { EVERYBODY, type Recipient } from './ids.ts';
import type { Body, Part } from './http.ts';
import type { Limits } from './limits.ts';
import { base64LengthOf, ciphertextOf, sharedCiphertextOf, tagOf, type Kept } from './arena.ts';

/** An event goes to many listeners at once: it is put into words for the first of them. */
function once(wordsOf: (event: Event) => readonly Part[]): (event: Event) => readonly Part[] {
  let last: Event | undefined;
  let words: readonly Part[] = [];
  return (event) => {
    if (event !== last) words = wordsOf((last = event));
    return words;
  };
}

/** In one string what is one after the other; what is in Buffers stays there, for all to share. */
function joined(parts: readonly Part[]): readonly Part[] {
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

/** How long the answer to a poll gets, about: never less. */
export const pollBytes = ({ events }: Batch): number =>
  events.reduce((sum, { kept }) => sum + 256 + (kept ? base64LengthOf(kept) : 0), 256);
/** The same for an answer that says who is in the channel. */
export const statusBytes = ({ participants }: Channel): number =>
  [...participants.values()].reduce((sum, { card }) => sum + 256 + base64LengthOf(card), 256);

const isListening = ({ waiters }: Participant) => waiters.size > 0;
const seenSeconds = ({ house }: Channel, { waiters, seenAt }: Participant) =>
  waiters.size > 0 ? 0 : Math.max(0, Math.floor((house.now() - seenAt) / 1000));

type Form = (channel: Channel, participant: Participant) => string;

/** Everybody in the channel, or those who would get what `sender` sends. */
function list(channel: Channel, form: Form, separator = '', sender?: Participant, to: Recipient = EVERYBODY): string {
  let all = '';
  for (const who of channel.participants.values()) {
    if (who === sender || (to !== EVERYBODY && to !== who.id)) continue;
    all += (all === '' ? '' : separator) + form(channel, who);
  }
  return all;
}

const box = (kept: Kept) => `"nonce":"${kept.nonce}","ciphertext":"${ciphertextOf(kept)}","tag":"${tagOf(kept)}"`;
const presence: Form = (channel, who) =>
  `"participant_id":"${who.id}","listening":${isListening(who)},"seen_seconds":${seenSeconds(channel, who)}`;
const recipient: Form = (channel, who) => `{${presence(channel, who)}}`;
const member: Form = (channel, who) => `{${presence(channel, who)},"fetched":${who.fetched},"card":{${box(who.card)}}}`;

const eventObject = once(({ type, index, at, from, to, kept, reason }) => {
  const start = `{"index":${index},"type":"${type}","at":${at},"from":"${from}"`;
  if (!kept) return [`${start}${reason ? `,"reason":"${reason}"` : ''}}`];
  if (type !== 'message') return [`${start},"card":{${box(kept)}}}`];
  const rest = `,"to":"${to}","nonce":"${kept.nonce}","ciphertext":"`;
  return joined([start + rest, sharedCiphertextOf(kept), `","tag":"${tagOf(kept)}"}`]);
});

export const JSON_FORM = {
  opened: ({ epoch }: Channel, _isNew: boolean, limits: Limits, ticket = '') =>
    `{"epoch":"${epoch}","limits":{"message_bytes":${limits.messageBytes},"participants":${limits.participants},` +
    `"poll_seconds":${limits.pollSeconds},"idle_seconds":${limits.idleSeconds},` +
    `"blob_bytes":${limits.blobBytes}}${ticket && `,"ticket":"${ticket}"`}}`,
  joined: (channel: Channel, { fetched, joined }: Participant, isResumed: boolean) =>
    `{"epoch":"${channel.epoch}","cursor":${fetched},"index":${joined},"resumed":${isResumed},` +
    `"participants":[${list(channel, member, ',')}]}`,
  recipients: (channel: Channel, sender: Participant, to: Recipient) => list(channel, recipient, ',', sender, to),
  sent: ({ epoch }: Channel, index: number, recipients: string) =>
    `{"epoch":"${epoch}","index":${index},"recipients":[${recipients}]}`,
  polled: ({ epoch }: Channel, { since, gap, events, cursor }: Batch): Body => {
    const parts: Part[] = [`{"epoch":"${epoch}","cursor":${cursor},"events":[`];
    if (gap !== undefined) parts.push(`{"type":"gap","since":${since},"until":${gap}}`);
    for (const event of events) {
      if (parts.length > 1) parts.push(',');
      parts.push(...eventObject(event));
    }
    parts.push(']}');
    return joined(parts);
  },
  status: (channel: Channel) =>
    `{"epoch":"${channel.epoch}","cursor":${channel.last},"participants":[${list(channel, member, ',')}]}`,
  left: ({ epoch }: Channel) => `{"epoch":"${epoch}","left":true}`,
  blob: ({ epoch }: Channel) => `{"epoch":"${epoch}"}`,
};

const boxWords = (kept: Kept) => `${kept.nonce} ${ciphertextOf(kept)} ${tagOf(kept)}`;
const presenceWords: Form = (channel, who) =>
  `${who.id} ${isListening(who) ? 'listening' : 'idle'} ${seenSeconds(channel, who)}`;
const recipientLine: Form = (channel, who) => `recipient ${presenceWords(channel, who)}\n`;
const memberLine: Form = (channel, who) =>
  `participant ${presenceWords(channel, who)} ${who.fetched} ${boxWords(who.card)}\n`;

const eventLine = once(({ type, index, at, from, to, kept, reason }) => {
  const start = `${type} ${index} ${at} ${from}`;
  if (!kept) return [`${start}${reason ? ` ${reason}` : ''}\n`];
  if (type !== 'message') return [`${start} ${boxWords(kept)}\n`];
  return joined([`${start} ${to} ${kept.nonce} `, sharedCiphertextOf(kept), ` ${tagOf(kept)}\n`]);
});

export const TEXT_FORM: typeof JSON_FORM = {
  opened: ({ epoch }, isNew, { messageBytes, participants, pollSeconds, idleSeconds, blobBytes }, ticket = '') =>
    `channel ${epoch} ${isNew ? 'created' : 'found'} ${messageBytes} ${participants} ${pollSeconds} ${idleSeconds} ` +
    `${blobBytes}${ticket && ` ${ticket}`}\n`,
  joined: (channel, { fetched, joined }, isResumed) =>
    list(channel, memberLine) + `cursor ${fetched} ${channel.epoch} ${isResumed ? 'resumed' : 'new'} ${joined}\n`,
  recipients: (channel, sender, to) => list(channel, recipientLine, '', sender, to),
  sent: ({ epoch }, index, recipients) => `${recipients}sent ${index} ${epoch}\n`,
  polled: ({ epoch }, { since, gap, events, cursor }) => {
    const first = gap === undefined ? [] : [`gap ${since} ${gap}\n`];
    return joined([...first, ...events.flatMap(eventLine), `cursor ${cursor} ${epoch}\n`]);
  },
  status: (channel) => `${list(channel, memberLine)}cursor ${channel.last} ${channel.epoch}\n`,
  left: ({ epoch }) => `left ${epoch}\n`,
  blob: ({ epoch }) => `blob ${epoch}\n`,
};
