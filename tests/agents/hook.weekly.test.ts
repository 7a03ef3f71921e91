/** The hook that docs/agents.md names: a turn that ends with unread words goes on by itself, and without a word of the peer. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { ROOT } from '../lib/root.ts';
import { Agent } from './agent.ts';
import type { StartOptions } from './agent.ts';
import { Peer } from './peer.ts';
import type { ProgramName } from './programs.ts';
import { names, record } from './results.ts';
import { open } from './task.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const SENTENCE = 'agentalk: news has come. To read it, run: ./agentalk wait 0';
const DOC = readFileSync(join(ROOT, 'docs', 'agents.md'), 'utf8');
/** The command of the document that has this in it. */
const commandWith = (text: string) =>
  [...DOC.matchAll(/```sh\n(.*)\n```/g)].find(([, line = '']) => line.includes(text))?.[1] ??
  assert.fail(`docs/agents.md has a command with ${text}`);

/** Runs it as the person does, in the project. */
const runAt = (home: string, command: string) =>
  void execFileSync('bash', ['-c', command], { cwd: join(home, 'project'), env: { ...process.env, HOME: home } });

/** How each program is given it. */
const STARTS: Partial<Record<ProgramName, () => StartOptions>> = {
  claude: () => {
    const [, json = ''] = /^claude --settings '(.*)'$/.exec(commandWith('claude --settings')) ?? [];
    return { mode: 'relaxed', flags: ['--settings', json] };
  },
  codex: () => ({
    mode: 'relaxed',
    flags: ['--dangerously-bypass-hook-trust'], // in a terminal Codex asks whether the hook is trusted
    prepare: (home) => runAt(home, commandWith('.codex/hooks.json')),
  }),
  gemini: () => ({ mode: 'relaxed', prepare: (home) => runAt(home, commandWith('.gemini/settings.json')) }),
};

for (const name of names()) {
  const start = STARTS[name];
  if (start === undefined) continue;
  test(`${name}: a turn that ends with unread words goes on`, async () => {
    const agent = await Agent.start(name, `hook-${name}`, start());
    const peer = new Peer();
    let woken = 0;
    try {
      const onInvite = (invite: string) => {
        const [link = ''] = /https?:\S+/.exec(invite) ?? [];
        void peer.run('join', link, '--name', 'server');
      };
      await open(agent, bridge.url, { onInvite });
      for (const words of ['Are you there?', 'And now, again?']) {
        assert.match(await peer.run('say', words), /sent/);
        agent.finish('My turn is over.');
        const turn = await agent.woken(60);
        const told = [...turn.results, turn.user].join('\n');
        assert.ok(told.includes(SENTENCE), told);
        assert.ok(!told.includes(words), 'no word of a peer');
        assert.ok((await agent.run('./agentalk wait 0')).includes(`  | ${words}`));
        woken += 1;
      }
      await agent.run('./agentalk leave', { seconds: 30 });
      agent.finish();
    } finally {
      record({ program: name, mode: 'hook', row: 'goes on at the end of a turn', woken });
      agent.stop();
      peer.stop();
    }
  });
}
