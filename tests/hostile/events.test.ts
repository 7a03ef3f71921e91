/**
 * A bridge that lies about events: it moves, repeats, reorders, withholds, splices and invents. Bob shows what was said,
 * once and in its order, and names what was not genuine.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startBridge } from '../kit/bridge.ts';
import type { TestBridge } from '../kit/bridge.ts';
import { ReferenceClient } from '../kit/client.ts';
import { Bridge } from '../faults/stage.ts';
import { Scene, lie } from './scene.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const hex = (bytes: number) => randomBytes(bytes).toString('hex');
const isMessage = (line: string) => line.startsWith('message ');
const idOfBob = (scene: Scene) => scene.member('ada').peer('bob').id;

/** Lets the adversary rewrite the events of each poll's answer; `cursor` is what its last line says. */
function onPoll(scene: Scene, rewrite: (events: string[], cursor: number) => readonly string[]): void {
  lie(scene, ({ kind }, lines) => {
    const [last = '', end = ''] = lines.slice(-2);
    const cursor = /^cursor (\d+) /.exec(last)?.[1];
    return kind !== 'poll' || cursor === undefined
      ? lines
      : [...rewrite(lines.slice(0, -2), Number(cursor)), last, end];
  });
}

/** Puts lines before the events of the one poll that brings a message, so that they come just before it. */
function beforeMessage(scene: Scene, make: (line: string, index: string) => readonly string[]): { lines: number } {
  const told = { lines: 0 };
  onPoll(scene, (events) =>
    events.flatMap((line) => {
      const [, index = ''] = line.split(' ');
      const more = isMessage(line) && told.lines === 0 ? make(line, index) : [];
      told.lines += more.length;
      return [...more, line];
    }),
  );
  return told;
}

/** What another session of bob's prints that joins now. */
async function guest(scene: Scene): Promise<string> {
  const before = scene.screen;
  const output = await scene.call('join', scene.linkOfBob, '--name', 'guest');
  scene.screen = before;
  return output;
}

const flipped = (bytes: Buffer, bit: number) => {
  const other = Buffer.from(bytes);
  other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return other;
};

/** The same line with a bit flipped here and there in one of its last three words: nonce, ciphertext, tag. */
function bitFlips(line: string, field: 'nonce' | 'ciphertext' | 'tag', count: number): string[] {
  const words = line.split(' ');
  const at = words.length - { nonce: 3, ciphertext: 2, tag: 1 }[field];
  const form = field === 'ciphertext' ? 'base64' : 'hex';
  const bytes = Buffer.from(words[at] ?? '', form);
  const bits = bytes.length * 8;
  return Array.from({ length: count }, (_, i) =>
    words.with(at, flipped(bytes, Math.floor((i * (bits - 1)) / (count - 1))).toString(form)).join(' '),
  );
}

describe('a bridge that lies about events', { concurrency: 3 }, () => {
  for (const field of ['nonce', 'ciphertext', 'tag'] as const) {
    test(`a bit flipped anywhere in a ${field}, to all and to one`, async (t) => {
      const scene = await Scene.open(t, bridge.url);
      let told = beforeMessage(scene, (line) => bitFlips(line, field, 12));
      await scene.member('ada').say('to all');
      await scene.sees(/\| to all/);
      assert.equal(told.lines, 12);
      told = beforeMessage(scene, (line) => bitFlips(line, field, 12));
      await scene.member('ada').dm('bob', 'to bob');
      await scene.sees(/\| to bob/);
      assert.equal(told.lines, 12);
      await scene.truth();
      scene.check(['to all', 'to bob']);
      assert.deepEqual(scene.tampered(), ['bad-tag ada']);
    });

    test(`a bit flipped anywhere in the ${field} of a card`, async (t) => {
      const scene = await Scene.open(t, bridge.url);
      const isCard = (line: string) => /^(join|participant) /.test(line);
      lie(scene, ({ kind }, lines) =>
        kind === 'poll' || kind === 'join'
          ? lines.flatMap((line) => (isCard(line) ? bitFlips(line, field, 8) : [line]))
          : lines,
      );
      const eve = await scene.enter(bridge.url, 'eve');
      await eve.say('of one whom bob does not know');
      await scene.truth();
      scene.check();
      const name = eve.id.slice(0, 8);
      assert.deepEqual(scene.tampered(), [`card-bad-tag ${name}`, `unknown-sender ${name}`]);
      assert.doesNotMatch(scene.screen, /(JOINED|PAIRED with) eve/);
      // Nor is it believed in the answer to a join.
      const output = await guest(scene);
      assert.match(output, /In the channel:\./);
      assert.match(output, /TAMPERED card-bad-tag/);
      assert.doesNotMatch(output, /PAIRED with/);
    });
  }

  test('a tag of which all but one bit is right', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'zed']);
    for (const bit of [127, 96, 64, 63, 31, 0]) {
      onPoll(scene, (events) =>
        events.map((line) => {
          const [words, tag = ''] = [line.split(' '), line.split(' ').at(-1)];
          const isHers = isMessage(line) && words[3] === scene.member('ada').id;
          return isHers ? words.with(-1, flipped(Buffer.from(tag, 'hex'), bit).toString('hex')).join(' ') : line;
        }),
      );
      await scene.member('ada').say(`bit ${bit}`);
      await scene.member('ada').dm('bob', `bit ${bit}`);
      await scene.call('wait', '0');
    }
    await scene.truth('zed');
    scene.check();
    assert.deepEqual(scene.tampered(), ['bad-tag ada']);
  });

  test('a message of another channel', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const other = await ReferenceClient.create(bridge.url, 'ada');
    await other.say('in another channel');
    const { nonce, ciphertext, tag } = other.outbox.at(-1)?.sealed ?? assert.fail();
    const told = beforeMessage(scene, (line) => {
      const words = line.split(' ').slice(0, 4);
      return [`${words.join(' ')} * ${nonce} ${ciphertext} ${tag}`];
    });
    await scene.truth();
    assert.equal(told.lines, 1);
    scene.check();
    assert.deepEqual(scene.tampered(), ['bad-tag ada']);
  });

  test('a broadcast made a direct message, and back', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const bob = idOfBob(scene);
    onPoll(scene, (events) =>
      events.flatMap((line) =>
        isMessage(line)
          ? [
              line
                .split(' ')
                .with(4, line.split(' ')[4] === '*' ? bob : '*')
                .join(' '),
              line,
            ]
          : [line],
      ),
    );
    await scene.truth();
    scene.check();
    assert.deepEqual(scene.tampered(), ['bad-tag ada']);
  });

  test('two senders, each in the place of the other', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'carol']);
    const [ada, carol] = [scene.member('ada'), scene.member('carol')];
    onPoll(scene, (events) =>
      events.flatMap((line) => {
        const from = line.split(' ')[3];
        const other = from === ada.id ? carol.id : ada.id;
        return isMessage(line) ? [line.split(' ').with(3, other).join(' '), line] : [line];
      }),
    );
    await scene.truth('ada');
    await scene.truth('carol');
    scene.check();
    assert.deepEqual(scene.tampered().sort(), ['bad-tag ada', 'bad-tag carol']);
  });

  test('a message to somebody else given to bob', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'carol']);
    await scene.member('ada').dm('carol', 'to carol alone');
    const { nonce, ciphertext, tag } = scene.member('ada').outbox.at(-1)?.sealed ?? assert.fail();
    const carol = scene.member('carol').id;
    beforeMessage(scene, (line) =>
      [carol, idOfBob(scene), '*'].map(
        (to) => `${line.split(' ').slice(0, 4).join(' ')} ${to} ${nonce} ${ciphertext} ${tag}`,
      ),
    );
    await scene.truth();
    scene.check();
    assert.deepEqual(scene.tampered().sort(), ['bad-tag ada', 'not-for-us bridge']);
  });

  test('every message again in each answer', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const all: string[] = [];
    onPoll(scene, (events, cursor) => {
      all.push(...events.filter(isMessage));
      return [...all.map((line) => line.split(' ').with(1, String(cursor)).join(' ')), ...events, ...all];
    });
    for (let i = 0; i < 4; i++) await scene.truth();
    scene.check();
    scene.checkInbox();
    assert.deepEqual(scene.tampered(), []);
  });

  test('messages in any other order', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const ada = scene.member('ada');
    const said = ['first', 'second', 'third', 'fourth', 'fifth', 'sixth'];
    for (const [i, text] of said.entries()) await (i % 2 === 0 ? ada.say(text) : ada.dm('bob', text));
    let most = 0;
    onPoll(scene, (events, cursor) => {
      most = Math.max(most, events.filter(isMessage).length);
      return events.map((line) => line.split(' ').with(1, String(cursor)).join(' ')).reverse();
    });
    await scene.sees(/\| sixth/);
    await scene.truth();
    scene.check(said);
    assert.ok(most >= said.length, 'they came at once, and in the wrong order');
    // Broadcasts in their order, direct messages in theirs, and none of these before a broadcast that came first.
    const texts = scene.shown().map(({ text }) => text);
    const isFor = (end: number) => (text: string) => said.includes(text) && said.indexOf(text) % 2 === end;
    for (const end of [0, 1]) assert.deepEqual(texts.filter(isFor(end)), said.filter(isFor(end)));
    for (const [i, text] of said.entries())
      if (i % 2 === 1) assert.ok(texts.indexOf(said[i - 1] ?? '') < texts.indexOf(text), text);
    assert.deepEqual(scene.tampered(), []);
  });

  test('a message that is withheld for good is MISSED, and what follows is shown', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const ada = scene.member('ada');
    await ada.say('swallowed');
    const nonce = ada.outbox.at(-1)?.sealed.nonce ?? assert.fail();
    onPoll(scene, (events) => events.filter((line) => !line.includes(nonce)));
    await ada.say('after it');
    await scene.sees(/MISSED 1 from ada/, 110);
    await scene.sees(/\| after it/);
    await scene.truth();
    scene.check(['after it']);
    assert.doesNotMatch(scene.screen, /swallowed/);
  });

  test('a tail that is withheld shows when its sender next speaks', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'zed']);
    const ada = scene.member('ada');
    await ada.say('swallowed');
    const nonce = ada.outbox.at(-1)?.sealed.nonce ?? assert.fail();
    onPoll(scene, (events) => events.filter((line) => !line.includes(nonce)));
    await scene.truth('zed');
    const asked = () => ada.log.filter((each) => each.type === 'message' && each.message.kind === 'seen').length;
    const before = asked();
    await ada.dm('bob', 'to bob, after it'); // which says how far the broadcasts go
    await scene.truth('zed');
    await ada.until(() => asked() > before);
    scene.check();
  });

  test('the events of an older epoch, spliced into a new one', async (t) => {
    const own = new Bridge([]);
    await own.start();
    t.after(() => own.kill());
    const scene = await Scene.open(t, own.url);
    const older: string[] = [];
    onPoll(scene, (events) => {
      older.push(...events);
      return events;
    });
    await scene.truth();
    await own.kill();
    await own.start();
    await scene.sees(/RESUMED/);
    const count = older.length;
    assert.ok(count >= 2);
    onPoll(scene, (events, cursor) => [
      ...older.slice(0, count).map((line) => line.split(' ').with(1, String(cursor)).join(' ')),
      ...events,
    ]);
    await scene.truth();
    await scene.truth();
    scene.check();
    scene.checkInbox();
    assert.deepEqual(scene.tampered(), []);
  });

  test('an answer under the epoch of another time is no answer', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    lie(scene, ({ kind }, lines) =>
      kind === 'poll' ? lines.map((line) => line.replace(/^(cursor \d+) .*/, `$1 ${hex(16)}`)) : lines,
    );
    await scene.member('ada').say('under no epoch of ours');
    await scene.call('wait', '1');
    assert.doesNotMatch(scene.screen, /under no epoch/);
    scene.honest();
    await scene.sees(/\| under no epoch/);
    await scene.truth();
    scene.check(['under no epoch of ours']);
  });

  test('invented participants', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const stranger = await ReferenceClient.create(bridge.url, 'ada'); // a genuine card, of another channel
    const joined = await stranger.request<{
      participants: { card: { nonce: string; ciphertext: string; tag: string } }[];
    }>('GET', `?participant_id=${stranger.id}`, { bearer: stranger.token });
    const card = joined.participants[0]?.card ?? assert.fail();
    const sealed = `${card.nonce} ${card.ciphertext} ${card.tag}`;
    const ids = [hex(16), scene.member('ada').id, stranger.id];
    lie(scene, ({ kind }, lines) => {
      if (kind === 'poll') {
        const cursor = /^cursor (\d+)/.exec(lines.at(-2) ?? '')?.[1];
        return [...ids.map((id) => `join ${cursor} 1 ${id} ${sealed}`), ...lines];
      }
      const people = ids.map((id) => `participant ${id} listening 0 0 ${sealed}`);
      return kind === 'join' || kind === 'status' ? [...people, ...lines] : lines;
    });
    await scene.truth();
    assert.equal((await scene.call('who')).match(/^agentalk: ada /gm)?.length ?? 0, 2, 'whom it knows, and no other');
    const output = await guest(scene);
    assert.match(output, /In the channel: (ada bob|bob ada)\./);
    assert.match(output, /TAMPERED card-/);
    scene.check();
    const causes = ids.map((id) => `card-bad-tag ${id.slice(0, 8)}`);
    assert.ok(scene.tampered().length > 0);
    for (const cause of scene.tampered()) assert.ok(causes.includes(cause), cause);
    assert.doesNotMatch(scene.screen, /^agentalk: (JOINED|KEYS)/m);
  });

  test('invented leaves, absences and gaps take nothing away from what is genuine', async (t) => {
    const scene = await Scene.open(t, bridge.url, ['ada', 'zed']);
    const ids = [scene.member('ada').id, scene.member('zed').id, idOfBob(scene), hex(16), '*', '-'];
    for (const word of ['away', 'back', 'leave', 'gap']) {
      for (const id of word === 'gap' ? ['-'] : ids) {
        onPoll(scene, (events, cursor) => [
          word === 'gap' ? `gap 0 ${cursor}` : `${word} ${cursor} 1 ${id} expired`,
          ...events,
        ]);
        await scene.truth(id === ids[0] ? 'zed' : 'ada');
      }
    }
    for (const told of ['AWAY ada', 'BACK ada', 'LEFT ada', 'LEFT zed', 'GAP'])
      assert.match(scene.screen, new RegExp(told));
    await scene.truth('zed');
    scene.check();
    assert.deepEqual(scene.tampered(), []);
  });

  test('presence that changes without end fills neither the screen nor the disk', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const { id } = scene.member('ada');
    lie(scene, ({ kind }, lines) => {
      const [, cursor = '', rest] = /^cursor (\d+) (.*)/.exec(lines.at(-2) ?? '') ?? [];
      if (kind !== 'poll' || rest === undefined) return lines;
      const flips = Array.from(
        { length: 5000 },
        (_, i) => `${i % 2 ? 'back' : 'away'} ${Number(cursor) + i + 1} 1 ${id}`,
      );
      return [...lines.slice(0, -2), ...flips, `cursor ${Number(cursor) + 5000} ${rest}`, ''];
    });
    assert.ok((await scene.call('wait', '1')).length < 21_000);
    scene.honest();
    await scene.truth();
    scene.check();
  });

  test('an event beyond the end of its answer', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const { id } = scene.member('ada');
    onPoll(scene, (events, cursor) => [`leave ${cursor + 1000} 1 ${id} left`, ...events]);
    await scene.truth();
    scene.honest();
    await scene.truth();
    scene.check();
    assert.doesNotMatch(scene.screen, /LEFT ada/);
    assert.deepEqual(scene.tampered(), ['malformed-answer bridge']);
  });

  test('events that nobody knows, told once', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    onPoll(scene, (events, cursor) => [
      ...['explode', 'MESSAGE', 'joined', 'cursor', 'error', 'hint', '-', '*', 'message', 'join'].map(
        (word) => `${word} ${cursor} 1 ${hex(16)}`,
      ),
      ...events,
    ]);
    await scene.truth();
    await scene.truth();
    scene.check();
    assert.ok(scene.tampered().includes('malformed-answer bridge'), scene.tampered().join());
  });

  test('100,000 lines of nothing', async (t) => {
    const scene = await Scene.open(t, bridge.url);
    const junk = Array.from({ length: 100_000 }, (_, i) => (i % 3 === 0 ? 'x' : `${i} -${i}`));
    lie(scene, (_, lines) => [...junk, ...lines]);
    await scene.member('ada').say('among them');
    for (let i = 0; i < 2; i++) await scene.call('wait', '1');
    await scene.callWith('said among them', 'say');
    await scene.call('who');
    scene.honest();
    await scene.sees(/\| among them/);
    await scene.truth();
    scene.check(['among them']);
    assert.deepEqual(scene.tampered(), ['malformed-answer bridge']);
    assert.ok(readdirSync(join(scene.folder, 'log')).length < 200, 'the log stays small');
    assert.ok(!existsSync(join(scene.home, 'x')));
  });
});
