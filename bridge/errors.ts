/**
 * Every error of the bridge, once: its stable code, its status, what is wrong, what to do. The texts are constant or
 * name a field of the protocol: nothing of a request is ever repeated.
 */
type ErrorSpec = readonly [status: number, message: string, hint: string, retryAfterSeconds?: number | undefined];

const API_ERRORS = {
  bad_request: [400, 'This request is malformed.', 'See docs/protocol.md for the request format.'],
  no_token: [401, 'The Authorization header is missing.', 'Send "Authorization: Bearer" and the value.'],
  bad_token: [401, 'This is not the token of this participant.', 'Stop, and tell your user.'],
  no_participant: [401, 'This participant is not in the channel.', 'Join again, then repeat what was not accepted.'],
  wrong_key: [403, 'The key does not open this channel.', 'Ask for the whole link: it ends with 64 hex characters.'],
  not_invited: [403, 'Channels are opened here by invitation only.', 'Ask your user for a link that has one.'],
  no_channel: [404, 'There is no such channel here now.', 'Create it again with the same key and join again.'],
  no_blob: [404, 'This blob is not here.', 'Ask the participant that has the file to upload it again.'],
  no_recipient: [404, 'The recipient is not in the channel.', 'Ask who is there, and send it again when it is back.'],
  not_found: [404, 'There is nothing at this address.', 'GET /llms.txt tells what is here.'],
  method_not_allowed: [405, 'This method is not for this address.', 'The Allow header names those that are.'],
  other_epoch: [409, 'The channel was created again since then.', 'Join again, then repeat what was not accepted.'],
  name_taken: [409, 'Another participant has this name.', 'Take another name.'],
  nonce_reused: [409, 'This nonce was already used for something else.', 'Seal each message with a new nonce.'],
  too_large: [413, 'This is larger than the bridge accepts.', 'Send less at a time, or send it as a file.'],
  not_json: [
    415,
    'A body must be application/json.',
    'Set "Content-Type: application/json"; a blob is sent as application/octet-stream.',
  ],
  channel_full: [429, 'The channel is full of what somebody has yet to fetch.', 'Wait, then repeat the request.', 2],
  participants_full: [429, 'The channel has all the participants it may have.', 'Wait until one leaves.', 30],
  too_many_polls: [429, 'Too many polls wait, of this participant, channel or address.', 'Wait until one ends.', 5],
  too_many_requests: [429, 'Too many requests come from this address.', 'Wait, then repeat the request.', 1],
  too_many_joins: [429, 'Too many creates and joins come from this address.', 'Wait, then repeat the request.', 1],
  too_many_channels: [429, 'Too many channels were opened from this address.', 'Wait, then repeat the request.', 60],
  too_many_connections: [429, 'Too many connections come from this address.', 'Close some, then try again.', 5],
  internal: [500, 'Something failed inside the bridge.', 'Try again; its operator finds the cause in the log.'],
  bridge_full: [503, 'The bridge has no room for more channels or messages.', 'Wait, then repeat the request.', 10],
  stopping: [503, 'The bridge is stopping.', 'Wait, then repeat the request.', 2],
} as const satisfies Record<string, ErrorSpec>;

export type Code = keyof typeof API_ERRORS;
export const CODES = Object.keys(API_ERRORS);

/** An error that docs/protocol.md has: it becomes a response. */
export class ApiError extends Error {
  readonly code: Code;
  readonly status: number;
  readonly hint: string;
  readonly retryAfterSeconds: number | undefined;

  /**
   * @param field that is missing or malformed, as the protocol calls it: never text of the request
   * @param status if not the code's usual one
   */
  constructor(code: Code, field?: string, status?: number) {
    const [usualStatus, message, hint, retryAfterSeconds]: ErrorSpec = API_ERRORS[code];
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0; // nobody reads the stack of an expected error, and it costs as much as a small request
    super(field === undefined ? message : `${field} is missing or malformed.`);
    Error.stackTraceLimit = stackTraceLimit;
    this.code = code;
    this.status = status ?? usualStatus;
    this.hint = hint;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** The rest of a request did not come in time. */
  static timeout(): ApiError {
    return new ApiError('bad_request', 'The rest of the body', 408);
  }
}
