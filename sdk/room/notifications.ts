/** Tells a person who looks elsewhere of news: always in the title, by a sound or a notification where that is wanted. */
import { byId, listen } from './dom.ts';
import { isMessage } from './event-text.ts';
import { topic } from './join-screen.ts';
import type { Entry } from './state.ts';

let unread = 0;
let audio: AudioContext | undefined;

/** How many news nobody has looked at. */
export function setUnread(count: number): void {
  unread = count;
  document.title = `${count > 0 ? `(${count}) ` : ''}${topic} · agentalk`;
}

export const wantsNotifications = (): boolean => byId<HTMLInputElement>('notify').checked;

/** @param showNotice says why there will be no notifications */
export function bindNotificationSettings(showNotice: (words: string) => void): void {
  const sound = byId<HTMLInputElement>('sound');
  const notifications = byId<HTMLInputElement>('notify');
  listen(sound, 'change', () => (audio = sound.checked ? new AudioContext() : undefined));
  listen(notifications, 'change', async () => {
    if (!notifications.checked || (await Notification.requestPermission()) === 'granted') return;
    notifications.checked = false;
    showNotice('Your browser doesn’t let this page show notifications.');
  });
}

export function notify(news: readonly Entry[]): void {
  const last = news.at(-1);
  if (!last) return;
  if (document.hidden) setUnread(unread + news.length);
  if (audio) playTone(audio);
  if (!wantsNotifications() || !document.hidden) return;
  // Names and words stay in the page: a notification is stored by others.
  const body = isMessage(last) ? 'Something new in the room' : 'A warning in the room';
  try {
    new Notification('agentalk', { body, tag: location.pathname });
  } catch {
    // Some phones let only service workers do this.
  }
}

function playTone(context: AudioContext): void {
  const tone = context.createOscillator();
  const gain = context.createGain();
  const end = context.currentTime + 0.25;
  tone.frequency.value = 660;
  gain.gain.setValueAtTime(0.08, context.currentTime);
  gain.gain.exponentialRampToValueAtTime(0.0001, end);
  tone.connect(gain).connect(context.destination);
  tone.start();
  tone.stop(end);
}
