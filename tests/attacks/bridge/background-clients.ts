/** Clients that behave: a channel with its members, and two that talk all the time while somebody else does harm. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { Agent, request } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import type { TestBridge } from '../../lib/bridge.ts';

export const hex = (bytes: number) => randomBytes(bytes).toString('hex');
const hash = (text: string) => createHash('sha256').update(text).digest('hex');
export const sealed = (bytes = 30) => ({
  nonce: hex(12),
  ciphertext: randomBytes(bytes).toString('base64'),
  tag: hex(16),
});

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  readonly json: Record<string, unknown>;
  readonly code: unknown;
}

export interface Ask {
  readonly bearer?: string;
  readonly body?: unknown;
  /** Where the request says that it comes from. */
  readonly from?: string;
  readonly agent?: Agent;
  readonly host?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** One request over a connection that is kept. */
export function call(port: number, method: string, path: string, options: Ask = {}): Promise<Reply> {
  const { bearer, body, from, agent, host = '127.0.0.1', headers: more = {} } = options;
  const text = body === undefined ? '' : JSON.stringify(body);
  const headers = {
    ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
    ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(text.length) }),
    ...(from === undefined ? {} : { 'x-forwarded-for': from }),
    ...more,
  };
  return new Promise((resolve, reject) => {
    const asked = request({ host, port, method, path, headers, ...(agent ? { agent } : {}) }, (response) => {
      let answer = '';
      response.setEncoding('latin1').on('data', (chunk: string) => (answer += chunk));
      response.on('error', reject);
      response.on('end', () => {
        const isJson = response.headers['content-type'] === 'application/json';
        const json = isJson && answer !== '' ? (JSON.parse(answer) as Record<string, unknown>) : {};
        const code = (json['error'] as Record<string, unknown> | undefined)?.['code'];
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text: answer, json, code });
      });
    });
    asked.on('error', (error: NodeJS.ErrnoException) => {
      // The bridge closed a connection that had nothing to do just when we took it up again.
      if (asked.reusedSocket && error.code === 'ECONNRESET') resolve(call(port, method, path, options));
      else reject(error);
    });
    asked.end(text);
  });
}

/** A channel, by its key alone. */
export class TestChannel {
  readonly access = hash(`agentalk/1 access ${hex(32)}`);
  readonly id = hash(`agentalk/1 channel ${this.access}`).slice(0, 32);
  readonly path = `/channels/${this.id}`;

  constructor(
    readonly port: number,
    readonly how: Ask = {},
  ) {}

  create(): Promise<Reply> {
    return call(this.port, 'PUT', this.path, { ...this.how, bearer: this.access });
  }

  async member(): Promise<Member> {
    const member = new Member(this);
    assert.equal((await member.join()).status, 200);
    return member;
  }
}

export class Member {
  readonly id = hex(16);
  readonly token = hex(32);
  readonly card = sealed(300);

  constructor(readonly room: TestChannel) {}

  join(): Promise<Reply> {
    const body = { participant_id: this.id, token: this.token, card: this.card };
    const { port, path, access, how } = this.room;
    return call(port, 'POST', `${path}/join`, { ...how, bearer: access, body });
  }

  send(message: object = { to: '*', ...sealed() }): Promise<Reply> {
    const body = { participant_id: this.id, ...message };
    const { port, path, how } = this.room;
    return call(port, 'POST', `${path}/send`, { ...how, bearer: this.token, body });
  }

  leave(): Promise<Reply> {
    const { port, path, how } = this.room;
    return call(port, 'POST', `${path}/leave`, { ...how, bearer: this.token, body: { participant_id: this.id } });
  }

  poll(since: number, wait = 0): Promise<Reply> {
    const { port, path, how } = this.room;
    const query = `participant_id=${this.id}&since=${since}&wait=${wait}`;
    return call(port, 'GET', `${path}/poll?${query}`, { ...how, bearer: this.token });
  }
}

export async function room(port: number, how: Ask = {}): Promise<TestChannel> {
  const made = new TestChannel(port, how);
  assert.equal((await made.create()).status, 201);
  return made;
}

/** What `/metrics` says of a name. */
export async function gauge(port: number, name: string, how: Ask = {}): Promise<number> {
  const { from: _, ...own } = how; // it is not for whom a proxy speaks for
  const { text } = await call(port, 'GET', '/metrics', own);
  return Number(new RegExp(`^agentalk_${name} ([0-9]+)$`, 'm').exec(text)?.[1]);
}

/** Resolves once it says what is wanted. */
export async function until(port: number, name: string, isRight: (value: number) => boolean): Promise<void> {
  while (!isRight(await gauge(port, name)));
}

/**
 * Does the harm, while two talk beside it, about thirty messages a second: one says the next thing when the other, who
 * waits in a poll, has the last one. Throws if one of their requests fails, a message is missing, or one takes longer than `mostMs`.
 */
export async function withBackgroundTraffic(
  { port }: TestBridge,
  harm: () => Promise<unknown>,
  how: Ask = {},
  mostMs = 3000,
): Promise<{ messages: number; slowestMs: number }> {
  const agent = new Agent({ keepAlive: true });
  const made = await room(port, { ...how, agent });
  const [talker, listener] = [await made.member(), await made.member()];
  let isOver = false;
  let messages = 0;
  let slowestMs = 0;
  const talk = async () => {
    let cursor = 2;
    while (!isOver || messages < 3) {
      const begun = performance.now();
      const message = sealed();
      const [heard, sent] = await Promise.all([listener.poll(cursor, 20), talker.send({ to: '*', ...message })]);
      assert.deepEqual([heard.status, sent.status], [200, 200], 'both are served');
      const events = heard.json['events'] as Record<string, unknown>[];
      assert.deepEqual([events.length, events[0]?.['nonce']], [1, message.nonce]);
      cursor = Number(heard.json['cursor']);
      messages++;
      slowestMs = Math.max(slowestMs, performance.now() - begun);
      await delay(30); // nobody background talks faster
    }
  };
  const talking = talk();
  talking.catch(() => {}); // it is told below
  try {
    await harm();
  } finally {
    isOver = true;
    await talking.finally(() => agent.destroy());
  }
  assert.ok(slowestMs < mostMs, `the slowest message of ${messages} took ${Math.round(slowestMs)} ms`);
  return { messages, slowestMs };
}
