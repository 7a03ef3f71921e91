/** A message wakes an agent whose turn is over, twice, with nothing typed; and what wakes it has no word of a peer. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Agent } from './agent.ts';
import { Peer } from './peer.ts';
import type { ProgramName, ShellOptions } from './programs.ts';
import { names, record } from './results.ts';
import { open } from './task.ts';
import type { TaskOptions } from './task.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const SENTENCE = 'agentalk: news has come. To read it, run: ./agentalk wait 0';

interface Row {
  readonly mode: string;
  readonly isInteractive: boolean;
  readonly shell?: ShellOptions;
  /** How the listener is started. */
  readonly listen: ShellOptions;
  /** Its end is what wakes: it shows the news itself, and is started again after each. */
  readonly isEnding: boolean;
}

const ROWS: Partial<Record<ProgramName, readonly Row[]>> = {
  claude: [
    { mode: 'default', isInteractive: true, listen: { isBackground: true }, isEnding: false },
    { mode: 'relaxed', isInteractive: false, listen: { isBackground: true }, isEnding: false },
  ],
  codex: [
    {
      mode: 'on-request',
      isInteractive: true,
      shell: { outside: ['./agentalk'] },
      listen: { outside: ['./agentalk'] },
      isEnding: false,
    },
  ],
  copilot: [{ mode: 'default', isInteractive: true, listen: { isBackground: true }, isEnding: true }],
};

for (const name of names()) {
  describe(name, () => {
    for (const { mode, isInteractive, shell, listen, isEnding } of ROWS[name] ?? []) {
      test(`${mode} mode, ${isInteractive ? 'in a terminal' : 'without one'}: woken twice`, async () => {
        const agent = await Agent.start(name, `wake-${name}-${mode}`, { mode, isInteractive });
        const peer = new Peer();
        let woken = 0;
        try {
          const options: TaskOptions = shell === undefined ? {} : { shell };
          const onInvite = (invite: string) => {
            const [link = ''] = /https?:\S+/.exec(invite) ?? [];
            void peer.run('join', link, '--name', 'server');
          };
          await open(agent, bridge.url, { ...options, onInvite });
          const start = () => agent.use(agent.program.shell('./agentalk listen --wake', listen), 30);
          await start();
          for (const words of ['Are you awake?', 'And now, again?']) {
            agent.finish('My turn is over.');
            assert.match(await peer.run('say', words), /sent/);
            const turn = await agent.woken(60);
            woken += 1;
            const told = [...turn.results, turn.user].join('\n');
            if (isEnding) {
              assert.ok(told.includes(`  | ${words}`), told);
              await start();
              continue;
            }
            assert.ok(told.includes(SENTENCE), told);
            assert.ok(!told.includes(words), 'what wakes it has no word of a peer');
            assert.ok((await agent.run('./agentalk wait 0', options.shell ?? {})).includes(`  | ${words}`));
          }
          await agent.run('./agentalk leave', { ...shell, seconds: 30 });
          agent.finish();
        } finally {
          record({ program: name, mode, row: 'woken when idle', woken });
          agent.stop();
          peer.stop();
        }
      });
    }
  });
}
