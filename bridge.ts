/**
 * The program: configuration in, server up, signals. The only file that touches the process.
 *
 * A blind relay: it holds ciphertext for a while and hands it on. Whatever it is told is a stranger's word, and it has
 * no secret of its own.
 */
import { readFileSync } from 'node:fs';
import { help, readConfig } from './service/config.ts';
import { startBridge } from './bridge/server.ts';

declare const RELEASE: string; // name, version and commit, from scripts/build.mjs

function fail(message: string, status: number): never {
  process.stderr.write(`agentalk-bridge: ${message}\n`);
  process.exit(status);
}

async function main(args: string[]): Promise<void> {
  if (args.includes('--help')) return void process.stdout.write(help());
  if (args.includes('--version')) return void process.stdout.write(`${RELEASE}\n`);
  let config: ReturnType<typeof readConfig>;
  try {
    config = readConfig(args, process.env);
  } catch (error) {
    return fail(`${(error as Error).message.split('\n')[0]}; see --help`, 2);
  }
  const log = (line: string) => process.stderr.write(`${new Date().toISOString()} ${line}\n`);
  const bridge = await startBridge(config, readFileSync(__filename), log);

  process.stdout.write(`listening on ${bridge.url}\n`);
  if (process.stdout.isTTY || process.env['npm_lifecycle_event'] === 'start') {
    process.stdout.write(`Say to your agent: Talk to my other Claude at ${config.publicUrl ?? bridge.url}\n`);
  }

  let isStopping = false;
  const stop = () => {
    if (isStopping) process.exit(1); // whoever asks twice means it
    isStopping = true;
    void bridge.stop().then(() => process.exit(0));
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

main(process.argv.slice(2)).catch(({ code, stack }: NodeJS.ErrnoException) =>
  fail(code ? `can't listen there (${code}): choose another --port (0: any that is free) or --host` : `${stack}`, 1),
);
