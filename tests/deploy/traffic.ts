/**
 * Two ends of a channel that talk all the time, through whatever happens to the bridges: each message is noted when it
 * is said and when the other end has it. Clients of tests/lib/example-session.ts, many in one process.
 */
import assert from 'node:assert/strict';
import { ExampleSession } from '../lib/example-session.ts';

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const RETRY_MS = 200;
const PATIENCE_MS = 45_000;

/**
 * As docs/protocol.md wants it of a client: what got no answer, or none of a bridge, or that it is stopping, is asked
 * again with the same bytes.
 *
 * @param once one request
 */
export function retrying(once: typeof fetch): typeof fetch {
  return async (input, init) => {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      const answer = await once(input, init).catch((error: unknown) => error as Error);
      const isOurs = answer instanceof Response && answer.headers.get('content-type')?.startsWith('application/json');
      if (isOurs && answer.status !== 503) return answer;
      if (init?.signal?.aborted || Date.now() > end) {
        throw answer instanceof Error ? answer : new Error(`answered ${answer.status}`);
      }
      await pause(RETRY_MS);
    }
  };
}

/** One way: what `from` says and `to` hears. */
class Way {
  readonly from: ExampleSession;
  readonly to: ExampleSession;
  readonly said: { readonly at: number; heardAt?: number }[] = [];
  constructor(from: ExampleSession, to: ExampleSession) {
    this.from = from;
    this.to = to;
  }

  /** What the bridge can't take now stays in the outbox and goes out with a later poll. */
  async say(): Promise<void> {
    this.said.push({ at: Date.now() });
    await this.from.say(`line ${this.said.length}`);
  }

  /** Notes what has come since it was last called. */
  hear(): void {
    const heard = this.to.texts(this.from.name).length;
    for (let i = heard - 1; i >= 0 && this.said[i]?.heardAt === undefined; i--) {
      const message = this.said[i];
      if (message) message.heardAt = Date.now();
    }
  }

  /** Each message that was said, in its order, and once. */
  check(): void {
    const expected = this.said.map((_, i) => `line ${i + 1}`);
    assert.deepEqual(this.to.texts(this.from.name), expected, this.to.story().slice(-3000));
  }
}

export class Talk {
  readonly #ways: readonly Way[];
  readonly #clients: readonly ExampleSession[];
  #isOver = false;
  #talking: Promise<unknown> = Promise.resolve();

  private constructor(clients: readonly ExampleSession[], ways: readonly Way[]) {
    this.#clients = clients;
    this.#ways = ways;
  }

  /** So many channels of two, paired. */
  static async open(bridge: string, channels: number, once: typeof fetch): Promise<Talk> {
    const options = { fetch: retrying(once) };
    const pairs = await Promise.all(
      Array.from({ length: channels }, async () => {
        const ada = (await ExampleSession.create(bridge, { name: 'ada', ...options })).start();
        const bob = (await ExampleSession.join(ada.link, { name: 'bob', ...options })).start();
        await Promise.all([ada.paired('bob', PATIENCE_MS), bob.paired('ada', PATIENCE_MS)]);
        return [ada, bob] as const;
      }),
    );
    const ways = pairs.flatMap(([ada, bob]) => [new Way(ada, bob), new Way(bob, ada)]);
    return new Talk(pairs.flat(), ways);
  }

  /** Everybody says a line, and the next so many ms after it is handed over. */
  start(everyMs: number): void {
    const speak = async (way: Way, i: number) => {
      await pause((everyMs * i) / this.#ways.length);
      while (!this.#isOver) {
        await way.say();
        await pause(everyMs);
      }
    };
    const watch = async () => {
      while (!this.#isOver) {
        for (const way of this.#ways) way.hear();
        await pause(50);
      }
    };
    this.#talking = Promise.all([...this.#ways.map(speak), watch()]);
    this.#talking.catch(() => {}); // end() tells
  }

  /** Waits until on each way something was heard that was said after now. */
  async settled(): Promise<void> {
    const counts = this.#ways.map(({ said }) => said.length);
    const end = Date.now() + PATIENCE_MS;
    const open = () => this.#ways.filter(({ said }, i) => said[counts[i] ?? 0]?.heardAt === undefined);
    while (open().length > 0) {
      if (Date.now() > end) assert.fail(`${open().length} ways are silent: ${open()[0]?.to.story().slice(-3000)}`);
      await pause(20);
    }
  }

  /** How long what was said since then took to be heard: the longest, and how many ways waited for more than a second. */
  since(time: number): { longestMs: number; held: number } {
    const waits = this.#ways.map(({ said }) =>
      Math.max(0, ...said.filter(({ at }) => at >= time - 1000).map(({ at, heardAt = Date.now() }) => heardAt - at)),
    );
    return { longestMs: Math.max(...waits), held: waits.filter((ms) => ms > 1000).length };
  }

  /** Says no more, waits for what is under way, and checks it all. Gives how many messages there were. */
  async end(): Promise<number> {
    await this.settled();
    this.#isOver = true;
    await this.#talking;
    const end = Date.now() + PATIENCE_MS;
    const isMissing = ({ said, from, to }: Way) => to.texts(from.name).length < said.length;
    while (this.#ways.some(isMissing) && Date.now() < end) await pause(50);
    for (const way of this.#ways) way.check();
    return this.#ways.reduce((sum, { said }) => sum + said.length, 0);
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#clients.map((client) => client.stop()));
  }
}
