/** Memory has owners: one address that takes all it can ends nothing of the others, and newcomers find room. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { Agent } from 'node:http';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { startBridge } from '../../lib/bridge.ts';
import { Member, TestChannel, withBackgroundTraffic, call, gauge, room, sealed, until } from './background-clients.ts';
import type { Reply } from './background-clients.ts';

const MiB = 1024 * 1024;
const ATTACKER = '203.0.113.7';
const BACKGROUND = { from: '198.51.100.1' };

async function startBehindProxy(t: TestContext, ...flags: string[]): Promise<number> {
  const bridge = await startBridge(['--trusted-proxies', 'loopback', ...flags]);
  t.after(() => bridge.stop());
  return bridge.port;
}

interface Victim {
  readonly talker: Member;
  readonly listener: Member;
  readonly message: ReturnType<typeof sealed>;
  readonly waiting: Promise<Reply>;
}

/** So many channels of others, each from an address of its own, with one message and a poll that waits for the next. */
async function openVictims(port: number, count: number): Promise<Victim[]> {
  const victims: Victim[] = [];
  for (let n = 0; n < count; n++) {
    const made = await room(port, { from: `198.51.100.${n + 2}` });
    const [talker, listener] = [await made.member(), await made.member()];
    const message = sealed(2000);
    assert.equal((await talker.send({ to: '*', ...message })).status, 200);
    victims.push({ talker, listener, message, waiting: listener.poll(3, 50) });
  }
  await until(port, 'polls_pending', (value) => value === count);
  return victims;
}

/** Each waits still, has its history, and is given what is said now. */
async function assertUntouched(victims: readonly Victim[]): Promise<void> {
  for (const { talker, listener, message, waiting } of victims) {
    const events = (await listener.poll(0)).json['events'] as Record<string, unknown>[];
    assert.deepEqual(
      events.map(({ type }) => type),
      ['join', 'message'],
    );
    assert.equal(events[1]?.['nonce'], message.nonce);
    const next = sealed();
    assert.equal((await talker.send({ to: '*', ...next })).status, 200);
    const heard = await waiting;
    assert.equal(heard.status, 200, String(heard.code));
    assert.equal((heard.json['events'] as Record<string, unknown>[])[0]?.['nonce'], next.nonce);
  }
}

/** Opens channels and fills them, several at a time, until it is refused or has sent so much. */
async function fillFrom(port: number, from: string, bytes: number): Promise<Record<string, number>> {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const seen: Record<string, number> = {};
  let sent = 0;
  let refused = 0;
  const count = ({ status, code, headers }: Reply): boolean => {
    const name = String(code ?? status);
    seen[name] = (seen[name] ?? 0) + 1;
    if (status === 503) assert.match(headers['retry-after'] ?? '', /^[1-9][0-9]?$/);
    if (code !== undefined) refused++;
    return code === undefined;
  };
  const lane = async () => {
    while (sent < bytes && refused < 100) {
      const made = new TestChannel(port, { from, agent });
      const [talker, listener] = [new Member(made), new Member(made)];
      if (!count(await made.create()) || !count(await talker.join()) || !count(await listener.join())) continue;
      for (let n = 0; n < 10 && sent < bytes; n++) {
        if (!count(await talker.send({ to: '*', ...sealed(66_000) }))) break;
        sent += 88_000;
      }
    }
  };
  await Promise.all(Array.from({ length: 8 }, lane));
  agent.destroy();
  return seen;
}

/** A blob of random bytes; gives the status of the answer. */
async function putBlob({ room: { port, path, how }, id, token }: Member, bytes = MiB): Promise<number> {
  const body = randomBytes(bytes);
  const sum = createHash('sha256').update(body).digest('hex');
  const { status } = await fetch(`http://127.0.0.1:${port}${path}/blobs/${sum}?participant_id=${id}`, {
    method: 'PUT',
    body,
    headers: { authorization: `Bearer ${token}`, 'x-forwarded-for': how.from ?? '' },
  });
  return status;
}

test('one address fills the bridge with channels: 50 of 50 channels of others stay, each with its poll', async (t) => {
  const port = await startBehindProxy(t, '--max-memory-bytes', '32m');
  const victims = await openVictims(port, 50);
  const seen = await fillFrom(port, ATTACKER, 64 * MiB);
  assert.ok((seen['bridge_full'] ?? 0) > 0, JSON.stringify(seen));
  assert.ok((await gauge(port, 'channel_memory_bytes', BACKGROUND)) > 30 * MiB, 'the bridge is full');
  await assertUntouched(victims);
  const newcomer = await fillFrom(port, '198.51.100.200', 8 * MiB);
  assert.equal(newcomer['bridge_full'], undefined, `a newcomer finds room: ${JSON.stringify(newcomer)}`);
  assert.equal((await putBlob(await (await room(port, { from: '198.51.100.201' })).member())) === 201, true);
  assert.equal(await gauge(port, 'channels_evicted_total', BACKGROUND), 0);
});

test('a few addresses fill it together: newcomers find room at the cost of those', async (t) => {
  const port = await startBehindProxy(t, '--max-memory-bytes', '32m');
  const victims = await openVictims(port, 20);
  for (let n = 0; n < 4; n++) await fillFrom(port, `203.0.113.${n}`, 16 * MiB);
  await assertUntouched(victims);
  for (let n = 0; n < 5; n++) {
    const seen = await fillFrom(port, `198.51.100.${200 + n}`, MiB);
    assert.equal(seen['bridge_full'], undefined, JSON.stringify(seen));
  }
});

test('one address opens all channels that there may be: others keep theirs, and newcomers get one', async (t) => {
  const port = await startBehindProxy(t, '--max-channels', '200', '--join-rate-per-ip', '0');
  const victims = await openVictims(port, 50);
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const seen: Record<string, number> = {};
  for (let n = 0; n < 500; n++) {
    const made = new TestChannel(port, { from: ATTACKER, agent });
    const { status, code } = await made.create();
    seen[String(code ?? status)] = (seen[String(code ?? status)] ?? 0) + 1;
    if (status === 201) await new Member(made).join();
  }
  assert.deepEqual(seen, { 201: 150, bridge_full: 350 });
  await assertUntouched(victims);
  for (let n = 0; n < 20; n++) await room(port, { from: `192.0.2.${n}` });
  assert.equal(await gauge(port, 'channels', BACKGROUND), 200);
  agent.destroy();
});

test('one address fills it with participants and their cards', async (t) => {
  const flags = ['--max-memory-bytes', '16m', '--join-rate-per-ip', '0', '--max-participants', '500'];
  const port = await startBehindProxy(t, ...flags);
  const victims = await openVictims(port, 20);
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  let isFull = false;
  while (!isFull) {
    const made = new TestChannel(port, { from: ATTACKER, agent });
    isFull = (await made.create()).status === 503;
    for (let n = 0; n < 400 && !isFull; n++) {
      const member = Object.assign(new Member(made), { card: sealed(4000) });
      isFull = (await member.join()).status === 503;
    }
  }
  await assertUntouched(victims);
  assert.equal((await fillFrom(port, '198.51.100.200', MiB))['bridge_full'], undefined);
  agent.destroy();
});

test('one address fills it with blobs, in channels of its own and in one of another: blobs are their sender’s', async (t) => {
  const port = await startBehindProxy(t, '--max-memory-bytes', '24m', '--max-blob-bytes', '20m');
  const victims = await openVictims(port, 10);
  const shared = await room(port, { from: '198.51.100.100' });
  const [owner, friend] = [await shared.member(), await shared.member()];
  for (let n = 0; n < 3; n++) assert.equal(await putBlob(owner), 201);
  const guest = Object.assign(new Member(Object.assign(new TestChannel(port, { from: ATTACKER }), shared)), {});
  Object.assign(guest.room, { how: { from: ATTACKER } });
  assert.equal((await guest.join()).status, 200);
  const own = await (await room(port, { from: ATTACKER })).member();
  for (let n = 0; n < 20; n++) assert.equal(await putBlob(n % 2 === 0 ? guest : own), 201);
  for (let n = 0; n < 20; n++) await putBlob(own);
  assert.ok((await gauge(port, 'channel_memory_bytes', BACKGROUND)) > 22 * MiB, 'the bridge is full');
  await assertUntouched(victims);
  for (let n = 0; n < 4; n++) assert.equal(await putBlob(friend), 201, 'there is room for who has less');
  assert.equal((await fillFrom(port, '198.51.100.200', 2 * MiB))['bridge_full'], undefined);
});

test('an IPv6 /64 is one owner, and so is all that comes from one address behind NAT', async (t) => {
  const port = await startBehindProxy(t, '--max-memory-bytes', '16m');
  await fillFrom(port, '2001:db8:1:2::1', 32 * MiB);
  const neighbour = await fillFrom(port, '2001:db8:1:2:ffff::9', MiB);
  assert.ok((neighbour['bridge_full'] ?? 0) > 0, 'shares what its /64 has');
  assert.equal((await fillFrom(port, '2001:db8:1:3::1', MiB))['bridge_full'], undefined, 'the next /64 does not');
});

test('a well-behaved pair next to one that fills the bridge all the time', async (t) => {
  const bridge = await startBridge(['--trusted-proxies', 'loopback', '--max-memory-bytes', '16m']);
  t.after(() => bridge.stop());
  await withBackgroundTraffic(bridge, () => fillFrom(bridge.port, ATTACKER, 64 * MiB), BACKGROUND);
  assert.equal((await call(bridge.port, 'GET', '/health', BACKGROUND)).status, 200);
});
