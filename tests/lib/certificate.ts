/** Certificates for tests, made by openssl: an authority, and what it issues for this machine. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Files {
  readonly cert: string;
  readonly key: string;
}

/** @param folder where its files lie */
export class Authority {
  readonly cert: string;
  readonly #key: string;
  #serial = 0;

  constructor(readonly folder: string) {
    this.cert = join(folder, 'ca.pem');
    this.#key = newKey(join(folder, 'ca-key.pem'));
    const request = this.#request(this.#key, 'an authority for tests');
    const extensions = this.#file('ca.ext', 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n');
    openssl(
      'x509',
      '-req',
      '-in',
      request,
      '-signkey',
      this.#key,
      '-days',
      '2',
      '-extfile',
      extensions,
      '-out',
      this.cert,
    );
  }

  /** A new pair for localhost and 127.0.0.1. `days` below 0: it has ended already. */
  issue(days = 2): Files {
    const name = `leaf${++this.#serial}`;
    const key = newKey(join(this.folder, `${name}-key.pem`));
    const cert = join(this.folder, `${name}.pem`);
    const names = this.#file(`${name}.ext`, 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
    const signer = ['-CA', this.cert, '-CAkey', this.#key, '-set_serial', String(this.#serial), '-extfile', names];
    openssl('x509', '-req', '-in', this.#request(key, name), ...signer, '-days', String(days), '-out', cert);
    return { cert, key };
  }

  #request(key: string, name: string): string {
    const request = join(this.folder, 'request.pem');
    openssl('req', '-new', '-key', key, '-subj', `/CN=${name}`, '-out', request);
    return request;
  }

  #file(name: string, text: string): string {
    writeFileSync(join(this.folder, name), text);
    return join(this.folder, name);
  }
}

function newKey(path: string): string {
  openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', path);
  return path;
}

const openssl = (...args: readonly string[]) =>
  void execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
