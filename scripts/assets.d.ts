/** Texts that scripts/build.mjs puts into the bundle. */
declare module '*.sh' {
  const text: string;
  export default text;
}
declare module '*.md' {
  const text: string;
  export default text;
}
declare module '*.css' {
  const text: string;
  export default text;
}
declare module '*.html' {
  const text: string;
  export default text;
}
/** A script for browsers, bundled from this module. */
declare module '*.ts?browser' {
  const text: string;
  export default text;
}
/** The documents that bridges serve, by file name. */
declare module 'agentalk:docs' {
  const documents: Readonly<Record<string, string>>;
  export default documents;
}
