/** `listen --wake`: news wakes an agent whose turn is over, by one fixed sentence. The programs are stand-ins here. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Agent, BASH, expectSuccess, makeFolder, pair, until } from '../lib/shell.ts';
import type { Running } from '../lib/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const SENTENCE = 'agentalk: news has come. To read it, run: ./agentalk wait 0';
const TOKEN = '0123456789abcdef0123456789abcdef';

/** The inbox of a Claude Code session: JSON lines over a socket, which it leaves open. */
class Inbox {
  readonly path = join(makeFolder(), 'inbox.sock');
  /** What was said to it, whole lines, one array for each connection. */
  readonly connections: unknown[][] = [];
  readonly #server = createServer((socket) => {
    const lines: unknown[] = [];
    this.connections.push(lines);
    let rest = '';
    socket.setEncoding('utf8');
    socket.on('error', () => {});
    socket.on('data', (chunk: string) => {
      const parts = (rest + chunk).split('\n');
      rest = parts.pop() ?? '';
      for (const part of parts) lines.push(JSON.parse(part));
    });
  });

  open(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(this.path, resolve));
  }

  close(): void {
    this.#server.close();
  }

  get environment() {
    return { CLAUDECODE: '1', CLAUDE_CODE_MESSAGING_SOCKET: this.path, CLAUDE_CODE_MESSAGING_TOKEN: TOKEN };
  }
}

/** Two agents that are paired; the first one runs in a program. */
async function pairIn(env: Readonly<Record<string, string>>): Promise<{ laptop: Agent; server: Agent }> {
  const laptop = new Agent({ name: 'laptop', env });
  const server = new Agent({ name: 'server' });
  await pair(bridge.url, laptop, server);
  return { laptop, server };
}

/** All that lies below a folder, as text. */
const contentOf = (folder: string) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile())
    .map((path) => readFileSync(path, 'latin1'))
    .join('\n');

/** A Codex: a process of that name, which queues what it is told to. It runs a command and stays. */
function codex(agent: Agent, command: string): Running {
  const program = join(agent.home, 'codex');
  copyFileSync(BASH, program);
  // What bash runs as `bash queue …`.
  writeFileSync(join(agent.home, 'queue'), `printf '%s\\n' "$@" >>queued\n`);
  return agent.start(program, ['-c', `${BASH} agentalk ${command}; read -r -t 60 _ < <(sleep 60); true`]);
}

const THREAD = '01a22e1d-3f42-7d80-adf1-4557af307d2a';
const skip = process.platform !== 'linux' && 'the stand-in is found by /proc';

describe('listen --wake', { concurrency: true }, () => {
  test('Claude Code is woken by its inbox: once until the news is read, and without a word of the peer', async (t) => {
    const inbox = new Inbox();
    await inbox.open();
    t.after(() => inbox.close());
    const { laptop, server } = await pairIn(inbox.environment);
    const listening = laptop.begin('listen', '--wake');
    await listening.line(/background task/);
    await server.waitForOutput(/no news/); // by then it was told how the laptop is reached
    const { stdout: sent } = await server.call('say', 'the first words');
    assert.match(sent, /laptop \(agent\) listening now: a message wakes it/);
    await until('the first sentence', () => inbox.connections.length === 1);
    await server.call('say', 'the second words');
    const { stdout: shown } = await laptop.call('wait', '10');
    assert.match(shown, /\| the first words/);
    await laptop.waitForOutput(/\| the second words/);
    await server.call('say', 'the third words');
    await until('the second sentence', () => inbox.connections.length === 2);
    await laptop.waitForOutput(/\| the third words/);
    await laptop.call('leave');
    const { stdout } = await listening.ended;
    assert.equal(inbox.connections.length, 2, 'once until it is read');
    for (const lines of inbox.connections) {
      assert.deepEqual(lines, [
        { type: 'auth', token: TOKEN },
        { type: 'user', message: { role: 'user', content: SENTENCE } },
      ]);
    }
    assert.doesNotMatch(stdout, /words|server/);
    assert.ok(!stdout.includes(TOKEN) && !contentOf(laptop.home).includes(TOKEN), 'the token is nowhere');
  });

  test('what a call that waits shows in time wakes nobody', async (t) => {
    const inbox = new Inbox();
    await inbox.open();
    t.after(() => inbox.close());
    const { laptop, server } = await pairIn(inbox.environment);
    const listening = laptop.begin('listen', '--wake');
    await listening.line(/background task/);
    const waiting = laptop.begin('wait', '20');
    await server.call('say', 'words');
    assert.match(expectSuccess(await waiting.ended).stdout, /\| words/);
    await server.waitForOutput(/no news/);
    assert.equal(inbox.connections.length, 0);
    await listening.end();
  });

  test('Claude Code without an inbox is woken by the end of the task', async () => {
    const { laptop, server } = await pairIn({ CLAUDECODE: '1' });
    const listening = laptop.begin('listen', '--wake');
    await listening.line(/background task/);
    await server.call('say', 'words');
    const { stdout } = expectSuccess(await listening.ended);
    assert.match(stdout, new RegExp(`\n${SENTENCE}\n$`));
    assert.doesNotMatch(stdout, /words|server/);
    assert.match((await laptop.call('wait', '0')).stdout, /\| words/, 'nothing was taken for shown');
  });

  test('a task whose sentence nobody heeds for a minute ends', async (t) => {
    const inbox = new Inbox();
    await inbox.open();
    t.after(() => inbox.close());
    const { laptop, server } = await pairIn(inbox.environment);
    const listening = laptop.begin('listen', '--wake');
    await listening.line(/background task/);
    await server.call('say', 'words');
    assert.match(expectSuccess(await listening.ended).stdout, new RegExp(`\n${SENTENCE}\n$`));
    assert.equal(inbox.connections.length, 1);
    assert.match((await laptop.call('wait', '0')).stdout, /\| words/);
    // Others are told that nothing wakes it any more.
    await server.waitForOutput(/no news/);
    const { stdout } = await server.call('say', 'more words');
    assert.match(stdout, /laptop/);
    assert.doesNotMatch(stdout, /wakes/);
  });

  test('Codex is woken by its queue, by a process that outlives the call', { skip }, async () => {
    const { laptop, server } = await pairIn({ CODEX_THREAD_ID: THREAD });
    mkdirSync(join(laptop.home, '.codex'));
    const program = codex(laptop, 'listen --wake');
    await program.line(/news will wake you/);
    const queued = join(laptop.home, 'queued');
    await server.call('say', 'the first words');
    await until('the first sentence', () => existsSync(queued));
    await server.call('say', 'the second words');
    await server.call('wait', '8');
    const one = `--thread\n${THREAD}\n--message\n${SENTENCE}\n`;
    assert.equal(readFileSync(queued, 'utf8'), one, 'once until it is read');
    await laptop.waitForOutput(/\| the first words/, /\| the second words/);
    await server.call('say', 'the third words');
    await until('the second sentence', () => readFileSync(queued, 'utf8').length > one.length);
    assert.equal(readFileSync(queued, 'utf8'), one + one);
    assert.match((await laptop.run(['listen', '--wake'], {})).stdout, /wakes you already/);
    await program.end();
    // With its program it ends, too.
    await until('it ends', () => readFileSync(join(laptop.folder, 'wake.lock'), 'utf8') === '');
  });

  test('in the sandbox of Codex it is said that nothing wakes it, and the wait is a short one', async () => {
    const { laptop, server } = await pairIn({ CODEX_THREAD_ID: THREAD });
    const listening = laptop.begin('listen', '--wake');
    await listening.line(/can't be woken from here: waiting for 25 s/);
    await server.call('say', 'words');
    assert.match(expectSuccess(await listening.ended).stdout, /\| words/);
  });

  test('in Copilot CLI it ends with the news', async () => {
    const { laptop, server } = await pairIn({ COPILOT_CLI: '1' });
    const listening = laptop.begin('listen', '--wake');
    await listening.line(/only async command/);
    await server.call('say', 'words');
    assert.match(expectSuccess(await listening.ended).stdout, /\| words/);
  });

  test('elsewhere it waits, and says that it can’t wake', async () => {
    const { laptop, server } = await pairIn({});
    const listening = laptop.begin('listen', '--wake');
    await listening.line(/can't be woken from here: waiting for 100 s/);
    await server.call('say', 'words');
    assert.match(expectSuccess(await listening.ended).stdout, /\| words/);
  });

  test('as a hook, it goes on with the sentence where a turn ends with unread news, once', async () => {
    const { laptop, server } = await pairIn({});
    const hook = async () => (await laptop.call('listen', '--hook')).stdout;
    assert.equal(await hook(), '');
    await server.call('say', 'words');
    assert.deepEqual(JSON.parse(await hook()), { decision: 'block', reason: SENTENCE });
    assert.equal(await hook(), '', 'else the turn would never end');
    await laptop.waitForOutput(/\| words/);
    assert.equal(await hook(), '');
    await server.call('say', 'more words');
    assert.match(await hook(), /block/);
  });
});
