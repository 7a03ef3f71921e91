/** The bridge as a process: what it prints, its log, its signals. */
import { isatty } from 'node:tty';
import { setFlagsFromString } from 'node:v8';
import { Advice } from './startup-error.ts';
import { logger } from './logger.ts';
import type { Config } from './config.ts';
import type { Log } from './logger.ts';
import type { Urls } from './listeners.ts';

/**
 * Young garbage is collected by one thread. V8 would share that with helpers on other cores; where those are busy, all
 * requests wait until a helper that was interrupted goes on, and on two busy cores that takes twice as long.
 */
setFlagsFromString('--no-parallel-scavenge');

export const print = (text: string): void => void process.stdout.write(text);

/** Lines for eyes on a terminal, JSON for whatever collects them elsewhere, unless the operator says which. */
export function logOf({ logFormat }: Config): Log {
  // A bridge goes on when nobody reads its log any more.
  process.stderr.on('error', () => {});
  return logger(logFormat ?? (process.stderr.isTTY ? 'text' : 'json'), (line) => void process.stderr.write(line));
}

export function announce({ publicUrl }: Config, { url, metricsUrl }: Urls): void {
  if (metricsUrl !== undefined) print(`metrics on ${metricsUrl}\n`);
  print(`listening on ${url}\n`); // relied on by what starts bridges
  const spoken = publicUrl ?? url;
  const isForEyes = process.stdout.isTTY || process.env['npm_lifecycle_event'] === 'start';
  if (isForEyes && spoken.startsWith('http')) print(`Say to your agent: Talk to my other Claude at ${spoken}\n`);
}

/**
 * SIGTERM and SIGINT end it gently, the second one at once. SIGHUP has it read its certificate again; where it has none,
 * it means that the terminal is gone, or nothing.
 */
export function obeySignals({ tls }: Config, bridge: { renew(): void; stop(): Promise<void> }, log: Log): void {
  const hasTerminal = isatty(0); // a terminal that is gone is none any more
  let isStopping = false;
  const stop = (signal: string) => {
    if (isStopping) process.exit(1); // whoever asks twice means it
    isStopping = true;
    log(`stopping signal=${signal}`);
    void bridge.stop().then(() => process.exit(0));
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  process.on('SIGHUP', (signal) => {
    if (tls) bridge.renew();
    else if (hasTerminal) stop(signal);
    else log('there is no certificate to be read again');
  });
}

/** One line for the operator; of what nobody expected, where it happened. */
export function fail(error: Error): never {
  const isAdvice = error instanceof Advice;
  process.stderr.write(`agentalk-bridge: ${isAdvice ? error.message : error.stack}\n`);
  process.exit(isAdvice ? error.status : 1);
}
