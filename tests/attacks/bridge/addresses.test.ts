/** What one address may do: floods, from there and beside it, and whose word counts about where a request comes from. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { Agent } from 'node:http';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startBridge } from '../../lib/bridge.ts';
import { requirePrograms } from '../../lib/require-programs.ts';
import { TestChannel, withBackgroundTraffic, call, gauge, room, until } from './background-clients.ts';
import type { Member, Reply } from './background-clients.ts';
import { RawConnection, check, parse } from './raw-http.ts';

const BEHIND = ['--trusted-proxies', 'loopback'];
const FLOODER = '203.0.113.7';
const BACKGROUND = { from: '198.51.100.1' };

/** As many at a time as there are lanes; gives how many answers there were of each status and code. */
async function sendManyRequests(
  count: number,
  lanes: number,
  one: (n: number) => Promise<Reply>,
): Promise<Record<string, number>> {
  const seen: Record<string, number> = {};
  let next = 0;
  const lane = async () => {
    while (next < count) {
      const { status, code, headers } = await one(next++);
      const name = code === undefined ? String(status) : String(code);
      seen[name] = (seen[name] ?? 0) + 1;
      if (status === 429) assert.match(headers['retry-after'] ?? '', /^[1-9][0-9]?$/);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return seen;
}

test('a flood of requests: above the limit too_many_requests; a well-behaved client is served', async (t) => {
  const bridge = await startBridge([...BEHIND, '--request-rate-per-ip', '2000']);
  t.after(() => bridge.stop());
  const agent = new Agent({ keepAlive: true, maxSockets: 20 });
  const ask = () => call(bridge.port, 'GET', '/health', { from: FLOODER, agent });
  let seen: Record<string, number> = {};
  await withBackgroundTraffic(bridge, async () => (seen = await sendManyRequests(8000, 20, ask)), BACKGROUND);
  const served = seen['200'] ?? 0;
  // The bucket, and what comes back into it meanwhile.
  assert.ok(served >= 2000 && served < 5000, JSON.stringify(seen));
  assert.equal(seen['too_many_requests'], 8000 - served);
  while ((await ask()).status !== 200); // it fills again
  agent.destroy();
});

test('a flood of joins, with the key and without: too_many_joins', async (t) => {
  const bridge = await startBridge([...BEHIND, '--join-rate-per-ip', '100', '--max-participants', '500']);
  t.after(() => bridge.stop());
  const { port } = bridge;
  const agent = new Agent({ keepAlive: true, maxSockets: 10 });
  const target = await room(port, { from: '192.0.2.1' });
  const mine = Object.assign(Object.create(target) as TestChannel, { how: { from: FLOODER, agent } });
  const { Member } = await import('./background-clients.ts');
  await withBackgroundTraffic(
    bridge,
    async () => {
      const seen = await sendManyRequests(600, 10, (n) => {
        const stranger = new Member(mine);
        return n % 3 === 0
          ? call(port, 'POST', `${target.path}/join`, { ...mine.how, bearer: 'EVIL', body: {} })
          : stranger.join();
      });
      const passed = 600 - (seen['too_many_joins'] ?? 0);
      assert.ok(passed >= 100 && passed < 200, JSON.stringify(seen));
      assert.ok((seen['wrong_key'] ?? 0) > 0, 'those that try keys are counted, too');
    },
    BACKGROUND,
  );
  assert.ok((await gauge(port, 'participants')) < 210);
  agent.destroy();
});

test('a flood of channels: too_many_channels, and those of others stay', async (t) => {
  const bridge = await startBridge([...BEHIND, '--channel-rate-per-ip', '50', '--max-channels', '100']);
  t.after(() => bridge.stop());
  const { port } = bridge;
  const agent = new Agent({ keepAlive: true, maxSockets: 10 });
  const others = await Promise.all(Array.from({ length: 40 }, (_, i) => room(port, { from: `192.0.2.${i}` })));
  await withBackgroundTraffic(
    bridge,
    async () => {
      const seen = await sendManyRequests(500, 10, () => new TestChannel(port, { from: FLOODER, agent }).create());
      assert.deepEqual(seen, { 201: 50, too_many_channels: 450 });
      assert.equal((await others[0]?.create())?.status, 200, 'it is there');
      await delay(1200); // in which a seventieth of one comes back: that is none
      assert.equal((await new TestChannel(port, { from: FLOODER, agent }).create()).code, 'too_many_channels');
    },
    BACKGROUND,
  );
  assert.equal(await gauge(port, 'channels'), 91);
  agent.destroy();
});

test('waiting polls: too_many_polls of one address, of one channel; each that ends makes room', async (t) => {
  const bridge = await startBridge([
    ...BEHIND,
    '--max-polls-per-ip',
    '6',
    '--max-polls-per-channel',
    '8',
    '--max-polls-per-participant',
    '100',
  ]);
  t.after(() => bridge.stop());
  const { port } = bridge;
  const made = await room(port, { from: FLOODER });
  const member = await made.member();
  const path = `${made.path}/poll?participant_id=${member.id}&since=1&wait=40`;
  const poll = (from: string) => {
    const head = `Host: x\r\nX-Forwarded-For: ${from}\r\nAuthorization: Bearer ${member.token}\r\n`;
    return new RawConnection(port).write(`GET ${path} HTTP/1.1\r\n${head}\r\n`);
  };
  const wait = (count: number) => until(port, 'polls_pending', (value) => value === count);
  const polls: RawConnection[] = [];
  for (let n = 1; n <= 6; n++) {
    polls.push(poll(FLOODER));
    await wait(n);
  }
  const [seventh] = await poll(FLOODER).answers(1);
  assert.deepEqual([seventh?.status, seventh?.code], [429, 'too_many_polls']);
  polls.push(poll(BACKGROUND.from));
  await wait(7);
  polls.shift()?.end();
  await wait(6);
  polls.push(poll(FLOODER));
  await wait(7);
  polls.push(poll('192.0.2.1'));
  await wait(8);
  const [ninth] = await poll('192.0.2.2').answers(1);
  assert.deepEqual([ninth?.status, ninth?.code], [429, 'too_many_polls']);
  const other = await made.member(); // which all of them are told of
  for (const each of polls) assert.equal((await each.answers(1))[0]?.status, 200);
  assert.equal((await other.poll(2)).status, 200);
  for (const each of polls) each.end();
});

test('X-Forwarded-For: from the right, past trusted proxies, and only by their word', async (t) => {
  const bridge = await startBridge([
    '--trusted-proxies',
    'loopback,10.0.0.0/8,2001:db8:ffff::/48',
    '--channel-rate-per-ip',
    '1',
  ]);
  t.after(() => bridge.stop());
  const { port } = bridge;
  /** Whether that one has used up its one channel already; if not, it has now. */
  const isKnown = async (from: string) => {
    const { status, code } = await new TestChannel(port, { from }).create();
    assert.ok(status === 201 || code === 'too_many_channels', String(code));
    return status === 429;
  };
  assert.equal(await isKnown('203.0.113.1'), false);
  for (const same of [
    ...[
      '203.0.113.1',
      ' 203.0.113.1 ',
      '::ffff:203.0.113.1',
      '203.0.113.1, 10.1.2.3',
      '203.0.113.1,10.9.9.9 , 127.0.0.1',
    ],
    ...['198.51.100.9, 203.0.113.1', '10.0.0.1,203.0.113.1', 'EVIL, 203.0.113.1', '203.0.113.1, 2001:db8:ffff:1::1'],
  ]) {
    assert.equal(await isKnown(same), true, same);
  }
  assert.equal(await isKnown('203.0.113.2'), false, 'another address');
  assert.equal(
    await isKnown('203.0.113.1, 203.0.113.3'),
    false,
    'what stands left of a stranger is the stranger’s word',
  );
  assert.equal(await isKnown('2001:db8:1:2:3:4:5:6'), false);
  for (const same of ['2001:db8:1:2::', '2001:DB8:1:2:ffff::9', '2001:db8:1:2::1, 10.0.0.1'])
    assert.equal(await isKnown(same), true, `${same} is in the same /64`);
  assert.equal(await isKnown('2001:db8:1:3::'), false, 'the next /64');
  assert.equal(await isKnown('2001:db8::1'), false);
  assert.equal(await isKnown('2001:db8::2:3:4:5'), true);
  assert.equal(await isKnown('2001:db8:0:0:1::'), true);
  assert.equal(await isKnown('2001:0db8:0000::1'), true);
  assert.equal(await isKnown('2001::5:1:2:3:4'), false);
  assert.equal(await isKnown('2001::6:1:2:3:4'), false);
  assert.equal(await isKnown('EVIL'), false, 'garbage counts for the proxy that brought it');
  for (const garbage of ['', ',', '203.0.113.9:80', '[::1]', '1.2.3', 'unknown', '203.0.113.9, _x'])
    assert.equal(await isKnown(garbage), true, `all of it together: ${garbage}`);
});

test('from this machine nothing is limited, and a header of somebody who is no trusted proxy says nothing', async (t) => {
  const tight = [
    '--request-rate-per-ip',
    '5',
    '--join-rate-per-ip',
    '1',
    '--channel-rate-per-ip',
    '1',
    '--max-polls-per-ip',
    '1',
  ];
  const agent = new Agent({ keepAlive: true });
  for (const flags of [tight, [...tight, '--trusted-proxies', '10.0.0.1']]) {
    const bridge = await startBridge(flags);
    t.after(() => bridge.stop());
    for (let n = 0; n < 20; n++) {
      const from = n % 2 === 0 ? {} : { from: FLOODER };
      assert.equal((await new TestChannel(bridge.port, { ...from, agent }).create()).status, 201);
    }
    assert.equal(await gauge(bridge.port, 'rate_limited_addresses'), 0);
    await bridge.stop();
  }
  agent.destroy();
});

test('0 is no limit', async (t) => {
  const flags = ['max-connections', 'max-polls', 'request-rate', 'join-rate', 'channel-rate'];
  const bridge = await startBridge([
    ...BEHIND,
    '--max-polls-per-channel',
    '0',
    ...flags.flatMap((flag) => [`--${flag}-per-ip`, '0']),
  ]);
  t.after(() => bridge.stop());
  const agent = new Agent({ keepAlive: true });
  for (let n = 0; n < 50; n++)
    assert.equal((await new TestChannel(bridge.port, { from: FLOODER, agent }).create()).status, 201);
  await until(bridge.port, 'rate_limited_addresses', (value) => value === 0); // nothing is remembered, either
  agent.destroy();
});

test('addresses are forgotten when nothing counts for them, and there are never more than connections may be', async (t) => {
  const bridge = await startBridge([
    ...BEHIND,
    '--max-connections',
    '300',
    '--request-rate-per-ip',
    '10',
    '--max-polls-per-ip',
    '1',
  ]);
  t.after(() => bridge.stop());
  const { port } = bridge;
  const agent = new Agent({ keepAlive: true, maxSockets: 10 });
  const made = await room(port, { from: '192.0.2.1' });
  const member: Member = await made.member();
  const waiting = member.poll(1, 40);
  await until(port, 'polls_pending', (value) => value === 1);
  await sendManyRequests(3000, 10, (n) => call(port, 'GET', '/ready', { from: `10.${n >> 8}.${n & 255}.1`, agent }));
  await until(port, 'rate_limited_addresses', (value) => value <= 300);
  await until(port, 'rate_limited_addresses', (value) => value <= 1); // the one that waits may have been among those that had to go
  await made.member();
  assert.equal((await waiting).status, 200);
  await until(port, 'rate_limited_addresses', (value) => value === 0);
  agent.destroy();
});

/** An address that is not loopback’s, in a network of this test's own: it runs there, in a process that it starts itself. */
const OUTSIDE = '192.0.2.1';
const isThere = process.env['AGENTALK_TEST_NETWORK'] === OUTSIDE;
const NETWORK = 'ip link set lo up && ip address add "$1/32" dev lo && shift && exec "$@"';
const inside = (...command: readonly string[]) =>
  spawnSync('unshare', ['--net', 'sh', '-c', NETWORK, 'sh', OUTSIDE, ...command], {
    encoding: 'utf8',
    env: { ...process.env, AGENTALK_TEST_NETWORK: OUTSIDE, NODE_TEST_CONTEXT: undefined },
  });
const CONNECTIONS = 'connections of one address: too_many_connections, far more are closed, others are not touched';
const skip = requirePrograms('unshare', 'ip') || (inside('true').status !== 0 && 'needs a user who may make a network');

test(CONNECTIONS, { skip }, async (t) => {
  if (!isThere) {
    const file = process.argv[1] ?? '';
    const { status, stdout, stderr } = inside(process.execPath, '--test-name-pattern', `^${CONNECTIONS}$`, file);
    assert.equal(status, 0, stdout + stderr);
    assert.match(stdout, /^# pass 1$|^ℹ pass 1$/m);
    return;
  }
  const bridge = await startBridge(['--host', '0.0.0.0', '--max-connections-per-ip', '20', '--headers-timeout', '5']);
  t.after(() => bridge.stop());
  const { port } = bridge;
  const health = 'GET /health HTTP/1.1\r\nHost: x\r\n\r\n';
  await withBackgroundTraffic(bridge, async () => {
    const first = Array.from({ length: 20 }, () => new RawConnection(port, OUTSIDE).write(health));
    for (const each of first) assert.equal((await each.answers(1))[0]?.status, 200);
    const late = await new RawConnection(port, OUTSIDE).write(health).answers(1);
    assert.deepEqual([late[0]?.status, late[0]?.code], [429, 'too_many_connections']);
    const many = Array.from({ length: 200 }, () => new RawConnection(port, OUTSIDE));
    for (const each of many) each.socket.once('connect', () => each.write(health));
    const ends = await Promise.all(many.map((each) => Promise.race([each.closed, each.answers(1).catch(() => [])])));
    for (const answers of many.map(({ received }) => parse(received).answers))
      for (const each of answers) assert.equal(check(each).code, 'too_many_connections');
    assert.equal(ends.length, 200);
    const isOpen = many.filter(({ socket }) => !socket.destroyed).length;
    assert.ok(isOpen <= 20, `${isOpen} are still open`);
    for (const each of [...first, ...many]) each.end();
    await until(port, 'connections', (value) => value < 10);
    assert.equal(
      (await new RawConnection(port, OUTSIDE).write(health).answers(1))[0]?.status,
      200,
      'when they are closed it may again',
    );
  });
});
