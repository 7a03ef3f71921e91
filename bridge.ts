/**
 * The program: configuration in, server up, signals. The only file that touches the process.
 *
 * A blind relay: it holds ciphertext for a while and hands it on. What it is told is a stranger's word, what it holds
 * is no secret of its own, and there is nothing else on its side of the wire.
 */
import { readFileSync } from 'node:fs';
import { ConfigError, help, readConfig } from './bridge/config.ts';
import type { Config } from './bridge/config.ts';
import { startBridge } from './bridge/server.ts';

/** Set by scripts/build.mjs. */
declare const RELEASE: string;

function fail(message: string, status: number): never {
  process.stderr.write(`agentalk-bridge: ${message}\n`);
  process.exit(status);
}

function configure(args: readonly string[]): Config {
  try {
    return readConfig(args, process.env);
  } catch (error) {
    if (error instanceof ConfigError) fail(error.message, 2);
    throw error;
  }
}

async function main(args: readonly string[]): Promise<void> {
  if (args.includes('--help')) return void process.stdout.write(help());
  if (args.includes('--version')) return void process.stdout.write(`${RELEASE}\n`);
  const config = configure(args);
  const log = (line: string) => process.stderr.write(`${new Date().toISOString()} ${line}\n`);
  const bridge = await startBridge(config, readFileSync(__filename), log);

  process.stdout.write(`listening on ${bridge.url}\n`);
  if (process.stdout.isTTY || process.env['npm_lifecycle_event'] === 'start') {
    const url = config.publicUrl ? config.publicUrl.origin + config.publicUrl.basePath : bridge.url;
    process.stdout.write(`Say to your agent: Talk to my other Claude at ${url}\n`);
  }

  let isStopping = false;
  const stop = () => {
    if (isStopping) process.exit(1);
    isStopping = true;
    void bridge.stop().then(() => process.exit(0));
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

main(process.argv.slice(2)).catch((error: NodeJS.ErrnoException) => {
  // What the system says when the address can't be had is enough; its code is stable.
  fail(`can't start: ${error.code ?? error.message}`, 1);
});
