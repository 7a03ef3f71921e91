/** What a client tells its user, in the order in which it does. */
import type { Marks } from './marks.ts';

interface Shown {
  readonly name: string;
  readonly sid: string;
  readonly isDirect: boolean;
  readonly seq: number;
  readonly marks: Marks;
}

export type Entry =
  | ({ readonly type: 'message'; readonly text: string } & Shown)
  | ({ readonly type: 'file'; readonly file: string; readonly size: number; readonly sha256: string } & Shown)
  | { readonly type: 'file-complete'; readonly name: string; readonly file: string; readonly bytes: Buffer }
  | { readonly type: 'file-stalled' | 'file-damaged'; readonly name: string; readonly file: string }
  | { readonly type: 'joined' | 'new' | 'paired' | 'left'; readonly name: string; readonly sid: string }
  /** The bridge says that it left. */
  | { readonly type: 'gone'; readonly name: string; readonly sid: string; readonly reason: 'left' | 'expired' }
  /** Skipped: numbers from base on, and those before this client came. */
  | { readonly type: 'missed' | 'earlier'; readonly name: string; readonly count: number }
  /** Once for each name and reason; the first time `name` may be a participant id. */
  | { readonly type: 'tampered' | 'bad-card'; readonly name: string; readonly reason: string }
  | { readonly type: 'malformed'; readonly name: string; readonly seq: number; readonly reason: string }
  /** A message that could not be read. */
  | { readonly type: 'unreadable' }
  /** A direct message whose session was replaced before it acknowledged. */
  | { readonly type: 'undelivered'; readonly name: string; readonly seq: number }
  /** This session turned out to be a copy; a new one was opened. `to` is a name, or * for all. */
  | { readonly type: 'copy'; readonly unacknowledged: readonly { readonly to: string; readonly seq: number }[] }
  | { readonly type: 'resumed'; readonly isNewEpoch: boolean }
  /** The bridge refuses what is first in line. */
  | { readonly type: 'refused'; readonly code: string }
  /** The bridge no longer had all events. */
  | { readonly type: 'gap' };
