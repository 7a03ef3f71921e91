/**
 * The entry point: configuration, composition of core and operator's side, start, signals.
 *
 * The bridge is a blind relay: it holds ciphertext for a while and passes it on. Everything that it receives comes from
 * strangers, and its only secrets are the key of its certificate and the create secret, if it has them.
 */
import { readFileSync } from 'node:fs';
import { createBridge } from './bridge/server.ts';
import { checkConfig } from './bridge/ops/check-config.ts';
import { parseInvocation, renderHelp, type Config } from './bridge/ops/config.ts';
import { loadCreateSecret } from './bridge/ops/create-secret.ts';
import { createListeners } from './bridge/ops/listeners.ts';
import type { Log } from './bridge/ops/logger.ts';
import { createLoggerFor, exitWithError, handleSignals, print, printUrls } from './bridge/ops/process.ts';
import { startProcessMetrics } from './bridge/ops/process-metrics.ts';
import { renderMetrics } from './bridge/ops/prometheus.ts';
import { createRequestLog } from './bridge/ops/request-log.ts';

declare const RELEASE: string; // name, version and commit, from scripts/build.mjs

async function main(args: string[]): Promise<void> {
  const invocation = parseInvocation(args, process.env);
  if (invocation.command === 'help') return print(renderHelp());
  if (invocation.command === 'version') return print(`${RELEASE}\n`);
  const { command, config } = invocation;
  if (command === 'check-config') return print(checkConfig(config, process.env));
  await start(config, createLoggerFor(config));
}

async function start(config: Config, log: Log): Promise<void> {
  const { proxies, limits } = config;
  const isSeparate = config.metricsAddress !== undefined; // everyone who reaches that address may see the metrics
  const processMetrics = startProcessMetrics(RELEASE);
  const bridge = createBridge({
    limits,
    publicUrl: config.publicUrl,
    basePath: config.basePath,
    bundle: readFileSync(__filename),
    clients: proxies,
    requestLog: createRequestLog(config, log),
    checkCreateSecret: loadCreateSecret(config.createSecretFile),
    isHttps: (request) => config.tls !== undefined || proxies.isForwardedHttps(request),
    hasSeparateMetrics: isSeparate,
    maySeeMetrics: (request) => isSeparate || config.hasPublicMetrics || proxies.isLocal(request),
    renderMetrics: () =>
      renderMetrics(bridge.metrics, bridge.gauges(), limits, listeners.expiresAt()) + processMetrics(),
  });
  const listeners = createListeners(config, bridge.handlePublic, bridge.handleOperator, log);
  bridge.attach(listeners.publicServer);
  const urls = await listeners.listen();
  const stop = async () => {
    bridge.beginShutdown();
    await listeners.close();
  };
  handleSignals(config, { stop, reloadCertificate: listeners.reloadCertificate }, log); // before anybody knows the URL
  printUrls(config, urls);
}

main(process.argv.slice(2)).catch(exitWithError);
