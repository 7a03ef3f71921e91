/**
 * AES-GCM does not commit to its plaintext: whoever knows the key can make a second ciphertext with the same nonce and
 * the same tag. One block of 16 bytes is free for that (NIST SP 800-38D, 6.4 and 7.1, with bytes as big-endian numbers).
 */
import assert from 'node:assert/strict';
import { createCipheriv, createHash } from 'node:crypto';
import type { Sealed } from '../../../sdk/protocol.ts';

const R = 0xe1n << 120n;
const numberOf = (bytes: Uint8Array) => BigInt(`0x${Buffer.from(bytes).toString('hex').padStart(32, '0')}`);
const bytesOf = (value: bigint) => Buffer.from(value.toString(16).padStart(32, '0'), 'hex');

/** The product in GF(2^128); the first bit is the coefficient of x^0. */
function multiply(x: bigint, y: bigint): bigint {
  let product = 0n;
  let power = y;
  for (let bit = 127n; bit >= 0n; bit--) {
    if ((x >> bit) & 1n) product ^= power;
    power = power & 1n ? (power >> 1n) ^ R : power >> 1n;
  }
  return product;
}

/** a^(2^128 - 2). */
function invert(a: bigint): bigint {
  let result = 1n << 127n;
  let square = a;
  for (let i = 1; i < 128; i++) {
    square = multiply(square, square);
    result = multiply(result, square);
  }
  return result;
}

const blocksOf = (bytes: Uint8Array): bigint[] =>
  Array.from({ length: Math.ceil(bytes.length / 16) }, (_, i) => {
    const block = Buffer.alloc(16);
    block.set(bytes.subarray(16 * i, 16 * i + 16));
    return numberOf(block);
  });

/**
 * Seals `plaintext` so that nonce and tag are those given. The last whole block of 16 bytes becomes random.
 *
 * @param passphrase the AES key is its SHA-256
 */
export function sealWithTag(
  passphrase: string,
  aad: Uint8Array,
  plaintext: Uint8Array,
  nonce: string,
  tag: string,
): Sealed {
  const key = createHash('sha256').update(passphrase).digest();
  const encrypt = (block: Uint8Array) => createCipheriv('aes-256-ecb', key, null).setAutoPadding(false).update(block);
  const h = numberOf(encrypt(Buffer.alloc(16)));
  const cipher = createCipheriv('aes-256-gcm', key, Buffer.from(nonce, 'hex'));
  cipher.setAAD(aad);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  const difference = numberOf(cipher.getAuthTag()) ^ numberOf(Buffer.from(tag, 'hex'));
  const free = Math.floor(ciphertext.length / 16) - 1;
  assert.ok(free >= 0);
  const lengths = 1;
  const after = blocksOf(ciphertext).length - free + lengths;
  let power = h;
  for (let i = 1; i < after; i++) power = multiply(power, h);
  const block = numberOf(ciphertext.subarray(16 * free, 16 * free + 16)) ^ multiply(difference, invert(power));
  ciphertext.set(bytesOf(block), 16 * free);
  return { nonce, ciphertext: ciphertext.toString('base64'), tag };
}
