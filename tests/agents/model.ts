/**
 * A model server whose model is the test itself: the program under test asks, the test says what the model does, and
 * gets what the program answers. Only requests that offer the program's shell tool are the conversation; what a program
 * asks besides (titles, summaries, checks) gets a fixed text, and is kept in `besides`.
 */
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib';
import { spawnSync } from 'node:child_process';
import { DIALECTS } from './dialects.ts';
import type { Action, Asked, Json } from './dialects.ts';

/** What the program told the model since its last action. */
export interface Turn {
  /** The output of the tools, in order. */
  readonly results: readonly string[];
  /** What a user, or the program itself, said. */
  readonly user: string;
  readonly asked: Asked;
}

interface Waiting {
  readonly turn: Turn;
  readonly key: string;
  answer(action: Action): void;
}

const SIDE_ANSWER = 'A short answer to something else.';

export class Model {
  readonly besides: Asked[] = [];
  readonly #server: Server;
  readonly #arrived: Waiting[] = [];
  #wake: () => void = () => {};
  #current: Waiting | undefined;
  #last: { key: string; action: Action } | undefined;
  #ended: string | undefined;
  #count = 0;

  private constructor(private readonly shellTool: string) {
    this.#server = createServer((request, response) => void this.#handle(request, response));
    this.#server.requestTimeout = 0;
  }

  /** @param shellTool the name of the tool by which the program is known to be in its main conversation */
  static async start(shellTool: string): Promise<Model> {
    const model = new Model(shellTool);
    await new Promise<void>((resolve) => model.#server.listen(0, '127.0.0.1', resolve));
    return model;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What the program says next, unasked: its first request, or one after the model's turn was over. */
  async listen(ms = 60_000): Promise<Turn> {
    const end = Date.now() + ms;
    while (this.#arrived.length === 0) {
      if (this.#ended !== undefined) throw new Error(this.#ended);
      const left = end - Date.now();
      if (left <= 0) throw new Error(`the program asked the model nothing for ${ms / 1000} s`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#current = this.#arrived.shift();
    return this.#current!.turn;
  }

  /** Answers the request that is open. */
  act(action: Action): void {
    if (this.#current === undefined) throw new Error('the program has not asked for anything');
    this.#last = { key: this.#current.key, action };
    this.#current.answer(action);
    this.#current = undefined;
  }

  /** Ends all waiting: the program has ended. */
  end(reason: string): void {
    this.#ended = reason;
    this.#wake();
  }

  close(): void {
    this.end('the model was closed');
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = parse(await bytesOf(request));
    const [path = '', query = ''] = (request.url ?? '').split('?');
    const dialect = DIALECTS.find((each) => each.matches(path));
    if (request.method !== 'POST' || dialect === undefined) return answerOther(path, response);
    const asked = dialect.read(body, path);
    const action = await this.#decide(asked);
    const { whole, events } = dialect.write(action, String((this.#count += 1)));
    if (!asked.isStream || query.includes('alt=json')) {
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify(whole));
      return;
    }
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
    response.end(events.join(''));
  }

  #decide(asked: Asked): Promise<Action> | Action {
    if (!asked.tools.some(({ name }) => name === this.shellTool)) {
      this.besides.push(asked);
      return { text: SIDE_ANSWER };
    }
    const key = JSON.stringify(asked.messages);
    if (key === this.#last?.key) return this.#last.action; // the same once more: a retry
    return new Promise((answer) => {
      const from = asked.messages.findLastIndex(({ role }) => role === 'assistant') + 1;
      const fresh = asked.messages.slice(from);
      const results = fresh.filter(({ role }) => role === 'tool').map(({ text }) => text);
      const user = fresh.filter(({ role }) => role !== 'tool').map(({ text }) => text);
      this.#arrived.push({ turn: { results, user: user.join('\n'), asked }, key, answer });
      this.#wake();
    });
  }
}

/** What programs ask of a model server besides answers. */
function answerOther(path: string, response: ServerResponse): void {
  response.setHeader('Content-Type', 'application/json');
  if (/count_?tokens/i.test(path)) return void response.end('{"input_tokens":100,"totalTokens":100}');
  if (/\/models(\/[^/]+)?$/.test(path)) {
    const model = {
      id: 'scripted',
      object: 'model',
      type: 'model',
      display_name: 'scripted',
      created: 1,
      owned_by: 'tests',
    };
    return void response.end(JSON.stringify({ object: 'list', data: [model], models: [] }));
  }
  response.statusCode = 404;
  response.end('{"error":{"message":"not here","type":"not_found_error"}}');
}

async function bytesOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const bytes = Buffer.concat(chunks);
  switch (request.headers['content-encoding']) {
    case 'gzip':
      return gunzipSync(bytes);
    case 'br':
      return brotliDecompressSync(bytes);
    case 'deflate':
      return inflateSync(bytes);
    case 'zstd': // Node 20 has none of its own
      return spawnSync('zstd', ['-dc'], { input: bytes, maxBuffer: 1 << 28 }).stdout;
    default:
      return bytes;
  }
}

function parse(bytes: Buffer): Json {
  try {
    return JSON.parse(bytes.toString() || '{}') as Json;
  } catch {
    return {};
  }
}
