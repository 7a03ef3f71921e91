/**
 * Every limit of the bridge, once: its flag, its default, its bounds, its help. bridge/ops/config.ts makes flags,
 * environment variables and --help from this table. A name that ends in Bytes or Seconds is measured in them.
 */
const KiB = 1024;
const MiB = 1024 * KiB;
const DAY = 86_400;

export const LIMITS = {
  messageBytes: ['max-message-bytes', 64 * KiB, 1, MiB, 'text in one message'],
  participants: ['max-participants', 50, 1, 500, 'participants in a channel'],
  pollsPerParticipant: ['max-polls-per-participant', 4, 1, 100, 'polls of one participant at a time'],
  channelBytes: ['max-channel-bytes', 16 * MiB, 1, 1024 * MiB, 'of cards and messages in one channel'],
  blobBytes: ['max-blob-bytes', 128 * MiB, 0, 2 ** 40, 'of blobs (pieces of files) in a channel; 0 for none'],
  memoryBytes: ['max-memory-bytes', 512 * MiB, 1, 2 ** 40, 'of all channels together, blobs included'],
  channels: ['max-channels', 20_000, 1, 1_000_000, 'channels at a time'],
  connections: ['max-connections', 20_000, 1, 1_000_000, 'connections at a time'],
  pollResponseBytes: ['max-poll-response-bytes', MiB, 1, 1.5 * MiB, 'of events in one response to a poll, about'],
  inFlightBytes: [
    'max-inflight-bytes',
    48 * MiB,
    4 * MiB,
    2 ** 40,
    'of responses not yet read and bodies not yet complete',
  ],
  inFlightBytesPerIp: ['max-inflight-bytes-per-ip', 16 * MiB, 4 * MiB, 2 ** 40, 'of these, from one address'],
  pollsPerChannel: [
    'max-polls-per-channel',
    200,
    0,
    1_000_000,
    'polls of one channel at a time; 0 is no limit, as for addresses',
  ],
  connectionsPerIp: ['max-connections-per-ip', 1000, 0, 1_000_000, 'connections from one address'],
  pollsPerIp: ['max-polls-per-ip', 1000, 0, 1_000_000, 'polls from one address at a time'],
  requestRatePerIp: ['request-rate-per-ip', 10_000, 0, 1_000_000, 'requests from one address in ten seconds'],
  joinRatePerIp: ['join-rate-per-ip', 500, 0, 1_000_000, 'creates and joins from one address in ten seconds'],
  channelRatePerIp: ['channel-rate-per-ip', 1000, 0, 1_000_000, 'new channels from one address in an hour'],
  uploadsPerParticipant: ['max-uploads-per-participant', 2, 1, 100, 'blobs that one participant uploads at a time'],
  uploadsPerIp: ['max-uploads-per-ip', 8, 0, 1_000_000, 'blobs that one address uploads at a time'],
  headerBytes: ['max-header-bytes', 8 * KiB, KiB, MiB, 'request line and headers'],
  pollSeconds: ['max-poll-seconds', 50, 1, 600, 'the longest wait of a poll'],
  leaveSeconds: ['max-leave-seconds', 3600, 1, DAY, 'the longest after_seconds of a leave'],
  liveSeconds: [
    'live-window',
    120,
    1,
    DAY,
    'since its last request, while unread messages of a participant are not evicted',
  ],
  awaySeconds: ['away-after', 300, 1, DAY, 'since its last request, until a participant is reported as away'],
  expirySeconds: ['expire-after', 7200, 1, 30 * DAY, 'since its last request, until a participant is removed'],
  headersSeconds: ['headers-timeout', 10, 1, 600, 'to receive the headers of a request'],
  requestSeconds: ['request-timeout', 30, 1, 600, 'to receive a whole request'],
  blobSeconds: ['blob-timeout', 120, 1, 3600, 'to receive a whole blob'],
  writeTimeoutSeconds: ['write-timeout', 30, 1, 600, 'that a client may take to read on'],
  keepAliveSeconds: ['keep-alive-timeout', 75, 1, 3600, 'that an idle connection stays open'],
  drainSeconds: ['drain-delay', 1, 0, 600, 'from not ready to closed, on shutdown'],
  shutdownTimeoutSeconds: ['shutdown-timeout', 5, 1, 600, 'to write the last responses, on shutdown'],
} as const satisfies Record<string, readonly [flag: string, value: number, min: number, max: number, help: string]>;

export type Limits = Readonly<Record<keyof typeof LIMITS, number>>;

/** Headers of a frame and the empty line after them (docs/protocol.md, Frames). */
const FRAME_HEADER_BYTES = 4096 + 1;
const base64Length = (bytes: number) => Math.ceil(bytes / 3) * 4;
export const MAX_CARD_BASE64 = base64Length(FRAME_HEADER_BYTES);
export const maxMessageBase64 = (limits: Limits) => base64Length(limits.messageBytes + FRAME_HEADER_BYTES);
