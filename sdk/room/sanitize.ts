/** What others wrote, as it may be shown: no control, format or invisible character is left. */
import { replaceHidden } from '../encoding.ts';

const REPLACEMENT = '\ufffd';
/** A variation selector or a joiner after an emoji changes its look only: nothing is hidden by leaving it out. */
const AFTER_EMOJI = /(?<=\p{Extended_Pictographic}\p{Emoji_Modifier}?)[\ufe0e\ufe0f\u200d]/gu;

/** Text of others. Line breaks become newlines, and every other hidden character a visible one. */
export const sanitize = (text: string): string =>
  replaceHidden(text.replace(/\r\n?/g, '\n').replace(AFTER_EMOJI, ''), REPLACEMENT);

/** The same in one line. */
export const sanitizeLine = (text: string): string => sanitize(text).replace(/[\n\t]/g, ' ');
