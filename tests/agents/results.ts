/** What a run has found, one line for each cell: dist/agents/last-run.jsonl, from which the table is printed. */
import assert from 'node:assert/strict';
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../lib/root.ts';
import { PROGRAMS } from './programs.ts';
import type { ProgramName } from './programs.ts';
import { VERSIONS } from './versions.ts';

export interface Result {
  readonly program: ProgramName;
  readonly mode?: string;
  readonly row: string;
  readonly [more: string]: unknown;
}

export function record(result: Result): void {
  const line = { version: VERSIONS[result.program].version, ...result };
  appendFileSync(join(ROOT, 'dist', 'agents', 'last-run.jsonl'), `${JSON.stringify(line)}\n`);
}

/** What each row of the table says of each program. */
const EXPECTED = JSON.parse(readFileSync(join(ROOT, 'tests', 'agents', 'expected.json'), 'utf8')) as Readonly<
  Record<string, Partial<Record<ProgramName, string>>>
>;

/** Records one cell of the table, and fails where it is not what the table says. */
export function expectMeasured(program: ProgramName, row: string, measured: string): void {
  const expected = EXPECTED[row]?.[program];
  record({ program, row, measured, expected });
  assert.equal(measured, expected, `${PROGRAMS[program].title}, ${row}`);
}

/** The programs to run: all, or those that the runner was asked for. */
export function names(): readonly ProgramName[] {
  const only = process.env['AGENTALK_AGENTS_ONLY']?.split(' ');
  return (Object.keys(PROGRAMS) as ProgramName[]).filter((name) => only === undefined || only.includes(name));
}
