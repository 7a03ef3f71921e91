/**
 * What is HTTP about the bridge: reading a request strictly, the JSON and the text form, headers, refusals.
 * Everything that comes in here is a stranger's; nothing of it goes out again. Knows no channel.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Refusal } from './errors.ts';
import { preferred } from './negotiate.ts';

export type Fields = Readonly<Record<string, unknown>>;

/** On each response. A page can load nothing from anywhere and can't be framed; pages.ts may allow its own parts. */
const SECURITY = [
  ...['X-Content-Type-Options', 'nosniff', 'Referrer-Policy', 'no-referrer', 'X-Frame-Options', 'DENY'],
  ...['Cross-Origin-Resource-Policy', 'same-origin'],
  ...['Content-Security-Policy', "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"],
];
const NO_STORE = [...SECURITY, 'Cache-Control', 'no-store'];
const JSON_HEADERS = [...NO_STORE, 'Content-Type', 'application/json', 'Content-Length'];
const TEXT_HEADERS = [...NO_STORE, 'Content-Type', 'text/plain; charset=utf-8', 'Content-Length'];

/** One request and its answer. */
export class Exchange {
  readonly path: string;
  /** The row of the route table, for the metrics; never the path itself. */
  route = 'none';
  readonly #query: string;
  #parameters: URLSearchParams | undefined;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Called when the answer's head is written. */
  onAnswer: ((status: number) => void) | undefined;
  /** The connection ends with this answer. */
  isLast = false;

  constructor(request: IncomingMessage, response: ServerResponse) {
    this.request = request;
    this.response = response;
    const url = request.url ?? '';
    const mark = url.indexOf('?');
    this.path = mark < 0 ? url : url.slice(0, mark);
    this.#query = mark < 0 ? '' : url.slice(mark + 1);
  }

  parameter(name: string): string | undefined {
    if (this.#query === '') return undefined;
    this.#parameters ??= new URLSearchParams(this.#query);
    return this.#parameters.get(name) ?? undefined;
  }

  /** Throws no_token. */
  bearer(): string {
    const value = /^bearer ([!-~]+) *$/i.exec(this.request.headers.authorization ?? '')?.[1];
    if (value === undefined) throw new Refusal('no_token');
    return value;
  }

  get wantsText(): boolean {
    const { accept } = this.request.headers;
    return accept !== undefined && preferred(accept, ['application/json', 'text/plain']) === 'text/plain';
  }

  /** Answers in the form that was asked for. Both forms are ASCII: ids, numbers, base64 and words of ours. */
  answer(status: number, form: { json: () => string; text: () => string }, headers: readonly string[] = []): void {
    const isText = this.wantsText;
    const body = isText ? form.text() : form.json();
    this.#write(status, [...(isText ? TEXT_HEADERS : JSON_HEADERS), String(body.length), ...headers]);
    this.response.end(body, 'latin1');
  }

  /** Hands out a page or a file. `headers` has its type and caching rule. */
  hand(body: Buffer, headers: readonly string[], status = 200): void {
    this.#write(status, [...SECURITY, 'Content-Length', String(body.length), ...headers]);
    this.response.end(body);
  }

  refuse(refusal: Refusal, headers: readonly string[] = []): void {
    const { code, message, hint, status, retryAfterSeconds } = refusal;
    // What is left of an unread body would be taken for the next request.
    if (!this.request.complete) this.isLast = true;
    const json = () => JSON.stringify({ error: { code, message, hint } });
    const text = () => `error ${code} ${message}\nhint ${hint}\n`;
    const later = retryAfterSeconds === undefined ? [] : ['Retry-After', String(retryAfterSeconds)];
    const who = status === 401 ? ['WWW-Authenticate', 'Bearer'] : [];
    this.answer(status, { json, text }, [...headers, ...later, ...who]);
  }

  #write(status: number, headers: string[]): void {
    if (this.isLast) headers.push('Connection', 'close');
    this.onAnswer?.(status);
    this.response.writeHead(status, headers);
  }
}

/**
 * Reads a JSON object. Only application/json: a web page elsewhere can't post that without asking first (no CORS here).
 * Bytes are taken as Latin-1: whatever the bridge keeps is ASCII, and checked. Throws not_json, too_large at once;
 * `done` may throw too, and is told of what went wrong later.
 */
export function readFields(
  request: IncomingMessage,
  maxBytes: number,
  done: (fields: Fields) => void,
  fail: (error: unknown) => void,
): void {
  const { 'content-type': type, 'content-length': length } = request.headers;
  if (!/^application\/json *(;|$)/i.test(type ?? '')) throw new Refusal('not_json');
  if (Number(length ?? 0) > maxBytes) throw new Refusal('too_large');
  const chunks: Buffer[] = [];
  let bytes = 0;
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= maxBytes) chunks.push(chunk);
    else if (bytes - chunk.length <= maxBytes) fail(new Refusal('too_large'));
  });
  request.on('end', () => {
    if (bytes > maxBytes) return;
    try {
      done(parse(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)));
    } catch (error) {
      fail(error);
    }
  });
}

function parse(body: Buffer | undefined): Fields {
  let value: unknown;
  try {
    value = JSON.parse(body?.toString('latin1') ?? '');
  } catch {
    throw new Refusal('bad_request', 'The JSON body');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Refusal('bad_request', 'The JSON object');
  }
  return value as Fields;
}

/** A checked field of a body or a query. Throws bad_request with the field's name. */
export function field<T>(name: string, value: unknown, isValid: (value: unknown) => value is T): T {
  if (!isValid(value)) throw new Refusal('bad_request', name);
  return value;
}

/** A whole number from 0, as JSON number or as decimal digits; undefined where it is absent. Throws bad_request. */
export function count(name: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  const number = typeof value === 'string' && /^(0|[1-9][0-9]{0,14})$/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < 0) throw new Refusal('bad_request', name);
  return number;
}
