/** README's commands, run as they are, print its transcript. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type TestBridge, startBridge } from '../lib/bridge.ts';
import { ROOT } from '../lib/root.ts';
import { BASH, Running, makeFolder } from '../lib/shell.ts';

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const readme = read('README.md');
const SHELL_BLOCKS = [...readme.matchAll(/```sh\n([^]*?)```/g)].map(([, text = '']) => text);
const [START = '', AGENT_COMMANDS = ''] = SHELL_BLOCKS;
const TRANSCRIPT = /```\n(laptop {2}[^]*?)```/.exec(readme)?.[1] ?? '';
const README_BRIDGE = 'http://127.0.0.1:8787';

/** What a transcript can't repeat: the time of day. */
const withoutTime = (text: string) => text.replace(/\d\d:\d\d UTC/g, 'HH:MM UTC');

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

/** An agent's tool: a new shell for each command, always in the same folder. */
class Machine {
  readonly #folder = makeFolder();
  #output = '';

  constructor(readonly name: string) {}

  async run(command: string): Promise<string> {
    const env = { PATH: process.env['PATH'] ?? '', HOME: this.#folder, AGENTALK_HOME: this.#folder, LANG: 'C.UTF-8' };
    const { status, stdout, stderr } = await new Running(BASH, ['-c', command], { cwd: this.#folder, env }).ended;
    assert.equal(status, 0, `${command}\n${stdout}${stderr}`);
    this.#output += stdout;
    return stdout;
  }

  /** The transcript's lines of this machine that it printed, in the order in which it printed them. */
  printed(lines: readonly string[]): string[] {
    const wanted = lines.map(withoutTime);
    return withoutTime(this.#output)
      .split('\n')
      .map((line) => `${this.name}  ${line}`)
      .filter((line) => wanted.includes(line));
  }
}

test('README: npm start is the first command, and the two commands of the agent follow', () => {
  assert.equal(START, 'npm start\n');
  assert.equal(AGENT_COMMANDS.trim().split('\n').length, 2);
  assert.ok(AGENT_COMMANDS.includes(README_BRIDGE));
});

test('README: its commands and words, run on two machines, print its transcript', async () => {
  const laptop = new Machine('laptop');
  const server = new Machine('server');
  const [download = '', create = ''] = AGENT_COMMANDS.replaceAll(README_BRIDGE, bridge.url).trim().split('\n');
  assert.match(await laptop.run(download), /^SHA2?-?256/);
  const invite = /^Talk to my other agent — curl this URL to start: (\S+)$/m.exec(await laptop.run(create));
  assert.ok(invite?.[1], 'an invite');

  await server.run(download);
  const waiting = laptop.run('./agentalk wait 30');
  await server.run(`./agentalk join '${invite[1]}' --name server`);
  await waiting;
  const [question = '', answer = ''] = [...TRANSCRIPT.matchAll(/ {2}\| (.*)$/gm)].map(([, words]) => words);
  await laptop.run(`./agentalk say '${question}'`);
  await server.run('./agentalk wait 30');
  await server.run(`./agentalk say '${answer}'`);
  await laptop.run('./agentalk wait 30');

  const lines = TRANSCRIPT.trimEnd().split('\n');
  assert.equal(lines.length, 6);
  for (const machine of [laptop, server]) {
    const expected = lines.filter((line) => line.startsWith(machine.name)).map(withoutTime);
    assert.deepEqual(machine.printed(lines), expected);
  }
});

test('README, docs/agents.md and the start page name the same commands that save questions', () => {
  const commands = SHELL_BLOCKS.map((block) => block.trim()).filter((block) => /^(?:claude|codex) /.test(block));
  assert.equal(commands.length, 2);
  const startPage = read('sdk/web/start.html').replace(/\s+/g, ' ');
  for (const command of commands) {
    assert.ok(read('docs/agents.md').includes(`\`${command}\``), command);
    assert.ok(startPage.includes(`<code>${command}</code>`), command);
  }
});
