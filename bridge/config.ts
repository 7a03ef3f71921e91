/** What an operator can set: one table, from which flags, environment variables, defaults and the help are made. */
import { LIMITS, TABLE, messageCharacters } from './limits.ts';
import type { Limits } from './limits.ts';

export interface Config {
  readonly host: string;
  readonly port: number;
  readonly publicUrl: { readonly origin: string; readonly basePath: string } | undefined;
  readonly trustProxy: boolean;
  readonly limits: Limits;
}

/** A setting that can't be taken; the message is one line. */
export class ConfigError extends Error {}

interface Setting {
  readonly flag: string;
  /** A switch is there or not; everything else has a value. */
  readonly isSwitch?: boolean;
  readonly value: string;
  readonly about: string;
  readonly isValid: (value: string) => boolean;
}

const UNITS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  Bytes: { '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 },
  Seconds: { '': 1, s: 1, m: 60, h: 3600 },
};
const unitOf = (name: string) => /Bytes$|Seconds$/.exec(name)?.[0] ?? '';

function parseNumber(text: string, unit: string): number {
  const [, digits, suffix = ''] = /^([0-9]{1,13})([a-z]?)$/i.exec(text) ?? [];
  return Number(digits) * ((UNITS[unit] ?? { '': 1 })[suffix.toLowerCase()] ?? NaN);
}

const LIMIT_SETTINGS = Object.entries(TABLE).map(([name, limit]) => {
  const { flag, value, most, about } = limit;
  const least = 'least' in limit ? limit.least : 1;
  const unit = unitOf(name);
  const isValid = (text: string) => parseNumber(text, unit) >= least && parseNumber(text, unit) <= most;
  return { name, unit, flag, value: String(value), about: unit ? `${unit.toLowerCase()} ${about}` : about, isValid };
});

const SETTINGS: readonly Setting[] = [
  {
    flag: 'host',
    value: '127.0.0.1',
    about: 'address to listen on',
    isValid: (text) => /^[A-Za-z0-9.:-]+$/.test(text),
  },
  { flag: 'port', value: '8787', about: 'port to listen on, 0 for any that is free', isValid: isPort },
  { flag: 'public-url', value: '', about: 'where clients reach this bridge, if not at that', isValid: isPublicUrl },
  {
    ...{ flag: 'trust-proxy', isSwitch: true, value: '' },
    ...{ about: 'believe X-Forwarded-Proto', isValid: (text) => /^(1|true|0|false|)$/.test(text) },
  },
  ...LIMIT_SETTINGS,
];

const variableOf = (flag: string) => 'AGENTALK_' + flag.toUpperCase().replaceAll('-', '_');

/** Flags win over the environment, and that over the defaults. Throws ConfigError. */
export function readConfig(args: readonly string[], environment: Readonly<Record<string, string | undefined>>): Config {
  const given = readFlags(args);
  const values = new Map<string, string>();
  for (const { flag, value, isValid } of SETTINGS) {
    const text = given.get(flag) ?? (environment[variableOf(flag)] || value);
    if (text !== value && !isValid(text)) {
      throw new ConfigError(`bad value for ${given.has(flag) ? '--' + flag : variableOf(flag)}; see --help`);
    }
    values.set(flag, text);
  }
  const of = (flag: string) => values.get(flag) ?? '';
  const numbers = LIMIT_SETTINGS.map(({ name, flag, unit }) => [name, parseNumber(of(flag), unit)]);
  const limits: Limits = Object.freeze({ ...LIMITS, ...(Object.fromEntries(numbers) as Partial<Limits>) });
  if (limits.channelBytes < 2 * messageCharacters(limits)) {
    throw new ConfigError('--max-channel-bytes is too small for messages of --max-message-bytes');
  }
  if (limits.totalBytes < limits.channelBytes) {
    throw new ConfigError('--max-total-bytes is smaller than --max-channel-bytes');
  }
  const url = of('public-url') === '' ? undefined : new URL(of('public-url'));
  const publicUrl = url && { origin: url.origin, basePath: url.pathname.replace(/\/$/, '') };
  return {
    host: of('host'),
    port: Number(of('port')),
    publicUrl,
    trustProxy: /^(1|true)$/.test(of('trust-proxy')),
    limits,
  };
}

function readFlags(args: readonly string[]): Map<string, string> {
  const given = new Map<string, string>();
  for (let i = 0; i < args.length; i++) {
    const [, flag = '', , inline] = /^--([a-z-]+)(=(.*))?$/s.exec(args[i] ?? '') ?? [];
    const setting = SETTINGS.find((each) => each.flag === flag);
    if (!setting) throw new ConfigError(`unknown flag: argument ${i + 1}; see --help`);
    const value = inline ?? (setting.isSwitch ? '1' : args[++i]);
    if (value === undefined || value === '') throw new ConfigError(`--${flag} needs a value; see --help`);
    given.set(flag, value);
  }
  return given;
}

export function help(): string {
  const rows = SETTINGS.map(({ flag, isSwitch, value, about }) => {
    const left = `  --${flag}${isSwitch ? '' : ' …'}`;
    return `${left.padEnd(24)}${about}${value === '' ? '' : ` (${value})`}`;
  });
  return `Usage: node bridge.js [flags]

A relay for coding agents that talk end-to-end encrypted: it sees ids, ciphertext, sizes and times.

${rows.join('\n')}
  --help                this text
  --version             name, version and commit

Each flag is also an environment variable: --public-url is AGENTALK_PUBLIC_URL. Bytes may end in k, m or g, seconds in
s, m or h. A channel, its messages and its participants are held in memory only.
`;
}

function isPort(text: string): boolean {
  return /^[0-9]{1,5}$/.test(text) && Number(text) < 65_536;
}

/** http or https, a host, perhaps a port and a plain path: what stands in pages and scripts has no other characters. */
function isPublicUrl(text: string): boolean {
  return (
    /^https?:\/\/([a-z0-9-]+\.)*[a-z0-9-]+(:[0-9]{1,5})?(\/[A-Za-z0-9._~-]+)*\/?$/i.test(text) && URL.canParse(text)
  );
}
