/**
 * Members that hold the channel key and misuse it, alone or with the bridge: nobody speaks as somebody else, no card
 * gives more than its own keys, and what proves no session is rejected.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as protocol from '../../../sdk/protocol.ts';
import { concat, derToRaw, fromBase64, fromHex, rawToDer, toBase64, utf8Encode } from '../../../sdk/encoding.ts';
import { startBridge } from '../../lib/bridge.ts';
import type { TestBridge } from '../../lib/bridge.ts';
import {
  AttackFixture,
  INJECTION_STRINGS,
  NEXT,
  insertOnce,
  joinLine,
  makeClient,
  messageLine,
  rewriteEvents,
} from './fixture.ts';
import { rawFrame } from './member.ts';
import type { Changes, SendOptions } from './member.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const { BROADCAST } = protocol;
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** Bytes of a number, big-endian. */
const bytesOf = (value: bigint, length = 32) => fromHex(value.toString(16).padStart(2 * length, '0'));
const numberOf = (bytes: Uint8Array) => BigInt(`0x${Buffer.from(bytes).toString('hex')}`);

/** r and s of a signature. */
function parts(signature: string): [bigint, bigint] {
  const raw = derToRaw(fromBase64(signature) ?? new Uint8Array()) ?? assert.fail('a signature');
  return [numberOf(raw.subarray(0, 32)), numberOf(raw.subarray(32))];
}

/** The other of the two signatures that prove the same: s is replaced by n − s. */
function otherSignature(signature: string): string {
  const [r, s] = parts(signature);
  return toBase64(rawToDer(concat(bytesOf(r), bytesOf(ORDER - s))));
}

/** DER of two integers that are given as bytes. */
function derOf(r: Uint8Array, s: Uint8Array, length?: Uint8Array): string {
  const integer = (bytes: Uint8Array) => concat(Uint8Array.of(2, bytes.length), bytes);
  const content = concat(integer(r), integer(s));
  return toBase64(concat(Uint8Array.of(0x30), length ?? Uint8Array.of(content.length), content));
}
const positive = (value: bigint) => (value >> 255n ? concat(Uint8Array.of(0), bytesOf(value)) : bytesOf(value));

/** Encodings of the same signature that are not the one DER. */
const NON_CANONICAL: Readonly<Record<string, (signature: string) => string>> = {
  'a zero byte before an integer': (signature) => {
    const [r, s] = parts(signature);
    return derOf(concat(Uint8Array.of(0), positive(r)), positive(s));
  },
  'a length in two bytes': (signature) => {
    const [r, s] = parts(signature);
    const length = 4 + positive(r).length + positive(s).length;
    return derOf(positive(r), positive(s), Uint8Array.of(0x81, length));
  },
  'a byte behind it': (signature) => toBase64(concat(fromBase64(signature) ?? assert.fail(), Uint8Array.of(0))),
  's above the order': (signature) => {
    const [r, s] = parts(signature);
    return derOf(positive(r), bytesOf(ORDER + s, 33));
  },
  'a negative r': (signature) => {
    const [r, s] = parts(signature);
    return derOf(concat(Uint8Array.of(0xff), bytesOf(r)), positive(s));
  },
  'two zeros': () => derOf(Uint8Array.of(0), Uint8Array.of(0)),
  'bits behind the base64': (signature) => {
    const at = signature.replace(/=+$/, '').length - 1;
    const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
    const next = letters[letters.indexOf(signature[at] ?? 'A') + 1] ?? '/';
    return signature.endsWith('=') ? signature.slice(0, at) + next + signature.slice(at + 1) : `${signature}AA==`;
  },
  'base64 with a space': (signature) => `${signature.slice(0, 40)} ${signature.slice(40)}`,
  'its raw bytes': (signature) => {
    const [r, s] = parts(signature);
    return toBase64(concat(bytesOf(r), bytesOf(s)));
  },
};

describe('a message of a member', { concurrency: 3 }, () => {
  test('under the id of another is not shown, whatever sid it is signed over', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
    const [ada, mallory] = [fixture.member('ada'), fixture.member('mallory')];
    const sealed: protocol.Sealed[] = [];
    const signings: SendOptions[] = [{}, { sid: ada.sid }, { from: ada.id }, { from: ada.id, sid: ada.sid }];
    for (const options of signings)
      for (const seq of [1, 2, 9]) {
        const headers = { seq: String(seq) };
        const frame = (await mallory.sealMessage(BROADCAST, 'text', { body: 'forged', headers, ...options })).frame;
        sealed.push(await mallory.seal(BROADCAST, frame, { from: ada.id }));
      }
    insertOnce(fixture, () => sealed.map((each) => messageLine(ada.id, BROADCAST, each)));
    await fixture.sendMarker();
    fixture.check();
    assert.deepEqual(fixture.tampered(), ['bad-signature ada']);
    assert.equal(mallory.peer('bob').directs, 0);
  });

  test('sealed with its own direct key is nothing under the id of another', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
    const [ada, mallory] = [fixture.member('ada'), fixture.member('mallory')];
    const bob = mallory.peer('bob');
    const keys = [bob.direct, await mallory.directKeyTo(bob, ada.sid), mallory.broadcastKey];
    const lines: string[] = [];
    for (const key of keys)
      for (const kind of ['text', 'bye', 'sync']) {
        const headers: Changes = kind === 'text' ? { seq: '1' } : { seq: null };
        const { sealed } = await mallory.sealMessage(bob, kind, { key, from: ada.id, headers, body: 'forged' });
        lines.push(messageLine(ada.id, bob.participantId, sealed));
      }
    insertOnce(fixture, () => lines);
    await fixture.sendMarker();
    fixture.check();
    assert.deepEqual(fixture.tampered(), []);
    assert.equal(fixture.count('UNREADABLE'), 1);
    assert.equal(fixture.count('LEFT'), 0);
    assert.match(await fixture.call('who'), /^agentalk: 9 messages could not be read$/m);
  });

  test('signed over another sid is not shown', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
    const [ada, mallory] = [fixture.member('ada'), fixture.member('mallory')];
    for (const sid of [
      ada.sid,
      mallory.peer('bob').sid,
      mallory.sid.toUpperCase(),
      '0'.repeat(32),
      '',
      mallory.sid.slice(0, 16),
    ])
      await mallory.say('over another sid', { sid, isCounted: false });
    await mallory.say('in another channel', { isCounted: false, from: mallory.channelId });
    await mallory.say('as a card', { isCounted: false, type: 'card' });
    await mallory.say('without a signature', { isCounted: false, signature: () => 'none' });
    const unsigned = rawFrame(
      [
        ['kind', 'text'],
        ['seq', '1'],
        ['time', '1'],
      ],
      'without a signature',
    );
    await mallory.post(BROADCAST, await mallory.seal(BROADCAST, unsigned));
    await fixture.sendMarker();
    await fixture.sendMarker('mallory');
    fixture.check();
    for (const cause of fixture.tampered())
      assert.match(cause, /^(bad-signature|missing-signature|auth-failed) mallory$/);
  });

  test('of another, sealed again under other nonces, is a duplicate; under its own id it proves nothing', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
    const [ada, mallory] = [fixture.member('ada'), fixture.member('mallory')];
    const { frame } = await ada.say('said once');
    await fixture.waitForEntry(/\| said once/);
    const text = Buffer.from(frame).toString();
    const changed = [
      text.replace('said once', 'said twice'),
      text.replace('seq: 1', 'seq: 2'),
      text.replace(/time: (\d+)/, 'time: 1'),
      text.replace('kind: text', 'kind: other'),
      text.replace(/signature: .*\n/, ''),
      text.replace(/\nsignature: (.*)\n/, (_, value: string) => `\nx: y\nsignature: ${value}\n`),
      text.replace(/signature: (.*)\n/, (_, value: string) => `signature: ${value}\nx: y\n`),
    ];
    const again = text.replace(/signature: (.*)/, (_, value: string) => `signature: ${otherSignature(value)}`);
    assert.notEqual(again, text);
    const lines: string[] = [];
    for (const copy of [text, again])
      lines.push(messageLine(ada.id, BROADCAST, await mallory.seal(BROADCAST, utf8Encode(copy), { from: ada.id })));
    insertOnce(fixture, () => lines);
    await fixture.sendMarker();
    assert.deepEqual(fixture.tampered(), []);
    const bad: string[] = [];
    for (const copy of changed)
      bad.push(messageLine(ada.id, BROADCAST, await mallory.seal(BROADCAST, utf8Encode(copy), { from: ada.id })));
    for (const copy of [text, again])
      bad.push(messageLine(mallory.id, BROADCAST, await mallory.seal(BROADCAST, utf8Encode(copy))));
    insertOnce(fixture, () => bad);
    await fixture.sendMarker();
    fixture.check(['said once']);
    assert.ok(fixture.tampered().includes('bad-signature ada'), fixture.tampered().join());
    assert.ok(fixture.tampered().includes('bad-signature mallory'), fixture.tampered().join());
    fixture.checkInbox();
  });

  for (const [what, change] of Object.entries(NON_CANONICAL))
    test(`with a signature in another encoding (${what}) is not shown`, async (t) => {
      const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
      await fixture.member('mallory').say('encoded otherwise', { signature: change, isCounted: false });
      await fixture.sendMarker('mallory');
      fixture.check();
      assert.deepEqual(fixture.tampered(), ['bad-signature mallory']);
    });

  test('under the id of bob himself is never shown to bob', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
    const mallory = fixture.member('mallory');
    const bob = mallory.peer('bob');
    const keys = await protocol.makeKeys(true);
    const card = { kind: 'agent', name: 'bob', pub: keys.pub, sign: keys.sign } as const;
    const sid = await protocol.deriveSessionId(mallory.channelKey, card);
    const sealedCard = await mallory.sealCard(protocol.makeCard(card), bob.participantId);
    const options = { from: bob.participantId, sid, signer: keys.ecdsa, isCounted: false, body: 'from yourself' };
    const all = (await mallory.sealMessage(BROADCAST, 'text', options)).sealed;
    const direct = (await mallory.sealMessage(bob, 'text', options)).sealed;
    await fixture.callWith('said by bob', 'say');
    const own = mallory.id;
    insertOnce(fixture, () => [
      joinLine(bob.participantId, sealedCard),
      messageLine(bob.participantId, BROADCAST, all),
      messageLine(bob.participantId, bob.participantId, direct),
      messageLine(own, own, direct),
      `leave ${NEXT} 1 ${bob.participantId} left`,
    ]);
    await fixture.sendMarker();
    fixture.check();
    assert.equal(fixture.count('JOINED'), 0);
    assert.equal(fixture.count('NEW'), 0);
  });
});

describe('a card of a member', { concurrency: 3 }, () => {
  test('with the ECDH key of another gives nothing of the other', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada']);
    const ada = fixture.member('ada');
    await ada.say('said by ada');
    const mallory = await fixture.enter('mallory', { card: { pub: ada.keys.pub } });
    mallory.isSilent = true;
    await fixture.waitForEntry(/JOINED mallory/);
    const bob = mallory.peer('bob');
    // What ada sends bob directly, under the other id, as it is and sealed again with every key that mallory has.
    const { sealed } = await ada.dm('bob', 'to bob alone');
    const lines = [messageLine(mallory.id, bob.participantId, sealed)];
    for (const key of [bob.direct, mallory.broadcastKey, await mallory.directKeyTo(bob, ada.sid)]) {
      const body = 'sealed by mallory';
      for (const seq of ['1', '2'])
        lines.push(
          messageLine(
            mallory.id,
            bob.participantId,
            (await mallory.sealMessage(bob, 'text', { key, body, headers: { seq } })).sealed,
          ),
        );
    }
    insertOnce(fixture, () => lines);
    await fixture.sendMarker();
    await fixture.waitForEntry(/\| to bob alone/);
    // Her own broadcasts and receipts count for mallory alone: bob's words to ada are not confirmed by them.
    await mallory.say('said by mallory', { headers: { seen: `${bob.sid.slice(0, 16)} 0 0` } });
    await fixture.waitForEntry(/\| said by mallory/);
    fixture.check(['said by ada', 'to bob alone', 'said by mallory']);
    assert.equal(fixture.count('PAIRED with mallory'), 0, 'she can not derive the direct key');
    assert.match(fixture.shown().find(({ text }) => text === 'said by mallory')?.notes ?? '', /not PAIRED/);
    assert.equal(fixture.count('PAIRED with ada'), 1);
    const result = fixture.start(['dm', 'mallory', 'nothing']);
    assert.match((await result.ended).stderr, /mallory is not PAIRED/);
  });

  for (const [what, copied] of [
    ['the ECDH key', 'pub'],
    ['the signature key', 'sign'],
    ['no key', 'none'],
  ] as const)
    test(`under the name of another, with ${what} of hers, is another session and is announced`, async (t) => {
      const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
      const [ada, mallory] = [fixture.member('ada'), fixture.member('mallory')];
      const keys = await protocol.makeKeys(true);
      const card = {
        kind: 'agent',
        name: 'ada',
        pub: copied === 'pub' ? ada.keys.pub : keys.pub,
        sign: copied === 'sign' ? ada.keys.sign : keys.sign,
      } as const;
      const sid = await protocol.deriveSessionId(mallory.channelKey, card);
      const sealedCard = await mallory.sealCard(protocol.makeCard(card), ada.id);
      const options = { from: ada.id, sid, signer: keys.ecdsa, headers: { seq: '1' }, body: 'I am ada' };
      const forged = (await mallory.sealMessage(BROADCAST, 'text', options)).sealed;
      insertOnce(fixture, () => [joinLine(ada.id, sealedCard), messageLine(ada.id, BROADCAST, forged)]);
      await fixture.sendMarker();
      const said = copied === 'sign' ? [] : ['I am ada'];
      fixture.check(said);
      assert.equal(fixture.count('NEW ada~2'), 1);
      assert.deepEqual(fixture.texts('ada'), []);
      assert.deepEqual(fixture.texts('ada~2'), said);
      const at = fixture.screen.indexOf('I am ada');
      assert.ok(at < 0 || fixture.screen.indexOf('NEW ada~2') < at, 'announced before it is shown');
      assert.equal(fixture.count('PAIRED with ada~2'), 0);
      await fixture.call('dm', 'ada', 'to ada herself');
      await ada.waitForOutput('to ada herself');
    });

  test('with the name of another that was away gets no direct message before bob was told', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'carol']);
    const ada = fixture.member('ada');

    const second = await fixture.enter('ada', { token: ada.token }); // whoever takes the name
    const hook = fixture.start(['listen', '--hook']);
    await second.paired('bob');
    await hook.ended;
    const { stderr, status } = await fixture.start(['dm', 'ada', 'the secret']).ended;
    assert.equal(status, 1);
    assert.match(stderr, /error: another session is called ada now, and you have not been told\n.*wait 0 tells it/);
    await fixture.waitForEntry(/NEW ada~2/);
    await fixture.call('dm', 'ada', 'to the second');
    await second.waitForOutput('to the second');
    const first = await fixture.start(['dm', 'ada~1', 'to the first']).ended;
    assert.match(first.stderr, /ada~1 has left/);
    assert.deepEqual(second.texts('bob'), ['to the second']);
  });

  test('of every malformed kind is rejected, and reported once', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
    const mallory = fixture.member('mallory');
    const { pub, sign } = await protocol.makeKeys();
    const spki = fromBase64(pub) ?? assert.fail();
    const point = spki.subarray(-65);
    const compressed = concat(Uint8Array.of(2 + ((point[64] ?? 0) & 1)), point.subarray(1, 33));
    const header = fromHex('3039301306072a8648ce3d020106082a8648ce3d030107032200');
    const offCurve = toBase64(concat(spki.subarray(0, -1), Uint8Array.of((spki.at(-1) ?? 0) ^ 1)));
    const keys = [
      `${pub}AAAA`,
      toBase64(concat(spki, Uint8Array.of(0))),
      toBase64(concat(header, compressed)),
      `${pub.slice(0, -2)}`,
      `${pub.slice(0, -3)}B==`,
      pub.replace('MFkw', 'MFmw'),
      ` ${pub}`,
      pub.slice(0, 64),
      '',
      'a[$(>ran)]',
    ];
    const fields: Changes[] = [
      ...keys.flatMap((key) => [{ pub: key }, { sign: key }]),
      { pub: offCurve },
      { kind: 'robot' },
      { kind: '' },
      { kind: null },
      { pub: null },
      { sign: null },
      { name: null },
    ];
    const lines: string[] = [];
    const inject = async (id: string, changes: Changes) => {
      const headers = Object.entries({ kind: 'agent', name: 'eve', pub, sign, ...changes });
      const kept = headers.filter((each): each is [string, string] => each[1] !== null);
      lines.push(joinLine(id, await mallory.sealCard(rawFrame(kept), id)));
    };
    const idOf = (name: string) => protocol.deriveParticipantId(mallory.channelKey, name);
    for (const [i, changes] of fields.entries()) {
      await inject(await idOf('eve'), changes);
      await inject(await idOf(`eve${i}`), { name: `eve${i}`, ...changes });
    }
    for (const name of protocol.RESERVED_NAMES) await inject(await idOf(name), { name });
    for (const name of [
      'Eve',
      'eve..x',
      '-eve',
      'e'.repeat(33),
      'eve~2',
      'ada.',
      'ev e',
      ...INJECTION_STRINGS.slice(0, 8),
    ])
      await inject(await idOf('eve'), { name });
    await inject(await idOf('mallory'), { name: 'eve' });
    await inject('0'.repeat(32), { name: 'eve' });
    await inject(mallory.peer('bob').participantId, { name: 'bob' });
    for (const frame of [utf8Encode('no frame'), Uint8Array.of(0), utf8Encode('kind: agent\n'.repeat(150))])
      lines.push(joinLine(await idOf('eve'), await mallory.sealCard(frame as never, await idOf('eve'))));
    insertOnce(fixture, () => lines);
    await fixture.sendMarker();
    await fixture.call('who');
    fixture.check();
    assert.doesNotMatch(fixture.screen, /^agentalk: (JOINED|NEW)/m);
    for (const cause of fixture.tampered()) assert.match(cause, /^card-[a-z-]+ (bridge|mallory)$/);
    assert.ok(fixture.tampered().length >= 4 && fixture.tampered().length < 20, fixture.tampered().join());
  });

  test('with a body, unknown headers, or the kind human is taken', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada']);
    const eve = await fixture.enter('eve', { kind: 'human' });
    await fixture.waitForEntry(/JOINED eve, a person/);
    const { pub, sign } = await protocol.makeKeys();
    const headers = [
      ['kind', 'agent'],
      ['x-y', '$(>ran)'],
      ['name', 'eve'],
      ['pub', pub],
      ['seq', 'x'],
      ['sign', sign],
    ] as const;
    await eve.present(await eve.sealCard(rawFrame(headers, 'a body $(>ran)')));
    await fixture.waitForEntry(/NEW eve~2/);
    await fixture.sendMarker();
    fixture.check();
    assert.deepEqual(fixture.tampered(), []);
  });
});

describe('PAIRED', { concurrency: 3 }, () => {
  test('is not reported for broadcasts, copied cards, and direct messages to an earlier session of bob', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'zed']);
    const ada = fixture.member('ada');
    const older = [(await ada.control('bob', 'ack')).sealed, (await ada.dm('bob', 'to the earlier bob')).sealed];
    await fixture.waitForEntry(/to the earlier bob/);
    await fixture.call('leave');
    ada.isSilent = true;
    const before = fixture.screen;
    fixture.screen = '';
    // A new session of bob, which hears ada's broadcasts and everything that she said to the earlier one.
    const id = ada.peer('bob').participantId;
    rewriteEvents(fixture, (events) => [...older.map((each) => messageLine(ada.id, id, each)), ...events]);
    await fixture.call('join', fixture.linkOfBob, '--name', 'bob');
    await ada.say('to all');
    const other = join(fixture.home, 'agentalk-session-bob-2');
    assert.ok(existsSync(other), 'the folder of the first stays');
    for (let i = 0; i < 3; i++) fixture.screen += (await fixture.start(['--as', 'bob-2', 'wait', '1']).ended).stdout;
    assert.doesNotMatch(fixture.screen, /PAIRED with ada/);
    assert.doesNotMatch(fixture.screen, /to the earlier bob/);
    fixture.screen = before;
  });
});

describe('sessions without end', { concurrency: 3 }, () => {
  test('of one name: the eighth newest is still heard', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
    const mallory = fixture.member('mallory');
    const eve = await fixture.enter('eve');
    await fixture.waitForEntry(/PAIRED with eve/);
    const lines: string[] = [];
    for (let i = 0; i < 7; i++) {
      const { pub, sign } = await protocol.makeKeys();
      lines.push(
        joinLine(eve.id, await mallory.sealCard(protocol.makeCard({ kind: 'agent', name: 'eve', pub, sign }), eve.id)),
      );
    }
    rewriteEvents(fixture, (events) => [...lines, ...events]);
    await fixture.sendMarker();
    fixture.honest();
    assert.equal(fixture.count('NEW eve~'), 7);
    await eve.say('still eve');
    await fixture.waitForEntry(/\| still eve/);
    fixture.check(['still eve']);
    assert.deepEqual(fixture.texts('eve'), ['still eve']);
  });

  test('120 within an hour: those above 100 are refused and reported, the others go on', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
    const mallory = fixture.member('mallory');
    const lines: string[] = [];
    for (let i = 0; i < 120; i++) {
      const { pub, sign } = await protocol.makeKeys();
      const id = await protocol.deriveParticipantId(mallory.channelKey, `eve${i}`);
      lines.push(
        joinLine(id, await mallory.sealCard(protocol.makeCard({ kind: 'agent', name: `eve${i}`, pub, sign }), id)),
      );
    }
    insertOnce(fixture, () => lines);
    await fixture.sendMarker('ada', 90);
    assert.ok(fixture.tampered().includes('too-many-sessions bridge'), fixture.tampered().join());
    const [, names = ''] = /in the channel now: (.*)/.exec(await fixture.call('dm', 'nobody', 'x')) ?? [];
    assert.ok(names.split(' ').length <= 100, names);
    assert.ok(names.split(' ').length > 50, names);
    assert.ok(fixture.count('JOINED') <= 60, `${fixture.count('JOINED')} lines`);
    await fixture.sendMarker();
    await fixture.call('say', 'to all');
    await fixture.member('ada').waitForOutput('to all');
    await fixture.sendMarker('mallory');
    fixture.check();
    assert.ok(fixture.longestMs < 30_000, `${fixture.longestMs} ms`);
  });

  test('25 of one participant: those above 20 take no room of those who come afterwards', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
    const mallory = fixture.member('mallory');
    const id = await protocol.deriveParticipantId(mallory.channelKey, 'eve');
    const lines: string[] = [];
    for (let i = 0; i < 100; i++) {
      const { pub, sign } = await protocol.makeKeys();
      lines.push(
        joinLine(id, await mallory.sealCard(protocol.makeCard({ kind: 'agent', name: 'eve', pub, sign }), id)),
      );
    }
    insertOnce(fixture, () => lines);
    await fixture.sendMarker('ada', 60);
    await fixture.enter('carol');
    await fixture.waitForEntry(/PAIRED with carol\./);
    await fixture.call('dm', 'carol', 'welcome');
    await fixture.member('carol').waitForOutput('welcome');
    assert.ok(fixture.tampered().includes('too-many-sessions eve'), fixture.tampered().join());
    assert.equal(fixture.count('NEW eve'), 19);
  });

  test('400 joins and leaves in one answer cost seconds, and few lines', async (t) => {
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory']);
    const mallory = fixture.member('mallory');
    const lines: string[] = [];
    for (let i = 0; i < 400; i++) {
      const { pub, sign } = await protocol.makeKeys();
      const id = await protocol.deriveParticipantId(mallory.channelKey, `eve${i}`);
      lines.push(
        joinLine(id, await mallory.sealCard(protocol.makeCard({ kind: 'agent', name: `eve${i}`, pub, sign }), id)),
      );
      lines.push(`leave ${NEXT} 1 ${id} left`);
    }
    insertOnce(fixture, () => lines);
    const began = Date.now();
    await fixture.sendMarker();
    assert.ok(Date.now() - began < 10_000, `${Date.now() - began} ms`);
    assert.ok(fixture.count('JOINED') + fixture.count('LEFT') <= 120);
    assert.ok(fixture.diskBytes < 8 << 20, `${fixture.diskBytes} bytes`);
    fixture.check();
  });

  test('cards that open with no key, 300 of them under as many ids, are reported in few lines and hold up no call', async (t) => {
    // As on a slow machine: each card takes a twentieth of a second.
    const slow = makeClient((source) => source.replace(/^(read_card\(\) \{.*)$/m, '$1\n\t"$RUN_sleep" 0.05'));
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'zed'], slow);
    const junk = Array.from({ length: 300 }, (_, i) => {
      const id = i.toString(16).padStart(8, '0').padEnd(32, 'a');
      return joinLine(id, { nonce: '0'.repeat(24), ciphertext: 'AAAA', tag: '0'.repeat(32) });
    });
    insertOnce(fixture, () => junk);
    await fixture.sendMarker('zed', 90);
    assert.ok(fixture.longestMs < 20_000, `${fixture.longestMs} ms`);
    assert.deepEqual(fixture.tampered(), ['card-auth-failed bridge']);
    assert.match(await fixture.call('who'), /^agentalk: 300 times something was not genuine$/m);
    await fixture.sendMarker();
    fixture.check();
  });

  test('a session that 100 others and a forged leave pushed out says nothing twice', async (t) => {
    const longer = makeClient((source) => source.replace('NEW_COUNT > 100', 'NEW_COUNT > 200'));
    const fixture = await AttackFixture.open(t, bridge.url, ['ada', 'mallory'], longer);
    const [ada, mallory] = [fixture.member('ada'), fixture.member('mallory')];
    const all = await ada.say('said once to all');
    const direct = await ada.dm('bob', 'said once to bob');
    await fixture.waitForEntry(/\| said once to bob/);
    const bob = ada.peer('bob').participantId;
    const lines = [`leave ${NEXT} 1 ${ada.id} left`];
    for (let i = 0; i < 100; i++) {
      const { pub, sign } = await protocol.makeKeys();
      const id = await protocol.deriveParticipantId(mallory.channelKey, `eve${i}`);
      lines.push(
        joinLine(id, await mallory.sealCard(protocol.makeCard({ kind: 'agent', name: `eve${i}`, pub, sign }), id)),
      );
    }
    lines.push(joinLine(ada.id, ada.card));
    lines.push(messageLine(ada.id, BROADCAST, all.sealed), messageLine(ada.id, bob, direct.sealed));
    insertOnce(fixture, () => lines);
    await fixture.sendMarker('mallory', 90);
    await fixture.sendMarker('mallory');
    fixture.check(['said once to all', 'said once to bob']);
    assert.equal(fixture.count('PAIRED with ada'), 1);
  });
});
