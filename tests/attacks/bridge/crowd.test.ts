/** Very many at once: channels, waiters, joins, connections. Bounded, with the right refusal, and well-behaved clients go on. */
import assert from 'node:assert/strict';
import { Agent } from 'node:http';
import { test } from 'node:test';
import { startBridge } from '../../lib/bridge.ts';
import { Member, TestChannel, withBackgroundTraffic, call, gauge, room, sealed, until } from './background-clients.ts';
import type { Reply } from './background-clients.ts';
import { RawConnection } from './raw-http.ts';

/** As many at a time as the agent has connections. */
async function many<T>(count: number, lanes: number, one: (n: number) => Promise<T>): Promise<T[]> {
  const all: T[] = [];
  let next = 0;
  const lane = async () => {
    while (next < count) {
      const n = next++;
      all[n] = await one(n);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return all;
}

const tally = (replies: readonly Reply[]) => {
  const seen: Record<string, number> = {};
  for (const { status, code } of replies) {
    const name = code === undefined ? String(status) : String(code);
    seen[name] = (seen[name] ?? 0) + 1;
  }
  return seen;
};

test('thousands of channels: no more than may be, and the least recently used go', async (t) => {
  const bridge = await startBridge(['--max-channels', '1000']);
  t.after(() => bridge.stop());
  const { port } = bridge;
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  // A well-behaved client could lose its channel here, too: which are in use is known to the second.
  const rooms = Array.from({ length: 5000 }, () => new TestChannel(port, { agent }));
  assert.deepEqual(tally(await many(5000, 16, (n) => (rooms[n] as TestChannel).create())), { 201: 5000 });
  assert.equal(await gauge(port, 'channels'), 1000);
  assert.ok((await gauge(port, 'channel_memory_bytes')) < 1000 * 4096);
  assert.equal((await rooms[4999]?.create())?.status, 200);
  assert.equal((await rooms[0]?.create())?.status, 201, 'it had to go, and can be opened again');
  agent.destroy();
});

test('thousands of waiters in one channel and in many: all are answered by one message, or refused at once', async (t) => {
  const bridge = await startBridge([
    '--max-participants',
    '100',
    '--max-polls-per-participant',
    '30',
    '--max-polls-per-channel',
    '1500',
  ]);
  t.after(() => bridge.stop());
  const { port } = bridge;
  const agent = new Agent({ keepAlive: true, maxSockets: 2000 });
  const made = await room(port, { agent });
  const members: Member[] = [];
  for (let n = 0; n < 60; n++) members.push(await made.member());
  await withBackgroundTraffic(bridge, async () => {
    const polls = members.flatMap((member) => Array.from({ length: 30 }, () => member.poll(60, 40)));
    await until(port, 'polls_pending', (value) => value >= 1500);
    await until(
      port,
      String.raw`request_errors_total\{code="too_many_polls"\}`,
      (value) => value === polls.length - 1500,
    );
    const [first] = members as [Member];
    const refused = polls.length - 1500;
    const answered = Promise.all(polls);
    // The sender’s own polls wait on; the rest have it at once.
    assert.equal((await first.send({ to: '*', ...sealed() })).status, 200);
    await until(port, 'polls_pending', (value) => value <= 31);
    assert.equal(
      (await call(port, 'POST', `${made.path}/leave`, { bearer: first.token, body: { participant_id: first.id } }))
        .status,
      200,
    );
    const seen = tally(await answered);
    assert.deepEqual(seen, { 200: 1500 - 30, too_many_polls: refused, no_participant: 30 });
  });
  agent.destroy();
});

test('a flood of joins: participants_full, and those that are in talk on', async (t) => {
  const bridge = await startBridge();
  t.after(() => bridge.stop());
  const { port } = bridge;
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  const made = await room(port, { agent });
  await withBackgroundTraffic(bridge, async () => {
    const replies = await many(2000, 16, () => new Member(made).join());
    assert.deepEqual(tally(replies), { 200: 50, participants_full: 1950 });
  });
  assert.equal(await gauge(port, 'participants'), 52);
  agent.destroy();
});

test('a flood of large messages: channel_full in one channel, and in all no more than may be held', async (t) => {
  const bridge = await startBridge(['--max-channel-bytes', '1m', '--max-memory-bytes', '8m']);
  t.after(() => bridge.stop());
  const { port } = bridge;
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const message = () => ({ to: '*', ...sealed(60_000) });
  await withBackgroundTraffic(bridge, async () => {
    const made = await room(port, { agent });
    const [talker] = [await made.member(), await made.member()];
    const seen = tally(await many(60, 8, () => talker.send(message())));
    assert.ok((seen['200'] ?? 0) >= 10 && (seen['200'] ?? 0) < 20, JSON.stringify(seen));
    assert.equal((seen['200'] ?? 0) + (seen['channel_full'] ?? 0), 60);
  });
  const replies = await many(40, 2, async () => {
    const other = await (await room(port, { agent })).member();
    for (let n = 0; n < 11; n++) assert.equal((await other.send(message())).status, 200);
    return other.send(message());
  });
  assert.deepEqual(tally(replies), { 200: 40 });
  assert.ok((await gauge(port, 'channel_memory_bytes')) <= 8 << 20);
  assert.equal(await gauge(port, 'channels'), 42, 'what nobody waits for goes, and no channel');
  agent.destroy();
});

test('connections above the limit of all are closed; when some have gone the next is served', async (t) => {
  const bridge = await startBridge(['--max-connections', '200', '--headers-timeout', '1']);
  t.after(() => bridge.stop());
  const { port } = bridge;
  const idle = Array.from({ length: 400 }, () => new RawConnection(port));
  await Promise.all(idle.map(({ closed }) => closed)); // half of them at once, half when their time is up
  assert.equal((await call(port, 'GET', '/health', { headers: { connection: 'close' } })).status, 200);
  await until(port, 'connections', (value) => value < 5);
});
