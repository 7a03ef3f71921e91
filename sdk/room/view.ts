/**
 * The room as a page. It runs in a browser that came by a join URL; all that it shows of others is text. The key stays
 * in the address.
 */
import { fade, leave, run } from './channel.ts';
import { at, on } from './dom.ts';
import { comeIn, gate, state, topic } from './gate.ts';
import { lanes } from './lanes.ts';
import { menu } from './menu.ts';
import { announce, listenForWishes, read } from './news.ts';
import { address, people } from './people.ts';
import { isThere } from './peers.ts';
import { look } from './presence.ts';
import type { Entry, Room } from './room.ts';
import { reach, show } from './show.ts';
import { isSaid } from './words.ts';
import { writing } from './writing.ts';

const LOOK_MS = 15_000;
const MAX_SHOWN = 2000;

function open(room: Room): void {
  const { isWatching } = room.me;
  const [log, text, drawing, news] = [at('log'), at('text'), at('lanes'), at('news')];
  at('gate').replaceChildren();
  at('gate').hidden = true;
  at('talk').hidden = at('tools').hidden = false;
  at('write').hidden = isWatching;
  at('watching').hidden = !isWatching;

  // ---- what changes ----

  let shown = 0;
  let missed = 0;
  const ours = new Map<Entry, Element>();
  const isAtEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  const toEnd = () => {
    log.scrollTop = log.scrollHeight;
    missed = 0;
    news.hidden = true;
  };

  function render(): void {
    const wasAtEnd = isAtEnd();
    const isFirst = shown === 0;
    const fresh = room.entries.slice(shown);
    shown += fresh.length;
    for (const entry of fresh.slice(-MAX_SHOWN)) {
      const item = show(entry, room, reply);
      const line = item.querySelector('.reach');
      if (line) ours.set(entry, line);
      log.append(item);
    }
    while (log.children.length > MAX_SHOWN) log.firstElementChild?.remove();
    for (const [entry, line] of ours) {
      const words = reach(entry, room);
      if (line.textContent !== words) line.textContent = words;
      if (!line.isConnected) ours.delete(entry);
    }
    const others = fresh.filter((entry) => !entry.isMine && (isSaid(entry) || /tampered|keys/.test(entry.what)));
    if (wasAtEnd || isFirst || fresh.some(({ isMine }) => isMine)) toEnd();
    else if (others.length > 0) {
      missed += others.length;
      news.textContent = `${missed} new ${missed === 1 ? 'message' : 'messages'} ↓`;
      news.hidden = !drawing.hidden;
    }
    if (!isFirst) announce(others);
    people(room);
    status();
    if (fresh.length > 0) draw();
  }

  function status(): void {
    const { link, reason } = room;
    const isAlone = !room.others.some(isThere);
    const words = {
      joining: 'Joining…',
      online: isAlone ? 'Nobody else here yet' : 'Connected',
      offline: 'No contact, trying again',
      left: 'You have left',
      refused: 'The bridge no longer takes this session',
    }[link];
    state(link === 'online' ? link : link === 'joining' ? '' : 'offline', words);
    at('alone').hidden = !isAlone || shown > 0;
    if (link !== 'refused') return;
    tell(`The bridge refuses this session (${reason}). Open the link in a new tab to come in anew.`);
    at('write').inert = true;
  }

  /** A good notice goes by itself. */
  function tell(words: string, isGood = false): void {
    const alert = at('alert');
    alert.textContent = words;
    alert.className = isGood ? 'good' : '';
    alert.hidden = words === '';
    if (isGood) setTimeout(() => alert.textContent === words && tell(''), 5000);
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

  // ---- looking, and writing ----

  on(news, 'click', toEnd);
  on(log, 'scroll', () => {
    if (isAtEnd()) toEnd();
  });
  function draw(): void {
    if (drawing.hidden) return;
    drawing.replaceChildren(lanes(room));
    drawing.scrollTop = drawing.scrollHeight;
  }
  const choose = (wantsLanes: boolean) => {
    at('as-talk').ariaPressed = String(!wantsLanes);
    at('as-lanes').ariaPressed = String(wantsLanes);
    log.hidden = wantsLanes;
    drawing.hidden = !wantsLanes;
    draw();
    toEnd();
  };
  on(at('as-talk'), 'click', () => choose(false));
  on(at('as-lanes'), 'click', () => choose(true));
  listenForWishes(tell);
  writing(room, tell);
  menu(room, tell);
  function reply(name: string): void {
    address(name);
    text.focus();
  }

  // ---- going, and coming back ----

  const looking = setInterval(() => {
    if (!document.hidden) void look(room);
    room.onChange();
  }, LOOK_MS);
  const goOut = async (then: () => void) => {
    clearInterval(looking);
    await leave(room);
    then();
  };
  const again = () => location.reload();
  on(at('take-part'), 'click', () => void goOut(again));
  on(at('leave'), 'click', () =>
    goOut(() => {
      gate('gone');
      on(at('again'), 'click', again);
    }),
  );
  on(window, 'pagehide', () => fade(room));
  on(window, 'online', () => room.wake.abort());
  on(document, 'visibilitychange', () => {
    if (document.hidden) return;
    read();
    room.wake.abort();
    void look(room);
  });

  render();
  void run(room);
  if (!isWatching && matchMedia('(hover: hover)').matches) text.focus();
}

on(window, 'hashchange', () => location.reload());
at('gate').replaceChildren(); // what stands there is for those without scripts
at('topic').textContent = topic;
read();
comeIn().then(open, (error: unknown) => {
  console.error(error);
  gate('failed');
});
