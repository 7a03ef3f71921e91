/** What the tests of the bridge's HTTP have: a bridge, channels and members in them, and requests down to the bytes. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';

export const sha256 = (data: string | Buffer) => createHash('sha256').update(data).digest('hex');
export const hex = (bytes: number) => randomBytes(bytes).toString('hex');
export const sealed = (bytes = 30) => ({
  nonce: hex(12),
  ciphertext: randomBytes(bytes).toString('base64'),
  tag: hex(16),
});

export type Json = Record<string, unknown>;
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: Json;
  /** The code of a refusal, else undefined. */
  readonly code: unknown;
}

export interface Request {
  readonly bearer?: string | undefined;
  readonly body?: unknown;
  readonly accept?: string;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

export async function call(url: string, method: string, path: string, request: Request = {}): Promise<Answer> {
  const { bearer, body, accept, headers = {}, signal } = request;
  const response = await fetch(url + path, {
    method,
    headers: {
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(accept === undefined ? {} : { accept }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    ...(signal === undefined ? {} : { signal }),
    redirect: 'manual',
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type') === 'application/json';
  const json = isJson && text !== '' ? (JSON.parse(text) as Json) : {};
  const code = (json['error'] as Json | undefined)?.['code'];
  return { status: response.status, headers: response.headers, text, json, code };
}

/** A channel, by its key alone. */
export class TestChannel {
  readonly access = sha256(`agentalk/1 access ${hex(32)}`);
  readonly id = sha256(`agentalk/1 channel ${this.access}`).slice(0, 32);
  readonly path = `/channels/${this.id}`;

  constructor(readonly url: string) {}

  create(request: Request = {}): Promise<Answer> {
    return call(this.url, 'PUT', this.path, { bearer: this.access, ...request });
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

  join(request: Request = {}, fields: Json = {}): Promise<Answer> {
    const body = { participant_id: this.id, token: this.token, card: this.card, ...fields };
    return call(this.room.url, 'POST', `${this.room.path}/join`, { bearer: this.room.access, body, ...request });
  }

  send(message: Json = { to: '*', ...sealed() }, request: Request = {}): Promise<Answer> {
    const body = { participant_id: this.id, ...message };
    return call(this.room.url, 'POST', `${this.room.path}/send`, { bearer: this.token, body, ...request });
  }

  poll(since: number, query = '', request: Request = {}): Promise<Answer> {
    const path = `${this.room.path}/poll?participant_id=${this.id}&since=${since}${query}`;
    return call(this.room.url, 'GET', path, { bearer: this.token, ...request });
  }

  status(request: Request = {}): Promise<Answer> {
    const path = `${this.room.path}?participant_id=${this.id}`;
    return call(this.room.url, 'GET', path, { bearer: this.token, ...request });
  }

  leave(fields: Json = {}, request: Request = {}): Promise<Answer> {
    const body = { participant_id: this.id, ...fields };
    return call(this.room.url, 'POST', `${this.room.path}/leave`, { bearer: this.token, body, ...request });
  }
}

export async function room(url = bridge.url): Promise<TestChannel> {
  const made = new TestChannel(url);
  assert.equal((await made.create()).status, 201);
  return made;
}

export async function pair(url = bridge.url): Promise<[Member, Member]> {
  const made = await room(url);
  return [await made.member(), await made.member()];
}

/** Resolves once so many polls wait at the bridge. */
export async function waiting(count: number, url = bridge.url): Promise<void> {
  while (!(await call(url, 'GET', '/metrics')).text.includes(`agentalk_polls_pending ${count}\n`));
}

/** Bytes in, bytes out, until the bridge closes; `pieces` go one after the other. */
export async function raw(text: string, url = bridge.url): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  let answer = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => (answer += chunk));
  socket.write(text, 'latin1');
  await once(socket, 'close');
  return answer;
}

export const TEXT = { accept: 'text/plain' };
export const SAFE_LINE = /^[A-Za-z0-9+/=_*.-]+( [A-Za-z0-9+/=_*.-]+)*$/;

export let bridge: TestBridge;
before(async () => {
  bridge = await startBridge();
});
after(() => bridge.stop());
