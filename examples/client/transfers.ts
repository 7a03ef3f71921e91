/** Files on their way: pieces as blobs at the bridge. They go on in the background and delay no message. */
import { BridgeError } from './bridge.ts';
import * as crypto from './crypto.ts';
import * as files from './files.ts';
import type { FileKey } from './files.ts';
import type { FileHeaders } from './message.ts';
import type { Peer } from './peer.ts';
import type { Context, Listener } from './session.ts';

type Piece = { readonly blob: Buffer; putAt: number };
type OutgoingFile = {
  readonly to: Peer | undefined;
  readonly size: number;
  readonly pieces: ReadonlyMap<string, Piece>;
};
type IncomingFile = FileHeaders & {
  readonly peer: Peer;
  readonly key: FileKey;
  readonly pieces: Map<string, Uint8Array>;
  isWanted: boolean;
  isStalled: boolean;
  newPieceAt: number;
  triedAt: number;
};

const RETRY_MS = 10_000;
const STALLED_AFTER_MS = 60_000;
const MAX_OUTGOING_BYTES = 400 << 20;
const MAX_UNREQUESTED_BYTES = 16 << 20;

export class Transfers {
  private readonly outgoing: OutgoingFile[] = [];
  private readonly incoming: IncomingFile[] = [];
  private readonly wanted = new Set<string>();
  private running: Promise<void> | undefined;

  constructor(private readonly context: Context & Listener) {}

  /** Encrypts a file and puts its pieces. Returns what its message says. */
  async upload(to: Peer | undefined, bytes: Uint8Array): Promise<string> {
    const { f, pieces } = files.encryptFile(bytes);
    const byHash = new Map(pieces.map((blob) => [crypto.sha256(blob), { blob, putAt: -Infinity }]));
    for (const [digest, piece] of byHash) await this.put(digest, piece);
    this.outgoing.push({ to, size: bytes.length, pieces: byHash });
    while (this.outgoing.reduce((sum, { size }) => sum + size, 0) > MAX_OUTGOING_BYTES) this.outgoing.shift();
    return files.hashLines([f, ...byHash.keys()]);
  }

  private async put(digest: string, piece: Piece): Promise<void> {
    const { bridge, epoch, now } = this.context;
    if (await bridge.hasBlob(epoch, digest)) return;
    piece.putAt = now();
    await bridge.putBlob(epoch, digest, piece.blob);
  }

  /** A `want` of a session: serves pieces of files that it was sent. */
  serve(peer: Peer, digests: readonly string[]): void {
    for (const { to, pieces } of this.outgoing) {
      if (to !== undefined && to !== peer) continue;
      for (const digest of digests) {
        if (pieces.has(digest)) this.wanted.add(digest);
      }
    }
  }

  expect(peer: Peer, file: FileHeaders, key: FileKey): void {
    this.incoming.push({
      ...file,
      ...{ peer, key, pieces: new Map() },
      isWanted: file.size <= MAX_UNREQUESTED_BYTES,
      isStalled: false,
      newPieceAt: this.context.now(),
      triedAt: -Infinity,
    });
  }

  /** Fetches a file that is too large to be fetched without a request. */
  request(sha256: string): void {
    for (const file of this.incoming) {
      if (file.sha256 === sha256) file.isWanted = true;
    }
    this.start();
  }

  /** Does in the background what is due. */
  start(): void {
    this.running ??= this.run().finally(() => {
      this.running = undefined;
    });
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    await this.running;
  }

  private async run(): Promise<void> {
    try {
      for (const digest of this.wanted) {
        this.wanted.delete(digest);
        const piece = this.outgoing.map(({ pieces }) => pieces.get(digest)).find((found) => found !== undefined);
        if (piece !== undefined && this.context.now() - piece.putAt >= RETRY_MS) await this.put(digest, piece);
      }
      for (const file of [...this.incoming]) {
        const { isWanted, isStalled, triedAt, peer } = file;
        const isDue = isStalled ? peer.heardAt > triedAt : this.context.now() - triedAt >= RETRY_MS;
        if (isWanted && isDue) await this.fetch(file);
      }
    } catch (error) {
      if (!(error instanceof BridgeError)) throw error; // what failed is tried again after a later poll
    }
  }

  private async fetch(file: IncomingFile): Promise<void> {
    const { bridge, epoch, now } = this.context;
    const { peer, size, key, pieces } = file;
    file.triedAt = now();
    for (const [index, digest] of key.pieces.entries()) {
      if (pieces.has(digest)) continue;
      const blob = await bridge.getBlob(epoch, digest);
      if (blob === undefined || !files.isPiece(index, size, digest, blob)) continue;
      pieces.set(digest, blob);
      file.newPieceAt = now();
      file.isStalled = false;
    }
    const missing = key.pieces.filter((digest) => !pieces.has(digest));
    if (missing.length === 0) return this.complete(file);
    if (now() - peer.lastWantAt >= RETRY_MS) {
      peer.lastWantAt = now();
      await this.context.postWant(peer, files.hashLines(missing.slice(0, files.MAX_WANTED)));
    }
    if (now() - file.newPieceAt < STALLED_AFTER_MS || file.isStalled) return;
    file.isStalled = true;
    this.context.tell({ type: 'file-stalled', name: peer.label, file: file.name });
  }

  private complete(file: IncomingFile): void {
    const { peer, name, size, sha256, key, pieces } = file;
    this.incoming.splice(this.incoming.indexOf(file), 1);
    const plaintext = key.pieces.map((digest, index) => {
      return files.cryptPiece(key.f, index, pieces.get(digest) ?? new Uint8Array());
    });
    const bytes = Buffer.concat(plaintext);
    const isRight = bytes.length === size && crypto.sha256(bytes) === sha256;
    if (isRight) this.context.tell({ type: 'file-complete', name: peer.label, file: name, bytes });
    else this.context.tell({ type: 'file-damaged', name: peer.label, file: name });
  }
}
