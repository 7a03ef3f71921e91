/**
 * Stores pieces of encrypted files, so that memory does not grow with them and a transfer goes on after a reload. Only
 * ciphertext and its SHA-256 come here; the file's secret stays in the tab. It is IndexedDB where the browser allows it,
 * else Blobs in memory, which end with the page. Pieces belong to the session (`owner`) that stored them.
 */

const DATABASE = 'agentalk-pieces';
const PIECES = 'pieces';
const OWNERS = 'owners';
/** A tab gives its lock back when it reloads; after so long it has been closed. */
const ABANDONED_MS = 10 * 60_000;

/** @param owner the sid of the session, and the name of its Web Lock */
export class PieceStore {
  readonly #database: Promise<IDBDatabase | null>;
  readonly #inMemory = new Map<string, Blob>();
  readonly #owner: string;

  constructor(owner: string) {
    this.#owner = owner;
    this.#database = openDatabase();
  }

  /** Takes note that the owner is alive, and deletes the pieces of sessions that have ended. */
  async cleanUp(isAlive: (owner: string) => boolean): Promise<void> {
    const database = await this.#database;
    if (!database) return;
    const now = Date.now();
    await run(database, OWNERS, 'readwrite', (owners) => owners.put(now, this.#owner));
    const names = await run(database, OWNERS, 'readonly', (owners) => owners.getAllKeys());
    for (const name of names) {
      const owner = String(name);
      const seenAt = await run<unknown>(database, OWNERS, 'readonly', (owners) => owners.get(owner));
      const isAbandoned = typeof seenAt !== 'number' || now - seenAt > ABANDONED_MS;
      if (owner !== this.#owner && isAbandoned && !isAlive(owner)) await deleteOwner(database, owner);
    }
  }

  async get(digest: string): Promise<Blob | undefined> {
    const database = await this.#database;
    if (!database) return this.#inMemory.get(digest);
    const found = await run<unknown>(database, PIECES, 'readonly', (pieces) => pieces.get([this.#owner, digest]));
    return found instanceof Blob ? found : this.#inMemory.get(digest);
  }

  /** Falls back to memory where the disk takes no more. */
  async set(digest: string, piece: Blob): Promise<void> {
    const database = await this.#database;
    try {
      if (!database) throw new Error('no database');
      await run(database, PIECES, 'readwrite', (pieces) => pieces.put(piece, [this.#owner, digest]));
    } catch {
      this.#inMemory.set(digest, piece);
    }
  }

  async delete(digest: string): Promise<void> {
    this.#inMemory.delete(digest);
    const database = await this.#database;
    if (database) await run(database, PIECES, 'readwrite', (pieces) => pieces.delete([this.#owner, digest]));
  }

  /** Deletes all pieces of the owner. */
  async clear(): Promise<void> {
    this.#inMemory.clear();
    const database = await this.#database;
    if (database) await deleteOwner(database, this.#owner);
  }
}

/** Null where the browser has none for this page. */
function openDatabase(): Promise<IDBDatabase | null> {
  return new Promise((resolve) => {
    try {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore(PIECES);
        request.result.createObjectStore(OWNERS);
      };
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
}

/** One request in a separate transaction. */
function run<T>(
  database: IDBDatabase,
  store: string,
  mode: IDBTransactionMode,
  make: (store: IDBObjectStore) => IDBRequest<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(store, mode);
    const request = make(transaction.objectStore(store));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error ?? new Error('aborted'));
  });
}

async function deleteOwner(database: IDBDatabase, owner: string): Promise<void> {
  // Keys are [owner, digest], and a digest is hex.
  const range = IDBKeyRange.bound([owner, ''], [owner, 'g']);
  await run(database, PIECES, 'readwrite', (pieces) => pieces.delete(range));
  await run(database, OWNERS, 'readwrite', (owners) => owners.delete(owner));
}
