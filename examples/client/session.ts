/** The own session: the keys of one run, its card, and what the parts of a client share. */
import type { Bridge } from './bridge.ts';
import * as crypto from './crypto.ts';
import type { Card, KeyPair, Result, Sealed } from './crypto.ts';
import type { Entry } from './entries.ts';
import type { FileKey } from './files.ts';
import { buildFrame } from './message.ts';
import type { FileHeaders, Message } from './message.ts';
import type { Peer } from './peer.ts';

export class OwnSession {
  readonly ecdh: KeyPair = crypto.makeKeyPair();
  readonly ecdsa: KeyPair = crypto.makeKeyPair();
  readonly card: Card;
  readonly sid: string;
  /** The card as the bytes that every joining presents. */
  readonly sealedCard: Sealed;
  sealedBroadcasts = 0;

  constructor(
    readonly k: string,
    channel: string,
    participantId: string,
    kind: 'agent' | 'human',
    name: string,
  ) {
    this.card = { kind, name, pub: this.ecdh.public, sign: this.ecdsa.public };
    this.sid = crypto.sessionId(k, this.card);
    const aad = crypto.additionalData(channel, participantId, '*', 'card');
    this.sealedCard = crypto.seal(crypto.aesKey(crypto.broadcastPassphrase(k)), aad, buildFrame(this.card));
  }

  directKeyFor(sid: string, { pub }: Card): Result<Buffer> {
    const x = crypto.sharedX(this.ecdh.private, pub);
    if (!x.ok) return x;
    return crypto.accept(crypto.aesKey(crypto.directPassphrase(this.k, this.sid, sid, x.value)));
  }
}

/** What the parts of a client share. */
export interface Context {
  readonly k: string;
  readonly channel: string;
  /** The own participant id. */
  readonly id: string;
  readonly broadcastKey: Buffer;
  readonly bridge: Bridge;
  readonly session: OwnSession;
  /** Own sessions before this one, each of which turned out to be a copy. */
  readonly formerSids: readonly string[];
  readonly epoch: string;
  /** Unix milliseconds. */
  readonly now: () => number;
  tell(entry: Entry): void;
}

/** What the parts tell the client. */
export interface Listener {
  onListed(peer: Peer): void;
  onPaired(peer: Peer): void;
  onSyncOrAck(peer: Peer, message: Message): void;
  onWant(peer: Peer, pieces: readonly string[]): void;
  onFile(peer: Peer, file: FileHeaders, key: FileKey): void;
  /** Somebody has received what this session never sealed. */
  onCopy(): void;
  postWant(peer: Peer, body: string): Promise<void>;
}
