/** --check: what the bridge would do as it is set up, and whether its files are in order. Nothing is opened or begun. */
import { accessSync, constants, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { TABLE } from '../limits.ts';
import { Advice, codeOf } from './startup-error.ts';
import { variables } from './config.ts';
import type { Config } from './config.ts';
import { readInvitation } from './invite.ts';
import { nameOf } from './bind.ts';
import type { Address } from './bind.ts';
import { dateOf, readPair } from './tls.ts';

/** A few lines. Throws Advice for a file that is not as it has to be. */
export function check(config: Config, environment: Readonly<Record<string, string | undefined>>): string {
  const { address, metricsAddress, tls, publicUrl, limits } = config;
  const pair = tls && readPair(tls);
  readInvitation(config.invite);
  [address, metricsAddress].forEach(checkFolder);
  const seen = publicUrl ?? (pair ? 'https' : 'http') + '://, and the host that they ask for';
  const known = variables();
  const unknown = Object.keys(environment).filter((name) => /^AGENTALK_/.test(name) && !known.includes(name));
  const files = maxOpenFiles();
  return [
    `listens on ${nameOf(address, pair ? 'https' : 'http')}`,
    pair ? `TLS: a certificate for ${pair.names}, until ${dateOf(pair.expiresAt)}` : 'no TLS of its own',
    `clients reach it at ${seen}`,
    `metrics, health and readiness: ${metricsAddress ? nameOf(metricsAddress) + ' only' : 'on the same address'}`,
    `channels may be opened by ${config.invite ? 'who brings the secret of ' + config.invite : 'everybody'}`,
    `log: ${config.logFormat ?? 'text on a terminal, else JSON'}`,
    ...Object.entries(TABLE)
      .filter(([name, [, value]]) => limits[name as keyof typeof limits] !== value)
      .map(([name, [flag, value]]) => `--${flag} ${limits[name as keyof typeof limits]} (default ${value})`),
    ...(files < limits.connections ? [`beware: ${files} open files at most, --max-connections is above that`] : []),
    ...(unknown.length > 0 ? [`beware: no setting is called ${unknown.join(', ')}`] : []),
    'in order\n',
  ].join('\n');
}

function checkFolder(address: Address | undefined): void {
  if (!address || !('path' in address)) return;
  try {
    accessSync(dirname(address.path), constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new Advice(`the folder of ${address.path} is not for us to write in (${codeOf(error)})`);
  }
}

/** Linux says it; elsewhere nobody is warned. Node has raised the soft limit to the hard one by now. */
function maxOpenFiles(): number {
  try {
    return Number(/^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? Infinity);
  } catch {
    return Infinity;
  }
}
