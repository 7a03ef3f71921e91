/**
 * The whole task, as a careful agent does it after it has read our pages: every command is taken from the page as the
 * program handed it on, so a page that was cut or changed on its way fails here.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../lib/root.ts';
import type { Agent } from './agent.ts';
import type { ShellOptions } from './programs.ts';

/** What an agent says, each a way of quoting that models use. */
export const MESSAGES: readonly string[] = [
  "'Hello. I would like you to review the fix in src/worker.ts.'",
  "'It is 8 lines (the timer is now cleared), and costs $5 at most.'",
  '"The suite is green; please run yours, too."',
  "'Two lines:\nthe second one.'",
  "'Please send the whole log & the last error <stderr>.'",
  "'That is it: line 40 was the cause -> a race; 100% reproducible.'",
  '"It\'s fixed. Does that look right to you?"',
  "'I have pushed it: git pull origin main; then npm test'",
  "'[x] done, [ ] open: {docs}, ~/notes, *.md, #17!'",
  "'Thank you. I will send you the patch, and leave.'",
];

/** A reply that fills what our client shows of one message. */
export const LONG_REPLY = Array.from({ length: 240 }, (_, n) => `line ${n + 1} of 240: ${'x'.repeat(32)}`).join('\n');

/** What a shell makes of one of MESSAGES. */
export const spoken = (quoted: string) => quoted.slice(1, -1);

const FILE = 'fix.patch';
const FILE_TEXT = 'diff --git a/src/worker.ts b/src/worker.ts\n+  clearTimeout(timer);\n';
const SHA256 = createHash('sha256')
  .update(readFileSync(join(ROOT, 'dist', 'agentalk.sh')))
  .digest('hex');

/** The commands of a page, without comments. */
function commandsOf(page: string): string[] {
  return [...page.matchAll(/```sh\n([^]*?)```/g)].map(([, block = '']) =>
    block
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .join('\n'),
  );
}

/** The seconds that the page has for this program: `Codex and Copilot CLI 25, Gemini CLI 240, others 100`. */
function secondsToWait(page: string, title: string): number {
  const [, list = ''] = /Seconds of `wait`: ([^(]*)/.exec(page) ?? [];
  const parts = list.replace(/\s+/g, ' ').split(', ');
  const part = parts.find((each) => each.includes(title)) ?? parts.find((each) => each.includes('others'));
  const [, seconds] = /(\d+) ?$/.exec(part ?? '') ?? [];
  assert.ok(seconds, `the page says how long ${title} waits: ${list}`);
  return Number(seconds);
}

export interface TaskOptions {
  /** How every command is run. */
  readonly shell?: ShellOptions;
  /** Called with the line for the other agent. */
  readonly onInvite?: (invite: string) => void;
}

/** Runs a command, with the words that this agent uses for the client. */
const runIn = (agent: Agent, { shell }: TaskOptions, command: string, seconds = 30) =>
  agent.run(command.replaceAll('./agentalk ', `${agent.call} `), { ...shell, seconds });

/** From here on the agent calls the client as the last line that it printed says. */
function followNext(agent: Agent, printed: string): void {
  agent.call =
    /((?:bash )?\S+) wait\b/.exec(printed.split('\n').findLast((line) => line.includes(' wait')) ?? '')?.[1] ??
    agent.call;
}

/** Reads the page of the bridge, opens a channel and waits until it is PAIRED. @returns the seconds to wait */
export async function open(agent: Agent, bridge: string, options: TaskOptions = {}): Promise<number> {
  const run = (command: string, seconds?: number) => runIn(agent, options, command, seconds);
  const page = await run(`curl -fsS ${bridge}/llms.txt`);
  assertWhole(page, await textAt(`${bridge}/llms.txt`));
  const [fetchIt = '', create = '', say = ''] = commandsOf(page);
  assert.match(await run(fetchIt), new RegExp(SHA256), 'the client came, and its checksum was printed');
  const created = await run(create);
  const [invite] = /Talk to my other agent — curl this URL to start: \S+#k=[0-9a-f]{64}\S*/.exec(created) ?? [];
  assert.ok(invite, `the line for the other agent came whole: ${created}`);
  followNext(agent, created);
  options.onInvite?.(invite);
  assert.match(say, /^\.\/agentalk say '.*' && \.\/agentalk wait \d+$/);
  const seconds = secondsToWait(page, agent.program.title);
  await waitFor(agent, /agentalk: PAIRED/, seconds, options, created);
  return seconds;
}

/** Reads the page of the link, and joins. @returns the seconds to wait */
export async function joinBy(agent: Agent, invite: string, options: TaskOptions = {}): Promise<number> {
  const run = (command: string, seconds?: number) => runIn(agent, options, command, seconds);
  const [link = ''] = /https?:\S+/.exec(invite) ?? [];
  const page = await run(`curl -fsS '${link}'`);
  assertWhole(page, await textAt(link));
  const [fetchIt = '', join = ''] = commandsOf(page);
  assert.match(await run(fetchIt), new RegExp(SHA256), 'the client came, and its checksum was printed');
  const joined = await run(join.replace(/'[^']*'/, `'${link}'`), 40);
  assert.match(joined, /agentalk: joined/);
  followNext(agent, joined);
  const [, fewer = '', whose = ''] =
    /time limit of your tool \((\d+) in ([^)]*)\)/.exec(page.replace(/\s+/g, ' ')) ?? [];
  const [, usual = ''] = /^\.\/agentalk wait (\d+)$/m.exec(page) ?? [];
  const seconds = Number(whose.includes(agent.program.title) ? fewer : usual);
  assert.ok(seconds > 0, 'the page says how long to wait');
  await waitFor(agent, /agentalk: PAIRED/, seconds, options, joined);
  return seconds;
}

/** Says all MESSAGES, and waits for a reply after each. @returns all that it was shown */
export async function say(agent: Agent, seconds: number, options: TaskOptions = {}): Promise<string> {
  let all = '';
  for (const [n, message] of MESSAGES.entries()) {
    const command = `./agentalk say ${message} && ./agentalk wait ${seconds}`;
    const shown = await runIn(agent, options, command, seconds + 20);
    assert.match(shown, /agentalk: sent/, message);
    all += await waitFor(agent, new RegExp(`\\| +Reply ${n + 1}\\b`), seconds, options, shown);
  }
  return all;
}

/** Sends a file and leaves. */
export async function finish(agent: Agent, options: TaskOptions = {}): Promise<void> {
  const sent = await runIn(agent, options, `./agentalk send_file ${FILE}`, 40);
  assert.match(sent, /agentalk: sent fix\.patch/);
  assert.match(await runIn(agent, options, './agentalk leave'), /agentalk: left/);
  agent.finish();
}

/** What the project holds before a program starts: the file that is sent. */
export function prepareProject(home: string): void {
  writeFileSync(join(home, 'project', FILE), FILE_TEXT);
}

/** Waits in calls of this many seconds until something is shown. @returns all that was shown */
export async function waitFor(
  agent: Agent,
  pattern: RegExp,
  seconds: number,
  options: TaskOptions = {},
  before = '',
): Promise<string> {
  let all = before;
  for (let n = 0; n < 6 && !pattern.test(all); n++) {
    all += await runIn(agent, options, `./agentalk wait ${seconds}`, seconds + 20);
  }
  assert.match(all, pattern);
  return all;
}

async function textAt(url: string): Promise<string> {
  const response = await fetch(url.replace(/#.*/, ''), { headers: { 'User-Agent': 'curl/8.0.0', Accept: '*/*' } });
  return response.text();
}

/** Every line of the original is there, in order. */
export function assertWhole(text: string, original: string): void {
  let from = 0;
  for (const line of original.split('\n').map((each) => each.trim())) {
    const at = text.indexOf(line, from);
    assert.ok(at >= 0, `this line did not come: ${line}\n${text}`);
    from = at + line.length;
  }
}
