/** What an operator may know, as Prometheus text: how many of what, never an id, an address or a name. */

const FAMILIES = {
  channels: 'Channels now.',
  participants: 'Participants in all channels.',
  waiting_polls: 'Polls that wait.',
  held_bytes: 'Memory that the channels count for.',
  connections: 'Open connections.',
  messages_total: 'Messages accepted.',
  message_bytes_total: 'Ciphertext of messages accepted.',
  requests_total: 'Requests that found a route.',
  refusals_total: 'Requests refused.',
};

export class Metrics {
  /** By family and labels; labels come from the tables of routes and refusals, so there is an end to them. */
  readonly #counts = new Map(Object.entries({ messages_total: 0, message_bytes_total: 0 }));

  /** @param sample the family's name, with its labels if it has any */
  count(sample: string, by = 1): void {
    this.#counts.set(sample, (this.#counts.get(sample) ?? 0) + by);
  }

  render(gauges: Readonly<Record<string, number>>): string {
    const samples = [...Object.entries(gauges), ...this.#counts];
    const families = Object.entries(FAMILIES).map(([family, help]) => {
      const own = samples.filter(([sample]) => sample.split('{')[0] === family);
      const type = family.endsWith('_total') ? 'counter' : 'gauge';
      const lines = own.map(([sample, value]) => `agentalk_${sample} ${value}\n`);
      return `# HELP agentalk_${family} ${help}\n# TYPE agentalk_${family} ${type}\n${lines.join('')}`;
    });
    return families.join('');
  }
}
