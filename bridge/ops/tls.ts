/** The bridge's own certificate, for set-ups without a proxy: checked before it is used, reloaded on SIGHUP. */
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Server } from 'node:tls';
import { StartupError, errnoName } from './startup-error.ts';
import type { Log } from './logger.ts';

export interface TlsFiles {
  readonly cert: string; // the certificate, then the intermediate ones
  readonly key: string;
}

export interface CertificateAndKey {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly names: string; // the hosts that it is for
  readonly expiresAt: number; // Unix milliseconds
}

/** Throws StartupError that names the flag of the faulty file. */
export function loadCertificate(files: TlsFiles): CertificateAndKey {
  const cert = read('cert', files.cert);
  const key = read('key', files.key);
  const certificate = parse('cert', 'no certificate in PEM', () => new X509Certificate(cert));
  const privateKey = parse('key', 'no private key in PEM without a passphrase', () => createPrivateKey(key));
  if (!certificate.checkPrivateKey(privateKey)) throw new StartupError('--tls-key is not the key of --tls-cert');
  const expiresAt = Date.parse(certificate.validTo);
  if (expiresAt < Date.now())
    throw new StartupError(`--tls-cert expired on ${isoDate(expiresAt)}: get a new certificate`);
  const names = (certificate.subjectAltName ?? '').replace(/\b(DNS|IP Address):/g, '') || 'no name';
  return { cert, key, names, expiresAt };
}

export const isoDate = (time: number) => new Date(time).toISOString().slice(0, 10);

/** Gives new connections the certificate that is in the files now, or else the old one. Open connections go on. */
export function reloadCertificate(
  server: Server,
  files: TlsFiles,
  old: CertificateAndKey,
  log: Log,
): CertificateAndKey {
  try {
    const certificate = loadCertificate(files);
    server.setSecureContext(certificate);
    log(`certificate reloaded expires=${isoDate(certificate.expiresAt)}`);
    return certificate;
  } catch (error) {
    log(`certificate not reloaded, the old one stays in use: ${(error as Error).message}`, 'error');
    return old;
  }
}

function read(kind: 'cert' | 'key', path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new StartupError(`--tls-${kind} can't be read (${errnoName(error)}): ${path}`);
  }
}

function parse<T>(kind: 'cert' | 'key', what: string, parsed: () => T): T {
  try {
    return parsed();
  } catch {
    throw new StartupError(`--tls-${kind} has ${what}`);
  }
}
