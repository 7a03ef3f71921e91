/** Files whose sender or receiver is killed, whose way breaks, and what a person at a terminal sees of it. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { requirePrograms } from '../lib/require-programs.ts';
import { Random } from '../lib/random.ts';
import { Processes, until } from './processes.ts';
import type { Session } from './processes.ts';
import { checkInbox, readLog, readOutbox } from './session-reader.ts';

const PIECE_BYTES = 1_048_576;

async function open(t: TestContext) {
  const processes = new Processes('files');
  t.after(() => processes.close());
  const bridge = await processes.bridge();
  const faultProxy = await processes.faultProxy(bridge);
  const sessions = await processes.startSessions(['ada', 'bob'], (name) => faultProxy.urlFor(name));
  return { processes, bridge, faultProxy, ada: sessions[0] as Session, bob: sessions[1] as Session };
}

/** A file of so many pieces, and a bit more. */
function makeFile(folder: string, pieces: number): { path: string; sum: string } {
  const random = new Random('file', pieces);
  const block = Buffer.from(Array.from({ length: 65_536 }, () => random.between(0, 255)));
  const bytes = Buffer.concat(
    Array.from({ length: 16 * pieces }, (_, i) => {
      const copy = Buffer.from(block);
      copy.writeUInt32BE(i);
      return copy;
    }),
  ).subarray(0, PIECE_BYTES * (pieces - 1) + 10);
  const path = join(folder, 'report.bin');
  writeFileSync(path, bytes);
  return { path, sum: createHash('sha256').update(bytes).digest('hex') };
}

const files = ({ folder }: Session) => readLog(folder).filter(({ type }) => type === 'file');
const sums = (session: Session) =>
  files(session).map(({ body = '' }) => createHash('sha256').update(body).digest('hex'));
const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

describe('files', { concurrency: 3 }, () => {
  test('send_file that is killed at any time goes on when it is called again, and sends the file once', async (t) => {
    const { processes, ada, bob } = await open(t);
    const { path, sum } = makeFile(processes.folder, 12);
    for (const ms of [50, 150, 250, 350, 450, 550]) {
      const call = ada.start(['send_file', path]);
      await pause(ms);
      await call.kill('SIGKILL', ms % 100 === 0 ? 'group' : 'it');
      if (readOutbox(ada.folder).length > 0) break; // from then on it is said
    }
    if (readOutbox(ada.folder).length === 0) assert.match(await ada.run(['send_file', path]), /^agentalk: sent/m);
    assert.equal(readOutbox(ada.folder).length, 1);
    await ada.wait(0); // sends what was sealed, if it was killed right after that
    await until('the file', 60, async () => (await bob.wait(1), files(bob).length > 0 || undefined));
    assert.deepEqual(sums(bob), [sum]);
    assert.match(await ada.run(['send_file', path]), /^agentalk: sent/m);
    await until(
      'it again, as it was sent again',
      60,
      async () => (await bob.wait(1), files(bob).length > 1 || undefined),
    );
    assert.deepEqual(sums(bob), [sum, sum]);
    checkInbox(bob.folder);
  });

  test('a way that breaks while pieces go out and come in: the file arrives whole, and other words before it', async (t) => {
    const { processes, ada, bob, faultProxy } = await open(t);
    const { path, sum } = makeFile(processes.folder, 6);
    const listener = await bob.listening();
    faultProxy.plan = ({ kind, n }) => {
      const isBroken = kind === 'blobs' && n % 3 !== 0;
      return isBroken ? (n % 2 === 0 ? { what: 'drop' } : { what: 'cut', part: 0.5 }) : { what: 'pass' };
    };
    await until('its sending', 60, async () => {
      await ada.run(['send_file', path, 'bob'], '', null);
      return readOutbox(ada.folder).length > 0 || undefined;
    });
    await ada.say('said after it');
    await listener.says('said after it');
    await listener.says(/^agentalk: FILE #1 from ada, \d/m, 90);
    assert.deepEqual(sums(bob), [sum]);
    assert.equal(readLog(bob.folder).find(({ type }) => type === 'coming')?.words[4], 'me');
    assert.equal(sums(bob).length, readOutbox(ada.folder).filter(({ name }) => name === 'bob').length);
  });

  test('a receiver that is killed while pieces come has the file once, and nothing stays of its pieces', async (t) => {
    const { processes, ada, bob, faultProxy } = await open(t);
    const { path, sum } = makeFile(processes.folder, 8);
    faultProxy.plan = ({ client, kind }) =>
      client === 'bob' && kind === 'blobs' ? { what: 'delay', ms: 50 } : { what: 'pass' };
    await ada.run(['send_file', path]);
    for (const ms of [300, 500, 700, 900, 1100, 1300]) {
      const call = bob.start(['wait', '5']);
      await pause(ms);
      await call.kill('SIGKILL', ms % 200 === 100 ? 'group' : 'it');
    }
    const last = bob.listen();
    await last.says(/^agentalk: (\(perhaps again\) )?FILE #1 from ada, \d/m, 60);
    checkInbox(bob.folder);
    assert.deepEqual(sums(bob), [sum]);
    await last.kill('SIGTERM');
    await bob.wait(0);
    await until('no piece', 10, () => readdirSync(join(bob.folder, 'files')).length === 0 || undefined);
  });

  test('a bridge that restarts with its blobs lost: the reader asks, the sender serves', async (t) => {
    const { processes, ada, bob, bridge } = await open(t);
    const { path, sum } = makeFile(processes.folder, 3);
    await ada.run(['send_file', path]);
    await bridge.kill();
    await bridge.start();
    const [near, far] = [ada.listen(), bob.listen()];
    await far.says(/^agentalk: FILE #1 from ada, \d/m, 60);
    assert.deepEqual(sums(bob), [sum]);
    assert.match(near.output, /RESUMED/);
  });

  test('progress on a terminal, none elsewhere', { skip: requirePrograms('script') }, async (t) => {
    const { processes, ada } = await open(t);
    const { path } = makeFile(processes.folder, 20);
    const command = `bash '${join(ada.folder, 'agentalk.sh')}' send_file '${path}'`;
    const terminal = processes.spawn('script', ['-qec', command, '/dev/null'], { TERM: 'dumb' });
    await terminal.closed;
    assert.match(terminal.output, /0 of 20 MiB[^]*16 of 20 MiB[^]*agentalk: sent/);
    assert.doesNotMatch(await ada.run(['send_file', path]), /of 20 MiB/);
  });

  test('a file that changes while it is sent again is sent as it is now', async (t) => {
    const { processes, ada, bob } = await open(t);
    const first = makeFile(processes.folder, 4);
    const call = ada.start(['send_file', first.path]);
    await until('its key', 20, () => readdirSync(join(ada.folder, 'sent')).length > 0 || undefined);
    await call.kill();
    const bytes = readFileSync(first.path);
    bytes[5] = (bytes[5] ?? 0) ^ 1;
    await pause(1100); // a file that changes within the second in which it was read is not told from the one before
    writeFileSync(first.path, bytes);
    if (readOutbox(ada.folder).length === 0) await ada.run(['send_file', first.path]);
    await until('the file', 60, async () => (await bob.wait(1), files(bob).length > 0 || undefined));
    assert.deepEqual(sums(bob), [createHash('sha256').update(bytes).digest('hex')]);
    assert(existsSync(join(bob.folder, 'inbox', '1-ada-report.bin')));
  });
});
