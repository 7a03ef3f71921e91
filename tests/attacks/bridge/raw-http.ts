/**
 * HTTP by hand, for requests that no library would send; and what every answer of the bridge has to be, however it was
 * asked.
 */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import type { Socket } from 'node:net';

export interface Answer {
  readonly status: number;
  /** By lower-case name. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
  /** The code of a refusal, in either form; empty where there is none. */
  readonly code: string;
}

/** The codes of docs/protocol.md by their status. 500 is not among them: nothing from outside may bring that about. */
export const CODES: Readonly<Record<number, readonly string[]>> = {
  400: ['bad_request'],
  401: ['no_token', 'bad_token', 'no_participant'],
  403: ['wrong_key'],
  404: ['no_channel', 'no_recipient', 'not_found'],
  405: ['method_not_allowed'],
  408: ['bad_request'],
  409: ['other_epoch', 'name_taken', 'nonce_reused'],
  413: ['too_large'],
  415: ['not_json'],
  429: ['channel_full', 'participants_full', 'too_many_polls'].concat(
    ['requests', 'joins', 'channels', 'connections'].map((what) => `too_many_${what}`),
  ),
  431: ['bad_request'],
  503: ['bridge_full', 'stopping'],
};
const SUCCESS = [200, 201];
const HEX = '[0-9a-f]{32}';
const SAFE_LINE = /^[A-Za-z0-9+/=_*.-]+( [A-Za-z0-9+/=_*.-]+)*$/;

/** Takes the answers off a stream of bytes; what is left over is the beginning of one that has not come whole. */
export function parse(bytes: string, isHead = false): { answers: Answer[]; rest: string } {
  const answers: Answer[] = [];
  let rest = bytes;
  for (;;) {
    const end = rest.indexOf('\r\n\r\n');
    if (end < 0) return { answers, rest };
    const [first = '', ...lines] = rest.slice(0, end).split('\r\n');
    const status = Number(/^HTTP\/1\.1 ([0-9]{3}) [A-Za-z ]+$/.exec(first)?.[1]);
    assert.ok(status >= 100, `a status line: ${first}`);
    if (status === 100) {
      rest = rest.slice(end + 4);
      continue;
    }
    const headers = new Map<string, string>();
    for (const line of lines) {
      const [, name = '', value = ''] = /^([A-Za-z-]+): ([ -~]*)$/.exec(line) ?? [];
      assert.ok(name !== '' && !headers.has(name.toLowerCase()), `a header, and once: ${line}`);
      headers.set(name.toLowerCase(), value);
    }
    assert.equal(headers.get('transfer-encoding'), undefined);
    const length = headers.get('content-length') ?? '';
    assert.match(length, /^[0-9]+$/, 'each answer says how long it is');
    const from = end + 4;
    const until = from + (isHead ? 0 : Number(length));
    if (rest.length < until) return { answers, rest };
    const body = rest.slice(from, until);
    answers.push({ status, headers, body, code: codeOf(headers, body) });
    rest = rest.slice(until);
  }
}

function codeOf(headers: ReadonlyMap<string, string>, body: string): string {
  if (headers.get('content-type') !== 'application/json') return /^error ([a-z_]+) /.exec(body)?.[1] ?? '';
  return body === '' ? '' : ((JSON.parse(body) as { error?: { code?: string } }).error?.code ?? '');
}

/** Whether an answer is one that docs/protocol.md knows, with the headers that all have. Throws if not. */
export function check(answer: Answer): Answer {
  const { status, headers, body, code } = answer;
  const type = headers.get('content-type') ?? '';
  assert.match(headers.get('content-security-policy') ?? '', /^default-src 'none';.* frame-ancestors 'none'$/);
  assert.equal(headers.get('x-content-type-options'), 'nosniff');
  assert.equal(headers.get('referrer-policy'), 'no-referrer');
  assert.equal(headers.get('x-frame-options'), 'DENY');
  assert.match(headers.get('cache-control') ?? '', SUCCESS.includes(status) ? /^no-(store|cache)$/ : /^no-store$/);
  for (const name of ['server', 'x-powered-by', 'set-cookie', 'location', 'access-control-allow-origin'])
    assert.equal(headers.get(name), undefined, name);
  if (SUCCESS.includes(status)) {
    assert.equal(code, '');
    if (type === 'application/json' && body !== '') assert.match(body, new RegExp(`^\\{"epoch":"${HEX}",.*\\}$`));
    return answer;
  }
  assert.ok(CODES[status]?.includes(code), `status ${status} with the code '${code}'`);
  if (status === 429 || status === 503) assert.match(headers.get('retry-after') ?? '', /^[1-9][0-9]?$/);
  if (status === 401) assert.equal(headers.get('www-authenticate'), 'Bearer');
  if (status === 405) assert.match(headers.get('allow') ?? '', /^[A-Z]+(, [A-Z]+)*$/);
  if (type === 'application/json') {
    const { error } = JSON.parse(body) as { error: Record<string, unknown> };
    assert.deepEqual(Object.keys(error), ['code', 'message', 'hint']);
  } else {
    assert.equal(type, 'text/plain; charset=utf-8');
    assert.match(body, /^error [a-z_]+ [A-Za-z][^\n]+\.\nhint [A-Z][^\n]+\.\n$/);
  }
  return answer;
}

/** The text form of a success: safe lines, and a last one that says that nothing was cut off. */
export function checkLines({ body }: Answer): void {
  const lines = body.split('\n');
  assert.equal(lines.pop(), '');
  for (const line of lines) assert.match(line, SAFE_LINE);
  assert.match(lines.at(-1) ?? '', /^(channel|cursor|sent|left) /);
}

/** A connection to the bridge that is written to by hand. */
export class RawConnection {
  readonly socket: Socket;
  /** All bytes that came, as Latin-1. */
  received = '';
  readonly closed: Promise<string>;

  constructor(port: number, host = '127.0.0.1', isReading = true) {
    // Half open is what a hostile client stays, unless it is told otherwise.
    this.socket = connect({ port, host, allowHalfOpen: true });
    this.socket.setNoDelay();
    this.socket.on('error', () => {}); // the bridge may hang up on us whenever it likes
    this.closed = new Promise((resolve) => this.socket.once('close', () => resolve(this.received)));
    if (!isReading) return;
    this.socket.setEncoding('latin1').on('data', (chunk: string) => (this.received += chunk));
    this.socket.on('end', () => this.socket.end());
  }

  write(text: string): this {
    this.socket.write(text, 'latin1');
    return this;
  }

  /** Resolves once so many answers are here. Throws if the connection ends before. */
  async answers(count: number): Promise<Answer[]> {
    for (;;) {
      const { answers } = parse(this.received);
      if (answers.length >= count) return answers.map(check);
      const isClosed = await new Promise((resolve) => {
        this.socket.once('data', () => resolve(false));
        void this.closed.then(() => resolve(true));
      });
      if (isClosed && parse(this.received).answers.length < count)
        throw new Error(`closed after ${JSON.stringify(this.received.slice(0, 200))}`);
    }
  }

  end(): void {
    this.socket.destroy();
  }
}

/** Writes these bytes and gives the answers until the bridge closes the connection, which it has to. */
export async function raw(port: number, text: string, seconds = 20): Promise<Answer[]> {
  const connection = new RawConnection(port).write(text);
  const timer = setTimeout(() => connection.socket.destroy(new Error('hang')), seconds * 1000);
  let isHanging = false;
  connection.socket.once('error', ({ message }) => (isHanging = message === 'hang'));
  const { answers, rest } = parse(await connection.closed);
  clearTimeout(timer);
  assert.ok(!isHanging, `the bridge neither answered nor closed: ${JSON.stringify(text.slice(0, 300))}`);
  assert.equal(rest, '', 'whole answers');
  return answers.map(check);
}

/** One request that ends the connection, and its one answer. */
export async function ask(port: number, method: string, path: string, lines: readonly string[] = [], body = '') {
  const head = [`${method} ${path} HTTP/1.1`, 'Host: x', 'Connection: close', ...lines];
  const answers = await raw(port, `${head.join('\r\n')}\r\n\r\n${body}`);
  assert.equal(answers.length, 1, `one answer to ${method} ${path}`);
  return answers[0] as Answer;
}
