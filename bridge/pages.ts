/**
 * What the bridge hands out: the client, itself, the documents, and pages for agents and people. All of it is in the
 * bundle and constant but for a few placeholders. A browser gets the HTML that there is for a path.
 */
import { createHash } from 'node:crypto';
import docs from 'agentalk:docs';
import agentalk from '../dist/agentalk.sh';
import launcher from '../sdk/launcher.sh';
import join from '../sdk/agent-pages/join.md';
import llms from '../sdk/agent-pages/llms.md';
import skill from '../sdk/agent-pages/skill.md';
import htmlPages from '../sdk/web/html-pages.ts';
import type { Config } from './ops/config.ts';
import { Refusal } from './errors.ts';
import { headersOf, type Exchange } from './http.ts';
import { HTML, MARKDOWN, PLAIN, pageType } from './content-type.ts';

export type Page = (exchange: Exchange, id: string) => void;

/** @param bundle the bridge's own file */
export function pages(config: Config, bundle: Buffer): Record<string, Page> {
  const client = Buffer.from(agentalk);
  const effects = agentalk.slice(0, agentalk.indexOf('\n# ==== Part 2'));
  const constants = { SHA256: sha256(client), PART: String(effects.split('\n').length) };
  const page = (text: string, path: string, type?: string): Page => {
    const view = htmlPages[path];
    const asText = lazily(() => templateOf(text, constants));
    const asHtml = lazily(() => templateOf(view?.html ?? text, { ...constants, ...view?.fields }));
    return (exchange, id) => {
      const { accept, 'user-agent': userAgent } = exchange.request.headers;
      const form = type ?? pageType(accept, userAgent);
      const isHtml = form === HTML && view !== undefined;
      const body = fill(isHtml ? asHtml() : asText(), { BRIDGE: publicUrl(config, exchange), CHANNEL: id });
      const headers = utf8(form === HTML && !isHtml ? PLAIN : form, isHtml ? view.policy : '');
      exchange.answer(200, body, [...headers, 'Vary', 'Accept, User-Agent'], SHARED_BYTES);
    };
  };
  const documents = Object.entries(docs).flatMap(([name, text]) =>
    [`/docs/${name}`, `/docs/${name.slice(0, -3)}`].map((path) => [path, page(text, path)] as const),
  );
  const start = Buffer.from(launcher);
  const sums = `${sha256(bundle)}  bridge.js\n${sha256(client)}  agentalk.sh\n${sha256(start)}  agentalk\n`;
  return {
    '/': page(llms, '/'),
    '/llms.txt': page(llms, '/llms.txt', PLAIN),
    '/skill.md': page(skill, '/skill.md', MARKDOWN),
    '/c/:id': page(join, '/c/:id'),
    '/c/:id%23': damagedLink,
    ...Object.fromEntries(documents),
    '/agentalk.sh': (exchange) => exchange.answer(200, client, utf8(PLAIN), SHARED_BYTES),
    '/agentalk': (exchange) => exchange.answer(200, start, utf8(PLAIN), SHARED_BYTES),
    '/bridge.js': (exchange) => exchange.answer(200, bundle, utf8('text/javascript'), SHARED_BYTES),
    '/SHA256SUMS': (exchange) => exchange.answer(200, sums, utf8(PLAIN)),
  };
}

/** A join link whose # was encoded on its way: what follows it came here, and has been in who knows whose log. */
const DAMAGED = [
  'This link is damaged',
  'Its # became %23, so this bridge cannot open the channel.',
  'A browser and an agent keep what follows # to themselves. This time it was sent, and may be in a log by now.',
  'Do not use this link again, not in its right form either. Ask whoever gave it to you for a new channel and its link.',
  'That link has a # in it: copy it as it is, in plain text.',
] as const;

function damagedLink(exchange: Exchange): void {
  const { accept, 'user-agent': userAgent } = exchange.request.headers;
  const [title, ...sentences] = DAMAGED;
  const isHtml = pageType(accept, userAgent) === HTML;
  const body = isHtml
    ? `<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
      `<title>${title}</title>\n<h1>${title}</h1>\n${sentences.map((each) => `<p>${each}</p>\n`).join('')}</html>\n`
    : `# ${title}\n\n${sentences.join('\n')}\n`;
  const headers = headersOf(`${isHtml ? HTML : MARKDOWN}; charset=utf-8`);
  exchange.answer(404, body, [...headers, 'Agentalk-Error', 'not_found', 'Vary', 'Accept, User-Agent']);
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** The most that an answer with a page keeps in memory until it is read: all share the page, and TLS copies a part. */
const SHARED_BYTES = 64 * 1024;

/** A text cut at what differs from answer to answer: in turn bytes, which all answers share, and a name. */
type Template = readonly (Buffer | string)[];
type Values = Readonly<Record<string, string>>;
const PLACEHOLDER = /\{\{([A-Z0-9]+)\}\}/;

function templateOf(text: string, constants: Values): Template {
  const template: (Buffer | string)[] = [];
  let constant = '';
  text.split(PLACEHOLDER).forEach((part, i) => {
    if (i % 2 === 0) constant += part;
    else if (constants[part] !== undefined) constant += constants[part];
    else {
      template.push(Buffer.from(constant), part);
      constant = '';
    }
  });
  return [...template, Buffer.from(constant)];
}

function fill(template: Template, values: Values): Buffer[] {
  const filled = new Map(Object.entries(values).map(([name, value]) => [name, Buffer.from(value)]));
  return template.map((part) => (typeof part === 'string' ? (filled.get(part) ?? Buffer.from(`{{${part}}}`)) : part));
}

function lazily<T extends object>(make: () => T): () => T {
  let made: T | undefined;
  return () => (made ??= make());
}

/** It may be kept, and asked for again. */
const utf8 = (type: string, policy = '') =>
  headersOf(`${type}; charset=utf-8`, 'no-cache').map((word) => word.replace('base-uri', `${policy}base-uri`));

/** Where clients reach this bridge. A Host header is a stranger's text: it has to be a host, and nothing else. */
function publicUrl({ publicUrl, proxies, tls }: Config, { request: { headers, socket } }: Exchange): string {
  if (publicUrl !== undefined) return publicUrl;
  const { host = '' } = headers;
  const isHost = /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?$/i.test(host);
  if (!isHost || host.includes('..')) throw new Refusal('bad_request', 'Host');
  const isTls = tls || (headers['x-forwarded-proto'] === 'https' && proxies.includes(socket));
  return `${isTls ? 'https' : 'http'}://${host.toLowerCase()}`;
}
