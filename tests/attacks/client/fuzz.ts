/**
 * A fuzzer of all that the client reads: each round is one session whose bridge answers some requests with what a
 * mutation made of the true answer. A round is made from its name, so that it can be run again; what the clock decides,
 * such as how many polls there are, may differ.
 */
import assert from 'node:assert/strict';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Answer, Asked } from '../../lib/fault-proxy.ts';
import { startBridge } from '../../lib/bridge.ts';
import { Random } from '../../lib/random.ts';
import { AttackFixture, INJECTION_STRINGS, LINE } from './fixture.ts';
import type { Member } from './member.ts';

const STEPS = 20;
const HEX = '0123456789abcdef';
const STATUS = [200, 201, 204, 206, 301, 302, 304, 307, 400, 401, 403, 404, 407, 409, 413, 418, 429, 500, 503, 999];
/** Words that a client acts on; those that end a session for good are left to tests of their own. */
const CODES = [
  'no_channel',
  'no_participant',
  'other_epoch',
  'no_recipient',
  'too_many_requests',
  'channel_full',
  'stopping',
].concat(['bad_request', 'no_token', 'not_found', 'bridge_full', 'constructor', 'ERROR', '']);
const NAMES = ['Retry-After', 'Location', 'Content-Encoding', 'Set-Cookie', 'Content-Type', 'X-A'];

/** What was answered so far, to be spliced in elsewhere. */
class Memory {
  readonly lines: string[] = [];

  keep(lines: readonly string[]): void {
    for (const line of lines) if (line !== '' && line.length < 10_000) this.lines.push(line);
    this.lines.splice(0, this.lines.length - 300);
  }
}

const hex = (random: Random, length: number) => Array.from({ length }, () => random.pick([...HEX])).join('');
const bytes = (random: Random, length: number) =>
  Array.from({ length }, () => String.fromCharCode(random.between(0, 255))).join('');

function mutateWord(random: Random, word: string): string {
  switch (random.between(0, 8)) {
    case 0: {
      const at = random.between(0, Math.max(0, word.length - 1));
      const flipped = String.fromCharCode(word.charCodeAt(at) ^ (1 << random.between(0, 7)));
      return word.slice(0, at) + flipped + word.slice(at + 1);
    }
    case 1:
      return word.slice(0, random.between(0, word.length));
    case 2:
      return word + word;
    case 3:
      return hex(random, word.length);
    case 4:
      return String(/^\d{1,15}$/.test(word) ? Number(word) + random.pick([-1, 1, 2, 50, -50]) : random.between(0, 99));
    case 5:
      return word.toUpperCase();
    case 6:
      return bytes(random, random.between(1, 40));
    default:
      return random.pick(INJECTION_STRINGS);
  }
}

function mutateLine(random: Random, line: string): string {
  const words = line.split(' ');
  const at = random.between(0, words.length - 1);
  switch (random.between(0, 5)) {
    case 0:
      words.splice(at, 1);
      break;
    case 1:
      words.splice(at, 0, random.pick(INJECTION_STRINGS));
      break;
    case 2: {
      const other = random.between(0, words.length - 1);
      [words[at], words[other]] = [words[other] ?? '', words[at] ?? ''];
      break;
    }
    default:
      words[at] = mutateWord(random, words[at] ?? '');
  }
  return words.join(' ');
}

/** A line that a bridge may say, with words that fit more or less. */
function inventLine(random: Random, memory: Memory): string {
  const sealed = `${hex(random, 24)} ${random.pick(['AAAA', 'AAAAAAAA', 'AA=='])} ${hex(random, 32)}`;
  const id = random.isLess(0.5)
    ? (/\b[0-9a-f]{32}\b/.exec(random.pick(memory.lines) ?? '')?.[0] ?? '*')
    : hex(random, 32);
  const index = random.pick(['0', '1', '2', '9', '40', ...INJECTION_STRINGS]);
  return random.pick([
    `join ${index} 1 ${id} ${sealed}`,
    `message ${index} 1 ${id} ${random.pick(['*', id])} ${sealed}`,
    `leave ${index} 1 ${id} ${random.pick(['left', 'expired', ...INJECTION_STRINGS])}`,
    `away ${index} 1 ${id}`,
    `back ${index} 1 ${id}`,
    `gap ${index} ${random.between(0, 99)}`,
    `cursor ${index} ${hex(random, 32)} ${random.pick(['new', 'resumed'])} ${index}`,
    `channel ${hex(random, 32)} created ${index} ${index} ${index} ${index}`,
    `participant ${id} listening ${index} ${index} ${sealed}`,
    `recipient ${id} ${random.pick(['listening', 'idle', ...INJECTION_STRINGS])} ${index}`,
    `sent ${index} ${hex(random, 32)}`,
    `left ${hex(random, 32)}`,
    `error ${random.pick(CODES)} ${random.pick(INJECTION_STRINGS)} ${random.pick(INJECTION_STRINGS)}`,
    bytes(random, random.between(1, 200)),
    ' '.repeat(random.between(1, 2000)),
  ]);
}

function mutateLines(random: Random, lines: string[], memory: Memory): void {
  const at = random.between(0, lines.length - 1);
  switch (random.between(0, 7)) {
    case 0:
      lines.splice(at, 1);
      break;
    case 1:
      lines.splice(at, 0, lines[at] ?? '');
      break;
    case 2:
      lines.sort(() => random.next() - 0.5);
      break;
    case 3:
      lines.splice(at, 0, random.pick(memory.lines) ?? '');
      break;
    case 4:
      lines.splice(at, 0, ...Array.from({ length: random.between(1, 20) }, () => inventLine(random, memory)));
      break;
    default:
      lines[at] = mutateLine(random, lines[at] ?? '');
  }
}

export function mutate(random: Random, { status, headers, body }: Answer, memory: Memory): Answer {
  let text = body.toString('latin1');
  let answer = { status, headers: [...headers] };
  const times = random.between(1, 3);
  for (let i = 0; i < times; i++) {
    switch (random.between(0, 11)) {
      case 0:
        text = text.slice(0, random.between(0, text.length));
        break;
      case 1: {
        const at = random.between(0, text.length);
        text = text.slice(0, at) + bytes(random, random.between(1, 5)) + text.slice(at + random.between(0, 5));
        break;
      }
      case 2:
        answer.status = random.pick(STATUS);
        break;
      case 3:
        answer = { status: random.pick(STATUS.filter((each) => each >= 400)), headers: answer.headers };
        text = `error ${random.pick(CODES)} ${random.pick(INJECTION_STRINGS)} ${bytes(random, 20)}\nhint ${random.pick(INJECTION_STRINGS)}\n`;
        break;
      case 4: {
        // Node refuses what no header may have, so a bridge written with more malice is another test's matter.
        // eslint-disable-next-line no-control-regex
        const value = random.pick([...INJECTION_STRINGS, '0', '1', '99999999', 'gzip', '/']).replace(/[^\t -~]/g, '?');
        answer.headers.push(random.pick(NAMES), value);
        break;
      }
      case 5:
        text = text.replaceAll('\n', random.pick(['\r\n', ' ', '\n\n', '\0\n', '']));
        break;
      default: {
        const lines = text.split('\n');
        mutateLines(random, lines, memory);
        text = lines.join('\n');
      }
    }
  }
  return { ...answer, body: Buffer.from(text, 'latin1') };
}

/** A message of a member with real keys, of which some headers are others. Gives its text if it may be shown. */
async function sendMutated(random: Random, mallory: Member, text: string): Promise<string[]> {
  const headers: Record<string, string | null> = {};
  const values = [
    '0',
    '1',
    '2 0 0',
    '1 1 1',
    '999999999999999',
    '1 999999999999999 999999999999999',
    'left',
    'sync',
    'file',
    'bye',
  ];
  const names = ['kind', 'seq', 'time', 'sent', 'received', 'seen', 'stored', 'reach', 'name', 'size', 'sha256', 'x-y'];
  for (let i = random.between(0, 3); i > 0; i--)
    headers[random.pick(names)] = random.isLess(0.2)
      ? null
      : random.pick([...values, ...INJECTION_STRINGS]).replace(/\n/g, '?');
  const bob = mallory.peer('bob');
  if (random.isLess(0.3)) headers['seen'] = `${bob.sid.slice(0, 16)} ${random.pick(values)}`;
  await mallory.send(
    random.isLess(0.5) ? '*' : bob,
    random.pick(['text', 'text', 'file', 'sync', 'ack', 'want', 'later']),
    {
      headers,
      body: text,
      isCounted: random.isLess(0.7),
    },
  );
  return [text];
}

/** One session, from joining to what is said at its end. Throws when a promise is broken. */
export async function round(bridge: string, name: string): Promise<number> {
  const random = new Random(name);
  const fixture = await AttackFixture.open(undefined, bridge, ['ada', 'carol', 'mallory', 'zed']);
  try {
    const [ada, carol, mallory] = [fixture.member('ada'), fixture.member('carol'), fixture.member('mallory')];
    const memory = new Memory();
    const share = random.pick([0.3, 0.6, 0.9]);
    let changed = 0;
    fixture.faultProxy.alter = ({ kind, n }: Asked, answer) => {
      const text = answer.body.toString('latin1');
      if (kind === 'blobs') return answer;
      memory.keep(text.split('\n'));
      const own = new Random(name, kind, n);
      if (!own.isLess(kind === 'poll' ? share : 0.4)) return answer;
      changed++;
      return mutate(own, answer, memory);
    };
    const said: string[] = [];
    const noise: string[] = [];
    for (let step = 0; step < STEPS; step++) {
      const text = `${random.pick(['said', 'repeated'])} ${step}`;
      switch (random.between(0, 8)) {
        case 0:
          said.push(text);
          await ada.say(text);
          break;
        case 1:
          said.push(text);
          await carol.dm('bob', text);
          break;
        case 2:
          await fixture.call('say', `bob ${step}`);
          break;
        case 3:
          await fixture.call('dm', 'ada', `bob ${step}`);
          break;
        case 4:
          await fixture.call('who');
          break;
        case 5:
          if (random.isLess(0.3)) await joinAnother(fixture, step, random);
          break;
        case 6:
          noise.push(...(await sendMutated(random, mallory, `noise ${step}`)));
          break;
        default:
          said.push(text);
          await (random.isLess(0.5) ? ada.say(text) : carol.say(text));
          await fixture.call('wait', '1');
      }
    }
    fixture.honest();
    await fixture.call('wait', '1'); // it learns that a cursor is none, before anything new comes
    await fixture.sendMarker('zed');
    fixture.check([...said, ...noise]);
    // What the bridge spoilt it does not give out again; the others are what was said, in its order.
    for (const member of ['ada', 'carol']) {
      const texts = fixture.texts(member);
      for (const scope of ['all', 'you alone']) {
        const own = fixture.shown().filter(({ from, to }) => from === member && to === scope);
        const shown = own.filter(({ notes }) => !/late/.test(notes)).map(({ text }) => text);
        assert.deepEqual(
          shown,
          said.filter((text) => shown.includes(text)),
          `what ${member} said, in its order`,
        );
      }
      assert.deepEqual(texts, [...new Set(texts)], 'nothing twice');
    }
    const heard = ada.texts('bob');
    assert.deepEqual(heard, [...new Set(heard)], 'what bob says comes once');
    return changed;
  } catch (error) {
    throw new Error(`${String(error)}\n${fixture.screen}`, { cause: error });
  } finally {
    await fixture.close();
  }
}

/** Another session in bob's home, made while the bridge lies. */
async function joinAnother(fixture: AttackFixture, step: number, random: Random): Promise<void> {
  const link = random.isLess(0.5) ? ['join', fixture.linkOfBob] : ['create', fixture.faultProxy.urlFor('bob')];
  const before = fixture.screen;
  const output = await fixture.call(...link, '--name', `x${step}`);
  fixture.screen = before;
  for (const line of output.split('\n')) if (!line.startsWith('Talk to my other agent')) assert.match(line, LINE);
  for (const left of readdirSync(fixture.home).filter((each) => each.startsWith(`agentalk-session-x${step}`)))
    rmSync(join(fixture.home, left), { recursive: true, force: true });
}

/** One round by its name; gives how many answers were changed. */
export async function again(name: string): Promise<number> {
  const bridge = await startBridge();
  return round(bridge.url, name).finally(() => bridge.stop());
}

export interface FuzzOptions {
  /** Begins the names of rounds. */
  readonly seed: string;
  readonly seconds: number;
  readonly lanes?: number;
  readonly tell?: (line: string) => void;
}

/** Rounds side by side until the time is over. Throws with the name of the first round that failed. */
export async function fuzz({ seed, seconds, lanes = 3, tell = () => {} }: FuzzOptions) {
  const bridge = await startBridge();
  const end = Date.now() + seconds * 1000;
  const counts = { rounds: 0, changed: 0 };
  let failed: Error | undefined;
  const lane = async (number: number) => {
    for (let n = 0; Date.now() < end && !failed; n++) {
      const name = `${seed}-${number}-${n}`;
      try {
        counts.changed += await round(bridge.url, name);
        counts.rounds++;
        tell(`round ${name} passed`);
      } catch (cause) {
        failed ??= new Error(`round ${name}: npm run fuzz -- --round ${name}\n${String(cause)}`, { cause });
      }
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, i) => lane(i)));
  await bridge.stop();
  if (failed) throw failed;
  return counts;
}
