/** Texts that scripts/build.mjs puts into the bundle. */
declare module '*.sh' {
  const text: string;
  export default text;
}
declare module '*.html' {
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
