/** What an operator may know, as Prometheus text: numbers of things, never an id, an address or a name. */

export class Metrics {
  /** By route ("METHOD PATTERN") and status: as many as the table of routes allows. */
  readonly #requests = new Map<string, Map<number, number>>();
  /** By code of refusal. */
  readonly #refusals = new Map<string, number>();
  messages = 0;
  messageBytes = 0;

  countRequest(route: string, status: number): void {
    let counts = this.#requests.get(route);
    if (!counts) this.#requests.set(route, (counts = new Map()));
    increment(counts, status);
  }

  countRefusal(code: string): void {
    increment(this.#refusals, code);
  }

  /** @param gauges values of the moment, by name */
  render(gauges: Readonly<Record<string, number>>): string {
    const lines: string[] = [];
    const family = (name: string, type: string, help: string, samples: readonly (readonly [string, number])[]) => {
      lines.push(`# HELP agentalk_${name} ${help}`, `# TYPE agentalk_${name} ${type}`);
      for (const [labels, value] of samples) lines.push(`agentalk_${name}${labels} ${value}`);
    };
    for (const [name, value] of Object.entries(gauges)) family(name, 'gauge', GAUGES[name] ?? name, [['', value]]);
    family('messages_total', 'counter', 'Messages accepted.', [['', this.messages]]);
    family('message_bytes_total', 'counter', 'Ciphertext accepted, base64 characters.', [['', this.messageBytes]]);
    const requests = [...this.#requests].flatMap(([route, counts]) => {
      const [method, pattern] = route.split(' ');
      const labels = `method="${method}",route="${pattern}"`;
      return [...counts].map(([status, value]) => [`{${labels},status="${status}"}`, value] as const);
    });
    family('requests_total', 'counter', 'Requests answered.', requests);
    const refusals = [...this.#refusals].map(([code, value]) => [`{code="${code}"}`, value] as const);
    family('refusals_total', 'counter', 'Requests refused, by code.', refusals);
    return lines.join('\n') + '\n';
  }
}

const GAUGES: Readonly<Record<string, string>> = {
  channels: 'Channels now.',
  participants: 'Participants in all channels.',
  waiting_polls: 'Polls that wait.',
  held_bytes: 'Memory that channels count for.',
  connections: 'Open connections.',
};

const increment = <Key>(counts: Map<Key, number>, key: Key) => counts.set(key, (counts.get(key) ?? 0) + 1);
