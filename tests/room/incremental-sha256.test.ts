/** SHA-256 in steps: known answers, and the same as Node's for every length and cut. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { IncrementalSha256 } from '../../sdk/room/incremental-sha256.ts';

const hash = (...parts: readonly Uint8Array[]): string => {
  const sha256 = new IncrementalSha256();
  for (const part of parts) sha256.update(part);
  return sha256.digest();
};

test('known answers of FIPS 180-4', () => {
  const answers = {
    '': 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    abc: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq:
      '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
  };
  for (const [text, answer] of Object.entries(answers)) assert.equal(hash(Buffer.from(text)), answer);
});

test('every length around the blocks, in every two parts', () => {
  for (let length = 0; length <= 130; length++) {
    const bytes = randomBytes(length);
    const expected = createHash('sha256').update(bytes).digest('hex');
    for (let cut = 0; cut <= length; cut++) assert.equal(hash(bytes.subarray(0, cut), bytes.subarray(cut)), expected);
  }
});

test('a megabyte in pieces of odd lengths', () => {
  const bytes = randomBytes(1 << 20);
  const parts: Uint8Array[] = [];
  for (let at = 0, i = 1; at < bytes.length; at += i++ * 37) parts.push(bytes.subarray(at, at + i * 37));
  assert.equal(hash(...parts), createHash('sha256').update(bytes).digest('hex'));
});
