/** Metrics of the process, as Prometheus text. Those that other Node programs have too have their usual names. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { IntervalHistogram } from 'node:perf_hooks';
import { renderFamily } from './prometheus.ts';

const RESOLUTION_MS = 20; // the interval of a timer; its lateness is the lag
const WINDOW_MS = 30_000;
const STARTED_SECONDS = Math.round(Date.now() / 1000 - process.uptime());

/**
 * Starts to measure the event loop.
 *
 * @param release name, version and commit, as --version prints them
 * @returns a function that renders the metrics of now
 */
export function startProcessMetrics(release: string): () => string {
  const [, version = '', commit = ''] = /^\S+ (\S+) \((.*)\)$/.exec(release) ?? [];
  const build = `agentalk_build_info{version="${version}",commit="${commit}",node="${process.version}"}`;
  // Two windows, restarted in turn: the active one always covers the last 30 to 60 seconds, however often it is read.
  let activeWindow = startMonitor();
  let nextWindow = startMonitor();
  setInterval(() => {
    activeWindow.reset();
    const previous = activeWindow;
    activeWindow = nextWindow;
    nextWindow = previous;
  }, WINDOW_MS).unref();

  return () => {
    const { rss, heapUsed, heapTotal, external } = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    const lag = 'Event loop lag in the last 30 to 60 seconds';
    return [
      renderFamily('agentalk_build_info', 'gauge', 'The running version: always 1.', { [build]: 1 }),
      gauge('nodejs_eventloop_lag_p50_seconds', `${lag}, median.`, lagSeconds(activeWindow.percentile(50))),
      gauge('nodejs_eventloop_lag_p99_seconds', `${lag}, 99th percentile.`, lagSeconds(activeWindow.percentile(99))),
      gauge('nodejs_eventloop_lag_max_seconds', `${lag}, maximum.`, lagSeconds(activeWindow.max)),
      gauge('process_start_time_seconds', 'Start of the process, Unix time.', STARTED_SECONDS),
      renderSample('process_cpu_seconds_total', 'counter', 'CPU time, user and system.', (user + system) / 1e6),
      gauge('process_resident_memory_bytes', 'Resident memory.', rss),
      gauge('nodejs_heap_size_used_bytes', 'JavaScript heap in use.', heapUsed),
      gauge('nodejs_heap_size_total_bytes', 'JavaScript heap.', heapTotal),
      gauge('nodejs_external_memory_bytes', 'Memory outside the JavaScript heap, where messages are stored.', external),
    ].join('');
  };
}

function renderSample(name: string, type: 'gauge' | 'counter', help: string, value: number): string {
  return renderFamily(name, type, help, { [name]: value });
}

const gauge = (name: string, help: string, value: number) => renderSample(name, 'gauge', help, value);

function startMonitor(): IntervalHistogram {
  const monitor = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  monitor.enable();
  return monitor;
}

/** Seconds beyond the timer's own interval. Before its first tick a monitor has no values. */
function lagSeconds(nanoseconds: number): number {
  return Math.max(0, Math.round(nanoseconds / 1000 - RESOLUTION_MS * 1000) / 1e6);
}
