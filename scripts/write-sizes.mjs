/** Writes the table of sizes in docs/architecture.md, from what the build has measured. */
import { readFileSync, writeFileSync } from 'node:fs';
import { format, resolveConfig } from 'prettier';

const PAGE = 'docs/architecture.md';
/** @type {Record<string, number>} */
const sizes = JSON.parse(readFileSync('dist/.sizes.json', 'utf8'));
const rows = Object.entries(sizes).map(([part, bytes]) => `| ${part} | ${Math.round(bytes / 1000)} |`);
const table = ['| part of bridge.js | KB |', '| --- | --: |', ...rows].join('\n');
const page = readFileSync(PAGE, 'utf8');
const old = /^\| part of bridge\.js[^]*?\n(?=\n)/m;
if (!old.test(page)) throw new Error(`${PAGE} has no table of sizes`);
const style = await resolveConfig('package.json');
writeFileSync(PAGE, await format(page.replace(old, `${table}\n`), { ...style, parser: 'markdown' }));
