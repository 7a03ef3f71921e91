/** The whole task in each program, in the mode in which people start it and with everything allowed. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Agent, RECORDS } from './agent.ts';
import { Peer } from './peer.ts';
import type { ProgramName } from './programs.ts';
import { names, record } from './results.ts';
import { LONG_REPLY, MESSAGES, finish, joinBy, open, prepareProject, say, spoken } from './task.ts';
import type { TaskOptions } from './task.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge(['--log-requests'])));
after(async () => {
  await bridge.stop();
  writeFileSync(join(RECORDS, 'bridge-task.txt'), bridge.logs());
});

interface Row {
  readonly mode: string;
  readonly does: 'opens' | 'joins';
  readonly isInteractive: boolean;
  readonly shell?: TaskOptions['shell'];
  /** How many questions a person answers at most from the first page to the tenth message; none after the second. */
  readonly maxQuestions: number;
}

/** Codex asks for a command that it runs outside its sandbox; a rule that is kept covers the next ones. */
const OUTSIDE = { outside: ['./agentalk'] };

const ROWS: Readonly<Record<ProgramName, readonly Row[]>> = {
  codex: [
    { mode: 'network', does: 'opens', isInteractive: true, maxQuestions: 0 },
    // The page, the download, and one rule for ./agentalk.
    { mode: 'on-request', does: 'opens', isInteractive: true, shell: OUTSIDE, maxQuestions: 3 },
    { mode: 'relaxed', does: 'joins', isInteractive: false, maxQuestions: 0 },
  ],
  claude: [
    { mode: 'default', does: 'opens', isInteractive: true, maxQuestions: 6 },
    { mode: 'with the rule', does: 'opens', isInteractive: true, maxQuestions: 2 },
    { mode: 'relaxed', does: 'joins', isInteractive: false, maxQuestions: 0 },
  ],
  gemini: [
    // The page, the download, ./agentalk create, and bash: for it the client's lines say `bash agentalk`.
    { mode: 'default', does: 'opens', isInteractive: true, maxQuestions: 4 },
    { mode: 'relaxed', does: 'joins', isInteractive: false, maxQuestions: 0 },
  ],
  opencode: [
    { mode: 'default', does: 'opens', isInteractive: true, maxQuestions: 0 },
    { mode: 'relaxed', does: 'joins', isInteractive: false, maxQuestions: 0 },
  ],
  copilot: [
    // The URL, curl, chmod with openssl, ./agentalk: each is kept.
    { mode: 'default', does: 'opens', isInteractive: true, maxQuestions: 4 },
    { mode: 'with the rule', does: 'opens', isInteractive: true, maxQuestions: 3 },
    { mode: 'relaxed', does: 'joins', isInteractive: false, maxQuestions: 0 },
  ],
  pi: [
    { mode: 'default', does: 'opens', isInteractive: true, maxQuestions: 0 },
    { mode: 'relaxed', does: 'joins', isInteractive: false, maxQuestions: 0 },
  ],
};

/** What is said after the second message. */
const LATE = MESSAGES.slice(2);

/** Answers each message; the fifth with as long a text as is shown at once. */
async function answerAll(peer: Peer, from: string): Promise<void> {
  for (let n = 1; n <= MESSAGES.length; n++) {
    const text = n === 5 ? `Reply 5\n${LONG_REPLY}` : `Reply ${n}`;
    await peer.waitForOutput(new RegExp(`#${n} from ${from} `), 240);
    await peer.run('say', text);
  }
  await peer.waitForOutput(/FILE [^]*LEFT/, 120);
}

// Each program has a separate home and model, and mostly waits.
describe('the whole task', { concurrency: 3 }, () => {
  for (const name of names()) {
    describe(name, () => {
      for (const { mode, does, isInteractive, shell, maxQuestions } of ROWS[name]) {
        test(`${mode}: ${does} a channel, says ten messages, sends a file, leaves`, async () => {
          const options: TaskOptions = shell === undefined ? {} : { shell };
          const prompt = `Talk to the agent on my server over ${bridge.url}.`;
          const agent = await Agent.start(name, `task-${name}-${mode.replace(/\W+/g, '-')}`, {
            mode,
            isInteractive,
            prompt,
            prepare: prepareProject,
          });
          const peer = new Peer();
          let ran = 'not all';
          let cut = 'not seen';
          let toTenth = 0;
          try {
            let seconds: number;
            let answering: Promise<void>;
            if (does === 'opens') {
              const join = async (invite: string) => {
                const [link = ''] = /https?:\S+/.exec(invite) ?? [];
                await peer.run('join', link, '--name', 'server');
                await answerAll(peer, 'laptop');
              };
              answering = Promise.resolve();
              seconds = await open(agent, bridge.url, { ...options, onInvite: (invite) => (answering = join(invite)) });
            } else {
              const created = await peer.run('create', bridge.url, '--name', 'laptop');
              const [invite = ''] = /Talk to my other agent.*/.exec(created) ?? [];
              answering = answerAll(peer, 'reviewer');
              seconds = await joinBy(agent, invite, options);
            }
            answering.catch(() => {}); // looked at below
            const shown = await say(agent, seconds, options);
            for (const line of LONG_REPLY.split('\n')) assert.ok(shown.includes(line), `this did not come: ${line}`);
            cut = 'nothing';
            toTenth = agent.questions.length;
            await finish(agent, options);
            await answering;
            for (const message of MESSAGES) {
              const lines = spoken(message)
                .split('\n')
                .map((line) => `  | ${line}\n`);
              assert.ok(peer.shown.includes(lines.join('')), `the peer was shown ${message}`);
            }
            ran = 'all';
          } finally {
            record({
              program: name,
              mode,
              row: 'task',
              ran,
              cut,
              asked: toTenth,
              askedInAll: agent.questions.length,
            });
            const asked = agent.questions.map(
              ({ question, command }) => `${command.slice(0, 60)} → ${question.answer}`,
            );
            agent.note(`*** asked ${asked.length} times\n${asked.join('\n')}`);
            agent.stop();
            peer.stop();
          }
          assert.ok(toTenth <= maxQuestions, `it asked ${toTenth} times until the tenth message`);
          const late = agent.questions
            .slice(0, toTenth)
            .filter(({ command }) => LATE.some((text) => command.includes(text)));
          assert.ok(late.length === 0, `it asked after the second message: ${late[0]?.question.text}`);
        });
      }
    });
  }
});
