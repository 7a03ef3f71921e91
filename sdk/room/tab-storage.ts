/**
 * What a tab stores over a reload: sessionStorage, which no other tab and no other site sees, and which ends with the
 * tab. It holds private keys, the token, own sealed messages and the transcript; never the channel key, which is in the
 * URL's fragment. Where a browser blocks storage, or nothing more fits, values live in memory and end with the page.
 */

/** Null where the browser blocks it: then reading the property throws. */
function openSessionStorage(): Storage | null {
  try {
    const storage = globalThis.sessionStorage;
    storage.getItem('agentalk');
    return storage;
  } catch {
    return null;
  }
}

export class TabStorage {
  readonly #prefix: string;
  #storage = openSessionStorage();

  constructor(channelId: string) {
    this.#prefix = `agentalk/${channelId}/`;
  }

  /** False: nothing is stored, and a reload starts again from nothing. */
  get isPersistent(): boolean {
    return this.#storage !== null;
  }

  get<T>(name: string): T | undefined {
    const text = this.#storage?.getItem(this.#prefix + name) ?? null;
    return text === null ? undefined : (JSON.parse(text) as T);
  }

  /** False where it doesn't fit. Without storage nothing has to, and it is true. */
  set(name: string, value: unknown): boolean {
    try {
      this.#storage?.setItem(this.#prefix + name, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  }

  delete(name: string): void {
    this.#storage?.removeItem(this.#prefix + name);
  }

  /** All names that start with this. */
  names(start = ''): string[] {
    const keys = Object.keys(this.#storage ?? {}).filter((key) => key.startsWith(this.#prefix + start));
    return keys.map((key) => key.slice(this.#prefix.length));
  }

  /** The numbers n of the names `FOLDER/n`, ascending. */
  listNumbers(folder: string): number[] {
    const found = this.names(`${folder}/`).map((name) => Number(name.slice(folder.length + 1)));
    return found.sort((a, b) => a - b);
  }

  clear(): void {
    for (const name of this.names()) this.delete(name);
  }

  /** Deletes everything and stores nothing any more: half of a session must never be restored. */
  disable(): void {
    this.clear();
    this.#storage = null;
  }
}
