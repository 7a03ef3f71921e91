/**
 * Where a channel stores ciphertext: the decoded bytes of the base64, one after the other in blocks outside the
 * JavaScript heap, which makes less garbage than an object for each. A channel's oldest always goes first, so blocks
 * become free in their order. Those of full size are used again, by any channel: fresh memory costs more than a message.
 *
 * Large ciphertext is stored as base64, in separate memory that is never used again: all responses share it, however
 * long they take to write, and none has to encode it.
 */
export const TAG_BYTES = 16;
const BLOCK_BYTES = 16 * 1024;
const MAX_FREE_BLOCKS = 8192; // 128 MiB, of which a half goes back to the system within 22 seconds
const SHARED_BYTES = BLOCK_BYTES / 4; // from here on ciphertext is stored as base64

/** `refCount` is the number of ciphertexts in it that are still stored. */
export type Block = { readonly bytes: Buffer; refCount: number };
const newBlock = (size: number): Block => ({ bytes: Buffer.allocUnsafeSlow(Math.ceil(size)), refCount: 0 });
const EMPTY = newBlock(0);

/** The ciphertext of a message or card, in a block. */
export interface StoredCiphertext {
  readonly nonce: string;
  readonly block: Block;
  readonly start: number; // of the tag; the ciphertext follows
  readonly end: number;
  readonly ciphertextBytes: number;
  readonly isBase64: boolean; // the ciphertext in the block
}

/** Where base64 is decoded to see whether it is strict. */
let scratch = Buffer.allocUnsafeSlow(BLOCK_BYTES);

/** Decodes base64 into a buffer. False if `text` is not the one encoding of its bytes: padded, of the usual alphabet. */
function decodeStrictly(text: string, into: Buffer, offset: number): boolean {
  // Node's decoder ignores spaces and missing padding, which shows in the length, and takes the URL alphabet.
  if (into.write(text, offset, 'base64') !== decodedLength(text)) return false;
  if (text.includes('-') || text.includes('_')) return false;
  const last = text.slice(-4);
  return Buffer.from(last, 'base64').toString('base64') === last;
}

/** How many bytes padded base64 encodes. */
function decodedLength(text: string): number {
  const bytes = (text.length / 4) * 3;
  if (text.endsWith('==')) return bytes - 2;
  return text.endsWith('=') ? bytes - 1 : bytes;
}

export class Arena {
  #block = EMPTY;
  #writeOffset = 0;

  constructor(readonly freeBlocks: Block[] = []) {}

  /**
   * Writes ciphertext behind what is stored, where the next one goes too unless this one is committed. Undefined if
   * `text` is empty or no strict base64.
   */
  write(nonce: string, text: string, tag: string): StoredCiphertext | undefined {
    if (text === '') return undefined;
    const ciphertextBytes = decodedLength(text);
    const isBase64 = ciphertextBytes >= SHARED_BYTES;
    const storedBytes = TAG_BYTES + (isBase64 ? text.length : ciphertextBytes);
    const block = this.#allocate(storedBytes);
    const start = block === this.#block ? this.#writeOffset : 0;
    if (isBase64) {
      if (scratch.length < ciphertextBytes) scratch = Buffer.allocUnsafeSlow(Math.ceil(ciphertextBytes));
      if (!decodeStrictly(text, scratch, 0)) return undefined;
      block.bytes.write(text, start + TAG_BYTES, 'latin1');
    } else if (!decodeStrictly(text, block.bytes, start + TAG_BYTES)) {
      return undefined;
    }
    block.bytes.write(tag, start, 'hex');
    return { nonce, block, start, end: start + storedBytes, ciphertextBytes, isBase64 };
  }

  /** Each block is twice as large as the one before, so that a channel with few messages takes little memory. */
  #allocate(bytes: number): Block {
    if (bytes > SHARED_BYTES) return newBlock(bytes);
    const size = this.#block.bytes.length;
    if (this.#writeOffset + bytes <= size) return this.#block;
    const nextSize = Math.max(bytes, 2 * size);
    this.#block = nextSize < BLOCK_BYTES ? newBlock(nextSize) : (this.freeBlocks.pop() ?? newBlock(BLOCK_BYTES));
    this.#writeOffset = 0;
    return this.#block;
  }

  /** Stores what was written last. */
  commit(written: StoredCiphertext): StoredCiphertext {
    written.block.refCount++;
    if (written.block === this.#block) this.#writeOffset = written.end;
    return written;
  }

  /** Its memory may be used again: nobody reads it after this. */
  free({ block }: StoredCiphertext): void {
    block.refCount--;
    if (block.refCount > 0 || block === this.#block || block.bytes.length !== BLOCK_BYTES) return;
    if (this.freeBlocks.length < MAX_FREE_BLOCKS) this.freeBlocks.push(block);
  }
}

export const tagOf = ({ block, start }: StoredCiphertext) => block.bytes.toString('hex', start, start + TAG_BYTES);
export const ciphertextOf = ({ block, start, end, isBase64 }: StoredCiphertext): string =>
  block.bytes.toString(isBase64 ? 'latin1' : 'base64', start + TAG_BYTES, end);
/** The same; if it is large, the stored bytes themselves, for responses to share. */
export const sharedCiphertextOf = (stored: StoredCiphertext): string | Buffer =>
  stored.isBase64 ? stored.block.bytes.subarray(stored.start + TAG_BYTES, stored.end) : ciphertextOf(stored);
export const base64LengthOf = ({ ciphertextBytes }: StoredCiphertext): number => Math.ceil(ciphertextBytes / 3) * 4;
export const equalCiphertext = (a: StoredCiphertext, b: StoredCiphertext): boolean =>
  a.nonce === b.nonce && a.block.bytes.subarray(a.start, a.end).equals(b.block.bytes.subarray(b.start, b.end));
