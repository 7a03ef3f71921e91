/** Texts that scripts/build.mjs puts into the bundle. */
declare module '*.sh' {
  const text: string;
  export default text;
}
declare module '*.md' {
  const text: string;
  export default text;
}
declare module 'agentalk:docs' {
  export type Heading = { readonly id: string; readonly html: string; readonly depth: number };
  type Document = { readonly text: string; readonly title: string; readonly html: string };
  const documents: Readonly<Record<string, Document & { readonly headings: readonly Heading[] }>>; // by file name
  export default documents;
}
declare module 'agentalk:browser' {
  export type View = { readonly html: string; readonly policy: string };
  export const room: View;
  export const start: View;
  /** Of a document, with fields left open. */
  export const frame: View;
}
