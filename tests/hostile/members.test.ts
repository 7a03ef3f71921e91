/**
 * Members that hold the key and misuse it, alone or together with the bridge: nobody speaks as somebody else, and what
 * is not as it should be is refused or announced.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as protocol from '../../sdk/protocol.ts';
import { derToRaw, encode, fromBase64, rawToDer, toBase64 } from '../../sdk/bytes.ts';
import type { Bytes } from '../../sdk/bytes.ts';
import { startBridge } from '../kit/bridge.ts';
import type { TestBridge } from '../kit/bridge.ts';
import type { ReferenceClient } from '../kit/client.ts';
import { Scene, TRICKS, lie } from './scene.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const { EVERYBODY } = protocol;
type Headers = Readonly<Record<string, string>>;

/** The headers of the next message of a member, without taking its number: believed, it would be shown at once. */
const next = (who: ReferenceClient, to: string, kind: string, more: Headers = {}): Headers => {
  const numbers = who.outbox.filter((sent) => sent.to === to).map(({ seq }) => seq);
  const broadcasts = who.outbox.filter((sent) => sent.to === EVERYBODY).map(({ seq }) => seq);
  return {
    kind,
    stream: who.stream,
    seq: String(Math.max(0, ...numbers) + 1),
    time: String(Date.now()),
    ...(to === EVERYBODY ? {} : { after: String(Math.max(0, ...broadcasts)) }),
    ...more,
  };
};

/** A bridge that gives out what mallory posts as if somebody else had: mallory.post, and from whom it then comes. */
class Conspiracy {
  readonly #from = new Map<string, string>();
  readonly #mallory: ReferenceClient;

  constructor(scene: Scene) {
    this.#mallory = scene.member('mallory');
    lie(scene, ({ kind }, lines) =>
      kind !== 'poll'
        ? lines
        : lines.map((line) => {
            const [word, index, at, , to, nonce = '', ...rest] = line.split(' ');
            const other = this.#from.get(nonce);
            return word === 'message' && other ? [word, index, at, other, to, nonce, ...rest].join(' ') : line;
          }),
    );
  }

  /** Seals a frame as if from somebody else, for everybody or with the direct key of mallory and its recipient. */
  async send(as: ReferenceClient, to: string, frame: Bytes, key = this.#mallory.keyFor(to)): Promise<void> {
    const sealed = await protocol.seal(key, this.#mallory.aad(to, 'message', as.id), frame);
    this.#from.set(sealed.nonce, as.id);
    await this.#mallory.post(to, sealed);
  }
}

/** The other of the two signatures that prove the same: s is replaced by n − s. */
function twin(signature: string): string {
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
  const raw = derToRaw(fromBase64(signature) ?? new Uint8Array()) ?? assert.fail('a signature');
  const s = BigInt(`0x${Buffer.from(raw.subarray(32)).toString('hex')}`);
  const other = (order - s).toString(16).padStart(64, '0');
  return toBase64(rawToDer(Uint8Array.from([...raw.subarray(0, 32), ...Buffer.from(other, 'hex')])));
}

const isWord = (text: string) => /^[!-~]+$/.test(text);
const idOfBob = (scene: Scene) => scene.member('ada').peer('bob').id;

/** Sends a text that bob is to be shown, so that all that came before it has been dealt with. */
async function settle(scene: Scene): Promise<void> {
  await scene.truth();
  scene.check();
}

describe('hostile members', { concurrency: 2 }, () => {
  test('a broadcast in the name of another', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'mallory']);
    const [ada, mallory] = [scene.member('ada'), scene.member('mallory')];
    const conspiracy = new Conspiracy(scene);
    const aad = mallory.aad(EVERYBODY, 'message', ada.id);
    const signed = (headers: Headers, body: string) =>
      protocol.signFrame(mallory.keys.ecdsa, aad, headers, encode(body));
    await ada.say('said by ada');
    const said = await protocol.open(ada.room, ada.aad(EVERYBODY), ada.outbox.at(-1)?.sealed ?? assert.fail());
    assert.ok(said.ok);
    const frame = protocol.parseFrame(said.value);
    assert.ok(frame.ok && frame.value.signature !== undefined);
    const text = next(ada, EVERYBODY, 'text');
    await conspiracy.send(ada, EVERYBODY, await signed(text, 'with the signature of mallory'));
    await conspiracy.send(ada, EVERYBODY, protocol.makeFrame(text, encode('with none')));
    // A signature that ada made, under other words; and the words of mallory that start as those of ada do.
    const { signature } = frame.value;
    await conspiracy.send(ada, EVERYBODY, protocol.makeFrame({ ...text, signature }, encode('with an old one')));
    await conspiracy.send(ada, EVERYBODY, Buffer.concat([said.value, encode(' and more')]) as Bytes);
    for (const nonsense of ['x', 'MAYCAQACAQA=', 'A'.repeat(96), toBase64(Uint8Array.of(0x30, 0x80, 2, 1, 1, 2, 1, 1))])
      await conspiracy.send(ada, EVERYBODY, protocol.makeFrame({ ...text, signature: nonsense }, encode('nonsense')));
    // Signed by mallory in his own name, given out as ada's; and ada's very frame in the name of mallory.
    await conspiracy.send(ada, EVERYBODY, await mallory.frame(EVERYBODY, text, encode('for another name')));
    await mallory.sendFrame(EVERYBODY, said.value);
    await conspiracy.send(
      ada,
      EVERYBODY,
      await signed(next(ada, EVERYBODY, 'hello', { challenge: '0'.repeat(32) }), ''),
    );
    await conspiracy.send(ada, EVERYBODY, await signed(next(ada, EVERYBODY, 'bye'), ''));
    await scene.sees(/TAMPERED bad-signature: something under the name of mallory/);
    await scene.truth();
    scene.check(['said by ada']);
    assert.deepEqual(scene.tampered().sort(), ['bad-signature ada', 'bad-signature mallory', 'unsigned ada']);
    assert.doesNotMatch(scene.screen, /LEFT/);
  });

  test('a direct message in the name of another', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'mallory']);
    const [ada, mallory, bob] = [scene.member('ada'), scene.member('mallory'), idOfBob(scene)];
    const conspiracy = new Conspiracy(scene);
    for (const kind of ['text', 'welcome', 'ready', 'seen', 'void'])
      for (const key of [mallory.keyFor(bob), mallory.room, mallory.keyFor(ada.id)])
        await conspiracy.send(ada, bob, protocol.makeFrame(next(ada, bob, kind), encode('as ada')), key);
    await settle(scene);
    assert.deepEqual(scene.tampered(), ['bad-tag ada']);
  });

  test('pairing is not to be had by a guess or a repeat', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada']);
    const eve = await scene.enter(bridge.url, 'eve');
    await scene.sees(/JOINED eve/);
    // eve's own ready goes the honest way, so that bob pairs with her once; nothing that follows pairs again.
    await scene.sees(/PAIRED with eve/);
    const bob = idOfBob(scene);
    for (const kind of ['welcome', 'ready'])
      for (const answer of ['0'.repeat(32), randomBytes(16).toString('hex')])
        await eve.sendFrame(bob, protocol.makeFrame(eve.numbered(bob, kind, { answer, challenge: answer })));
    await settle(scene);
    assert.equal(scene.screen.match(/PAIRED with eve/g)?.length, 1);
    assert.equal(scene.screen.match(/PAIRED with ada/g)?.length, 1);
    assert.deepEqual(scene.tampered(), []);
  });

  test('one who does not answer its challenge is never PAIRED', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada']);
    // Mallory has the key, but sends another's answers: those of a hello that he overheard.
    const mallory = await scene.enter(bridge.url, 'mallory');
    await mallory.stop();
    await scene.sees(/JOINED mallory/);
    const bob = idOfBob(scene);
    for (const kind of ['ready', 'welcome'])
      await mallory.sendFrame(
        bob,
        protocol.makeFrame(mallory.numbered(bob, kind, { answer: randomBytes(16).toString('hex') })),
      );
    await settle(scene);
    assert.doesNotMatch(scene.screen, /PAIRED with mallory/);
  });

  test('a genuine message that is sealed or signed again is taken once', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'mallory']);
    const [ada, bob] = [scene.member('ada'), idOfBob(scene)];
    const conspiracy = new Conspiracy(scene);
    await ada.say('once, to all');
    await ada.dm('bob', 'once, to bob');
    await scene.sees(/\| once, to bob/);
    const [broadcast, direct] = ada.outbox.slice(-2).map(({ sealed }) => sealed);
    assert.ok(broadcast && direct);
    const opened = await protocol.open(ada.room, ada.aad(EVERYBODY), broadcast);
    assert.ok(opened.ok);
    const frame = protocol.parseFrame(opened.value);
    assert.ok(frame.ok && frame.value.signature !== undefined);
    const other = twin(frame.value.signature);
    assert.notEqual(other, frame.value.signature);
    const headers = { ...Object.fromEntries(frame.value.headers), signature: other };
    await conspiracy.send(ada, EVERYBODY, opened.value);
    await conspiracy.send(ada, EVERYBODY, protocol.makeFrame(headers, frame.value.body));
    await scene.truth();
    // The very bytes, under another index: the bridge repeats them.
    const sealed = `${direct.nonce} ${direct.ciphertext} ${direct.tag}`;
    const repeated: string[] = [];
    lie(scene, ({ kind }, lines) => {
      const last = lines.at(-2) ?? '';
      if (kind !== 'poll' || !last.startsWith('cursor ')) return lines;
      repeated.push(last);
      const cursor = Number(last.split(' ')[1]);
      return [`message ${cursor} 1 ${ada.id} ${bob} ${sealed}`, ...lines];
    });
    await ada.say('and then this');
    await scene.sees(/\| and then this/);
    assert.ok(repeated.length > 0);
    await scene.truth();
    scene.check(['once, to all', 'once, to bob', 'and then this']);
    assert.deepEqual(scene.tampered(), []);
  });

  test('cards that are not what they say', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada']);
    const ada = scene.member('ada');
    const { pub, sign } = await protocol.makeKeys();
    const offCurve = `${pub.slice(0, -8)}AAAAAAA=`.replace(/=+$/, pub.endsWith('==') ? '==' : '=');
    /** Joins as `id` with any bytes sealed as its card. */
    const join = async (id: string, plaintext: Bytes) => {
      const card = await protocol.seal(
        ada.room,
        protocol.additionalData(ada.channel, id, EVERYBODY, 'card'),
        plaintext,
      );
      const body = { participant_id: id, token: randomBytes(32).toString('hex'), card };
      await ada.request('POST', 'join', { bearer: ada.access, body });
    };
    const cards: readonly (readonly [cause: string, headers: Headers])[] = [
      ['card-wrong-id', { kind: 'agent', name: 'ada', pub, sign }],
      ['card-bad-name', { kind: 'agent', name: '$(touch${IFS}ran)', pub, sign }],
      ['card-bad-name', { kind: 'agent', name: '../../x', pub, sign }],
      ['card-bad-name', { kind: 'agent', name: 'x'.repeat(33), pub, sign }],
      ['card-bad-value', { kind: 'robot', name: 'x', pub, sign }],
      ['card-bad-key', { kind: 'agent', name: 'x', pub: 'x', sign }],
      ['card-bad-key', { kind: 'agent', name: 'x', pub, sign: `M${pub.slice(2)}x` }],
      ['card-missing-header', { kind: 'agent', name: 'x', pub }],
    ];
    for (const [cause, headers] of cards) {
      const id = randomBytes(16).toString('hex');
      await join(id, protocol.makeFrame(headers));
      await scene.sees(new RegExp(`TAMPERED ${cause}: something under the name of ${id.slice(0, 8)} `));
    }
    for (const bytes of [encode('no frame'), Uint8Array.of(0), encode('kind: agent\n'.repeat(150))])
      await join(randomBytes(16).toString('hex'), bytes);
    // Its name is right, but its keys are no points of the curve: there is no direct key with it, and no signature.
    for (const [name, keys] of [
      ['pat', { pub: offCurve, sign }],
      ['sue', { pub, sign: offCurve }],
    ] as const)
      await join(await protocol.participantOf(ada.k, name), protocol.makeFrame({ kind: 'agent', name, ...keys }));
    await settle(scene);
    await scene.callWith('to all', 'say');
    await ada.hears('to all');
    await scene.call('who');
    scene.check();
    assert.doesNotMatch(scene.screen, /(JOINED|PAIRED with|BACK) (x|robot|\$)/);
    assert.equal(scene.screen.match(/PAIRED with ada/g)?.length, 1);
  });

  test('other keys under a known name are announced before anything that they say', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'mallory']);
    const [ada, mallory] = [scene.member('ada'), scene.member('mallory')];
    const keys = await protocol.makeKeys();
    const card = protocol.makeCard({ kind: 'agent', name: 'ada', pub: keys.pub, sign: keys.sign });
    const sealed = await protocol.seal(mallory.room, mallory.aad(EVERYBODY, 'card', ada.id), card);
    const aad = mallory.aad(EVERYBODY, 'message', ada.id);
    const headers = { kind: 'text', stream: randomBytes(8).toString('hex'), seq: '1', time: '1' };
    const frame = await protocol.signFrame(keys.ecdsa, aad, headers, encode('this is the other ada'));
    const broadcast = await protocol.seal(mallory.room, aad, frame);
    const words = (box: protocol.Sealed) => `${box.nonce} ${box.ciphertext} ${box.tag}`;
    let isTold = false;
    lie(scene, ({ kind }, lines) => {
      const cursor = /^cursor (\d+)/.exec(lines.at(-2) ?? '')?.[1];
      if (kind !== 'poll' || isTold || !cursor || !lines.some((line) => line.startsWith('message '))) return lines;
      isTold = true;
      const events = [
        `join ${cursor} 1 ${ada.id} ${words(sealed)}`,
        `message ${cursor} 1 ${ada.id} * ${words(broadcast)}`,
      ];
      return [...events, ...lines];
    });
    await ada.say('this is the first ada');
    await scene.sees(/\| this is the first ada/);
    await scene.truth();
    scene.check(['this is the first ada', 'this is the other ada']);
    const [keysAt, saidAt] = [/^agentalk: KEYS ada /m, /\| this is the other ada/].map((it) => scene.screen.search(it));
    assert.ok(keysAt !== undefined && keysAt >= 0, 'KEYS');
    assert.ok(saidAt === -1 || (saidAt !== undefined && saidAt > keysAt), 'announced before it is shown');
  });

  test('a name that somebody else takes after its owner left', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'carol']);
    const carol = scene.member('carol');
    await carol.say('said by carol');
    await scene.sees(/\| said by carol/);
    await carol.leave();
    await scene.sees(/LEFT carol/);
    const other = await scene.enter(bridge.url, 'carol');
    await other.paired('ada');
    await other.say('said by another carol');
    await scene.sees(/\| said by another carol/);
    const order = ['| said by carol', 'LEFT carol', 'KEYS carol', '| said by another carol'].map((words) =>
      scene.screen.indexOf(words),
    );
    assert.deepEqual(
      order,
      [...order].sort((a, b) => a - b),
    );
    assert.ok(
      order.every((at) => at >= 0),
      scene.screen,
    );
    // The first carol's keys prove nothing any more: what she seals now comes under the name that is another's.
    await scene.callWith('to the new carol', 'dm', 'carol');
    await other.hears('to the new carol');
    assert.ok(!carol.texts().includes('to the new carol'));
    await scene.truth();
    scene.check(['said by carol', 'said by another carol']);
  });

  test('two messages with one number', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'mallory']);
    const [mallory, bob] = [scene.member('mallory'), idOfBob(scene)];
    for (const to of [EVERYBODY, bob]) {
      const headers = mallory.numbered(to, 'text');
      for (const text of [`the first to ${to[0]}`, `the second to ${to[0]}`, `the third to ${to[0]}`])
        await mallory.sendFrame(to, await mallory.frame(to, headers, encode(text)));
      await mallory.sendFrame(to, await mallory.frame(to, { ...headers, kind: 'bye' }));
    }
    await scene.truth();
    scene.check(['the first to *', `the first to ${bob[0]}`]);
    assert.deepEqual(scene.tampered(), ['two-with-one-number mallory']);
    assert.doesNotMatch(scene.screen, /LEFT/);
    await mallory.say('and on it goes');
    await scene.sees(/\| and on it goes/);
  });

  test('numbers that are none, and numbers beyond reason', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'mallory']);
    const [mallory, bob] = [scene.member('mallory'), idOfBob(scene)];
    const frame = (to: string, changes: Headers) =>
      mallory.frame(to, { ...next(mallory, to, 'text'), ...changes }, encode('a strange number'));
    const bad = [
      '0',
      '-1',
      '+1',
      '01',
      '1.5',
      '1e3',
      '0x1',
      '1000000000000000',
      '9'.repeat(400),
      'a[$(touch${IFS}ran)]',
    ];
    for (const to of [EVERYBODY, bob]) {
      for (const seq of [...bad, 'PEERS']) await mallory.sendFrame(to, await frame(to, { seq }));
      for (const name of ['time', 'size', ...(to === bob ? ['after'] : [])])
        for (const value of ['-1', 'a[$(touch${IFS}ran)]', 'SECONDS', '9'.repeat(30)])
          await mallory.sendFrame(to, await frame(to, { [name]: value }));
    }
    await settle(scene);
    assert.deepEqual(scene.tampered(), ['bad-decimal mallory']);
    // The largest that there are. Who jumps ahead holds up nobody but itself, and that not for ever.
    for (const to of [EVERYBODY, bob])
      await mallory.sendFrame(to, await frame(to, { seq: '999999999999999', time: '999999999999999' }));
    await mallory.sendFrame(bob, await frame(bob, { seq: '999999999999998', after: '999999999999999' }));
    await settle(scene);
    await mallory.say('a number that is next');
    await scene.sees(/\| a number that is next/);
    await scene.truth();
    scene.check(['a number that is next']);
  });

  for (const [what, final] of [
    ['endless numbers', (bob: string) => `${bob}:999999999999999`],
    ['words that would be code', (bob: string) => [`${bob}:a[$(touch\${IFS}ran)]`, ...TRICKS].filter(isWord).join()],
    ['patterns that match files all over the disk', () => Array(60).fill('/*/*/*/*/*/*/*/*/*').join()],
  ] as const)
    test(`a goodbye with ${what}`, async (t) => {
      const scene = await Scene.open(t, bridge.url, ['ada', 'mallory']);
      const mallory = scene.member('mallory');
      const headers = mallory.numbered(EVERYBODY, 'bye', { final: final(idOfBob(scene)) });
      await mallory.sendFrame(EVERYBODY, await mallory.frame(EVERYBODY, headers));
      const start = Date.now();
      await settle(scene);
      assert.match(scene.screen, /LEFT mallory/);
      assert.ok(Date.now() - start < 10_000, `it took ${Date.now() - start} ms`);
    });

  test('receipts of nonsense', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'mallory']);
    const [ada, mallory, bob] = [scene.member('ada'), scene.member('mallory'), idOfBob(scene)];
    await scene.callWith('one', 'say');
    await ada.hears('one');
    const stream = ada.peer('bob').stream ?? assert.fail();
    const hex = () => randomBytes(8).toString('hex');
    const send = async (to: string, kind: string, seen: string) =>
      mallory.sendFrame(to, await mallory.frame(to, mallory.numbered(to, kind, { seen }), encode('receipts')));
    // Well-formed, and untrue: more than there is, sixteen of streams that there are not, and the same one over and over.
    await send(EVERYBODY, 'void', Array.from({ length: 16 }, () => `${hex()} 999999999999999`).join());
    await send(EVERYBODY, 'void', Array.from({ length: 16 }, (_, i) => `${stream} ${i}`).join());
    await send(EVERYBODY, 'void', `${stream} 999999999999999`);
    await send(bob, 'seen', `${stream} 999999999999999 999999999999999`);
    for (let i = 0; i < 20; i++) await send(bob, 'seen', `${'0'.repeat(16)} 0 0`);
    await settle(scene);
    assert.deepEqual(scene.tampered(), []);
    // Not well-formed. Refused as a whole: the text is not shown.
    const before = mallory.outbox.length;
    for (const seen of [
      `${stream} a[$(touch\${IFS}ran)]`,
      `${stream} -1`,
      `${stream}  1`,
      `${stream} 1,`,
      '*',
      `${stream} 1 1 1`,
    ])
      for (const to of [EVERYBODY, bob])
        await mallory.sendFrame(
          to,
          await mallory.frame(to, { ...next(mallory, to, 'text'), seen }, encode('receipts')),
        );
    const seventeen = Array.from({ length: 17 }, () => `${hex()} 1`).join();
    const frame = await mallory.frame(
      EVERYBODY,
      { ...next(mallory, EVERYBODY, 'text'), seen: seventeen },
      encode('17'),
    );
    await mallory.sendFrame(EVERYBODY, frame);
    assert.equal(mallory.outbox.length, before);
    await settle(scene);
    assert.deepEqual(scene.tampered(), ['bad-value mallory']);
    // What bob says still reaches everybody who is honest, and nobody hears it twice.
    await scene.callWith('two', 'say');
    await ada.hears('two');
    assert.deepEqual(ada.texts('bob'), ['one', 'two']);
    assert.match(await scene.call('who'), /mallory/);
    scene.check();
  });

  test('tricks in each header', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'mallory']);
    const [mallory, bob] = [scene.member('mallory'), idOfBob(scene)];
    const names = [
      'kind',
      'stream',
      'seq',
      'time',
      'after',
      'seen',
      're',
      'challenge',
      'answer',
      'name',
      'part',
      'size',
    ];
    const raw = (lines: readonly string[], body: string): Bytes => encode(`${lines.join('\n')}\n\n${body}`);
    for (const name of [...names, 'sha256', 'pub', 'sign', 'final', 'x-$(id)', '_', 'a[0]', 'PATH', 'f_kind', 'ifs'])
      for (const trick of TRICKS.slice(0, 30)) {
        const headers = { ...next(mallory, bob, 'shown-to-nobody'), [name]: trick };
        const lines = Object.entries(headers).map(([each, value]) => `${each}: ${value}`);
        if (
          Number(
            createHash('sha256')
              .update(name + trick)
              .digest()[0],
          ) < 90
        )
          await mallory.sendFrame(bob, raw(lines, 'tricks'));
      }
    for (const lines of [
      ['kind'],
      [''],
      [' '],
      ['kind:text'],
      ['kind: text', 'kind: text'],
      ['a: \u0000b'],
      ['x'.repeat(5000)],
    ])
      await mallory.sendFrame(bob, raw(lines, 'no headers'));
    await settle(scene);
    for (const cause of scene.tampered()) assert.match(cause, /^[a-z-]+ mallory$/);
    assert.ok(scene.tampered().length >= 3, scene.tampered().join());
    await scene.call('log');
    scene.checkNothingRan();
  });

  test('files with names, parts, sizes and sums that lie', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'mallory']);
    const [mallory, bob] = [scene.member('mallory'), idOfBob(scene)];
    const bytes = encode('the contents of a file');
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const file = { name: 'a.txt', part: '1/1', size: String(bytes.length), sha256 };
    const send = async (changes: Headers, body = bytes, to = bob) => {
      const headers = Object.entries({ ...mallory.numbered(to, 'file'), ...file, ...changes });
      const kept = Object.fromEntries(headers.filter(([, value]) => value !== ''));
      await mallory.sendFrame(to, await mallory.frame(to, kept, body));
    };
    const sealedOnly = async (changes: Headers) =>
      mallory.sendFrame(bob, await mallory.frame(bob, { ...next(mallory, bob, 'file'), ...file, ...changes }, bytes));
    // Names: all of them are files in the inbox, and nowhere else.
    const names = [
      '../../ran',
      '/etc/ran',
      '..',
      '.',
      '-rf',
      '.bashrc',
      'a b',
      '$(touch${IFS}ran)',
      'x'.repeat(300),
      '*',
    ];
    for (const [i, name] of names.entries()) {
      const own = encode(`contents ${i}`);
      const sum = createHash('sha256').update(own).digest('hex');
      await send({ name, size: String(own.length), sha256: sum }, own);
    }
    // What is wrong with these shows by itself; they take no number, so that nothing waits for them.
    for (const part of ['0/1', '2/1', '1/0', '1', '/', '1/1/1', '-1/1', 'a[$(touch${IFS}ran)]/1', '1/9999999999999999'])
      await sealedOnly({ part });
    for (const sum of ['x', sha256.toUpperCase(), '*', '../../../../ran']) await sealedOnly({ sha256: sum });
    for (const size of ['-1', '1e9', '9'.repeat(16)]) await sealedOnly({ size });
    // These are well-formed: they hold their number and no file comes of them.
    await send({ sha256: '0'.repeat(64) });
    await send({ part: '1/999999999999999' });
    await send({ part: '4097/4097' });
    await send({ part: '' });
    await send({ sha256: '' });
    await send({ part: '2/3' });
    await send({ part: '2/3' }, encode('another second part'));
    await settle(scene);
    for (const cause of scene.tampered()) assert.match(cause, /^[a-z-]+ mallory$/);
    assert.ok(scene.tampered().includes('broken-file mallory'), scene.tampered().join());
    assert.ok(scene.tampered().includes('bad-value mallory'), scene.tampered().join());
    const inbox = readdirSync(join(scene.folder, 'inbox'), { withFileTypes: true });
    for (const entry of inbox) {
      assert.ok(entry.isFile(), entry.name);
      assert.match(entry.name, /^[0-9][A-Za-z0-9._-]{0,160}$/);
    }
    assert.equal(scene.screen.match(/^agentalk: FILE #/gm)?.length, names.length, scene.screen);
    assert.ok(!existsSync('/etc/ran'));
    // A size that is not the file's: its sum proves it whole, and what is said of its length is its true one.
    await send({ size: '5' });
    await settle(scene);
    assert.doesNotMatch(scene.screen, /, 5 bytes/);
  });

  test('a member with streams without end', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'mallory']);
    const mallory = scene.member('mallory');
    for (let i = 0; i < 40; i++) {
      const headers = { kind: 'void', stream: randomBytes(8).toString('hex'), seq: '1', time: '1' };
      await mallory.sendFrame(EVERYBODY, await mallory.frame(EVERYBODY, headers));
    }
    await settle(scene);
    assert.deepEqual(
      scene.tampered().filter((cause) => !cause.endsWith(' mallory')),
      [],
    );
    assert.ok(scene.diskBytes < 8 << 20, `${scene.diskBytes} bytes`);
  });
});
