/**
 * What the bridge hands out: the client, itself, and the pages for agents and people. All of it is in the bundle and
 * constant, but for three placeholders. A browser gets the text of a page inside a little HTML.
 */
import { createHash } from 'node:crypto';
import agentalk from '../dist/agentalk.sh';
import join from '../sdk/pages/join.md';
import llms from '../sdk/pages/llms.md';
import { Refusal } from './errors.ts';
import type { Exchange } from './http.ts';
import type { ChannelId } from './ids.ts';
import { HTML, MARKDOWN, PLAIN, pageType } from './negotiate.ts';

export interface Address {
  /** The bridge's own public origin; without it the Host header is taken, once it is strictly checked. */
  readonly origin: string | undefined;
  readonly basePath: string;
  /** Whether X-Forwarded-Proto comes from a proxy of ours. */
  readonly trustProxy: boolean;
}

const SCRIPT = 'text/plain; charset=utf-8';
const JAVASCRIPT = 'text/javascript; charset=utf-8';

export class Pages {
  readonly #address: Address;
  readonly #client = file(Buffer.from(agentalk), SCRIPT);
  readonly #bridge: ReturnType<typeof file>;

  constructor(address: Address, bundle: Buffer) {
    this.#address = address;
    this.#bridge = file(bundle, JAVASCRIPT);
  }

  client = (exchange: Exchange) => this.#client(exchange);
  bridge = (exchange: Exchange) => this.#bridge(exchange);
  guide = (exchange: Exchange) => this.#page(exchange, llms, '/llms.txt');
  join = (exchange: Exchange, id: ChannelId) => this.#page(exchange, join, `/c/${id}`, id);
  /** The guide again, under the name that agents know: always text. */
  llms = (exchange: Exchange) => this.#page(exchange, llms, '/llms.txt', '', PLAIN);

  #page(exchange: Exchange, text: string, path: string, id = '', type?: string): void {
    const { accept, 'user-agent': userAgent } = exchange.request.headers;
    const form = type ?? pageType(accept, userAgent);
    const bridge = this.#url(exchange);
    const values: Record<string, string> = { BRIDGE: bridge, CHANNEL: id, SHA256: CLIENT_SHA256 };
    const filled = text.replace(/\{\{([A-Z0-9]+)\}\}/g, (placeholder, name) => values[name] ?? placeholder);
    const body = form === HTML ? html(filled, bridge + path) : filled;
    const caching = ['Cache-Control', 'no-cache', 'Vary', 'Accept, User-Agent'];
    exchange.hand(Buffer.from(body), ['Content-Type', `${form}; charset=utf-8`, ...caching]);
  }

  /** Where clients reach this bridge. A Host header is a stranger's text: it has to look like a host. */
  #url({ request: { headers } }: Exchange): string {
    const { origin, basePath, trustProxy } = this.#address;
    if (origin !== undefined) return origin + basePath;
    const host = headers.host ?? '';
    if (!isHost(host)) throw new Refusal('bad_request', 'Host');
    const isTls = trustProxy && headers['x-forwarded-proto'] === 'https';
    return `${isTls ? 'https' : 'http'}://${host.toLowerCase()}`;
  }
}

/** A name of letters, digits, dots and hyphens, or an address in brackets; a port. */
export const isHost = (host: string) =>
  host.length <= 255 &&
  /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\.?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?$/i.test(
    host,
  );

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
export const CLIENT_SHA256 = sha256(Buffer.from(agentalk));

/** A file that is the same for everybody: whoever has it need not fetch it again. */
function file(body: Buffer, type: string): (exchange: Exchange) => void {
  const tag = `"${sha256(body)}"`;
  const caching = ['Cache-Control', 'no-cache', 'ETag', tag];
  return (exchange) => {
    const isKnown = exchange.request.headers['if-none-match'] === tag;
    if (isKnown) exchange.hand(Buffer.alloc(0), caching, 304);
    else exchange.hand(body, ['Content-Type', type, ...caching]);
  };
}

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

const html = (text: string, markdownUrl: string) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>agentalk</title>
<link rel="alternate" type="${MARKDOWN}" href="${markdownUrl}">
<pre>${text.replace(/[&<>"]/g, (character) => ESCAPES[character] ?? '')}</pre>
</html>
`;
