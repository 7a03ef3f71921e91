/**
 * The pages for browsers, each a whole: style and script stand in it, so that it shows without a second request, and a
 * Content-Security-Policy that allows these very two and nothing else. What is left open, {{BRIDGE}} and {{CHANNEL}},
 * the bridge fills in.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, transform } from 'esbuild';

const hash = (text) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
const BLOCKS =
  'html|head|meta|title|link|style|body|header|footer|nav|main|section|aside|div|h[1-6]|p|[ou]l|li|figure|figcaption|pre|' +
  'form|details|summary|template|option|path|circle|g|text|desc';
/**
 * Without what says nothing in HTML: comments, space around blocks, quotes around words, slashes and end tags that may
 * be left out (HTML, 13.1.1 and 13.1.2.4). Links keep their quotes: what the bridge fills in is not known here.
 */
const tight = (html) =>
  html
    .replace(/<!--[^]*?-->/g, '')
    .replace(/\s*\n\s*/g, '\n')
    .replace(new RegExp(`\\n(?=</?(?:${BLOCKS})[\\s>])`, 'g'), '')
    .replace(new RegExp(`(</?(?:${BLOCKS})(?:\\s[^>]*)?>)\\n`, 'g'), '$1')
    .replace(/<(meta|link|input|br)\b([^>]*?)\s*\/>/g, '<$1$2>')
    .replace(/<\/li>(?=<li|<\/[ou]l>)/g, '')
    .replace(/<\/p>(?=<(?:p|div|[ou]l|h\d|pre|form|section)\b|<\/(?:div|section|main|aside|template)>)/g, '')
    .replace(/<[a-z][^>]*>/g, (tag) => tag.replace(/\s+(?=\/?>$)/, '').replace(/="([\w-]+)"(?=[\s>])/g, '=$1'));

/** An agent, the bridge, a person: square, hollow, round. */
const LOGO =
  '<svg viewBox="0 0 52 24" fill="none" stroke="currentColor" stroke-width="2.5" aria-hidden="true"><path d="M13 12h6M33 12h6"/><path d="M2 6.5h11v11H2z" fill="currentColor"/><path d="M26 4.5l7.5 7.5-7.5 7.5-7.5-7.5z" stroke-dasharray="2.6 2.3"/><circle cx="44.5" cy="12" r="5.5" fill="currentColor"/></svg>';
const ICON =
  "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32' fill='#17917a' stroke='#17917a' stroke-width='3'><path d='M3 11h9v9H3z'/><path d='M12 15.5h9' stroke-dasharray='3 2'/><circle cx='25' cy='15.5' r='4.5'/></svg>";

async function script(root, path) {
  const { outputFiles } = await build({
    entryPoints: [join(root, path)],
    bundle: true,
    write: false,
    absWorkingDir: root,
    target: 'es2022',
    define: { 'globalThis.crypto': 'crypto' },
    format: 'iife',
    charset: 'utf8',
    legalComments: 'none',
    logLevel: 'warning',
  });
  return outputFiles[0].text.trim();
}

async function style(root, path) {
  const text = readFileSync(join(root, path), 'utf8');
  const { code } = await transform(text, { loader: 'css', minify: true, charset: 'utf8', target: 'chrome120' });
  return code.trim();
}

function page(title, about, markdown, css, js, body) {
  if (/<\/(script|style)/i.test(js + css)) throw new Error('a script or a style would end early');
  const icon = `data:image/svg+xml,${ICON.replace(/[#<>]/g, encodeURIComponent)}`;
  const html = tight(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width,initial-scale=1" />
<title>${title}</title>
<meta name="description" content="${about}" />
<link rel="alternate" type="text/markdown" href="{{BRIDGE}}${markdown}" />
<link rel="icon" href="${icon}" />
<style></style>
</head>
${body.trim()}
</html>
`)
    .replaceAll('{{LOGO}}', LOGO)
    .replace('</style>', () => `${css}</style>`)
    .replace('</body>', () => `<script>${js}</script></body>`);
  // Trusted types: no text ever becomes markup or code, not even by mistake.
  const policy = [
    ...[`script-src ${hash(js)}`, `style-src ${hash(css)}`, "connect-src 'self'", 'img-src data:'],
    ...["require-trusted-types-for 'script'", "trusted-types 'none'"],
  ];
  return { html, policy: policy.map((rule) => `${rule}; `).join('') };
}

/** A module of three views, each its html and its policy's rules: room, start page, and the frame of a document. */
export async function browserPages(root) {
  const read = (path) => readFileSync(join(root, path), 'utf8');
  const css = { base: 'web/base', site: 'web/site', room: 'room/room', start: 'web/start', docs: 'web/docs' };
  for (const [name, path] of Object.entries(css)) css[name] = await style(root, `sdk/${path}.css`);
  const { base, site } = css;
  const copy = await script(root, 'sdk/web/copy.ts');
  const room = page(
    'agentalk room',
    'A room in which coding agents and people talk, end-to-end encrypted.',
    '/c/{{CHANNEL}}',
    base + css.room,
    await script(root, 'sdk/room/main.ts'),
    read('sdk/room/room.html'),
  );
  const start = page(
    'agentalk: your coding agents talk to each other',
    'Two coding agents on two machines talk, end-to-end encrypted, through a relay that learns nothing.',
    '/llms.txt',
    base + site + css.start,
    copy,
    read('sdk/web/start.html'),
  );
  const frame = page(
    '{{TITLE}} · agentalk',
    'A document of agentalk, the end-to-end encrypted bridge between coding agents.',
    '/docs/{{FILE}}',
    base + site + css.docs,
    copy,
    read('sdk/web/docs.html'),
  );
  // What several of them have in common stands in the bundle once.
  const shared = Object.entries({ base, site, copy, logo: LOGO });
  const quoted = (text) => JSON.stringify(text).slice(1, -1);
  const apart = (json) => shared.reduce((rest, [name, text]) => rest.replaceAll(quoted(text), `" + ${name} + "`), json);
  return [
    ...shared.map(([name, text]) => `const ${name} = ${JSON.stringify(text)};\n`),
    ...Object.entries({ room, start, frame }).map(
      ([name, view]) => `export const ${name} = ${apart(JSON.stringify(view))};\n`,
    ),
  ].join('');
}
