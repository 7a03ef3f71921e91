/** What stands in the place of the talk, from the templates of room.html: the way in, why there is none, and the way out. */
import { isHex } from './legacy-bytes.ts';
import { accessOf, channelOf, isName } from './legacy-protocol.ts';
import { enter, resume } from './channel.ts';
import { at, on } from './dom.ts';
import { Kept } from './kept.ts';
import type { Me, Room } from './room.ts';
import { asName, safe } from './text.ts';
import { Refused } from './wire.ts';

const [, base = '', channel = ''] = /^(.*)\/c\/([0-9a-f]{32})$/.exec(location.pathname) ?? [];
const given = new URLSearchParams(location.hash.slice(1));
export const key = given.get('k') ?? '';
export const topic =
  safe(given.get('topic') ?? '')
    .slice(0, 120)
    .trim() || `Room ${channel.slice(0, 6)}`;

export function gate(template: string): void {
  at('gate').replaceChildren(at<HTMLTemplateElement>(template).content);
  at('gate').hidden = false;
  at('talk').hidden = at('tools').hidden = true;
}

export function state(kind: string, words: string): void {
  const line = at('state');
  if (line.textContent !== words) line.textContent = words;
  line.className = kind;
}

/** The room of this link, once somebody is in it. Never, where the link or the browser doesn't do. */
export async function comeIn(): Promise<Room> {
  // Without https there is no crypto.subtle, whatever the types say.
  if (!(crypto.subtle as SubtleCrypto | undefined)) return insecure();
  if (key === '')
    return incomplete(
      'The key is missing: it stands behind the # and is 64 characters long. Paste the link once more, whole.',
    );
  if (!isHex(key, 64))
    return incomplete('The key in it is damaged: behind #k= there are 64 of 0-9 and a-f. Ask for the link again.');
  if ((await channelOf(await accessOf(key))) !== channel)
    return incomplete('Link and key don’t belong together: a digit is wrong. Ask for the link again.');
  const kept = new Kept(channel);
  const me = kept.get<Me>('me');
  const room = me && (await isOurs(me.stream)) ? await resume(base, key, channel) : undefined;
  if (room) return room;
  // A tab that was duplicated has what its original keeps, and must not speak with the same numbers.
  if (me) kept.clear();
  const entered = await ask();
  void isOurs(entered.me.stream);
  return entered;
}

/** Two tabs must not be one participant. The tab that reloads gives its lock back a moment late. */
async function isOurs(stream: string): Promise<boolean> {
  const signal = AbortSignal.timeout(3000);
  return new Promise((resolve) => {
    const held = () => {
      resolve(true);
      return new Promise(() => {}); // as long as the page lives
    };
    navigator.locks.request(`agentalk ${stream}`, { signal }, held).catch(() => resolve(false));
  });
}

function closed(template: string): Promise<never> {
  gate(template);
  state('offline', 'Not connected');
  return new Promise(() => {});
}

function insecure(): Promise<never> {
  const { hostname, port } = location;
  const number = port || '80';
  const never = closed('insecure');
  at('host').textContent = hostname;
  at('tunnel').textContent = `ssh -N -L ${number}:127.0.0.1:${number} ${hostname}`;
  at('local').textContent = `http://localhost:${number}/c/…`;
  return never;
}

function incomplete(words: string): Promise<never> {
  const never = closed('incomplete');
  at('why').textContent = words;
  const input = at<HTMLInputElement>('whole');
  on(at('open'), 'submit', (event) => {
    event.preventDefault();
    const [, link = ''] = /(https?:\/\/\S+#k=\S+)/.exec(input.value) ?? [];
    const url = link === '' ? undefined : new URL(link);
    if (url?.origin === location.origin) {
      location.href = url.href;
      if (url.pathname === location.pathname) location.reload();
    } else input.setCustomValidity('That is no whole link to a room on this bridge.');
    input.reportValidity();
  });
  on(input, 'input', () => input.setCustomValidity(''));
  return never;
}

/** Asks once for a name; or watches. */
function ask(): Promise<Room> {
  state('', 'Not joined yet');
  gate('ask');
  const form = at<HTMLFormElement>('join');
  const input = at<HTMLInputElement>('name');
  const say = (words: string) => (at('problem').textContent = words);
  const tidy = () => (input.value = asName(input.value));
  input.value = asName(given.get('name') ?? '');
  input.focus();
  return new Promise((resolve) => {
    const go = async (name: string, isWatching: boolean) => {
      form.inert = true;
      say('');
      try {
        resolve(await enter(base, key, name, isWatching));
      } catch (error) {
        form.inert = false;
        if (!(error instanceof Refused)) {
          say('That failed. Try again.');
          console.error(error);
        } else if (error.code === 'name_taken') {
          say(`Somebody here is called ${name}. Take another name.`);
          if (!isWatching) input.value = asName(`${name.slice(0, 29)}-2`);
        } else say(`${error.message} Try again.`);
        input.focus();
      }
    };
    on(input, 'change', tidy);
    on(form, 'submit', (event) => {
      event.preventDefault();
      const name = tidy();
      if (isName(name)) void go(name, false);
      else say('That leaves no name: it needs a letter or a digit.');
    });
    on(at('watch'), 'click', () => void go(`watcher-${crypto.randomUUID().slice(0, 4)}`, true));
  });
}
