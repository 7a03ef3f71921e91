/**
 * What the attacks need: bob, the real shell client, in a channel with members that a test plays (member.ts), and
 * between bob and the bridge a proxy that can change each answer. Each of bob's calls has little memory and must end in
 * time. All that bob prints is kept, and judged by its form and by whether somebody said it.
 */
import assert from 'node:assert/strict';
import { existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { FaultProxy } from '../../lib/fault-proxy.ts';
import type { Asked } from '../../lib/fault-proxy.ts';
import { BASH, CLIENT, Running, makeFolder, replaceOnce, until } from '../../lib/shell.ts';
import { Member, sha256Hex } from './member.ts';
import type { MemberOptions } from './member.ts';

/** Address space of each of bob's processes: a client that keeps a huge answer in memory fails. */
const MEMORY_KIB = 400_000;
/** What a session may take on disk at any time: its outbox keeps 64 MB, and no test here sends anything like that. */
const DISK_BYTES = 48 << 20;
const DEADLINE_SECONDS = 60;
/** How long the client of these tests waits for what is missing, instead of a minute. */
export const MISSING_SECONDS = 6;

/**
 * A file called `ran` shows that words became code. The client finds no program by name, so some of them use builtins
 * only. No word has a space, so that they fit where one word does.
 */
export const INJECTION_STRINGS: readonly string[] = [
  ...['$(>ran)', '`>ran`', 'a[$(>ran)]', 'x[`>ran`]', ';>ran;', '|>ran', '&', '$(/bin/touch${IFS}ran)', '>ran'],
  ...['BASH_VERSINFO[$(>ran)]', '1+a[$(>ran)0]', "'>ran'", '*', '?', '[a-z]*', '{a,b}', '~root', '$HOME'],
  ...[
    '../../ran',
    '/etc/passwd',
    '-rf',
    '--help',
    '!!',
    '#',
    '\\',
    '%s%n',
    '"',
    "'",
    '"}',
    '\u001b[2J\u001b]0;x\u0007',
  ],
  ...['\u0085', '\u202e', '\u0000', '\r', '\t', 'NaN', '-1', '0x10', '08', '1e9', '999999999999999'],
  ...['9223372036854775808', '99999999999999999999999999', 'PEERS', 'SECONDS', 'IFS', ''],
];

export interface Shown {
  readonly from: string;
  readonly to: string;
  readonly notes: string;
  readonly text: string;
}

/** A line of the client: its own, printable; or words of others behind the bar, with nothing that moves a cursor. */
export const LINE =
  // eslint-disable-next-line no-control-regex
  /^(agentalk: [ -~…—]*|  \| [^\0-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]*)?$/;

/** The client with a shorter wait for what is missing; or with another change, too. */
export function makeClient(change: (source: string) => string = (source) => source): string {
  const changed = replaceOnce(readFileSync(CLIENT, 'utf8'), /^SPEED=1(?= )/m, `SPEED=${60 / MISSING_SECONDS}`);
  const path = join(makeFolder(), 'agentalk.sh');
  writeFileSync(path, change(changed), { mode: 0o755 });
  return path;
}
let fastClient: string | undefined;

export class AttackFixture {
  readonly folder = makeFolder();
  readonly faultProxy: FaultProxy;
  readonly members = new Map<string, Member>();
  /** What the bridge gives out as pieces of files, by their SHA-256. */
  readonly blobs = new Map<string, Buffer>();
  /** The client that bob joins with. */
  client: string | undefined;
  /** All that bob has printed. */
  screen = '';
  /** The most that bob's home took on disk. */
  diskBytes = 0;
  /** The longest of bob's calls. */
  longestMs = 0;
  /** May change the lines of what bob is answered; the last one is the empty string after a newline. */
  rewrite: Rewrite = (lines) => lines;
  #markers = 0;
  #bridge: string;
  readonly #running = new Set<Running>();

  private constructor(faultProxy: FaultProxy, bridge: string) {
    this.faultProxy = faultProxy;
    this.#bridge = bridge;
    mkdirSync(this.home);
    this.honest();
  }

  /** The members in one channel; then bob, paired with each. `prepare` comes before bob. */
  static async open(
    t: TestContext | undefined,
    bridge: string,
    names: readonly string[] = ['ada'],
    client?: string,
    prepare: (fixture: AttackFixture) => void = () => {},
  ): Promise<AttackFixture> {
    const fixture = new AttackFixture(await FaultProxy.start(bridge), bridge);
    t?.after(() => fixture.close());
    if (client !== undefined) fixture.client = client;
    for (const name of names) await fixture.enter(name);
    prepare(fixture);
    await fixture.call('join', fixture.linkOfBob, '--name', 'bob');
    for (const name of names) {
      await fixture.waitForEntry(new RegExp(`PAIRED with ${name}\\.`));
      await fixture.member(name).paired('bob');
    }
    return fixture;
  }

  async close(): Promise<void> {
    for (const running of this.#running) await running.end('SIGKILL');
    for (const member of this.members.values()) await member.stop();
    await this.faultProxy.stop();
  }

  /** One more member. */
  async enter(name: string, options: MemberOptions = {}): Promise<Member> {
    const [first] = this.members.values();
    const member = first ? await Member.join(first, name, options) : await Member.create(this.#bridge, name, options);
    await this.members.get(name)?.stop();
    this.members.set(name, member);
    return member;
  }

  member(name: string): Member {
    return this.members.get(name) ?? assert.fail(`no member ${name}`);
  }

  get linkOfBob(): string {
    const [first] = this.members.values();
    return this.faultProxy.urlFor('bob') + (first?.joinUrl.slice(first.bridge.length) ?? '');
  }

  get home(): string {
    return join(this.folder, 'bob');
  }
  get session(): string {
    return join(this.home, 'agentalk-session-bob');
  }

  /** Starts a command of bob's, with a redirection of the shell's if one is given. */
  start(args: readonly string[], input: string | Uint8Array = '', redirection = ''): Running {
    this.client ??= fastClient ??= makeClient();
    const own = join(this.session, 'agentalk.sh');
    const script = existsSync(own) && !['join', 'create'].includes(args[0] ?? '') ? own : this.client;
    const code = `ulimit -v ${MEMORY_KIB} && exec "$@" ${redirection}`;
    const env = { PATH: process.env['PATH'] ?? '', LANG: 'C.UTF-8', HOME: this.home, AGENTALK_HOME: this.home };
    const running = new Running(BASH, ['-c', code, BASH, BASH, script, ...args], { env, cwd: this.home, input });
    this.#running.add(running);
    return running;
  }

  /** Runs one to its end, which comes in time and is one that the client chose; gives what it printed. */
  async call(...args: readonly string[]): Promise<string> {
    return this.callWith('', ...args);
  }

  async callWith(input: string | Uint8Array, ...args: readonly string[]): Promise<string> {
    const began = Date.now();
    const running = this.start(args, input);
    const watch = setInterval(() => (this.diskBytes = Math.max(this.diskBytes, sizeOf(this.home))), 250);
    const timer = setTimeout(() => void running.end('SIGKILL'), DEADLINE_SECONDS * 1000);
    const { status, stdout, stderr } = await running.ended;
    clearTimeout(timer);
    clearInterval(watch);
    this.#running.delete(running);
    this.longestMs = Math.max(this.longestMs, Date.now() - began);
    const output = stdout + stderr;
    this.screen += output;
    assert.ok(status === 0 || status === 1, `${args[0]} ended with ${status}:\n${output}`);
    return output;
  }

  /** Waits, call after call, until bob's screen has this. */
  async waitForEntry(pattern: RegExp, seconds = 30): Promise<void> {
    const end = Date.now() + seconds * 1000;
    while (!pattern.test(this.screen)) {
      if (Date.now() > end) assert.fail(`bob does not see ${String(pattern)}:\n${this.screen}`);
      await this.call('wait', '1');
    }
  }

  /** From here on the bridge is honest, but for the pieces of files that it gives out. */
  honest(): void {
    this.rewrite = (lines) => lines;
    this.faultProxy.plan = () => ({ what: 'pass' });
    this.faultProxy.translate = ({ path }) => unscalePath(path);
    this.faultProxy.rewrite = (asked, body) => {
      if (['page', 'blobs'].includes(asked.kind)) return body;
      const lines = body.toString('latin1').split('\n').map(scaleLine);
      return Buffer.from(this.rewrite(lines, asked).join('\n'), 'latin1');
    };
    this.faultProxy.alter = (_, answer) => answer;
    this.faultProxy.answerInstead = ({ kind, path, method, body }, response) => {
      if (kind !== 'blobs') return false;
      const hash = /\/blobs\/([0-9a-f]{64})/.exec(path)?.[1] ?? '';
      if (method === 'PUT') this.blobs.set(hash, body);
      const blob = this.blobs.get(hash);
      response.writeHead(blob ? 200 : 404, { 'Content-Length': String(method === 'GET' ? (blob?.length ?? 0) : 0) });
      response.end(method === 'GET' ? blob : undefined);
      return true;
    };
  }

  /** Makes pieces known to bob's bridge; gives their hashes. */
  addBlobs(...pieces: readonly Uint8Array[]): string[] {
    return pieces.map((piece) => {
      const hash = sha256Hex(piece);
      this.blobs.set(hash, Buffer.from(piece));
      return hash;
    });
  }

  /** What a member says next is shown, to all and to bob alone. All that came before has been dealt with by then. */
  async sendMarker(name = 'ada', seconds = 30): Promise<void> {
    const [first, second] = [++this.#markers, ++this.#markers];
    await this.member(name).say(`marker ${first}`);
    await this.member(name).dm('bob', `marker ${second}`);
    await this.waitForEntry(new RegExp(`^  \\| marker ${second}$`, 'm'), seconds);
  }

  /** The messages on bob's screen, or in another output. */
  shown(screen = this.screen): Shown[] {
    const found: { from: string; to: string; notes: string; text: string }[] = [];
    let isMessage = false;
    for (const line of screen.split('\n')) {
      const header = /^agentalk: #\d+ from (\S+) to (all|you alone), \d+ bytes, ([^(]*)(?: \((.*)\))?:$/.exec(line);
      if (header) found.push({ from: header[1] ?? '', to: header[2] ?? '', notes: header[4] ?? '', text: '' });
      if (!line.startsWith('  | ')) isMessage = header !== null;
      else if (isMessage) {
        const last = found.at(-1) ?? assert.fail(`words of nobody: ${line}`);
        last.text += (last.text === '' ? '' : '\n') + line.slice(4);
      }
    }
    return found;
  }

  texts(from?: string): string[] {
    return this.shown()
      .filter((each) => (from ?? each.from) === each.from && !/^marker \d+$/.test(each.text))
      .map(({ text }) => text);
  }

  /** What was reported as TAMPERED, as `CAUSE NAME`. */
  tampered(): string[] {
    const lines = this.screen.matchAll(/^agentalk: TAMPERED (\S+): something under the name of (\S+) /gm);
    return [...lines].map(([, cause, name]) => `${cause} ${name}`);
  }

  /** How often bob printed a line that starts with these words. */
  count(words: string): number {
    return this.screen.split('\n').filter((line) => line.startsWith(`agentalk: ${words}`)).length;
  }

  /**
   * What holds whatever happened.
   *
   * @param said texts that were said besides the markers, in any place
   */
  check(said: readonly string[] = []): void {
    for (const line of this.screen.split('\n')) assert.match(line, LINE);
    const texts = this.shown().map(({ text }) => text);
    assert.deepEqual(
      texts.filter((text) => !said.includes(text)),
      Array.from({ length: this.#markers }, (_, i) => `marker ${i + 1}`),
      'only what was said, once, in its order',
    );
    assert.equal(new Set(texts).size, texts.length, `nothing twice: ${texts.join(', ')}`);
    const causes = this.tampered();
    assert.equal(new Set(causes).size, causes.length, `each cause once: ${causes.join(', ')}`);
    this.checkNothingRan();
    assert.ok(this.diskBytes < DISK_BYTES, `${this.diskBytes} bytes on disk`);
  }

  /** The inbox has what was shown, each once, byte for byte. */
  checkInbox(): void {
    const folder = join(this.session, 'inbox');
    const stored = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'));
    assert.deepEqual(stored.sort(), [...new Set(this.shown().map(({ text }) => text))].sort());
  }

  checkNothingRan(): void {
    const folders = [this.folder, this.home, this.session, join(this.session, 'inbox'), process.cwd()];
    for (const folder of folders) assert.ok(!existsSync(join(folder, 'ran')), `something ran in ${folder}`);
  }

  /** Waits until a request of this kind has come from bob. */
  async asked(kind: string, count = 1): Promise<void> {
    await until(`a ${kind}`, () => (this.faultProxy.asked.get(`bob ${kind}`) ?? 0) >= count);
  }
}

/**
 * Bob is given other indices than the bridge's, so that events can be put between two others: the event r has the index
 * r * INDEX_SCALE.
 */
const INDEX_SCALE = 1_000_000;
const scaled = (word = '') => (/^\d{1,9}$/.test(word) ? String(Number(word) * INDEX_SCALE) : word);

function scaleLine(line: string): string {
  const words = line.split(' ');
  const at = { join: [1], message: [1], leave: [1], away: [1], back: [1], gap: [1, 2], cursor: [1, 4], sent: [1] }[
    words[0] ?? ''
  ];
  for (const i of at ?? []) if (words[i] !== undefined) words[i] = scaled(words[i]);
  return words.join(' ');
}

/** The real cursor in bob's request. */
export const unscalePath = (path: string): string =>
  path.replace(/([?&]since=)(\d+)/, (_, name: string, since: string) => {
    return `${name}${Math.floor(Number(since) / INDEX_SCALE)}`;
  });

/** In an event line: the index is the one after that of the line before it. */
export const NEXT = '+';

/** Gives each line of which the index is NEXT its index. */
function numberEvents(lines: readonly string[], first: number): string[] {
  let last = first;
  return lines.map((line) => {
    const [word = '', index, ...rest] = line.split(' ');
    if (word === 'gap') return line;
    if (index !== NEXT) {
      if (/^\d{1,15}$/.test(index ?? '')) last = Number(index);
      return line;
    }
    return [word, String(++last), ...rest].join(' ');
  });
}

export type Rewrite = (lines: string[], asked: Asked) => readonly string[];

/** The bridge changes the lines of its answers of a kind; the last one is the empty string after a newline. */
export function rewriteAnswers(fixture: AttackFixture, kind: string | readonly string[], rewrite: Rewrite): void {
  const kinds = [kind].flat();
  fixture.rewrite = (lines, asked) => (kinds.includes(asked.kind) ? rewrite(lines, asked) : lines);
}

/** The bridge changes the events of a poll; `cursor` is the last index of the answer, `since` the one before the first. */
export function rewriteEvents(
  fixture: AttackFixture,
  rewrite: (events: string[], cursor: number, since: number) => readonly string[],
): void {
  rewriteAnswers(fixture, 'poll', (lines, { path }) => {
    const cursor = /^cursor (\d+) /.exec(lines.at(-2) ?? '')?.[1];
    if (cursor === undefined) return lines;
    const since = Number(/[?&]since=(\d+)/.exec(path)?.[1] ?? 0);
    return [...numberEvents(rewrite(lines.slice(0, -2), Number(cursor), since), since), ...lines.slice(-2)];
  });
}

export const isMessage = (line: string): boolean => line.startsWith('message ');

type SealedFields = { readonly nonce: string; readonly ciphertext: string; readonly tag: string };

/** The line of a message event. */
export const messageLine = (from: string, to: string, sealed: SealedFields, index: number | string = NEXT): string =>
  `message ${index} ${Date.now()} ${from} ${to} ${sealed.nonce} ${sealed.ciphertext} ${sealed.tag}`;

export const joinLine = (from: string, sealed: SealedFields, index: number | string = NEXT): string =>
  `join ${index} ${Date.now()} ${from} ${sealed.nonce} ${sealed.ciphertext} ${sealed.tag}`;

/** The bridge puts these lines before the next message event, for good. */
export function insertOnce(fixture: AttackFixture, make: (message: string) => readonly string[]): void {
  let inserted: string[] | undefined;
  rewriteEvents(fixture, (events, _, since) => {
    const at = events.findIndex(isMessage);
    if (inserted === undefined && at >= 0) {
      const before = events.slice(0, at);
      const last = Math.max(since, ...before.map(indexOf));
      inserted = numberEvents(make(events[at] ?? ''), last);
    }
    const all = [...events, ...(inserted ?? []).filter((line) => indexOf(line) > since)];
    return all.sort((a, b) => indexOf(a) - indexOf(b));
  });
}

const indexOf = (line: string): number => Number(/^\S+ (\d+)/.exec(line)?.[1] ?? 0);

/** What a folder takes on disk, as far as it can be seen while others write there. */
function sizeOf(folder: string): number {
  let bytes = 0;
  for (const name of namesIn(folder)) {
    try {
      const about = lstatSync(join(folder, name));
      bytes += about.isDirectory() ? sizeOf(join(folder, name)) : about.size;
    } catch {
      // It has just gone.
    }
  }
  return bytes;
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
