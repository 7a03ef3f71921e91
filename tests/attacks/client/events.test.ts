/**
 * A bridge that changes, moves, repeats, withholds, delays and invents events: nothing of that is shown as said, and what
 * is not here is told. Between bob and the real bridge stands one that rewrites each answer; the members' way is honest.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startBridge } from '../../lib/bridge.ts';
import type { TestBridge } from '../../lib/bridge.ts';
import { until } from '../../lib/shell.ts';
import {
  AttackFixture,
  MISSING_SECONDS,
  NEXT,
  insertOnce,
  isMessage,
  joinLine,
  messageLine,
  rewriteEvents,
} from './fixture.ts';
import { Member } from './member.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const open = (t: Parameters<typeof AttackFixture.open>[0], names = ['ada']) => AttackFixture.open(t, bridge.url, names);
const words = (line: string) => line.split(' ');
/** A message event with one of its words changed. */
const changed = (line: string, at: number, value: string) => words(line).with(at, value).with(1, NEXT).join(' ');
/** Removes the message with this nonce from all that bob is given. */
const withhold = (fixture: AttackFixture, ...nonces: readonly string[]) =>
  rewriteEvents(fixture, (events) => events.filter((line) => !nonces.some((nonce) => line.includes(nonce))));

describe('an event that was changed', { concurrency: 3 }, () => {
  for (const [field, at] of [
    ['nonce', 5],
    ['ciphertext', 6],
    ['tag', 7],
  ] as const)
    test(`in any bit of its ${field} is not shown`, async (t) => {
      const fixture = await open(t);
      const bends = (line: string) => {
        const value = words(line)[at] ?? '';
        const form = field === 'ciphertext' ? 'base64' : 'hex';
        const bytes = Buffer.from(value, form);
        return Array.from({ length: 8 }, (_, i) => {
          const bit = Math.floor((i * (bytes.length * 8 - 1)) / 7);
          const copy = Buffer.from(bytes);
          copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7));
          return changed(line, at, copy.toString(form));
        });
      };
      rewriteEvents(fixture, (events) => events.flatMap((line) => (isMessage(line) ? [...bends(line), line] : [line])));
      let bent = 0;
      const rewrite = fixture.rewrite;
      fixture.rewrite = (lines, asked) => {
        const changed = rewrite(lines, asked);
        bent += changed.length - lines.length;
        return changed;
      };
      await fixture.sendMarker();
      fixture.check();
      assert.deepEqual(fixture.tampered(), ['auth-failed ada']);
      const counts = [...(await fixture.call('who')).matchAll(/^agentalk: (\d+) (?:times something|messages could)/gm)];
      assert.deepEqual([bent, counts.reduce((sum, [, count]) => sum + Number(count), 0)], [16, 16]);
    });

  test('in its form is rejected: upper case, other lengths, other base64, nothing', async (t) => {
    const fixture = await open(t);
    insertOnce(fixture, (line) => {
      const [, , , , , nonce = '', ciphertext = '', tag = ''] = words(line);
      return [
        ...[nonce.toUpperCase().replace(/^\d*$/, 'A'.repeat(24)), nonce.slice(2), `${nonce}00`, '-'].map((value) =>
          changed(line, 5, value),
        ),
        ...[`${ciphertext}=`, ciphertext.slice(0, -1), `${ciphertext.slice(0, -4)}AB==`, '=', '-', '*'].map((value) =>
          changed(line, 6, value),
        ),
        ...[`${tag}00`, tag.slice(2), `${tag.slice(0, -1)}g`, '-'].map((value) => changed(line, 7, value)),
      ];
    });
    await fixture.sendMarker();
    fixture.check();
    for (const cause of fixture.tampered())
      assert.match(cause, /^(bad-nonce|bad-base64|bad-tag-format|auth-failed) ada$/);
  });
});

describe('an event at another place', { concurrency: 3 }, () => {
  test('of another sender, recipient, type or channel proves nothing', async (t) => {
    const fixture = await open(t, ['ada', 'carol']);
    const [ada, carol] = [fixture.member('ada'), fixture.member('carol')];
    const bob = ada.peer('bob').participantId;
    const other = await Member.create(bridge.url, 'ada');
    t.after(() => other.stop());
    const foreign = await other.say('in another channel');
    const private_ = await ada.dm('carol', 'to carol alone');
    const direct = await ada.dm('bob', 'to bob');
    const all = await ada.say('to all');
    const card = await ada.say('as a card', { type: 'card', isCounted: false });
    await fixture.waitForEntry(/\| to all/);
    await fixture.waitForEntry(/\| to bob/);
    insertOnce(fixture, () => [
      messageLine(ada.id, '*', foreign.sealed),
      messageLine(other.id, '*', foreign.sealed),
      ...['*', bob, carol.id].map((to) => messageLine(ada.id, to, private_.sealed)),
      messageLine(ada.id, '*', direct.sealed),
      messageLine(carol.id, bob, direct.sealed),
      messageLine(ada.id, bob, all.sealed),
      messageLine(carol.id, '*', all.sealed),
      messageLine(ada.id, '*', ada.card),
      messageLine(ada.id, bob, ada.card),
      joinLine(ada.id, all.sealed),
      joinLine(ada.id, card.sealed),
      joinLine(carol.id, ada.card),
      joinLine(ada.id, carol.card),
    ]);
    await fixture.sendMarker();
    await fixture.sendMarker('carol');
    fixture.check(['to all', 'to bob']);
    assert.doesNotMatch(fixture.screen, /carol alone|another channel|as a card/);
    for (const cause of fixture.tampered())
      assert.match(
        cause,
        /^(auth-failed (ada|carol)|card-[a-z-]+ (ada|carol|bridge)|not-for-us bridge|bad-signature (ada|carol))$/,
      );
    assert.equal(fixture.count('NEW'), 0);
  });

  test('again in each answer, with the same index or a new one, is shown once', async (t) => {
    const fixture = await open(t);
    const all: string[] = [];
    rewriteEvents(fixture, (events) => {
      const again = [...all, ...events.filter(isMessage), ...all].map((line) => words(line).with(1, NEXT).join(' '));
      all.push(...events.filter(isMessage));
      return [...again, ...events, ...events];
    });
    for (let i = 0; i < 4; i++) await fixture.sendMarker();
    fixture.check();
    fixture.checkInbox();
    assert.deepEqual(fixture.tampered(), []);
  });

  test('of other messages of its sender: shown in the order in which it was said', async (t) => {
    const fixture = await open(t);
    const ada = fixture.member('ada');
    const said = ['first', 'second', 'third', 'fourth', 'fifth', 'sixth'];
    for (const [i, text] of said.entries()) await (i % 2 === 0 ? ada.say(text) : ada.dm('bob', text));
    rewriteEvents(fixture, (events) => events.map((line) => words(line).with(1, NEXT).join(' ')).reverse());
    await fixture.waitForEntry(/\| sixth/);
    fixture.check(said);
    const texts = fixture.texts();
    for (const end of [0, 1]) {
      const own = said.filter((_, i) => i % 2 === end);
      assert.deepEqual(
        texts.filter((text) => own.includes(text)),
        own,
      );
    }
    for (const [i, text] of said.entries())
      if (i % 2 === 1) assert.ok(texts.indexOf(said[i - 1] ?? '') < texts.indexOf(text), text);
    assert.deepEqual(fixture.tampered(), []);
  });

  test('before the question that it answers: the mark says what its writer had read', async (t) => {
    const fixture = await open(t, ['ada', 'carol']);
    const [ada, carol] = [fixture.member('ada'), fixture.member('carol')];
    await ada.say('shall I delete it?');
    await carol.waitForOutput('shall I delete it?');
    await carol.say('yes');
    await ada.say('shall I keep it?');
    // The bridge holds back the first question until after the answer: carol has read what is not here yet.
    const [first] = ada.outbox.filter(({ frame }) => Buffer.from(frame).includes('delete'));
    let held: string | undefined;
    rewriteEvents(fixture, (events) => {
      held ??= events.find((line) => line.includes(first?.sealed.nonce ?? '-'));
      const isAnswered = events.some((line) => words(line)[3] === carol.id && isMessage(line));
      const rest = events.filter((line) => line !== held);
      return isAnswered && held !== undefined ? [...rest, changed(held, 0, 'message')] : rest;
    });
    await fixture.waitForEntry(/\| shall I keep it/);
    const answer = fixture.shown().find(({ text }) => text === 'yes');
    assert.match(answer?.notes ?? '', /has read words of ada that are not here/);
    fixture.check(['shall I delete it?', 'yes', 'shall I keep it?']);
  });

  test('behind a question that its writer had not read: the mark says so', async (t) => {
    const fixture = await open(t, ['ada', 'carol']);
    const [ada, carol] = [fixture.member('ada'), fixture.member('carol')];
    await ada.say('shall I keep it?');
    await carol.waitForOutput('shall I keep it?');
    const answer = await carol.sealMessage('*', 'text', { body: 'yes' });
    await ada.say('shall I delete it?');
    await carol.waitForOutput('shall I delete it?');
    await carol.post('*', answer.sealed);
    await fixture.waitForEntry(/\| yes/);
    assert.match(fixture.shown().find(({ text }) => text === 'yes')?.notes ?? '', /had not read the last 1 of ada/);
    fixture.check(['shall I keep it?', 'yes', 'shall I delete it?']);
  });
});

describe('what is withheld', { concurrency: 3 }, () => {
  test('right after bob joined is missing, asked for and told', async (t) => {
    const fixture = await open(t);
    const ada = fixture.member('ada');
    const first = await ada.say('the first words after joining');
    const second = await ada.say('the second');
    withhold(fixture, first.sealed.nonce, second.sealed.nonce);
    await ada.say('the third');
    await fixture.waitForEntry(/MISSED 2 from ada/, MISSING_SECONDS + 20);
    await fixture.waitForEntry(/\| the third/);
    assert.ok(ada.controls('sync', 'bob').length >= 2, 'it was asked for');
    fixture.check(['the third']);
  });

  test('by one message is told though its sender goes on talking all the time', async (t) => {
    const fixture = await open(t);
    const ada = fixture.member('ada');
    const lost = await ada.say('withheld');
    withhold(fixture, lost.sealed.nonce);
    const said: string[] = [];
    const end = Date.now() + (MISSING_SECONDS + 8) * 1000;
    while (Date.now() < end && !fixture.screen.includes('MISSED')) {
      said.push(`still talking ${said.length}`);
      await ada.say(said.at(-1) ?? '');
      await fixture.call('wait', '1');
    }
    assert.equal(fixture.count('MISSED 1 from ada'), 1);
    assert.ok(fixture.texts().length >= said.length - 1);
    fixture.check(said);
  });

  test('while its sender asks again and again: what bob owes it is stored, and his next calls work', async (t) => {
    const fixture = await open(t);
    const ada = fixture.member('ada');
    const lost = await ada.say('withheld');
    withhold(fixture, lost.sealed.nonce);
    const said: string[] = [];
    for (let i = 0; i < 12; i++) {
      await ada.control('bob', 'sync');
      said.push(`words ${i}`);
      await ada.say(said.at(-1) ?? '');
      await fixture.call('wait', '0');
    }
    await fixture.waitForEntry(/MISSED 1 from ada/, MISSING_SECONDS + 20);
    fixture.check(said);
  });

  test('at the end shows in the next direct message, and by a sync', async (t) => {
    const fixture = await open(t, ['ada', 'zed']);
    const ada = fixture.member('ada');
    const [all, direct] = [await ada.say('withheld'), await ada.dm('bob', 'withheld from bob')];
    withhold(fixture, all.sealed.nonce, direct.sealed.nonce);
    await fixture.sendMarker('zed');
    await ada.control('bob', 'sync');
    await fixture.waitForEntry(/MISSED 1 from ada/, MISSING_SECONDS + 20);
    await until('both', async () => {
      await fixture.call('wait', '1');
      return fixture.count('MISSED 1 from ada') === 2;
    });
    await fixture.sendMarker('ada');
    fixture.check();
  });

  test('for a while is shown once, as late, and is confirmed only then', async (t) => {
    const fixture = await open(t);
    const ada = fixture.member('ada');
    const late = await ada.say('delayed');
    withhold(fixture, late.sealed.nonce);
    await ada.say('on time');
    await fixture.waitForEntry(/MISSED 1 from ada/, MISSING_SECONDS + 20);
    insertOnce(fixture, () => [late, late].map(({ sealed }) => messageLine(ada.id, '*', sealed)));
    await fixture.sendMarker();
    assert.match(fixture.shown().find(({ text }) => text === 'delayed')?.notes ?? '', /late/);
    fixture.check(['delayed', 'on time']);
  });

  test('of one speaker holds up no other', async (t) => {
    const fixture = await open(t, ['ada', 'carol']);
    const lost = await fixture.member('ada').say('withheld');
    withhold(fixture, lost.sealed.nonce);
    await fixture.member('ada').say('waits');
    const began = Date.now();
    await fixture.sendMarker('carol');
    assert.ok(Date.now() - began < 4000, `${Date.now() - began} ms`);
    fixture.check(['waits']);
  });
});

describe('what is invented', { concurrency: 3 }, () => {
  test('leaves, absences and gaps are told as the bridge’s word, and take nothing away', async (t) => {
    const fixture = await open(t, ['ada', 'zed']);
    const ids = [
      fixture.member('ada').id,
      fixture.member('zed').id,
      fixture.member('ada').peer('bob').participantId,
      'ab'.repeat(16),
      '*',
    ];
    for (const word of ['away', 'back', 'leave'])
      for (const id of ids) {
        insertOnce(fixture, () => [`${word} ${NEXT} 1 ${id} expired`]);
        await fixture.sendMarker(id === ids[0] ? 'zed' : 'ada');
      }
    assert.match(fixture.screen, /LEFT ada: /);
    assert.doesNotMatch(fixture.screen, /it has said goodbye/);
    await fixture.sendMarker('zed');
    await fixture.call('dm', 'zed', 'to zed');
    await fixture.member('zed').waitForOutput('to zed');
    fixture.check();
    assert.deepEqual(fixture.tampered(), []);
  });

  test('an older session: its card and its words, replayed, are shown as not PAIRED and with their time', async (t) => {
    const fixture = await open(t, ['carol']);
    // Bob has not heard of the first ada while she was there.
    fixture.rewrite = (lines, { kind }) => (kind === 'poll' ? lines.filter((line) => /^cursor |^$/.test(line)) : lines);
    const first = await fixture.enter('ada');
    const time = String(Date.now() - 86_400_000);
    const old = await first.say('deploy now', { headers: { time }, isCounted: true });
    await first.leave();
    await fixture.call('wait', '1');
    insertOnce(fixture, () => [joinLine(first.id, first.card), messageLine(first.id, '*', old.sealed)]);
    await fixture.sendMarker('carol');
    const shown = fixture.shown().find(({ text }) => text === 'deploy now');
    assert.match(shown?.notes ?? '', /not PAIRED/);
    assert.match(fixture.screen, /#\d+ from ada to all, \d+ bytes, said \d{4}-\d\d-\d\d \d\d:\d\d UTC, came /);
    assert.equal(fixture.count('PAIRED with ada'), 0);
    fixture.check(['deploy now']);
  });

  test('an older session that was PAIRED: its card, replayed, brings it back neither as JOINED nor for direct messages', async (t) => {
    const fixture = await open(t, ['ada', 'carol']);
    const first = fixture.member('ada');
    const second = await fixture.enter('ada', { token: first.token });
    await fixture.waitForEntry(/PAIRED with ada~2/);
    insertOnce(fixture, () => [joinLine(first.id, first.card)]);
    await fixture.sendMarker('carol');
    const { id, card } = first;
    const participant = `participant ${id} listening 0 0 ${card.nonce} ${card.ciphertext} ${card.tag}`;
    fixture.rewrite = (lines, { kind }) =>
      kind === 'status' ? [participant, ...lines.filter((line) => !line.startsWith(`participant ${id} `))] : lines;
    await fixture.call('who');
    await fixture.call('dm', 'ada', 'to the living');
    await second.waitForOutput('to the living');
    assert.equal(fixture.count('JOINED ada.'), 0);
    fixture.honest();
    await fixture.sendMarker('carol');
    fixture.check();
  });

  test('a session that has said goodbye stays LEFT though the bridge lists it again', async (t) => {
    const fixture = await open(t, ['ada', 'carol']);
    const carol = fixture.member('carol');
    const card = carol.card;
    await carol.leave();
    await fixture.waitForEntry(/LEFT carol: it has said goodbye/);
    insertOnce(fixture, () => [joinLine(carol.id, card)]);
    await fixture.sendMarker();
    const result = await fixture.start(['dm', 'carol', 'x']).ended;
    assert.match(result.stderr, /carol has left/);
    // After a gap bob reads who is there.
    let isTold = false;
    fixture.rewrite = (lines, { kind }) => {
      const participant = `participant ${carol.id} listening 0 0 ${card.nonce} ${card.ciphertext} ${card.tag}`;
      if (kind === 'status') return [participant, ...lines];
      if (kind !== 'poll' || isTold || !lines.some(isMessage)) return lines;
      isTold = true;
      return [`gap 0 ${words(lines[0] ?? '')[1]}`, ...lines.slice(1)];
    };
    await fixture.member('ada').say('lost in the gap');
    await fixture.call('wait', '1');
    assert.ok(isTold);
    await fixture.call('who');
    fixture.honest();
    assert.match((await fixture.start(['dm', 'carol', 'x']).ended).stderr, /carol has left/);
    fixture.check();
  });

  test('events that no client knows, and words behind the known ones, are ignored', async (t) => {
    const fixture = await open(t);
    rewriteEvents(fixture, (events) => [
      `explode ${NEXT} 1 x`,
      'a-later-line',
      'ERROR x',
      ...events.map((line) => `${line} later words $(>ran)`),
    ]);
    await fixture.sendMarker();
    await fixture.sendMarker();
    fixture.check();
    assert.deepEqual(fixture.tampered(), []);
  });

  test('30,000 lines of nothing cost little', async (t) => {
    const fixture = await open(t);
    const junk = Array.from({ length: 30_000 }, (_, i) => (i % 3 === 0 ? 'x' : `${i} -${i}`));
    fixture.rewrite = (lines) => [...junk, ...lines];
    await fixture.member('ada').say('among them');
    for (let i = 0; i < 2; i++) await fixture.call('wait', '1');
    await fixture.call('say', 'said among them');
    await fixture.call('who');
    fixture.honest();
    await fixture.waitForEntry(/\| among them/);
    await fixture.sendMarker();
    fixture.check(['among them']);
  });
});
