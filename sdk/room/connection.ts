/**
 * In and out of a channel, and what runs between: the loop that polls, the loop that posts, joining again where the
 * bridge lost us, and a new session where this one turns out to be a copy.
 */
import { randomHex } from '../encoding.ts';
import * as protocol from '../protocol.ts';
import { BROADCAST } from '../protocol.ts';
import type { Keys } from '../protocol.ts';
import { ApiError, BridgeApi, codeOf } from './bridge-api.ts';
import { sayBye, scheduleControl } from './control.ts';
import { resumeTransfers } from './files.ts';
import { applyPoll } from './inbox.ts';
import { hasOutgoing, isAcked, postNext, reportBlocked, rewindOutbox } from './outbox.ts';
import { restore, save } from './persistence.ts';
import { PieceStore } from './piece-store.ts';
import { applyListed, fetchedByUs } from './presence.ts';
import { successorOf } from './sessions.ts';
import { Room } from './state.ts';
import type { Entry, Identity } from './state.ts';
import { TabStorage } from './tab-storage.ts';

const REJOIN_CODES = ['no_channel', 'no_participant', 'other_epoch'];
const FATAL_CODES = ['bad_token', 'wrong_key', 'name_taken'];
/** Proxies end a request that has had no response for 30 s. */
const MAX_POLL_SECONDS = 25;
/** While numbers are missing, their time is looked at more often. */
const MISSING_POLL_SECONDS = 5;
/** The bridge drops us after this when the tab is closed; a reload is faster. */
const LEAVE_DELAY_SECONDS = 20;
const IDLE_MS = 60_000;
const BLOCKED_RETRY_MS = 30_000;
const LAST_POSTS_MS = 3_000;
const COPY_INTERVAL_MS = 3_600_000;
/** Stored identities of another shape are not restored. */
const STORAGE_VERSION = 1;

export type Link = {
  /** Where the bridge is, without a slash at its end. */
  readonly bridge: string;
  readonly channelKey: string;
  readonly channelId: string;
  /** '' without. */
  readonly ticket: string;
};

type StoredKeys = {
  readonly ecdh: JsonWebKey;
  readonly ecdsa: JsonWebKey;
  readonly pub: string;
  readonly sign: string;
};
type StoredIdentity = Omit<Identity, 'keys'> & { readonly version: number; readonly keys: StoredKeys };

// ---- in ----

/** Joins under a name, as a new session. Throws ApiError; `name_taken` means to try another name. */
export async function joinRoom(link: Link, name: string, isWatching: boolean): Promise<Room> {
  const { me, storedKeys } = await newIdentity(link, name, isWatching, randomHex(32), []);
  const room = await makeRoom(link, me);
  await join(room);
  room.storage.clear();
  storeIdentity(room, storedKeys);
  save(room);
  return room;
}

/** The sid of the session that this tab was in before a reload. */
export const storedSid = (channelId: string): string | undefined => {
  const stored = new TabStorage(channelId).get<StoredIdentity>('me');
  return stored?.version === STORAGE_VERSION ? stored.sid : undefined;
};

export const forgetStored = (channelId: string): void => new TabStorage(channelId).clear();

/** The room that this tab was in before a reload. */
export async function restoreRoom(link: Link): Promise<Room | undefined> {
  const stored = new TabStorage(link.channelId).get<StoredIdentity>('me');
  if (stored?.version !== STORAGE_VERSION) return undefined;
  const { keys, version: _, ...identity } = stored;
  const room = await makeRoom(link, { ...identity, keys: await importKeys(keys) });
  await restore(room);
  return room;
}

/** New keys and their card. The private keys are exported once, to be stored in the tab; those in use can't be. */
async function newIdentity(
  { channelKey, channelId }: Link,
  name: string,
  isWatching: boolean,
  token: string,
  formerSids: readonly string[],
): Promise<{ me: Identity; storedKeys: StoredKeys }> {
  const storedKeys = await exportKeys(await protocol.makeKeys(true));
  const { pub, sign } = storedKeys;
  const card: protocol.Card = { kind: 'human', name, pub, sign };
  const sid = await protocol.deriveSessionId(channelKey, card);
  const participantId = await protocol.deriveParticipantId(channelKey, name);
  const broadcastKey = await protocol.aesKey(protocol.broadcastPassphrase(channelKey));
  const aad = protocol.additionalData(channelId, participantId, BROADCAST, 'card');
  const sealedCard = await protocol.seal(broadcastKey, aad, protocol.makeCard(card));
  const copiedAt = formerSids.length > 0 ? Date.now() : 0;
  const keys = await importKeys(storedKeys);
  return { me: { name, isWatching, token, card: sealedCard, sid, keys, copiedAt, formerSids }, storedKeys };
}

async function makeRoom({ bridge, channelKey, channelId, ticket }: Link, me: Identity): Promise<Room> {
  const accessToken = await protocol.deriveAccessToken(channelKey);
  const participantId = await protocol.deriveParticipantId(channelKey, me.name);
  const broadcastKey = await protocol.aesKey(protocol.broadcastPassphrase(channelKey));
  const api = new BridgeApi(`${bridge}/channels/${channelId}`, accessToken, participantId, me.token, ticket);
  const own = { channelKey, channelId, participantId, broadcastKey };
  return new Room(me, own, api, new PieceStore(me.sid));
}

function storeIdentity(room: Room, keys: StoredKeys): void {
  const stored: StoredIdentity = { ...room.me, version: STORAGE_VERSION, keys };
  if (!room.storage.set('me', stored)) room.storage.disable();
}

async function exportKeys({ ecdh, ecdsa, pub, sign }: Keys): Promise<StoredKeys> {
  const toJwk = (key: CryptoKey) => crypto.subtle.exportKey('jwk', key);
  return { ecdh: await toJwk(ecdh), ecdsa: await toJwk(ecdsa), pub, sign };
}

async function importKeys({ ecdh, ecdsa, pub, sign }: StoredKeys): Promise<Keys> {
  const toKey = (jwk: JsonWebKey, name: string, usage: KeyUsage) =>
    crypto.subtle.importKey('jwk', jwk, { name, namedCurve: 'P-256' }, false, [usage]);
  return { ecdh: await toKey(ecdh, 'ECDH', 'deriveBits'), ecdsa: await toKey(ecdsa, 'ECDSA', 'sign'), pub, sign };
}

/** Creates or finds the channel and joins it with our card. */
async function join(room: Room): Promise<void> {
  const { api, position } = room;
  room.limits = await api.create();
  const { epoch, cursor, index, participants } = await api.join(room.me.card);
  const isNewEpoch = epoch !== position.epoch;
  if (isNewEpoch) {
    room.indices.clear();
    position.highestIndex = 0;
  }
  if (position.joinEpoch === '') {
    position.joinEpoch = epoch;
    position.joinIndex = index;
  }
  // In an epoch that we know our own cursor is what we stored.
  if (isNewEpoch) position.cursor = cursor;
  position.epoch = epoch;
  position.isJoined = true;
  room.storage.set('limits', room.limits);
  await applyListed(room, participants, isNewEpoch);
}

// ---- while it lasts ----

/** Polls and posts until the session ends. */
export async function runRoom(room: Room): Promise<void> {
  resumeTransfers(room);
  await Promise.all([pollLoop(room), sendLoop(room)]);
}

async function pollLoop(room: Room): Promise<void> {
  // A restored room may be an older snapshot.
  let mustCheckCopy = room.position.isJoined;
  for (let failures = 0; !room.isClosed;) {
    const { epoch } = room.position;
    room.pollAbort = new AbortController();
    const stop = room.pollAbort.signal;
    try {
      if (!room.position.isJoined) {
        await rejoin(room);
        continue;
      }
      mustCheckCopy ||= Date.now() - room.api.lastResponseAt > IDLE_MS;
      if (mustCheckCopy) await checkFetched(room);
      mustCheckCopy = false;
      if (!checkCopy(room)) await pollOnce(room, stop);
      failures = 0;
      markOnline(room);
      room.outgoing.notify();
    } catch (error) {
      // Another request found a new epoch, and ended this poll.
      if (stop.aborted && room.position.epoch !== epoch) continue;
      if (!(await recover(room, error, epoch))) await backOff(room, error, ++failures);
    }
  }
}

async function pollOnce(room: Room, stop: AbortSignal): Promise<void> {
  const { epoch, cursor } = room.position;
  const beganAt = Date.now();
  const response = await room.api.poll(epoch, cursor, pollSeconds(room), stop);
  if (response.epoch === room.position.epoch) await applyPoll(room, response, beganAt);
  checkCopy(room);
}

/** The first poll shows at once what is there. */
function pollSeconds(room: Room): number {
  if (room.connection !== 'online') return 0;
  const isMissing = room.sessions.some(({ broadcasts, directs }) => !broadcasts.isComplete || !directs.isComplete);
  return Math.min(isMissing ? MISSING_POLL_SECONDS : MAX_POLL_SECONDS, room.limits.pollSeconds);
}

async function sendLoop(room: Room): Promise<void> {
  for (let failures = 0; !room.isClosed;) {
    if (!hasOutgoing(room) || room.connection === 'joining') {
      await room.outgoing.wait(BLOCKED_RETRY_MS);
      continue;
    }
    const { epoch } = room.position;
    try {
      await postNext(room);
      failures = 0;
      markOnline(room);
    } catch (error) {
      if (reportBlocked(room, error)) await room.retry.wait(BLOCKED_RETRY_MS);
      else if (!(await recover(room, error, epoch))) await backOff(room, error, ++failures);
    }
  }
}

function markOnline(room: Room): void {
  room.trouble = '';
  room.setConnection('online');
  scheduleControl(room);
}

/** Waits before another try: as long as the bridge wants, or longer with each failure. */
async function backOff(room: Room, error: unknown, failures: number): Promise<void> {
  const wanted = error instanceof ApiError ? error.retryAfterMs : undefined;
  await room.retry.wait(wanted ?? Math.min(300 * 2 ** failures, 5000) * (0.7 + 0.6 * Math.random()));
}

/** After a request failed: true if it can be tried again at once. */
async function recover(room: Room, error: unknown, epoch: string): Promise<boolean> {
  const code = codeOf(error);
  if (!(error instanceof ApiError)) console.error(error);
  room.trouble = code;
  if (FATAL_CODES.includes(code)) {
    room.setConnection('refused');
    stopLoops(room);
    return false;
  }
  if (!REJOIN_CODES.includes(code)) {
    room.setConnection('offline');
    return false;
  }
  // Somebody else has joined again meanwhile.
  if (room.position.epoch !== epoch) return true;
  room.rejoining ??= rejoin(room).finally(() => (room.rejoining = undefined));
  try {
    await room.rejoining;
    return true;
  } catch (reason) {
    if (REJOIN_CODES.includes(codeOf(reason))) return false;
    return recover(room, reason, epoch);
  }
}

/** The same channel, name, token and card again; then a sync to each session, and our content again. */
async function rejoin(room: Room): Promise<void> {
  const { epoch } = room.position;
  await join(room);
  rewindOutbox(room);
  if (epoch !== '' && epoch !== room.position.epoch) room.addEntry('resumed');
  save(room);
  room.pollAbort.abort();
  markOnline(room);
  room.outgoing.notify();
}

// ---- a copy of this session ----

/** The bridge says how far this session fetched: beyond what is stored here, a copy of it did. */
async function checkFetched(room: Room): Promise<void> {
  const { cursor } = room.position;
  const fetched = await fetchedByUs(room);
  if (fetched !== undefined && fetched > cursor) room.hasCopy = true;
}

/** True if this session has to end because a copy of it exists; at most once an hour. */
function checkCopy(room: Room): boolean {
  if (!room.hasCopy) return false;
  room.hasCopy = false;
  const isRecent = Date.now() - room.me.copiedAt < COPY_INTERVAL_MS;
  if (isRecent || !room.storage.isPersistent) return false;
  room.setConnection('copied');
  stopLoops(room);
  return true;
}

/**
 * Stores a new session under the same name and token in the place of this one, for the page to reload into. It keeps the
 * transcript and what came of broadcasts; all that is between two sessions begins again.
 */
export async function replaceCopy(room: Room, link: Link): Promise<void> {
  const { name, isWatching, token, formerSids, sid } = room.me;
  const { me, storedKeys } = await newIdentity(link, name, isWatching, token, [...formerSids, sid].slice(-8));
  const next = await makeRoom(link, me);
  // What of the old session still runs must not store anything over the new one.
  room.storage.disable();
  await room.pieces.clear();
  next.position = { ...room.position, broadcasts: 0, posted: 0, isJoined: false };
  next.limits = room.limits;
  for (const entry of room.entries) {
    endDelivery(room, entry);
    next.touch(entry);
  }
  next.restoreEntries(room.entries);
  next.addEntry('copied', '', { count: room.entries.filter(isUnconfirmed).length });
  for (const session of room.sessions) {
    const key = await protocol.directKey(link.channelKey, me.keys.ecdh, me.sid, session.sid, session.card.pub);
    if (!key.ok) continue;
    const successor = successorOf(session, key.value);
    next.sessions.push(successor);
    next.touchSession(successor);
  }
  storeIdentity(next, storedKeys);
  next.storage.set('limits', next.limits);
  save(next);
}

/** What is known of one of our messages when its session ends is all that will be known. */
function endDelivery(room: Room, entry: Entry): void {
  if (!entry.isMine || entry.confirmedBy) return;
  const item = room.outbox[(entry.outboxNumber ?? 0) - 1];
  delete entry.outboxNumber;
  if (entry.file?.state === 'sending') entry.file.state = 'not-sent';
  entry.confirmedBy = room.sessions.filter((session) => item && isAcked(item, session)).map(({ label }) => label);
}

const isUnconfirmed = ({ confirmedBy }: Entry): boolean => confirmedBy?.length === 0;

// ---- out ----

/** Posts what is queued, says bye, leaves at the bridge, and deletes what the tab stored. */
export async function leaveRoom(room: Room): Promise<void> {
  const end = Date.now() + LAST_POSTS_MS;
  while (hasOutgoing(room) && room.connection === 'online' && Date.now() < end) await room.outgoing.wait(100);
  if (room.connection === 'online') await sayBye(room);
  room.setConnection('left');
  stopLoops(room);
  room.storage.disable();
  await room.pieces.clear();
  await room.api.leave(room.position.epoch, 0).catch(() => undefined);
}

/** The tab is closed or reloaded. Where nothing is stored it can't come back, and leaves at once. */
export function suspendRoom(room: Room): void {
  if (room.isClosed) return;
  save(room);
  room.api.leave(room.position.epoch, room.storage.isPersistent ? LEAVE_DELAY_SECONDS : 0).catch(() => undefined);
}

function stopLoops(room: Room): void {
  room.pollAbort.abort();
  room.retry.notify();
  room.outgoing.notify();
}
