/** --check-config: what the bridge would do with this configuration, and whether its files are in order. Starts nothing. */
import { accessSync, constants, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { LIMITS } from '../limits.ts';
import { formatAddress, type Address } from './bind.ts';
import { envNames, type Config } from './config.ts';
import { loadCreateSecret } from './create-secret.ts';
import { StartupError, errnoName } from './startup-error.ts';
import { isoDate, loadCertificate } from './tls.ts';

/** A few lines. Throws StartupError for a file that can't be used. */
export function checkConfig(config: Config, environment: Readonly<Record<string, string | undefined>>): string {
  const { address, tls, publicUrl, limits, createSecretFile, metricsAddress } = config;
  const certificate = tls && loadCertificate(tls);
  loadCreateSecret(createSecretFile);
  checkFolder(address);
  checkFolder(metricsAddress);
  const scheme = certificate ? 'https' : 'http';
  const lines = [
    `listens on ${formatAddress(address, scheme)}`,
    certificate ? `TLS: a certificate for ${certificate.names}, until ${isoDate(certificate.expiresAt)}` : 'TLS: none',
    `clients reach it at ${publicUrl ?? `${scheme}:// and the host of their request`}`,
    `trusted proxies: ${config.proxies.words.join(', ') || 'none'}`,
    `metrics: ${describeMetrics(config)}`,
    `channels may be created by ${createSecretFile ? `clients with the secret in ${createSecretFile}` : 'everybody'}`,
    `log: ${config.logFormat ?? 'text on a terminal, else JSON'}`,
    `requests in the log: ${describeRequestLog(config)}`,
  ];
  for (const [name, [flag, defaultValue]] of Object.entries(LIMITS)) {
    const value = limits[name as keyof typeof limits];
    if (value !== defaultValue) lines.push(`--${flag} ${value} (default ${defaultValue})`);
  }
  if (config.logAddresses && !config.logRequests) lines.push('warning: --log-addresses needs --log-requests');
  const maxFiles = maxOpenFiles();
  if (maxFiles < limits.connections) {
    lines.push(`warning: at most ${maxFiles} open files, --max-connections is above that`);
  }
  const known = envNames();
  const unknown = Object.keys(environment).filter((name) => /^AGENTALK_/.test(name) && !known.includes(name));
  if (unknown.length > 0) lines.push(`warning: unknown setting ${unknown.join(', ')}`);
  return `${lines.join('\n')}\nin order\n`;
}

function describeMetrics({ metricsAddress, hasPublicMetrics }: Config): string {
  if (metricsAddress) return `${formatAddress(metricsAddress)} only, for everybody who reaches it`;
  return `on the same address, for ${hasPublicMetrics ? 'everybody' : 'this machine only'}`;
}

function describeRequestLog({ logRequests, logAddresses }: Config): string {
  if (!logRequests) return 'none';
  return logAddresses ? 'a line each, with the client address' : 'a line each, without addresses';
}

function checkFolder(address: Address | undefined): void {
  if (!address || !('path' in address)) return;
  try {
    accessSync(dirname(address.path), constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new StartupError(`can't write in the folder of ${address.path} (${errnoName(error)})`);
  }
}

/** From Linux; Infinity elsewhere. Node has raised the soft limit to the hard one. */
function maxOpenFiles(): number {
  try {
    return Number(/^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? Infinity);
  } catch {
    return Infinity;
  }
}
