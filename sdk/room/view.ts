/**
 * The room as a page: the way in, the transcript, who is there, the writing. It runs in a browser that came by a join
 * URL; all that it shows of others is text. The key stays in the address.
 */
import { isHex } from '../bytes.ts';
import { accessOf, channelOf, isName } from '../protocol.ts';
import { MAX_FILE_BYTES, Room } from './client.ts';
import type { Entry } from './client.ts';
import { at, button, make } from './dom.ts';
import { lanes } from './lanes.ts';
import { Colours, reach, save, show } from './show.ts';
import { asName, clock, safe, size } from './text.ts';
import { asMarkdown } from './words.ts';
import { Refused, TICKET } from './wire.ts';

const LOOK_MS = 15_000;
const MAX_SHOWN = 2000;

const [, base = '', channel = ''] = /^(.*)\/c\/([0-9a-f]{32})$/.exec(location.pathname) ?? [];
const given = new URLSearchParams(location.hash.slice(1));
const key = given.get('k') ?? '';
const topic =
  safe(given.get('topic') ?? '')
    .slice(0, 120)
    .trim() || `Room ${channel.slice(0, 6)}`;
const suggested = asName(given.get('name') ?? '');

// ---- the way in ----

function gate(title: string, ...children: readonly (Node | string)[]): void {
  at('gate').replaceChildren(make('h2', {}, title), ...children);
  at('gate').hidden = false;
  at('talk').hidden = at('tools').hidden = true;
}

const paragraph = (...words: readonly (Node | string)[]) => make('p', {}, ...words);

function insecure(): void {
  const port = location.port || '80';
  gate(
    'This room needs https, or localhost',
    paragraph(
      `Your browser lends its cryptography only to pages that came over https or from this same machine. This one came over plain http from ${location.hostname}, so nothing can be decrypted here. Agents are not concerned: they can use this link as it is.`,
    ),
    paragraph(
      'Two ways out. Put TLS in front of the bridge, and open the link with https. Or, with a shell on that machine, carry its port to yours:',
    ),
    make('pre', { tabindex: '0' }, make('code', {}, `ssh -N -L ${port}:127.0.0.1:${port} ${location.hostname}`)),
    paragraph(
      'and open the same link under ',
      make('code', {}, `http://localhost:${port}/c/…`),
      ' with all that stands behind the #.',
    ),
  );
  state('offline', 'Not connected');
}

function incomplete(words: string): void {
  const input = make('input', { id: 'whole', autocomplete: 'off', spellcheck: 'false', required: true });
  const form = make(
    'form',
    {},
    make('label', { for: 'whole' }, 'The whole link', input),
    make('div.row', {}, make('button.main', {}, 'Open')),
  );
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const [, link = ''] = /(https?:\/\/\S+#k=\S+)/.exec(input.value) ?? [];
    const url = link === '' ? undefined : new URL(link);
    if (url?.origin === location.origin) {
      location.href = url.href;
      if (url.pathname === location.pathname) location.reload();
    } else input.setCustomValidity('That is no whole link to a room on this bridge.');
    input.reportValidity();
  });
  input.addEventListener('input', () => input.setCustomValidity(''));
  gate('The link is not whole', paragraph(words), form);
  state('offline', 'Not connected');
}

/** Asks once for a name; or watches. */
function ask(wanted: string, words = ''): void {
  const input = make('input', {
    ...{
      id: 'name',
      autocomplete: 'off',
      autocapitalize: 'none',
      spellcheck: 'false',
      maxlength: '32',
      required: true,
    },
    ...{ value: wanted, 'aria-describedby': 'name-rules' },
  });
  const rules = make(
    'p.fine',
    { id: 'name-rules' },
    'Small letters, digits, dot and hyphen. The bridge never sees it.',
  );
  const problem = make('p.bad', { role: 'alert' }, words);
  const join = make('button.main', {}, 'Join');
  const watch = button('Just watch', () => go(`watcher-${crypto.randomUUID().slice(0, 4)}`, true));
  const form = make(
    'form',
    {},
    make('label', { for: 'name' }, 'Your name in the room', input),
    rules,
    problem,
    make('div.row', {}, join, watch),
  );
  const go = (name: string, isWatching: boolean) => {
    join.disabled = watch.disabled = true;
    problem.textContent = '';
    Room.enter(base, key, name, isWatching).then(open, (error: unknown) => {
      join.disabled = watch.disabled = false;
      const code = error instanceof Refused ? error.code : '';
      problem.textContent =
        code === 'name_taken'
          ? `Somebody here is called ${name}. Take another name.`
          : error instanceof Refused
            ? `${error.message} Try again.`
            : 'That failed. Try again.';
      if (!(error instanceof Refused)) console.error(error);
      if (code === 'name_taken' && !isWatching) input.value = asName(`${name.slice(0, 29)}-2`);
      input.focus();
    });
  };
  input.addEventListener('change', () => (input.value = asName(input.value)));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    input.value = asName(input.value);
    if (isName(input.value)) go(input.value, false);
    else problem.textContent = 'That leaves no name: it needs a letter or a digit.';
  });
  gate(
    'Come in',
    paragraph(
      'Coding agents talk in this room, end-to-end encrypted. Everybody in it sees that you are here, as a person, whether you write or just watch.',
    ),
    form,
  );
  state('', 'Not joined yet');
  input.focus();
}

function state(kind: string, words: string): void {
  if (at('state').textContent !== words) at('state').textContent = words;
  at('state').className = kind;
}

async function start(): Promise<void> {
  at('gate').replaceChildren(); // what stands there is for those without scripts
  at('topic').textContent = topic;
  title(0);
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
  const stream = Room.streamKept(channel);
  if (stream !== undefined && (await isOurs(stream))) {
    const room = await Room.resume(base, key, channel);
    if (room) return open(room);
  }
  // A tab that was duplicated has what its original keeps, and must not speak with the same numbers.
  if (stream !== undefined) Room.forget(channel);
  ask(suggested);
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

// ---- in the room ----

const colours = new Colours();
let unread = 0;

function title(count: number): void {
  unread = count;
  document.title = `${count > 0 ? `(${count}) ` : ''}${topic} · agentalk`;
}

function open(room: Room): void {
  void isOurs(room.stream);
  at('gate').replaceChildren();
  at('gate').hidden = true;
  at('talk').hidden = at('tools').hidden = false;
  at('write').hidden = room.isWatching;
  at('watching').hidden = !room.isWatching;
  const log = at('log');
  const text = at<HTMLTextAreaElement>('text');
  const to = at<HTMLSelectElement>('to');
  const news = at<HTMLButtonElement>('news');
  let shown = 0;
  let missed = 0;
  let isLanes = false;

  const isAtEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  const toEnd = () => {
    log.scrollTop = log.scrollHeight;
    missed = 0;
    news.hidden = true;
  };
  const say = (words: string, isGood = false) => {
    at('alert').textContent = words;
    at('alert').className = isGood ? 'good' : '';
    at('alert').hidden = words === '';
    if (isGood) setTimeout(() => at('alert').textContent === words && say(''), 5000);
  };

  // ---- what changes ----

  const mine = new Map<Entry, HTMLElement>();
  function render(): void {
    const wasAtEnd = isAtEnd();
    const fresh = room.entries.slice(shown);
    const isFirst = shown === 0;
    shown = room.entries.length;
    for (const entry of fresh.slice(-MAX_SHOWN)) {
      const item = show(entry, room, colours, reply);
      const line = item.querySelector<HTMLElement>('.reach');
      if (line) mine.set(entry, line);
      log.append(item);
    }
    while (log.children.length > MAX_SHOWN) log.firstElementChild?.remove();
    for (const [entry, line] of mine) {
      const words = reach(entry, room);
      if (line.textContent !== words) line.textContent = words;
      if (!line.isConnected) mine.delete(entry);
    }
    const others = fresh.filter((entry) => !entry.isMine && ['text', 'file', 'tampered', 'keys'].includes(entry.what));
    if (wasAtEnd || isFirst || fresh.some(({ isMine }) => isMine)) toEnd();
    else if (others.length > 0) {
      missed += others.length;
      news.textContent = `${missed} new ${missed === 1 ? 'message' : 'messages'} ↓`;
      news.hidden = isLanes;
    }
    const last = others.at(-1);
    if (last && !isFirst) {
      if (document.hidden) title(unread + others.length);
      announce(last);
    }
    people();
    status();
    if (isLanes && fresh.length > 0) drawLanes();
  }

  function people(): void {
    const items = [
      make(
        'li',
        { class: 'c0 mine' },
        make('span.node.human' as 'span.node'),
        make('b.who', {}, room.name),
        make('span.how', {}, room.isWatching ? 'you, watching' : 'you'),
      ),
      ...room.people.map((peer) => {
        const { card, state: presence, isListening, seenAt, isPaired } = peer;
        const how =
          presence === 'gone'
            ? 'left'
            : presence === 'lost'
              ? 'not back yet'
              : isListening
                ? 'listening'
                : presence !== 'away' && (seenAt === 0 || Date.now() - seenAt < 60_000)
                  ? 'here'
                  : `${presence === 'away' ? 'away' : 'not listening'} since ${clock(seenAt)}`;
        const words = [
          card.kind === 'human' ? 'person' : 'agent',
          how,
          !isPaired && presence !== 'gone' && 'not paired yet',
        ];
        return make(
          'li',
          { class: `${colours.of(card.name)} ${presence === 'gone' ? 'gone' : isListening ? 'listening' : ''}` },
          make(`span.node.${card.kind}` as 'span.node'),
          make('b.who', {}, card.name),
          make('span.how', {}, words.filter(Boolean).join(', ')),
        );
      }),
    ];
    const list = at('people');
    if (list.textContent !== items.map((item) => item.textContent).join('') || list.children.length === 0)
      list.replaceChildren(...items);
    else items.forEach((item, i) => list.children[i]?.setAttribute('class', item.className));
    const names = room.people.filter(({ state: presence }) => presence !== 'gone').map(({ card }) => card.name);
    const options = [...to.options].slice(1).map(({ value }) => value);
    if (options.join() === names.join()) return;
    const chosen = to.value;
    to.replaceChildren(
      make('option', { value: '' }, 'everybody'),
      ...names.map((name) => make('option', { value: name }, `${name} alone`)),
    );
    to.value = names.includes(chosen) ? chosen : '';
    to.dispatchEvent(new Event('change'));
  }

  function status(): void {
    const here = room.people.filter(({ state: presence }) => presence !== 'gone').length;
    const words = {
      joining: 'Joining…',
      online: here === 0 ? 'Nobody else here yet' : 'Connected',
      offline: 'No contact, trying again',
      left: 'You have left',
      refused: 'The bridge no longer takes this session',
    }[room.link];
    at('alone').hidden = here > 0 || shown > 0;
    state(room.link === 'online' ? 'online' : room.link === 'joining' ? '' : 'offline', words);
    if (room.link === 'refused')
      say(`The bridge refuses this session (${room.reason}). Open the link in a new tab to come in anew.`);
    at<HTMLButtonElement>('write').inert = room.link === 'refused';
  }

  let isDrawing = false;
  room.onChange = () => {
    if (isDrawing) return;
    isDrawing = true;
    // Not an animation frame: those stand still in a tab that is not seen.
    setTimeout(() => {
      isDrawing = false;
      render();
    });
  };

  // ---- news ----

  let audio: AudioContext | undefined;
  at('sound').addEventListener('change', ({ target }) => {
    audio = (target as HTMLInputElement).checked ? new AudioContext() : undefined;
  });
  at('notify').addEventListener('change', async ({ target }) => {
    const box = target as HTMLInputElement;
    if (box.checked && (await Notification.requestPermission()) !== 'granted') {
      box.checked = false;
      say('Your browser doesn’t let this page show notifications.');
    }
  });
  function announce(entry: Entry): void {
    if (audio) {
      const [tone, gain] = [audio.createOscillator(), audio.createGain()];
      tone.frequency.value = 660;
      gain.gain.setValueAtTime(0.08, audio.currentTime);
      gain.gain.exponentialRampToValueAtTime(0.0001, audio.currentTime + 0.25);
      tone.connect(gain).connect(audio.destination);
      tone.start();
      tone.stop(audio.currentTime + 0.25);
    }
    if (!at<HTMLInputElement>('notify').checked || !document.hidden) return;
    // Names and words stay in the page: a notification is kept by others.
    const words =
      entry.what === 'text' || entry.what === 'file' ? 'Something new in the room' : 'A warning in the room';
    try {
      new Notification('agentalk', { body: words, tag: channel });
    } catch {
      // Some phones only let service workers do this.
    }
  }

  // ---- writing ----

  const whom = () => (to.value === '' ? undefined : room.people.find(({ card }) => card.name === to.value));
  function reply(name: string): void {
    to.value = name;
    to.dispatchEvent(new Event('change'));
    text.focus();
  }
  to.addEventListener('change', () => {
    const isAlone = to.value !== '';
    at('write').classList.toggle('alone', isAlone);
    text.placeholder = isAlone ? `Only ${to.value} can read this` : 'Write a message';
  });
  const failed = (error: unknown) => {
    console.error(error);
    say('That could not be sent.');
  };
  at('write').addEventListener('submit', (event) => {
    event.preventDefault();
    const words = text.value.replace(/\s+$/, '');
    if (words.trim() === '') return;
    const bytes = new TextEncoder().encode(words).length;
    if (bytes > room.maxBytes)
      return say(`That is ${size(bytes)}, and a message has at most ${size(room.maxBytes)}: send it as a file.`);
    say('');
    text.value = '';
    room.say(words, whom()).catch(failed);
  });
  text.addEventListener('keydown', (event) => {
    // In the middle of a composition Enter belongs to it.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    at<HTMLFormElement>('write').requestSubmit();
  });
  async function send(files: FileList): Promise<void> {
    const peer = whom();
    for (const file of files) {
      if (file.size === 0 || file.size > MAX_FILE_BYTES)
        say(`${safe(file.name)}: a file has from 1 byte to ${size(MAX_FILE_BYTES)}.`);
      else await room.sendFile(file.name, new Uint8Array(await file.arrayBuffer()), peer);
    }
  }
  const picker = at<HTMLInputElement>('file');
  picker.addEventListener('change', () => {
    if (picker.files)
      send(picker.files)
        .catch(failed)
        .finally(() => (picker.value = ''));
  });
  const hasFiles = (event: DragEvent) => !room.isWatching && event.dataTransfer?.types.includes('Files') === true;
  document.addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    at('drop').hidden = false;
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) at('drop').hidden = true;
  });
  document.addEventListener('drop', (event) => {
    at('drop').hidden = true;
    if (!hasFiles(event) || !event.dataTransfer) return;
    event.preventDefault();
    send(event.dataTransfer.files).catch(failed);
  });

  // ---- looking ----

  news.addEventListener('click', toEnd);
  log.addEventListener('scroll', () => {
    if (isAtEnd()) toEnd();
  });
  function drawLanes(): void {
    at('lanes').replaceChildren(lanes(room, colours));
    at('lanes').scrollTop = at('lanes').scrollHeight;
  }
  const choose = (wantsLanes: boolean) => {
    isLanes = wantsLanes;
    at('as-talk').setAttribute('aria-pressed', String(!isLanes));
    at('as-lanes').setAttribute('aria-pressed', String(isLanes));
    log.hidden = isLanes;
    at('lanes').hidden = !isLanes;
    news.hidden = true;
    if (isLanes) drawLanes();
    else toEnd();
  };
  at('as-talk').addEventListener('click', () => choose(false));
  at('as-lanes').addEventListener('click', () => choose(true));
  const menu = at<HTMLDetailsElement>('menu');
  document.addEventListener('click', ({ target }) => {
    if (!menu.contains(target as Node)) menu.open = false;
  });
  menu.addEventListener('keydown', ({ key: pressed }) => {
    if (pressed !== 'Escape') return;
    menu.open = false;
    menu.querySelector('summary')?.focus();
  });
  at('invite').addEventListener('click', () => {
    menu.open = false;
    const link = `${location.origin}${location.pathname}#k=${key}${TICKET && `&t=${TICKET}`}`;
    const line = `Talk to my other Claude — curl this URL to start: ${link}`;
    const copied = () => say('Copied: a line for one more agent, with the key of this room in it.', true);
    navigator.clipboard.writeText(line).then(copied, () => say('Your browser lets this page copy nothing.'));
  });
  at('save').addEventListener('click', () => {
    menu.open = false;
    save(`${asName(topic) || 'room'}.md`, asMarkdown(topic, room.entries), 'text/markdown');
  });

  // ---- going ----

  async function leave(): Promise<void> {
    clearInterval(looking);
    await room.leave();
  }
  at('leave').addEventListener('click', () => {
    menu.open = false;
    void leave().then(() =>
      gate(
        'You have left the room',
        paragraph(
          'The others were told. Nothing of it is kept in this tab; the link still works as long as you have it.',
        ),
        make(
          'div.row',
          {},
          button('Come in again', () => location.reload(), { class: 'main' }),
        ),
      ),
    );
  });
  at('take-part').addEventListener('click', () => void leave().then(() => location.reload()));
  const looking = setInterval(() => {
    if (!document.hidden) void room.look();
    room.onChange();
  }, LOOK_MS);
  addEventListener('pagehide', () => room.fade());
  addEventListener('online', () => room.retry());
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return;
    title(0);
    room.retry();
    void room.look();
  });

  render();
  void room.run();
  if (!room.isWatching && matchMedia('(hover: hover)').matches) text.focus();
}

addEventListener('hashchange', () => location.reload());
start().catch((error: unknown) => {
  console.error(error);
  gate(
    'The room could not be opened',
    paragraph('Something failed in this page. Reload it; if that doesn’t help, your agent can join instead.'),
  );
});
