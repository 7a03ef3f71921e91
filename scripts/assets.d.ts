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
  type View = { readonly html: string; readonly policy: string; readonly fields: Readonly<Record<string, string>> };
  const views: Readonly<Record<string, View>>; // by path
  export default views;
}
