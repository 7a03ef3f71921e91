/**
 * A bridge whose answers are no answers: too large, endless, slow, malformed, or with words in their fields that would
 * be code, escapes or numbers elsewhere. Each call of bob ends in time with a status of its own, in little memory, and
 * what is genuine comes once the bridge is honest again.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import { after, before, describe, test } from 'node:test';
import type { Answer } from '../kit/adversary.ts';
import { startBridge } from '../kit/bridge.ts';
import { until } from '../faults/stage.ts';
import type { TestBridge } from '../kit/bridge.ts';
import { Scene, TRICKS, lie } from './scene.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

/** Answers in the bridge's place: status and headers are fine, and the body is not. */
type Usurper = (response: ServerResponse) => void;

const HUGE_BYTES = 50 << 20;

/** Writes the same over and over until it is enough, or nobody reads any more. */
function pour(response: ServerResponse, chunk: Buffer, bytes: number): void {
  let left = bytes;
  const more = () => {
    while (left > 0 && !response.destroyed) {
      left -= chunk.length;
      if (!response.write(chunk)) return void response.once('drain', more);
    }
    response.end();
  };
  more();
}

function drip(response: ServerResponse): void {
  const timer = setInterval(() => response.write('x'), 200);
  response.on('close', () => clearInterval(timer));
}

const ok = (response: ServerResponse, headers: Record<string, string> = {}) =>
  response.writeHead(200, { 'Content-Type': 'text/plain', Connection: 'close', ...headers });
const body =
  (bytes: Buffer | string, headers?: Record<string, string>): Usurper =>
  (response) =>
    void ok(response, headers).end(bytes);

const BODIES: Readonly<Record<string, Usurper>> = {
  'of 50 MB in one line': (response) => pour(ok(response), Buffer.alloc(1 << 20, 'x'), HUGE_BYTES),
  'of 50 MB that says its length': (response) =>
    pour(ok(response, { 'Content-Length': String(HUGE_BYTES) }), Buffer.alloc(1 << 20, 'x'), HUGE_BYTES),
  'of 300,000 empty lines': body(Buffer.alloc(300_000, '\n')),
  'of 4 MB of zeros': body(Buffer.alloc(4_000_000)),
  'without an end': (response) => pour(ok(response), Buffer.from('recipient x listening 0\n'.repeat(4000)), Infinity),
  'of headers without an end': (response) => {
    const socket = response.socket;
    const more = () => {
      while (socket && !socket.destroyed && socket.write(`X-Header: ${'x'.repeat(1000)}\r\n`));
      if (socket && !socket.destroyed) socket.once('drain', more);
    };
    socket?.write('HTTP/1.1 200 OK\r\n');
    more();
  },
  'that comes byte by byte': (response) => drip(ok(response)),
  'whose status line comes byte by byte': (response) => {
    const timer = setInterval(() => response.socket?.write('H'), 200);
    response.on('close', () => clearInterval(timer));
  },
  'that is empty': body(''),
  'of random bytes': body(randomBytes(100_000)),
  'that is a web page': body('<html><script>alert(1)</script></html>\n'),
  'in JSON': body('{"epoch":"x","cursor":"$(touch ran)","events":[]}'),
  'that claims to be compressed': body(gzipSync('cursor 1 x\n'), { 'Content-Encoding': 'gzip' }),
  'that is no HTTP': (response) => void response.socket?.end('SSH-2.0-OpenSSH_9.2\r\n'),
  'that is cut in the middle of a header': (response) => void response.socket?.end('HTTP/1.1 200 OK\r\nRetry-Af'),
  'that sends it elsewhere': (response) =>
    void response.writeHead(302, { Location: 'file:///etc/passwd', Connection: 'close' }).end(),
};

describe('an answer', { concurrency: 3 }, () => {
  for (const [what, usurp] of Object.entries(BODIES)) {
    test(what, async (t) => {
      const scene = await Scene.open(t, bridge.url);
      await scene.member('ada').say('behind it');
      scene.adversary.usurp = (_, response) => (usurp(response), true);
      await scene.call('wait', '0');
      await scene.call('who');
      const guest = await scene.call('join', scene.linkOfBob, '--name', 'guest');
      assert.match(guest, /^agentalk: error: .*Nothing was opened; the same command again is safe$/m);
      const saying = scene.callWith('said into it', 'say');
      await until('a send', 30, () => scene.adversary.asked.has('bob send'));
      scene.honest();
      await saying;
      await scene.sees(/\| behind it/);
      await scene.member('ada').hears('said into it');
      await scene.truth();
      scene.check(['behind it']);
      scene.checkInbox();
      assert.deepEqual(scene.tampered(), []);
    });
  }
});

/** What can stand in a line: no newline. */
const INLINE = TRICKS.map((trick) => trick.replaceAll(/[\r\n]/g, '?'));
/** Each n-th of them, where each takes a call of its own. */
const some = (n: number) => INLINE.filter((_, i) => i % n === 0);
const isSealed = (line: string) => /^(message|join|participant) /.test(line);

/** Each line with each of its words replaced by each trick, and the whole of it; the first word stays. */
function tricky(line: string): string[] {
  const words = line.split(' ');
  const changed = words.flatMap((_, at) => (at === 0 ? [] : INLINE.map((trick) => words.with(at, trick).join(' '))));
  return [...changed, ...INLINE.map((trick) => `${words[0]} ${trick} ${trick} ${trick} ${trick} ${trick} ${trick}`)];
}

describe('tricks in the fields', { concurrency: 3 }, () => {
  test('of a poll: each word of a message, a card and a gap', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    let told = 0;
    lie(scene, ({ kind }, lines) => {
      if (kind !== 'poll' || told > 2000 || !lines.some(isSealed)) return lines;
      const [line = ''] = lines.filter((each) => each.startsWith('message '));
      const [, index = '', at = '', from = '', , nonce = '', ciphertext = '', tag = ''] = line.split(' ');
      const all = [
        ...tricky(line),
        ...tricky(`join ${index} ${at} ${from} ${nonce} ${ciphertext} ${tag}`),
        ...tricky(`leave ${index} ${at} ${scene.member('ada').peer('bob').id} left`),
        ...tricky(`gap 0 ${index}`),
      ];
      told += all.length;
      return [...all, ...lines];
    });
    await scene.truth();
    scene.honest();
    await scene.truth();
    assert.ok(told > 400, `${told} lines`);
    scene.check();
    scene.checkInbox();
  });

  test('of the last line of a poll, and of a status: wrong types, negative and enormous cursors', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    for (const trick of INLINE) {
      for (const at of [1, 2]) {
        lie(scene, ({ kind }, lines) =>
          kind === 'poll' || kind === 'status'
            ? lines.map((line) => (line.startsWith('cursor ') ? line.split(' ').with(at, trick).join(' ') : line))
            : lines,
        );
        await scene.call(at === 1 ? 'wait' : 'who', '0');
      }
    }
    scene.honest();
    await scene.call('wait', '1');
    await scene.truth();
    scene.check();
    assert.deepEqual(scene.tampered(), []);
  });

  test('of the members in a status and an answer to a send', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const { id } = scene.member('ada');
    lie(scene, ({ kind }, lines) =>
      kind === 'status' || kind === 'send'
        ? [...lines.slice(0, -2).flatMap(tricky), ...tricky(`recipient ${id} listening 0`), ...lines]
        : lines,
    );
    await scene.call('who');
    await scene.callWith('said to tricks', 'say');
    await scene.callWith('said to ada', 'dm', 'ada');
    await scene.member('ada').hears('said to ada');
    scene.honest();
    await scene.truth();
    scene.check();
  });

  test('members and recipients without end, each well-formed', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const { id } = scene.member('ada');
    const flood = (line: string) => Array.from({ length: 10_000 }, () => line);
    lie(scene, ({ kind }, lines) => [
      ...(kind === 'send' ? flood(`recipient ${id} listening 0`) : []),
      ...(kind === 'status' || kind === 'join'
        ? flood(`participant ${id} listening 0 0 ${'0'.repeat(24)} AAAA ${'0'.repeat(32)}`)
        : []),
      ...lines,
    ]);
    assert.ok((await scene.callWith('said to many', 'say')).length < 21_000);
    assert.ok((await scene.call('who')).length < 100_000);
    const before = scene.screen;
    await scene.call('join', scene.linkOfBob, '--name', 'guest');
    scene.screen = before;
    scene.honest();
    await scene.truth();
    scene.check();
  });

  test('of the last line of an answer to a send', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    for (const [i, trick] of INLINE.entries()) {
      lie(scene, ({ kind }, lines) =>
        kind === 'send' ? [...lines.slice(0, -2), `sent ${trick} ${trick}`, ''] : lines,
      );
      await scene.callWith(`said ${i}`, 'say');
    }
    scene.honest();
    await scene.member('ada').hears(`said ${INLINE.length - 1}`);
    assert.equal(new Set(scene.member('ada').texts('bob')).size, INLINE.length, 'each once');
    assert.equal(scene.member('ada').texts('bob').length, INLINE.length);
    await scene.truth();
    scene.check();
  });

  test('of the answers to create and join', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const before = scene.screen;
    let output = '';
    for (const [i, trick] of some(6).entries()) {
      const at = 1 + (i % 4);
      lie(scene, ({ kind }, lines) =>
        kind === 'create' || kind === 'join'
          ? lines.flatMap((line) => {
              const [word = ''] = line.split(' ');
              if (kind === (i % 2 === 0 ? 'create' : 'join') && /^(channel|cursor)$/.test(word))
                return [line.split(' ').with(at, trick).join(' ')];
              return word === 'participant' ? [...tricky(line).slice(0, 30), line] : [line];
            })
          : lines,
      );
      output += await scene.call('join', scene.linkOfBob, '--name', `guest${i}`);
    }
    scene.screen = before;
    for (const line of output.split('\n')) assert.match(line, /^(agentalk: [ -~…—]*|  \| .*)?$/);
    scene.honest();
    await scene.call('wait', '1');
    scene.screen = before;
    await scene.truth();
    scene.checkNothingRan();
  });

  test('of an error: its code, its message, its hint', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const refusal =
      (text: string, status = 400) =>
      ({ answer }: { answer: Answer }) => ({
        ...answer,
        status,
        body: Buffer.from(text),
      });
    for (const [i, trick] of some(3).entries()) {
      const make = refusal(
        [`error ${trick} ${trick}\nhint ${trick}\n`, `error too_fast ${trick}\nhint ${trick}\n`, `${trick}\n`][i % 3] ??
          '',
        [400, 429, 503, 500, 401][i % 5],
      );
      scene.adversary.alter = (_, answer) => make({ answer });
      await scene.call('wait', '0');
      if (i % 4 === 0) await scene.call('who');
    }
    scene.honest();
    await scene.truth();
    scene.check();
    assert.deepEqual(scene.tampered(), []);
  });

  test('of headers: Retry-After and others', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const values = some(2)
      .map((trick) => trick.replace(/[^\t -~]/g, '?'))
      .concat('08', '009', '1, 2', '1 x', '9999');
    for (const [i, value] of values.entries()) {
      scene.adversary.alter = ({ kind, n }, answer) =>
        kind === 'send' && n % 2 === 1
          ? {
              status: i % 2 === 0 ? 429 : 503,
              headers: [
                'Retry-After',
                value,
                'X-Retry-After',
                '08',
                'Retry-After',
                i % 3 === 0 ? '08' : '0',
                value.replace(/\W/g, '') || 'X',
                value,
              ],
              body: Buffer.from('error too_fast slow\nhint down\n'),
            }
          : answer;
      const output = await scene.callWith(`said ${i}`, 'say');
      assert.match(output, /^agentalk: (sent|not sent yet)/, value);
      if (i % 10 === 9) await scene.call('wait', '0');
    }
    scene.honest();
    await scene.call('wait', '1');
    await scene.member('ada').hears(`said ${values.length - 1}`);
    assert.equal(scene.member('ada').texts('bob').length, values.length, 'each once');
    await scene.truth();
    scene.check();
  });
});
