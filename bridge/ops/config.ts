/** What an operator can set: one table, from which flags, environment variables, defaults and --help are made. */
import { parseArgs } from 'node:util';
import { LIMITS, maxMessageBase64, type Limits } from '../limits.ts';
import { systemdSocket, type Address } from './bind.ts';
import type { LogFormat } from './logger.ts';
import { StartupError } from './startup-error.ts';
import type { TlsFiles } from './tls.ts';
import { parseTrustedProxies, type TrustedProxies } from './trusted-proxies.ts';

export interface Config {
  readonly address: Address;
  readonly metricsAddress: Address | undefined; // undefined: /metrics is at `address`; /health and /ready are at both
  readonly tls: TlsFiles | undefined;
  readonly logFormat: LogFormat | undefined; // undefined: text on a terminal, else JSON
  readonly publicUrl: string | undefined; // with its base path, no slash at its end
  readonly basePath: string;
  readonly hasPublicMetrics: boolean; // false: /metrics is for requests from this machine
  readonly createSecretFile: string | undefined;
  readonly proxies: TrustedProxies; // whose X-Forwarded-For and X-Forwarded-Proto count
  readonly logRequests: boolean;
  readonly logAddresses: boolean;
  readonly limits: Limits;
}

type Environment = Readonly<Record<string, string | undefined>>;

const UNITS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  Bytes: { k: 1024, m: 1024 ** 2, g: 1024 ** 3 },
  Seconds: { s: 1, m: 60, h: 3600 },
};

/** What a limit is measured in, by the end of its name. */
const unitOf = (name: string): string | undefined => /Bytes|Seconds/.exec(name)?.[0];

/** Digits and perhaps a unit: 64k, 2h. NaN for anything else. */
function parseAmount(text: string, name: string): number {
  const [, digits, suffix = ''] = /^([0-9]{1,13})([a-z]?)$/.exec(text) ?? [];
  if (suffix === '') return Number(digits);
  return Number(digits) * (UNITS[unitOf(name) ?? '']?.[suffix] ?? NaN);
}

/** Pages and scripts get no other characters than these. */
const HOST = '([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\\[[0-9a-f:.]+\\])(:[0-9]{1,5})?';
const PUBLIC_URL = new RegExp(`^https?://${HOST}(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?$`, 'i');
const URL_FORM =
  'http:// or https://, a host name or an address (IPv6 in brackets), perhaps a port and a path, and no user, ? or #';

const isPublicUrl = (text: string) => PUBLIC_URL.test(text) && URL.canParse(text);

/** Scheme and host in lower case, as clients compare them; without the scheme's default port. */
function normalizePublicUrl(text: string): string | undefined {
  if (text === '') return undefined;
  const { protocol, host, pathname } = new URL(text);
  return `${protocol}//${host}${pathname.replace(/\/$/, '')}`;
}

const isProxyList = (text: string) => parseTrustedProxies(text) !== undefined;
const isPort = (text: string) => /^\d{1,5}$/.test(text) && Number(text) < 65_536;
const isHost = (text: string) => /^[\w.:-]+$/.test(text);
const isSocketPath = (text: string) => Buffer.byteLength(text) < 104; // sun_path: 104 bytes on macOS, 108 on Linux

/** HOST:PORT, an IPv6 address in brackets, or the path of a unix socket, which has a slash. */
function parseAddress(text: string): Address | undefined {
  if (text.includes('/')) return isSocketPath(text) ? { path: text } : undefined;
  const [, inBrackets, name, port = ''] = /^(?:\[(.+)\]|([^:]+)):(\d+)$/.exec(text) ?? [];
  const host = inBrackets ?? name ?? '';
  return isHost(host) && isPort(port) ? { host, port: Number(port) } : undefined;
}

const LOG_FORMATS = ['text', 'json'] as const;
const ADDRESS_FORM = 'HOST:PORT, [IPv6]:PORT or the path of a unix socket, with a slash';

/** An option that takes a value. */
type Option = readonly [
  flag: string,
  defaultValue: string,
  help: string,
  isValid: (text: string) => boolean,
  expected?: string, // for the error about a bad value
];
const OPTIONS: readonly Option[] = [
  ['host', '127.0.0.1', 'address to listen on', isHost, 'an address or a host name'],
  ['port', '8787', 'port to listen on; 0 is any that is free', isPort, 'a number from 0 to 65535'],
  ['socket', '', 'path of a unix socket to listen on instead', isSocketPath, 'a path of at most 103 bytes'],
  ['tls-cert', '', 'PEM file of a certificate and its chain: https', () => true],
  ['tls-key', '', 'PEM file of its private key', () => true],
  [
    'metrics-listen',
    '',
    'HOST:PORT or path for /metrics, which is then there only',
    (text) => parseAddress(text) !== undefined,
    ADDRESS_FORM,
  ],
  [
    'log-format',
    '',
    'text or json; text on a terminal, else json',
    (text) => LOG_FORMATS.some((format) => format === text),
    'text or json',
  ],
  ['public-url', '', 'where clients reach this bridge, if that is elsewhere', isPublicUrl, URL_FORM],
  ['create-secret-file', '', 'file with a secret: only clients that present it may create channels', () => true],
  [
    'trusted-proxies',
    '',
    'trusted proxies: addresses, CIDRs, loopback, with commas between them',
    isProxyList,
    'addresses, CIDRs or loopback, with commas between them',
  ],
  ...Object.entries(LIMITS).map(([name, [flag, value, min, max, help]]): Option => {
    const unit = unitOf(name)?.toLowerCase();
    const isValid = (text: string) => parseAmount(text, name) >= min && parseAmount(text, name) <= max;
    return [flag, String(value), unit ? `${unit}: ${help}` : help, isValid, `a number from ${min} to ${max}`];
  }),
];

/** Flags without a value. Their environment variables are yes or no. */
const SWITCHES = [
  ['public-metrics', '/metrics for everybody, not only on this machine'],
  ['log-requests', 'log a line for each request, without ids and contents'],
  ['log-addresses', 'log the client address in those lines, too'],
] as const;

/** What the program does instead of starting. They have no environment variables. */
const COMMANDS = [
  ['help', 'print this text'],
  ['version', 'print name, version, commit'],
  ['check-config', 'print what the bridge would do, check its files, and end: status 0 if all is in order, else 2'],
] as const;

const envName = (flag: string) => `AGENTALK_${flag.toUpperCase().replaceAll('-', '_')}`;

/** The names of all environment variables that mean something here. */
export const envNames = (): string[] => [...OPTIONS, ...SWITCHES].map(([flag]) => envName(flag));

/** Throws an Error for an unknown flag. */
function parseFlags(args: string[]): Partial<Record<string, string | boolean>> {
  const options = [
    ...OPTIONS.map(([flag]) => [flag, { type: 'string' }] as const),
    ...[...SWITCHES, ...COMMANDS].map(([flag]) => [flag, { type: 'boolean' }] as const),
  ];
  return parseArgs({ args, options: Object.fromEntries(options) }).values as Partial<Record<string, string | boolean>>;
}

/** Flags win over the environment, and that over the defaults. Throws an Error that says in a line what is wrong. */
export function resolveConfig(args: string[], environment: Environment): Config {
  const flags = parseFlags(args);
  const values: Record<string, string> = {};
  for (const [flag, defaultValue, , isValid, expected] of OPTIONS) {
    const value = String(flags[flag] ?? (environment[envName(flag)] || defaultValue));
    values[flag] = value;
    if (value === defaultValue || isValid(value)) continue;
    const source = flag in flags ? `--${flag}` : envName(flag);
    throw new Error(`bad value for ${source}${expected === undefined ? '' : `: expected ${expected}`}`);
  }
  const isOn = (flag: (typeof SWITCHES)[number][0]): boolean => {
    if (flags[flag] !== undefined) return flags[flag] === true;
    const value = environment[envName(flag)] || 'no';
    if (value !== 'yes' && value !== 'no') throw new Error(`bad value for ${envName(flag)}: expected yes or no`);
    return value === 'yes';
  };
  const {
    host = '',
    port,
    socket,
    'tls-cert': cert = '',
    'tls-key': key = '',
    'metrics-listen': metrics = '',
  } = values;
  if ((cert === '') !== (key === '')) throw new Error('--tls-cert and --tls-key go together: give both');
  const publicUrl = normalizePublicUrl(values['public-url'] ?? '');
  return {
    address: systemdSocket(environment, process.pid) ?? (socket ? { path: socket } : { host, port: Number(port) }),
    metricsAddress: parseAddress(metrics),
    tls: cert === '' ? undefined : { cert, key },
    logFormat: LOG_FORMATS.find((format) => format === values['log-format']),
    publicUrl,
    basePath: publicUrl === undefined ? '' : new URL(publicUrl).pathname.replace(/\/$/, ''),
    hasPublicMetrics: isOn('public-metrics'),
    createSecretFile: values['create-secret-file'] || undefined,
    proxies: parseTrustedProxies(values['trusted-proxies'] ?? '') as TrustedProxies, // checked above
    logRequests: isOn('log-requests'),
    logAddresses: isOn('log-addresses'),
    limits: resolveLimits(values),
  };
}

function resolveLimits(values: Readonly<Record<string, string>>): Limits {
  const amounts = Object.entries(LIMITS).map(([name, [flag]]) => [name, parseAmount(values[flag] ?? '', name)]);
  const given = Object.fromEntries(amounts) as Limits;
  // Clients learn how large a file may be: never more than there is memory for.
  const limits = Object.freeze({ ...given, blobBytes: Math.min(given.blobBytes, given.memoryBytes) });
  const minChannelBytes = 2 * maxMessageBase64(limits) + 8192;
  if (limits.channelBytes < minChannelBytes) throw new Error(`--max-channel-bytes must be at least ${minChannelBytes}`);
  if (limits.memoryBytes < limits.channelBytes) throw new Error('--max-memory-bytes is below --max-channel-bytes');
  return limits;
}

/** What a command line and an environment ask for. */
export type Invocation =
  | { readonly command: 'help' }
  | { readonly command: 'version' }
  | { readonly command: 'check-config' | 'start'; readonly config: Config };

/** Help and version need no valid settings. Throws StartupError. */
export function parseInvocation(args: string[], environment: Environment): Invocation {
  try {
    const flags = parseFlags(args);
    if (flags['help']) return { command: 'help' };
    if (flags['version']) return { command: 'version' };
    return { command: flags['check-config'] ? 'check-config' : 'start', config: resolveConfig(args, environment) };
  } catch (error) {
    throw new StartupError(`${(error as Error).message.split('\n')[0]}; see --help`);
  }
}

export function renderHelp(): string {
  const line = (flag: string, help: string, defaultValue = '') =>
    `  --${flag.padEnd(30)}${help}${defaultValue && ` (${defaultValue})`}\n`;
  return `Usage: node bridge.js [--FLAG VALUE]…

A relay for coding agents that talk end-to-end encrypted. It holds what it relays in memory only, and can't read it.

${OPTIONS.map(([flag, value, help]) => line(flag, help, value)).join('')}${SWITCHES.map(([flag, help]) => line(flag, help)).join('')}
${COMMANDS.map(([flag, help]) => line(flag, help)).join('')}
Bytes may end in k, m or g, seconds in s, m or h. Each flag is an environment variable too: --public-url is
AGENTALK_PUBLIC_URL, --log-requests is AGENTALK_LOG_REQUESTS=yes.
`;
}
