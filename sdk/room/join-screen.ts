/** What is shown instead of the conversation, from the templates of room.html: the way in, what is in the way, the end. */
import { isHex } from '../encoding.ts';
import { deriveAccessToken, deriveChannelId, isName, isReservedName } from '../protocol.ts';
import { ApiError } from './bridge-api.ts';
import { forgetStored, joinRoom, restoreRoom, storedSid } from './connection.ts';
import type { Link } from './connection.ts';
import { byId, listen } from './dom.ts';
import { describeTrouble } from './event-text.ts';
import { normalizeName } from './format.ts';
import { sanitizeLine } from './sanitize.ts';
import type { Room } from './state.ts';
import { TabStorage } from './tab-storage.ts';

const LOCK_TIMEOUT_MS = 3_000;
const MAX_TOPIC_CHARACTERS = 120;

const [, bridge = '', channelId = ''] = /^(.*)\/c\/([0-9a-f]{32})$/.exec(location.pathname) ?? [];
/** What the link has behind its #. Unknown parameters are ignored. */
export const fragmentParams = new URLSearchParams(location.hash.slice(1));
const ticket = fragmentParams.get('t') ?? '';
export const link: Link = {
  bridge,
  channelId,
  channelKey: fragmentParams.get('k') ?? '',
  ticket: /^[\w-]{1,128}$/.test(ticket) ? ticket : '',
};
export const topic =
  sanitizeLine(fragmentParams.get('topic') ?? '')
    .slice(0, MAX_TOPIC_CHARACTERS)
    .trim() || `Room ${channelId.slice(0, 6)}`;

/** Shows a template in the place of the conversation. */
export function showScreen(template: string): void {
  byId('gate').replaceChildren(byId<HTMLTemplateElement>(template).content.cloneNode(true));
  byId('gate').hidden = false;
  byId('talk').hidden = true;
  byId('tools').hidden = true;
}

/** @param kind a CSS class: online, offline or none */
export function setStatus(kind: string, words: string): void {
  const line = byId('state');
  if (line.textContent !== words) line.textContent = words;
  line.className = kind;
}

/** The room of this link, once the person is in it. It never comes where link or browser don't allow that. */
export async function openRoom(): Promise<Room> {
  // Without https there is no crypto.subtle, whatever the types say.
  if (!(crypto.subtle as SubtleCrypto | undefined)) return blockAsInsecure();
  const problem = await linkProblem();
  if (problem) return blockAsIncomplete(problem);
  const restored = await restoreOwn();
  if (restored) return restored;
  const room = await askForName();
  void acquireTabLock(room.me.sid);
  return room;
}

/** Why this link opens no room; undefined if it does. */
async function linkProblem(): Promise<string | undefined> {
  const { channelKey } = link;
  if (channelKey === '') {
    return 'The key is missing: it follows #k= and has 64 characters. Paste the link once more, whole.';
  }
  if (!isHex(channelKey, 64)) {
    return 'The key in it is damaged: behind #k= there are 64 of 0-9 and a-f. Ask for the link again.';
  }
  if ((await deriveChannelId(await deriveAccessToken(channelKey))) === channelId) return undefined;
  return 'Link and key don’t belong together: a digit is wrong, or the link is of another version. Ask for it again.';
}

/** The room that this tab was in before a reload, unless another tab has it: this one was duplicated. */
async function restoreOwn(): Promise<Room | undefined> {
  const sid = storedSid(channelId);
  if (sid === undefined) return undefined;
  const room = (await acquireTabLock(sid)) ? await restoreRoom(link) : undefined;
  if (!room) forgetStored(channelId);
  return room;
}

/** Holds a lock as long as the page lives. A tab that reloads gives it back a moment late. */
function acquireTabLock(sid: string): Promise<boolean> {
  const signal = AbortSignal.timeout(LOCK_TIMEOUT_MS);
  return new Promise((resolve) => {
    const hold = () => {
      resolve(true);
      return new Promise(() => {});
    };
    navigator.locks.request(lockName(sid), { signal }, hold).catch(() => resolve(false));
  });
}

const lockName = (sid: string): string => `agentalk ${sid}`;

/** The sids of all sessions that are open in this browser. */
export async function openSids(): Promise<readonly string[]> {
  const { held = [] } = await navigator.locks.query();
  return held.flatMap(({ name = '' }) => (name.startsWith(lockName('')) ? [name.slice(lockName('').length)] : []));
}

// ---- what is in the way ----

function blockWith(template: string): Promise<never> {
  showScreen(template);
  setStatus('offline', 'Not connected');
  return new Promise(() => {});
}

function blockAsInsecure(): Promise<never> {
  const { hostname, port } = location;
  const number = port || '80';
  const never = blockWith('insecure');
  byId('host').textContent = hostname;
  byId('tunnel').textContent = `ssh -N -L ${number}:127.0.0.1:${number} ${hostname}`;
  byId('local').textContent = `http://localhost:${number}/c/…`;
  return never;
}

function blockAsIncomplete(problem: string): Promise<never> {
  const never = blockWith('incomplete');
  byId('why').textContent = problem;
  const input = byId<HTMLInputElement>('whole');
  listen(byId('open'), 'submit', (event) => {
    event.preventDefault();
    const [, text = ''] = /(https?:\/\/\S+#k=\S+)/.exec(input.value) ?? [];
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (url?.origin === location.origin) {
      location.href = url.href;
      if (url.pathname === location.pathname) location.reload();
    } else {
      input.setCustomValidity('That is not a whole link to a room on this bridge.');
    }
    input.reportValidity();
  });
  listen(input, 'input', () => input.setCustomValidity(''));
  return never;
}

// ---- the way in ----

/** Asks once for a name; or watches. */
function askForName(): Promise<Room> {
  setStatus('', 'Not joined yet');
  showScreen('ask');
  byId('no-storage').hidden = new TabStorage(channelId).isPersistent;
  const form = byId<HTMLFormElement>('join');
  const input = byId<HTMLInputElement>('name');
  const showProblem = (words: string) => (byId('problem').textContent = words);
  const normalize = () => (input.value = normalizeName(input.value));
  input.value = normalizeName(fragmentParams.get('name') ?? '');
  input.focus();
  return new Promise((resolve) => {
    const join = async (name: string, isWatching: boolean) => {
      form.inert = true;
      showProblem('');
      try {
        resolve(await joinRoom(link, name, isWatching));
      } catch (error) {
        form.inert = false;
        showProblem(describeJoinProblem(error, name));
        const isTaken = error instanceof ApiError && error.code === 'name_taken';
        if (isTaken && !isWatching) input.value = normalizeName(`${name.slice(0, 29)}-2`);
        input.focus();
      }
    };
    listen(input, 'change', normalize);
    listen(form, 'submit', (event) => {
      event.preventDefault();
      const name = normalize();
      if (!isName(name)) showProblem('That leaves no name: it needs a letter or a digit.');
      else if (isReservedName(name)) showProblem(`${name} means somebody else here. Take another name.`);
      else void join(name, false);
    });
    listen(byId('watch'), 'click', () => void join(`watcher-${crypto.randomUUID().slice(0, 4)}`, true));
  });
}

function describeJoinProblem(error: unknown, name: string): string {
  if (!(error instanceof ApiError)) {
    console.error(error);
    return 'That failed. Reload the page and try again.';
  }
  if (error.code === 'name_taken') return `Somebody here is called ${name}. Take another name.`;
  if (error.code === 'wrong_key') return 'The bridge does not accept the key of this link. Ask for the whole link.';
  return `${describeTrouble(error.code).replace(/, trying again$/, '')}. Try again.`;
}
