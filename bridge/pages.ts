/**
 * Everything that the bridge serves: the client, itself, the documents, and pages for agents and people. All of it is in
 * the bundle and constant, except for a few placeholders. A browser gets HTML where a path has some.
 */
import { createHash } from 'node:crypto';
import docs from 'agentalk:docs';
import agentalk from '../dist/agentalk.sh';
import launcher from '../sdk/launcher.sh';
import join from '../sdk/agent-pages/join.md';
import llms from '../sdk/agent-pages/llms.md';
import skill from '../sdk/agent-pages/skill.md';
import htmlPages from '../sdk/web/html-pages.ts';
import { HTML, MARKDOWN, PLAIN, pageType } from './content-type.ts';
import type { BridgeOptions } from './dependencies.ts';
import { ApiError } from './errors.ts';
import { securityHeaders, type RequestContext } from './http.ts';

/** @param id of the channel, where the path has one */
export type PageHandler = (context: RequestContext, id: string) => void;

/** What pages need to know of the bridge. */
export type PageOptions = Pick<BridgeOptions, 'bundle' | 'publicUrl' | 'isHttps'>;

/** The pages by path. */
export function pages(options: PageOptions): Record<string, PageHandler> {
  const client = Buffer.from(agentalk);
  const toRead = agentalk.slice(0, agentalk.indexOf('\n\n# ---- ', agentalk.indexOf('\n# ==== Part 2'))); // with its check
  const constants = { SHA256: sha256(client), PART: String(toRead.split('\n').length) };
  const page = (text: string, path: string, fixedType?: string): PageHandler => {
    const view = htmlPages[path];
    const asText = lazily(() => templateOf(text, constants));
    const asHtml = lazily(() => templateOf(view?.html ?? text, { ...constants, ...view?.fields }));
    return (context, id) => {
      const { accept, 'user-agent': userAgent } = context.request.headers;
      const type = fixedType ?? pageType(accept, userAgent);
      const isHtml = type === HTML && view !== undefined;
      const values = { BRIDGE: publicUrlOf(options, context), CHANNEL: id };
      const body = renderTemplate(isHtml ? asHtml() : asText(), values);
      const headers = pageHeaders(type === HTML && !isHtml ? PLAIN : type, isHtml ? view.policy : '');
      context.respond(200, body, [...headers, 'Vary', 'Accept, User-Agent'], SHARED_BYTES);
    };
  };
  const file =
    (bytes: Buffer, type: string): PageHandler =>
    (context) =>
      context.respond(200, bytes, pageHeaders(type), SHARED_BYTES);
  const documents = Object.entries(docs).flatMap(([name, text]) =>
    [`/docs/${name}`, `/docs/${name.slice(0, -3)}`].map((path) => [path, page(text, path)] as const),
  );
  const launcherFile = Buffer.from(launcher);
  const checksums = [
    `${sha256(options.bundle)}  bridge.js\n`,
    `${sha256(client)}  agentalk.sh\n`,
    `${sha256(launcherFile)}  agentalk\n`,
  ].join('');
  return {
    '/': page(llms, '/'),
    '/llms.txt': page(llms, '/llms.txt', PLAIN),
    '/skill.md': page(skill, '/skill.md', MARKDOWN),
    '/c/:id': page(join, '/c/:id'),
    '/c/:id%23': explainDamagedLink,
    ...Object.fromEntries(documents),
    '/agentalk.sh': file(client, PLAIN),
    '/agentalk': file(launcherFile, PLAIN),
    '/bridge.js': file(options.bundle, 'text/javascript'),
    '/SHA256SUMS': (context) => context.respond(200, checksums, pageHeaders(PLAIN)),
  };
}

/** For an invite whose # was encoded on its way: what follows it was sent here, and may be in logs. */
const DAMAGED = [
  'This link is damaged',
  'Its # became %23, so this bridge cannot open the channel.',
  'A browser and an agent keep what follows # to themselves. This time it was sent, and may be in a log by now.',
  'Do not use this link again, not in its right form either. Ask the person or agent that gave it to you for a new channel and its link.',
  'That link has a # in it: copy it as it is, in plain text.',
] as const;

function explainDamagedLink(context: RequestContext): void {
  const { accept, 'user-agent': userAgent } = context.request.headers;
  const [title, ...sentences] = DAMAGED;
  const isHtml = pageType(accept, userAgent) === HTML;
  const body = isHtml
    ? `<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
      `<title>${title}</title>\n<h1>${title}</h1>\n${sentences.map((each) => `<p>${each}</p>\n`).join('')}</html>\n`
    : `# ${title}\n\n${sentences.join('\n')}\n`;
  const headers = securityHeaders(`${isHtml ? HTML : MARKDOWN}; charset=utf-8`);
  context.respond(404, body, [...headers, 'Agentalk-Error', 'not_found', 'Vary', 'Accept, User-Agent']);
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** At most what a response with a page takes until it is read: all share the page, and TLS copies a part. */
const SHARED_BYTES = 64 * 1024;

/** A text cut at its placeholders: in turn bytes, which all responses share, and the name of a placeholder. */
type Template = readonly (Buffer | string)[];
type Values = Readonly<Record<string, string>>;
const PLACEHOLDER = /\{\{([A-Z0-9]+)\}\}/;

function templateOf(text: string, constants: Values): Template {
  const template: (Buffer | string)[] = [];
  let constant = '';
  text.split(PLACEHOLDER).forEach((part, i) => {
    if (i % 2 === 0) {
      constant += part;
    } else if (constants[part] !== undefined) {
      constant += constants[part];
    } else {
      template.push(Buffer.from(constant), part);
      constant = '';
    }
  });
  return [...template, Buffer.from(constant)];
}

function renderTemplate(template: Template, values: Values): Buffer[] {
  const filled = new Map(Object.entries(values).map(([name, value]) => [name, Buffer.from(value)]));
  return template.map((part) => (typeof part === 'string' ? (filled.get(part) ?? Buffer.from(`{{${part}}}`)) : part));
}

function lazily<T extends object>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

/** A page may be cached if it is revalidated. @param policy more of the Content-Security-Policy */
const pageHeaders = (type: string, policy = '') =>
  securityHeaders(`${type}; charset=utf-8`, 'no-cache').map((word) => word.replace('base-uri', `${policy}base-uri`));

/** Where clients reach this bridge. A Host header is a stranger's text: it must be a host, and nothing else. */
function publicUrlOf({ publicUrl, isHttps }: PageOptions, { request }: RequestContext): string {
  if (publicUrl !== undefined) return publicUrl;
  const { host = '' } = request.headers;
  const isHost = /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?$/i.test(host);
  if (!isHost || host.includes('..')) throw new ApiError('bad_request', 'Host');
  return `${isHttps(request) ? 'https' : 'http'}://${host.toLowerCase()}`;
}
