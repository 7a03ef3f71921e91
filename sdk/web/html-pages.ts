/**
 * The pages for browsers: the start page, the room, and a frame for each document. Style and script are inside the page,
 * so that it needs no second request. Its Content-Security-Policy allows these two by their hashes, icons as data: and
 * requests to the bridge. bridge/pages.ts fills in the placeholders: {{BRIDGE}} and {{CHANNEL}} in each response, the
 * others (`fields`) once.
 */
import { createHash } from 'node:crypto';
import docs from 'agentalk:docs';
import roomScript from '../room/main.ts?browser';
import roomStyle from '../room/room.css';
import roomBody from '../room/room.html';
import baseStyle from './base.css';
import copyScript from './copy-buttons.ts?browser';
import documentStyle from './docs.css';
import documentBody from './docs.html';
import { type Heading, renderDocument, titleOf } from './markdown.ts';
import siteStyle from './site.css';
import startStyle from './start.css';
import startBody from './start.html';

export type HtmlPage = {
  readonly html: string;
  /** The directives that the page adds to the bridge's Content-Security-Policy. */
  readonly policy: string;
  /** Values of placeholders that are the same in each response. */
  readonly fields?: Readonly<Record<string, string>>;
};

/** An agent, the bridge, a person: square, hollow, round. */
const LOGO =
  '<svg viewBox="0 0 52 24" fill="none" stroke="currentColor" stroke-width="2.5" aria-hidden="true">' +
  '<path d="M13 12h6M33 12h6"/><path d="M2 6.5h11v11H2z" fill="currentColor"/>' +
  '<path d="M26 4.5l7.5 7.5-7.5 7.5-7.5-7.5z" stroke-dasharray="2.6 2.3"/>' +
  '<circle cx="44.5" cy="12" r="5.5" fill="currentColor"/></svg>';
const ICON =
  "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32' fill='#17917a' stroke='#17917a' stroke-width='3'>" +
  "<path d='M3 11h9v9H3z'/><path d='M12 15.5h9' stroke-dasharray='3 2'/><circle cx='25' cy='15.5' r='4.5'/></svg>";

type Parts = {
  readonly title: string;
  readonly description: string;
  /** The path of the same page as Markdown. */
  readonly markdown: string;
  readonly styles: readonly string[];
  readonly script: string;
  readonly body: string;
};

/** A source of the Content-Security-Policy, level 3, that allows this inline text. */
const hashSource = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

function createPage({ title, description, markdown, styles, script, body }: Parts): HtmlPage {
  const style = styles.join('\n');
  const icon = `data:image/svg+xml,${ICON.replace(/[#<>]/g, encodeURIComponent)}`;
  const content = body.trim().replaceAll('{{LOGO}}', () => LOGO);
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>${title}</title>
<meta name="description" content="${description}">
<link rel="alternate" type="text/markdown" href="{{BRIDGE}}${markdown}">
<link rel="icon" href="${icon}">
<style>${style}</style>
</head>
${content.slice(0, -'</body>'.length)}<script type="module">${script}</script>
</body>
</html>
`;
  // Trusted types without any policy: no text ever becomes markup or code, not even by mistake.
  const policy =
    `script-src ${hashSource(script)}; style-src ${hashSource(style)}; connect-src 'self'; img-src data:; ` +
    "require-trusted-types-for 'script'; trusted-types 'none'; ";
  return { html, policy };
}

const room = createPage({
  title: 'agentalk room',
  description: 'A room in which coding agents and people talk, end-to-end encrypted.',
  markdown: '/c/{{CHANNEL}}',
  styles: [baseStyle, roomStyle],
  script: roomScript,
  body: roomBody,
});

const start = createPage({
  title: 'agentalk: your coding agents talk to each other',
  description: 'Two coding agents on two machines talk, end-to-end encrypted, through a relay that learns nothing.',
  markdown: '/llms.txt',
  styles: [baseStyle, siteStyle, startStyle],
  script: copyScript,
  body: startBody,
});

const documentFrame = createPage({
  title: '{{TITLE}} · agentalk',
  description: 'A document of agentalk, the end-to-end encrypted bridge between coding agents.',
  markdown: '/docs/{{FILE}}',
  styles: [baseStyle, siteStyle, documentStyle],
  script: copyScript,
  body: documentBody,
});

/** The documents in reading order. The others follow. */
const ORDER = [
  'concepts',
  'how-it-works',
  'use-case-review',
  'use-case-parallel',
  'use-case-swarm',
  'comparison',
  'faq',
  'self-hosting',
  'flags',
  'operations',
  'security',
  'agents',
  'protocol',
  'scaling',
];
const sortIndex = (name: string) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);

const documents = Object.entries(docs)
  .map(([file, text]) => ({ file, name: file.replace(/\.md$/, ''), title: titleOf(text), text }))
  .sort((a, b) => sortIndex(a.name) - sortIndex(b.name));

function contentsOf(headings: readonly Heading[]): string {
  const items = headings.map(({ id, html, depth }) => {
    const style = depth > 2 ? ' class="deep"' : '';
    return `<li${style}><a href="#${id}">${html}</a></li>`;
  });
  return `<ul>${items.join('')}</ul>`;
}

function navigation(current: string, headings: readonly Heading[]): string {
  const items = documents.map(({ name, title }) =>
    name === current
      ? `<li class="here"><a href="${name}" aria-current="page">${title}</a>${contentsOf(headings)}</li>`
      : `<li><a href="${name}">${title}</a></li>`,
  );
  return `<ul>${items.join('')}</ul>`;
}

/** The HTML of each path. A document is rendered when it is first asked for; the bridge keeps the result. */
const htmlPages: Readonly<Record<string, HtmlPage>> = {
  '/': start,
  '/c/:id': room,
  ...Object.fromEntries(
    documents.map(({ file, name, title, text }) => [
      `/docs/${name}`,
      {
        ...documentFrame,
        get fields() {
          const { html, headings } = renderDocument(text);
          return { TITLE: title, FILE: file, NAV: navigation(name, headings), BODY: html };
        },
      },
    ]),
  ),
};
export default htmlPages;
