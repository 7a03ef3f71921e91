/** What whoever makes HTML of our documents needs. */
const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
export const escape = (text: string): string => text.replace(/[&<>"]/g, (sign) => ENTITIES[sign] ?? sign);

/** Wide things scroll in themselves. */
export const scrolling = (label: string, html: string): string =>
  `<div class="wide" tabindex="0" role="region" aria-label="${label}">${html}</div>\n`;
