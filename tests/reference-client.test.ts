/** The reference client against the built bridge: it has to be right before others are measured by it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import * as protocol from '../sdk/protocol.ts';
import { startBridge } from './kit/bridge.ts';
import type { TestBridge } from './kit/bridge.ts';
import { BridgeError, ReferenceClient } from './kit/client.ts';
import type { Options } from './kit/client.ts';

type Answer = { events: { type: string; from: string; to: string; index: number }[]; cursor: number };

/** A bridge that can't be trusted: it does something to what polls answer. */
const through = (change: (answer: Answer) => void): Options => ({
  async fetch(input, init) {
    const response = await fetch(input, init);
    if (!String(input).includes('/poll?')) return response;
    const answer = (await response.json()) as Answer;
    if (answer.events) change(answer);
    return Response.json(answer, { status: response.status });
  },
});
const messagesOf = ({ events }: Answer) => events.filter(({ type }) => type === 'message');
const refusals = ({ log }: ReferenceClient) =>
  log.flatMap((entry) => (entry.type === 'refused' ? [`${entry.from} ${entry.reason}`] : []));

describe('the reference client', () => {
  let bridge: TestBridge;
  before(async () => void (bridge = await startBridge()));
  after(() => bridge.stop());

  async function pair(optionsOfBob: Options = {}) {
    const alice = await ReferenceClient.create(bridge.url, 'alice');
    const bob = await ReferenceClient.join(alice.joinUrl, 'bob', optionsOfBob);
    await Promise.all([alice.paired('bob'), bob.paired('alice')]);
    return { alice, bob };
  }

  test('pairs, and what is said arrives byte for byte in its order', async () => {
    const { alice, bob } = await pair();
    const words = ['', 'a', ' \n', '"$(id)" `id` \\n %s {}', '👋 会話', 'kind: bye\n\n', 'agentalk: PAIRED'];
    for (const text of words) await alice.say(text);
    await alice.dm('bob', 'only you');
    await bob.hears('only you');
    assert.deepEqual(bob.texts('alice'), [...words, 'only you']);
    await bob.say(Uint8Array.of(0, 255, 0));
    const heard = await alice.until(({ log }) =>
      log.find((entry) => entry.type === 'message' && entry.message.kind === 'text'),
    );
    assert.ok(heard.type === 'message');
    assert.deepEqual([...heard.message.body], [0, 255, 0]);
    assert.deepEqual(refusals(alice).concat(refusals(bob)), []);
  });

  test('listens in the background, and senders see that', async () => {
    const { alice, bob } = await pair();
    bob.start();
    const isListening = async () => (await alice.say('are you there?')).every(({ listening }) => listening);
    while (!(await isListening())) await bob.hears('are you there?');
    await bob.stop();
  });

  test('a direct message reaches one of three, and the third can’t open it', async () => {
    const { alice, bob } = await pair();
    const carol = await ReferenceClient.join(alice.joinUrl, 'carol');
    await Promise.all([alice.paired('carol'), carol.paired('alice'), bob.paired('carol'), carol.paired('bob')]);
    await alice.dm('bob', 'a secret');
    await alice.say('for all');
    await Promise.all([bob.hears('a secret'), bob.hears('for all'), carol.hears('for all')]);
    assert.deepEqual(carol.texts(), ['for all']);
    const caught = alice.outbox.findLast(({ to }) => to === bob.id)?.sealed;
    assert.ok(caught);
    const aad = carol.aad(bob.id, 'message', alice.id);
    for (const key of [carol.room, carol.peer('alice').direct, carol.peer('bob').direct]) {
      assert.deepEqual(await protocol.open(key, aad, caught), { ok: false, reason: 'bad-tag' });
    }
  });

  test('a newcomer hears what was said before, and asks for nothing', async () => {
    const { alice, bob } = await pair();
    await alice.say('one');
    await alice.say('two');
    const carol = await ReferenceClient.join(alice.joinUrl, 'carol');
    await carol.hears('two');
    await Promise.all([alice.paired('carol'), carol.paired('alice'), bob.paired('carol')]);
    assert.deepEqual(carol.texts(), ['one', 'two']);
    assert.ok(
      ![alice, bob].some(({ log }) => log.some((entry) => entry.type === 'message' && entry.message.kind === 'seen')),
    );
  });

  test('a name is taken once', async () => {
    const { alice } = await pair();
    await assert.rejects(
      ReferenceClient.join(alice.joinUrl, 'bob'),
      (error) => error instanceof BridgeError && error.code === 'name_taken' && error.status === 409,
    );
  });

  test('leaving is seen, and a link whose channel ended opens it again', async () => {
    const { alice, bob } = await pair();
    await bob.leave();
    await alice.until(({ log }) => log.find((entry) => entry.type === 'left' && entry.from === 'bob'));
    await alice.leave();
    const dave = await ReferenceClient.join(alice.joinUrl, 'dave');
    assert.deepEqual(dave.peers, []);
  });

  test('what misbehaving members send is refused, each for its reason', async () => {
    const { alice, bob } = await pair();
    const everybody = protocol.EVERYBODY;
    const text = (changes = {}) => alice.numbered(everybody, 'text', changes);
    await alice.sendFrame(everybody, protocol.makeFrame(text()));
    await alice.sendFrame(everybody, await bob.frame(everybody, text()));
    await alice.sendFrame(everybody, new TextEncoder().encode('no frame'));
    await alice.sendFrame(everybody, await alice.frame(everybody, text({ seq: '01' })));
    await alice.sendFrame(bob.id, protocol.makeFrame({ ...text(), kind: 'text' }));
    const said = alice.numbered(everybody, 'text', { seq: '2' });
    await alice.sendFrame(everybody, await alice.frame(everybody, said, new TextEncoder().encode('said')));
    await alice.sendFrame(everybody, await alice.frame(everybody, said, new TextEncoder().encode('said')));
    await alice.sendFrame(everybody, await alice.frame(everybody, said, new TextEncoder().encode('not said')));
    await bob.until(() => refusals(bob).length >= 6);
    assert.deepEqual(
      refusals(bob),
      [...['unsigned', 'bad-signature', 'no-empty-line', 'bad-decimal', 'missing-header', 'two-with-one-number']].map(
        (reason) => `alice ${reason}`,
      ),
    );
  });

  test('a bridge that changes, moves or forges is caught', async () => {
    let spoil: (answer: Answer) => void = () => {};
    const { alice, bob } = await pair(through((answer) => spoil(answer)));
    const mallory = await ReferenceClient.join(alice.joinUrl, 'mallory');
    await Promise.all([bob.paired('mallory'), mallory.paired('bob')]);
    const spoilt = async (say: () => Promise<unknown>, change: (answer: Answer) => void, reason: string) => {
      spoil = change;
      const before = refusals(bob).length;
      await say();
      await bob.until(() => refusals(bob).length > before);
      assert.equal(refusals(bob).at(-1), reason);
      spoil = () => {};
    };
    const say = () => alice.say('x');
    const each = (change: object) => (answer: Answer) => {
      for (const event of messagesOf(answer)) Object.assign(event, change);
    };
    await spoilt(say, each({ tag: '0'.repeat(32) }), 'alice bad-tag');
    await spoilt(say, each({ nonce: 'x' }), 'alice bad-nonce');
    await spoilt(say, each({ from: mallory.id }), 'mallory bad-tag');
    await spoilt(say, each({ from: '0'.repeat(32) }), `${'0'.repeat(32)} unknown-sender`);
    await spoilt(say, each({ to: bob.id }), 'alice bad-tag');
    await spoilt(() => alice.dm('bob', 'x'), each({ to: '*' }), 'alice bad-tag');
    // A member that works with the bridge has the room key, but not the keys of alice.
    const asAlice = async () => {
      const aad = mallory.aad(protocol.EVERYBODY, 'message', alice.id);
      const headers = { ...mallory.numbered(protocol.EVERYBODY, 'text'), stream: alice.stream };
      const frame = await protocol.signFrame(mallory.keys.ecdsa, aad, headers);
      await mallory.post(protocol.EVERYBODY, await protocol.seal(mallory.room, aad, frame));
    };
    await spoilt(asAlice, each({ from: alice.id }), 'alice bad-signature');
    assert.deepEqual(bob.texts(), []);
  });

  test('a bridge that repeats and reorders changes nothing', async () => {
    let kept: Answer['events'] = [];
    let isHolding = false;
    const relay = through((answer) => {
      const others = answer.events.filter(({ type }) => type !== 'message');
      kept.push(...messagesOf(answer));
      answer.events = isHolding ? others : [...others, ...kept.toReversed(), ...kept];
      if (!isHolding) kept = [];
    });
    const { alice, bob } = await pair(relay);
    isHolding = true;
    for (const text of ['one', 'two', 'three']) await alice.say(text);
    await alice.dm('bob', 'four');
    await alice.say('five');
    await bob.until(() => kept.length === 5);
    isHolding = false;
    await alice.say('six');
    await bob.hears('four');
    assert.deepEqual(
      bob.texts().filter((text) => text !== 'four'),
      ['one', 'two', 'three', 'five', 'six'],
    );
    // A direct message says which broadcasts came before it; a broadcast does not say that of direct messages.
    assert.ok(bob.texts().indexOf('four') > bob.texts().indexOf('three'));
    assert.equal(bob.texts().length, 6);
    assert.deepEqual(refusals(bob), []);
  });

  test('nothing is lost and nothing comes twice when the bridge dies and comes back', async () => {
    let mortal = await startBridge();
    const port = String(mortal.port);
    const alice = await ReferenceClient.create(mortal.url, 'alice');
    const bob = await ReferenceClient.join(alice.joinUrl, 'bob');
    await Promise.all([alice.paired('bob'), bob.paired('alice')]);
    await alice.say('one');
    await bob.hears('one');
    await alice.say('two, that bob does not fetch');
    await alice.dm('bob', 'three, neither');
    const restart = async () => {
      await mortal.stop();
      mortal = await startBridge(['--port', port]);
    };
    try {
      await restart();
      alice.start();
      bob.start();
      // Nothing new is said: they ask each other because they meet again.
      await bob.hears('three');
      await Promise.all([alice.stop(), bob.stop()]);
      await restart();
      await alice.say('four');
      await bob.hears('four');
      const all = ['one', 'two, that bob does not fetch', 'three, neither', 'four'];
      assert.deepEqual(bob.texts(), all);
      // Whoever comes only now starts with what the bridge still has, and takes the rest for nothing that it lacks.
      const carol = await ReferenceClient.join(alice.joinUrl, 'carol');
      await Promise.all([carol.hears('four'), carol.paired('alice'), alice.paired('carol')]);
      assert.ok(!carol.texts().includes('one'));
      await bob.say('five');
      await Promise.all([alice.hears('five'), carol.hears('five')]);
      assert.deepEqual(bob.texts(), all);
      assert.deepEqual([alice, bob, carol].flatMap(refusals), []);
    } finally {
      await Promise.all([alice.stop(), bob.stop()]);
      await mortal.stop();
    }
  });
});
