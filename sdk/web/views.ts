/** What a browser gets, by path: start page and room as they were built, and the documents in their frame. */
import { frame, room, start } from 'agentalk:browser';
import type { View } from 'agentalk:browser';
import docs from 'agentalk:docs';
import type { Heading } from 'agentalk:docs';

/** In the order in which one may want to read them; whatever else there is comes after. */
const ORDER = [
  ...['concepts', 'how-it-works', 'use-case-review', 'use-case-parallel', 'use-case-swarm', 'comparison', 'faq'],
  ...['self-hosting', 'operations', 'security', 'agents', 'protocol', 'scaling'],
];
const place = (name: string) => ORDER.indexOf(name) + 1 || ORDER.length + 1;

const documents = Object.entries(docs)
  .map(([file, document]) => ({ file, name: file.slice(0, -3), ...document }))
  .sort((a, b) => place(a.name) - place(b.name));

const contents = (headings: readonly Heading[]) =>
  headings
    .map(({ id, html, depth }) => `<li${depth > 2 ? ' class="deep"' : ''}><a href="#${id}">${html}</a></li>`)
    .join('');

const navigation = (here: string) =>
  documents.map(({ name, title, headings }) =>
    name === here
      ? `<li class="here"><a href="${name}" aria-current="page">${title}</a><ul>${contents(headings)}</ul></li>`
      : `<li><a href="${name}">${title}</a></li>`,
  );

const views: Readonly<Record<string, View & { readonly fields?: Readonly<Record<string, string>> }>> = {
  '/': start,
  '/c/:id': room,
  ...Object.fromEntries(
    documents.map(({ file, name, title, html }) => {
      const fields = { TITLE: title, FILE: file, NAV: `<ul>${navigation(name).join('')}</ul>`, BODY: html };
      return [`/docs/${name}`, { ...frame, fields }];
    }),
  ),
};
export default views;
