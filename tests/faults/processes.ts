/**
 * Real processes: bridges that can be killed and come back at the same address, and participants, each with a home of its
 * own. What a test started ends with it, by its pid.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { FaultProxy } from '../lib/fault-proxy.ts';
import type { Plan } from '../lib/fault-proxy.ts';
import { BASH, installClient, replaceOnce } from '../lib/shell.ts';

/** Asks again and again, until there is something. Throws when that takes too long. */
export async function until<T>(what: string, seconds: number, ask: () => T | undefined | Promise<T | undefined>) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** A process at the head of a group of its own. */
export class Running {
  readonly child: ChildProcess;
  output = '';
  /** Its status, or the signal that ended it. */
  readonly ended: Promise<number | string>;
  /** The same, once all that it said is here. What it leaves behind may hold that open. */
  readonly closed: Promise<number | string>;
  result: number | string | undefined;

  constructor(command: string, args: readonly string[], env: NodeJS.ProcessEnv, input: string | Buffer | undefined) {
    this.child = spawn(command, args, { env, detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
    const { stdin, stdout, stderr } = this.child;
    for (const stream of [stdout, stderr]) stream?.on('data', (text: Buffer) => (this.output += text.toString()));
    stdin?.on('error', () => {});
    stdin?.end(input ?? '');
    this.ended = new Promise((resolve) => {
      this.child.once('exit', (code, signal) => resolve((this.result = code ?? signal ?? 'gone')));
      this.child.once('error', (error) => resolve((this.result = error.message)));
    });
    const closed = new Promise((resolve) => this.child.once('close', resolve));
    this.closed = closed.then(() => this.ended);
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  /** To it alone, or to its whole group; nothing once it has ended, since its number may be another process's by then. */
  signal(signal: NodeJS.Signals, whom: 'it' | 'group' = 'group'): void {
    if (this.result !== undefined) return;
    try {
      process.kill(whom === 'it' ? this.pid : -this.pid, signal);
    } catch {
      // It has ended.
    }
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL', whom: 'it' | 'group' = 'group'): Promise<void> {
    this.signal(signal, whom);
    await this.ended;
  }

  /** Waits for words in its output, in what came after `from` characters. */
  async says(words: string | RegExp, seconds = 30, from = 0): Promise<string> {
    const isThere = () => this.output.slice(from).search(words) >= 0;
    await until(String(words), seconds, () => isThere() || (this.result !== undefined ? 'ended' : undefined))
      .then(() => isThere() || Promise.reject(new Error('it has ended')))
      .catch((error: Error) => assert.fail(`${words}: ${error.message}. It said:\n${this.output.slice(from)}`));
    return this.output.slice(from);
  }
}

/** A bridge that can be killed, and comes back at the same address. */
export class Bridge {
  readonly #flags: readonly string[];
  #process: TestBridge | undefined;
  url = '';

  constructor(flags: readonly string[]) {
    this.#flags = flags;
  }

  async start(): Promise<void> {
    const port = this.url === '' ? '0' : new URL(this.url).port;
    this.#process = await until(
      'a bridge',
      20,
      () => startBridge([...this.#flags, '--port', port]).catch(() => undefined), // the port may not be free yet
    );
    this.url = this.#process.url;
  }

  async kill(): Promise<void> {
    await this.#process?.stop();
    this.#process = undefined;
  }

  /** SIGSTOP and SIGCONT, above all. */
  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }

  /** The value of a gauge or counter. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    return Number(new RegExp(`^agentalk_${name} (\\S+)$`, 'm').exec(text)?.[1]);
  }
}

/** Where a participant lives: a folder as its own processes see it and as we do, and the program that starts them there. */
export interface Home {
  readonly path: string;
  readonly seen: string;
  readonly inside: readonly string[];
}

/** One participant. */
export class Session {
  readonly #processes: Processes;
  readonly #home: Home;
  readonly name: string;

  constructor(processes: Processes, name: string, home: Home) {
    this.#processes = processes;
    this.#home = home;
    this.name = name;
  }

  /** As we see it. */
  get home(): string {
    return this.#home.seen;
  }

  get folder(): string {
    return join(this.home, `agentalk-session-${this.name}`);
  }

  /** Starts a command: of the session where there is one, else of the client that makes it. */
  start(
    args: readonly string[],
    input?: string | Buffer,
    other: { env?: NodeJS.ProcessEnv; inside?: readonly string[] } = {},
  ): Running {
    const { path, inside } = this.#home;
    const isThere = existsSync(join(this.folder, 'agentalk.sh'));
    const script = isThere ? join(path, `agentalk-session-${this.name}`, 'agentalk.sh') : this.#processes.client;
    const [program = BASH, ...rest] = [...(other.inside ?? inside), BASH, script, ...args];
    return this.#processes.spawn(program, rest, { AGENTALK_HOME: path, ...other.env }, input);
  }

  /** Changes its own client: this code runs when all functions are there, and before its command. */
  instrument(code: string): void {
    const path = join(this.folder, 'agentalk.sh');
    const [before, behind, ...others] = readFileSync(path, 'utf8').split(/^(?=start "\$@"$)/m);
    assert(behind !== undefined && others.length === 0, 'from there on the client runs its command');
    writeFileSync(path, `${before}\n${code}\n${behind}`);
  }

  /** Changes a line of its own client. */
  edit(pattern: RegExp, replacement: string): void {
    const path = join(this.folder, 'agentalk.sh');
    writeFileSync(path, replaceOnce(readFileSync(path, 'utf8'), pattern, replacement));
  }

  /** Makes its calls wait for AGENTALK_SLOW seconds before each line that they print. */
  printSlowly(): void {
    this.instrument(`print() {
      [ -z "\${AGENTALK_SLOW:-}" ] || "$RUN_sleep" "$AGENTALK_SLOW"
      printf '%s\\n' "$1" || exit 1
    }`);
  }

  /** Runs one to its end; any other status than that expected fails. */
  async run(args: readonly string[], input?: string | Buffer, status: number | null = 0): Promise<string> {
    const process = this.start(args, input);
    const result = await process.closed;
    if (status !== null) assert.equal(result, status, `${args[0]}: ${process.output}`);
    return process.output;
  }

  say(text: string): Promise<string> {
    return this.run(['say'], text);
  }

  dm(to: string, text: string): Promise<string> {
    return this.run(['dm', to], text);
  }

  wait(seconds: number): Promise<string> {
    return this.run(['wait', String(seconds)]);
  }

  listen(): Running {
    return this.start(['listen']);
  }

  /** Starts a listener, and waits until it polls. */
  async listening(): Promise<Running> {
    const listener = this.listen();
    await this.polls(listener);
    return listener;
  }

  /** Until this call polls for its session. */
  async polls(call: Running, seconds = 30): Promise<void> {
    const lock = join(this.folder, 'poll.lock');
    const isIt = () => existsSync(lock) && readFileSync(lock, 'latin1').split('-')[1] === String(call.pid);
    await until(`${this.name}: a poll of ${call.pid}`, seconds, () => isIt() || undefined);
  }

  /** Files that calls left; while one runs it has some. */
  get temporary(): string[] {
    return existsSync(this.folder) ? readdirSync(join(this.folder, 'tmp')) : [];
  }

  /** All files of its folder, but what grows with the talk: records, and the content of each message. */
  get files(): string[] {
    return readdirSync(this.folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(this.folder, join(entry.parentPath ?? entry.path, entry.name)))
      .filter((path) => !/^(journal|inbox|outbox)\//.test(path));
  }
}

export class Processes {
  readonly folder: string;
  /** The client that makes sessions. */
  readonly client: string;
  readonly #running = new Set<Running>();
  readonly #closers: (() => Promise<void>)[] = [];

  /** @param isReleased the client with its real timers, else ten times as fast */
  constructor(name: string, isReleased = false) {
    this.folder = realpathSync(mkdtempSync(join(tmpdir(), `agentalk-${name}-`)));
    this.client = join(this.folder, 'agentalk.sh');
    installClient(this.client, isReleased);
  }

  spawn(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}, input?: string | Buffer): Running {
    const { PATH, TMPDIR, LANG } = process.env;
    const base = { PATH, TMPDIR, LANG, HOME: this.folder, NO_PROXY: '127.0.0.1', AGENTALK_TEST_PROCESSES: this.folder };
    const running = new Running(command, args, { ...base, ...env }, input);
    this.#running.add(running);
    void running.ended.then(() => this.#running.delete(running));
    return running;
  }

  async bridge(...flags: readonly string[]): Promise<Bridge> {
    const bridge = new Bridge(flags);
    this.onClose(() => bridge.kill());
    await bridge.start();
    return bridge;
  }

  session(name: string, home?: Home): Session {
    const path = join(this.folder, name);
    mkdirSync(path, { recursive: true });
    return new Session(this, name, home ?? { path, seen: path, inside: [] });
  }

  async faultProxy(bridge: Bridge, plan?: Plan): Promise<FaultProxy> {
    const faultProxy = await FaultProxy.start(bridge.url, plan);
    this.onClose(() => faultProxy.stop());
    return faultProxy;
  }

  /** What must be ended before these are. */
  onClose(close: () => Promise<void>): void {
    this.#closers.unshift(close);
  }

  /** Sessions in one channel, each paired with each other; `urlFor` gives each its way to the bridge. */
  async startSessions(
    names: readonly string[],
    urlFor: (name: string) => string,
    homes: Record<string, Home> = {},
  ): Promise<Session[]> {
    const sessions = names.map((name) => this.session(name, homes[name]));
    const [first, ...others] = sessions;
    assert(first);
    const opened = await first.run(['create', urlFor(first.name), '--name', first.name]);
    const link = /\S+(\/c\/\S+#k=[0-9a-f]{64})/.exec(opened)?.[1];
    for (const session of others) {
      const before = sessions.slice(0, sessions.indexOf(session));
      const listeners = before.map((each) => each.listen());
      const joined = await session.run(['join', urlFor(session.name) + link, '--name', session.name]);
      for (const listener of listeners) await listener.says(`PAIRED with ${session.name}`);
      const missing = before.filter(({ name }) => !joined.includes(`PAIRED with ${name}`));
      const own = session.listen();
      for (const { name } of missing) await own.says(`PAIRED with ${name}`);
      for (const listener of [own, ...listeners]) await listener.kill('SIGTERM');
    }
    for (const session of sessions) await session.wait(0); // what came while they paired
    return sessions;
  }

  /** Processes that still run, as `pid: command`. */
  leftovers(): string[] {
    const found: string[] = [];
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        if (!readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`AGENTALK_TEST_PROCESSES=${this.folder}\0`))
          continue;
        found.push(`${pid}: ${readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ')}`);
      } catch {
        // It has just ended, or is not ours.
      }
    }
    return found;
  }

  async close({ isKept = process.env['AGENTALK_TEST_KEEP'] !== undefined } = {}): Promise<void> {
    for (const running of this.#running) running.signal('SIGCONT');
    await Promise.all([...this.#running].map((running) => running.kill()));
    for (const close of this.#closers) await close();
    if (!isKept) rmSync(this.folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  }
}
