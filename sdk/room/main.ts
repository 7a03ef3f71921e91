/**
 * The room as a page: it puts the screens together and renders what changes. It runs in a browser that came by a join
 * link; all that it shows of others is text. The channel key stays in the URL's fragment.
 */
import { bindComposer } from './composer.ts';
import { leaveRoom, replaceCopy, runRoom, suspendRoom } from './connection.ts';
import { setReach } from './control.ts';
import { byId, listen } from './dom.ts';
import { describePermanentProblem, describeTrouble, isMessage, isWarning } from './event-text.ts';
import { cancelUpload, fetchFile, openFile } from './files.ts';
import { markShown } from './inbox.ts';
import { link, openRoom, openSids, setStatus, showScreen, topic } from './join-screen.ts';
import { renderMembers, selectRecipient } from './member-list.ts';
import { bindMenu } from './menu.ts';
import { bindNotificationSettings, notify, setUnread, wantsNotifications } from './notifications.ts';
import { refreshStatus } from './presence.ts';
import type { Entry, Room } from './state.ts';
import { renderTimeline } from './timeline.ts';
import { deliveryText, renderEntry, renderKey, saveAs, updateTransfer } from './transcript-entry.ts';
import type { EntryActions } from './transcript-entry.ts';

const REFRESH_MS = 15_000;
const PAIRED_REFRESH_MS = 500;
/** A person who looks away for a moment still reads at once. */
const REACH_DELAY_MS = 10_000;
const NOTICE_MS = 5_000;
const MAX_RENDERED = 2000;
const END_PIXELS = 60;

function mount(room: Room): void {
  const { isWatching } = room.me;
  const log = byId('log');
  const timeline = byId('timeline');
  const news = byId('news');
  byId('gate').replaceChildren();
  byId('gate').hidden = true;
  byId('talk').hidden = false;
  byId('tools').hidden = false;
  byId('write').hidden = isWatching;
  byId('watching').hidden = !isWatching;

  const actions: EntryActions = {
    reply: (sid) => {
      selectRecipient(sid);
      byId('text').focus();
    },
    fetch: (entry) => fetchFile(room, entry),
    cancel: cancelUpload,
    saveFile: (entry) => {
      if (!entry.file) return;
      const { name } = entry.file;
      const failed = () => showNotice('Your browser no longer has this file. Ask its sender to send it again.');
      openFile(room, entry.file).then((bytes) => saveAs(name, bytes), failed);
    },
  };

  // ---- the transcript ----

  let lastRendered = 0;
  let missed = 0;
  /** What may still change of an entry that is rendered. */
  const live = new Map<Entry, { item: Element; key: string }>();
  const isAtEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < END_PIXELS;

  function scrollToEnd(): void {
    log.scrollTop = log.scrollHeight;
    missed = 0;
    news.hidden = true;
  }

  function render(): void {
    const wasAtEnd = isAtEnd();
    const isFirst = lastRendered === 0;
    const fresh = room.entries.filter(({ id }) => id > lastRendered);
    lastRendered = room.entries.at(-1)?.id ?? 0;
    appendEntries(fresh.slice(-MAX_RENDERED));
    updateEntries();
    const others = fresh.filter((entry) => !entry.isMine && (isMessage(entry) || isWarning(entry)));
    if (wasAtEnd || isFirst || fresh.some(({ isMine }) => isMine)) scrollToEnd();
    else if (others.length > 0) showNews(others.length);
    if (!isFirst) notify(others);
    // By then it listens, and is shown so.
    if (fresh.some(({ type }) => type === 'paired')) setTimeout(refresh, PAIRED_REFRESH_MS);
    renderMembers(room);
    renderStatus();
    if (fresh.length > 0) renderTimelineIfShown();
    // Acknowledged as shown is what is rendered in a tab that somebody can see.
    if (!document.hidden) markShown(room);
  }

  function appendEntries(entries: readonly Entry[]): void {
    for (const entry of entries) {
      const item = renderEntry(entry, room, actions);
      log.append(item);
      if (entry.isMine || entry.file || entry.count !== undefined) live.set(entry, { item, key: renderKey(entry) });
    }
    while (log.children.length > MAX_RENDERED) log.firstElementChild?.remove();
  }

  function updateEntries(): void {
    for (const [entry, rendered] of live) {
      if (!rendered.item.isConnected) {
        live.delete(entry);
        continue;
      }
      const key = renderKey(entry);
      if (key !== rendered.key) {
        const item = renderEntry(entry, room, actions);
        rendered.item.replaceWith(item);
        rendered.item = item;
        rendered.key = key;
      }
      if (entry.file) updateTransfer(rendered.item, entry.file);
      const delivery = rendered.item.querySelector('.delivery');
      const words = delivery ? deliveryText(entry, room) : '';
      if (delivery && delivery.textContent !== words) delivery.textContent = words;
    }
  }

  function showNews(count: number): void {
    missed += count;
    news.textContent = `${missed} new ${missed === 1 ? 'message' : 'messages'} ↓`;
    news.hidden = !timeline.hidden;
  }

  function renderStatus(): void {
    const { connection, trouble } = room;
    const isAlone = !room.sessions.some(({ isInChannel }) => isInChannel);
    if (connection === 'online') setStatus('online', isAlone ? 'Nobody else here yet' : 'Connected');
    else if (connection === 'joining') setStatus('', 'Joining…');
    else if (connection === 'offline') setStatus('offline', describeTrouble(trouble));
    else setStatus('offline', connection === 'left' ? 'You have left' : 'This session has ended');
    byId('alone').hidden = !isAlone || room.entries.some(isMessage);
    if (connection !== 'refused') return;
    showNotice(describePermanentProblem(trouble));
    byId('write').inert = true;
  }

  /** A good notice goes away by itself; '' removes one. */
  function showNotice(words: string, isGood = false): void {
    const alert = byId('alert');
    alert.textContent = words;
    alert.className = isGood ? 'good' : '';
    alert.hidden = words === '';
    if (isGood) setTimeout(() => alert.textContent === words && showNotice(''), NOTICE_MS);
  }

  let isRendering = false;
  room.onChange = () => {
    if (isRendering) return;
    isRendering = true;
    // Not an animation frame: those stop in a tab that is not seen.
    setTimeout(() => {
      isRendering = false;
      render();
    });
  };

  // ---- reading and writing ----

  listen(news, 'click', scrollToEnd);
  listen(log, 'scroll', () => {
    if (isAtEnd()) scrollToEnd();
  });
  function renderTimelineIfShown(): void {
    if (timeline.hidden) return;
    timeline.replaceChildren(renderTimeline(room));
    timeline.scrollTop = timeline.scrollHeight;
  }
  const selectView = (isTimeline: boolean) => {
    byId('as-messages').ariaPressed = String(!isTimeline);
    byId('as-timeline').ariaPressed = String(isTimeline);
    log.hidden = isTimeline;
    timeline.hidden = !isTimeline;
    renderTimelineIfShown();
    scrollToEnd();
  };
  listen(byId('as-messages'), 'click', () => selectView(false));
  listen(byId('as-timeline'), 'click', () => selectView(true));
  bindNotificationSettings(showNotice);
  bindComposer(room, showNotice);
  bindMenu(room, showNotice);

  // ---- coming and going ----

  const refresh = () => {
    // Where that fails, the poll says what is wrong.
    if (!document.hidden && room.connection === 'online') refreshStatus(room).catch(() => undefined);
    room.onChange();
  };
  const refreshTimer = setInterval(refresh, REFRESH_MS);
  const leaveThen = async (act: () => void) => {
    clearInterval(refreshTimer);
    await leaveRoom(room);
    act();
  };
  const reload = () => location.reload();
  listen(byId('take-part'), 'click', () => void leaveThen(reload));
  listen(byId('leave'), 'click', () =>
    leaveThen(() => {
      showScreen('left');
      listen(byId('again'), 'click', reload);
    }),
  );
  listen(window, 'pagehide', () => suspendRoom(room));
  listen(window, 'online', () => room.retry.notify());
  let reachTimer: ReturnType<typeof setTimeout> | undefined;
  listen(document, 'visibilitychange', () => {
    clearTimeout(reachTimer);
    reachTimer = setTimeout(() => setReach(room, ownReach()), REACH_DELAY_MS);
    if (document.hidden) return;
    setUnread(0);
    room.retry.notify();
    render();
    refresh();
  });

  if (!room.storage.isPersistent && !room.entries.some(({ type }) => type === 'storage-lost')) {
    room.addEntry('storage-lost');
  }
  render();
  void run(room);
  if (!isWatching && matchMedia('(hover: hover)').matches) byId('text').focus();
}

/** What a message does to this person now. */
function ownReach(): 'listening' | 'wakes' | 'reads' {
  if (!document.hidden) return 'listening';
  return wantsNotifications() ? 'wakes' : 'reads';
}

async function run(room: Room): Promise<void> {
  const sids = await openSids().catch(() => undefined);
  // Without a list of open sessions none is known to have ended.
  if (sids) room.pieces.cleanUp((sid) => sids.includes(sid)).catch(() => undefined);
  await runRoom(room);
  if (room.connection !== 'copied') return;
  await replaceCopy(room, link);
  location.reload();
}

listen(window, 'hashchange', () => location.reload());
byId('gate').replaceChildren(); // what is there is for browsers without scripts
byId('topic').textContent = topic;
setUnread(0);
openRoom().then(mount, (error: unknown) => {
  console.error(error);
  showScreen('failed');
});
