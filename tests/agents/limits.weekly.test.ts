/** How long a program lets one command run, when its model has asked for no time: our waits must fit in. Takes 7 minutes. */
import { after, before, describe, test } from 'node:test';
import { Agent } from './agent.ts';
import { PROGRAMS } from './programs.ts';
import type { ProgramName } from './programs.ts';
import { expectMeasured, names } from './results.ts';

const MODE: Partial<Record<ProgramName, string>> = { codex: 'network' };
/** Longer than the limit of all that have one. */
const SECONDS = 400;
/** Not `sleep`, which Claude Code refuses. */
const COMMAND = `timeout ${SECONDS} tail -f /dev/null; echo over`;

describe('time of one command', { concurrency: true }, () => {
  for (const name of names()) {
    describe(name, () => {
      let agent: Agent;
      before(async () => void (agent = await Agent.start(name, `limits-${name}`, { mode: MODE[name] ?? 'relaxed' })));
      after(() => agent?.stop());

      test('a command without output', async () => {
        // What the model asks for by itself: nothing but the command.
        const { yield_time_ms: _, ...args } = { ...PROGRAMS[name].shell(COMMAND, {}).args };
        const begun = Date.now();
        const turn = await agent.use({ name: PROGRAMS[name].shellTool, args }, SECONDS + 60);
        const seconds = Math.round((Date.now() - begun) / 1000);
        const text = turn.results.join('\n');
        const isOver = /^(Output: )?over/m.test(text);
        const goesOn = /still running|session ID|background/i.test(text);
        expectMeasured(
          name,
          'time of one command',
          isOver
            ? 'no limit'
            : `${Math.floor(seconds / 5) * 5} s, then it ${goesOn ? 'goes on in the background' : 'is ended'}`,
        );
      });
    });
  }
});
