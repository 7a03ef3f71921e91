/** Writing and sending files, to everybody or to one session. */
import { utf8Encode } from '../encoding.ts';
import { MAX_FILE_BYTES } from '../protocol.ts';
import { byId, listen } from './dom.ts';
import { sendFile, whyNotSent } from './files.ts';
import { formatSize } from './format.ts';
import { sendText } from './outbox.ts';
import { sanitizeLine } from './sanitize.ts';
import type { Room, Session } from './state.ts';

/** @param showNotice shows what went wrong; '' removes it */
export function bindComposer(room: Room, showNotice: (words: string) => void): void {
  const form = byId<HTMLFormElement>('write');
  const text = byId<HTMLTextAreaElement>('text');
  const select = byId<HTMLSelectElement>('to');
  const recipient = (): Session | undefined => room.sessionBySid(select.value);

  const fail = (error: unknown) => {
    console.error(error);
    showNotice('That could not be sent. Reload the page and try again.');
  };

  listen(select, 'change', () => {
    const session = recipient();
    form.classList.toggle('alone', session !== undefined);
    text.placeholder = session ? `Only ${session.label} can read this` : 'Write a message';
  });
  listen(form, 'submit', (event) => {
    event.preventDefault();
    const words = text.value.trimEnd();
    if (words === '') return;
    const { length } = utf8Encode(words);
    if (length > room.limits.messageBytes) {
      const limit = formatSize(room.limits.messageBytes);
      showNotice(`That is ${formatSize(length)}, and a message has at most ${limit}. Send it as a file.`);
      return;
    }
    showNotice('');
    text.value = '';
    sendText(room, words, recipient()).catch(fail);
  });
  listen(text, 'keydown', (event) => {
    // While an input method composes, Enter belongs to it.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  bindFiles(room, recipient, showNotice, fail);
}

function bindFiles(
  room: Room,
  recipient: () => Session | undefined,
  showNotice: (words: string) => void,
  fail: (error: unknown) => void,
): void {
  const picker = byId<HTMLInputElement>('file');
  const drop = byId('drop');

  /** One after the other: a file is one pass over its bytes. */
  async function sendAll(files: readonly File[], items?: DataTransferItemList): Promise<void> {
    const session = recipient();
    const folders = Array.from(items ?? []).filter((item) => item.webkitGetAsEntry()?.isDirectory);
    showNotice(folders.length > 0 ? 'A folder can’t be sent. Pack it into one file first.' : '');
    for (const file of folders.length > 0 ? [] : files) {
      const problem = whyNotSent(room, file.size);
      if (problem) showNotice(describeProblem(room, file, problem));
      else await sendFile(room, file, session);
    }
  }

  listen(picker, 'change', () => {
    const files = Array.from(picker.files ?? []);
    picker.value = '';
    sendAll(files).catch(fail);
  });
  const droppedFiles = ({ dataTransfer }: DragEvent) =>
    !room.me.isWatching && dataTransfer?.types.includes('Files') ? dataTransfer : undefined;
  listen(document, 'dragover', (event) => {
    if (!droppedFiles(event)) return;
    event.preventDefault();
    drop.hidden = false;
  });
  listen(document, 'dragleave', (event) => {
    if (!event.relatedTarget) drop.hidden = true;
  });
  listen(document, 'drop', (event) => {
    drop.hidden = true;
    const dropped = droppedFiles(event);
    if (!dropped) return;
    event.preventDefault();
    sendAll(Array.from(dropped.files), dropped.items).catch(fail);
  });
}

function describeProblem(room: Room, { name, size }: File, problem: ReturnType<typeof whyNotSent>): string {
  const shown = `${sanitizeLine(name)} (${formatSize(size)})`;
  if (problem === 'no-files') return `This bridge takes no files: ${shown} was not sent.`;
  const limit = problem === 'too-large' ? MAX_FILE_BYTES : room.limits.blobBytes;
  return `${shown} is too large: a file has at most ${formatSize(limit)} here.`;
}
