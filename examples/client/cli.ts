/**
 * The example client on a terminal.
 *
 *   npx esbuild examples/client/cli.ts --bundle --platform=node --format=esm --outfile=dist/example-client.mjs
 *   node dist/example-client.mjs create https://bridge.example ada
 *   node dist/example-client.mjs join bob            and the join URL as the first line of its input
 *
 * Each line of input goes to everybody; `/dm NAME TEXT` and `/file PATH` go where they say, `/leave` ends it. The join
 * URL is never an argument: other users of the machine can see those.
 */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import { Client } from '../client.ts';
import type { Entry } from '../client.ts';

const USAGE = 'usage: create BRIDGE-URL NAME, or join NAME with the join URL as the first line of input';

/** An entry as a line. Each line of a text has a bar, so that no text looks like a line of this client. */
function format(entry: Entry): string {
  switch (entry.type) {
    case 'message': {
      const { name, isDirect, marks, text } = entry;
      const told = Object.entries(marks).filter(([, value]) => isWorthTelling(value));
      const suffix = told.length === 0 ? '' : ` ${JSON.stringify(Object.fromEntries(told))}`;
      return `${name}${isDirect ? ' to you' : ''}:${suffix}\n${text.replace(/^/gm, '| ')}`;
    }
    case 'file-complete':
      return `${entry.name} sent a file of ${entry.bytes.length} bytes`;
    default: {
      const { type, ...facts } = entry;
      return `agentalk: ${type} ${JSON.stringify(facts)}`;
    }
  }
}

const print = (entry: Entry): void => void process.stdout.write(`${format(entry)}\n`);

const isWorthTelling = (value: unknown): boolean =>
  Array.isArray(value) ? value.length > 0 : value !== undefined && value !== false && value !== 0;

async function obey(client: Client, line: string): Promise<void> {
  const [, name, text] = /^\/dm (\S+) (.*)$/.exec(line) ?? [];
  const [, path] = /^\/file (.+)$/.exec(line) ?? [];
  if (name !== undefined && text !== undefined) await client.direct(name, text);
  else if (path !== undefined) await client.sendFile(basename(path), await readFile(path));
  else await client.say(line);
}

async function start(lines: AsyncIterator<string>): Promise<Client> {
  const [command, ...words] = process.argv.slice(2);
  const [url = '', name = ''] = words;
  if (command === 'create' && words.length === 2) return Client.create(url, { name, onEntry: print });
  if (command !== 'join' || words.length !== 1) throw new Error(USAGE);
  const link = await lines.next();
  return Client.join(String(link.value).trim(), { name: url, onEntry: print });
}

async function main(): Promise<void> {
  const input = createInterface({ input: process.stdin });
  const lines = input[Symbol.asyncIterator]();
  const client = await start(lines);
  process.stdout.write(`agentalk: others join with\n${client.link}\n`);
  const stopper = new AbortController();
  const listening = client.listen(stopper.signal, 5);
  for (let next = await lines.next(); next.done !== true && next.value !== '/leave'; next = await lines.next()) {
    await obey(client, next.value).catch((error: Error) => process.stdout.write(`agentalk: ${error.message}\n`));
  }
  input.close();
  stopper.abort();
  await client.leave();
  await listening;
}

main().catch((error: Error) => {
  process.stderr.write(`agentalk: ${error.message}\n`);
  process.exitCode = 1;
});
