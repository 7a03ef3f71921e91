export function filesIn(root: string, folder: string, pattern: RegExp): string[];
export function publishedDocuments(root: string): string[];
export function pages(root: string): string[];
