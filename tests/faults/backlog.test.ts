/** What a call costs after much has gone by: a crowd that came and went, hundreds of unread messages, a long talk. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { Client } from '../../examples/client.ts';
import { Processes, until } from './processes.ts';
import type { Running, Session } from './processes.ts';
import { checkInbox, readState } from './session-reader.ts';

/** A bash client, bob, in a channel whose other members are cheap: examples/client.ts. */
async function open(t: TestContext) {
  const processes = new Processes('backlog');
  t.after(() => processes.close());
  const bridge = await processes.bridge('--join-rate-per-ip', '10000');
  const bob = processes.session('bob');
  const opened = await bob.run(['create', bridge.url, '--name', 'bob']);
  const link = /\S+\/c\/\S+#k=[0-9a-f]{64}/.exec(opened)?.[0] ?? assert.fail(opened);
  const [, k = ''] = /#k=([0-9a-f]{64})/.exec(link) ?? [];
  return {
    processes,
    bridge,
    bob,
    enter: (name: string) => Client.join(link, { name }),
    /** One that says nothing to anybody. */
    guest: (name: string) => new Client(bridge.url, k, undefined, { name }),
  };
}

/** Pairs the two. */
async function pair(bob: Session, ada: Client): Promise<void> {
  await until('PAIRED', 30, async () => {
    await Promise.all([bob.wait(1), ada.poll(1)]);
    return ada.entries.some(({ type }) => type === 'paired') || undefined;
  });
  await bob.wait(0);
  await ada.poll(0);
}

const secondsOf = async (work: () => Promise<unknown>) => {
  const begun = Date.now();
  await work();
  return (Date.now() - begun) / 1000;
};

/** The most memory that a process took, in MB, as long as it runs. */
function memoryOf(call: Running): () => number {
  let most = 0;
  const timer = setInterval(() => {
    try {
      const [, kb = '0'] = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${call.pid}/status`, 'latin1')) ?? [];
      most = Math.max(most, Number(kb) / 1024);
    } catch {
      clearInterval(timer);
    }
  }, 20);
  void call.ended.then(() => clearInterval(timer));
  return () => most;
}

describe('after much has gone by', { concurrency: 1 }, () => {
  for (const [how, size] of [
    ['one after the other', 1],
    ['forty at a time', 40],
  ] as const) {
    test(`400 sessions that came and went, ${how}, cost a wait seconds, not a minute, and few lines`, async (t) => {
      const { bob, enter, guest } = await open(t);
      const ada = await enter('ada');
      await pair(bob, ada);
      for (let i = 0; i < 400; i += size) {
        const crowd = Array.from({ length: size }, (_, j) => guest(`guest-${i + j}`));
        for (const each of crowd) await each.bridge.join(each.session.sealedCard);
        for (const each of crowd) await each.bridge.leave();
      }
      await ada.say('are you still there?');
      const call = bob.start(['wait', '10']);
      const memory = memoryOf(call);
      let output = '';
      const seconds = await secondsOf(async () => {
        assert.equal(await call.closed, 0);
        output = call.output;
        while (!output.includes('still there?')) output += await bob.wait(5);
      });
      t.diagnostic(`${seconds.toFixed(1)} s, ${memory().toFixed(1)} MB, ${output.split('\n').length} lines`);
      assert(seconds < 12);
      assert(memory() < 24);
      assert(output.split('\n').length < 150);
    });
  }

  test('280 unread messages come in a few calls, each of which ends in time and says that there is more', async (t) => {
    const { bob, enter } = await open(t);
    const ada = await enter('ada');
    await pair(bob, ada);
    for (let i = 1; i <= 280; i++) await ada.say(`m ${i}`);
    const seconds: number[] = [];
    let output = '';
    const count = () => output.match(/^ {2}\| m \d+$/gm)?.length ?? 0;
    while (count() < 280) {
      seconds.push(await secondsOf(async () => (output += await bob.wait(10))));
      if (count() < 280) assert.match(output.trimEnd().split('\n').at(-1) ?? '', /There is more/);
      assert(seconds.length < 12, `${count()} after ${seconds.length} calls`);
    }
    t.diagnostic(`${seconds.map((each) => each.toFixed(1)).join(' s, ')} s`);
    for (const each of seconds) assert(each < 17, `a wait of 10 s took ${each} s`);
    checkInbox(bob.folder);
  });

  test('say, wait and a restart of the bridge cost no more after 600 messages than after 20', async (t) => {
    const { bridge, bob, enter } = await open(t);
    const ada = await enter('ada');
    await pair(bob, ada);
    const exchange = async (count: number) => {
      for (let i = 0; i < count; i++) await ada.say(`number ${i}`);
      const expected = Number(readState(bob.folder).fields['MESSAGES']) + count;
      await until('all', 120, async () => {
        await bob.wait(0);
        return Number(readState(bob.folder).fields['MESSAGES']) === expected || undefined;
      });
      await ada.poll(0);
    };
    /** The fastest of some, since other things run on this machine, too. */
    const fastest = async (work: () => Promise<unknown>) => {
      const times: number[] = [];
      for (let i = 0; i < 6; i++) times.push(await secondsOf(work));
      return Math.min(...times);
    };
    const measure = async () => {
      await exchange(1);
      const say = await fastest(() => bob.say('what I think of it'));
      const wait = await fastest(async () => {
        await ada.say('news');
        await bob.wait(5);
      });
      await bridge.kill();
      await bridge.start();
      const restart = await secondsOf(() => bob.say('after a restart'));
      await until('ada is back', 20, async () => {
        await ada.poll(0).catch(() => {});
        await bob.wait(0);
        return (await bridge.metric('participants')) === 2 || undefined;
      });
      const files = bob.files.length;
      return { say, wait, restart, files };
    };
    await exchange(10);
    const first = await measure();
    for (let i = 0; i < 24; i++) {
      await exchange(20);
      for (let j = 0; j < 2; j++) await bob.say(`so far ${i} ${j} ${'x'.repeat(40_000)}`);
    }
    const last = await measure();
    t.diagnostic(`${JSON.stringify(first)}, then ${JSON.stringify(last)}`);
    assert(last.say < 2 * first.say + 0.05);
    assert(last.wait < 2 * first.wait + 0.1);
    assert(last.restart < 2 * first.restart + 1);
    assert(last.files < first.files + 60, 'the files of its folder stay bounded');
    assert(readdirSync(join(bob.folder, 'state')).length < 60);
    checkInbox(bob.folder);
  });
});
