/**
 * Three participants talk over a bridge while everything fails that can: requests, answers, processes, the bridge, a
 * disk. At the end each inbox is read from its files. What fails, and when, follows from the seed: network faults from
 * a request's number, kills from the number of messages said.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { noFaults, randomFaults as networkFaults } from '../lib/fault-proxy.ts';
import type { FaultProxy } from '../lib/fault-proxy.ts';
import { Random } from '../lib/random.ts';
import { Processes, until } from './processes.ts';
import type { Bridge, Home, Running, Session } from './processes.ts';
import { checkInbox, marksOf, read, readOutbox, readState, scopeOf, write } from './session-reader.ts';
import type { Entry, Numbered } from './session-reader.ts';

export interface ChaosOptions {
  readonly messages: number;
  readonly seed: string;
  /** The part of all requests that goes wrong. */
  readonly share: number;
  /** A small disk for one participant, which is full for a while now and then; needs root. */
  readonly smallDisk: boolean;
  readonly tell: (line: string) => void;
}

const NAMES = ['ada', 'bob', 'cyd'] as const;
/** Three pieces. */
const FILE_BYTES = 2_500_000;
/** As much as nothing at all may take, once everybody is left in peace. */
const STILL_SECONDS = 90;

/** What is said: texts to all or to one, and a file. */
interface OutgoingMessage extends Numbered {
  readonly text: string;
  readonly isFile: boolean;
}

interface FaultAction {
  readonly at: number;
  readonly what: string;
  run(): Promise<void>;
}

/** One participant with its listener, which comes back whenever it has ended, and what it has to say. */
class Speaker {
  readonly session: Session;
  readonly outgoing: readonly OutgoingMessage[];
  readonly heard: Running[] = [];
  listener: Running | undefined;
  #isOver = false;
  /** Kills its next call of say in so many ms. */
  killIn: number | undefined;
  freezeIn: number | undefined;

  constructor(session: Session, outgoing: readonly OutgoingMessage[]) {
    this.session = session;
    this.outgoing = outgoing;
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
    for (const message of this.outgoing) {
      while (!this.#isOver) {
        const status = await this.#attempt(message);
        if (this.hasSaid(message)) break;
        assert.notEqual(status, 0, `status 0, but nothing is kept of: ${message.text.slice(0, 50)}`);
        await pause(200);
      }
      onSaid();
    }
  }

  async #attempt({ to, text, isFile }: OutgoingMessage): Promise<number | string> {
    const path = join(this.session.home, 'report.bin'); // of ada, whose home is no other file system
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
    // It says that it can't write, or that the bridge did not take the words in time; then they are stored, and go out later.
    assert.match(
      call.output,
      /disk full|not sent yet: .*It is kept|the file was not sent/,
      `${words[0]}: ${call.output}`,
    );
    return status;
  }

  /** As its own log will have it: words stand with the sealed message that they belong to. */
  hasSaid({ text, isFile }: OutgoingMessage): boolean {
    const said = readOutbox(this.session.folder, 60);
    if (isFile) return said.some(({ body }) => body?.toString() === '(the file report.bin)');
    const [line] = text.split('\n');
    return said.some(({ body }) => body?.toString().startsWith(`${line}\n`));
  }

  /** How many messages it has. */
  get received(): number {
    return Number(readState(this.session.folder).fields['MESSAGES']);
  }

  /** Whether no file is on its way to it. */
  get hasFile(): boolean {
    return this.incomingFiles().length === 0;
  }

  /** What it stores of files that are on their way to it. */
  incomingFiles(): string[] {
    return readdirSync(join(this.session.folder, 'files'));
  }

  hasShown(): boolean {
    const { SHOWN, RECORDS } = readState(this.session.folder).fields;
    return SHOWN === RECORDS;
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
function outgoing(seed: string, name: string, count: number): OutgoingMessage[] {
  const random = new Random(seed, 'outgoing', name);
  const others = NAMES.filter((other) => other !== name);
  return Array.from({ length: count }, (_, i) => {
    const to = random.isLess(0.6) ? 'all' : random.pick(others);
    const head = { from: name, to, n: i + 1 };
    const isFile = name === 'ada' && i === Math.floor(count / 3);
    return isFile ? { ...head, to: 'all', text: '', isFile } : { ...head, text: write(head, padding(random)), isFile };
  });
}

/** A file system of its own for one participant, which its processes alone see; it ends with the process that holds it. */
async function smallDisk(processes: Processes, megabytes: number, tell: (line: string) => void): Promise<Home> {
  const path = join(processes.folder, 'disk');
  mkdirSync(path);
  const mount = `mount -t tmpfs -o size=${megabytes}m tmpfs '${path}' && echo mounted && exec sleep 100000`;
  const holder = processes.spawn('unshare', ['-m', 'sh', '-c', mount]);
  await holder.says('mounted', 10);
  const { pid } = holder;
  void holder.ended.then((result) => tell(`the process that holds the small disk has ended: ${result}`));
  return { path, seen: `/proc/${pid}/root${path}`, inside: ['nsenter', '-t', String(pid), '-m'] };
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

export async function chaos(options: ChaosOptions): Promise<Report> {
  const { messages, seed, share, tell } = options;
  const processes = new Processes('chaos', true);
  const begun = Date.now();
  const acts: Record<string, number> = {};
  try {
    const bridge = await processes.bridge();
    const faultProxy = await processes.faultProxy(bridge);
    const homes = options.smallDisk ? { cyd: await smallDisk(processes, 64 + messages / 20, tell) } : {};
    const sessions = await processes.startSessions(NAMES, (name) => faultProxy.urlFor(name), homes);
    const speakers = sessions.map((session) => {
      const count = Math.ceil(messages / NAMES.length);
      return new Speaker(session, outgoing(seed, session.name, count));
    });
    processes.onClose(async () => void (await Promise.all(speakers.map((speaker) => speaker.end()))));
    const file = Buffer.alloc(FILE_BYTES);
    const random = new Random(seed, 'file');
    for (let i = 0; i < file.length; i++) file[i] = random.between(0, 255);
    writeFileSync(join(speakers[0]?.session.home ?? '', 'report.bin'), file);

    const schedule = plan(options, speakers, bridge);
    faultProxy.plan = networkFaults(seed, share);
    const listening = speakers.map((speaker) => speaker.listen());
    let said = 0;
    const running: Promise<void>[] = [];
    const onSaid = () => {
      said++;
      for (; schedule[0] && schedule[0].at <= said; schedule.shift()) {
        const { what, run } = schedule[0];
        acts[what] = (acts[what] ?? 0) + 1;
        running.push(run());
      }
      if (said % Math.max(20, Math.floor(messages / 50)) === 0) tell(progress(said, messages, speakers, begun));
    };
    await Promise.all(speakers.map((speaker) => speaker.speak(onSaid)));
    await Promise.all(running);
    faultProxy.plan = noFaults;
    await waitForDelivery(speakers, said, (line) => tell(line), begun);
    for (const speaker of speakers) {
      await until(`${speaker.session.name}: all printed`, 60, () => speaker.hasShown() || undefined);
      await speaker.end();
    }
    const heard = speakers.map((speaker) => check(speaker, speakers, file));
    await Promise.all(listening);
    const again = speakers.map(checkLines).reduce((a, b) => a + b);
    await clean(processes, speakers, bridge, faultProxy);
    await processes.close();
    return {
      said,
      received: heard.reduce((sum, { count }) => sum + count, 0),
      overtaken: heard.reduce((sum, { overtaken }) => sum + overtaken, 0),
      faults: faultProxy.counts,
      acts,
      again,
      seconds: Math.round((Date.now() - begun) / 1000),
    };
  } catch (error) {
    const isKept = process.env['AGENTALK_TEST_KEEP'] !== undefined;
    if (isKept) tell(`kept for a look: ${processes.folder}`);
    await processes.close({ isKept });
    throw error;
  }
}

const progress = (said: number, messages: number, speakers: readonly Speaker[], begun: number) =>
  `${said} of ${messages} said, ${speakers.map(({ session, received }) => `${session.name} has ${received}`).join(', ')}; ` +
  `${Math.round((Date.now() - begun) / 1000)} s`;

/** What dies when: each at a number of messages said. */
function plan(
  { messages, seed, smallDisk }: ChaosOptions,
  speakers: readonly Speaker[],
  bridge: Bridge,
): FaultAction[] {
  const random = new Random(seed, 'acts');
  const schedule: FaultAction[] = [];
  const often = (every: number, what: string, make: () => () => Promise<void>) => {
    for (let i = 0; i < Math.max(1, Math.round(messages / every)); i++) {
      schedule.push({ at: random.between(5, messages - 5), what, run: make() });
    }
  };
  often(15, 'sender killed', () => {
    const [speaker, ms] = [random.pick(speakers), random.between(0, 500)];
    return async () => void (speaker.killIn = ms);
  });
  often(25, 'listener killed', () => {
    const [speaker, whom] = [random.pick(speakers), random.pick(['it', 'group'] as const)];
    return async () => speaker.listener?.signal('SIGKILL', whom);
  });
  often(40, 'second receiver', () => {
    const [speaker, seconds] = [random.pick(speakers), random.between(1, 4)];
    return async () => {
      const call = speaker.session.start(['wait', String(seconds)]);
      speaker.heard.push(call);
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
    const speaker = random.pick(speakers);
    return async () => {
      const { listener } = speaker;
      listener?.signal('SIGSTOP');
      const call = speaker.session.start(['wait', '8']);
      speaker.heard.push(call);
      await pause(13_000);
      listener?.signal('SIGCONT');
      await call.ended;
    };
  });
  often(300, 'sender frozen', () => {
    const [speaker, ms] = [random.pick(speakers), random.between(0, 100)];
    return async () => void (speaker.freezeIn = ms);
  });
  if (smallDisk) {
    often(150, 'disk full', () => async () => {
      const filler = join(speakers[2]?.session.home ?? '', 'filler');
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
async function waitForDelivery(
  speakers: readonly Speaker[],
  said: number,
  tell: (line: string) => void,
  begun: number,
) {
  const expected = speakers.map((speaker) => outgoingTo(speaker, speakers).length);
  let best = -1;
  let since = Date.now();
  await until('everything', 24 * 3600, async () => {
    const have = speakers.map(({ received }) => received);
    const sum = have.reduce((a, b) => a + b);
    if (have.every((count, i) => count >= (expected[i] ?? 0)) && speakers.every(({ hasFile }) => hasFile)) return true;
    if (sum > best) [best, since] = [sum, Date.now()];
    if (Date.now() - since > STILL_SECONDS * 1000) {
      for (const speaker of speakers) tell(speaker.heard.at(-1)?.output.slice(-2000) ?? '');
      const files = speakers.map((speaker) => `${speaker.session.name}: ${speaker.incomingFiles().join(' ')}`);
      assert.fail(
        `nothing came any more: ${have.join(', ')} of ${expected.join(', ')} messages; files on their way: ${files.join('; ')}`,
      );
    }
    await pause(200);
    return undefined;
  });
  tell(progress(said, said, speakers, begun));
}

const outgoingTo = ({ session: { name } }: Speaker, speakers: readonly Speaker[]) =>
  speakers.flatMap((other) => other.outgoing).filter(({ from, to }) => from !== name && (to === 'all' || to === name));

const TROUBLE = [
  'missed',
  'earlier',
  'tampered',
  'malformed',
  'gap',
  'new',
  'copied',
  'undelivered',
  'unreadable',
  'badfile',
];

/** One inbox against what the others have said. */
function check(speaker: Speaker, speakers: readonly Speaker[], file: Buffer): { count: number; overtaken: number } {
  const { name, folder } = speaker.session;
  const entries = checkInbox(folder);
  const bad = entries.filter(({ type }) => TROUBLE.includes(type));
  assert.deepEqual(
    bad.map(({ type, name, words }) => [type, name, ...words].join(' ')),
    [],
    `${name} was told of trouble`,
  );
  const came = entries.filter(({ type }) => type === 'msg' || type === 'coming');
  const late = came.filter((entry) => marksOf(entry).includes('late'));
  assert.deepEqual(
    late.map(({ record }) => record),
    [],
    `${name}: late ones`,
  );
  const files = entries.filter(({ type }) => type === 'file');
  assert.equal(files.length, came.filter(({ type }) => type === 'coming').length, `${name}: files`);
  for (const { body } of files) assert(body?.equals(file), `${name}: the file is not as it was sent`);
  const key = (one: Numbered) => `${one.from} to ${one.to}, ${one.n}`;
  const heard = came.map((entry) => messageOf(entry, speakers));
  let overtaken = 0;
  for (const other of speakers) {
    if (other === speaker) continue;
    const said = outgoingTo(speaker, speakers).filter(({ from }) => from === other.session.name);
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
  const words = speaker.outgoing.map(({ text, isFile }) => (isFile ? '(the file report.bin)' : text.split('\n')[0]));
  assert.deepEqual(own, words, `${name}: its own words in its log`);
  return { count: came.length, overtaken };
}

/** Which of the messages it is, by its body; the file has none. */
function messageOf(entry: Entry, speakers: readonly Speaker[]): Numbered {
  const { type, name, body = Buffer.alloc(0) } = entry;
  if (type !== 'msg') {
    const message = speakers.flatMap(({ outgoing }) => outgoing).find(({ isFile }) => isFile);
    return message ?? assert.fail('nobody sent a file');
  }
  const numbered = read(body);
  assert.equal(numbered.from, name, 'a message under the name of another');
  assert.equal(
    scopeOf(entry),
    numbered.to === 'all' ? 'all' : 'me',
    'a message to one, shown as one to all, or the other way',
  );
  return numbered;
}

/** What its calls printed: each message under its number, a second time only marked as such. How many came again. */
function checkLines({ session, heard }: Speaker): number {
  const first = new Map<string, number>();
  let again = 0;
  for (const { output } of heard) {
    for (const [, mark, label = ''] of output.matchAll(
      /^agentalk: (\(perhaps again\) )?((?:FILE )?#\d+) from \S+(?: to|, \d)/gm,
    )) {
      if (mark === undefined) first.set(label, (first.get(label) ?? 0) + 1);
      else again++;
      if (!first.has(label)) first.set(label, 0);
    }
  }
  const doubled = [...first].filter(([, times]) => times > 1).map(([label]) => label);
  assert.deepEqual(doubled, [], `${session.name}: printed twice, and not marked so`);
  const expected = readdirSync(join(session.folder, 'inbox')).length;
  assert.equal(first.size, expected, `${session.name}: messages printed`);
  return again;
}

/** Nothing stays: no process, no waiting poll, no temporary file, and no memory once all have left. */
async function clean(
  processes: Processes,
  speakers: readonly Speaker[],
  bridge: Bridge,
  faultProxy: FaultProxy,
): Promise<void> {
  for (const { session } of speakers) {
    await session.run(['wait', '0']);
  }
  await until('an end of all polls', 10, async () => (await bridge.metric('polls_pending')) === 0 || undefined);
  for (const { session } of speakers) {
    await session.run(['leave']);
    await until(`${session.name}: no temporary file`, 10, () => session.temporary.length === 0 || undefined);
  }
  assert.equal(await bridge.metric('channels'), 0);
  assert.equal(await bridge.metric('channel_memory_bytes'), 0);
  await faultProxy.stop();
  const isOurs = (line: string) => !/\bsleep 100000|bridge\.js/.test(line);
  await until('an end of all processes', 10, () => processes.leftovers().filter(isOurs).length === 0 || undefined);
}
