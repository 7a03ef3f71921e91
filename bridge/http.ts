/**
 * What is HTTP about the bridge: reading a request strictly, the JSON and the text form, headers, refusals.
 * All that comes in is a stranger's, and nothing of it goes out again. Knows no channel.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Refusal } from './errors.ts';
import { preferred } from './negotiate.ts';

export type Fields = Readonly<Record<string, unknown>>;
export type Headers = readonly string[]; // name, value, name, value, …

/** On each response: a page of the bridge loads nothing from anywhere, can't be framed and tells nobody its address. */
export const headersOf = (type: string, caching = 'no-store'): Headers => [
  ...['X-Content-Type-Options', 'nosniff', 'Referrer-Policy', 'no-referrer', 'X-Frame-Options', 'DENY'],
  ...['Content-Security-Policy', "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"],
  ...['Content-Type', type, 'Cache-Control', caching],
];
export const TEXT = headersOf('text/plain; charset=utf-8');
export const BYTES = headersOf('application/octet-stream');
const JSON_HEADERS = headersOf('application/json');

/**
 * The answers of one turn of the event loop, to be written when all its requests have been read: whoever they go to is
 * then woken once for many and not for each, and a busy bridge answers half as many again.
 */
const ready: (() => void)[] = [];
const writeAnswers = () => ready.splice(0).forEach((write) => write());

const MAX_DISCARDED_BYTES = 2 * 1024 * 1024;

/** One request and its answer. */
export class Exchange {
  readonly path: string;
  readonly #query: URLSearchParams | undefined;
  readonly wantsText: boolean;
  isLast = false; // the connection ends with this answer

  constructor(
    readonly request: IncomingMessage,
    readonly response: ServerResponse,
    readonly stallMs: number,
  ) {
    const { url = '' } = request;
    const mark = url.indexOf('?');
    this.path = mark < 0 ? url : url.slice(0, mark);
    if (mark >= 0) this.#query = new URLSearchParams(url.slice(mark + 1));
    this.wantsText = preferred(request.headers.accept ?? '', ['application/json', 'text/plain']) === 'text/plain';
  }

  parameter(name: string): string | undefined {
    return this.#query?.get(name) ?? undefined;
  }

  /** Throws no_token. */
  bearer(): string {
    const { authorization = '' } = this.request.headers;
    if (!/^bearer [!-~]+ *$/i.test(authorization)) throw new Refusal('no_token');
    return authorization.slice('Bearer '.length).trimEnd();
  }

  /** The length of the body as declared. Throws bad_request if none is, or it is 0. */
  contentLength(): number {
    const length = Number(this.request.headers['content-length'] ?? 0); // node has checked that it is a number
    if (length === 0) throw new Refusal('bad_request', 'Content-Length');
    return length;
  }

  /** The body: bytes, or a string of ASCII. The headers: its type and how it may be kept; or the form asked for. */
  answer(status: number, body: string | Buffer, headers = this.wantsText ? TEXT : JSON_HEADERS): void {
    this.#writeHead(status, body.length, headers);
    this.#schedule(() => this.response.end(body, 'latin1'));
  }

  /** A body in blocks that others may be sent, too: the next one is written when the one before has gone. */
  answerBlocks(blocks: readonly Buffer[], bytes: number, headers: Headers): void {
    this.#writeHead(200, bytes, headers);
    const { response } = this;
    let next = 0;
    const write = (): void => {
      while (next < blocks.length) {
        if (!response.write(blocks[next++])) return void response.once('drain', write);
      }
      response.end();
    };
    this.#schedule(this.request.method === 'HEAD' ? () => response.end() : write);
  }

  #writeHead(status: number, bytes: number, headers: Headers): void {
    const all = [...headers, 'Content-Length', String(bytes)];
    if (this.isLast || this.#hasUnreadBody()) all.push('Connection', 'close');
    this.response.writeHead(status, all);
  }

  #schedule(write: () => void): void {
    const writeAndWatch = () => {
      write();
      if (this.response.writableLength > 0) this.request.socket.setTimeout(this.stallMs); // until it reads on
    };
    if (ready.push(writeAndWatch) === 1) setImmediate(writeAnswers);
  }

  /**
   * Whether the connection ends with the answer because there is more of the body. Of a PUT a short one is discarded as
   * it comes: a connection that is closed before all of a blob was sent can lose the answer, too.
   */
  #hasUnreadBody(): boolean {
    const { complete, headers, method } = this.request;
    if (complete) return false;
    const maxBytes = method === 'PUT' ? MAX_DISCARDED_BYTES : 0;
    return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > maxBytes;
  }

  refuse({ code, message, words: [status, , hint, retryAfterSeconds] }: Refusal, more: Headers = []): void {
    const headers = [...(this.wantsText ? TEXT : JSON_HEADERS), 'Agentalk-Error', code, ...more];
    if (retryAfterSeconds !== undefined) headers.push('Retry-After', String(retryAfterSeconds));
    if (status === 401) headers.push('WWW-Authenticate', 'Bearer');
    const json = JSON.stringify({ error: { code, message, hint } });
    this.answer(status, this.wantsText ? `error ${code} ${message}\nhint ${hint}\n` : json, headers);
  }
}

/**
 * Reads a JSON object. Only application/json: a web page elsewhere can't post that without asking first, and there is
 * no CORS here. Bytes are taken as Latin-1: all that is kept is ASCII, and checked. Throws not_json and too_large;
 * what goes wrong later, in `done` too, is given to `fail`.
 */
export function readFields(
  request: IncomingMessage,
  maxBytes: number,
  timeoutMs: number,
  done: (fields: Fields) => void,
  fail: (error: unknown) => void,
): void {
  const { 'content-type': type = '', 'content-length': length = '0' } = request.headers;
  if (!/^application\/json *(;|$)/i.test(type)) throw new Refusal('not_json');
  if (Number(length) > maxBytes) throw new Refusal('too_large');
  let chunks: Buffer[] = [];
  let size = 0;
  const take = (chunk: Buffer) => {
    size += chunk.length;
    if (size > maxBytes) throw new Refusal('too_large');
    if (chunks.push(chunk) > 64) chunks = [Buffer.concat(chunks)]; // a byte at a time must not cost an object each
  };
  const end = () => done(parse((chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)).toString('latin1')));
  readBody(request, timeoutMs, take, end, fail);
}

/**
 * Hands each chunk of a body to `take`, and calls `end` when all have come. What these throw is given to `fail`, and so
 * is a bad_request with status 408 after `timeoutMs`; then the rest is discarded. Nothing is called when the client goes.
 */
export function readBody(
  request: IncomingMessage,
  timeoutMs: number,
  take: (chunk: Buffer) => void,
  end: () => void,
  fail: (error: unknown) => void,
): void {
  let isOver = false;
  const attempt = (step: () => void) => {
    if (isOver) return;
    try {
      step();
    } catch (error) {
      stop();
      fail(error);
    }
  };
  const stop = () => {
    isOver = true;
    clearTimeout(timer);
  };
  const timer = setTimeout(() => {
    attempt(() => {
      throw Refusal.timeout();
    });
  }, timeoutMs);
  request.on('data', (chunk: Buffer) => attempt(() => take(chunk)));
  request.on('end', () => {
    clearTimeout(timer);
    attempt(end);
    isOver = true;
  });
  request.on('close', stop);
}

function parse(text: string): Fields {
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch {
    // What is no JSON is no object either.
  }
  throw new Refusal('bad_request', 'The JSON object');
}

export const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A checked field of a body or a query. Throws bad_request with the field's name. */
export function field<T>(name: string, value: unknown, isValid: (value: unknown) => value is T): T {
  if (!isValid(value)) throw new Refusal('bad_request', name);
  return value;
}

/** A whole number from 0, in JSON or as decimal digits; undefined where there is none. Throws bad_request. */
export function count(name: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  const number = typeof value === 'string' && /^(0|[1-9][0-9]{0,14})$/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < 0) throw new Refusal('bad_request', name);
  return number;
}
