/** What was counted, as Prometheus text (exposition format 0.0.4). It is ASCII. */
import { AGES_MS, FAMILIES } from '../metrics.ts';
import type { Limits } from '../limits.ts';
import type { Metrics } from '../metrics.ts';

export type Samples = Readonly<Record<string, number>>; // by name and labels

const DELIVERY =
  'Age of a message, from accepted to written into the answer of a poll, by whether the poll waited or came later.';

/** One family; nothing where there are no samples. */
export function family(name: string, type: 'gauge' | 'counter' | 'histogram', help: string, samples: Samples): string {
  const lines = Object.entries(samples).map(([sample, value]) => `${sample} ${value}\n`);
  return lines.length === 0 ? '' : `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`;
}

const SETTINGS = {
  max_channels: 'Channels at a time, at most: --max-channels.',
  max_held_bytes: 'Memory that channels may count for: --max-total-bytes.',
  max_connections: 'Connections at a time, at most: --max-connections.',
  tls_certificate_expiry_timestamp_seconds: 'When the certificate in use ends, Unix time.',
};

/**
 * @param gauges what is so now; families without samples are left out
 * @param expiresAt when the certificate ends, if there is one
 */
export function exposition({ counts, ages }: Metrics, gauges: Samples, limits: Limits, expiresAt?: number): string {
  const settings = {
    max_channels: limits.channels,
    max_held_bytes: limits.totalBytes,
    max_connections: limits.connections,
    ...(expiresAt !== undefined && { tls_certificate_expiry_timestamp_seconds: expiresAt / 1000 }),
  };
  const counted = [...counts].map(([sample, { value }]) => [sample, value] as const);
  const all = [...Object.entries(gauges), ...counted, ...Object.entries(settings)];
  const samples = all.map(([sample, value]) => [`agentalk_${sample}`, value] as const);
  const families = Object.entries({ ...FAMILIES, ...SETTINGS }).map(([name, help]) => {
    const own = samples.filter(([sample]) => sample.split('{')[0] === `agentalk_${name}`);
    return family(`agentalk_${name}`, name.endsWith('_total') ? 'counter' : 'gauge', help, Object.fromEntries(own));
  });
  return families.join('') + family('agentalk_delivery_seconds', 'histogram', DELIVERY, buckets(ages));
}

/** A bucket of a histogram counts what is in the smaller ones too. */
function buckets(ages: Metrics['ages']): Samples {
  const samples: Record<string, number> = {};
  for (const [poll, { counts, sumMs }] of Object.entries(ages)) {
    const of = (name: string, le = '') => `agentalk_delivery_seconds_${name}{poll="${poll}"${le}}`;
    let sum = 0;
    counts.forEach((count, i) => {
      const most = AGES_MS[i];
      samples[of('bucket', `,le="${most === undefined ? '+Inf' : most / 1000}"`)] = sum += count;
    });
    samples[of('sum')] = sumMs / 1000;
    samples[of('count')] = sum;
  }
  return samples;
}
