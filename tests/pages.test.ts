/** The pages keep their word: each command is run as it stands, each word of an event is explained, none is too long. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { type TestBridge, startBridge } from './kit/bridge.ts';
import { ROOT } from './kit/root.ts';
import { BASH, CLIENT, makeFolder } from './kit/shell.ts';

const run = promisify(execFile);
const page = async (path: string) => (await run('curl', ['-fsS', bridge.url + path])).stdout;
const commands = (markdown: string) => [...markdown.matchAll(/```sh\n([^]*?)```/g)].map(([, text = '']) => text);

/** An agent's tool: a shell for each call, with a home and a folder for sessions of its own. */
function agent() {
  const home = makeFolder();
  const env = { ...process.env, HOME: home, AGENTALK_HOME: home };
  return async (command: string) =>
    (await run(BASH, ['-c', command.replaceAll('/tmp/', `${home}/`)], { env, timeout: 60_000 })).stdout;
}

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

test('the commands of /llms.txt and of the join page, as written, bring two agents together', async () => {
  const [laptop, reviewer] = [agent(), agent()];
  const [fetchIt = '', create = '', talk = ''] = commands(await page('/llms.txt'));
  const published = createHash('sha256').update(readFileSync(CLIENT)).digest('hex');
  assert.ok(fetchIt.includes(`# ${published}`));
  assert.match(await laptop(fetchIt), new RegExp(published));

  const line = /^Talk to my other Claude — curl this URL to start: (\S+)$/m.exec(await laptop(create));
  assert.ok(line?.[1], 'the hand-off line');
  const link = new URL(line[1]);
  const [fetchAgain = '', joinIt = '', answer = ''] = commands((await run('curl', ['-fsS', link.href])).stdout);
  assert.match(await reviewer(fetchAgain), new RegExp(published));
  const waiting = laptop('. /tmp/agentalk-session-laptop.env; agentalk_wait');
  assert.match(await reviewer(joinIt.replace('#k=KEY', link.hash)), /In the channel: laptop/);
  assert.match(await waiting, /agentalk: (?:JOINED|PAIRED with) reviewer/);

  const said = laptop(talk);
  const answered = await reviewer(answer);
  assert.match(answered, /run the `integration` suite/);
  assert.match(await said, / {2}\| your words/);
});

test('every word of an event is in the table of /llms.txt, and every word there is one', async () => {
  const shell = readdirSync(join(ROOT, 'sdk/shell')).map((name) => readFileSync(join(ROOT, 'sdk/shell', name), 'utf8'));
  const printed = shell.flatMap((text) => [...text.matchAll(/(?:say |line=)"([A-Z]{3,})\b/g)].map(([, word]) => word));
  const explained = [...(await page('/llms.txt')).matchAll(/^\| `([A-Z]{3,})`/gm)].map(([, word]) => word);
  assert.ok(printed.length > 10);
  assert.deepEqual([...new Set(explained)].sort(), [...new Set(printed)].sort());
});

test('every command that /llms.txt names is one of the session file, and the other way round', async () => {
  const functions = (text: string) => [...new Set(text.match(/agentalk_[a-z_]+/g))].sort();
  const home = makeFolder();
  await run(BASH, [CLIENT, 'create', bridge.url, '--name', 'x'], { env: { ...process.env, AGENTALK_HOME: home } });
  const defined = readFileSync(join(home, 'agentalk-session-x.env'), 'utf8').match(/^agentalk_[a-z_]+(?=\(\))/gm);
  assert.deepEqual(functions(await page('/llms.txt')), [...(defined ?? [])].sort());
});

const LONGEST: Readonly<Record<string, number>> = {
  '/llms.txt': 8192,
  '/c/0123456789abcdef0123456789abcdef': 4096,
  '/skill.md': 4096,
};

for (const [path, bytes] of Object.entries(LONGEST)) {
  test(`${path} is whole, filled in and short`, async () => {
    const text = await page(path);
    assert.ok(Buffer.byteLength(text) <= bytes, `${Buffer.byteLength(text)} bytes`);
    assert.doesNotMatch(text, /\{\{|undefined/);
    assert.ok(text.includes(bridge.url) || path === '/skill.md');
  });
}

test('every link between documents leads somewhere', () => {
  for (const name of ['README.md', 'SECURITY.md', ...readdirSync(join(ROOT, 'docs')).map((file) => `docs/${file}`)]) {
    if (!name.endsWith('.md')) continue;
    const text = readFileSync(join(ROOT, name), 'utf8');
    for (const [, target = ''] of text.matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)) {
      assert.doesNotThrow(() => readFileSync(join(ROOT, name, '..', target)), `${name}: ${target}`);
    }
  }
});

test('npm start says where the bridge is and what to say', async () => {
  const env = { ...process.env, AGENTALK_PORT: '0', AGENTALK_DRAIN_WINDOW: '0' };
  // A group of its own: npm puts a shell between itself and the bridge.
  const child = spawn('npm', ['start'], { cwd: ROOT, env, detached: true, stdio: ['ignore', 'pipe', 'inherit'] });
  let printed = '';
  await new Promise<void>((done, fail) => {
    child.on('exit', () => fail(new Error(printed)));
    child.stdout.on('data', (chunk: Buffer) => {
      printed += chunk.toString();
      if (/Talk to my other Claude at http:\/\/127\.0\.0\.1:\d+/.test(printed)) done();
    });
  });
  assert.match(printed, /^listening on http:\/\/127\.0\.0\.1:\d+$/m);
  child.removeAllListeners('exit');
  const ended = new Promise((done) => child.on('close', done));
  process.kill(-(child.pid ?? 0), 'SIGTERM');
  await ended;
});
