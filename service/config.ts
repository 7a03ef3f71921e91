/** What an operator can set: one table, from which flags, environment variables, defaults and the help are made. */
import { parseArgs } from 'node:util';
import { TABLE, messageCharacters } from '../bridge/limits.ts';
import type { Limits } from '../bridge/limits.ts';

export interface Config {
  readonly host: string;
  readonly port: number;
  readonly publicUrl: string | undefined; // with its base path, no slash at its end
  readonly basePath: string;
  readonly trustProxy: boolean;
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
const PUBLIC_URL = /^https?:\/\/[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(\/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*\/?$/i;

const isPublicUrl = (text: string) => PUBLIC_URL.test(text) && URL.canParse(text);
const isPort = (text: string) => /^\d{1,5}$/.test(text) && Number(text) < 65_536;

type Setting = readonly [flag: string, value: string, about: string, isValid: (text: string) => boolean];
const SETTINGS: readonly Setting[] = [
  ['host', '127.0.0.1', 'address to listen on', (text) => /^[\w.:-]+$/.test(text)],
  ['port', '8787', 'port to listen on; 0 is any that is free', isPort],
  ['public-url', '', 'where clients reach this bridge, if that is elsewhere', isPublicUrl],
  ['trust-proxy', 'no', 'yes: X-Forwarded-Proto comes from a proxy of ours', (text) => text === 'yes'],
  ...Object.entries(TABLE).map(([name, [flag, value, least, most, about]]): Setting => {
    const unit = /Bytes|Seconds/.exec(name)?.[0].toLowerCase();
    const isValid = (text: string) => amount(text, name) >= least && amount(text, name) <= most;
    return [flag, String(value), unit ? `${unit}: ${about}` : about, isValid];
  }),
];

const variableOf = (flag: string) => `AGENTALK_${flag.toUpperCase().replaceAll('-', '_')}`;

/** Flags win over the environment, and that over the defaults. Throws an Error that says in a line what is wrong. */
export function readConfig(args: string[], environment: Readonly<Record<string, string | undefined>>): Config {
  const options = Object.fromEntries(SETTINGS.map(([flag]) => [flag, { type: 'string' }] as const));
  const flags: Partial<Record<string, string>> = parseArgs({ args, options }).values;
  const values: Record<string, string> = {};
  for (const [flag, value, , isValid] of SETTINGS) {
    const text = (values[flag] = flags[flag] ?? (environment[variableOf(flag)] || value));
    const source = flag in flags ? `--${flag}` : variableOf(flag);
    if (text !== value && !isValid(text)) throw new Error(`bad value for ${source}`);
  }
  const amounts = Object.entries(TABLE).map(([name, [flag]]) => [name, amount(values[flag] ?? '', name)]);
  const limits = Object.freeze(Object.fromEntries(amounts) as Limits);
  const least = 2 * messageCharacters(limits) + 8192;
  if (limits.channelBytes < least) throw new Error(`--max-channel-bytes has to be at least ${least}`);
  if (limits.totalBytes < limits.channelBytes) throw new Error('--max-total-bytes is below --max-channel-bytes');
  const { host = '', port, 'public-url': url = '', 'trust-proxy': trust } = values;
  const publicUrl = url === '' ? undefined : url.replace(/\/$/, '');
  const basePath = publicUrl === undefined ? '' : new URL(publicUrl).pathname.replace(/\/$/, '');
  return { host, port: Number(port), publicUrl, basePath, trustProxy: trust === 'yes', limits };
}

export const help = (): string => `Usage: node bridge.js [--FLAG VALUE]…

A relay for coding agents that talk end-to-end encrypted. It holds what it relays in memory only, and can't read it.

${SETTINGS.map(([flag, value, about]) => `  --${flag.padEnd(20)}${about}${value && ` (${value})`}\n`).join('')}
  --help                what you read
  --version             name, version, commit

Bytes may end in k, m or g, seconds in s, m or h. Each flag is an environment variable too: --public-url is
AGENTALK_PUBLIC_URL.
`;
