/** Which version of each program runs, and where it is installed. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../lib/root.ts';
import { PROGRAMS } from './programs.ts';
import type { ProgramName } from './programs.ts';

type Versions = Readonly<Record<ProgramName, { readonly package: string; readonly version: string }>>;

/** The pinned versions, or those that the runner names (AGENTALK_AGENTS_VERSIONS). */
export const VERSIONS = JSON.parse(
  readFileSync(process.env['AGENTALK_AGENTS_VERSIONS'] || join(ROOT, 'tests', 'agents', 'versions.json'), 'utf8'),
) as Versions;

/** The folder of its installation, and the path of the executable in the cell, which sees that folder as /opt/programs. */
export function installedAt(name: ProgramName): { folder: string; executable: string } {
  const folder = join(ROOT, 'dist', 'agents', 'programs', `${name}-${VERSIONS[name].version}`);
  return { folder, executable: `/opt/programs/${PROGRAMS[name].executable}` };
}
