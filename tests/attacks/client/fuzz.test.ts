/** The fuzzer for a while, with the same seed each time; `npm run fuzz` goes on for hours with new ones. */
import { test } from 'node:test';
import { fuzz } from './fuzz.ts';

const seconds = Number(process.env['AGENTALK_FUZZ_SECONDS'] ?? 30);
const seed = process.env['AGENTALK_FUZZ_SEED'] ?? '7';

test(`${seconds} s of answers that no bridge gives (seed ${seed})`, async (t) => {
  t.diagnostic(JSON.stringify(await fuzz({ seed, seconds, tell: (line) => t.diagnostic(line) })));
});
