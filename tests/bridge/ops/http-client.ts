/** Requests to a bridge wherever it listens: on a port, with TLS, on a unix socket. One connection for each. */
import { createHash, randomBytes } from 'node:crypto';
import { request as overHttp } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import { request as overTls } from 'node:https';

export interface Endpoint {
  readonly url: string;
  readonly ca?: Buffer;
  readonly socketPath?: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

interface Asked {
  readonly method?: string;
  readonly bearer?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export function ask(
  { url, ...rest }: Endpoint,
  path: string,
  { method = 'GET', bearer, body, headers: more }: Asked = {},
): Promise<Answer> {
  const headers = {
    ...more,
    ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
  };
  const send = url.startsWith('https:') ? overTls : overHttp;
  return new Promise((resolve, reject) => {
    const sent = send(url + path, { ...rest, method, headers, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
    });
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** Until the operator's numbers say so. */
export async function until(operator: Endpoint, line: RegExp): Promise<void> {
  const end = Date.now() + 20_000;
  for (;;) {
    const { text } = await ask(operator, '/metrics');
    if (line.test(text)) return;
    if (Date.now() > end) throw new Error(`in vain: ${String(line)} in\n${text}`);
  }
}

const hex = (bytes: number) => randomBytes(bytes).toString('hex');
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const sealed = () => ({ nonce: hex(12), ciphertext: randomBytes(30).toString('base64'), tag: hex(16) });

/** Somebody in a channel of its own, or of another's. */
export class Member {
  readonly #id = hex(16);
  readonly #token = hex(32);

  private constructor(
    readonly endpoint: Endpoint,
    readonly access: string,
  ) {}

  static async enter(
    endpoint: Endpoint,
    { access } = { access: sha256(`agentalk/1 access ${hex(32)}`) },
  ): Promise<Member> {
    const member = new Member(endpoint, access);
    await ask(endpoint, member.#path(), { method: 'PUT', bearer: access });
    const body = { participant_id: member.#id, token: member.#token, card: sealed() };
    const { status, text } = await ask(endpoint, member.#path('/join'), { method: 'POST', bearer: access, body });
    if (status !== 200) throw new Error(text);
    return member;
  }

  say(): Promise<Answer> {
    const body = { participant_id: this.#id, to: '*', ...sealed() };
    return ask(this.endpoint, this.#path('/send'), { method: 'POST', bearer: this.#token, body });
  }

  /** @param waitSeconds 0: what is there */
  poll(since: number, waitSeconds = 0): Promise<Answer> {
    const query = `?participant_id=${this.#id}&since=${since}&wait=${waitSeconds}`;
    return ask(this.endpoint, this.#path('/poll') + query, { bearer: this.#token });
  }

  #path(action = ''): string {
    return `/channels/${sha256(`agentalk/1 channel ${this.access}`).slice(0, 32)}${action}`;
  }
}
