/** Files whose sender is killed, whose way breaks, and what a person at a terminal sees of it. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { need } from '../kit/need.ts';
import { Random } from '../kit/random.ts';
import { checkInbox, readLog } from './reader.ts';
import { Stage, until } from './stage.ts';
import type { Session } from './stage.ts';

const PART_BYTES = 65_536;

async function open(t: TestContext) {
  const stage = new Stage('files');
  t.after(() => stage.close());
  const bridge = await stage.bridge();
  const adversary = await stage.adversary(bridge);
  const sessions = await stage.cast(['ada', 'bob'], (name) => adversary.urlFor(name));
  return { stage, bridge, adversary, ada: sessions[0] as Session, bob: sessions[1] as Session };
}

/** A file of so many parts, and a bit more. */
function makeFile(folder: string, parts: number): { path: string; sum: string } {
  const random = new Random('file', parts);
  const bytes = Buffer.from(Array.from({ length: PART_BYTES * (parts - 1) + 10 }, () => random.between(0, 255)));
  const path = join(folder, 'report.bin');
  writeFileSync(path, bytes);
  return { path, sum: createHash('sha256').update(bytes).digest('hex') };
}

const outbox = ({ folder }: Session) =>
  readdirSync(join(folder, 'outbox'))
    .map(Number)
    .sort((a, b) => a - b)
    .map((n) => readFileSync(join(folder, 'outbox', String(n)), 'latin1').split('\n')[0]);
/** The parts in the outbox, each as i/n. */
const parts = (session: Session) => outbox(session).flatMap((line) => /:(\d+\/\d+)(?= )/.exec(line ?? '')?.[1] ?? []);
const files = ({ folder }: Session) => readLog(folder).filter(({ type }) => type === 'file');
const sums = (session: Session) =>
  files(session).map(({ body = '' }) => createHash('sha256').update(body).digest('hex'));

describe('files', { concurrency: 3 }, () => {
  test('send_file killed between two parts goes on where it was when called again', async (t) => {
    const { stage, ada, bob } = await open(t);
    const { path, sum } = makeFile(stage.folder, 8);
    for (const least of [2, 4, 6]) {
      const call = ada.start(['send_file', path]);
      await until('some parts', 60, () => parts(ada).length >= least || call.result !== undefined || undefined);
      await call.kill();
    }
    assert(parts(ada).length < 8, 'it must have been killed before its end');
    await ada.say('and now?'); // the parts that are there go out; half a file is none
    await bob.wait(1);
    await bob.wait(0);
    assert.deepEqual(files(bob), []);
    assert.match(await ada.run(['send_file', path]), /^agentalk: sent/m);
    assert.deepEqual(
      parts(ada),
      Array.from({ length: 8 }, (_, i) => `${i + 1}/8`),
      'each part once',
    );
    await until('the file', 30, async () => (await bob.wait(1), files(bob).length > 0 || undefined));
    assert.deepEqual(sums(bob), [sum]);
    assert.match(await ada.run(['send_file', path]), /^agentalk: sent/m);
    await until(
      'it once more, for it was sent once more',
      30,
      async () => (await bob.wait(1), files(bob).length > 1 || undefined),
    );
    assert.deepEqual(sums(bob), [sum, sum]);
  });

  test('a break while a file is on its way: the listener hands over the rest', async (t) => {
    const { stage, ada, bob, adversary } = await open(t);
    const { path, sum } = makeFile(stage.folder, 6);
    const listener = bob.listen();
    await listener.says('listening');
    adversary.plan = ({ client, kind, n }) => {
      const isBroken = client === 'ada' && kind === 'send' && adversary.plan !== undefined && n > 6;
      return isBroken ? { what: n % 2 === 0 ? 'drop' : 'lose' } : { what: 'pass' };
    };
    const call = ada.start(['send_file', path, 'bob']);
    await until('all parts', 60, () => parts(ada).length === 6 || undefined);
    await call.kill();
    adversary.plan = () => ({ what: 'pass' });
    ada.listen();
    await listener.says(/FILE .*report\.bin/, 60);
    assert.deepEqual(sums(bob), [sum]);
    assert.equal(files(bob)[0]?.words[0], 'me');
  });

  test('a receiver killed while the parts come', async (t) => {
    const { stage, ada, bob } = await open(t);
    const { path, sum } = makeFile(stage.folder, 6);
    const sending = ada.run(['send_file', path]);
    for (const ms of [100, 400, 700, 1000]) {
      const listener = bob.listen();
      await new Promise((resolve) => setTimeout(resolve, ms));
      await listener.kill();
    }
    await sending;
    const last = bob.listen();
    await until('the file', 60, () => files(bob).length > 0 || undefined);
    await last.says(/FILE .*report\.bin|\(again\)/, 60);
    checkInbox(bob.folder);
    assert.deepEqual(sums(bob), [sum]);
  });

  test('progress on a terminal, none elsewhere', { skip: need('script') }, async (t) => {
    const { stage, ada } = await open(t);
    const { path } = makeFile(stage.folder, 3);
    const command = `bash '${join(ada.folder, 'agentalk.sh')}' send_file '${path}'`;
    const terminal = stage.spawn('script', ['-qec', command, '/dev/null'], { TERM: 'dumb' });
    await terminal.closed;
    assert.match(terminal.output, /1 of 3[^]*2 of 3[^]*3 of 3[^]*agentalk: sent/);
    assert.doesNotMatch(await ada.run(['send_file', path]), /of 3/);
  });

  test('a text over the limit names agentalk_send_file', async (t) => {
    const { ada } = await open(t);
    assert.match(await ada.run(['say'], 'x'.repeat(PART_BYTES + 1), 1), /agentalk_send_file PATH/);
  });
});
