/**
 * What decides how our pages speak: one test for each cell of the table in docs/agents.md. What is measured here is
 * compared with expected.json, from which that table is made; so a program that changed shows here first.
 */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { ROOT } from '../lib/root.ts';
import { Agent } from './agent.ts';
import { PROGRAMS } from './programs.ts';
import type { ProgramName } from './programs.ts';
import { expectMeasured, names } from './results.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const CLIENT_FILES = ['agentalk', 'agentalk.sh'];
const SCRIPT = readFileSync(join(ROOT, 'dist', 'agentalk.sh'), 'utf8');
const PART_1 = SCRIPT.slice(0, SCRIPT.indexOf('# ==== Part 2'));

/** The client in the project, and a skill in each folder where a program may look. */
function prepare(home: string): void {
  for (const file of CLIENT_FILES) copyFileSync(join(ROOT, 'dist', file), join(home, 'project', file));
  for (const [folder, name] of [
    ['.agents', 'in-agents'],
    ['.claude', 'in-claude'],
  ] as const) {
    const skill = join(home, folder, 'skills', name);
    mkdirSync(skill, { recursive: true });
    writeFileSync(join(skill, 'SKILL.md'), `---\nname: ${name}\ndescription: Says ${name}-was-read.\n---\n\nText.\n`);
  }
}

/** In the mode in which people start it: what a person is asked. Codex with its network on, as our pages tell them. */
const ASKING_MODE: Partial<Record<ProgramName, string>> = { codex: 'on-request' };

describe('as people start it', () => {
  for (const name of names()) {
    describe(name, () => {
      let agent: Agent;
      before(async () => {
        agent = await Agent.start(name, `facts-${name}-asking`, {
          mode: ASKING_MODE[name] ?? 'default',
          isInteractive: true,
          prepare,
        });
      });
      after(() => agent?.stop());

      /** Runs commands one after the other. @returns how each went: the questions, and whether it ran */
      const run = async (commands: readonly string[], isRight: RegExp) => {
        const went: { questions: number; isRun: boolean }[] = [];
        for (const command of commands) {
          const asked = agent.questions.length;
          const output = await agent.run(command, { seconds: 30 });
          went.push({ questions: agent.questions.length - asked, isRun: isRight.test(output) });
        }
        return went;
      };
      /** In a word, for two commands of the same form. */
      const form = async (commands: readonly [string, string], isRight: RegExp) => {
        const [first, second] = await run(commands, isRight);
        if (!first!.isRun || !second!.isRun) return 'refused';
        if (second!.questions > 0) return 'asks each time';
        return first!.questions > 0 ? 'asks once' : 'runs';
      };

      test('network', async () => {
        const command = `curl -fsS ${bridge.url}/llms.txt`;
        const [went] = await run([command], /^(Output: )?# agentalk/m);
        let measured = !went!.isRun ? 'no' : went!.questions > 0 ? 'asks' : 'yes';
        if (name === 'codex') {
          const isOpen = /^# agentalk/m.test(await agent.run(command, { seconds: 30, outside: [] }));
          measured += isOpen && agent.questions.length > 0 ? ', but asks to leave its sandbox' : '';
        }
        expectMeasured(name, 'network', measured);
      });

      test('what it may write', async () => {
        const places = { folder: 'made', '/tmp': '/tmp/made', '~': '~/made' };
        const written: string[] = [];
        for (const [place, path] of Object.entries(places)) {
          const [went] = await run([`echo written >${path} && cat ${path}`], /^(Output: )?written/m);
          if (went!.isRun) written.push(went!.questions > 0 ? `${place} (asks)` : place);
        }
        expectMeasured(name, 'may be written', written.join(', '));
      });

      test('. file; function', async () => {
        writeFileSync(join(agent.project, 'session.env'), 'hello() { echo hello "$@"; }\n');
        const commands = ['. ./session.env; hello 1', '. ./session.env; hello 2'] as const;
        expectMeasured(name, '. file; function', await form(commands, /hello \d/));
      });

      test("./agentalk say 'words'", async () => {
        const commands = ["./agentalk say 'hello there'", "./agentalk say 'and again'"] as const;
        expectMeasured(name, './agentalk', await form(commands, /agentalk: error: there is no session/));
      });

      test("bash agentalk say 'words'", async () => {
        const commands = ["bash agentalk say 'hello there'", "bash agentalk say 'and again'"] as const;
        expectMeasured(name, 'bash agentalk', await form(commands, /agentalk: error: there is no session/));
      });

      test('a here-document with backticks', async () => {
        const heredoc = (text: string) => `cat <<'END'\n${text} \`back\` ticks\nEND`;
        expectMeasured(name, 'here-document', await form([heredoc('one'), heredoc('two')], /(one|two) `back` ticks/));
      });
    });
  }
});

/** Everything allowed, but Codex in its sandbox with its network on: that is what decides there. */
const WORKING_MODE: Partial<Record<ProgramName, string>> = { codex: 'network' };

describe('at work', () => {
  for (const name of names()) {
    describe(name, () => {
      const program = PROGRAMS[name];
      let agent: Agent;
      let system: string;
      before(async () => {
        agent = await Agent.start(name, `facts-${name}-working`, { mode: WORKING_MODE[name] ?? 'relaxed', prepare });
        system = JSON.stringify(agent.turn.asked);
      });
      after(() => agent?.stop());

      /** What its page-fetch tool makes of our page, over http on this machine. */
      const fetchPage = async (): Promise<string> => {
        const call = program.pageTool?.(`${bridge.url}/llms.txt`);
        if (call === undefined) return 'none';
        if (name === 'claude')
          await agent.use({ name: 'ToolSearch', args: { query: 'select:WebFetch', max_results: 3 } });
        else if (!system.includes(`"${call.name}"`)) return 'none';
        const page = await (await fetch(`${bridge.url}/llms.txt`)).text();
        const text = (await agent.use(call)).results.join('\n');
        const commands = page.split('\n').filter((line) => /^(curl|\.\/agentalk)/.test(line));
        if (commands.every((line) => text.includes(line))) return 'whole';
        if (/SSL/.test(text)) return 'https only';
        return /Blocked Host/.test(text) ? 'not on this machine' : 'cut';
      };

      test('how it tells that it runs a command', async () => {
        const output = await agent.run('env', { seconds: 30 });
        const marks = [
          'CODEX_THREAD_ID',
          'CLAUDECODE',
          'CLAUDE_CODE_MESSAGING_SOCKET',
          'GEMINI_CLI',
          'OPENCODE',
          'COPILOT_CLI',
          'PI_CODING_AGENT',
        ];
        expectMeasured(
          name,
          'tells itself by',
          marks.filter((mark) => new RegExp(`^(Output: )?${mark}=.`, 'm').test(output)).join(', '),
        );
      });

      test('how much of one output it shows', async () => {
        const count = 2000; // lines of 100 bytes each, their ends counted
        const command = `for n in {0001..${count}}; do printf 'line %s %089d\\n' $n 0; done`;
        const output = await agent.run(command, { seconds: 30 });
        const shown = new Set([...output.matchAll(/line (\d{4}) 0{89}/g)].map(([, n]) => Number(n)));
        let start = 0;
        while (shown.has(start + 1)) start += 1;
        let end = 0;
        while (end < count && shown.has(count - end)) end += 1;
        const kilobytes = (lines: number) => `${lines < 100 ? lines / 10 : Math.round(lines / 10)} KB`;
        const parts = [start > 0 ? `first ${kilobytes(start)}` : '', end > 0 ? `last ${kilobytes(end)}` : ''];
        expectMeasured(name, 'shown of one output', parts.filter(Boolean).join(', '));
      });

      test('part 1 of the client, in its viewer', async () => {
        if (program.viewer === undefined) return expectMeasured(name, 'its viewer', 'none');
        const turn = await agent.use(program.viewer('/home/dev/project/agentalk.sh', PART_1.split('\n').length));
        const text = turn.results.join('\n');
        const missing = PART_1.split('\n').filter((line) => !text.includes(line.trim()));
        const isMasked = missing.length === 1 && text.includes('******'); // what looks like a credential
        const whole = isMasked ? 'part 1 in one look, one line masked' : 'part 1 in one look';
        expectMeasured(name, 'its viewer', missing.length === 0 || isMasked ? whole : 'part 1 is cut');
      });

      test('a process that outlives its call', async () => {
        await agent.run('(sleep 4; echo survived >survivor) >/dev/null 2>&1 </dev/null & echo started', {
          seconds: 30,
        });
        const output = await agent.run('sleep 7; cat survivor', { seconds: 30 });
        expectMeasured(name, 'a process outlives its call', /^(Output: )?survived/m.test(output) ? 'yes' : 'no');
      });

      test('its page-fetch tool', async () => {
        const measured = await fetchPage();
        expectMeasured(name, 'its page-fetch tool', measured);
      });

      test('where it looks for skills', () => {
        const found = [
          ['~/.agents/skills', 'in-agents-was-read'],
          ['~/.claude/skills', 'in-claude-was-read'],
        ].filter(([, words]) => system.includes(words!));
        expectMeasured(name, 'skills from', found.map(([folder]) => folder).join(', ') || 'neither');
      });
    });
  }
});

assert.ok(PART_1.length > 1000, 'part 1 of the client was found');
