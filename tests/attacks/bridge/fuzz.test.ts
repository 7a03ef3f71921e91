/** The fuzzer of the bridge for a while, with the same seed each time; `npm run fuzz -- http` goes on for hours. */
import { test } from 'node:test';
import { fuzz } from './fuzz.ts';

const seconds = Number(process.env['AGENTALK_FUZZ_SECONDS'] ?? 20);
const seed = process.env['AGENTALK_FUZZ_SEED'] ?? '7';

test(`${seconds} s of requests that nobody should send (seed ${seed})`, async (t) => {
  t.diagnostic(JSON.stringify(await fuzz({ seed, seconds, tell: (line) => t.diagnostic(line) })));
});
