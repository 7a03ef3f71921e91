/**
 * Who may create channels, where the operator restricts that: clients that present the create secret, or the ticket of
 * that very channel. Its creator got the ticket for the secret, and its invite passes the ticket on, so that any member
 * can create the same channel again. The file has a secret a line: the first makes tickets, and all are accepted with
 * their tickets, so that an operator can change the secret without cutting off the channels made with the old one.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { CreateSecretCheck } from '../dependencies.ts';
import { StartupError, errnoName } from './startup-error.ts';

/** It is part of URLs and headers. */
const SECRET = /^[A-Za-z0-9_-]{16,128}$/;
const MAX_SECRETS = 10;

const hash = (text: string) => createHash('sha256').update(text).digest();
const isSame = (a: string, b: string) => timingSafeEqual(hash(a), hash(b));

const ticketOf = (secret: string, channelId: string) =>
  createHmac('sha256', secret).update(`agentalk/1 ticket ${channelId}`).digest('hex').slice(0, 32);

/**
 * Throws StartupError for a file that has no secret, or another line.
 *
 * @param path undefined: everybody may create channels
 */
export function loadCreateSecret(path: string | undefined): CreateSecretCheck {
  if (path === undefined) return () => '';
  const secrets = read(path)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  const [newest] = secrets;
  if (newest === undefined || secrets.length > MAX_SECRETS || !secrets.every((secret) => SECRET.test(secret))) {
    throw new StartupError(
      `--create-secret-file: the file must have 1 to ${MAX_SECRETS} lines, each with 16 to 128 of A-Z a-z 0-9 _ -`,
    );
  }
  return (credential, channelId) => {
    if (typeof credential !== 'string') return undefined;
    const accepted = secrets.flatMap((secret) => [secret, ticketOf(secret, channelId)]);
    const isAccepted = accepted.some((each) => isSame(credential, each));
    return isAccepted ? ticketOf(newest, channelId) : undefined;
  };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new StartupError(`--create-secret-file: can't read ${path} (${errnoName(error)})`);
  }
}
