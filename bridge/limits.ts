/**
 * Every limit of the bridge, once: its default, its bounds, its flag and what it is for. config.ts makes the flags, the
 * environment variables and the help from this table. A name that ends in Bytes or Seconds is measured in them.
 */
interface Limit {
  readonly flag: string;
  readonly value: number;
  readonly least?: number;
  readonly most: number;
  readonly about: string;
}

const KiB = 1024;
const MiB = 1024 * KiB;

export const TABLE = {
  messageBytes: { flag: 'max-message-bytes', value: 64 * KiB, most: MiB, about: 'text in one message' },
  participants: { flag: 'max-participants', value: 50, most: 500, about: 'participants in a channel' },
  channelBytes: { flag: 'max-channel-bytes', value: 16 * MiB, most: 1024 * MiB, about: 'held for one channel' },
  totalBytes: { flag: 'max-total-bytes', value: 512 * MiB, most: 2 ** 40, about: 'held for all channels together' },
  channels: { flag: 'max-channels', value: 20_000, most: 1_000_000, about: 'channels at a time' },
  connections: { flag: 'max-connections', value: 20_000, most: 1_000_000, about: 'open connections' },
  waitingPolls: { flag: 'max-polls', value: 4, most: 100, about: 'waiting polls of one participant' },
  answerBytes: { flag: 'max-answer-bytes', value: MiB, most: 64 * MiB, about: 'events in one answer to a poll, about' },
  headerBytes: { flag: 'max-header-bytes', value: 8 * KiB, least: KiB, most: MiB, about: 'request line and headers' },
  pollSeconds: { flag: 'max-poll-seconds', value: 50, most: 600, about: 'the longest wait of a poll' },
  leaveSeconds: { flag: 'max-leave-seconds', value: 3600, most: 86_400, about: 'the longest after_seconds of a leave' },
  liveSeconds: {
    flag: 'live-window',
    value: 120,
    most: 3600,
    about: 'without a request, then it holds back no memory',
  },
  awaySeconds: { flag: 'away-window', value: 300, most: 86_400, about: 'without a request, then it is told as away' },
  idleSeconds: { flag: 'idle-window', value: 7200, most: 2_592_000, about: 'without a request, then it is out' },
  headersSeconds: { flag: 'headers-timeout', value: 10, most: 600, about: 'to send the headers of a request' },
  requestSeconds: { flag: 'request-timeout', value: 30, most: 600, about: 'to send a whole request' },
  keepAliveSeconds: { flag: 'keep-alive', value: 75, most: 3600, about: 'that an idle connection stays open' },
  drainSeconds: {
    flag: 'drain-window',
    value: 1,
    least: 0,
    most: 600,
    about: 'not ready but still open, when stopping',
  },
  stopSeconds: { flag: 'stop-timeout', value: 5, most: 600, about: 'for answers on their way out, when stopping' },
} as const satisfies Record<string, Limit>;

export type Limits = Readonly<Record<keyof typeof TABLE, number>>;

export const LIMITS: Limits = Object.freeze(
  Object.fromEntries(Object.entries(TABLE).map(([name, { value }]) => [name, value])) as Limits,
);

/** Headers of a frame and the empty line after them (docs/protocol.md, Frames). */
const FRAME_HEADER_BYTES = 4096 + 1;
const base64Length = (bytes: number) => Math.ceil(bytes / 3) * 4;
export const CARD_CHARACTERS = base64Length(FRAME_HEADER_BYTES);
export const messageCharacters = (limits: Limits) => base64Length(limits.messageBytes + FRAME_HEADER_BYTES);
