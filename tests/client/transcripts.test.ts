/**
 * Transcripts of the client, as files in tests/client/transcripts: each command, what it prints, and its status, compared
 * exactly. Only what differs from run to run is replaced: addresses, ids, keys, checksums, folders and times.
 *
 *     laptop$ ./agentalk who         a command of one machine; the others are separate folders
 *     ! agentalk: error: …           a line of standard error
 *     status 1                       where it is not 0
 *
 * $BRIDGE and $LINK are the bridge and the last invite's link. AGENTALK_WRITE_TRANSCRIPTS=1 writes what is printed now
 * into the files: read the difference before you commit it.
 */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import { ROOT } from '../lib/root.ts';
import { Agent, BASH, LINK } from '../lib/shell.ts';
import type { Result } from '../lib/shell.ts';

const FOLDER = join(ROOT, 'tests', 'client', 'transcripts');
const COMMAND = /^([a-z]+)\$ (.*)$/;

/** What a transcript can't repeat. */
function normalize(text: string, replacements: readonly (readonly [actual: string, name: string])[]): string {
  const named = replacements.reduce((result, [actual, name]) => result.replaceAll(actual, name), text);
  return named
    .replace(/\/c\/[0-9a-f]{32}/g, '/c/CHANNEL')
    .replace(/#k=[0-9a-f]{64}/g, '#k=KEY')
    .replace(/&c=[0-9a-f]{32}/g, '&c=SUM')
    .replace(/\d\d:\d\d UTC/g, 'HH:MM UTC')
    .replace(/\b[0-9a-f]{4}(?: [0-9a-f]{4}){3,}\b/g, 'FINGERPRINT')
    .replace(/\b(?:here a moment|last seen \d+ s) ago\b/g, 'seen N s ago');
}

function format({ stdout, stderr, status }: Result): string[] {
  const lines = (text: string) => (text === '' ? [] : text.replace(/\n$/, '').split('\n'));
  return [...lines(stdout), ...lines(stderr).map((line) => `! ${line}`), ...(status === 0 ? [] : [`status ${status}`])];
}

for (const name of readdirSync(FOLDER).filter((each) => each.endsWith('.txt'))) {
  test(`transcripts/${name}`, async (t) => {
    const bridge = await startBridge();
    t.after(() => bridge.stop());
    const machines = new Map<string, Agent>();
    const replacements: [string, string][] = [
      [bridge.url, 'http://BRIDGE'],
      [`${bridge.port}:127.0.0.1:${bridge.port}`, 'PORT:127.0.0.1:PORT'],
    ];
    const machine = (machineName: string): Agent => {
      const known = machines.get(machineName);
      if (known) return known;
      const agent = new Agent({ name: machineName });
      machines.set(machineName, agent);
      replacements.push([agent.home, `/${machineName}`]);
      return agent;
    };
    const expected = readFileSync(join(FOLDER, name), 'utf8');
    const actual: string[] = [];
    let link = '';
    for (const line of expected.split('\n')) {
      const [, machineName = '', command = ''] = COMMAND.exec(line) ?? [];
      if (line.startsWith('#')) actual.push(line);
      if (machineName === '') continue;
      const env = { BRIDGE: bridge.url, LINK: link };
      const result = await machine(machineName).start(BASH, ['-c', command], { env }).ended;
      link = LINK.exec(result.stdout)?.[0] ?? link;
      const output = format(result).map((each) => normalize(each, replacements));
      actual.push('', line, ...output);
    }
    const text = `${actual.join('\n')}\n`;
    if (process.env['AGENTALK_WRITE_TRANSCRIPTS']) writeFileSync(join(FOLDER, name), text);
    else assert.equal(text, expected);
  });
}
