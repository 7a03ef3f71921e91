/**
 * Three bridges behind each of the three load balancers, with talk in 50 channels: one is killed and started again, the
 * others are stopped and started one after the other, as an upgrade does. Nothing is lost, nothing comes twice.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Agent, until } from '../lib/shell.ts';
import { GROUPS, needs, startBalancer } from './balancer.ts';
import { Talk } from './traffic.ts';

const CHANNELS = 50;
const SAY_EVERY_MS = 1500;
/**
 * As docs/scaling.md advises for a group: when a bridge is back, a poll that waits at another one is the last to notice
 * that its channel has moved.
 */
const FLAGS = ['--max-poll-seconds', '8', '--drain-delay', '1', '--trusted-proxies', 'loopback'];

/** One of the group: it keeps its port through all its lives. */
class Member {
  #bridge: TestBridge;
  readonly port: number;
  constructor(bridge: TestBridge) {
    this.#bridge = bridge;
    this.port = bridge.port;
  }

  static start = async () => new Member(await startBridge(FLAGS));

  async kill(): Promise<void> {
    await this.#bridge.stop();
  }

  async start(): Promise<void> {
    this.#bridge = await startBridge([...FLAGS, '--port', String(this.port)]);
  }

  /** SIGTERM: not ready first, while it still answers; then gone. */
  async retire(): Promise<void> {
    this.#bridge.kill('SIGTERM');
    await until('it says that it is not ready', async () => {
      const { status } = await fetch(`${this.#bridge.url}/ready`);
      return status === 503;
    });
    assert.equal(await this.#bridge.ended, 0);
  }

  async channels(): Promise<number> {
    const metrics = await (await fetch(`${this.#bridge.url}/metrics`)).text();
    return Number(/^agentalk_channels (\d+)$/m.exec(metrics)?.[1]);
  }
}

/** Two bash clients that talk: who listens hears each line, once and in order. */
class BashTalk {
  readonly #agents: readonly [Agent, Agent];
  /** By ada, by bob. */
  readonly #said: [number, number] = [0, 0];
  #isOver = false;
  #talking: Promise<unknown> = Promise.resolve();
  private constructor(agents: readonly [Agent, Agent]) {
    this.#agents = agents;
  }

  static async open(t: TestContext, url: string, authority: string): Promise<BashTalk> {
    const [ada, bob] = [{ name: 'ada' }, { name: 'bob' }].map(
      (options) => new Agent({ ...options, isReleased: true }), // a bridge may be away for longer than a fast client waits
    ) as [Agent, Agent];
    await ada.create(url, ['--name', 'ada', '--cacert', authority]);
    const first = ada.begin('listen');
    const { stdout } = await bob.join(ada.link, ['--name', 'bob', '--cacert', authority]);
    const second = bob.begin('listen');
    t.after(() => Promise.all([first.end('SIGKILL'), second.end('SIGKILL')]));
    await first.line(/PAIRED with bob/);
    if (!stdout.includes('PAIRED with ada')) await second.line(/PAIRED with ada/);
    return new BashTalk([ada, bob]);
  }

  start(everyMs: number): void {
    const speak = async (agent: Agent, i: 0 | 1) => {
      while (!this.#isOver) {
        // What it can't hand over it keeps, and says so; the listener sends it when it can.
        await agent.begin('say', `line ${++this.#said[i]}`).ended;
        await new Promise((resolve) => setTimeout(resolve, everyMs));
      }
    };
    this.#talking = Promise.all([speak(this.#agents[0], 0), speak(this.#agents[1], 1)]);
    this.#talking.catch(() => {}); // end() tells
  }

  async end(): Promise<number> {
    this.#isOver = true;
    await this.#talking;
    const heard = (i: 0 | 1) => this.#agents[1 - i]?.inbox().map(({ bytes }) => bytes.toString().trimEnd()) ?? [];
    await until('bash clients have all', () => ([0, 1] as const).every((i) => heard(i).length >= this.#said[i]));
    for (const i of [0, 1] as const) {
      assert.deepEqual(
        heard(i),
        Array.from({ length: this.#said[i] }, (_, n) => `line ${n + 1}`),
      );
    }
    return this.#said.reduce((a, b) => a + b);
  }
}

// They mostly wait: for a balancer to notice, and for lines to be due.
describe('three bridges', { concurrency: 3 }, () => {
  for (const kind of GROUPS) {
    const options = { skip: needs(kind), timeout: 300_000 };
    test(`behind ${kind.name}, bridges die and are replaced: 0 lost, 0 doubled`, options, async (t) => {
      const bridges = await Promise.all([Member.start(), Member.start(), Member.start()]);
      const [first, ...others] = bridges as [Member, Member, Member];
      t.after(() => Promise.all(bridges.map((bridge) => bridge.kill())));
      const balancer = await startBalancer(
        kind,
        bridges.map(({ port }) => port),
      );
      t.after(() => balancer.stop());
      const talk = await Talk.open(balancer.url, CHANNELS, balancer.keptFetch);
      t.after(() => talk.stop());
      const inBash = await Promise.all([1, 2].map(() => BashTalk.open(t, balancer.url, balancer.authority)));
      const shares = await Promise.all(bridges.map((bridge) => bridge.channels()));
      assert.equal(
        shares.reduce((a, b) => a + b),
        CHANNELS + inBash.length,
        'each channel is at one bridge',
      );
      t.diagnostic(`channels at each bridge: ${shares.join(', ')}`);
      talk.start(SAY_EVERY_MS);
      for (const each of inBash) each.start(2 * SAY_EVERY_MS);
      await talk.settled();

      /** Makes something happen, waits until everybody hears everybody, and prints what that took. */
      const happens = async (what: string, act: () => Promise<void>) => {
        const begun = Date.now();
        await act();
        await talk.settled();
        const { longestMs, held } = talk.since(begun);
        t.diagnostic(
          `${what}: after ${(longestMs / 1000).toFixed(1)} s everything is heard; ${held} of ${2 * CHANNELS} ways had to wait for more than a second`,
        );
        assert.ok(longestMs < 30_000, `${what}: ${longestMs} ms`);
      };
      /** It is back when the balancer gives it its channels again. */
      const back = async (bridge: Member) => {
        await bridge.start();
        await until('it has channels again', async () => (await bridge.channels()) > 0);
      };
      await happens('bridge 1 killed', () => first.kill());
      await happens('bridge 1 started again', () => back(first));
      for (const [i, bridge] of others.entries()) {
        await happens(`bridge ${i + 2} stopped`, () => bridge.retire());
        await happens(`bridge ${i + 2} started again`, () => back(bridge));
      }
      const said = (await talk.end()) + (await Promise.all(inBash.map((each) => each.end()))).reduce((a, b) => a + b);
      t.diagnostic(`${said} messages, 0 lost, 0 doubled`);
    });
  }
});
