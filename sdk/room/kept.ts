/**
 * What a tab keeps over a reload: who it is, with its private keys and token, what it said, where it stands, and the
 * transcript. In sessionStorage, which no other tab and no other site sees and which goes with the tab; never the
 * channel's key, which is in the address, and never in localStorage.
 */
import { fromBase64 } from './legacy-bytes.ts';
import type { Bytes } from './legacy-bytes.ts';
import type { Keys } from './legacy-protocol.ts';

export class Kept {
  readonly #prefix: string;

  constructor(channel: string) {
    this.#prefix = `agentalk/${channel}/`;
  }

  get<T>(name: string): T | undefined {
    const text = sessionStorage.getItem(this.#prefix + name);
    return text === null ? undefined : (JSON.parse(text) as T);
  }

  /** False where there is no room left. */
  put(name: string, value: unknown): boolean {
    try {
      sessionStorage.setItem(this.#prefix + name, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  }

  drop(name: string): void {
    sessionStorage.removeItem(this.#prefix + name);
  }

  /** All names that start so. */
  names(start = ''): string[] {
    const keys = Object.keys(sessionStorage).filter((key) => key.startsWith(this.#prefix + start));
    return keys.map((key) => key.slice(this.#prefix.length));
  }

  /** The numbers n of `name/n`, in order. */
  numbers(name: string): number[] {
    const found = this.names(`${name}/`).map((key) => Number(key.slice(name.length + 1)));
    return found.sort((a, b) => a - b);
  }

  clear(): void {
    for (const name of this.names()) this.drop(name);
  }
}

export type KeptKeys = {
  readonly ecdh: JsonWebKey;
  readonly ecdsa: JsonWebKey;
  readonly pub: string;
  readonly sign: string;
};

export async function exportKeys({ ecdh, ecdsa, pub, sign }: Keys): Promise<KeptKeys> {
  const jwk = (key: CryptoKey) => crypto.subtle.exportKey('jwk', key);
  return { ecdh: await jwk(ecdh), ecdsa: await jwk(ecdsa), pub, sign };
}

/** They can't be exported again. */
export async function importKeys({ ecdh, ecdsa, pub, sign }: KeptKeys): Promise<Keys> {
  const key = (jwk: JsonWebKey, name: string, usage: KeyUsage) =>
    crypto.subtle.importKey('jwk', jwk, { name, namedCurve: 'P-256' }, false, [usage]);
  return { ecdh: await key(ecdh, 'ECDH', 'deriveBits'), ecdsa: await key(ecdsa, 'ECDSA', 'sign'), pub, sign };
}

/** Bytes as they are kept: as base64. */
export const unpack = (text = ''): Bytes => fromBase64(text) ?? new Uint8Array();
