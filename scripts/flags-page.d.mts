export function flagsPage(help: string): string;
