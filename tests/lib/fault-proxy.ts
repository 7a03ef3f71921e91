/**
 * A network that fails on purpose: an HTTP proxy between clients and a bridge. Each client comes with a name as first
 * part of its path, http://127.0.0.1:PORT/laptop, which the bridge never sees; what happens to its n-th request of a
 * kind is decided by a Plan, so that a seed gives the same faults again.
 */
import { createServer, request as ask } from 'node:http';
import type { ClientRequest, IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { Random } from './random.ts';

/** What becomes of one request. */
export type Fault =
  | { readonly what: 'pass' }
  /** The connection ends before the bridge hears of it. */
  | { readonly what: 'drop' }
  /** The bridge has answered, and the connection ends without a byte of that. */
  | { readonly what: 'lose' }
  /** Of the answer only this part comes, then the connection ends. */
  | { readonly what: 'cut'; readonly part: number }
  /** The same, but the answer claims to be whole: its length is that of the part. */
  | { readonly what: 'clip'; readonly part: number }
  /** It waits before the bridge hears of it, and again before the client hears. */
  | { readonly what: 'delay'; readonly ms: number }
  /** Something in front of the bridge answers. */
  | { readonly what: 'refuse'; readonly status: number; readonly retryAfter?: number }
  /** The bridge gets it twice, one after the other; the client has the second answer. */
  | { readonly what: 'repeat' }
  /** The bridge gets it once more when the client has long had its answer. */
  | { readonly what: 'echo'; readonly ms: number };

/** The n-th request (from 1) of a kind by a client. Kinds: create, status, join, send, poll, leave, blobs, page. */
export interface Asked {
  readonly client: string;
  readonly kind: string;
  readonly n: number;
  readonly method: string;
  /** With its query, without the client's name. */
  readonly path: string;
  readonly body: Buffer;
}

export type Plan = (asked: Asked) => Fault;

const PASS: Fault = { what: 'pass' };
export const noFaults: Plan = () => PASS;

/** Faults for a share of all requests, each as its seed, client, kind and number have it. */
export function randomFaults(seed: string | number, share: number): Plan {
  return ({ client, kind, n }) => {
    const random = new Random(seed, client, kind, n);
    if (!random.isLess(share)) return PASS;
    const what = random.pick(['drop', 'lose', 'lose', 'cut', 'clip', 'delay', 'delay', 'refuse', 'repeat', 'echo']);
    const part = random.next();
    const status = random.pick([429, 500, 502, 503, 504]);
    const ms = random.between(20, 1500);
    switch (what) {
      case 'cut':
      case 'clip':
        return { what, part };
      case 'delay':
      case 'echo':
        return { what, ms };
      case 'refuse':
        return status === 429 || status === 503 ? { what, status, retryAfter: 1 } : { what, status };
      default:
        return { what: what as 'drop' | 'lose' | 'repeat' };
    }
  };
}

/** `headers` are names and values in turn, as they came. */
export interface Answer {
  readonly status: number;
  readonly headers: readonly string[];
  readonly body: Buffer;
}

export class FaultProxy {
  plan: Plan;
  /** Which bridge gets the next request of a client; undefined: nobody listens there. */
  target: (client: string) => string | undefined;
  /** May change the path that the bridge is asked for. */
  translate: (asked: Asked) => string = ({ path }) => path;
  /** May answer in the bridge's place, which then hears nothing of it: true if it does. */
  answerInstead: (asked: Asked, response: ServerResponse) => boolean = () => false;
  /** May change what the bridge answers. */
  rewrite: (asked: Asked, body: Buffer) => Buffer = (_, body) => body;
  /** May change all of it, after that. */
  alter: (asked: Asked, answer: Answer) => Answer = (_, answer) => answer;
  /** How often each fate came. */
  readonly counts: Record<string, number> = {};
  /** How many requests of each client and kind came. */
  readonly asked = new Map<string, number>();
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #upstream = new Set<ClientRequest>();
  readonly #timers = new Set<NodeJS.Timeout>();

  private constructor(target: string, plan: Plan) {
    this.target = () => target;
    this.plan = plan;
    this.#server = createServer((request, response) => void this.#handle(request, response));
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => {});
    });
  }

  static async start(target: string, plan: Plan = noFaults): Promise<FaultProxy> {
    const faultProxy = new FaultProxy(target, plan);
    await new Promise<void>((resolve) => faultProxy.#server.listen(0, '127.0.0.1', resolve));
    return faultProxy;
  }

  /** The bridge's address for a client of this name. */
  urlFor(client: string): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/${client}`;
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    for (const request of this.#upstream) request.destroy();
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Ends every connection there is now. */
  break(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, client = '', path = ''] = /^\/([^/]*)(\/.*)$/.exec(request.url ?? '') ?? [];
    const drop = () => request.socket.destroy();
    try {
      const body = await bodyOf(request);
      const asked = this.#count(client, request.method ?? '', path, body);
      const fate = this.plan(asked);
      const note = `${fate.what}`;
      this.counts[note] = (this.counts[note] ?? 0) + 1;
      if (this.answerInstead(asked, response)) return;
      if (fate.what === 'drop') return void drop();
      if (fate.what === 'refuse') return refuse(response, fate);
      if (fate.what === 'delay') await this.#pause(fate.ms);
      const target = this.translate(asked);
      const forward = () => this.#forward(client, request, target, body, response);
      let answer = await forward();
      if (fate.what === 'repeat' && asked.kind !== 'poll') answer = await forward();
      if (fate.what === 'lose') return void drop();
      if (fate.what === 'delay') await this.#pause(fate.ms);
      if (fate.what === 'echo') {
        void this.#pause(fate.ms)
          .then(() => this.#forward(client, request, target.replace(/wait=\d+/, 'wait=0'), body, undefined))
          .catch(() => {});
      }
      send(response, this.alter(asked, { ...answer, body: this.rewrite(asked, answer.body) }), fate, drop);
    } catch {
      drop();
    }
  }

  #count(client: string, method: string, path: string, body: Buffer): Asked {
    const kind = kindOf(method, path);
    const key = `${client} ${kind}`;
    const n = (this.asked.get(key) ?? 0) + 1;
    this.asked.set(key, n);
    return { client, kind, n, method, path, body };
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        resolve();
      }, ms);
      this.#timers.add(timer);
    });
  }

  /** A client that hangs up hangs up on the bridge, too: who listens and who doesn't has to stay true. */
  #forward(
    client: string,
    request: IncomingMessage,
    path: string,
    body: Buffer,
    response: ServerResponse | undefined,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const target = this.target(client);
      if (target === undefined || response?.destroyed) return reject(new Error('nobody there'));
      const { connection: _, host: __, 'content-length': ___, ...headers } = request.headers;
      const length = body.length > 0 ? { 'content-length': String(body.length) } : {};
      const options = { method: request.method, headers: { ...headers, ...length }, agent: false };
      const upstream = ask(target + path, options, (answer) => {
        bodyOf(answer).then(
          (bytes) => resolve({ status: answer.statusCode ?? 0, headers: answer.rawHeaders, body: bytes }),
          reject,
        );
      });
      const hangUp = () => upstream.destroy();
      this.#upstream.add(upstream);
      upstream.on('close', () => {
        this.#upstream.delete(upstream);
        response?.off('close', hangUp);
      });
      upstream.on('error', reject);
      response?.on('close', hangUp);
      upstream.end(body);
    });
  }
}

function kindOf(method: string, path: string): string {
  const [, action] = /^\/channels\/[0-9a-f]+(?:\/([a-z]+))?/.exec(path) ?? [, 'page'];
  return action ?? (method === 'PUT' ? 'create' : 'status');
}

function bodyOf(stream: IncomingMessage): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => resolve(Buffer.concat(chunks)));
    stream.on('error', reject);
    stream.on('close', () => reject(new Error('cut off')));
  });
}

function refuse(response: ServerResponse, { status, retryAfter }: Fault & { what: 'refuse' }): void {
  const later = retryAfter === undefined ? {} : { 'Retry-After': String(retryAfter) };
  response.writeHead(status, { 'Content-Type': 'text/html', ...later }).end('<html><h1>No.</h1></html>');
}

function send(response: ServerResponse, { status, headers, body }: Answer, fate: Fault, drop: () => void): void {
  const own = headers.flatMap((name, i) =>
    i % 2 === 0 && !/^(connection|keep-alive|content-length|transfer-encoding)$/i.test(name)
      ? [name, headers[i + 1] ?? '']
      : [],
  );
  const part = 'part' in fate ? body.subarray(0, Math.floor(body.length * fate.part)) : body;
  const length = fate.what === 'cut' ? body.length : part.length;
  response.writeHead(status, [...own, 'Content-Length', String(length), 'Connection', 'close']);
  if (fate.what === 'cut') response.write(part, drop);
  else response.end(part);
}
