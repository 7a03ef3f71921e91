/**
 * The program: configuration in, server up, signals. What touches the process is here and in bridge/ops/.
 *
 * A blind relay: it holds ciphertext for a while and hands it on. Whatever it is told is a stranger's word, and it has
 * no secret of its own but the key of its certificate, if it has one.
 */
import { readFileSync } from 'node:fs';
import { startBridge } from './bridge/server.ts';
import { check } from './bridge/ops/check-config.ts';
import { configure, help } from './bridge/ops/config.ts';
import { announce, fail, logOf, obeySignals, print } from './bridge/ops/process.ts';
import { vitals } from './bridge/ops/process-metrics.ts';

declare const RELEASE: string; // name, version and commit, from scripts/build.mjs

async function main(args: string[]): Promise<void> {
  if (args.includes('--help')) return print(help());
  if (args.includes('--version')) return print(`${RELEASE}\n`);
  const { config, isCheck } = configure(args, process.env);
  if (isCheck) return print(check(config, process.env));
  const log = logOf(config);
  const bridge = await startBridge(config, readFileSync(__filename), log, vitals(RELEASE));
  obeySignals(config, bridge, log); // before anybody can know that it is there
  announce(config, bridge);
}

main(process.argv.slice(2)).catch(fail);
