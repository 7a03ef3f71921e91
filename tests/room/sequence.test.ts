/** One counter of another session's content: order, repeats, and when what is missing is given up. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { Counter, MAX_BUFFERED, MISSING_TIMEOUT_MS } from '../../sdk/room/sequence.ts';

const MINUTE = MISSING_TIMEOUT_MS;
const digest = (seq: number) => createHash('sha256').update(String(seq)).digest('hex');

/** A counter to which these numbers came, one each second. */
function counterWith(...numbers: number[]): Counter<string> {
  const counter = new Counter<string>();
  for (const [i, seq] of numbers.entries()) counter.add(seq, digest(seq), `message ${seq}`, i * 1000);
  return counter;
}

function deliverAll(counter: Counter<string>): string[] {
  const delivered: string[] = [];
  for (let item = counter.peek(); item !== undefined; item = counter.peek()) {
    counter.advance();
    delivered.push(item);
  }
  return delivered;
}

test('delivers in order whatever the order of arrival', () => {
  const counter = counterWith(3, 1, 2, 5);
  assert.deepEqual(deliverAll(counter), ['message 1', 'message 2', 'message 3']);
  assert.deepEqual(counter.missing(), [{ from: 4, to: 4 }]);
  assert.equal(counter.isComplete, false);
});

test('tells a repeat from another message under its number', () => {
  const counter = counterWith(1, 2);
  deliverAll(counter);
  assert.equal(counter.verdict(1, digest(1)), 'duplicate');
  assert.equal(counter.verdict(1, digest(9)), 'changed');
  assert.equal(counter.verdict(3, digest(3)), 'new');
});

test('drops a repeat that is older than all digests, whatever it is', () => {
  const counter = new Counter<string>();
  for (let seq = 1; seq <= 5000; seq++) {
    counter.add(seq, digest(seq), '', 0);
    counter.advance();
  }
  assert.equal(counter.verdict(1, digest(9)), 'duplicate');
  assert.equal(counter.verdict(5000, digest(9)), 'changed');
  assert.equal(counter.verdict(5000 - 4095, digest(9)), 'changed', 'the last 4,096 are known');
  assert.ok(counter.digests.size < 4400);
});

test('gives up 60 s after the message that follows what is missing', () => {
  const counter = counterWith(1, 3);
  deliverAll(counter);
  assert.deepEqual(counter.due(1000 + MINUTE - 1), []);
  assert.deepEqual(counter.due(1000 + MINUTE), [{ from: 2, to: 2 }]);
});

test('gives up 60 s after a number was named, each at its own time', () => {
  const counter = counterWith(1);
  deliverAll(counter);
  counter.name(3, 5000);
  counter.name(7, 9000);
  assert.deepEqual(counter.due(5000 + MINUTE - 1), []);
  assert.deepEqual(counter.due(5000 + MINUTE), [{ from: 2, to: 3 }]);
  assert.deepEqual(counter.due(9000 + MINUTE), [{ from: 2, to: 7 }]);
});

test('waits 60 s more when one of the missing comes', () => {
  const counter = counterWith(1, 5);
  deliverAll(counter);
  counter.add(3, digest(3), 'message 3', 50_000);
  assert.deepEqual(counter.due(1000 + MINUTE), []);
  assert.deepEqual(counter.due(50_000 + MINUTE), [
    { from: 2, to: 2 },
    { from: 4, to: 4 },
  ]);
});

test('a new message that is not missing does not prolong the wait', () => {
  const counter = counterWith(1, 3);
  deliverAll(counter);
  counter.add(4, digest(4), 'message 4', 50_000);
  assert.deepEqual(counter.due(1000 + MINUTE), [{ from: 2, to: 2 }]);
});

test('what was given up is passed over, counted, and late if it comes after all, once', () => {
  const counter = counterWith(1, 4);
  deliverAll(counter);
  counter.skip([{ from: 2, to: 3 }]);
  assert.deepEqual(deliverAll(counter), ['message 4']);
  assert.equal(counter.skippedFrom(1), 2);
  assert.equal(counter.skippedFrom(3), 1);
  assert.equal(counter.verdict(2, digest(2)), 'late');
  counter.addLate(2, digest(2));
  assert.equal(counter.verdict(2, digest(2)), 'duplicate');
  assert.equal(counter.verdict(2, digest(9)), 'changed');
  assert.equal(counter.skippedFrom(1), 2, 'what was given up stays counted');
  assert.equal(counter.verdict(3, digest(3)), 'late');
});

test('what was given up beyond a hole is passed over once the hole is filled', () => {
  const counter = counterWith(1, 3, 6);
  deliverAll(counter);
  counter.skip([{ from: 4, to: 5 }]);
  assert.equal(counter.processed, 1);
  counter.add(2, digest(2), 'message 2', 9000);
  assert.deepEqual(deliverAll(counter), ['message 2', 'message 3', 'message 6']);
});

test('ranges of any size cost nothing', () => {
  const counter = new Counter<string>();
  const huge = 999_999_999_999_999;
  counter.add(huge, digest(1), 'the last', 0);
  assert.deepEqual(counter.due(MINUTE), [{ from: 1, to: huge - 1 }]);
  counter.skip(counter.due(MINUTE));
  assert.deepEqual(deliverAll(counter), ['the last']);
  assert.equal(counter.skippedFrom(1), huge - 1);
  for (let i = 1; i < 2000; i++) counter.skip([{ from: i * 10, to: i * 10 }]);
  for (let i = 1; i < 200; i++) counter.name(huge + i, i);
  assert.ok(counter.skipped.length <= 256);
});

test('of too many out of order what lies beyond is not taken, but what is next always is', () => {
  const counter = new Counter<string>();
  for (let i = 0; i < MAX_BUFFERED; i++) counter.add(i + 2, digest(i + 2), '', 0);
  assert.equal(counter.verdict(MAX_BUFFERED + 2, digest(0)), 'beyond');
  assert.equal(counter.verdict(1, digest(1)), 'new');
});

test('says how far it has stored without a gap', () => {
  const counter = counterWith(1, 2, 3, 5);
  assert.equal(counter.stored, 3);
  deliverAll(counter);
  assert.equal(counter.stored, 3);
});

test('after it was stored and restored it is the same, and waits for what is missing once more', () => {
  const counter = counterWith(1, 2, 9);
  deliverAll(counter);
  counter.skip([{ from: 3, to: 4 }]);
  counter.name(12, 0);
  const restored = Counter.restore<string>(JSON.parse(JSON.stringify(counter.toFields())), 1_000_000);
  assert.equal(restored.processed, 4);
  assert.deepEqual(restored.due(1_000_000 + MINUTE - 1), []);
  assert.deepEqual(restored.due(1_000_000 + MINUTE), [{ from: 5, to: 12 }]);
  assert.equal(restored.verdict(3, digest(3)), 'late');
});
