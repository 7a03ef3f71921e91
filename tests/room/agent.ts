/** examples/client.ts as the other end of a room: it listens, tests wait for what it was told, and it can misbehave. */
import { Client } from '../../examples/client.ts';
import { additionalData, seal, sessionId } from '../../examples/client/crypto.ts';
import type { Entry } from '../../examples/client/entries.ts';
import { buildFrame } from '../../examples/client/message.ts';
import type { Headers } from '../../examples/client/message.ts';
import type { Peer } from '../../examples/client/peer.ts';
import type { OwnSession } from '../../examples/client/session.ts';
import type { Sealed } from '../../sdk/protocol.ts';

const TIMEOUT_MS = 20_000;

export class Agent extends Client {
  #listening: { readonly stop: AbortController; readonly ended: Promise<void> } | undefined;

  get peers(): readonly Peer[] {
    return this.directory.peers;
  }

  /** How many broadcasts it has sealed: a test that makes up numbers says so here. */
  get sealedBroadcasts(): number {
    return this.session.sealedBroadcasts;
  }
  set sealedBroadcasts(count: number) {
    this.session.sealedBroadcasts = count;
  }

  start(): this {
    const stop = new AbortController();
    this.#listening = { stop, ended: this.listen(stop.signal, 1).catch(() => undefined) };
    return this;
  }

  async stop(): Promise<void> {
    this.#listening?.stop.abort();
    await this.#listening?.ended;
  }

  /** Waits until there is what `find` looks for. */
  async until<T>(find: (agent: this) => T | undefined | false, timeoutMs = TIMEOUT_MS): Promise<T> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const found = find(this);
      if (found !== undefined && found !== false) return found;
      if (Date.now() > end)
        throw new Error(`not within ${timeoutMs} ms; the last of what was told:\n${this.#lastEntries()}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  #lastEntries(): string {
    return this.entries
      .slice(-12)
      .map((entry) => JSON.stringify(entry).slice(0, 160))
      .join('\n');
  }

  /** The texts of one session, in order. */
  texts(label: string): string[] {
    return this.entries.flatMap((entry) => (entry.type === 'message' && entry.name === label ? [entry.text] : []));
  }

  find<Type extends Entry['type']>(type: Type): Extract<Entry, { readonly type: Type }> | undefined {
    return this.entries.find((entry): entry is Extract<Entry, { readonly type: Type }> => entry.type === type);
  }

  paired(label: string): Promise<Entry> {
    return this.until(({ entries }) => entries.find((entry) => entry.type === 'paired' && entry.name === label));
  }

  reads(text: string): Promise<Entry> {
    return this.until(({ entries }) => entries.find((entry) => entry.type === 'message' && entry.text === text));
  }

  peer(label: string): Peer {
    const found = this.directory.peers.find((peer) => peer.label === label);
    if (!found) throw new Error(`${label} was not met`);
    return found;
  }

  // ---- misbehaviour ----

  /** The headers that an honest message to this session, or to all, has now. */
  honestHeaders(kind: string, seq: number, to?: Peer): Headers {
    return { kind, seq: String(seq), ...this.stateHeaders(to) };
  }

  /** A control message's headers. */
  controlHeaders(kind: string, to: Peer): Headers {
    return { kind, ...this.stateHeaders(to) };
  }

  /** Presents another card than its own: the sid is that of the card. */
  useCard(card: OwnSession['card']): this {
    const aad = additionalData(this.channel, this.id, '*', 'card');
    const sealedCard = seal(this.broadcastKey, aad, buildFrame(card));
    return this.useSession({ card, sid: sessionId(this.k, card), sealedCard });
  }

  /** Has other fields in its own session. */
  useSession(fields: Partial<OwnSession>): this {
    this.session = Object.assign(
      Object.create(Object.getPrototypeOf(this.session) as object),
      this.session,
      fields,
    ) as OwnSession;
    return this;
  }

  sealFrame(to: Peer | undefined, headers: Headers, body: string | Uint8Array = ''): Sealed {
    return this.seal(to, headers, body);
  }

  async postSealed(to: Peer | undefined, sealed: Sealed): Promise<void> {
    await this.post(to?.id ?? '*', sealed);
  }

  /** Seals and posts any headers and body. */
  async sendFrame(to: Peer | undefined, headers: Headers, body: string | Uint8Array = ''): Promise<Sealed> {
    const sealed = this.sealFrame(to, headers, body);
    await this.postSealed(to, sealed);
    return sealed;
  }
}
