/** What an operator can set: one table, from which flags, environment variables, defaults and the help are made. */
import { parseArgs } from 'node:util';
import { TABLE, messageCharacters } from './limits.ts';
import type { Limits } from './limits.ts';

export interface Config {
  readonly host: string;
  readonly port: number;
  readonly publicUrl: string | undefined; // with its base path, no slash at its end
  readonly basePath: string;
  readonly trustProxy: boolean;
  readonly limits: Limits;
}

/** A setting that can't be taken; the message is one line. */
export class ConfigError extends Error {}

interface Setting {
  readonly flag: string;
  readonly value: string;
  readonly about: string;
  readonly isSwitch?: boolean; // there or not, instead of a value
  isValid(value: string): boolean;
}

const UNITS: Readonly<Record<string, number>> = { k: 1024, m: 1024 ** 2, g: 1024 ** 3 };
const TIMES: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 };

/** Digits and a unit: 64k, 2h. NaN for anything else. */
function parseAmount(text: string, name: string): number {
  const units = name.endsWith('Bytes') ? UNITS : name.endsWith('Seconds') ? TIMES : {};
  const [, digits, unit = ''] = /^([0-9]{1,13})([a-z]?)$/i.exec(text) ?? [];
  return Number(digits) * (unit === '' ? 1 : (units[unit.toLowerCase()] ?? NaN));
}

const LIMIT_SETTINGS = Object.entries(TABLE).map(([name, [flag, value, least, most, about]]) => {
  const unit = /Bytes|Seconds/.exec(name)?.[0] ?? '';
  const isValid = (text: string) => parseAmount(text, name) >= least && parseAmount(text, name) <= most;
  return { name, flag, value: String(value), about: unit === '' ? about : `${unit.toLowerCase()}: ${about}`, isValid };
});

/** What comes into pages and scripts has no other characters than these. */
const PUBLIC_URL = /^https?:\/\/[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(\/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*\/?$/i;

const SETTINGS: readonly Setting[] = [
  { flag: 'host', value: '127.0.0.1', about: 'address to listen on', isValid: (text) => /^[\w.:-]+$/.test(text) },
  {
    ...{ flag: 'port', value: '8787', about: 'port to listen on; 0 is any that is free' },
    isValid: (text) => /^[0-9]{1,5}$/.test(text) && Number(text) < 65_536,
  },
  {
    ...{ flag: 'public-url', value: '', about: 'where clients reach this bridge, if that is elsewhere' },
    isValid: (text) => PUBLIC_URL.test(text) && URL.canParse(text),
  },
  {
    ...{ flag: 'trust-proxy', value: '0', about: 'X-Forwarded-Proto is from a proxy of ours', isSwitch: true },
    isValid: (text) => text === '0' || text === '1',
  },
  ...LIMIT_SETTINGS,
];

const variableOf = (flag: string) => `AGENTALK_${flag.toUpperCase().replaceAll('-', '_')}`;

/** Flags win over the environment, and that over the defaults. Throws ConfigError. */
export function readConfig(args: string[], environment: Readonly<Record<string, string | undefined>>): Config {
  const flags = readFlags(args);
  const values: Record<string, string> = {};
  for (const { flag, value, isValid } of SETTINGS) {
    const given = flags[flag] === true ? '1' : flags[flag];
    values[flag] = String(given ?? (environment[variableOf(flag)] || value));
    const source = given === undefined ? variableOf(flag) : `--${flag}`;
    if (values[flag] !== value && !isValid(values[flag])) throw new ConfigError(`bad value for ${source}; see --help`);
  }
  const amounts = LIMIT_SETTINGS.map(({ name, flag }) => [name, parseAmount(values[flag] ?? '', name)] as const);
  const limits = Object.freeze(Object.fromEntries(amounts) as Limits);
  const least = 2 * messageCharacters(limits) + 8192;
  if (limits.channelBytes < least) throw new ConfigError(`--max-channel-bytes has to be at least ${least}`);
  if (limits.totalBytes < limits.channelBytes) throw new ConfigError('--max-total-bytes is below --max-channel-bytes');
  const { host = '', port, 'public-url': url = '', 'trust-proxy': trust } = values;
  const publicUrl = url === '' ? undefined : new URL(url).href.replace(/\/$/, '');
  const basePath = publicUrl === undefined ? '' : new URL(publicUrl).pathname.replace(/\/$/, '');
  return { host, port: Number(port), publicUrl, basePath, trustProxy: trust === '1', limits };
}

function readFlags(args: string[]) {
  const options = SETTINGS.map(({ flag, isSwitch }) => [flag, { type: isSwitch ? 'boolean' : 'string' }] as const);
  try {
    return parseArgs({ args, options: Object.fromEntries(options) }).values;
  } catch (error) {
    throw new ConfigError(`${(error as Error).message.split('\n')[0]}; see --help`); // node says it well
  }
}

export const help = (): string => `Usage: node bridge.js [flags]

A relay for coding agents that talk end-to-end encrypted. It holds what it relays in memory only, and can't read it.

${SETTINGS.map(({ flag, value, about }) => `  --${flag.padEnd(20)}${about}${value === '' ? '' : ` (${value})`}\n`).join('')}
  --help                what you read
  --version             name, version, commit

Bytes may end in k, m or g, seconds in s, m or h. Each flag is an environment variable too: --public-url is
AGENTALK_PUBLIC_URL, --trust-proxy is AGENTALK_TRUST_PROXY=1.
`;
