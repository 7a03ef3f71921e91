/** The bridge as a process: what it prints, its log, its signals. */
import { isatty } from 'node:tty';
import { setFlagsFromString } from 'node:v8';
import { StartupError } from './startup-error.ts';
import { logger } from './logger.ts';
import type { Config } from './config.ts';
import type { Log } from './logger.ts';
import type { BoundUrls } from './listeners.ts';

/**
 * Collects young garbage on one thread. V8 would share the work with threads on other cores. Where those are busy, all
 * requests wait for a thread that was interrupted, and on two busy cores a collection takes twice as long.
 */
setFlagsFromString('--no-parallel-scavenge');

export const print = (text: string): void => void process.stdout.write(text);

/** Text on a terminal, else JSON for log collectors, unless the operator says which. */
export function createLoggerFor({ logFormat }: Config): Log {
  // The bridge goes on when nobody reads its log any more.
  process.stderr.on('error', () => {});
  return logger(logFormat ?? (process.stderr.isTTY ? 'text' : 'json'), (line) => void process.stderr.write(line));
}

export function printUrls({ publicUrl }: Config, { url, metricsUrl }: BoundUrls): void {
  if (metricsUrl !== undefined) print(`metrics on ${metricsUrl}\n`);
  print(`listening on ${url}\n`); // programs that start bridges rely on this line
  const clientUrl = publicUrl ?? url;
  const isForPerson = process.stdout.isTTY || process.env['npm_lifecycle_event'] === 'start';
  if (isForPerson && clientUrl.startsWith('http'))
    print(`Say to your agent: Talk to my other Claude at ${clientUrl}\n`);
}

/**
 * SIGTERM and SIGINT shut the bridge down, a second one ends it at once. SIGHUP reloads the certificate; without one, it
 * shuts the bridge down if its terminal is gone.
 */
export function handleSignals(
  { tls }: Config,
  bridge: { reloadCertificate(): void; stop(): Promise<void> },
  log: Log,
): void {
  const hasTerminal = isatty(0); // asked now: a terminal that is gone is none any more
  let isStopping = false;
  const stop = (signal: string) => {
    if (isStopping) process.exit(1); // an operator who asks twice means it
    isStopping = true;
    log(`stopping signal=${signal}`);
    void bridge.stop().then(() => process.exit(0));
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  process.on('SIGHUP', (signal) => {
    if (tls) bridge.reloadCertificate();
    else if (hasTerminal) stop(signal);
    else log('there is no certificate to be read again');
  });
}

/** One line for an error that the operator can fix; else the stack. */
export function exitWithError(error: Error): never {
  const isStartupError = error instanceof StartupError;
  process.stderr.write(`agentalk-bridge: ${isStartupError ? error.message : error.stack}\n`);
  process.exit(isStartupError ? error.status : 1);
}
