/** docs/flags.md, from what `node bridge.js --help` prints. @param {string} help */
export function flagsPage(help) {
  const lines = [...help.matchAll(/^ {2}--([\w-]+) +(.*)$/gm)].map(([, flag = '', text = '']) => {
    const [, meaning = text, value = ''] = /^(.*?)(?: \(([^()\s]+)\))?$/.exec(text) ?? [];
    const [, unit = '', rest = meaning] = /^(?:(bytes|seconds): )?(.*)$/.exec(meaning) ?? [];
    return { flag, value, unit, meaning: rest };
  });
  /** @param {(line: { flag: string, meaning: string }) => boolean} belongs */
  const table = (belongs) => {
    const rows = lines
      .filter(belongs)
      .map(
        ({ flag, value, unit, meaning }) =>
          `| \`--${flag}\` | ${value && `\`${value}\``} | ${unit} | ${meaning.replaceAll('|', '\\|')} |`,
      );
    return ['| flag | default | unit | meaning |', '| --- | --- | --- | --- |', ...rows].join('\n');
  };
  const isCommand = (/** @type {{ flag: string }} */ { flag }) => ['help', 'version', 'check-config'].includes(flag);
  const isPerAddress = (/** @type {{ flag: string }} */ { flag }) => flag.endsWith('-per-ip');
  const isTime = (/** @type {{ flag: string }} */ { flag }) =>
    lines.some((line) => line.flag === flag && line.unit === 'seconds');
  const isLimit = (/** @type {{ flag: string }} */ line) =>
    line.flag.startsWith('max-') && !isPerAddress(line) && !isTime(line);
  const isOther = (/** @type {{ flag: string }} */ line) =>
    !isCommand(line) && !isPerAddress(line) && !isTime(line) && !isLimit(line);
  return [
    '# Flags',
    'All flags of `node bridge.js`. [Host your own](self-hosting.md) says which of them you need. This page is made from ' +
      '`--help` by `npm run docs:flags`, and a test compares the two.',
    'Each flag is an environment variable, too: `--public-url` is `AGENTALK_PUBLIC_URL`. A flag without a default and ' +
      'without a value, such as `--log-requests`, is `AGENTALK_LOG_REQUESTS=yes`. A flag wins over its variable. Bytes ' +
      'may end in `k`, `m` or `g`, seconds in `s`, `m` or `h`.',
    '## Address, TLS, log, access and pages',
    table(isOther),
    '## Limits of one address',
    '0 turns a limit off. An address is an IPv4 address or the /64 of an IPv6 one.',
    table(isPerAddress),
    '## Other limits',
    table(isLimit),
    '## Times',
    table(isTime),
    '## Instead of starting',
    table(isCommand),
    '',
  ].join('\n\n');
}
