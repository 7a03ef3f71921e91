/**
 * Files: encrypted, cut into pieces, stored at the bridge as blobs (docs/protocol.md, Files). One piece is in memory at a
 * time. A file's pieces delay no message, and a transfer resumes at the first piece that is missing.
 */
import { encodeFileName, randomHex } from '../encoding.ts';
import type { Bytes } from '../encoding.ts';
import * as protocol from '../protocol.ts';
import { MAX_FILE_BYTES, PIECE_BYTES } from '../protocol.ts';
import { ApiError, codeOf } from './bridge-api.ts';
import { sendWant } from './control.ts';
import { IncrementalSha256 } from './incremental-sha256.ts';
import { addOwnEntry, queueContent } from './outbox.ts';
import { save } from './persistence.ts';
import type { Entry, FileEntry, Room, Session } from './state.ts';

/** Larger files are fetched only when the user asks for them. */
const MAX_UNASKED_BYTES = 16 * 1024 * 1024;
/** Beyond these, of one session and of all, files are fetched only when asked for, too. */
const MAX_SESSION_BYTES = 128 * 1024 * 1024;
const MAX_RECEIVED_BYTES = 400 * 1024 * 1024;
/** Sealed files that are stored for others; then the oldest is deleted. */
const MAX_STORED_BYTES = 400 * 1024 * 1024;
const STALLED_MS = 60_000;
/** How long to wait for pieces that the sender was asked for. */
const RETRY_MS = 3_000;
const SERVE_INTERVAL_MS = 10_000;
const MAX_FAILURES = 8;

// ---- sending ----

/** Why a file can't be sent; undefined if it can. */
export function whyNotSent(room: Room, size: number): 'too-large' | 'too-large-for-bridge' | 'no-files' | undefined {
  if (size > MAX_FILE_BYTES) return 'too-large';
  if (room.limits.blobBytes === 0) return size === 0 ? undefined : 'no-files';
  return size > room.limits.blobBytes ? 'too-large-for-bridge' : undefined;
}

/**
 * Encrypts a file in one pass, hands its pieces to the bridge, then seals the message. The entry is there at once and
 * shows the progress; `cancel` ends it before the message is sealed.
 */
export async function sendFile(room: Room, file: File, recipient: Session | undefined): Promise<void> {
  const fileSecret = randomHex(32);
  const name = protocolName(file.name);
  const entry = addOwnEntry(room, 'file', recipient, {
    file: { name, size: file.size, sha256: '', fileSecret, pieces: [], state: 'sending', done: 0 },
  });
  const signal = new AbortController();
  uploads.set(entry, signal);
  try {
    const { sha256, pieces } = await uploadPieces(room, entry, file, fileSecret, signal.signal);
    const headers = { name: encodeFileName(file.name), size: String(file.size), sha256 };
    const body = protocol.formatFileBody({ fileSecret, pieces });
    const item = await queueContent(room, recipient, 'file', headers, body);
    entry.outboxNumber = item.number;
    entry.file = { name, size: file.size, sha256, fileSecret, pieces, state: 'sent', done: pieces.length };
    limitStoredFiles(room);
  } catch (error) {
    if (!(error instanceof ApiError) && !(error instanceof DOMException)) console.error(error);
    markProblem(room, entry, 'not-sent', problemOf(error));
  } finally {
    uploads.delete(entry);
    room.touch(entry);
    save(room);
  }
}

const uploads = new Map<Entry, AbortController>();
export const cancelUpload = (entry: Entry): void => uploads.get(entry)?.abort();

/** The name as the message has it. */
const protocolName = (name: string): string => decodeURIComponent(encodeFileName(name));

async function uploadPieces(room: Room, entry: Entry, file: File, fileSecret: string, signal: AbortSignal) {
  const key = await protocol.fileKey(fileSecret);
  const hash = new IncrementalSha256();
  const pieces: string[] = [];
  for (let index = 0; index < protocol.pieceCount(file.size); index++) {
    signal.throwIfAborted();
    const plaintext: Bytes = new Uint8Array(
      await file.slice(index * PIECE_BYTES, (index + 1) * PIECE_BYTES).arrayBuffer(),
    );
    hash.update(plaintext);
    const { ciphertext, sha256 } = await protocol.encryptPiece(key, index, plaintext);
    const piece = new Blob([ciphertext]);
    await room.pieces.set(sha256, piece);
    await retrying(room, signal, () => upload(room, sha256, piece));
    pieces.push(sha256);
    if (entry.file) entry.file.done = pieces.length;
    room.onChange();
  }
  return { sha256: hash.digest(), pieces };
}

async function upload(room: Room, digest: string, piece: Blob): Promise<void> {
  const { epoch } = room.position;
  if (await room.api.hasBlob(epoch, digest)) return;
  await room.api.putBlob(epoch, digest, piece);
}

/** Tries until it works, the bridge refuses for good, or the user cancels. Being offline counts as no failure. */
async function retrying<T>(room: Room, signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
  for (let failures = 0; ;) {
    signal.throwIfAborted();
    if (room.isClosed) throw new ApiError('refused');
    try {
      return await attempt();
    } catch (error) {
      const code = codeOf(error);
      const isForGood = ['bad_request', 'too_large', 'refused', 'not_found', 'method_not_allowed', 'no_blob'].includes(
        code,
      );
      if (isForGood || !(error instanceof ApiError)) throw error;
      if (code !== 'unreachable' && ++failures > MAX_FAILURES) throw error;
      await room.retry.wait(error.retryAfterMs ?? RETRY_MS);
    }
  }
}

const problemOf = (error: unknown): string => {
  if (error instanceof ApiError) return error.code;
  return error instanceof DOMException && error.name === 'AbortError' ? 'canceled' : 'unreadable';
};

function markProblem(room: Room, entry: Entry, state: 'not-sent' | 'bad' | 'stalled', problem: string): void {
  if (!entry.file) return;
  entry.file.state = state;
  entry.file.problem = problem;
  room.touch(entry);
}

const totalSize = (entries: readonly Entry[]): number => entries.reduce((sum, { file }) => sum + (file?.size ?? 0), 0);

/** Deletes the pieces of the oldest sent files, within the limit. */
function limitStoredFiles(room: Room): void {
  const sent = room.entries.filter(({ isMine, file }) => isMine && file?.state === 'sent');
  let bytes = totalSize(sent);
  for (const { file } of sent) {
    if (bytes <= MAX_STORED_BYTES) return;
    bytes -= file?.size ?? 0;
    for (const digest of file?.pieces ?? []) void room.pieces.delete(digest);
  }
}

/** When a piece was served last, Unix ms. */
const servedAt = new Map<string, number>();

/** Puts pieces at the bridge that a session wants of files that were sent to it or to all. */
export async function serveWant(room: Room, session: Session, digests: readonly string[]): Promise<void> {
  const own = room.entries.filter(({ isMine, file }) => isMine && file?.state === 'sent');
  const allowed = own.filter(({ sid }) => sid === undefined || sid === session.sid);
  for (const digest of digests) {
    if (!allowed.some(({ file }) => file?.pieces.includes(digest))) continue;
    if (Date.now() - (servedAt.get(digest) ?? 0) < SERVE_INTERVAL_MS) continue;
    servedAt.set(digest, Date.now());
    const piece = await room.pieces.get(digest);
    // What fails is wanted again.
    if (piece) await upload(room, digest, piece).catch(() => undefined);
  }
}

// ---- receiving ----

/** Adds the entry of a file that is on its way, and fetches it unless it is large or many others were not asked for. */
export function receiveFile(room: Room, session: Session, fields: Partial<Entry> & { file: FileEntry }): Entry {
  const { size } = fields.file;
  const received = room.entries.filter(({ isMine, file }) => !isMine && file && file.state !== 'waiting');
  const ofSession = received.filter(({ sid }) => sid === session.sid);
  const isUnasked =
    size <= MAX_UNASKED_BYTES &&
    totalSize(ofSession) + size <= MAX_SESSION_BYTES &&
    totalSize(received) + size <= MAX_RECEIVED_BYTES;
  const entry = room.addEntry('file', session.label, { ...fields, file: { ...fields.file, state: 'waiting' } });
  if (isUnasked) fetchFile(room, entry);
  return entry;
}

type Download = { readonly entry: Entry; readonly file: FileEntry; progressAt: number; nextAt: number };
/** Files that are being fetched. They take turns, so that one without pieces doesn't hold up the others. */
const downloads = new Map<Entry, Download>();
let isDownloading = false;

/** Fetches what is missing of a file, from its first missing piece on. */
export function fetchFile(room: Room, entry: Entry): void {
  const { file } = entry;
  if (!file || downloads.has(entry) || file.state === 'complete' || file.state === 'bad') return;
  file.state = 'fetching';
  downloads.set(entry, { entry, file, progressAt: Date.now(), nextAt: 0 });
  room.touch(entry);
  if (!isDownloading) void runDownloads(room);
}

/** One piece of one file is in memory at a time. */
async function runDownloads(room: Room): Promise<void> {
  isDownloading = true;
  while (downloads.size > 0 && !room.isClosed) {
    const [next] = [...downloads.values()].sort((a, b) => a.nextAt - b.nextAt);
    if (!next) break;
    if (next.nextAt > Date.now()) {
      await room.retry.wait(next.nextAt - Date.now());
      next.nextAt = 0;
    }
    await takeTurn(room, next);
    if (next.file.state === 'fetching') continue;
    downloads.delete(next.entry);
    room.touch(next.entry);
    save(room);
  }
  isDownloading = false;
}

async function takeTurn(room: Room, download: Download): Promise<void> {
  const { entry, file } = download;
  try {
    const missing = await fetchPieces(room, download);
    if (missing.length === 0) {
      await verify(room, entry, file);
    } else if (Date.now() - download.progressAt >= STALLED_MS) {
      markProblem(room, entry, 'stalled', 'no-piece');
    } else {
      download.nextAt = Date.now() + RETRY_MS;
      const sender = room.sessionBySid(entry.sid ?? '');
      if (sender) await sendWant(room, sender, missing.slice(0, protocol.MAX_WANTED));
    }
  } catch (error) {
    console.error(error);
    markProblem(room, entry, 'stalled', 'unreadable');
  }
}

/** Asks once for each piece that is not here. Returns those that are still missing. */
async function fetchPieces(room: Room, download: Download): Promise<string[]> {
  const { file } = download;
  const missing: string[] = [];
  let done = 0;
  for (const [index, digest] of file.pieces.entries()) {
    if (await hasPiece(room, file, index, digest)) {
      done++;
    } else if (await fetchPiece(room, file, index, digest)) {
      done++;
      download.progressAt = Date.now();
    } else {
      missing.push(digest);
    }
    file.done = done;
    room.onChange();
  }
  return missing;
}

async function hasPiece(room: Room, file: FileEntry, index: number, digest: string): Promise<boolean> {
  const piece = await room.pieces.get(digest);
  return piece?.size === protocol.pieceLength(file.size, index);
}

/** True if the bridge had the piece. A wrong one counts as missing. */
async function fetchPiece(room: Room, file: FileEntry, index: number, digest: string): Promise<boolean> {
  const length = protocol.pieceLength(file.size, index);
  try {
    const bytes = await room.api.getBlob(room.position.epoch, digest, length);
    if (!(await protocol.isPiece(bytes, length, digest))) return false;
    await room.pieces.set(digest, new Blob([bytes]));
    return true;
  } catch (error) {
    if (error instanceof ApiError) return false;
    throw error;
  }
}

/** The plaintext of each piece, one after the other. */
async function* decryptPieces(room: Room, file: FileEntry): AsyncGenerator<Bytes> {
  const key = await protocol.fileKey(file.fileSecret);
  for (const [index, digest] of file.pieces.entries()) {
    const piece = await room.pieces.get(digest);
    const ciphertext: Bytes = new Uint8Array((await piece?.arrayBuffer()) ?? new ArrayBuffer());
    const plaintext = await protocol.decryptPiece(key, index, file.size, digest, ciphertext);
    if (!plaintext.ok) throw new Error('a stored piece is missing');
    yield plaintext.value;
  }
}

/** Compares size and SHA-256 of the plaintext with what the message says. */
async function verify(room: Room, entry: Entry, file: FileEntry): Promise<void> {
  const hash = new IncrementalSha256();
  let size = 0;
  for await (const plaintext of decryptPieces(room, file)) {
    hash.update(plaintext);
    size += plaintext.length;
  }
  if (size === file.size && hash.digest() === file.sha256) {
    file.state = 'complete';
    delete file.problem;
    return;
  }
  markProblem(room, entry, 'bad', 'sha256');
  for (const digest of file.pieces) await room.pieces.delete(digest);
}

/** The file, as Blobs of which the browser keeps the bytes. Throws if its pieces are not here. */
export async function openFile(room: Room, file: FileEntry): Promise<Blob> {
  const parts: Blob[] = [];
  for await (const plaintext of decryptPieces(room, file)) parts.push(new Blob([plaintext]));
  return new Blob(parts, { type: 'application/octet-stream' });
}

/** Files that stalled are tried again when their sender is heard. */
export function senderHeard(room: Room, session: Session): void {
  for (const entry of room.entries) {
    if (!entry.isMine && entry.sid === session.sid && entry.file?.state === 'stalled') fetchFile(room, entry);
  }
}

/** After a reload: what was being fetched goes on, and what was being sent is lost with the page's hold on the file. */
export function resumeTransfers(room: Room): void {
  for (const entry of room.entries) {
    if (entry.file?.state === 'sending') markProblem(room, entry, 'not-sent', 'reloaded');
    if (entry.file?.state === 'fetching') fetchFile(room, entry);
  }
}
