/** What stands in the log of a hostile session: a line for each request, and nothing that one of them brought. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BRIDGE, startBridge } from '../../lib/bridge.ts';
import { TestChannel, call, hex, room, sealed, until } from './background-clients.ts';
import { RawConnection, ask, raw } from './raw-http.ts';

const TIME = String.raw`"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`;
const ROUTE = String.raw`(-|/|/[a-z./-]+|/(channels|c)/:id(/[a-z]+)?)`;
const START = `^{${TIME},"level":"info","message":"request"`;
const LINE = new RegExp(
  `${START},"method":"[A-Z-]+","route":"${ROUTE}","status":(\\d{3}|"closed"),"ms":\\d+,"bytes":\\d+(,"address":"[0-9a-f.:]+")?}$`,
);
const GARBAGE = new RegExp(`${START},"method":"-","route":"-","status":4\\d\\d}$`);
const END = new RegExp(`^{${TIME},"level":"info","message":"stopping","signal":"SIGTERM"}$`);
const ADDRESS = '203.0.113.77';

/** Everything in it that is secret or a stranger's word has EVIL in it or is in the list that it gives. */
async function hostileSession(port: number): Promise<string[]> {
  const from = { from: ADDRESS };
  const made = await room(port, from);
  const [a, b] = [await made.member(), await made.member()];
  const message = sealed();
  await a.send({ to: b.id, ...message });
  await b.poll(0);
  await b.send({ to: 'EVIL', ...sealed(), participant_id: a.id });
  const nowhere = new TestChannel(port, from);
  await call(port, 'POST', `${nowhere.path}/send`, {
    ...from,
    bearer: a.token,
    body: { participant_id: a.id, EVIL: 1 },
  });
  const [fake, name] = [hex(32), 'EVIL-name'];
  for (const path of [
    `/c/${made.id}?${fake}`,
    `/${fake}`,
    `/docs/${name}`,
    `/channels/${made.id}/EVIL`,
    `/?EVIL=${fake}`,
    '/..%2fEVIL',
  ])
    for (const method of ['GET', 'POST', 'DELETE', 'PROPFIND'])
      await call(port, method, path, {
        ...from,
        bearer: fake,
        headers: { 'user-agent': 'EVIL', referer: `https://EVIL/#k=${fake}`, cookie: 'EVIL' },
      });
  await call(port, 'GET', '/', { ...from, headers: { host: 'EVIL.example' } });
  await call(port, 'GET', '/', { from: `EVIL, ${ADDRESS}` });
  await call(port, 'GET', '/', { from: `${ADDRESS}, 127.0.0.1\tEVIL` });
  for (const text of [
    'EVIL\r\n\r\n',
    'EVIL / HTTP/1.1\r\nHost: x\r\n\r\n',
    `GET / HTTP/1.1\r\nEVIL : x\r\n\r\n`,
    `GET /${'EVIL'.repeat(3000)} HTTP/1.1\r\n\r\n`,
  ])
    await raw(port, text);
  for (const body of ['EVIL', '{"EVIL":', `{"participant_id":"EVIL${fake}"}`, '["EVIL"]'])
    await ask(
      port,
      'POST',
      `${made.path}/send`,
      ['Content-Type: application/json', `Authorization: Bearer ${fake}`, `Content-Length: ${body.length}`],
      body,
    );
  await ask(port, 'POST', `${made.path}/join`, ['Content-Type: text/EVIL', 'Content-Length: 4'], 'EVIL');
  const gone = new RawConnection(port).write(
    `GET ${made.path}/poll?participant_id=${b.id}&since=3&wait=40&EVIL HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${b.token}\r\n\r\n`,
  );
  await until(port, 'polls_pending', (value) => value === 1);
  gone.end();
  await until(port, 'polls_pending', (value) => value === 0);
  const { id, access } = made;
  const ofMembers = [a, b].flatMap((each) => [
    each.id,
    each.token,
    each.card.nonce,
    each.card.ciphertext,
    each.card.tag,
  ]);
  return [id, access, nowhere.id, nowhere.access, fake, message.nonce, message.ciphertext, message.tag, ...ofMembers];
}

test('the log of a hostile session has a line for each request, and no id, secret, word or address of it', async (t) => {
  for (const isWithAddresses of [false, true]) {
    const flags = ['--trusted-proxies', 'loopback', '--log-requests', ...(isWithAddresses ? ['--log-addresses'] : [])];
    const bridge = await startBridge(flags);
    t.after(() => bridge.stop());
    const secrets = await hostileSession(bridge.port);
    bridge.kill('SIGTERM');
    await bridge.ended;
    const [first, ...lines] = bridge.logs().trimEnd().split('\n');
    assert.equal(first, `listening on ${bridge.url}`);
    assert.ok(lines.length > 45, `${lines.length} lines`);
    assert.match(lines.pop() ?? '', END);
    for (const line of lines) assert.ok(LINE.test(line) || GARBAGE.test(line), line);
    for (const secret of [...secrets, 'EVIL', 'evil', '127.0.0.1:'])
      assert.ok(!lines.join('\n').includes(secret), secret);
    const text = lines.join('\n');
    assert.equal(text.includes(ADDRESS), isWithAddresses);
    assert.equal(text.includes('127.0.0.1'), isWithAddresses);
    for (const [method, route, status] of [
      ['PUT', '/channels/:id', 201],
      ['POST', '/channels/:id/send', 200],
      ['POST', '/channels/:id/send', 404],
      ['GET', '/channels/:id/poll', 'closed'],
      ['GET', '/c/:id', 200],
      ['PROPFIND', '-', 404],
      ['DELETE', '/', 405],
      ['-', '-', 400],
      ['-', '-', 431],
    ])
      assert.ok(
        text.includes(`"method":"${method}","route":"${route}","status":${JSON.stringify(status)}`),
        `${method} ${route} ${status}`,
      );
  }
});

test('without being told to, it writes nothing of all that', async (t) => {
  const bridge = await startBridge(['--trusted-proxies', 'loopback', '--log-addresses']);
  t.after(() => bridge.stop());
  await hostileSession(bridge.port);
  assert.equal(bridge.logs(), `listening on ${bridge.url}\n`);
  await bridge.stop();
});

test('an unexpected error is told by its place and a number, not by its message', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'agentalk-log-'));
  const file = join(folder, 'bridge.js');
  const source = readFileSync(BRIDGE, 'utf8');
  const thrown = '((error) => { throw error; })(new TypeError(context.request.url))';
  const broken = source.replace(/context\.respond\(200, ["']ready\\n["'], TEXT\)/, thrown);
  assert.notEqual(broken, source);
  writeFileSync(file, broken);
  const bridge = await startBridge(['--log-requests'], { file });
  t.after(() => bridge.stop());
  const { status, headers, text } = await call(bridge.port, 'GET', '/ready?EVIL=1');
  assert.equal(status, 500);
  const number = String(headers['x-request-id']);
  assert.match(number, /^[0-9a-f]{16}$/);
  assert.match(text, /^\{"error":\{"code":"internal",/);
  assert.equal((await call(bridge.port, 'GET', '/health')).status, 200, 'and it lives');
  bridge.kill('SIGTERM');
  await bridge.ended;
  assert.match(bridge.logs(), new RegExp(`"unexpected error ${number}: TypeError\\\\n +at .*bridge\\.js:\\d+`));
  assert.doesNotMatch(bridge.logs() + text, /EVIL/);
  rmSync(folder, { recursive: true });
});
