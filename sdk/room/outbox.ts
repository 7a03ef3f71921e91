/**
 * What we say: number, seal, keep, hand over until the bridge has it; and again to whom asks. The same number is always
 * the same sealed bytes.
 */
import { encode } from './legacy-bytes.ts';
import type { Bytes } from './legacy-bytes.ts';
import * as protocol from './legacy-protocol.ts';
import { EVERYBODY } from './legacy-protocol.ts';
import type { Sealed } from './legacy-protocol.ts';
import { isThere, seen } from './peers.ts';
import type { Peer } from './peers.ts';
import { save } from './reload.ts';
import { codeOf } from './room.ts';
import type { Entry, Room, Sent, What } from './room.ts';
import { Refused } from './wire.ts';

type Headers = Readonly<Record<string, string>>;
export type Receipt = { readonly name: string; readonly how: 'has' | 'fetched' | 'not yet' };

/** What another try can't mend: an empty message takes its number, so that nobody waits for it. */
const FOR_GOOD = ['bad_request', 'too_large', 'nonce_reused', 'trimmed'];
const RECEIPT_MS = 4000;
const MAX_OUTBOX_CHARACTERS = 64 * 1024 * 1024;

/** To everybody, or to one. The entry is there at once, and goes out when it can. */
export async function say(room: Room, text: string, to?: Peer): Promise<void> {
  const n = await send(room, to, 'text', {}, encode(text));
  noteOwn(room, 'text', { to: to?.name, text, out: [n, n] });
}

export function noteOwn(room: Room, what: What, more: Partial<Entry>): void {
  room.note(what, room.me.name, { isMine: true, ...more });
  save(room);
}

/** Numbers, seals and keeps a message. Its place in the outbox, from 1. */
export function send(room: Room, peer: Peer | undefined, kind: string, more: Headers, body?: Bytes): Promise<number> {
  const turn = room.turn.then(async () => {
    const pub = peer?.pub ?? EVERYBODY;
    const seq = lastTo(room, pub) + 1;
    const sent: Sent = { pub, to: peer?.id ?? EVERYBODY, seq, all: peer ? lastTo(room, EVERYBODY) : seq };
    sent.box = await seal(room, sent, kind, more, body);
    const n = room.outbox.push(sent);
    keep(room, n, sent);
    void flush(room);
    return n;
  });
  room.turn = turn.catch(() => undefined);
  return turn;
}

/** A message that nobody waits for. */
export function signal(room: Room, peer: Peer, kind: string, headers: Headers = {}): void {
  if (peer.state === 'gone') return;
  peer.owesReceipt = false;
  send(room, peer, kind, headers).catch(() => undefined);
}

/** Asks for what lies above what we have; and says by that what we have. */
export const ask = (room: Room, peer: Peer): void => signal(room, peer, 'seen');

/** Who wrote hears soon that it came, also from somebody who only reads; never of anything but words and files. */
export function owe(room: Room, peer: Peer): void {
  peer.owesReceipt = true;
  room.receiptTimer ??= setTimeout(() => {
    room.receiptTimer = undefined;
    for (const each of room.peers) if (each.owesReceipt) ask(room, each);
  }, RECEIPT_MS);
}

/** The number of the last message for these keys, or for everybody. */
export const lastTo = (room: Room, pub: string): number => room.outbox.findLast((sent) => sent.pub === pub)?.seq ?? 0;

async function seal(
  room: Room,
  { pub, to, seq, all }: Sent,
  kind: string,
  more: Headers,
  body?: Bytes,
): Promise<Sealed> {
  const { own, me, peers } = room;
  const peer = peers.find((each) => each.pub === pub);
  const marks = seen(peers, peer);
  const headers = {
    ...{ kind, stream: me.stream, seq: String(seq), time: String(Date.now()) },
    ...(peer && { after: String(all) }),
    ...(marks && { seen: marks }),
    ...more,
  };
  const aad = protocol.additionalData(own.channel, room.id, to, 'message');
  const frame = peer ? protocol.makeFrame(headers, body) : await protocol.signFrame(own.keys.ecdsa, aad, headers, body);
  return protocol.seal(peer?.direct ?? own.key, aad, frame);
}

/** Over a reload, too. Of what is kept for that the oldest boxes go first; they stay in memory while that lasts. */
function keep({ kept, outbox, where }: Room, n: number, sent: Sent): void {
  const isKept = () => kept.put(`out/${n}`, sent);
  for (const old of isKept() ? [] : kept.numbers('out')) {
    kept.put(`out/${old}`, { ...(outbox[old - 1] ?? sent), box: undefined });
    if (isKept()) break;
  }
  if (n % 64 !== 0) return;
  const characters = outbox.reduce((sum, { box }) => sum + (box?.ciphertext.length ?? 0), 0);
  if (characters <= MAX_OUTBOX_CHARACTERS) return;
  for (const old of outbox.slice(0, where.sent >> 1)) delete old.box;
}

// ---- handing over ----

/** Hands over what is in the outbox, in order; the same bytes until the bridge has them. */
export function flush(room: Room): Promise<void> {
  return (room.flushing ??= handOver(room).finally(() => (room.flushing = undefined)));
}

async function handOver(room: Room): Promise<void> {
  for (let failures = 0; room.where.sent < room.outbox.length && room.link !== 'left';) {
    const n = room.where.sent + 1;
    const { epoch } = room.where;
    try {
      await post(room, n);
      if (room.where.epoch !== epoch || room.where.sent !== n - 1) continue;
      room.where.sent = n;
      room.kept.put('place', room.where);
      failures = 0;
      room.onChange();
    } catch (error) {
      const code = codeOf(error);
      if (FOR_GOOD.includes(code)) await empty(room, n, code);
      else if (!(await room.recover(error, epoch))) {
        // The poll finds out when the bridge is back, and calls again.
        if (++failures > 3 || room.link === 'refused') return;
        await room.backOff(error, failures);
      }
    }
  }
}

async function post(room: Room, n: number): Promise<void> {
  const { to, box } = room.outbox[n - 1] ?? {};
  if (!to || !box) throw new Refused('trimmed', 'too old');
  const { epoch, cursor } = room.where;
  try {
    const { index, recipients } = await room.wire.send(epoch, cursor, to, box);
    if (room.where.epoch === epoch) room.indices.set(n, index);
    for (const recipient of recipients) room.present(recipient);
  } catch (error) {
    // Who isn't there asks for it when it is back.
    if (codeOf(error) !== 'no_recipient') throw error;
  }
}

async function empty(room: Room, n: number, code: string): Promise<void> {
  const sent = room.outbox[n - 1];
  if (!sent) return;
  if (code !== 'trimmed') room.note('unsent', room.me.name, { words: code });
  sent.box = await seal(room, sent, 'void', {});
  keep(room, n, sent);
}

/** What lies above what a peer says that it has. */
export async function sendAgain(room: Room, peer: Peer, broadcasts: number, directs: number): Promise<void> {
  for (const [i, { pub, seq, box }] of room.outbox.slice(0, room.where.sent).entries()) {
    if (pub === EVERYBODY ? seq <= broadcasts : pub !== peer.pub || seq <= directs) continue;
    if (!box) await empty(room, i + 1, 'trimmed');
    for (let failures = 1; failures < 6; failures++) {
      const { epoch } = room.where;
      try {
        await post(room, i + 1);
        break;
      } catch (error) {
        // What goes out again in a new epoch goes in its order, before anything new.
        if (await room.recover(error, epoch)) return;
        await room.backOff(error, failures);
      }
    }
  }
}

/** In a new epoch what not all are known to have goes out again, before anything new: so the order stays. */
export function unsend({ peers, outbox, where }: Room): void {
  const members = peers.filter(isThere);
  const isKnown = ({ pub, seq }: Sent) =>
    pub === EVERYBODY
      ? members.length > 0 && members.every(({ has }) => has.all >= seq)
      : members.every((peer) => peer.pub !== pub || peer.has.me >= seq);
  const first = outbox.findIndex((sent) => !isKnown(sent));
  if (first >= 0) where.sent = Math.min(where.sent, first);
}

// ---- how far it is ----

/** How much of an entry of ours the bridge has taken, from 0 to 1. */
export function progress({ where }: Room, { out: [first, last] = [0, 0] }: Entry): number {
  return Math.min(1, Math.max(0, (where.sent - first + 1) / (last - first + 1)));
}

/** Who has it: by the receipt of the other end, or else by the bridge's word. */
export function receipts(room: Room, { out: [, last] = [0, 0], to }: Entry): Receipt[] {
  const sent = room.outbox[last - 1];
  if (!sent || room.where.sent < last) return [];
  const index = room.indices.get(last) ?? Infinity;
  return room.others
    .filter(({ id, state, has }) => (to ? id === sent.to : state !== 'gone' || has.all >= sent.seq))
    .map(({ name, has, fetched }) => {
      const how = has[to ? 'me' : 'all'] >= sent.seq ? 'has' : fetched >= index ? 'fetched' : 'not yet';
      return { name, how };
    });
}
