/** What an operator may know: how many of what, never an id, an address or a name. bridge/ops/prometheus.ts writes it. */

export const FAMILIES = {
  channels: 'Channels now.',
  participants: 'Participants in all channels.',
  waiting_polls: 'Polls that wait.',
  blobs: 'Blobs in all channels.',
  blob_bytes: 'Memory that blobs count for, in agentalk_held_bytes, too.',
  held_bytes: 'Memory that the channels count for.',
  memory_owners: 'Addresses that have some of this memory.',
  inflight_bytes: 'Memory of answers not yet read and bodies not yet whole.',
  connections: 'Open connections.',
  addresses: 'Addresses for which something counts.',
  channels_given_up_total: 'Channels ended because their memory or their place was needed.',
  messages_total: 'Messages accepted.',
  message_bytes_total: 'Ciphertext of messages accepted.',
  answers_abandoned_total: 'Answers and bodies whose connection was ended because their memory was needed.',
  requests_total: 'Requests that found a route.',
  refusals_total: 'Requests refused.',
  connections_refused_total: 'Connections that brought no whole request, or one too many.',
};

/** Upper bounds of the buckets in which ages are counted; what is older than all has one more. */
export const AGES_MS = [1, 5, 10, 50, 100, 500, 1000, 5000, 10_000, 60_000, 600_000, 3_600_000];
const newAges = () => ({ counts: [...AGES_MS, Infinity].map(() => 0), sumMs: 0 });

export class Metrics {
  /** By family and labels; labels come from the tables of routes and refusals, so there is an end to them. */
  readonly counts = new Map<string, { value: number }>();
  readonly #messages = this.#counter('messages_total');
  readonly #bytes = this.#counter('message_bytes_total');
  readonly ages = { waiting: newAges(), later: newAges() };

  /** @param codes of refusals: each is there before its first time */
  constructor(codes: readonly string[]) {
    for (const code of codes) this.count(`refusals_total{code="${code}"}`, 0);
  }

  /** @param sample the family's name, with its labels if it has any */
  count(sample: string, by = 1): void {
    this.#counter(sample).value += by;
  }

  #counter(sample: string): { value: number } {
    const known = this.counts.get(sample);
    const counter = known ?? { value: 0 };
    if (!known) this.counts.set(sample, counter);
    return counter;
  }

  /** A message was accepted, of so many bytes of ciphertext. */
  accept(bytes: number): void {
    this.#messages.value++;
    this.#bytes.value += bytes;
  }

  /** A message was written into an answer, so many milliseconds after it had been accepted. */
  deliver(poll: 'waiting' | 'later', ageMs: number): void {
    const { counts } = this.ages[poll];
    const bucket = AGES_MS.findIndex((most) => ageMs <= most);
    counts[bucket < 0 ? AGES_MS.length : bucket]!++; // one for each age, and one for what is older
    this.ages[poll].sumMs += Math.max(0, ageMs);
  }
}
