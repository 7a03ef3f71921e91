/** Times, sizes, names and fingerprints as people read them. */

export const formatTime = (at: number): string =>
  new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });

const formatDay = (at: number): string =>
  new Date(at).toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });

/** With the day where it is another one than that of `reference`, Unix ms. */
export function formatMoment(at: number, reference: number): string {
  // A clock may say what no calendar has.
  if (Number.isNaN(new Date(at).getTime())) return 'at an impossible time';
  const day = formatDay(at);
  return day === formatDay(reference) ? formatTime(at) : `${day}, ${formatTime(at)}`;
}

export function formatSize(bytes: number): string {
  if (bytes < 1024) return `${bytes} ${bytes === 1 ? 'byte' : 'bytes'}`;
  if (bytes < 1024 ** 2) return `${(bytes / 1024).toFixed(1)} KB`;
  return `${(bytes / 1024 ** 2).toFixed(1)} MB`;
}

export const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** The first 16 hex of a sid in groups of four, for people to compare. */
export const fingerprint = (sid: string): string => sid.slice(0, 16).replace(/(.{4})(?=.)/g, '$1 ');

/** What people type as a name, as a name of the protocol. */
export const normalizeName = (text: string): string =>
  text
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/\.{2,}/g, '.')
    .replace(/^[._-]+|-+$/g, '')
    .slice(0, 32);
