/** What an operator may know, as Prometheus text: how many of what, never an id, an address or a name. */

type Samples = readonly (readonly [labels: string, value: number])[];

const GAUGES = {
  channels: 'Channels now.',
  participants: 'Participants in all channels.',
  waiting_polls: 'Polls that wait.',
  held_bytes: 'Memory that the channels count for.',
  connections: 'Open connections.',
};

export class Metrics {
  readonly #requests = new Map<string, Map<number, number>>(); // by route and status, bounded by the table of routes
  readonly #refusals = new Map<string, number>(); // by code
  #messages = 0;
  #messageBytes = 0;

  countRequest(route: string, status: number): void {
    let counts = this.#requests.get(route);
    if (!counts) this.#requests.set(route, (counts = new Map()));
    counts.set(status, (counts.get(status) ?? 0) + 1);
  }

  countRefusal(code: string): void {
    this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1);
  }

  countMessage(bytes: number): void {
    this.#messages++;
    this.#messageBytes += bytes;
  }

  render(gauges: Readonly<Record<keyof typeof GAUGES, number>>): string {
    const requests = [...this.#requests].flatMap(([route, counts]) => {
      const [method, pattern] = route.split(' ');
      const labels = `method="${method}",route="${pattern}"`;
      return [...counts].map(([status, value]) => [`{${labels},status="${status}"}`, value] as const);
    });
    const refusals = [...this.#refusals].map(([code, value]) => [`{code="${code}"}`, value] as const);
    const names = Object.keys(GAUGES) as (keyof typeof GAUGES)[];
    return [
      ...names.map((name) => family(name, 'gauge', GAUGES[name], [['', gauges[name]]])),
      family('messages_total', 'counter', 'Messages accepted.', [['', this.#messages]]),
      family('message_bytes_total', 'counter', 'Base64 of messages accepted.', [['', this.#messageBytes]]),
      family('requests_total', 'counter', 'Requests answered.', requests),
      family('refusals_total', 'counter', 'Requests refused.', refusals),
    ].join('');
  }
}

const family = (name: string, type: string, help: string, samples: Samples) =>
  `# HELP agentalk_${name} ${help}\n# TYPE agentalk_${name} ${type}\n` +
  samples.map(([labels, value]) => `agentalk_${name}${labels} ${value}\n`).join('');
