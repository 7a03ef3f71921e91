/** The shell client and examples/client.ts, which share nothing but docs/protocol.md, understand each other. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ExampleSession } from '../lib/example-session.ts';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Agent } from '../lib/shell.ts';

let bridge: TestBridge;
before(async () => {
  bridge = await startBridge();
});
after(() => bridge.stop());

/** The shell client's channel, which the example client joins. */
async function startPair() {
  const bob = new Agent({ name: 'bob' });
  await bob.create(bridge.url);
  const ada = await ExampleSession.join(bob.link, { name: 'ada' });
  const heard = await bob.waitForOutput(/PAIRED with ada/);
  await ada.paired('bob');
  return { ada, bob, heard };
}

const file = Buffer.alloc(1_500_000, 'two pieces ');

test('talk, in both directions, to all and to one', async () => {
  const { ada, bob } = await startPair();
  await ada.say('two\nlines');
  await ada.dm('bob', 'only you');
  assert.match(await bob.waitForOutput(/only you/), /from ada to all[^]*\| two\n *\| lines\n[^]*from ada to you alone/);
  await bob.call('say', 'hello');
  await bob.call('dm', 'ada', 'private');
  await ada.waitForOutput('private');
  assert.deepEqual(
    ada.entriesOf('message').map(({ text, isDirect, marks }) => [text, isDirect, marks.unreadOwn]),
    [
      ['hello', false, 0],
      ['private', true, 0],
    ],
  );
});

test('join in the other direction, too, and leave', async () => {
  const ada = await ExampleSession.create(bridge.url, { name: 'ada' });
  const bob = new Agent({ name: 'bob' });
  await bob.join(ada.link);
  await ada.paired('bob');
  await bob.waitForOutput(/PAIRED with ada/);
  await bob.call('say', 'last words');
  await bob.call('leave');
  await ada.until(() => ada.entriesOf('left').length > 0);
  assert.deepEqual(ada.texts(), ['last words']);
  await ada.poll();
  assert.deepEqual(ada.types(), ['joined', 'paired', 'message', 'left']);
});

test('send each other files', async () => {
  const { ada, bob } = await startPair();
  await ada.sendFile('notes ü.bin', file);
  await bob.waitForOutput(/FILE #1 from ada/);
  assert.deepEqual(
    bob.inbox().map(({ name, bytes }) => [name, bytes.equals(file)]),
    [['1-ada-notes ü.bin', true]],
  );
  const path = join(bob.home, 'x y.bin');
  writeFileSync(path, file);
  await bob.call('send_file', path);
  const complete = await ada.until(() => ada.entriesOf('file-complete')[0]);
  assert.equal(complete.file, 'x y.bin');
  assert.ok(complete.bytes.equals(file));
});

test('repeat to each other what a bridge lost that was started again', async () => {
  let own = await startBridge();
  try {
    const bob = new Agent({ name: 'bob' });
    await bob.create(own.url);
    const ada = await ExampleSession.join(bob.link, { name: 'ada' });
    await bob.waitForOutput(/PAIRED with ada/);
    await ada.paired('bob');
    await ada.say('from ada');
    await bob.call('say', 'from bob');
    await own.stop();
    own = await startBridge(['--port', String(own.port)]);
    const [heard] = await Promise.all([bob.waitForOutput(/from ada/), ada.waitForOutput('from bob')]);
    assert.match(heard, /\| from ada/);
    assert.deepEqual(ada.texts(), ['from bob']);
    assert.equal(bob.inbox().length, 1);
  } finally {
    await own.stop();
  }
});
