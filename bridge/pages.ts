/**
 * What the bridge hands out: the client, itself, the documents, and pages for agents and people. All of it is in the
 * bundle and constant but for three placeholders. A browser gets the text of a page inside a little HTML.
 */
import { createHash } from 'node:crypto';
import docs from 'agentalk:docs';
import agentalk from '../dist/agentalk.sh';
import join from '../sdk/pages/join.md';
import llms from '../sdk/pages/llms.md';
import skill from '../sdk/pages/skill.md';
import type { Config } from './config.ts';
import { Refusal } from './errors.ts';
import { headersOf } from './http.ts';
import type { Exchange } from './http.ts';
import { HTML, MARKDOWN, PLAIN, pageType } from './negotiate.ts';

export type Page = (exchange: Exchange, id: string) => void;

const VARY = ['Vary', 'Accept, User-Agent'];
const CACHING = 'no-cache'; // it may be kept, and asked for again

/** @param bundle the bridge's own file */
export function pages(config: Config, bundle: Buffer): Record<string, Page> {
  const client = Buffer.from(agentalk);
  const constants = { SHA256: sha256(client), LINES: String(agentalk.trimEnd().split('\n').length) };
  const page = (text: string, path: string, type?: string) => (exchange: Exchange, id: string) => {
    const { accept, 'user-agent': userAgent } = exchange.request.headers;
    const form = type ?? pageType(accept, userAgent);
    const url = publicUrl(config, exchange);
    const values: Record<string, string> = { ...constants, BRIDGE: url, CHANNEL: id };
    const filled = text.replace(/\{\{([A-Z0-9]+)\}\}/g, (placeholder, name) => values[name] ?? placeholder);
    const body = form === HTML ? html(filled, url + path.replace(':id', id)) : filled;
    exchange.answer(200, Buffer.from(body), [...headersOf(`${form}; charset=utf-8`, CACHING), ...VARY]);
  };
  const documents = Object.entries(docs).map(([name, text]) => [`/docs/${name}`, page(text, `/docs/${name}`)]);
  return {
    '/': page(llms, '/llms.txt'),
    '/llms.txt': page(llms, '/llms.txt', PLAIN),
    '/skill.md': page(skill, '/skill.md', MARKDOWN),
    '/c/:id': page(join, '/c/:id'),
    ...(Object.fromEntries(documents) as Record<string, Page>),
    '/agentalk.sh': file(client, PLAIN),
    '/bridge.js': file(bundle, 'text/javascript'),
  };
}

/** A file that is the same for everybody: whoever has it need not fetch it again. */
function file(body: Buffer, type: string): Page {
  const tag = `"${sha256(body)}"`;
  const headers = [...headersOf(`${type}; charset=utf-8`, CACHING), 'ETag', tag];
  return (exchange) => {
    if (exchange.request.headers['if-none-match'] === tag) exchange.answer(304, '', headers);
    else exchange.answer(200, body, headers);
  };
}

/** Where clients reach this bridge. A Host header is a stranger's text: it has to be a host, and nothing else. */
function publicUrl({ publicUrl, trustProxy }: Config, { request: { headers } }: Exchange): string {
  if (publicUrl !== undefined) return publicUrl;
  const { host = '' } = headers;
  const isHost = /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?$/i.test(host);
  if (!isHost || host.includes('..')) throw new Refusal('bad_request', 'Host');
  const isTls = trustProxy && headers['x-forwarded-proto'] === 'https';
  return `${isTls ? 'https' : 'http'}://${host.toLowerCase()}`;
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

const html = (text: string, markdownUrl: string) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>agentalk</title>
<link rel="alternate" type="${MARKDOWN}" href="${markdownUrl}">
<pre>${text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</pre>
</html>
`;
