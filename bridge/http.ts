/**
 * HTTP: reads requests strictly, writes responses in JSON and as text, with their headers. Everything in a request comes
 * from a stranger, and nothing of it is repeated in a response. This module knows no channel.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { BLOCK_BYTES, freeChunk, giveBack, takeBlock } from './blocks.ts';
import { ApiError } from './errors.ts';
import type { Holder, InFlight } from './in-flight.ts';
import { preferred } from './content-type.ts';

export type JsonObject = Readonly<Record<string, unknown>>;
export type Headers = readonly string[]; // name, value, name, value, …

/** For each response: a page of the bridge loads nothing from anywhere, can't be framed and sends no Referer. */
export const securityHeaders = (type: string, caching = 'no-store'): Headers => [
  ...['X-Content-Type-Options', 'nosniff', 'Referrer-Policy', 'no-referrer', 'X-Frame-Options', 'DENY'],
  ...['Content-Security-Policy', "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"],
  ...['Content-Type', type, 'Cache-Control', caching],
];
export const TEXT = securityHeaders('text/plain; charset=utf-8');
export const BYTES = securityHeaders('application/octet-stream');
const JSON_HEADERS = securityHeaders('application/json');

/**
 * The responses of one turn of the event loop. They are written when all its requests have been read, so that a client
 * process wakes up once for many of them. A busy bridge answers half as many requests again this way.
 */
const pendingWrites: (() => void)[] = [];
const flushWrites = () => pendingWrites.splice(0).forEach((write) => write());

const MAX_DISCARDED_BYTES = 2 * 1024 * 1024;
/** Smaller responses are not counted: a connection has one at a time, and the system's buffer takes it at once. */
const SMALL_BYTES = 4 * 1024;

/** Bytes, or a string of ASCII. */
export type Part = string | Buffer;
export type Body = Part | readonly Part[];
const partsOf = (body: Body): readonly Part[] => (typeof body === 'string' || Buffer.isBuffer(body) ? [body] : body);
const lengthOf = (body: Body): number => partsOf(body).reduce((sum, { length }) => sum + length, 0);

/** What all requests share. */
export interface Transport {
  readonly writeTimeoutMs: number;
  readonly inFlight: InFlight;
  /** The address that counts as one client. */
  clientAddress(request: IncomingMessage): string;
}

/** One request and its response. */
export class RequestContext implements Holder {
  readonly path: string;
  readonly #query: string; // undecoded
  readonly wantsText: boolean;
  closeAfterResponse = false;
  #client: string | undefined;
  #heldBytes = 0;

  constructor(
    readonly request: IncomingMessage,
    readonly response: ServerResponse,
    readonly transport: Transport,
  ) {
    const { url = '' } = request;
    const mark = url.indexOf('?');
    this.path = mark < 0 ? url : url.slice(0, mark);
    this.#query = mark < 0 ? '' : url.slice(mark + 1);
    this.wantsText = preferred(request.headers.accept ?? '', ['application/json', 'text/plain']) === 'text/plain';
  }

  /** The address that the request comes from, or of IPv6 its /64. */
  get client(): string {
    this.#client ??= this.transport.clientAddress(this.request);
    return this.#client;
  }

  /** The first parameter of that name in the query, decoded. */
  queryParam(name: string): string | undefined {
    if (this.#query.includes('%') || this.#query.includes('+')) {
      return new URLSearchParams(this.#query).get(name) ?? undefined;
    }
    for (let start = 0; start < this.#query.length;) {
      const next = this.#query.indexOf('&', start);
      const end = next < 0 ? this.#query.length : next;
      const isNamed = this.#query.startsWith(name, start);
      if (isNamed && start + name.length === end) return '';
      if (isNamed && this.#query[start + name.length] === '=') return this.#query.slice(start + name.length + 1, end);
      start = end + 1;
    }
    return undefined;
  }

  /** Throws no_token. */
  bearerToken(): string {
    const { authorization = '' } = this.request.headers;
    if (!/^bearer [!-~]+ *$/i.test(authorization)) throw new ApiError('no_token');
    return authorization.slice('Bearer '.length).trimEnd();
  }

  /** The length of the body as declared. Throws bad_request if none is, or it is 0. */
  contentLength(): number {
    const length = Number(this.request.headers['content-length'] ?? 0); // node has checked that it is a number
    if (length === 0) throw new ApiError('bad_request', 'Content-Length');
    return length;
  }

  /**
   * Counts the memory that this request takes from now on, until the next call or until its response was read. To be
   * called before the memory is taken. Throws too_many_requests, bridge_full.
   */
  hold(bytes: number): void {
    if (bytes === this.#heldBytes || (this.#heldBytes === 0 && bytes <= SMALL_BYTES)) return;
    if (bytes > 0 && this.response.closed) return;
    this.transport.inFlight.hold(this.client, this, bytes);
    if (this.#heldBytes === 0) this.response.once('close', () => this.hold(0));
    this.#heldBytes = bytes;
  }

  /**
   * Counts what node:http reads ahead of the body while the request waits for its turn on its connection.
   * Throws too_many_requests, bridge_full.
   */
  holdWaitingBody(): void {
    this.hold(2 * Math.min(this.declaredBodyBytes(), BLOCK_BYTES)); // twice, as in readJsonBody()
  }

  /** Ends the connection of a client that does not read: the memory is needed. */
  abandon(): void {
    this.#heldBytes = 0;
    this.request.socket.destroy();
  }

  /**
   * Throws what hold() does, before anything is written.
   *
   * @param headers those of the form that the client asked for if left out
   * @param heldBytes how much memory the body takes until it is read, if it shares some of it
   */
  respond(
    status: number,
    body: Body,
    headers = this.wantsText ? TEXT : JSON_HEADERS,
    heldBytes = lengthOf(body),
  ): void {
    const isHead = this.request.method === 'HEAD';
    const bytes = lengthOf(body);
    this.hold(isHead ? 0 : Math.min(heldBytes, bytes));
    const all = [...headers, 'Content-Length', String(bytes)];
    if (this.closeAfterResponse || this.#hasUnreadBody()) all.push('Connection', 'close');
    this.response.writeHead(status, all);
    const write = () => {
      if (isHead) this.response.end();
      else this.#write(body);
      if (this.response.writableLength > 0) this.request.socket.setTimeout(this.transport.writeTimeoutMs); // until it reads on
    };
    if (pendingWrites.push(write) === 1) setImmediate(flushWrites);
  }

  #write(body: Body): void {
    const { response } = this;
    const [first, second] = partsOf(body);
    if (typeof first === 'string' && second === undefined && first.length <= BLOCK_BYTES) {
      response.end(first, 'latin1');
      return;
    }
    const borrowed: Buffer[] = [];
    const blocks = blocksOf(body, borrowed);
    if (borrowed.length > 0) response.once('close', () => giveBack(borrowed));
    const isCopied = 'encrypted' in this.request.socket; // TLS
    let next = 0;
    const writeOn = (): void => {
      response.cork();
      let isTaken = true;
      while (next < blocks.length && (isTaken || !isCopied)) {
        isTaken = response.write(blocks[next]);
        next++;
      }
      if (next === blocks.length) {
        response.end();
        return;
      }
      response.once('drain', writeOn);
      response.uncork();
    };
    writeOn();
  }

  /**
   * Whether the connection must end with the response because more of the request's body would come. The rest of a PUT
   * is discarded if it is short: a client whose connection closes while it sends a blob can lose the response.
   */
  #hasUnreadBody(): boolean {
    const { complete, method } = this.request;
    if (complete) return false;
    return this.declaredBodyBytes() > (method === 'PUT' ? MAX_DISCARDED_BYTES : 0);
  }

  /** To be called after the handler: a body that it does not read is discarded as it comes, and never stored. */
  discardUnreadBody(): void {
    const { request } = this;
    if (this.declaredBodyBytes() > 0 && request.listenerCount('data') === 0) request.on('data', freeChunk);
  }

  /** Infinity if the request says that there is a body, but not how long it is. */
  declaredBodyBytes(): number {
    const { 'content-length': length = '0', 'transfer-encoding': coding } = this.request.headers;
    return coding === undefined ? Number(length) : Infinity;
  }

  respondError({ code, status, message, hint, retryAfterSeconds }: ApiError, more: Headers = []): void {
    const headers = [...(this.wantsText ? TEXT : JSON_HEADERS), 'Agentalk-Error', code, ...more];
    if (retryAfterSeconds !== undefined) headers.push('Retry-After', String(retryAfterSeconds));
    if (status === 401) headers.push('WWW-Authenticate', 'Bearer');
    const json = JSON.stringify({ error: { code, message, hint } });
    this.respond(status, this.wantsText ? `error ${code} ${message}\nhint ${hint}\n` : json, headers);
  }
}

/**
 * The pieces of a body to write: Buffers are shared, strings become bytes.
 *
 * @param borrowed gets the blocks to give back when everything was written
 */
function blocksOf(body: Body, borrowed: Buffer[]): Buffer[] {
  const blocks: Buffer[] = [];
  for (const part of partsOf(body)) {
    if (typeof part === 'string' && part.length <= SMALL_BYTES) {
      blocks.push(Buffer.from(part, 'latin1'));
      continue;
    }
    for (let start = 0; start < part.length; start += BLOCK_BYTES) {
      if (typeof part !== 'string') {
        blocks.push(part.subarray(start, start + BLOCK_BYTES));
        continue;
      }
      const block = takeBlock();
      borrowed.push(block);
      blocks.push(block.subarray(0, block.write(part.slice(start, start + BLOCK_BYTES), 'latin1')));
    }
  }
  return blocks;
}

/**
 * Reads a JSON object. Only application/json: a web page elsewhere can't post that without asking first, and there is
 * no CORS here. Bytes are taken as Latin-1: all that is stored is ASCII, and checked. Throws not_json and too_large;
 * later errors, of `done` too, are passed to `fail`.
 */
export function readJsonBody(
  context: RequestContext,
  maxBytes: number,
  timeoutMs: number,
  done: (fields: JsonObject) => void,
  fail: (error: unknown) => void,
): void {
  const { 'content-type': type = '', 'content-length': length = '0' } = context.request.headers;
  if (!/^application\/json *(;|$)/i.test(type)) throw new ApiError('not_json');
  if (Number(length) > maxBytes) throw new ApiError('too_large');
  if (Number(length) > SMALL_BYTES) context.transport.inFlight.check(context.client, 2 * Number(length));
  const body = new BodyBuffer(Number(length));
  readBody(context.request, timeoutMs, {
    take(chunk) {
      if (body.bytes + chunk.length > maxBytes) throw new ApiError('too_large');
      context.hold(2 * body.allocatedBytesWith(chunk)); // twice, because it is copied when it is parsed
      body.append(chunk);
    },
    end() {
      const text = body.toString();
      body.release();
      context.hold(0);
      done(parse(text));
    },
    fail(error) {
      body.release();
      context.hold(0);
      fail(error);
    },
    close: () => body.release(),
  });
}

/** A body as it comes. One that comes in a single chunk is not copied; others are, into memory that is used again. */
class BodyBuffer {
  #whole: Buffer | undefined;
  #small: Buffer | undefined;
  readonly #blocks: Buffer[] = [];
  bytes = 0;

  /** @param declaredBytes 0 if the length is not known */
  constructor(readonly declaredBytes: number) {}

  /** How much memory it takes when this chunk is in it, too. */
  allocatedBytesWith(chunk: Buffer): number {
    const bytes = this.bytes + chunk.length;
    if (bytes <= SMALL_BYTES || chunk.length === this.declaredBytes) return bytes;
    return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
  }

  append(chunk: Buffer): void {
    if (chunk.length === this.declaredBytes) {
      this.#whole = chunk;
      this.bytes = chunk.length;
      return;
    }
    if (this.bytes + chunk.length <= SMALL_BYTES) {
      this.#small ??= Buffer.allocUnsafeSlow(SMALL_BYTES);
      this.bytes += chunk.copy(this.#small, this.bytes);
    } else {
      this.#appendToBlocks(chunk);
    }
    freeChunk(chunk);
  }

  #appendToBlocks(chunk: Buffer): void {
    if (this.#blocks.length === 0) this.#blocks.push(takeBlock());
    if (this.#small) this.#small.copy(this.#blocks[0]!, 0, 0, this.bytes); // pushed in the line before
    this.#small = undefined;
    for (let offset = 0; offset < chunk.length;) {
      const n = Math.floor(this.bytes / BLOCK_BYTES);
      if (n === this.#blocks.length) this.#blocks.push(takeBlock());
      const copied = chunk.copy(this.#blocks[n]!, this.bytes % BLOCK_BYTES, offset); // pushed in the line before
      this.bytes += copied;
      offset += copied;
    }
  }

  toString(): string {
    const single = this.#whole ?? this.#small;
    if (single) return single.toString('latin1', 0, this.bytes);
    let text = '';
    for (const [n, block] of this.#blocks.entries()) {
      text += block.toString('latin1', 0, Math.min(BLOCK_BYTES, this.bytes - n * BLOCK_BYTES));
    }
    return text;
  }

  /** Gives back its memory; it is empty afterwards. */
  release(): void {
    if (this.#whole && this.bytes > SMALL_BYTES) freeChunk(this.#whole);
    this.#whole = undefined;
    this.#small = undefined;
    this.bytes = 0;
    giveBack(this.#blocks.splice(0));
  }
}

/** What reads a body. */
export interface BodyReader {
  /** Takes the next chunk, and frees it. */
  take(chunk: Buffer): void;
  /** All chunks have come. */
  end(): void;
  /** What take() or end() threw, or bad_request with status 408. The rest of the body is discarded. */
  fail(error: unknown): void;
  /** The request is over, or its client has gone. */
  close(): void;
}

/** Gives the body of a request to a reader, for `timeoutMs` at most. */
export function readBody(request: IncomingMessage, timeoutMs: number, reader: BodyReader): void {
  let isOver = false;
  const fail = (error: unknown) => {
    isOver = true;
    clearTimeout(timer);
    reader.fail(error);
  };
  const timer = setTimeout(() => fail(ApiError.timeout()), timeoutMs);
  request.on('data', (chunk: Buffer) => {
    if (isOver) {
      freeChunk(chunk);
      return;
    }
    try {
      reader.take(chunk);
    } catch (error) {
      fail(error);
    }
  });
  request.on('end', () => {
    if (isOver) return;
    isOver = true;
    clearTimeout(timer);
    try {
      reader.end();
    } catch (error) {
      reader.fail(error);
    }
  });
  request.on('close', () => {
    isOver = true;
    clearTimeout(timer);
    reader.close();
  });
}

function parse(text: string): JsonObject {
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch {
    // What is no JSON is no object either.
  }
  throw new ApiError('bad_request', 'The JSON object');
}

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A checked field of a body or a query. Throws bad_request with the field's name. */
export function requireField<T>(name: string, value: unknown, isValid: (value: unknown) => value is T): T {
  if (!isValid(value)) throw new ApiError('bad_request', name);
  return value;
}

/** A whole number from 0, in JSON or as decimal digits; undefined where there is none. Throws bad_request. */
export function parseCount(name: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  const number = typeof value === 'string' && /^(0|[1-9][0-9]{0,14})$/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < 0)
    throw new ApiError('bad_request', name);
  return number;
}
