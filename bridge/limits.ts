/**
 * Every limit of the bridge, once: its flag, its default, its bounds, what it is for. config.ts makes the flags, the
 * environment variables and the help from this table. A name that ends in Bytes or Seconds is measured in them.
 */
const KiB = 1024;
const MiB = 1024 * KiB;
const DAY = 86_400;

export const TABLE = {
  messageBytes: ['max-message-bytes', 64 * KiB, 1, MiB, 'text in one message'],
  participants: ['max-participants', 50, 1, 500, 'participants in a channel'],
  waitingPolls: ['max-polls', 4, 1, 100, 'waiting polls of one participant'],
  channelBytes: ['max-channel-bytes', 16 * MiB, 1, 1024 * MiB, 'held for one channel'],
  blobBytes: ['max-blob-bytes', 128 * MiB, 0, 2 ** 40, 'of blobs (pieces of files) in a channel; 0 for none'],
  totalBytes: ['max-total-bytes', 512 * MiB, 1, 2 ** 40, 'held for all channels together, blobs included'],
  channels: ['max-channels', 20_000, 1, 1_000_000, 'channels at a time'],
  connections: ['max-connections', 20_000, 1, 1_000_000, 'connections at a time'],
  answerBytes: ['max-answer-bytes', MiB, 1, 1.5 * MiB, 'events in one answer to a poll, about'],
  inFlightBytes: ['max-inflight-bytes', 48 * MiB, 4 * MiB, 2 ** 40, 'of answers not yet read and bodies not yet whole'],
  addressInFlightBytes: ['max-inflight-bytes-per-ip', 16 * MiB, 4 * MiB, 2 ** 40, 'of these, from one address'],
  channelPolls: ['channel-polls', 200, 0, 1_000_000, 'waiting polls of one channel; 0 is no limit, as for addresses'],
  addressConnections: ['address-connections', 1000, 0, 1_000_000, 'connections from one address'],
  addressPolls: ['address-polls', 1000, 0, 1_000_000, 'waiting polls from one address'],
  addressRequests: ['address-requests', 10_000, 0, 1_000_000, 'requests from one address in ten seconds'],
  addressJoins: ['address-joins', 500, 0, 1_000_000, 'creates and joins from one address in ten seconds'],
  addressChannels: ['address-channels', 1000, 0, 1_000_000, 'new channels from one address in an hour'],
  participantUploads: ['max-uploads-per-participant', 2, 1, 100, 'blobs that one participant sends at a time'],
  addressUploads: ['max-uploads-per-ip', 8, 0, 1_000_000, 'blobs that come from one address at a time'],
  headerBytes: ['max-header-bytes', 8 * KiB, KiB, MiB, 'request line and headers'],
  pollSeconds: ['max-poll-seconds', 50, 1, 600, 'the longest wait of a poll'],
  leaveSeconds: ['max-leave-seconds', 3600, 1, DAY, 'the longest after_seconds of a leave'],
  liveSeconds: ['live-window', 120, 1, DAY, 'since its last request, while a participant holds back memory'],
  awaySeconds: ['away-window', 300, 1, DAY, 'since its last request, until a participant is told as away'],
  idleSeconds: ['idle-window', 7200, 1, 30 * DAY, 'since its last request, until a participant is out'],
  headersSeconds: ['headers-timeout', 10, 1, 600, 'for the headers of a request to come'],
  requestSeconds: ['request-timeout', 30, 1, 600, 'for a whole request to come'],
  blobSeconds: ['blob-timeout', 120, 1, 3600, 'for a whole blob to come'],
  stallSeconds: ['stall-timeout', 30, 1, 600, 'that a reader may take before it reads on'],
  keepAliveSeconds: ['keep-alive', 75, 1, 3600, 'that an idle connection stays open'],
  drainSeconds: ['drain-window', 1, 0, 600, 'from not ready to closed, when stopping'],
  stopSeconds: ['stop-timeout', 5, 1, 600, 'for answers on their way out, when stopping'],
} as const satisfies Record<string, readonly [flag: string, value: number, least: number, most: number, about: string]>;

export type Limits = Readonly<Record<keyof typeof TABLE, number>>;

/** Headers of a frame and the empty line after them (docs/protocol.md, Frames). */
const FRAME_HEADER_BYTES = 4096 + 1;
const base64Length = (bytes: number) => Math.ceil(bytes / 3) * 4;
export const CARD_CHARACTERS = base64Length(FRAME_HEADER_BYTES);
export const messageCharacters = (limits: Limits) => base64Length(limits.messageBytes + FRAME_HEADER_BYTES);
