/**
 * One real client, bob, among members that a test plays itself: honest ones, and some that hold the key and misuse it.
 * Between bob and the bridge stands an adversary. Each of bob's calls has little memory and must end in time, and all
 * that he ever prints is kept and judged: by its form, and by whether it was said.
 */
import assert from 'node:assert/strict';
import { existsSync, lstatSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Adversary } from '../kit/adversary.ts';
import type { Asked } from '../kit/adversary.ts';
import { ReferenceClient } from '../kit/client.ts';
import { BASH, CLIENT } from '../kit/shell.ts';
import { Stage } from '../faults/stage.ts';
import type { Running } from '../faults/stage.ts';

/** Address space of each of bob's processes: a client that keeps a huge answer in memory fails. */
const MEMORY_KIB = 400_000;
/** What a session may take on disk at any time: its outbox keeps 64 MB, and no test here sends anything like that. */
const DISK_BYTES = 48 << 20;
const DEADLINE_SECONDS = 90;

/** A file called `ran` shows that words became code; no word has a space, so that they fit where one word does. */
export const TRICKS: readonly string[] = [
  ...['$(touch${IFS}ran)', '`touch${IFS}ran`', 'a[$(touch${IFS}ran)]', ';touch${IFS}ran;', '|touch${IFS}ran', '&'],
  ...[
    '*',
    '?',
    '[a-z]*',
    '{a,b}',
    '~root',
    '$HOME',
    '../../ran',
    '/etc/passwd',
    '-rf',
    '--help',
    '!!',
    '#',
    '\\',
    '%s%n',
  ],
  ...['"', "'", '"}', '\u001b[2J\u001b]0;x\u0007', '\u0085', '\u202e', '\u0000', '\r', '\t', 'NaN', '-1', '0x10', '08'],
  ...['1e9', '999999999999999', '9223372036854775808', '99999999999999999999999999', 'PEERS', 'SECONDS', ''],
];

export interface Shown {
  readonly from: string;
  readonly to: string;
  readonly text: string;
}

/** A line of the program: its own, printable; or of a peer's words behind the bar, with nothing that moves a cursor. */
// eslint-disable-next-line no-control-regex
const LINE = /^(agentalk: [ -~…—]*|  \| [^\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*)?$/;

export class Scene {
  readonly stage: Stage;
  readonly adversary: Adversary;
  readonly members = new Map<string, ReferenceClient>();
  /** All that bob has printed. */
  screen = '';
  /** The most that bob's home took on disk. */
  diskBytes = 0;
  #truths = 0;

  private constructor(stage: Stage, adversary: Adversary) {
    this.stage = stage;
    this.adversary = adversary;
  }

  /** The members in one channel, listening; then bob, paired with each. */
  static async open(t: TestContext | undefined, bridge: string, names: readonly string[] = ['ada']): Promise<Scene> {
    const stage = new Stage('hostile');
    t?.after(() => stage.close());
    const adversary = await Adversary.start(bridge);
    stage.onClose(() => adversary.stop());
    const scene = new Scene(stage, adversary);
    stage.session('bob');
    for (const name of names) await scene.enter(bridge, name);
    await scene.call('join', scene.linkOfBob, '--name', 'bob');
    for (const name of names) {
      await scene.sees(new RegExp(`PAIRED with ${name}\\.`));
      await scene.member(name).paired('bob');
    }
    // Those who said hello themselves are welcomed by bob, and answer that too.
    for (const name of names.slice(1))
      await scene.member(name).until((self) => self.outbox.filter(({ to }) => to === self.peer('bob').id).length >= 2);
    await scene.call('wait', '0');
    return scene;
  }

  /** One more member, who listens. */
  async enter(bridge: string, name: string): Promise<ReferenceClient> {
    const [first] = this.members.values();
    const client = first ? await ReferenceClient.join(first.joinUrl, name) : await ReferenceClient.create(bridge, name);
    this.members.set(name, client.start());
    this.stage.onClose(() => client.stop());
    return client;
  }

  member(name: string): ReferenceClient {
    return this.members.get(name) ?? assert.fail(`no member ${name}`);
  }

  get linkOfBob(): string {
    const [first] = this.members.values();
    return this.adversary.urlFor('bob') + (first?.joinUrl.slice(first.bridge.length) ?? '');
  }

  get home(): string {
    return join(this.stage.folder, 'bob');
  }

  get folder(): string {
    return join(this.home, 'agentalk-session-bob');
  }

  /** Starts a command of bob's. */
  start(args: readonly string[], input?: string): Running {
    const own = join(this.folder, 'agentalk.sh');
    const script = existsSync(own) ? own : CLIENT;
    const code = `cd "$AGENTALK_HOME" && ulimit -v ${MEMORY_KIB} && exec "$@"`;
    return this.stage.spawn(BASH, ['-c', code, BASH, BASH, script, ...args], { AGENTALK_HOME: this.home }, input);
  }

  /** Runs one to its end, which comes in time and is one that the client chose; gives what it printed. */
  async call(...args: readonly string[]): Promise<string> {
    return this.callWith(undefined, ...args);
  }

  async callWith(input: string | undefined, ...args: readonly string[]): Promise<string> {
    const running = this.start(args, input);
    const watch = setInterval(() => (this.diskBytes = Math.max(this.diskBytes, sizeOf(this.home))), 100);
    const timer = setTimeout(() => void running.kill(), DEADLINE_SECONDS * 1000);
    const result = await running.closed;
    clearTimeout(timer);
    clearInterval(watch);
    const { output } = running;
    this.screen += output;
    assert.ok(result === 0 || result === 1, `${args[0]} ended with ${result}:\n${output}`);
    return output;
  }

  /** Waits, call after call, until bob's screen has this. */
  async sees(pattern: RegExp, seconds = 45): Promise<void> {
    const end = Date.now() + seconds * 1000;
    while (!pattern.test(this.screen)) {
      if (Date.now() > end) assert.fail(`bob does not see ${String(pattern)}:\n${this.screen}`);
      await this.call('wait', '2');
    }
  }

  /** From here on the bridge is honest. */
  honest(): void {
    this.adversary.rewrite = (_, body) => body;
    this.adversary.usurp = () => false;
    this.adversary.alter = (_, answer) => answer;
  }

  /** What ada says next is shown, once and in its order. */
  async truth(name = 'ada'): Promise<void> {
    const [first, second] = [++this.#truths, ++this.#truths];
    await this.member(name).say(`truth ${first}`);
    await this.member(name).dm('bob', `truth ${second}`);
    await this.sees(new RegExp(`^  \\| truth ${second}$`, 'm'));
  }

  /** The messages on bob's screen. */
  shown(): Shown[] {
    const found: { from: string; to: string; text: string }[] = [];
    for (const line of this.screen.split('\n')) {
      const [, from, to] = /^agentalk: #\d+ from (\S+) to (all|you alone)[^:]*, \d+ bytes, .*:$/.exec(line) ?? [];
      if (from !== undefined && to !== undefined) found.push({ from, to, text: '' });
      else if (line.startsWith('  | ')) {
        const last = found.at(-1) ?? assert.fail(`words of nobody: ${line}`);
        last.text += (last.text === '' ? '' : '\n') + line.slice(4);
      }
    }
    return found;
  }

  /** What was told as TAMPERED, as `CAUSE NAME`. */
  tampered(): string[] {
    return [...this.screen.matchAll(/^agentalk: TAMPERED (\S+): something under the name of (\S+) /gm)].map(
      ([, cause, name]) => `${cause} ${name}`,
    );
  }

  /**
   * What holds whatever happened.
   *
   * @param also texts that were said besides the truths, in any place
   */
  check(also: readonly string[] = []): void {
    for (const line of this.screen.split('\n')) assert.match(line, LINE);
    const texts = this.shown().map(({ text }) => text);
    const truths = texts.filter((text) => !also.includes(text));
    assert.deepEqual(
      truths,
      Array.from({ length: this.#truths }, (_, i) => `truth ${i + 1}`),
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
    const folder = join(this.folder, 'inbox');
    const kept = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'));
    assert.deepEqual(kept.sort(), [...new Set(this.shown().map(({ text }) => text))].sort());
  }

  checkNothingRan(): void {
    const folders = [this.stage.folder, this.home, this.folder, join(this.folder, 'inbox'), process.cwd()];
    for (const folder of folders) assert.ok(!existsSync(join(folder, 'ran')), `something ran in ${folder}`);
  }
}

export type Rewrite = (asked: Asked, lines: string[]) => readonly string[];

/** Lets the adversary rewrite the lines of what bob is answered; the last one is the empty string after a newline. */
export function lie(scene: Scene, rewrite: Rewrite): void {
  scene.adversary.rewrite = (asked, body) =>
    Buffer.from(rewrite(asked, body.toString('latin1').split('\n')).join('\n'), 'latin1');
}

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
