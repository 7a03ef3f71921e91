/** The other sessions: who was met, who is in the channel, and which session a name means. */
import type { Participant } from './bridge.ts';
import { unsealCard } from './message.ts';
import type { Sealed } from './crypto.ts';
import { Peer } from './peer.ts';
import type { Context, Listener } from './session.ts';

const HOUR_MS = 3_600_000;
const MAX_NEW_SESSIONS_AN_HOUR = 100;

export class Directory {
  /** In the order in which they were met. */
  readonly peers: Peer[] = [];
  /** The session that the bridge lists now under each participant id. */
  readonly listed = new Map<string, Peer>();
  private readonly reports = new Map<string, number>();
  private metAt: number[] = [];
  private occurrences = 0;

  constructor(private readonly context: Context & Listener) {}

  get present(): readonly Peer[] {
    return this.peers.filter(({ isPresent }) => isPresent);
  }

  /** Counts what happens, so that it can be told what was before what. */
  nextOccurrence(): number {
    this.occurrences++;
    return this.occurrences;
  }

  /** Sessions of a participant, the newest first. */
  sessionsOf(id: string): readonly Peer[] {
    return this.peers.filter((peer) => peer.id === id).reverse();
  }

  /** The session that NAME or NAME~N means. */
  find(label: string): Peer {
    const exact = label.includes('~') ? this.peers.find((peer) => peer.label === label) : undefined;
    const paired = this.peers.filter(({ card, isPaired }) => card.name === label && isPaired);
    const listed = paired.find((peer) => this.listed.get(peer.id) === peer);
    const found = exact ?? listed ?? paired.sort((a, b) => b.pairedAt - a.pairedAt)[0];
    if (found === undefined) throw new Error('nobody of that name is PAIRED');
    return found;
  }

  /** The session of a card, which may be new. */
  meet(id: string, sealedCard: Sealed): Peer | undefined {
    const { k, channel, id: ownId, session, now } = this.context;
    const opened = unsealCard(k, channel, id, ownId, sealedCard);
    if (!opened.ok) {
      this.report('bad-card', id, opened.reason);
      return undefined;
    }
    const { card, sid } = opened.value;
    const known = this.peers.find((peer) => peer.sid === sid);
    if (known !== undefined) return known;
    const directKey = session.directKeyFor(sid, card);
    this.metAt = this.metAt.filter((at) => now() - at < HOUR_MS);
    if (!directKey.ok || this.metAt.length >= MAX_NEW_SESSIONS_AN_HOUR) return undefined;
    this.metAt.push(now());
    const namesakes = this.peers.filter((peer) => peer.card.name === card.name).length;
    const label = namesakes === 0 ? card.name : `${card.name}~${namesakes + 1}`;
    const order = this.nextOccurrence();
    const peer = new Peer(sid, id, card, label, directKey.value, order, session.sealedBroadcasts + 1);
    this.peers.push(peer);
    if (namesakes > 0) this.context.tell({ type: 'new', name: label, sid });
    return peer;
  }

  /** Takes the bridge's list. If `isComplete`, who is not listed is not in the channel. */
  readList(participants: readonly Participant[], isComplete: boolean): void {
    const ids = new Set(participants.map(({ id }) => id));
    for (const peer of this.peers) {
      if (isComplete && !ids.has(peer.id)) peer.isPresent = false;
    }
    this.listed.clear();
    for (const { id, card } of participants) {
      const peer = id === this.context.id ? undefined : this.meet(id, card);
      if (peer !== undefined) this.list(peer);
    }
  }

  /** The bridge lists a session now, and so no other one under its participant id. */
  list(peer: Peer): void {
    for (const other of this.sessionsOf(peer.id)) {
      if (other !== peer) other.isPresent = false;
    }
    this.listed.set(peer.id, peer);
    this.notePresent(peer);
    this.context.onListed(peer);
  }

  /** The bridge says that a participant left. */
  unlist(id: string, reason: 'left' | 'expired'): void {
    this.listed.delete(id);
    for (const peer of this.sessionsOf(id)) {
      if (!peer.isPresent) continue;
      peer.isPresent = false;
      this.context.tell({ type: 'gone', name: peer.label, sid: peer.sid, reason });
    }
  }

  /** A session is in the channel, unless it said `bye`. */
  notePresent(peer: Peer): void {
    if (peer.bye !== undefined) return;
    peer.isPresent = true;
    if (peer.hasBeenPresent) return;
    peer.hasBeenPresent = true;
    if (!peer.label.includes('~')) this.context.tell({ type: 'joined', name: peer.label, sid: peer.sid });
  }

  /** Reports a reason once for each name; later ones are only counted. */
  report(type: 'tampered' | 'bad-card', id: string, reason: string): void {
    const name = this.sessionsOf(id)[0]?.card.name ?? id;
    const key = `${type} ${name} ${reason}`;
    const count = this.reports.get(key) ?? 0;
    this.reports.set(key, count + 1);
    if (count === 0) this.context.tell({ type, name, reason });
  }

  /** How often a reason came up for a name. */
  reportsOf(type: 'tampered' | 'bad-card', name: string, reason: string): number {
    return this.reports.get(`${type} ${name} ${reason}`) ?? 0;
  }
}
