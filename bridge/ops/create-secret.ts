/**
 * Who may create channels, where the operator restricts that: clients that present the create secret, or the ticket of
 * that very channel. Its creator got the ticket for the secret, and its invite passes the ticket on, so that any member
 * can create the same channel again.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { CreateSecretCheck } from '../dependencies.ts';
import { StartupError, errnoName } from './startup-error.ts';

/** It is part of URLs and headers. */
const SECRET = /^[A-Za-z0-9_-]{16,128}$/;

const hash = (text: string) => createHash('sha256').update(text).digest();
const isSame = (a: string, b: string) => timingSafeEqual(hash(a), hash(b));

/**
 * Throws StartupError for a file that has no secret.
 *
 * @param path undefined: everybody may create channels
 */
export function loadCreateSecret(path: string | undefined): CreateSecretCheck {
  if (path === undefined) return () => '';
  const secret = read(path).trim();
  if (!SECRET.test(secret)) {
    throw new StartupError('--create-secret-file: the file must hold 16 to 128 of A-Z a-z 0-9 _ - and no more');
  }
  return (credential, channelId) => {
    if (typeof credential !== 'string') return undefined;
    const ticket = createHmac('sha256', secret).update(`agentalk/1 ticket ${channelId}`).digest('hex').slice(0, 32);
    return isSame(credential, secret) || isSame(credential, ticket) ? ticket : undefined;
  };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new StartupError(`--create-secret-file: can't read ${path} (${errnoName(error)})`);
  }
}
