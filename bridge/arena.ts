/**
 * Where a channel keeps what is sealed: the bytes that the base64 stands for, one after the other in blocks outside the
 * JavaScript heap, which makes less garbage than an object for each. As a channel's oldest always goes first, blocks
 * become free in their order. Those of full size are used again, by any channel: fresh memory costs more than a message.
 *
 * What is large is stored as the base64 itself, in memory of its own that is never used again: all answers share it,
 * however long they take, and none has to encode it.
 */
export const TAG_BYTES = 16;
const [LARGEST, MOST_SPARE] = [16 * 1024, 4096]; // bytes of a block; blocks
const SHARED_BYTES = LARGEST / 4; // from here on ciphertext is stored as base64

export type Block = { readonly bytes: Buffer; held: number }; // how much of what is in it is still kept
const blockOf = (size: number): Block => ({ bytes: Buffer.allocUnsafeSlow(Math.ceil(size)), held: 0 });
const EMPTY = blockOf(0);

/** Something sealed, at rest. */
export interface Kept {
  readonly nonce: string;
  readonly block: Block;
  readonly start: number; // of the tag; the ciphertext follows
  readonly end: number;
  readonly ciphertextBytes: number;
  readonly isBase64: boolean; // the ciphertext in the block
}

/** Where base64 is decoded to see whether it is strict. */
let scratch = Buffer.allocUnsafeSlow(LARGEST);

/** How many bytes it stands for; -1 if it is not the one base64 for them: padded, and nothing in it but its alphabet. */
function decodedBytes(text: string, into: Buffer, offset: number): number {
  const bytes = base64Bytes(text);
  const last = text.slice(-4);
  // What decoding overlooks (spaces, padding left out) shows in the length, the URL's alphabet by itself.
  const isStrict = into.write(text, offset, 'base64') === bytes && !text.includes('-') && !text.includes('_');
  return isStrict && Buffer.from(last, 'base64').toString('base64') === last ? bytes : -1;
}

const base64Bytes = (text: string) => (text.length / 4) * 3 - (text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0);

export class Shelf {
  #block = EMPTY;
  #used = 0;

  constructor(readonly spare: Block[] = []) {}

  /**
   * Writes something sealed behind what is there, where the next draft goes too unless it is kept. Undefined if `text` is
   * empty or no strict base64.
   */
  draft(nonce: string, text: string, tag: string): Kept | undefined {
    const bytes = base64Bytes(text);
    const isBase64 = bytes >= SHARED_BYTES;
    const block = this.#blockFor(TAG_BYTES + (isBase64 ? text.length : bytes));
    const start = block === this.#block ? this.#used : 0;
    if (isBase64 && scratch.length < bytes) scratch = Buffer.allocUnsafeSlow(Math.ceil(bytes));
    const [into, offset] = isBase64 ? [scratch, 0] : [block.bytes, start + TAG_BYTES];
    if (text === '' || decodedBytes(text, into, offset) !== bytes) return undefined;
    if (isBase64) block.bytes.write(text, start + TAG_BYTES, 'latin1');
    block.bytes.write(tag, start, 'hex');
    const end = start + TAG_BYTES + (isBase64 ? text.length : bytes);
    return { nonce, block, start, end, ciphertextBytes: bytes, isBase64 };
  }

  /** A channel that says little takes little: each block is twice as large as the one before. */
  #blockFor(bytes: number): Block {
    const size = this.#block.bytes.length;
    if (bytes > SHARED_BYTES) return blockOf(bytes);
    if (this.#used + bytes <= size) return this.#block;
    const next = Math.max(bytes, 2 * size);
    this.#used = 0;
    return (this.#block = next < LARGEST ? blockOf(next) : (this.spare.pop() ?? blockOf(LARGEST)));
  }

  keep(draft: Kept): Kept {
    draft.block.held++;
    if (draft.block === this.#block) this.#used = draft.end;
    return draft;
  }

  /** Nobody may look at it any more. */
  drop({ block }: Kept): void {
    if (--block.held > 0 || block === this.#block || block.bytes.length !== LARGEST) return;
    if (this.spare.length < MOST_SPARE) this.spare.push(block);
  }
}
export const tagOf = ({ block, start }: Kept) => block.bytes.toString('hex', start, start + TAG_BYTES);
export const ciphertextOf = ({ block, start, end, isBase64 }: Kept): string =>
  block.bytes.toString(isBase64 ? 'latin1' : 'base64', start + TAG_BYTES, end);
/** The same; of what is large the bytes that are there, to be shared. */
export const sharedCiphertextOf = (kept: Kept): string | Buffer =>
  kept.isBase64 ? kept.block.bytes.subarray(kept.start + TAG_BYTES, kept.end) : ciphertextOf(kept);
export const base64LengthOf = ({ ciphertextBytes }: Kept): number => Math.ceil(ciphertextBytes / 3) * 4;
export const isSame = (a: Kept, b: Kept): boolean =>
  a.nonce === b.nonce && a.block.bytes.subarray(a.start, a.end).equals(b.block.bytes.subarray(b.start, b.end));
