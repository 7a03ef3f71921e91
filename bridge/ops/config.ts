/** What an operator can set: one table, from which flags, environment variables, defaults and the help are made. */
import { parseArgs } from 'node:util';
import { TABLE, messageCharacters } from '../limits.ts';
import type { Limits } from '../limits.ts';
import { readProxies } from './trusted-proxies.ts';
import type { Proxies } from './trusted-proxies.ts';
import { Advice } from './startup-error.ts';
import { inherited } from './bind.ts';
import type { Address } from './bind.ts';
import type { LogFormat } from './logger.ts';
import type { Files } from './tls.ts';

export interface Config {
  readonly address: Address;
  readonly metricsAddress: Address | undefined; // undefined: /metrics, /health and /ready are where the rest is
  readonly tls: Files | undefined;
  readonly logFormat: LogFormat | undefined; // undefined: as fits where the log goes
  readonly publicUrl: string | undefined; // with its base path, no slash at its end
  readonly basePath: string;
  readonly hasPublicMetrics: boolean; // else /metrics is for who asks on this machine
  readonly invite: string | undefined; // the file of the secret
  readonly proxies: Proxies; // whose X-Forwarded-For and X-Forwarded-Proto count
  readonly logRequests: boolean;
  readonly logAddresses: boolean;
  readonly limits: Limits;
}

const UNITS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  Bytes: { k: 1024, m: 1024 ** 2, g: 1024 ** 3 },
  Seconds: { s: 1, m: 60, h: 3600 },
};

/** Digits and perhaps a unit: 64k, 2h. NaN for anything else. */
function amount(text: string, name: string): number {
  const [, digits, unit = ''] = /^([0-9]{1,13})([a-z]?)$/.exec(text) ?? [];
  return Number(digits) * (unit === '' ? 1 : (UNITS[/Bytes|Seconds/.exec(name)?.[0] ?? '']?.[unit] ?? NaN));
}

/** What comes into pages and scripts has no other characters than these. */
const HOST = '([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\\[[0-9a-f:.]+\\])(:[0-9]{1,5})?';
const PUBLIC_URL = new RegExp(`^https?://${HOST}(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?$`, 'i');
const URL_FORM =
  'http:// or https://, a host name or an address (IPv6 in brackets), perhaps a port and a path, and no user, ? or #';

const isPublicUrl = (text: string) => PUBLIC_URL.test(text) && URL.canParse(text);
/** Scheme and host in lower case, as clients compare them; without the port that the scheme has anyway. */
function normalizePublicUrl(text: string): string | undefined {
  if (text === '') return undefined;
  const { protocol, host, pathname } = new URL(text);
  return `${protocol}//${host}${pathname.replace(/\/$/, '')}`;
}
const areProxies = (text: string) => readProxies(text) !== undefined;
const isYes = (text: string) => text === 'yes';
const isPort = (text: string) => /^\d{1,5}$/.test(text) && Number(text) < 65_536;
const isHost = (text: string) => /^[\w.:-]+$/.test(text);
const isSocketPath = (text: string) => Buffer.byteLength(text) < 104; // sun_path: 104 bytes on macOS, 108 on Linux

/** HOST:PORT, an IPv6 address in brackets, or the path of a unix socket, which has a slash. */
function addressOf(text: string): Address | undefined {
  if (text.includes('/')) return isSocketPath(text) ? { path: text } : undefined;
  const [, inBrackets, name, port = ''] = /^(?:\[(.+)\]|([^:]+)):(\d+)$/.exec(text) ?? [];
  const host = inBrackets ?? name ?? '';
  return isHost(host) && isPort(port) ? { host, port: Number(port) } : undefined;
}

const FORMATS = ['text', 'json'] as const;
const isFormat = (text: string) => FORMATS.some((each) => each === text);
const ADDRESS = 'HOST:PORT, [IPv6]:PORT or the path of a unix socket, with a slash,';

type Setting = readonly [
  flag: string,
  value: string,
  about: string,
  isValid: (text: string) => boolean,
  wanted?: string, // what to write instead of a bad value
];
const SETTINGS: readonly Setting[] = [
  ['host', '127.0.0.1', 'address to listen on', isHost, 'an address or a host name'],
  ['port', '8787', 'port to listen on; 0 is any that is free', isPort, 'a number from 0 to 65535'],
  ['socket', '', 'path of a unix socket to listen on instead', isSocketPath, 'a path of at most 103 bytes'],
  ['tls-cert', '', 'PEM file of a certificate and its chain: https', () => true],
  ['tls-key', '', 'PEM file of its private key', () => true],
  ['metrics-listen', '', 'HOST:PORT or path for /metrics, /health, /ready alone', (text) => !!addressOf(text), ADDRESS],
  ['log-format', '', 'text or json; text on a terminal, else json', isFormat, 'text or json'],
  ['public-url', '', 'where clients reach this bridge, if that is elsewhere', isPublicUrl, URL_FORM],
  ['public-metrics', 'no', 'yes: /metrics for everybody, not only on this machine', isYes, 'yes or no'],
  ['invite', '', 'file with a secret: only who brings it may open channels', () => true],
  ['trusted-proxies', '', 'proxies of ours: addresses, CIDRs, loopback, with commas between them', areProxies],
  ['log-requests', 'no', 'yes: a line for each request, without ids and contents', isYes, 'yes or no'],
  ['log-addresses', 'no', 'yes: in those lines where it came from, too', isYes, 'yes or no'],
  ...Object.entries(TABLE).map(([name, [flag, value, least, most, about]]): Setting => {
    const unit = /Bytes|Seconds/.exec(name)?.[0].toLowerCase();
    const isValid = (text: string) => amount(text, name) >= least && amount(text, name) <= most;
    return [flag, String(value), unit ? `${unit}: ${about}` : about, isValid, `a number from ${least} to ${most}`];
  }),
];

const variableOf = (flag: string) => `AGENTALK_${flag.toUpperCase().replaceAll('-', '_')}`;

/** The names of all environment variables that mean something here. */
export const variables = (): string[] => SETTINGS.map(([flag]) => variableOf(flag));

/** Flags win over the environment, and that over the defaults. Throws an Error that says in a line what is wrong. */
export function readConfig(args: string[], environment: Readonly<Record<string, string | undefined>>): Config {
  const options = Object.fromEntries(SETTINGS.map(([flag]) => [flag, { type: 'string' }] as const));
  const flags: Partial<Record<string, string>> = parseArgs({ args, options }).values;
  const values: Record<string, string> = {};
  for (const [flag, value, , isValid, wanted] of SETTINGS) {
    const text = (values[flag] = flags[flag] ?? (environment[variableOf(flag)] || value));
    const source = flag in flags ? `--${flag}` : variableOf(flag);
    if (text === value || isValid(text)) continue;
    throw new Error(`bad value for ${source}${wanted === undefined ? '' : `: ${wanted} is wanted`}`);
  }
  const amounts = Object.entries(TABLE).map(([name, [flag]]) => [name, amount(values[flag] ?? '', name)]);
  const given = Object.fromEntries(amounts) as Limits;
  // Clients are told how large a file may be: never more than there is memory for.
  const limits = Object.freeze({ ...given, blobBytes: Math.min(given.blobBytes, given.totalBytes) });
  const least = 2 * messageCharacters(limits) + 8192;
  if (limits.channelBytes < least) throw new Error(`--max-channel-bytes has to be at least ${least}`);
  if (limits.totalBytes < limits.channelBytes) throw new Error('--max-total-bytes is below --max-channel-bytes');
  const { host = '', port, socket, 'metrics-listen': metrics = '', 'log-format': format } = values;
  const { 'tls-cert': cert = '', 'tls-key': key = '' } = values;
  if ((cert === '') !== (key === '')) throw new Error('--tls-cert and --tls-key go together: give both');
  const tls = cert === '' ? undefined : { cert, key };
  const address = inherited(environment, process.pid) ?? (socket ? { path: socket } : { host, port: Number(port) });
  const metricsAddress = addressOf(metrics);
  const logFormat = FORMATS.find((each) => each === format);
  const { 'public-url': url = '', 'trusted-proxies': trusted = '' } = values;
  const publicUrl = normalizePublicUrl(url);
  const basePath = publicUrl === undefined ? '' : new URL(publicUrl).pathname.replace(/\/$/, '');
  const proxies = readProxies(trusted) as Proxies; // checked above
  const [logRequests, logAddresses] = [values['log-requests'] === 'yes', values['log-addresses'] === 'yes'];
  const where = { address, metricsAddress, tls, logFormat };
  const invite = values['invite'] || undefined;
  const hasPublicMetrics = values['public-metrics'] === 'yes';
  return { ...where, publicUrl, basePath, hasPublicMetrics, invite, proxies, logRequests, logAddresses, limits };
}

/** All that a command line and an environment say. Throws Advice. */
export function configure(args: readonly string[], environment: Readonly<Record<string, string | undefined>>) {
  const rest = args.filter((arg) => arg !== '--check');
  try {
    return { config: readConfig(rest, environment), isCheck: rest.length < args.length };
  } catch (error) {
    throw new Advice(`${(error as Error).message.split('\n')[0]}; see --help`);
  }
}

export const help = (): string => `Usage: node bridge.js [--FLAG VALUE]…

A relay for coding agents that talk end-to-end encrypted. It holds what it relays in memory only, and can't read it.

${SETTINGS.map(([flag, value, about]) => `  --${flag.padEnd(30)}${about}${value && ` (${value})`}\n`).join('')}
  --help                          what you read
  --version                       name, version, commit
  --check                         say what would be done, look at the files, and end: 0 if all is in order, else 2

Bytes may end in k, m or g, seconds in s, m or h. Each flag is an environment variable too: --public-url is
AGENTALK_PUBLIC_URL.
`;
