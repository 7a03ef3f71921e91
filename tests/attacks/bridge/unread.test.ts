/**
 * Answers that nobody reads, and bodies that never end: from one address and from many, over plain HTTP and TLS, one a
 * connection and pipelined. The bridge's memory stays where it was, and well-behaved clients notice nothing.
 */
import assert from 'node:assert/strict';
import { randomBytes, createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import type { Socket } from 'node:net';
import { startBridge } from '../../lib/bridge.ts';
import type { TestBridge } from '../../lib/bridge.ts';
import { Authority } from '../../lib/certificate.ts';
import { Member, withBackgroundTraffic, call, gauge, room, sealed } from './background-clients.ts';
import { RawConnection, parse } from './raw-http.ts';

const MiB = 1024 * 1024;
const BEHIND = ['--trusted-proxies', 'loopback'];
const ATTACKER = '203.0.113.7';
const BACKGROUND = { from: '198.51.100.1' };
const MAX_GROWTH = 24 * MiB;
/** Of bodies: the collector leaves up to 32 MiB of them for later, if they are left to it. */
const MAX_BODY_GROWTH = 16 * MiB;

/** Resident memory of the bridge. */
const residentBytes = ({ pid }: TestBridge) => {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
};

/** How much larger the bridge is at most, while `attack` goes on and for a second after it, than it was before. */
async function growth(bridge: TestBridge, attack: () => Promise<unknown>): Promise<number> {
  const before = residentBytes(bridge);
  let most = before;
  const timer = setInterval(() => (most = Math.max(most, residentBytes(bridge))), 20);
  try {
    await attack();
    await delay(1000);
  } finally {
    clearInterval(timer);
  }
  return Math.max(most, residentBytes(bridge)) - before;
}

function assertGrowth(t: TestContext, bytes: number, maxBytes = MAX_GROWTH): void {
  t.diagnostic(`memory grew by ${(bytes / MiB).toFixed(1)} MiB`);
  assert.ok(bytes <= maxBytes, `the bridge grew by ${(bytes / MiB).toFixed(1)} MiB, more than ${maxBytes / MiB} MiB`);
}

/** Honest use of everything, by many at a time, so that what grows later is no first use of something. */
async function warmUp(port: number): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 300 });
  const how = { ...BACKGROUND, agent };
  for (let n = 0; n < 4; n++) {
    const made = await room(port, how);
    const members = await Promise.all(Array.from({ length: 40 }, () => made.member()));
    const polls = members.map((member) => member.poll(40, 20));
    await Promise.all(members.map((member) => member.send({ to: '*', ...sealed(300) })));
    await Promise.all(polls);
    await Promise.all(members.flatMap((member) => [member.poll(0), member.poll(0), member.poll(0)]));
    await Promise.all(Array.from({ length: 2000 }, () => call(port, 'GET', '/llms.txt', how)));
    await Promise.all(members.map((member) => member.leave()));
  }
  agent.destroy();
  for (let n = 0; n < 3; n++) {
    const made = await room(port, BACKGROUND);
    const [talker, listener] = [await made.member(), await made.member()];
    for (let i = 0; i < 12; i++) assert.equal((await talker.send({ to: '*', ...sealed(66_000) })).status, 200);
    for (let i = 0; i < 500; i++) assert.equal((await talker.send({ to: '*', ...sealed(300) })).status, 200);
    for (let i = 0; i < 12; i++) assert.equal((await listener.poll(0)).status, 200);
    for (const path of ['/', '/llms.txt', '/agentalk.sh', '/bridge.js']) await call(port, 'GET', path, BACKGROUND);
    for (const member of [talker, listener]) await member.leave();
  }
}

async function warmBridge(t: TestContext, ...flags: string[]): Promise<TestBridge> {
  const bridge = await startBridge([...BEHIND, '--write-timeout', '600', ...flags]);
  t.after(() => bridge.stop());
  await warmUp(bridge.port);
  return bridge;
}

const PIPELINED = 5; // with the one that is answered

/** A connection that reads nothing. */
function deaf(port: number): Socket {
  const { socket } = new RawConnection(port, '127.0.0.1', false);
  return socket.pause();
}

function get(path: string, from = ATTACKER, bearer = ''): string {
  const authorization = bearer === '' ? '' : `Authorization: Bearer ${bearer}\r\n`;
  return `GET ${path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: ${from}\r\n${authorization}\r\n`;
}

/** A channel whose every whole poll is about a mebibyte, and the request for that, by one participant after the other. */
async function heavyChannel(port: number, from: string) {
  const made = await room(port, { from });
  const talker = await made.member();
  const listeners = await Promise.all(Array.from({ length: 45 }, () => made.member()));
  for (let i = 0; i < 12; i++) assert.equal((await talker.send({ to: '*', ...sealed(66_000) })).status, 200);
  let next = 0;
  const poll = (by = from) => {
    const { id, token } = listeners[next++ % listeners.length] as Member;
    return get(`${made.path}/poll?participant_id=${id}&since=0`, by, token);
  };
  return { talker, listener: listeners[0] as Member, poll };
}

/** So many connections, each with this request, a few at a time so that the bridge gets to each. */
async function openDeaf(port: number, count: number, request: (n: number) => string): Promise<Socket[]> {
  const sockets: Socket[] = [];
  for (let n = 0; n < count; n++) {
    const socket = deaf(port);
    socket.write(request(n), 'latin1');
    sockets.push(socket);
    if (n % 20 === 19) await delay(10);
  }
  await delay(500);
  return sockets;
}

/** The same, until the system takes no more and the answers stay with the bridge: so many at a time may wait. */
async function openStuck(port: number, count: number, request: (n: number) => string): Promise<Socket[]> {
  const sockets = await openDeaf(port, count, (n) => request(n).repeat(PIPELINED));
  for (let wave = 0; wave < 3; wave++) {
    sockets.forEach((socket, n) => socket.destroyed || socket.write(request(n).repeat(PIPELINED), 'latin1'));
    await delay(500);
  }
  return sockets;
}

const end = (sockets: readonly Socket[]) => sockets.forEach((socket) => socket.destroy());

test('pipelined polls that are never read: memory stays, a well-behaved client is served', async (t) => {
  const bridge = await warmBridge(t);
  const { port } = bridge;
  const { poll } = await heavyChannel(port, ATTACKER);
  const sockets: Socket[] = [];
  const grown = await growth(bridge, () =>
    withBackgroundTraffic(
      bridge,
      async () => {
        sockets.push(...(await openDeaf(port, 20, () => poll().repeat(1000))));
        sockets.push(...(await openStuck(port, 200, () => poll())));
      },
      BACKGROUND,
    ),
  );
  end(sockets);
  assertGrowth(t, grown);
});

test('pipelined GETs of a page that are never read, on a bridge where the attacker may open no channel', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'agentalk-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const bridge = await warmBridge(t);
  const { port } = bridge;
  const sockets: Socket[] = [];
  const grown = await growth(bridge, () =>
    withBackgroundTraffic(
      bridge,
      async () => {
        for (const path of ['/llms.txt', '/', `/c/${'a'.repeat(32)}`, '/docs/protocol.md', '/bridge.js'])
          sockets.push(...(await openDeaf(port, 40, () => get(path).repeat(1500))));
        sockets.push(...(await openDeaf(port, 300, () => get('/docs/protocol.md').repeat(5))));
      },
      BACKGROUND,
    ),
  );
  end(sockets);
  assertGrowth(t, grown);
});

test('a few polls each on hundreds of connections through a proxy, never read', async (t) => {
  const bridge = await warmBridge(t);
  const { port } = bridge;
  const { poll } = await heavyChannel(port, ATTACKER);
  const sockets: Socket[] = [];
  const grown = await growth(bridge, () =>
    withBackgroundTraffic(bridge, async () => sockets.push(...(await openStuck(port, 300, () => poll()))), BACKGROUND),
  );
  const refused = await call(port, 'GET', '/metrics');
  end(sockets);
  assertGrowth(t, grown);
  assert.ok(Number(/code="too_many_requests"\} (\d+)/.exec(refused.text)?.[1]) > 0, 'the rest was refused');
});

test('a broadcast to hundreds of waiting polls that are never read', async (t) => {
  const bridge = await warmBridge(
    t,
    '--max-participants',
    '500',
    '--max-polls-per-channel',
    '0',
    '--max-poll-response-bytes',
    '1m',
  );
  const { port } = bridge;
  const made = await room(port, { from: ATTACKER });
  const talker = await made.member();
  const listeners: Member[] = [];
  for (let n = 0; n < 200; n++) listeners.push(await made.member());
  const { cursor } = (await talker.poll(0)).json;
  const sockets: Socket[] = [];
  const grown = await growth(bridge, () =>
    withBackgroundTraffic(
      bridge,
      async () => {
        for (let round = 0; round < 5; round++) {
          const since = Number(cursor) + round;
          const requests = listeners.map(({ id, token }) =>
            get(`${made.path}/poll?participant_id=${id}&since=${since}&wait=50`, ATTACKER, token),
          );
          sockets.push(...(await openDeaf(port, requests.length, (n) => requests[n] ?? '')));
          while ((await talker.send({ to: '*', ...sealed(66_000) })).status !== 200); // its own address is full, too
        }
      },
      BACKGROUND,
    ),
  );
  end(sockets);
  assertGrowth(t, grown);
});

test('from many addresses: at most what all together may leave unread', async (t) => {
  const bridge = await warmBridge(t);
  const { port } = bridge;
  const { poll } = await heavyChannel(port, ATTACKER);
  const sockets: Socket[] = [];
  const grown = await growth(bridge, () =>
    withBackgroundTraffic(
      bridge,
      async () => sockets.push(...(await openStuck(port, 400, (n) => poll(`203.0.113.${n % 40}`)))),
      BACKGROUND,
    ),
  );
  assert.ok((await gauge(port, 'inflight_bytes', BACKGROUND)) <= 48 * MiB);
  end(sockets);
  assertGrowth(t, grown, 64 * MiB);
});

test('when all is full of unread answers, who holds most is cut off for who holds little', async (t) => {
  const bridge = await warmBridge(t);
  const { port } = bridge;
  const { poll } = await heavyChannel(port, ATTACKER);
  const background = await heavyChannel(port, BACKGROUND.from);
  const sockets: Socket[] = [];
  let held = 0;
  for (let round = 0; round < 8 && held <= 46 * MiB; round++) {
    sockets.push(...(await openStuck(port, 40, (n) => poll(`203.0.113.${n % 4}`))));
    held = await gauge(port, 'inflight_bytes', BACKGROUND);
  }
  assert.ok(held > 46 * MiB, `${held / MiB} MiB`);
  for (let n = 0; n < 20; n++) {
    const { status, text } = await background.listener.poll(0);
    assert.equal(status, 200);
    assert.ok(text.length > MiB * 0.9);
  }
  end(sockets);
});

test('bodies that never end take no more than answers that are never read', async (t) => {
  const bridge = await warmBridge(t);
  const { port } = bridge;
  const { talker } = await heavyChannel(port, ATTACKER);
  const head =
    `POST ${talker.room.path}/send HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: ${ATTACKER}\r\n` +
    `Authorization: Bearer ${talker.token}\r\nContent-Type: application/json\r\n`;
  const bodies = [
    () => `${head}Content-Length: 96000\r\n\r\n{"ciphertext":"${'A'.repeat(95_900)}`,
    () => `${head}Transfer-Encoding: chunked\r\n\r\n${'1000\r\n'.concat(' '.repeat(4096), '\r\n').repeat(23)}`,
  ];
  const sockets: Socket[] = [];
  const grown = await growth(bridge, () =>
    withBackgroundTraffic(
      bridge,
      async () => {
        for (const body of bodies) sockets.push(...(await openDeaf(port, 400, body)));
      },
      BACKGROUND,
    ),
  );
  end(sockets);
  assertGrowth(t, grown, MAX_BODY_GROWTH);
});

test('bodies that no handler reads, and bodies behind an answer that is not there yet, are not stored', async (t) => {
  const bridge = await warmBridge(t, '--max-polls-per-channel', '0');
  const { port } = bridge;
  const polls: string[] = []; // that wait
  for (let n = 0; n < 3; n++) {
    const made = await room(port, { from: ATTACKER });
    const members = await Promise.all(Array.from({ length: 45 }, () => made.member()));
    for (const { id, token } of members) {
      const poll = get(`${made.path}/poll?participant_id=${id}&since=${members.length}&wait=50`, ATTACKER, token);
      polls.push(poll, poll, poll, poll);
    }
  }
  const body = 'A'.repeat(60_000);
  const attacks = [
    (n: number) => `${polls[n]?.replace('\r\n\r\n', '\r\nContent-Length: 61000\r\n\r\n')}${body}`,
    (n: number) =>
      `${polls[n]}POST /nothing HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: ${ATTACKER}\r\nContent-Length: 61000\r\n\r\n${body}`,
  ];
  for (const attack of attacks) {
    let sockets: Socket[] = [];
    const grown = await growth(bridge, async () => (sockets = await openDeaf(port, polls.length, attack)));
    end(sockets);
    assertGrowth(t, grown);
    await delay(1000);
  }
});

test('blobs that are never read share their bytes, and count in full', async (t) => {
  const bridge = await warmBridge(t, '--max-blob-bytes', '4m');
  const { port } = bridge;
  const made = await room(port, { from: ATTACKER });
  const member = await made.member();
  const put = async () => {
    const body = randomBytes(MiB);
    const id = createHash('sha256').update(body).digest('hex');
    const response = await fetch(`http://127.0.0.1:${port}${made.path}/blobs/${id}?participant_id=${member.id}`, {
      method: 'PUT',
      body,
      headers: { authorization: `Bearer ${member.token}`, 'x-forwarded-for': ATTACKER },
    });
    assert.equal(response.status, 201);
    return get(`${made.path}/blobs/${id}?participant_id=${member.id}`, ATTACKER, member.token);
  };
  for (let n = 0; n < 8; n++) await put();
  const sockets: Socket[] = [];
  const grown = await growth(bridge, () =>
    withBackgroundTraffic(
      bridge,
      async () => {
        // Each blob is soon given up for the next one, while answers still have it.
        for (let n = 0; n < 40; n++) {
          const request = await put();
          sockets.push(...(await openDeaf(port, 3, () => request.repeat(PIPELINED))));
        }
      },
      BACKGROUND,
    ),
  );
  const { text } = await call(port, 'GET', '/metrics');
  end(sockets);
  assertGrowth(t, grown, MAX_BODY_GROWTH);
  assert.ok(Number(/code="too_many_requests"\} (\d+)/.exec(text)?.[1]) > 0, 'the rest was refused');
});

test('over TLS, too: polls and pages that are never read', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'agentalk-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const authority = new Authority(folder);
  const { cert, key } = authority.issue();
  const bridge = await startBridge(['--tls-cert', cert, '--tls-key', key, '--write-timeout', '600', ...BEHIND]);
  t.after(() => bridge.stop());
  const { port } = bridge;
  const ca = readFileSync(authority.cert);
  const open = () =>
    new Promise<Socket>((resolve, reject) => {
      const socket = connectTls({ port, host: '127.0.0.1', ca }, () => resolve(socket));
      socket.once('error', reject);
    });
  /** An answer, over a connection of its own. */
  const ask = async (text: string): Promise<string> => {
    const socket = await open();
    let answer = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => (answer += chunk));
    socket.write(text.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
    await new Promise((resolve) => socket.once('close', resolve));
    return answer;
  };
  const access = createHash('sha256')
    .update(`agentalk/1 access ${randomBytes(32).toString('hex')}`)
    .digest('hex');
  const id = createHash('sha256').update(`agentalk/1 channel ${access}`).digest('hex').slice(0, 32);
  const post = (path: string, bearer: string, body: object) => {
    const text = JSON.stringify(body);
    const length = `Content-Length: ${text.length}\r\nContent-Type: application/json\r\n`;
    return ask(
      `POST /channels/${id}${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${bearer}\r\n${length}\r\n${text}`,
    );
  };
  await ask(`PUT /channels/${id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${access}\r\n\r\n`);
  const [talker, listener] = ['a', 'b'].map((digit) => ({ participant_id: digit.repeat(32), token: digit.repeat(64) }));
  for (const each of [talker, listener]) await post('/join', access, { ...each, card: sealed(300) });
  for (let n = 0; n < 12; n++)
    assert.match(
      await post('/send', 'a'.repeat(64), { participant_id: talker?.participant_id, to: '*', ...sealed(66_000) }),
      / 200 OK/,
    );
  const poll = get(`/channels/${id}/poll?participant_id=${'b'.repeat(32)}&since=0`, ATTACKER, 'b'.repeat(64));
  for (let n = 0; n < 30; n++) {
    assert.ok((await ask(poll)).length > 0.9 * MiB);
    await ask(get('/bridge.js'));
  }
  const sockets: Socket[] = [];
  const attack = async (count: number, text: string) => {
    for (let n = 0; n < count; n++) {
      const socket = await open();
      socket.pause();
      socket.on('error', () => {});
      socket.write(text);
      sockets.push(socket);
    }
    await delay(300);
  };
  const grown = await growth(bridge, async () => {
    await attack(20, poll.repeat(1000));
    await attack(40, poll);
    await attack(40, get('/bridge.js').repeat(200));
  });
  assert.equal((await ask(get('/health'))).slice(9, 12), '200');
  end(sockets);
  assertGrowth(t, grown);
});

test('pipelined requests are answered in their order, one at a time; more than a few end the connection', async (t) => {
  const bridge = await startBridge(BEHIND);
  t.after(() => bridge.stop());
  const { port } = bridge;
  const paths = ['/health', '/nothing', '/ready', '/health'];
  const connection = new RawConnection(port).write(paths.map((path) => get(path)).join(''));
  const answers = await connection.answers(4);
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 404, 200, 200],
  );
  const [first, second] = await connection.write(get('/ready') + get('/health')).answers(6);
  assert.ok(first && second);
  connection.end();
  const flooding = new RawConnection(port).write(get('/health').repeat(500));
  const { answers: few } = parse(await flooding.closed);
  assert.ok(few.length < 10, `${few.length} answers`);
  const { text } = await call(port, 'GET', '/metrics');
  assert.match(text, /^agentalk_connections_rejected_total\{reason="pipelined"\} 1$/m);
});
