/**
 * Agents at their shells: the real client, dist/agentalk.sh, run as an agent runs it. Each has a folder of its own, with
 * the client in it as `agentalk`. A call is `./agentalk COMMAND …`; an agent with a shell sources its session file there
 * instead. AGENTALK_TEST_BASH names another bash to run it all with, AGENTALK_TEST_WINDOWS gives them
 * openssl and curl as they are on Windows.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { atEnd } from './at-end.ts';
import { ROOT } from './root.ts';
import { installWindowsPrograms } from './windows.ts';

/** Where this process finds a program, whatever PATH the agents are given. */
export function pathOf(program: string): string {
  if (program.includes('/')) return program;
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const folder = folders.find((each) => existsSync(join(each, program)));
  return join(folder ?? assert.fail(`${program} is not installed`), program);
}

export const BASH = pathOf(process.env['AGENTALK_TEST_BASH'] || 'bash');
/** The client as it is released. */
export const CLIENT = join(ROOT, 'dist', 'agentalk.sh');

/**
 * What makes the client of most tests fast: the protocol's timers run ten times as fast, a pause before another try is a
 * tenth, a message that can't be sent is tried for 8 seconds instead of 40, and missing pieces of a file are asked for
 * each second instead of each eighth.
 */
const SHORTER: readonly (readonly [pattern: RegExp, replacement: string])[] = [
  [/^SPEED=1(?= )/m, 'SPEED=10'],
  [/(?<=send_queued "\$N" )40\b/, '8'],
  [/(?<= )seconds=8(?= # pieces that lack)/, 'seconds=1'],
];

/** Makes the pauses of a client before another try a tenth as long; those of less than a second stay. */
export const shortenPauses = (source: string): string =>
  replaceOnce(
    source,
    /^sleep_seconds\(\) \{ .* \}(?= # SECONDS$)/m,
    'sleep_seconds() { "$RUN_sleep" "$(($1 / 10)).$(($1 > 0 ? $1 % 10 : RANDOM % 9))" || "$RUN_sleep" "$1"; }',
  );

/** Replaces what must be there exactly once. */
export function replaceOnce(source: string, pattern: RegExp, replacement: string): string {
  assert.equal(source.match(new RegExp(pattern, `${pattern.flags}g`))?.length, 1, `${String(pattern)} in the client`);
  return source.replace(pattern, () => replacement);
}

/** Writes the client to a path, executable; a faster one, unless it is to be the release. */
export function installClient(path: string, isReleased = false): void {
  const script = readFileSync(CLIENT, 'utf8');
  const fast = () => SHORTER.reduce((source, each) => replaceOnce(source, ...each), shortenPauses(script));
  writeFileSync(path, isReleased ? script : fast());
  chmodSync(path, 0o755);
}
const DEADLINE_MS = 30_000;
/** Who runs what must not be run as root; nobody, by its number everywhere. */
const NOBODY = 65534;

const running = new Set<Running>();
const folders: string[] = [];

atEnd(() => {
  for (const each of running) each.end('SIGKILL');
});
process.on('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => process.exit(128 + constants.signals[signal]));
}

/** A new folder that lasts as long as this process. */
export function makeFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'agentalk-test-')));
  folders.push(folder);
  return folder;
}

/** What POSIX has (XCU 3) of the tools that a client may use; curl and openssl are all that it wants besides. */
export const POSIX_TOOLS: readonly string[] =
  'cat chmod cp cut date dd df du env fold grep head id kill ln ls mkdir mv od printf rm rmdir sed sh sleep sort split tee tr uname wc'.split(
    ' ',
  );

/** A folder that holds these tools alone: a PATH. */
export function toolFolder(tools: readonly string[]): string {
  const folder = makeFolder();
  for (const tool of tools) symlinkSync(realpathSync(pathOf(tool)), join(folder, tool));
  return folder;
}

export interface Result {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Standard output as it came. */
  readonly bytes: Buffer;
}

export interface Options {
  readonly cwd?: string;
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  /** The shell that sources the session file. */
  readonly shell?: string;
}

/** A process at the head of a group of its own, which ends with it. */
export class Running {
  readonly ended: Promise<Result>;
  readonly #child: ChildProcess;
  readonly #stdout: Buffer[] = [];
  readonly #stderr: Buffer[] = [];
  readonly #watchers = new Set<() => void>();
  #isOver = false;

  constructor(program: string, args: readonly string[], options: Options & { env: Readonly<Record<string, string>> }) {
    const { cwd, env, input } = options;
    this.#child = spawn(program, args, { cwd, env, stdio: 'pipe', detached: true });
    running.add(this);
    this.#child.stdin?.on('error', () => {}); // it may end before it has read all
    this.#child.stdin?.end(input ?? '');
    const take = (parts: Buffer[]) => (part: Buffer) => {
      parts.push(part);
      this.#tell();
    };
    this.#child.stdout?.on('data', take(this.#stdout));
    this.#child.stderr?.on('data', take(this.#stderr));
    this.ended = new Promise((resolve, reject) => {
      this.#child.on('error', reject);
      this.#child.on('close', (status) => {
        this.#isOver = true;
        running.delete(this);
        this.#tell();
        resolve({ status, stdout: this.stdout, stderr: this.stderr, bytes: Buffer.concat(this.#stdout) });
      });
    });
  }

  get pid(): number {
    assert.ok(this.#child.pid);
    return this.#child.pid;
  }

  get stdout(): string {
    return Buffer.concat(this.#stdout).toString();
  }

  get stderr(): string {
    return Buffer.concat(this.#stderr).toString();
  }

  /** The first whole line of output that matches, whether it is there or still comes. */
  line(pattern: RegExp): Promise<string> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => settle(() => reject(this.#missing(pattern, 'in time'))), DEADLINE_MS);
      const settle = (how: () => void) => {
        clearTimeout(timer);
        this.#watchers.delete(look);
        how();
      };
      const look = () => {
        const lines = `${this.stdout}\n${this.stderr}`.split('\n');
        const found = lines.find((line) => pattern.test(line));
        if (found !== undefined) settle(() => resolve(found));
        else if (this.#isOver) settle(() => reject(this.#missing(pattern, 'before it ended')));
      };
      this.#watchers.add(look);
      look();
    });
  }

  /** Sends a signal to it and all that it started; nothing once it has ended, since its number may be another one's then. */
  end(signal: NodeJS.Signals = 'SIGTERM'): Promise<Result> {
    if (this.#isOver) return this.ended;
    try {
      process.kill(-this.pid, signal);
    } catch {
      // It has ended already.
    }
    return this.ended;
  }

  #missing(pattern: RegExp, when: string): Error {
    return new Error(`no line like ${String(pattern)} ${when}:\n${this.stdout}${this.stderr}`);
  }

  #tell(): void {
    for (const watcher of this.#watchers) watcher();
  }
}

/** A PATH on which openssl and curl are as on Windows. */
export function windowsPath(): string {
  const folder = makeFolder();
  installWindowsPrograms(folder, pathOf);
  return [folder, process.env['PATH']].join(delimiter);
}

/** What an agent's shell has in its environment: nothing of this process but its PATH. */
const ENVIRONMENT = {
  PATH: process.env['AGENTALK_TEST_WINDOWS'] ? windowsPath() : (process.env['PATH'] ?? ''),
  LANG: 'C.UTF-8',
};

export interface AgentOptions {
  /** Which of the folder's sessions; also its name in the channel. */
  readonly name?: string;
  readonly home?: string;
  /** The client, installed already; else one in its home. */
  readonly client?: string;
  /** Calls go through the session file, in this shell. */
  readonly shell?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Has the release's bytes, with its real timers. */
  readonly isReleased?: boolean;
  /** Runs as nobody where this process is root. */
  readonly unprivileged?: boolean;
  /** Program and arguments to be put in front of all that it runs. */
  readonly inside?: readonly string[];
}

/** A join URL: the key, perhaps a ticket, and the start of the client's SHA-256. */
export const LINK = /https?:\S+\/c\/[0-9a-f]{32}#k=[0-9a-f]{64}(&t=[0-9a-f]{32})?&c=[0-9a-f]{32}(?=\s|$)/;

export class Agent {
  readonly home: string;
  readonly client: string;
  readonly #options: AgentOptions;
  /** The name that it asks for; then the one that it has. */
  name: string;
  /** The whole join URL, once there is one. */
  link = '';

  constructor(options: AgentOptions = {}) {
    this.#options = options;
    this.name = options.name ?? 'laptop';
    this.home = options.home ?? makeFolder();
    this.client = options.client ?? join(this.home, 'agentalk');
    if (!existsSync(this.client)) installClient(this.client, options.isReleased);
    if (options.unprivileged && process.getuid?.() === 0) chownSync(this.home, NOBODY, NOBODY);
  }

  get sessionFile(): string {
    return `${this.folder}.env`;
  }

  get folder(): string {
    return join(this.home, `agentalk-session-${this.name}`);
  }

  get key(): string {
    return this.link.replace(/^.*#k=|&.*$/g, '');
  }

  /** What stands in its folder and belongs to a session, whole or half-done. */
  traces(): string[] {
    return readdirSync(this.home).filter((name) => name.startsWith('agentalk-session-'));
  }

  /** Starts any program as this agent. */
  start(program: string, args: readonly string[], { env = {}, ...options }: Options = {}): Running {
    const drop = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
    const outer = this.#options.unprivileged && process.getuid?.() === 0 ? drop : [];
    const [first = program, ...rest] = [...(this.#options.inside ?? []), ...outer, program, ...args];
    const own = { HOME: this.home, AGENTALK_HOME: this.home, ...this.#options.env };
    return new Running(pathOf(first), rest, { cwd: this.home, ...options, env: { ...ENVIRONMENT, ...own, ...env } });
  }

  /** Runs `./agentalk …` to its end, whatever that is. */
  run(args: readonly string[], options: Options = {}): Promise<Result> {
    return this.start(BASH, [this.client, ...args], options).ended;
  }

  /** Opens a channel. */
  async create(bridge: string, args: readonly string[] = ['--name', this.name]): Promise<Result> {
    const result = expectSuccess(await this.run(['create', bridge, ...args]));
    this.link = LINK.exec(result.stdout)?.[0] ?? assert.fail(`no link in:\n${result.stdout}`);
    return result;
  }

  /** Joins a channel under the name that it then has. */
  async join(link: string, args: readonly string[] = ['--name', this.name]): Promise<Result> {
    const before = new Set(this.traces());
    const result = expectSuccess(await this.run(['join', link, ...args]));
    const made = this.traces().find((name) => name.endsWith('.env') && !before.has(name));
    this.name = made?.slice('agentalk-session-'.length, -'.env'.length) ?? assert.fail(`no session:\n${result.stdout}`);
    this.link = link;
    return result;
  }

  /** Sources the session file in a new shell and runs a line of code there; $1, $2 … are `args`. */
  shell(code: string, args: readonly string[] = [], options: Options = {}): Running {
    const shell = options.shell ?? this.#options.shell ?? BASH;
    return this.start(shell, ['-c', `. "$0"; ${code}`, this.sessionFile, ...args], options);
  }

  /** Starts a command of the session, such as `listen`. */
  begin(command: string, ...args: readonly string[]): Running {
    return this.#command([command, ...args]);
  }

  /** Runs a command of the session, which must succeed. */
  async call(command: string, ...args: readonly string[]): Promise<Result> {
    return expectSuccess(await this.begin(command, ...args).ended);
  }

  /** `say`, with the text through standard input. */
  async pipe(text: string | Uint8Array, command = 'say', ...args: readonly string[]): Promise<Result> {
    return expectSuccess(await this.#command([command, ...args], { input: text }).ended);
  }

  #command([command = '', ...args]: readonly string[], options: Options = {}): Running {
    if (this.#options.shell) return this.shell(`agentalk_${command} "$@"`, args, options);
    const isAlone = this.traces().filter((name) => name.endsWith('.env')).length < 2;
    return this.start(BASH, [this.client, ...(isAlone ? [] : ['--as', this.name]), command, ...args], options);
  }

  /** Waits as an agent does, call after call, until all of these came; returns what it has read meanwhile. */
  async waitForOutput(...patterns: readonly RegExp[]): Promise<string> {
    const end = Date.now() + DEADLINE_MS;
    let heard = '';
    for (;;) {
      const missing = patterns.filter((pattern) => !pattern.test(heard));
      if (missing.length === 0) return heard;
      if (Date.now() > end) assert.fail(`${this.name} waits in vain for ${missing.join(' and ')} and heard:\n${heard}`);
      heard += (await this.call('wait', '5')).stdout;
    }
  }

  /** The files of its inbox in the order in which they came. */
  inbox(): { readonly name: string; readonly path: string; readonly bytes: Buffer }[] {
    const folder = join(this.folder, 'inbox');
    const names = readdirSync(folder).sort((a, b) => parseInt(a, 10) - parseInt(b, 10));
    return names.map((name) => ({ name, path: join(folder, name), bytes: readFileSync(join(folder, name)) }));
  }
}

export function expectSuccess(result: Result): Result {
  assert.equal(result.status, 0, `status ${result.status}:\n${result.stdout}${result.stderr}`);
  return result;
}

/** What each failure has to look like: what failed, what to do, nothing else, and a status that shows it. */
export function expectFailure(result: Result, words: RegExp): void {
  assert.match(result.stderr, /^agentalk: error: [^\n]+\nagentalk: hint: [^\n]+\n$/);
  assert.match(result.stderr.replaceAll('\n', ' '), words);
  assert.ok(result.status !== 0 && result.status !== null, `status ${result.status}`);
}

/** An agent that is not root, also where the tests are: to root every folder is its own. */
export const unprivileged = (name: string, home?: string) =>
  new Agent({ name, unprivileged: true, ...(home ? { home } : {}) });

/** Looks again and again until it is so. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + DEADLINE_MS;
  while (!(await isSo())) {
    if (Date.now() > end) assert.fail(`in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Until so many polls wait at a bridge: whoever started `wait` or `listen` is heard from now on. */
export function polling(bridge: string, count: number): Promise<void> {
  return until(`${count} waiting polls`, async () => {
    const metrics = await (await fetch(`${bridge}/metrics`)).text();
    return Number(/^agentalk_polls_pending (\d+)$/m.exec(metrics)?.[1]) >= count;
  });
}

/** Opens a channel and pairs the agents: each that joins hears PAIRED from all that were there, and they from it. */
export async function pair(bridge: string, ...[first, ...others]: readonly [Agent, ...Agent[]]): Promise<void> {
  const paired = ({ name }: Agent) => new RegExp(`PAIRED with ${name}\\.`);
  await first.create(bridge);
  const there = [first];
  for (const other of others) {
    const waiting = there.map((agent) => agent.waitForOutput(paired(other)));
    const { stdout } = await other.join(first.link);
    await Promise.all([
      ...waiting,
      other.waitForOutput(...there.map(paired).filter((pattern) => !pattern.test(stdout))),
    ]);
    there.push(other);
  }
}
