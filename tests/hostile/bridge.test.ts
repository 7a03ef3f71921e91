/**
 * A bridge that lies. Between bob and the real bridge stands one that rewrites each answer; the ways of the others are honest. Whatever
 * it does: bob shows nothing that ada did not say, says what it saw, runs nothing, ends in time, and goes on with what
 * is genuine once the lying stops.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import type { Asked } from '../kit/adversary.ts';
import { checkInbox } from '../faults/reader.ts';
import { Stage, until } from '../faults/stage.ts';
import type { Session } from '../faults/stage.ts';

type Rewrite = (asked: Asked, lines: string[]) => string[];
interface Lie {
  readonly rewrite: Rewrite;
  /** What bob has to say about it. */
  readonly says?: RegExp;
}

const words = (line: string) => line.split(' ');
const isMessage = (line: string) => line.startsWith('message ');
/** Rewrites the messages of a poll's answer; `change` gets the words: message INDEX AT FROM TO NONCE CIPHERTEXT TAG. */
const messages =
  (change: (fields: string[]) => string[]): Rewrite =>
  ({ kind }, lines) =>
    kind === 'poll' ? lines.map((line) => (isMessage(line) ? change(words(line)).join(' ') : line)) : lines;
const flip = (hex: string) => (hex.startsWith('0') ? '1' : '0') + hex.slice(1);
const set = (at: number, value: string | ((before: string) => string)) => (fields: string[]) =>
  fields.map((field, i) => (i === at ? (typeof value === 'string' ? value : value(field)) : field));

const STRANGER = 'ab'.repeat(16);
const LIES: Readonly<Record<string, Lie>> = {
  'a flipped bit of a nonce': { rewrite: messages(set(5, flip)), says: /TAMPERED bad-tag/ },
  'a flipped bit of a ciphertext': {
    rewrite: messages(set(6, (text) => (text.startsWith('A') ? 'B' : 'A') + text.slice(1))),
    says: /TAMPERED bad-tag/,
  },
  'a ciphertext cut short': { rewrite: messages(set(6, (text) => text.slice(0, 8))), says: /TAMPERED bad-tag/ },
  'a ciphertext that is no base64': { rewrite: messages(set(6, '####')), says: /TAMPERED bad-base64/ },
  'a flipped bit of a tag': { rewrite: messages(set(7, flip)), says: /TAMPERED bad-tag/ },
  'another sender': { rewrite: messages(set(3, STRANGER)), says: /TAMPERED unknown-sender/ },
  'a direct message made a broadcast': { rewrite: messages(set(4, '*')), says: /TAMPERED bad-tag/ },
  'another recipient': { rewrite: messages(set(4, STRANGER)), says: /TAMPERED not-for-us/ },
  'a sender that is no id': { rewrite: messages(set(3, '$(touch${IFS}ran)')), says: /TAMPERED not-for-us/ },
  'fields left out': { rewrite: messages((fields) => fields.slice(0, 4)), says: /TAMPERED/ },
  'a cursor that goes back': {
    rewrite: ({ kind }, lines) =>
      kind === 'poll' ? lines.map((line) => line.replace(/^cursor \d+/, 'cursor 0')) : lines,
  },
  'a cursor beyond all numbers': {
    rewrite: ({ kind }, lines) =>
      kind === 'poll' ? lines.map((line) => line.replace(/^cursor \d+/, `cursor ${'9'.repeat(40)}`)) : lines,
  },
  'no cursor at all': { rewrite: ({ kind }, lines) => (kind === 'poll' ? lines.slice(0, -2) : lines) },
  'an answer of 40 MB': { rewrite: ({ kind }, lines) => (kind === 'poll' ? ['x'.repeat(40 << 20)] : lines) },
};

async function cast(t: TestContext) {
  const stage = new Stage('hostile');
  t.after(() => stage.close());
  const bridge = await stage.bridge();
  const adversary = await stage.adversary(bridge);
  const urlFor = (name: string) => (name === 'bob' ? adversary.urlFor(name) : bridge.url);
  const [ada, bob, cyd] = (await stage.cast(['ada', 'bob', 'cyd'], urlFor)) as [Session, Session, Session];
  return { stage, adversary, ada, bob, cyd };
}

describe('a hostile bridge', { concurrency: 4 }, () => {
  for (const [name, { rewrite, says }] of Object.entries(LIES)) {
    test(name, async (t) => {
      const { stage, adversary, ada, bob, cyd } = await cast(t);
      adversary.rewrite = (asked, body) =>
        Buffer.from(rewrite(asked, body.toString('latin1').split('\n')).join('\n'), 'latin1');
      await ada.say('to all');
      await ada.dm('bob', 'to bob alone');
      let output = '';
      for (let i = 0; i < 3; i++) output += await bob.run(['wait', '1'], '', null);
      output += await bob.run(['say'], 'lied to', null);
      if (says) assert.match(output, says);
      adversary.rewrite = (_, body) => body;
      await cyd.say('the truth');
      await until('the truth', 30, async () => {
        output += await bob.run(['wait', '1'], '', null);
        return /\| the truth/.test(output) || undefined;
      });
      for (const line of output.split('\n'))
        assert.match(line, /^(agentalk: [ -~]*| {2}\| (to all|to bob alone|the truth))?$/);
      const causes = output.match(/TAMPERED \S+: something under the name of \S+/g) ?? [];
      assert.equal(new Set(causes).size, causes.length, 'each cause once');
      const heard = checkInbox(bob.folder).filter(({ type }) => type === 'msg');
      const bodies = heard.map(({ body }) => body?.toString());
      const isGenuine = [['to all', 'to bob alone'], ['to all'], []].some((came) =>
        isDeepStrictEqual(bodies, [...came, 'the truth']),
      );
      assert.ok(isGenuine, bodies.join());
      for (const folder of [stage.folder, bob.home, bob.folder, process.cwd()])
        assert.ok(!existsSync(join(folder, 'ran')));
      assert.ok(readdirSync(join(bob.folder, 'log')).length < 200, 'the log stays small');
    });
  }
});
