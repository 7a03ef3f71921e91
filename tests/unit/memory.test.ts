/** Whose memory is given up for whom: the rule by itself, with items that are nothing but their size. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError } from '../../bridge/errors.ts';
import { Memory } from '../../bridge/memory.ts';
import type { Item, Owner } from '../../bridge/memory.ts';

const ITEM_BYTES = 1000;

/** An item of an owner, younger than all that are there. */
class TestItem implements Item {
  static last = 0;
  readonly at = ++TestItem.last;
  older: Item | undefined;
  newer: Item | undefined;
  isThere = true;

  constructor(
    readonly memory: Memory,
    readonly owner: Owner,
  ) {
    owner.events.add(this);
  }

  evict(): void {
    assert.ok(this.isThere, 'given up once');
    this.isThere = false;
    this.owner.events.remove(this);
    this.memory.add(this.owner, -ITEM_BYTES);
  }
}

/** Stores items until there are so many of this address more, or one is refused. */
function store(memory: Memory, address: string, count: number): TestItem[] {
  const items: TestItem[] = [];
  try {
    for (let n = 0; n < count; n++) {
      const owner = memory.owner(address);
      memory.reserve(owner, ITEM_BYTES);
      items.push(new TestItem(memory, owner));
    }
  } catch (error) {
    assert.ok(error instanceof ApiError && error.code === 'bridge_full');
  }
  return items;
}

const held = (memory: Memory, address: string) => memory.owner(address).bytes / ITEM_BYTES;

test('of several, the one that has most gives, its oldest first, until the asker has half as much', () => {
  const memory = new Memory(100 * ITEM_BYTES);
  const first = store(memory, 'first', 50);
  const second = store(memory, 'second', 40);
  const small = store(memory, 'small', 10);
  store(memory, 'newcomer', 5);
  assert.deepEqual([held(memory, 'first'), held(memory, 'second')], [45, 40]);
  assert.deepEqual(
    first.map(({ isThere }) => isThere),
    [...Array<boolean>(5).fill(false), ...Array<boolean>(45).fill(true)],
  );
  store(memory, 'newcomer', 100);
  const [a, b, c] = ['first', 'second', 'newcomer'].map((address) => held(memory, address));
  assert.ok(a !== undefined && b !== undefined && c !== undefined);
  assert.ok(Math.abs(a - b) <= a / 8 + 1 && c >= a / 2 - 1 && c <= a / 2 + 3, `${a} ${b} ${c}`);
  assert.ok(small.every(({ isThere }) => isThere) && second.at(-1)?.isThere);
  assert.equal(memory.bytes, 100 * ITEM_BYTES);
});

test('when the largest has given back most of what it had, the next one is known', () => {
  const memory = new Memory(100 * ITEM_BYTES);
  const first = store(memory, 'first', 60);
  store(memory, 'second', 40);
  for (const item of first.slice(0, 55)) item.evict();
  store(memory, 'third', 20);
  store(memory, 'fourth', 35);
  assert.equal(store(memory, 'newcomer', 10).length, 10);
  assert.deepEqual([held(memory, 'first'), held(memory, 'third')], [5, 20], 'smaller ones give nothing');
  assert.equal(held(memory, 'second') + held(memory, 'fourth'), 65);
  assert.ok(held(memory, 'second') <= 35, 'the one that has most gives first');
});

test('an owner that has nothing is forgotten', () => {
  const memory = new Memory(100 * ITEM_BYTES);
  for (let n = 0; n < 1000; n++) store(memory, `owner ${n}`, 1).forEach((item) => item.evict());
  assert.deepEqual([memory.owners, memory.bytes], [0, 0]);
});
