/**
 * Who may open channels, where an operator restricts that: whoever brings the secret, or the ticket of that very channel,
 * which its opener got for the secret and which its link passes on. So any member can open the same channel again.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Advice, codeOf } from './startup-error.ts';

/** The ticket of a channel for who brought this; undefined if it may not be opened. '' where everybody may. */
export type Invitation = (brought: string | string[] | undefined, channelId: string) => string | undefined;

/** It stands in URLs and headers. */
const SECRET = /^[A-Za-z0-9_-]{16,128}$/;

const hash = (text: string) => createHash('sha256').update(text).digest();
const isSame = (a: string, b: string) => timingSafeEqual(hash(a), hash(b));

/** Throws Advice for a file that has no secret. */
export function readInvitation(path: string | undefined): Invitation {
  if (path === undefined) return () => '';
  const secret = read(path).trim();
  if (!SECRET.test(secret)) throw new Advice('--invite: the file has to hold 16 to 128 of A-Z a-z 0-9 _ - and no more');
  return (brought, channelId) => {
    if (typeof brought !== 'string') return undefined;
    const ticket = createHmac('sha256', secret).update(`agentalk/1 ticket ${channelId}`).digest('hex').slice(0, 32);
    return isSame(brought, secret) || isSame(brought, ticket) ? ticket : undefined;
  };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Advice(`--invite: can't read ${path} (${codeOf(error)})`);
  }
}
