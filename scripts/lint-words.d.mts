export type Finding = { readonly where: string; readonly text: string; readonly rather: string };
export const PLAINER: Readonly<Record<string, string>>;
export function findWords(where: string, text: string): Finding[];
export function findLongSentences(where: string, markdown: string): Finding[];
export function proseOf(markdown: string): string;
export function sentencesOf(markdown: string): string[];
export function wordsOfCode(path: string, source: string): string;
export function lintWords(root: string): Finding[];
export function formatFinding(finding: Finding): string;
