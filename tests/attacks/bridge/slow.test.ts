/** Clients that take their time: with headers, bodies, reading, closing. None of them keeps anything for long. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBridge } from '../../lib/bridge.ts';
import type { TestBridge } from '../../lib/bridge.ts';
import { withBackgroundTraffic, call, gauge, room, sealed, until } from './background-clients.ts';
import { RawConnection, check, parse } from './raw-http.ts';

let bridge: TestBridge;
let port: number;
before(async () => {
  const times = [
    '--headers-timeout',
    '1',
    '--request-timeout',
    '2',
    '--keep-alive-timeout',
    '2',
    '--write-timeout',
    '1',
  ];
  bridge = await startBridge([...times, '--max-poll-seconds', '3']);
  ({ port } = bridge);
});
after(() => bridge.stop());

/** Writes a byte every now and then, until it is over. */
function writeSlowly(connection: RawConnection, byte: string): RawConnection {
  const timer = setInterval(() => connection.socket.destroyed || connection.write(byte), 100);
  void connection.closed.then(() => clearInterval(timer));
  return connection;
}

/** The answers that came before the bridge closed the connection, and after how long. */
async function end(connection: RawConnection, mostSeconds: number) {
  const begun = performance.now();
  const timer = setTimeout(() => connection.socket.destroy(), mostSeconds * 1000);
  const { answers } = parse(await connection.closed);
  clearTimeout(timer);
  const seconds = (performance.now() - begun) / 1000;
  assert.ok(seconds < mostSeconds, `closed after ${mostSeconds} s`);
  return answers.map((answer) => check(answer).status);
}

const POST =
  'POST /channels/00000000000000000000000000000000/send HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';

test('slow headers and slow bodies: 408, and the end; also for those that send a byte now and then', async () => {
  const slow: Record<string, RawConnection> = {
    'no byte at all': new RawConnection(port),
    'half a request line': new RawConnection(port).write('GET /hea'),
    'half the headers': new RawConnection(port).write(POST),
    'headers without end': writeSlowly(new RawConnection(port).write(`${POST}X-A: `), 'a'),
    'half a body': new RawConnection(port).write(`${POST}Content-Length: 100\r\n\r\n{`),
    'a body without end': writeSlowly(new RawConnection(port).write(`${POST}Content-Length: 90000\r\n\r\n`), ' '),
    'chunks without end': writeSlowly(
      new RawConnection(port).write(`${POST}Transfer-Encoding: chunked\r\n\r\n`),
      '1\r\n \r\n',
    ),
    'half a chunk': new RawConnection(port).write(`${POST}Transfer-Encoding: chunked\r\n\r\nff\r\n{`),
    'a second request': new RawConnection(port).write('GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /hea'),
  };
  await withBackgroundTraffic(bridge, async () => {
    for (const [name, connection] of Object.entries(slow))
      assert.deepEqual(await end(connection, 8), name === 'a second request' ? [200, 408] : [408], name);
  });
});

test('hundreds of slow clients next to a well-behaved one', async () => {
  await withBackgroundTraffic(bridge, async () => {
    const slow = Array.from({ length: 600 }, (_, i) =>
      new RawConnection(port).write(`${POST}${'X: y\r\n'.repeat(i % 100)}`),
    );
    for (const each of slow) assert.deepEqual(await end(each, 8), [408]);
  });
  await until(port, 'connections', (value) => value < 10);
});

test('idle connections are closed in silence', async () => {
  const connection = new RawConnection(port).write('GET /health HTTP/1.1\r\nHost: x\r\n\r\n');
  assert.deepEqual(await end(connection, 8), [200]);
  const upgraded = new RawConnection(port).write(
    'GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
  );
  assert.deepEqual(await end(upgraded, 8), [200]);
});

test('a poll takes no longer than it may, however long it asks for', async () => {
  const member = await (await room(port)).member();
  const begun = performance.now();
  const { status, json } = await member.poll(1, 99_999);
  assert.deepEqual([status, json['events']], [200, []]);
  assert.ok(performance.now() - begun < 6000);
});

test('half-open connections: who has said all gets the answer and the end, who is gone costs nothing', async () => {
  const member = await (await room(port)).member();
  const head = `Host: x\r\nAuthorization: Bearer ${member.token}\r\n\r\n`;
  const poll = `GET ${member.room.path}/poll?participant_id=${member.id}&since=1&wait=3 HTTP/1.1\r\n${head}`;
  const early = new RawConnection(port).write(poll);
  early.socket.end(); // no more is said: node takes that for good-bye
  assert.deepEqual(await end(early, 8), []);
  for (const text of ['', 'GET / HT', `${POST}Content-Length: 10\r\n\r\n{`, 'GARBAGE\r\n\r\n']) {
    const connection = new RawConnection(port).write(text);
    connection.socket.end();
    assert.ok(
      (await end(connection, 8)).every((status) => status === 400),
      text,
    );
  }
  // Those that are told good-bye and stay.
  const staying = [
    'GARBAGE\r\n\r\n',
    `GET /${'x'.repeat(9000)} HTTP/1.1\r\n\r\n`,
    'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n',
  ];
  const connections = staying.map((text) => {
    const connection = new RawConnection(port, '127.0.0.1', false).write(text);
    connection.socket.resume();
    return connection;
  });
  const reset = Array.from({ length: 100 }, () => new RawConnection(port).write(poll));
  await until(port, 'polls_pending', (value) => value === 4); // the others got too_many_polls
  for (const { socket } of reset) socket.resetAndDestroy();
  await until(port, 'polls_pending', (value) => value === 0);
  await until(port, 'connections', (value) => value < 4);
  for (const connection of connections) connection.end();
});

test('slow readers are cut off, and what is kept for them is little', async () => {
  const made = await room(port);
  const [talker, listener] = [await made.member(), await made.member()];
  for (let i = 0; i < 12; i++) assert.equal((await talker.send({ to: '*', ...sealed(66_000) })).status, 200);
  const head = `Host: x\r\nAuthorization: Bearer ${listener.token}\r\n\r\n`;
  const poll = `GET ${made.path}/poll?participant_id=${listener.id}&since=0 HTTP/1.1\r\n${head}`;
  await withBackgroundTraffic(bridge, async () => {
    const polls = async () =>
      Number(/route="\/channels\/:id\/poll"\} (\d+)/.exec((await call(port, 'GET', '/metrics')).text)?.[1]);
    const [others, before] = [await gauge(port, 'connections'), await polls()];
    const readers = Array.from({ length: 40 }, () => new RawConnection(port, '127.0.0.1', false));
    for (const each of readers) each.socket.pause();
    for (const each of readers) each.write(poll.repeat(8)); // more would end the connection by themselves
    while ((await polls()) < before + 40);
    await until(port, 'connections', (value) => value <= others + 2);
    for (const each of readers) each.end();
  });
  assert.equal((await listener.poll(0)).status, 200);
});
