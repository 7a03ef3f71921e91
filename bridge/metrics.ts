/** What is counted for the operator: how many of what, never an id, an address or a name. */

/** Each metric without its prefix `agentalk_`, and its help. bridge/ops/prometheus.ts renders them. */
export const FAMILIES = {
  channels: 'Channels now.',
  participants: 'Participants in all channels.',
  polls_pending: 'Polls that wait for an event.',
  blobs: 'Blobs in all channels.',
  blob_bytes: 'Memory that blobs count for, included in agentalk_channel_memory_bytes.',
  channel_memory_bytes: 'Memory that the channels count for.',
  memory_owners: 'Addresses that have some of this memory.',
  inflight_bytes: 'Memory of responses not yet read and bodies not yet complete.',
  connections: 'Open connections.',
  rate_limited_addresses: 'Addresses for which something counts.',
  channels_evicted_total: 'Channels ended because their memory or their place was needed.',
  messages_total: 'Messages accepted.',
  message_bytes_total: 'Ciphertext of messages accepted.',
  answers_abandoned_total: 'Responses and bodies whose connection was ended because their memory was needed.',
  requests_total: 'Requests that found a route.',
  request_errors_total: 'Requests answered with an error.',
  connections_rejected_total: 'Connections that brought no complete request, or one too many.',
};

/** Why a connection was rejected (docs/operations.md says what each means). */
export const REJECTIONS = [
  'max_connections',
  'tls',
  'malformed',
  'headers_too_large',
  'timeout',
  'reset',
  'pipelined',
] as const;
export type Rejection = (typeof REJECTIONS)[number];

/** A message is delivered to a poll that was pending when it came, or fetched by a later one. */
export type DeliveryPath = 'immediate' | 'delayed';

/** Upper bounds of the buckets of delivery latency; one more bucket has what is above all of them. */
export const LATENCY_BOUNDS_MS = [1, 5, 10, 50, 100, 500, 1000, 5000, 10_000, 60_000, 600_000, 3_600_000];

interface Histogram {
  readonly counts: number[]; // by bucket
  sumMs: number;
}
const newHistogram = (): Histogram => ({ counts: [...LATENCY_BOUNDS_MS, Infinity].map(() => 0), sumMs: 0 });

export class Metrics {
  /** By family and labels. Labels come from the tables of routes and errors, so their number is bounded. */
  readonly counts = new Map<string, { value: number }>();
  readonly deliveryLatency: Readonly<Record<DeliveryPath, Histogram>> = {
    immediate: newHistogram(),
    delayed: newHistogram(),
  };
  readonly #messages = this.#counter('messages_total');
  readonly #bytes = this.#counter('message_bytes_total');

  /** @param codes of errors: each is shown before it happens the first time, so that increase() sees that */
  constructor(codes: readonly string[]) {
    for (const code of codes) this.count(`request_errors_total{code="${code}"}`, 0);
    for (const reason of REJECTIONS) this.connectionRejected(reason, 0);
  }

  connectionRejected(reason: Rejection, by = 1): void {
    this.count(`connections_rejected_total{reason="${reason}"}`, by);
  }

  /** @param metricName the family's name, with its labels if it has any */
  count(metricName: string, by = 1): void {
    this.#counter(metricName).value += by;
  }

  #counter(metricName: string): { value: number } {
    const known = this.counts.get(metricName);
    if (known) return known;
    const counter = { value: 0 };
    this.counts.set(metricName, counter);
    return counter;
  }

  messageAccepted(ciphertextBytes: number): void {
    this.#messages.value++;
    this.#bytes.value += ciphertextBytes;
  }

  /** A message was written into a response, so many milliseconds after it was accepted. */
  messageDelivered(path: DeliveryPath, latencyMs: number): void {
    const { counts } = this.deliveryLatency[path];
    const bucket = LATENCY_BOUNDS_MS.findIndex((bound) => latencyMs <= bound);
    counts[bucket < 0 ? LATENCY_BOUNDS_MS.length : bucket]!++; // there is a count for each bound, and one more
    this.deliveryLatency[path].sumMs += Math.max(0, latencyMs);
  }
}
