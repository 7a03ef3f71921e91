/** Two different programs talk to each other: each one opens a channel once, and joins one once. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Agent } from './agent.ts';
import type { ProgramName } from './programs.ts';
import { names, record } from './results.ts';
import { finish, joinBy, open, prepareProject, waitFor } from './task.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

/** Codex with its sandbox on and its network open; everything allowed in the others. */
const modeOf = (name: ProgramName) => (name === 'codex' ? 'network' : 'relaxed');

const QUESTIONS = ['Which line was it?', 'And what does the log say?', 'Then please send me the patch.'];
const ANSWERS = ['Line 40.', 'Nothing but a warning.', 'Here it is.'];

async function ask(agent: Agent, bridgeUrl: string, onInvite: (invite: string) => void): Promise<void> {
  const seconds = await open(agent, bridgeUrl, { onInvite });
  let shown = '';
  for (const [n, question] of QUESTIONS.entries()) {
    const command = `./agentalk say '${question}' && ./agentalk wait ${seconds}`;
    const first = await agent.run(command, { seconds: seconds + 20 });
    shown = await waitFor(agent, new RegExp(`\\| ${ANSWERS[n]}`), seconds, {}, first);
  }
  shown = await waitFor(agent, /FILE [^]*fix\.patch/, seconds, {}, shown);
  const [path] = /\/\S*fix\.patch/.exec(shown) ?? assert.fail(`the path of the file: ${shown}`);
  assert.match(await agent.run(`cat ${path}`), /clearTimeout\(timer\)/);
  assert.match(await agent.run('./agentalk leave', { seconds: 30 }), /agentalk: left/);
  agent.finish();
}

async function answer(agent: Agent, invite: string): Promise<void> {
  const seconds = await joinBy(agent, invite);
  let shown = '';
  for (const [n, question] of QUESTIONS.entries()) {
    await waitFor(agent, new RegExp(`\\| ${question.replace('?', '\\?')}`), seconds, {}, shown);
    // The last answer is followed by the file, at once.
    const wait = n < 2 ? ` && ./agentalk wait ${seconds}` : '';
    shown = await agent.run(`./agentalk say '${ANSWERS[n]}'${wait}`, { seconds: seconds + 20 });
  }
  await finish(agent);
}

const all = names();
for (const [n, opener] of all.entries()) {
  const joiner = all[(n + 1) % all.length]!;
  if (joiner === opener) continue;
  test(`${opener} opens, ${joiner} joins by the line that it was given`, async () => {
    const label = `pair-${opener}-${joiner}`;
    const started: Agent[] = [];
    const start = async (name: ProgramName, prompt: string, of: string) => {
      const agent = await Agent.start(name, `${label}-${of}`, { mode: modeOf(name), prompt, prepare: prepareProject });
      started.push(agent);
      return agent;
    };
    let ran = 'no';
    try {
      let answering: Promise<void> | undefined;
      const first = await start(opener, `Talk to the agent on my server over ${bridge.url}.`, 'opens');
      const onInvite = (invite: string) => {
        answering = start(joiner, invite, 'joins').then((second) => answer(second, invite));
        answering.catch(() => first.stop());
      };
      await Promise.all([ask(first, bridge.url, onInvite).catch((error: unknown) => assert.fail(String(error)))]);
      await answering;
      ran = 'all';
    } finally {
      record({ program: opener, mode: modeOf(opener), row: `pair with ${joiner}`, ran });
      for (const agent of started) agent.stop();
    }
  });
}

const SENTENCE = 'agentalk: news has come. To read it, run: ./agentalk wait 0';

if (all.includes('claude') && all.includes('opencode')) {
  test('claude, whose turn is over, is woken twice by what opencode says, with nothing typed', async () => {
    const started: Agent[] = [];
    const start = async (name: ProgramName, prompt: string, of: string) => {
      const agent = await Agent.start(name, `pair-wake-${of}`, { mode: modeOf(name), prompt, prepare: prepareProject });
      started.push(agent);
      return agent;
    };
    let woken = 0;
    try {
      let joining: Promise<Agent> | undefined;
      const sleeper = await start('claude', `Talk to the agent on my server over ${bridge.url}.`, 'opens');
      const join = async (invite: string) => {
        const agent = await start('opencode', invite, 'joins');
        await joinBy(agent, invite);
        return agent;
      };
      const onInvite = (invite: string) => {
        joining = join(invite);
        joining.catch(() => sleeper.stop());
      };
      await open(sleeper, bridge.url, { onInvite });
      const talker = (await joining) ?? assert.fail('nobody was invited');
      await sleeper.use(sleeper.program.shell('./agentalk listen --wake', { isBackground: true }), 30);
      for (const words of QUESTIONS.slice(0, 2)) {
        sleeper.finish('My turn is over.');
        assert.match(await talker.run(`./agentalk say '${words}'`), /agentalk: sent/);
        const turn = await sleeper.woken(60);
        const told = [...turn.results, turn.user].join('\n');
        assert.ok(told.includes(SENTENCE) && !told.includes(words), told);
        woken += 1;
        assert.ok((await sleeper.run('./agentalk wait 0')).includes(`  | ${words}`));
      }
      await sleeper.run('./agentalk leave', { seconds: 30 });
      sleeper.finish();
      assert.match(await talker.run('./agentalk wait 20', { seconds: 40 }), /LEFT laptop/);
      talker.finish();
    } finally {
      record({ program: 'claude', mode: modeOf('claude'), row: 'woken by opencode', woken });
      for (const agent of started) agent.stop();
    }
  });
}
