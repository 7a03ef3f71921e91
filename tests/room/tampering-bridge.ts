/** A bridge that lies to the person of a test: a proxy in front of the real one, which changes what the room is told. */
import { FaultProxy } from '../lib/fault-proxy.ts';
import { bridge } from './fixture.ts';

/** An event as a poll has it. */
export type WireEvent = {
  index: number;
  type: string;
  from: string;
  to?: string;
  nonce?: string;
  ciphertext?: string;
  tag?: string;
  card?: { nonce: string; ciphertext: string; tag: string };
  reason?: string;
};
type Fields = Record<string, unknown>;

export class TamperingBridge {
  readonly relay: FaultProxy;
  /** Another event in the place of one, or none. */
  changeEvent: (event: WireEvent) => WireEvent | undefined = (event) => event;
  /** Changes a whole JSON response. */
  changeResponse: (kind: string, fields: Fields) => Fields = (_, fields) => fields;
  /** The JSON error, by kind of request, in the place of the bridge's response; undefined lets it pass. */
  refuse: (kind: string) => { readonly status: number; readonly code: string; readonly message: string } | undefined =
    () => undefined;
  /** All events that passed, before they were changed. */
  readonly events: WireEvent[] = [];

  private constructor(relay: FaultProxy) {
    this.relay = relay;
    relay.answerInstead = ({ kind }, response) => {
      const error = this.refuse(kind);
      if (!error) return false;
      const { status, code, message } = error;
      response.writeHead(status, { 'Content-Type': 'application/json', 'Agentalk-Error': code });
      response.end(JSON.stringify({ error: { code, message, hint: message } }));
      return true;
    };
    relay.rewrite = ({ kind }, body) => (kind === 'page' || kind === 'blobs' ? body : this.#rewrite(kind, body));
  }

  static async start(): Promise<TamperingBridge> {
    return new TamperingBridge(await FaultProxy.start(bridge.url));
  }

  get url(): string {
    return this.relay.urlFor('ada');
  }

  stop(): Promise<void> {
    return this.relay.stop();
  }

  #rewrite(kind: string, body: Buffer): Buffer {
    let fields: Fields;
    try {
      fields = JSON.parse(body.toString()) as Fields;
    } catch {
      return body;
    }
    if (kind === 'poll' && Array.isArray(fields['events'])) {
      const events = fields['events'] as WireEvent[];
      this.events.push(...structuredClone(events));
      fields['events'] = events.flatMap((event) => this.changeEvent(event) ?? []);
    }
    return Buffer.from(JSON.stringify(this.changeResponse(kind, fields)));
  }
}
