/** The bridge's own certificate, for who has no proxy in front: checked before it is used, read again when asked to. */
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Server } from 'node:tls';
import { Advice, codeOf } from './startup-error.ts';
import type { Log } from './logger.ts';

export interface Files {
  readonly cert: string; // the certificate, then those of the authorities between it and the root
  readonly key: string;
}

export interface Pair {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly names: string; // that it is for
  readonly expiresAt: number; // Unix milliseconds
}

/** Throws Advice that names the flag of the file to mend. */
export function readPair(files: Files): Pair {
  const [cert, key] = [read('cert', files.cert), read('key', files.key)];
  const certificate = parse('cert', 'no certificate in PEM', () => new X509Certificate(cert));
  const privateKey = parse('key', 'no private key in PEM without a passphrase', () => createPrivateKey(key));
  if (!certificate.checkPrivateKey(privateKey)) throw new Advice('--tls-key is not the key of --tls-cert');
  const expiresAt = Date.parse(certificate.validTo);
  if (expiresAt < Date.now()) throw new Advice(`--tls-cert ended at ${dateOf(expiresAt)}: get a new certificate`);
  const names = (certificate.subjectAltName ?? '').replace(/\b(DNS|IP Address):/g, '') || 'no name';
  return { cert, key, names, expiresAt };
}

export const dateOf = (time: number) => new Date(time).toISOString().slice(0, 10);

/** Gives new connections the pair that is in the files now, or leaves them the old one. Those that are open go on. */
export function renewPair(server: Server, files: Files, old: Pair, log: Log): Pair {
  try {
    const pair = readPair(files);
    server.setSecureContext(pair);
    log(`certificate renewed expires=${dateOf(pair.expiresAt)}`);
    return pair;
  } catch (error) {
    log(`certificate not renewed, the old one stays: ${(error as Error).message}`, 'error');
    return old;
  }
}

function read(kind: 'cert' | 'key', path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new Advice(`--tls-${kind} can't be read (${codeOf(error)}): ${path}`);
  }
}

function parse<T>(kind: 'cert' | 'key', what: string, parsed: () => T): T {
  try {
    return parsed();
  } catch {
    throw new Advice(`--tls-${kind} has ${what}`);
  }
}
