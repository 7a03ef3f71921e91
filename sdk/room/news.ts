/** What tells somebody who looks elsewhere: the title always, a sound or a notification where that is wanted. */
import { at, on } from './dom.ts';
import { topic } from './gate.ts';
import type { Entry } from './room.ts';
import { isSaid } from './words.ts';

let unread = 0;
let audio: AudioContext | undefined;

export function read(count = 0): void {
  unread = count;
  document.title = `${count > 0 ? `(${count}) ` : ''}${topic} · agentalk`;
}

/** @param refuse is told why there will be no notifications */
export function listenForWishes(refuse: (words: string) => void): void {
  const [sound, notify] = [at<HTMLInputElement>('sound'), at<HTMLInputElement>('notify')];
  on(sound, 'change', () => (audio = sound.checked ? new AudioContext() : undefined));
  on(notify, 'change', async () => {
    if (!notify.checked || (await Notification.requestPermission()) === 'granted') return;
    notify.checked = false;
    refuse('Your browser doesn’t let this page show notifications.');
  });
}

export function announce(news: readonly Entry[]): void {
  const last = news.at(-1);
  if (!last) return;
  if (document.hidden) read(unread + news.length);
  if (audio) {
    const [tone, gain, end] = [audio.createOscillator(), audio.createGain(), audio.currentTime + 0.25];
    tone.frequency.value = 660;
    gain.gain.setValueAtTime(0.08, audio.currentTime);
    gain.gain.exponentialRampToValueAtTime(0.0001, end);
    tone.connect(gain).connect(audio.destination);
    tone.start();
    tone.stop(end);
  }
  if (!at<HTMLInputElement>('notify').checked || !document.hidden) return;
  // Names and words stay in the page: a notification is kept by others.
  const body = isSaid(last) ? 'Something new in the room' : 'A warning in the room';
  try {
    new Notification('agentalk', { body, tag: location.pathname });
  } catch {
    // Some phones only let service workers do this.
  }
}
