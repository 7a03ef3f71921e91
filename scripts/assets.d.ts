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
  const texts: Readonly<Record<string, string>>; // by file name
  export default texts;
}
declare module 'agentalk:browser' {
  export type View = { readonly html: string; readonly policy: string };
  export const room: View;
  export const start: View;
  /** Of a document, with fields left open. */
  export const frame: View;
}
