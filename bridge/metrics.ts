/** What an operator may know, as Prometheus text: how many of what, never an id, an address or a name. */

const FAMILIES = {
  channels: ['gauge', 'Channels now.'],
  participants: ['gauge', 'Participants in all channels.'],
  waiting_polls: ['gauge', 'Polls that wait.'],
  held_bytes: ['gauge', 'Memory that the channels count for.'],
  connections: ['gauge', 'Open connections.'],
  messages_total: ['counter', 'Messages accepted.'],
  message_bytes_total: ['counter', 'Base64 of messages accepted.'],
  requests_total: ['counter', 'Requests that found a route.'],
  refusals_total: ['counter', 'Requests refused.'],
} as const;

export class Metrics {
  /** By family and labels, which come from the table of routes and that of refusals: bounded, and for good. */
  readonly #counts = new Map<string, number>([
    ['messages_total', 0],
    ['message_bytes_total', 0],
  ]);

  /** @param sample the family's name, with its labels if it has any */
  count(sample: string, by = 1): void {
    this.#counts.set(sample, (this.#counts.get(sample) ?? 0) + by);
  }

  render(gauges: Readonly<Record<string, number>>): string {
    const samples = [...Object.entries(gauges), ...this.#counts];
    const families = Object.entries(FAMILIES).map(([family, [type, help]]) => {
      const own = samples.filter(([sample]) => sample.split('{')[0] === family);
      const lines = own.map(([sample, value]) => `agentalk_${sample} ${value}\n`);
      return `# HELP agentalk_${family} ${help}\n# TYPE agentalk_${family} ${type}\n${lines.join('')}`;
    });
    return families.join('');
  }
}
