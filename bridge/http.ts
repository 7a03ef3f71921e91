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
const JSON_HEADERS = headersOf('application/json');

/**
 * The answers of one turn of the event loop, to be written when all its requests have been read: whoever they go to is
 * then woken once for many and not for each, and a busy bridge answers half as many again.
 */
const ready: (() => void)[] = [];
const writeAnswers = () => ready.splice(0).forEach((write) => write());

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

  /** The body: bytes, or a string of ASCII. The headers: its type and how it may be kept; or the form asked for. */
  answer(status: number, body: string | Buffer, headers = this.wantsText ? TEXT : JSON_HEADERS): void {
    const all = [...headers, 'Content-Length', String(body.length)];
    if (this.isLast || this.#isUnread()) all.push('Connection', 'close');
    this.response.writeHead(status, all);
    const write = () => {
      this.response.end(body, 'latin1');
      if (this.response.writableLength > 0) this.request.socket.setTimeout(this.stallMs); // until it reads on
    };
    if (ready.push(write) === 1) setImmediate(writeAnswers);
  }

  /** The rest of a body that nobody reads would come for as long as its sender likes. */
  #isUnread(): boolean {
    const { complete, headers } = this.request;
    return !complete && (Number(headers['content-length'] ?? 0) > 0 || headers['transfer-encoding'] !== undefined);
  }

  refuse({ code, message, words: [status, , hint, retryAfterSeconds] }: Refusal, more: Headers = []): void {
    const headers = [...(this.wantsText ? TEXT : JSON_HEADERS), ...more];
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
  done: (fields: Fields) => void,
  fail: (error: unknown) => void,
): void {
  const { 'content-type': type = '', 'content-length': length = '0' } = request.headers;
  if (!/^application\/json *(;|$)/i.test(type)) throw new Refusal('not_json');
  if (Number(length) > maxBytes) throw new Refusal('too_large');
  let chunks: Buffer[] = [];
  let size = 0;
  request.on('data', (chunk: Buffer) => {
    if (size > maxBytes) return;
    size += chunk.length;
    if (size > maxBytes) return fail(new Refusal('too_large'));
    if (chunks.push(chunk) > 64) chunks = [Buffer.concat(chunks)]; // a byte at a time must not cost an object each
  });
  request.on('end', () => {
    if (size > maxBytes) return;
    try {
      done(parse((chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)).toString('latin1')));
    } catch (error) {
      fail(error);
    }
  });
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
