/** How the process itself is, as Prometheus text. Names that other Node programs use too are as they have them. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { IntervalHistogram } from 'node:perf_hooks';
import { family } from './prometheus.ts';

const RESOLUTION_MS = 20; // a timer that often; what it is late is the delay
const WINDOW_MS = 30_000;

/**
 * @param release name, version and commit, as --version says them
 * @returns the text of now
 */
export function vitals(release: string): () => string {
  const [, version = '', commit = ''] = /^\S+ (\S+) \((.*)\)$/.exec(release) ?? [];
  const build = `agentalk_build_info{version="${version}",commit="${commit}",node="${process.version}"}`;
  // Two, begun anew in turn: the older one always covers the last 30 to 60 seconds, whoever scrapes how often.
  let [older, newer] = [startMonitor(), startMonitor()];
  setInterval(() => {
    older.reset();
    [older, newer] = [newer, older];
  }, WINDOW_MS).unref();

  return () => {
    const { rss, heapUsed, heapTotal, external } = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    const delay = 'agentalk_event_loop_delay_seconds';
    return [
      family('agentalk_build_info', 'gauge', 'What runs: always 1.', { [build]: 1 }),
      family(delay, 'gauge', 'How late the event loop was, in the last 30 to 60 seconds.', {
        [`${delay}{value="p50"}`]: late(older.percentile(50)),
        [`${delay}{value="p99"}`]: late(older.percentile(99)),
        [`${delay}{value="max"}`]: late(older.max),
      }),
      one('process_start_time_seconds', 'gauge', 'When it started, Unix time.', STARTED_SECONDS),
      one('process_cpu_seconds_total', 'counter', 'Processor time, user and system.', (user + system) / 1e6),
      one('process_resident_memory_bytes', 'gauge', 'Memory that it occupies.', rss),
      one('nodejs_heap_size_used_bytes', 'gauge', 'JavaScript heap in use.', heapUsed),
      one('nodejs_heap_size_total_bytes', 'gauge', 'JavaScript heap.', heapTotal),
      one('nodejs_external_memory_bytes', 'gauge', 'Memory outside of it, where the messages are held.', external),
    ].join('');
  };
}

const STARTED_SECONDS = Math.round(Date.now() / 1000 - process.uptime());

const one = (name: string, type: 'gauge' | 'counter', help: string, value: number) =>
  family(name, type, help, { [name]: value });

function startMonitor(): IntervalHistogram {
  const monitor = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  monitor.enable();
  return monitor;
}

/** Seconds beyond the timer's own interval. Before its first tick a monitor has no numbers to go by. */
const late = (nanoseconds: number) => Math.max(0, Math.round(nanoseconds / 1000 - RESOLUTION_MS * 1000) / 1e6);
