/** What was counted, as Prometheus text (exposition format 0.0.4). It is ASCII. */
import { FAMILIES, LATENCY_BOUNDS_MS, type Metrics } from '../metrics.ts';
import type { Limits } from '../limits.ts';

type MetricType = 'gauge' | 'counter' | 'histogram';
export type Samples = Readonly<Record<string, number>>; // by name and labels

/** What the operator has set, in addition to what is measured. */
const SETTINGS = {
  channels_limit: 'Most channels at a time: --max-channels.',
  channel_memory_limit_bytes: 'Most memory that channels may count for: --max-memory-bytes.',
  connections_limit: 'Most connections at a time: --max-connections.',
  tls_certificate_expiry_timestamp_seconds: 'When the certificate in use expires, Unix time.',
};
const LATENCY = 'agentalk_delivery_latency_seconds';
const LATENCY_HELP =
  'Time of a message from accepted to written into the response of a poll: immediate if the poll was pending, else delayed.';

/** One family of metrics; nothing where there are no samples. */
export function renderFamily(name: string, type: MetricType, help: string, samples: Samples): string {
  const lines = Object.entries(samples).map(([sample, value]) => `${sample} ${value}\n`);
  return lines.length === 0 ? '' : `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`;
}

/**
 * @param gauges the values of now; families without samples are left out
 * @param expiresAt when the certificate expires, if there is one
 */
export function renderMetrics(metrics: Metrics, gauges: Samples, limits: Limits, expiresAt?: number): string {
  const settings: Record<string, number> = {
    channels_limit: limits.channels,
    channel_memory_limit_bytes: limits.memoryBytes,
    connections_limit: limits.connections,
  };
  if (expiresAt !== undefined) settings['tls_certificate_expiry_timestamp_seconds'] = expiresAt / 1000;
  const counters = [...metrics.counts].map(([name, { value }]) => [name, value] as const);
  const all = [...Object.entries(gauges), ...counters, ...Object.entries(settings)];
  const families = Object.entries({ ...FAMILIES, ...SETTINGS }).map(([family, help]) => {
    const ofFamily = all.filter(([name]) => name.split('{')[0] === family);
    const samples = Object.fromEntries(ofFamily.map(([name, value]) => [`agentalk_${name}`, value]));
    return renderFamily(`agentalk_${family}`, family.endsWith('_total') ? 'counter' : 'gauge', help, samples);
  });
  return families.join('') + renderFamily(LATENCY, 'histogram', LATENCY_HELP, latencySamples(metrics));
}

/** A bucket of a Prometheus histogram includes the counts of all smaller ones. */
function latencySamples({ deliveryLatency }: Metrics): Samples {
  const samples: Record<string, number> = {};
  for (const [path, { counts, sumMs }] of Object.entries(deliveryLatency)) {
    let total = 0;
    counts.forEach((count, i) => {
      const bound = LATENCY_BOUNDS_MS[i];
      const le = bound === undefined ? '+Inf' : String(bound / 1000);
      total += count;
      samples[`${LATENCY}_bucket{path="${path}",le="${le}"}`] = total;
    });
    samples[`${LATENCY}_sum{path="${path}"}`] = sumMs / 1000;
    samples[`${LATENCY}_count{path="${path}"}`] = total;
  }
  return samples;
}
