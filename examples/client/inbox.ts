/** The way of a message from the bridge's event to what is shown: proved, checked, in its place, marked. */
import type { Event } from './bridge.ts';
import * as crypto from './crypto.ts';
import type { Result, Sealed } from './crypto.ts';
import type { Directory } from './directory.ts';
import { parseFileBody, parseWantBody } from './files.ts';
import { marksOf } from './marks.ts';
import { CONTENT_KINDS, checkMessage, parseFrame, sequenceOf } from './message.ts';
import type { Frame, Message } from './message.ts';
import { tagOf } from './peer.ts';
import type { Content, Peer } from './peer.ts';
import type { Context, Listener } from './session.ts';
import { printable } from './text.ts';

export type MessageEvent = Event & { readonly type: 'message' };
type Proved = { readonly peer: Peer; readonly frame: Result<Frame> };

const MAX_SESSIONS_TRIED = 8;
const PATIENCE_MS = 60_000;

export class Inbox {
  /** How many polls have begun. */
  polls = 0;
  /** The event of the own joining, and of the first one. */
  joinIndex = 0;
  firstJoin: { readonly epoch: string; readonly index: number } | undefined;

  constructor(
    private readonly context: Context & Listener,
    private readonly directory: Directory,
  ) {}

  take(event: MessageEvent): void {
    const { from, to, sealed, index } = event;
    const { id, channel } = this.context;
    if (from === id || (to !== '*' && to !== id)) return this.directory.report('tampered', from, 'wrong-place');
    const sessions = this.directory.sessionsOf(from).slice(0, MAX_SESSIONS_TRIED);
    const aad = crypto.additionalData(channel, from, to, 'message');
    const proved = to === '*' ? this.proveBroadcast(sessions, aad, sealed) : proveDirect(sessions, aad, sealed);
    if (proved.ok) this.takeProved(proved.value, event);
    else if (to === '*' && sessions.length > 0) this.directory.report('tampered', from, proved.reason);
    else if (index > this.joinIndex) this.context.tell({ type: 'unreadable' });
    this.deliver();
  }

  private proveBroadcast(sessions: readonly Peer[], aad: string, sealed: Sealed): Result<Proved> {
    const plaintext = crypto.unseal(this.context.broadcastKey, aad, sealed);
    if (!plaintext.ok) return plaintext;
    const frame = parseFrame(plaintext.value);
    if (!frame.ok) return frame;
    const { signature, unsigned } = frame.value;
    if (signature === undefined) return crypto.reject('missing-signature');
    const isSigner = ({ sid, card: { sign } }: Peer) => crypto.isSignedBy({ sid, sign }, aad, unsigned, signature);
    const peer = sessions.find(isSigner);
    return peer === undefined ? crypto.reject('bad-signature') : crypto.accept({ peer, frame });
  }

  private takeProved({ peer, frame }: Proved, { to, index }: MessageEvent): void {
    const isDirect = to !== '*';
    peer.heardAt = this.context.now();
    if (isDirect) this.notePaired(peer);
    if (!frame.ok) return;
    const { body } = frame.value;
    const checked = checkMessage(frame.value, isDirect);
    const fileKey = checked.ok && checked.value.file ? parseFileBody(body, checked.value.file.size) : undefined;
    const message = checked.ok ? checked.value : undefined;
    const seq = sequenceOf(frame.value);
    if (message === undefined && seq === undefined) return;

    let isNew = true;
    if (seq !== undefined) {
      // Content takes its place before its own `sent` counts, so that it never counts as missing itself.
      const content = {
        isDirect,
        message,
        problem: checked.ok ? (fileKey?.ok === false ? fileKey.reason : undefined) : checked.reason,
        body,
        fileKey: fileKey?.ok === true ? fileKey.value : undefined,
        isFromBeforeJoin: this.firstJoin?.epoch === this.context.epoch && index < this.firstJoin.index,
        arrivedAt: this.context.now(),
      };
      isNew = this.place(peer, seq, frame.value, content);
    }
    if (isNew && (isDirect || index > this.joinIndex)) this.directory.notePresent(peer);
    if (message === undefined) return;
    this.applyState(peer, message);
    if (message.seq === undefined) this.act(peer, message, body);
  }

  private notePaired(peer: Peer): void {
    if (peer.isPaired) return;
    peer.isPaired = true;
    peer.pairedAt = this.directory.nextOccurrence();
    this.context.tell({ type: 'paired', name: peer.label, sid: peer.sid });
    this.context.onPaired(peer);
  }

  /** Gives content its place in sequence. Returns whether it is new. */
  private place(peer: Peer, seq: number, frame: Frame, content: Content): boolean {
    const counter = content.isDirect ? peer.directs : peer.broadcasts;
    const place = counter.add(seq, crypto.sha256(frame.unsigned), content, this.context.now());
    if (place === 'conflict') this.directory.report('tampered', peer.id, 'two-with-one-number');
    if (place === 'late') this.show(peer, seq, content, true);
    return place === 'waiting' || place === 'late';
  }

  /** What `sent`, `received`, `seen` and `reach` say counts on arrival. */
  private applyState(peer: Peer, { sent, received, seen, reach, time }: Message): void {
    const { session, now } = this.context;
    if (sent !== undefined) {
      const isBase = peer.base === undefined;
      peer.base ??= sent.first;
      peer.first = Math.max(peer.first, sent.first);
      peer.broadcasts.name(Math.max(sent.broadcasts, peer.first - 1), now());
      peer.directs.name(sent.directs, now());
      this.reportSkipped(peer, peer.broadcasts.giveUpBelow(peer.first), []);
      if (isBase && peer.broadcasts.processed < peer.base) peer.skippedBroadcasts = 0;
    }
    const own = seen.find((entry) => entry.session === tagOf(session.sid));
    const broadcasts = Math.max(received?.broadcasts ?? 0, own?.mark ?? 0);
    const directs = received?.directs ?? 0;
    if (broadcasts > session.sealedBroadcasts || directs > peer.sealedDirects) this.context.onCopy();
    if (broadcasts <= session.sealedBroadcasts) peer.ackedBroadcasts = Math.max(peer.ackedBroadcasts, broadcasts);
    if (directs <= peer.sealedDirects) peer.ackedDirects = Math.max(peer.ackedDirects, directs);
    for (const entry of seen) {
      const other = this.directory.peers.find(({ sid }) => tagOf(sid) === entry.session);
      if (other === undefined || entry.mark <= Math.max(other.broadcasts.highest, other.seenByOthers)) continue;
      other.seenByOthers = entry.mark;
      other.isSyncDue = other.isPresent;
    }
    if (time < peer.lastTime) return;
    peer.lastTime = time;
    peer.reach = reach ?? peer.reach;
  }

  /** Control acts on arrival. */
  private act(peer: Peer, message: Message, body: Buffer): void {
    const { kind, sent } = message;
    if (kind === 'sync') peer.isAckDue = true;
    if (kind === 'sync' || kind === 'ack') this.context.onSyncOrAck(peer, message);
    if (kind === 'want') {
      const pieces = parseWantBody(body);
      if (pieces.ok) this.context.onWant(peer, pieces.value);
    }
    if (kind === 'bye' && sent !== undefined && peer.bye === undefined) {
      peer.bye = { broadcasts: sent.broadcasts, directs: sent.directs, polls: this.polls };
      peer.isPresent = false;
    }
  }

  /** Shows all that is next in its sender's order, and who has left. */
  private deliver(): void {
    for (const peer of this.directory.peers) {
      const { broadcasts, directs } = peer;
      for (let next = broadcasts.next(); next !== undefined; next = broadcasts.next()) {
        this.show(peer, next.seq, next.item, false);
      }
      const isReady = ({ message }: Content) => (message?.sent?.broadcasts ?? 0) <= broadcasts.processed;
      for (let next = directs.next(isReady); next !== undefined; next = directs.next(isReady)) {
        this.show(peer, next.seq, next.item, false);
      }
      const { bye, hasLeft } = peer;
      if (bye === undefined || hasLeft) continue;
      if (broadcasts.processed < bye.broadcasts || directs.processed < bye.directs) continue;
      peer.hasLeft = true;
      this.context.tell({ type: 'left', name: peer.label, sid: peer.sid });
    }
  }

  private show(peer: Peer, seq: number, content: Content, isLate: boolean): void {
    const { message, problem, body, isDirect, fileKey } = content;
    const { label: name, sid } = peer;
    if (message === undefined || problem !== undefined) {
      this.context.tell({ type: 'malformed', name, seq, reason: problem ?? '' });
      return;
    }
    if (!CONTENT_KINDS.includes(message.kind)) return;
    peer.shownAt = this.directory.nextOccurrence();
    const { session, formerSids } = this.context;
    const { sealedBroadcasts } = session;
    const reader = { sid: session.sid, formerSids, sealedBroadcasts, peers: this.directory.peers };
    const shown = { name, sid, isDirect, seq, marks: marksOf(peer, content, message, isLate, reader) };
    if (message.file === undefined || fileKey === undefined) {
      this.context.tell({ type: 'message', text: printable(body), ...shown });
      return;
    }
    const { name: file, size, sha256 } = message.file;
    this.context.tell({ type: 'file', file, size, sha256, ...shown });
    this.context.onFile(peer, message.file, fileKey);
  }

  /** After a poll: confirms each `sync` before it, and skips the missing numbers that are due. */
  checkMissing(returnedPoll: number): void {
    const now = this.context.now();
    for (const peer of this.directory.peers) {
      const { postedSync, bye, broadcasts, directs } = peer;
      if (postedSync !== undefined && postedSync.polls < returnedPoll) peer.confirmedSyncAt = postedSync.at;
      const isDue = (since: number, lastFoundAt: number) => {
        if (bye !== undefined) return returnedPoll > bye.polls;
        if (!peer.isPresent) return true;
        return now - Math.max(since, lastFoundAt) >= PATIENCE_MS && peer.confirmedSyncAt >= since;
      };
      this.reportSkipped(peer, broadcasts.giveUp(isDue), directs.giveUp(isDue));
    }
    this.deliver();
  }

  private reportSkipped(peer: Peer, ...ranges: Parameters<Peer['skip']>): void {
    const { earlier, missed } = peer.skip(...ranges);
    if (earlier > 0) this.context.tell({ type: 'earlier', name: peer.label, count: earlier });
    if (missed > 0) this.context.tell({ type: 'missed', name: peer.label, count: missed });
  }
}

function proveDirect(sessions: readonly Peer[], aad: string, sealed: Sealed): Result<Proved> {
  for (const peer of sessions) {
    const plaintext = crypto.unseal(peer.directKey, aad, sealed);
    if (plaintext.ok) return crypto.accept({ peer, frame: parseFrame(plaintext.value) });
  }
  return crypto.reject('auth-failed');
}
