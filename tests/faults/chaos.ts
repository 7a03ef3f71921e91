/**
 * Three participants talk over a bridge while everything fails that can: requests, answers, processes, the bridge, a
 * disk. At the end each inbox is read from its files. What fails, and when, follows from the seed: network faults from
 * a request's number, kills from the number of messages said.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { calm, storm as faults } from '../kit/adversary.ts';
import type { Adversary } from '../kit/adversary.ts';
import { Random } from '../kit/random.ts';
import { checkInbox, read, readOutbox, write } from './reader.ts';
import type { Entry, Numbered } from './reader.ts';
import { Stage, until } from './stage.ts';
import type { Bridge, Running, Session } from './stage.ts';

export interface StormOptions {
  readonly messages: number;
  readonly seed: string;
  /** The part of all requests that goes wrong. */
  readonly share: number;
  /** A small disk for one participant, which is full for a while now and then; needs root. */
  readonly smallDisk: boolean;
  readonly tell: (line: string) => void;
}

const NAMES = ['ada', 'bob', 'cyd'] as const;
const FILE_BYTES = 1_000_000;
/** As much as nothing at all may take, once everybody is left in peace. */
const STILL_SECONDS = 90;

/** What is said: texts to all or to one, and a file. */
interface Speech extends Numbered {
  readonly text: string;
  readonly isFile: boolean;
}

interface Act {
  readonly at: number;
  readonly what: string;
  run(): Promise<void>;
}

/** One participant with its listener, which comes back whenever it has ended, and what it has to say. */
class Actor {
  readonly session: Session;
  readonly speeches: readonly Speech[];
  readonly heard: Running[] = [];
  listener: Running | undefined;
  #isOver = false;
  /** Kills its next call of say in so many ms. */
  killIn: number | undefined;
  freezeIn: number | undefined;

  constructor(session: Session, speeches: readonly Speech[]) {
    this.session = session;
    this.speeches = speeches;
  }

  async listen(): Promise<void> {
    while (!this.#isOver) {
      this.listener = this.session.listen();
      this.heard.push(this.listener);
      await this.listener.ended;
      if (!this.#isOver) await pause(100);
    }
  }

  async speak(onSaid: () => void): Promise<void> {
    for (const speech of this.speeches) {
      while (!this.#isOver) {
        const status = await this.#attempt(speech);
        if (this.hasSaid(speech)) break;
        assert.notEqual(status, 0, `status 0, but nothing is kept of: ${speech.text.slice(0, 50)}`);
        await pause(200);
      }
      onSaid();
    }
  }

  async #attempt({ to, text, isFile }: Speech): Promise<number | string> {
    const path = join(this.session.home, 'report.bin');
    const words = isFile ? ['send_file', path, ...(to === 'all' ? [] : [to])] : to === 'all' ? ['say'] : ['dm', to];
    const call = this.session.start(words, isFile ? '' : text);
    const { killIn, freezeIn } = this;
    this.killIn = this.freezeIn = undefined;
    if (killIn !== undefined) setTimeout(() => call.signal('SIGKILL', killIn % 2 === 0 ? 'it' : 'group'), killIn);
    if (freezeIn !== undefined) {
      setTimeout(() => call.signal('SIGSTOP'), freezeIn);
      setTimeout(() => call.signal('SIGCONT'), freezeIn + 12_000);
    }
    const status = await call.closed; // what it started may outlive it for a moment, and finish a step
    if (status === 0 || status === 'SIGKILL') return status;
    assert.match(call.output, /disk full/, `${words[0]}: ${call.output}`);
    return status;
  }

  /** As its own log will have it: words stand with the sealed message that they belong to. */
  hasSaid({ text, isFile }: Speech): boolean {
    const said = readOutbox(this.session.folder, 60);
    if (isFile) return said.some(({ words }) => /:(\d+)\/\1$/.test(words[0] ?? '')); // its last part
    const [line] = text.split('\n');
    return said.some(({ body }) => body?.toString().startsWith(`${line}\n`));
  }

  /** How many messages it has. */
  get received(): number {
    return Number(this.#newest().head.split(' ')[2]);
  }

  /** Its newest commit: the number, and the line with the counts. */
  #newest(): { number: number; head: string } {
    const { folder } = this.session;
    let number = Number(readFileSync(join(folder, 'head'), 'utf8')) || 1;
    while (existsSync(join(folder, 'log', String(number + 1)))) number++;
    return { number, head: readFileSync(join(folder, 'log', String(number)), 'latin1').split('\n')[1] ?? '' };
  }

  hasShown(): boolean {
    const { folder } = this.session;
    const [, shown] = /(\d+) \d+;$/.exec(readFileSync(join(folder, 'shown'), 'utf8')) ?? [];
    return Number(shown) === this.#newest().number;
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await this.listener?.kill('SIGTERM');
  }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Words as agents use them, and as they don't: quotes, newlines, other scripts, and now and then a lot of them. */
function padding(random: Random): string {
  const size = random.isLess(0.85) ? random.between(0, 200) : random.isLess(0.8) ? random.between(200, 8000) : 50_000;
  const words = [
    'review',
    '$(reboot)',
    '`id`',
    "it's",
    '"so"',
    'zażółć',
    '你好',
    '🙂',
    '\\n',
    '\n',
    '%s',
    '| ',
    'x=1;',
  ];
  let text = '';
  while (text.length < size) text += random.pick(words) + (random.isLess(0.1) ? '\n' : ' ');
  return text;
}

/** What each has to say to whom, in its order. */
function speeches(seed: string, name: string, count: number): Speech[] {
  const random = new Random(seed, 'speeches', name);
  const others = NAMES.filter((other) => other !== name);
  return Array.from({ length: count }, (_, i) => {
    const to = random.isLess(0.6) ? 'all' : random.pick(others);
    const head = { from: name, to, n: i + 1 };
    const isFile = name === 'ada' && i === Math.floor(count / 3);
    return isFile ? { ...head, to: 'all', text: '', isFile } : { ...head, text: write(head, padding(random)), isFile };
  });
}

/** A file system of its own for one participant: its path, and how to take it away. */
async function smallDisk(stage: Stage, megabytes: number): Promise<string> {
  const folder = join(stage.folder, 'disk');
  mkdirSync(folder);
  const mount = `mount -t tmpfs -o size=${megabytes}m tmpfs '${folder}' && echo mounted && exec sleep 100000`;
  const holder = stage.spawn('unshare', ['-m', 'sh', '-c', mount]);
  await holder.says('mounted', 10);
  return `/proc/${holder.pid}/root${folder}`;
}

export interface Report {
  readonly said: number;
  readonly received: number;
  readonly faults: Readonly<Record<string, number>>;
  readonly acts: Readonly<Record<string, number>>;
  /** Lines that came again, marked so. */
  readonly again: number;
  /** Broadcasts that came before an earlier direct message of the same sender. */
  readonly overtaken: number;
  readonly seconds: number;
}

export async function storm(options: StormOptions): Promise<Report> {
  const { messages, seed, share, tell } = options;
  const stage = new Stage('storm');
  const begun = Date.now();
  const acts: Record<string, number> = {};
  try {
    const bridge = await stage.bridge();
    const adversary = await stage.adversary(bridge);
    const homes = options.smallDisk ? { cyd: await smallDisk(stage, 64 + messages / 20) } : {};
    const cast = await stage.cast(NAMES, (name) => adversary.urlFor(name), homes);
    const actors = cast.map((session) => {
      const count = Math.ceil(messages / NAMES.length);
      return new Actor(session, speeches(seed, session.name, count));
    });
    stage.onClose(async () => void (await Promise.all(actors.map((actor) => actor.end()))));
    const file = Buffer.alloc(FILE_BYTES);
    const random = new Random(seed, 'file');
    for (let i = 0; i < file.length; i++) file[i] = random.between(0, 255);
    writeFileSync(join(actors[0]?.session.home ?? '', 'report.bin'), file);

    const schedule = plan(options, actors, bridge);
    adversary.plan = faults(seed, share);
    const listening = actors.map((actor) => actor.listen());
    let said = 0;
    const running: Promise<void>[] = [];
    const onSaid = () => {
      said++;
      for (; schedule[0] && schedule[0].at <= said; schedule.shift()) {
        const { what, run } = schedule[0];
        acts[what] = (acts[what] ?? 0) + 1;
        running.push(run());
      }
      if (said % Math.max(20, Math.floor(messages / 50)) === 0) tell(progress(said, messages, actors, begun));
    };
    await Promise.all(actors.map((actor) => actor.speak(onSaid)));
    await Promise.all(running);
    adversary.plan = calm;
    await settle(actors, said, (line) => tell(line), begun);
    for (const actor of actors) {
      await until(`${actor.session.name}: all printed`, 60, () => actor.hasShown() || undefined);
      await actor.end();
    }
    const heard = actors.map((actor) => check(actor, actors, file));
    await Promise.all(listening);
    const again = actors.map(checkLines).reduce((a, b) => a + b);
    await clean(stage, actors, bridge, adversary);
    await stage.close();
    return {
      said,
      received: heard.reduce((sum, { count }) => sum + count, 0),
      overtaken: heard.reduce((sum, { overtaken }) => sum + overtaken, 0),
      faults: adversary.counts,
      acts,
      again,
      seconds: Math.round((Date.now() - begun) / 1000),
    };
  } catch (error) {
    const isKept = process.env['AGENTALK_TEST_KEEP'] !== undefined;
    if (isKept) tell(`kept for a look: ${stage.folder}`);
    await stage.close({ isKept });
    throw error;
  }
}

const progress = (said: number, messages: number, actors: readonly Actor[], begun: number) =>
  `${said} of ${messages} said, ${actors.map(({ session, received }) => `${session.name} has ${received}`).join(', ')}; ` +
  `${Math.round((Date.now() - begun) / 1000)} s`;

/** What dies when: each at a number of messages said. */
function plan({ messages, seed, smallDisk }: StormOptions, actors: readonly Actor[], bridge: Bridge): Act[] {
  const random = new Random(seed, 'acts');
  const schedule: Act[] = [];
  const often = (every: number, what: string, make: () => () => Promise<void>) => {
    for (let i = 0; i < Math.max(1, Math.round(messages / every)); i++) {
      schedule.push({ at: random.between(5, messages - 5), what, run: make() });
    }
  };
  often(15, 'sender killed', () => {
    const [actor, ms] = [random.pick(actors), random.between(0, 120)];
    return async () => void (actor.killIn = ms);
  });
  often(25, 'listener killed', () => {
    const [actor, whom] = [random.pick(actors), random.pick(['it', 'group'] as const)];
    return async () => actor.listener?.signal('SIGKILL', whom);
  });
  often(40, 'second receiver', () => {
    const [actor, seconds] = [random.pick(actors), random.between(1, 4)];
    return async () => {
      const call = actor.session.start(['wait', String(seconds)]);
      actor.heard.push(call);
      await call.ended;
    };
  });
  let isDown = Promise.resolve();
  often(90, 'bridge killed', () => {
    const ms = random.between(0, 2500);
    return () =>
      (isDown = isDown.then(async () => {
        await bridge.kill();
        await pause(ms);
        await bridge.start();
      }));
  });
  often(300, 'listener frozen', () => {
    const actor = random.pick(actors);
    return async () => {
      const { listener } = actor;
      listener?.signal('SIGSTOP');
      const call = actor.session.start(['wait', '8']);
      actor.heard.push(call);
      await pause(13_000);
      listener?.signal('SIGCONT');
      await call.ended;
    };
  });
  often(300, 'sender frozen', () => {
    const [actor, ms] = [random.pick(actors), random.between(0, 100)];
    return async () => void (actor.freezeIn = ms);
  });
  if (smallDisk) {
    often(150, 'disk full', () => async () => {
      const filler = join(actors[2]?.session.home ?? '', 'filler');
      const end = Date.now() + 3000;
      for (let block = 1 << 20; Date.now() < end; await pause(20)) {
        try {
          writeFileSync(filler, Buffer.alloc(block), { flag: 'a' });
        } catch {
          block = Math.max(1024, block >> 1);
        }
      }
      rmSync(filler, { force: true });
    });
  }
  return schedule.sort((a, b) => a.at - b.at);
}

/** Waits until everybody has everything. */
async function settle(actors: readonly Actor[], said: number, tell: (line: string) => void, begun: number) {
  const expected = actors.map((actor) => speechesTo(actor, actors).length);
  let best = -1;
  let since = Date.now();
  await until('everything', 24 * 3600, async () => {
    const have = actors.map(({ received }) => received);
    const sum = have.reduce((a, b) => a + b);
    if (have.every((count, i) => count >= (expected[i] ?? 0))) return true;
    if (sum > best) [best, since] = [sum, Date.now()];
    if (Date.now() - since > STILL_SECONDS * 1000) {
      for (const actor of actors) tell(actor.heard.at(-1)?.output.slice(-2000) ?? '');
      assert.fail(`nothing came any more: ${have.join(', ')} of ${expected.join(', ')} messages`);
    }
    await pause(200);
    return undefined;
  });
  tell(progress(said, said, actors, begun));
}

const speechesTo = ({ session: { name } }: Actor, actors: readonly Actor[]) =>
  actors.flatMap((other) => other.speeches).filter(({ from, to }) => from !== name && (to === 'all' || to === name));

/** One inbox against what the others have said. */
function check(actor: Actor, actors: readonly Actor[], file: Buffer): { count: number; overtaken: number } {
  const { name, folder } = actor.session;
  const entries = checkInbox(folder);
  const bad = entries.filter(({ type }) => ['missed', 'tampered', 'gap', 'keys'].includes(type));
  assert.deepEqual(
    bad.map(({ type, name, words }) => [type, name, ...words].join(' ')),
    [],
    `${name} was told of trouble`,
  );
  const came = entries.filter(({ type }) => type === 'msg' || type === 'file');
  const late = came.filter(({ words }) => words[3] !== '-');
  assert.deepEqual(
    late.map(({ words }) => words[4]),
    [],
    `${name}: late ones`,
  );
  const key = (one: Numbered) => `${one.from} to ${one.to}, ${one.n}`;
  const heard = came.map((entry) => read1(entry, actors, file));
  let overtaken = 0;
  for (const other of actors) {
    if (other === actor) continue;
    const said = speechesTo(actor, actors).filter(({ from }) => from === other.session.name);
    const mine = heard.filter(({ from }) => from === other.session.name);
    const expected = said.map(key);
    assert.deepEqual(
      mine.map(key).sort(),
      expected.slice().sort(),
      `${name} has of ${other.session.name}: lost or doubled`,
    );
    for (const to of ['all', name]) {
      const isTo = (one: Numbered) => one.to === to;
      assert.deepEqual(
        mine.filter(isTo).map(key),
        said.filter(isTo).map(key),
        `${name} has of ${other.session.name}: order`,
      );
    }
    mine.forEach((one, i) => {
      const before = mine.slice(0, i).some((earlier) => earlier.n > one.n);
      if (before) overtaken++;
      if (before) assert.equal(one.to, name, 'a direct message came before an earlier broadcast');
    });
  }
  const own = entries.filter(({ type }) => type === 'said').map((entry) => entry.body?.toString().split('\n')[0]);
  const words = actor.speeches.map(({ text, isFile }) => (isFile ? '(the file report.bin)' : text.split('\n')[0]));
  assert.deepEqual(own, words, `${name}: its own words in its log`);
  return { count: came.length, overtaken };
}

function read1({ type, name, body = Buffer.alloc(0) }: Entry, actors: readonly Actor[], file: Buffer): Numbered {
  if (type === 'msg') {
    const numbered = read(body);
    assert.equal(numbered.from, name, 'a message under the name of another');
    return numbered;
  }
  const sum = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
  assert.equal(sum(body), sum(file), 'the file is not as it was sent');
  const speech = actors.flatMap(({ speeches }) => speeches).find(({ isFile }) => isFile);
  assert(speech);
  return speech;
}

/** What its calls printed: each message under its number, a second time only as such. How many came again. */
function checkLines({ session, heard }: Actor): number {
  const first = new Map<number, number>();
  let again = 0;
  for (const { output } of heard) {
    for (const [, mark, number] of output.matchAll(/^agentalk: (\(again\) )?(?:FILE )?#(\d+) from /gm)) {
      if (mark === undefined) first.set(Number(number), (first.get(Number(number)) ?? 0) + 1);
      else again++;
      if (!first.has(Number(number))) first.set(Number(number), 0);
    }
  }
  const doubled = [...first].filter(([, times]) => times > 1).map(([number]) => number);
  assert.deepEqual(doubled, [], `${session.name}: printed twice, and not marked so`);
  const count = readdirSync(join(session.folder, 'inbox')).length;
  assert.equal(first.size, count, `${session.name}: messages printed`);
  return again;
}

/** Nothing stays: no process, no waiting poll, no temporary file, and no memory once all have left. */
async function clean(stage: Stage, actors: readonly Actor[], bridge: Bridge, adversary: Adversary): Promise<void> {
  for (const { session } of actors) {
    await session.run(['wait', '0']);
  }
  await until('an end of all polls', 10, async () => (await bridge.metric('waiting_polls')) === 0 || undefined);
  for (const { session } of actors) {
    await session.run(['leave']);
    await until(`${session.name}: no temporary file`, 10, () => session.temporary.length === 0 || undefined);
  }
  assert.equal(await bridge.metric('channels'), 0);
  assert.equal(await bridge.metric('held_bytes'), 0);
  await adversary.stop();
  const isOurs = (line: string) => !/\bsleep 100000|bridge\.js/.test(line);
  await until('an end of all processes', 10, () => stage.leftovers().filter(isOurs).length === 0 || undefined);
}
