/**
 * Where a channel keeps what is sealed: the bytes that the base64 stands for, one after the other in blocks outside the
 * JavaScript heap, which makes less garbage than an object for each. As a channel's oldest always goes first, blocks
 * become free in their order. Those of full size are used again, by any channel: fresh memory costs more than a message.
 */
export const TAG_BYTES = 16;
const [LARGEST, MOST_SPARE] = [16 * 1024, 4096]; // bytes of a block; blocks

export type Block = { readonly bytes: Buffer; held: number }; // how much of what is in it is still kept
const blockOf = (size: number): Block => ({ bytes: Buffer.allocUnsafeSlow(Math.ceil(size)), held: 0 });
const EMPTY = blockOf(0);

/** Something sealed, at rest. */
export interface Kept {
  readonly nonce: string;
  readonly block: Block;
  readonly start: number; // of the tag; the ciphertext follows
  readonly end: number;
}

export class Shelf {
  #block = EMPTY;
  #used = 0;

  constructor(readonly spare: Block[] = []) {}

  /**
   * Writes something sealed behind what is there, where the next draft goes too unless it is kept. Undefined if `text` is
   * no strict base64: what decoding overlooks (spaces, padding left out) shows in the length, the URL's alphabet by itself.
   */
  draft(nonce: string, text: string, tag: string): Kept | undefined {
    if (text === '' || text.includes('-') || text.includes('_')) return undefined;
    const length = (text.length / 4) * 3 - (text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0);
    const block = this.#blockFor(TAG_BYTES + length);
    const start = block === this.#block ? this.#used : 0;
    if (block.bytes.write(text, start + TAG_BYTES, 'base64') !== length) return undefined;
    block.bytes.write(tag, start, 'hex');
    return { nonce, block, start, end: start + TAG_BYTES + length };
  }

  /** A channel that says little takes little: each block is twice as large as the one before. */
  #blockFor(bytes: number): Block {
    const size = this.#block.bytes.length;
    if (bytes > LARGEST / 4) return blockOf(bytes);
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
export const ciphertextOf = ({ block, start, end }: Kept) => block.bytes.toString('base64', start + TAG_BYTES, end);
export const isSame = (a: Kept, b: Kept): boolean =>
  a.nonce === b.nonce && a.block.bytes.subarray(a.start, a.end).equals(b.block.bytes.subarray(b.start, b.end));
