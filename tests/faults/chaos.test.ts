/** Promise 3 of the design, all faults at once: nothing lost, nothing twice, in order. */
import { test } from 'node:test';
import { requirePrograms } from '../lib/require-programs.ts';
import { chaos } from './chaos.ts';

const messages = Number(process.env['AGENTALK_CHAOS_MESSAGES'] ?? 200);
/** The same schedule each time, so that a change is what made it fail; `npm run soak:client` takes new ones. */
const seed = process.env['AGENTALK_CHAOS_SEED'] ?? '261078';

test(`${messages} messages among three, whatever dies (seed ${seed})`, async (t) => {
  const smallDisk = process.getuid?.() === 0 && requirePrograms('unshare') === false;
  const report = await chaos({ messages, seed, share: 0.2, smallDisk, tell: (line) => t.diagnostic(line) });
  t.diagnostic(JSON.stringify(report));
});
