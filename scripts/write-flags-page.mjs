/** Writes docs/flags.md. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { format, resolveConfig } from 'prettier';
import { flagsPage } from './flags-page.mjs';

const { stdout } = spawnSync(process.execPath, ['dist/bridge.js', '--help'], { encoding: 'utf8' });
const style = await resolveConfig('package.json');
writeFileSync('docs/flags.md', await format(flagsPage(stdout), { ...style, parser: 'markdown' }));
