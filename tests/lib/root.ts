/** Where the repository stands: tests run bundled, from dist/tests. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

function find(folder: string): string {
  if (existsSync(join(folder, 'docs', 'protocol.md'))) return folder;
  if (folder === dirname(folder)) throw new Error('run the tests inside the repository');
  return find(dirname(folder));
}

export const ROOT = find(dirname(fileURLToPath(import.meta.url)));
