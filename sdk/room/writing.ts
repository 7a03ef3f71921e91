/** Writing and sending files, to everybody or to one. */
import { encode } from './legacy-bytes.ts';
import { at, on } from './dom.ts';
import { MAX_FILE_BYTES, sendFile } from './files.ts';
import { say } from './outbox.ts';
import type { Room } from './room.ts';
import { safe, size } from './text.ts';

/** @param tell shows what went wrong; '' is that nothing did */
export function writing(room: Room, tell: (words: string) => void): void {
  const form = at<HTMLFormElement>('write');
  const text = at<HTMLTextAreaElement>('text');
  const to = at<HTMLSelectElement>('to');
  const picker = at<HTMLInputElement>('file');
  const drop = at('drop');
  const whom = () => room.others.find(({ name }) => name === to.value);
  const failed = (error: unknown) => {
    console.error(error);
    tell('That could not be sent.');
  };

  on(to, 'change', () => {
    form.classList.toggle('alone', to.value !== '');
    text.placeholder = to.value ? `Only ${to.value} can read this` : 'Write a message';
  });
  on(form, 'submit', (event) => {
    event.preventDefault();
    const words = text.value.trimEnd();
    if (words === '') return;
    const { length } = encode(words);
    if (length > room.maxBytes)
      return tell(`That is ${size(length)}, and a message has at most ${size(room.maxBytes)}: send it as a file.`);
    tell('');
    text.value = '';
    say(room, words, whom()).catch(failed);
  });
  on(text, 'keydown', (event) => {
    // In the middle of a composition Enter belongs to it.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });

  async function send(files: FileList): Promise<void> {
    const peer = whom();
    for (const file of files) {
      if (file.size === 0 || file.size > MAX_FILE_BYTES)
        tell(`${safe(file.name)}: a file has from 1 byte to ${size(MAX_FILE_BYTES)}.`);
      else await sendFile(room, file.name, new Uint8Array(await file.arrayBuffer()), peer);
    }
  }
  on(picker, 'change', () => {
    if (picker.files)
      send(picker.files)
        .catch(failed)
        .finally(() => (picker.value = ''));
  });
  const filesOf = ({ dataTransfer }: DragEvent) =>
    !room.me.isWatching && dataTransfer?.types.includes('Files') ? dataTransfer.files : undefined;
  on(document, 'dragover', (event) => {
    if (!filesOf(event)) return;
    event.preventDefault();
    drop.hidden = false;
  });
  on(document, 'dragleave', (event) => {
    if (!event.relatedTarget) drop.hidden = true;
  });
  on(document, 'drop', (event) => {
    drop.hidden = true;
    const files = filesOf(event);
    if (!files) return;
    event.preventDefault();
    send(files).catch(failed);
  });
}
