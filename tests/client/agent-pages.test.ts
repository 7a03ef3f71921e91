/** The pages keep their word: each command is run as it stands, each word of an event is explained, none is too long. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { type TestBridge, startBridge } from '../lib/bridge.ts';
import { ROOT } from '../lib/root.ts';
import { BASH, CLIENT, makeFolder } from '../lib/shell.ts';

const run = promisify(execFile);
const page = async (path: string) => (await run('curl', ['-fsS', bridge.url + path])).stdout;
const commands = (markdown: string) => [...markdown.matchAll(/```sh\n([^]*?)```/g)].map(([, text = '']) => text);

/** An agent's tool: a shell for each call in a working folder, with a home and a folder for sessions of its own. */
function agent() {
  const home = makeFolder();
  const env = { ...process.env, HOME: home, AGENTALK_HOME: home };
  return async (command: string) => (await run(BASH, ['-c', command], { cwd: home, env, timeout: 60_000 })).stdout;
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

  const line = /^Talk to my other agent — curl this URL to start: (\S+)$/m.exec(await laptop(create));
  assert.ok(line?.[1], 'the invite');
  const link = new URL(line[1]);
  assert.equal(new URLSearchParams(link.hash.slice(1)).get('c'), published.slice(0, 32));
  const [fetchAgain = '', joinIt = '', answer = ''] = commands((await run('curl', ['-fsS', link.href])).stdout);
  assert.match(await reviewer(fetchAgain), new RegExp(published));
  const waiting = laptop('./agentalk wait 30');
  assert.match(await reviewer(joinIt.replace('#k=KEY', link.hash)), /joined as reviewer/);
  assert.match(await waiting, /agentalk: (?:JOINED|PAIRED with) reviewer/);

  const said = laptop(talk.replace('100', '10'));
  const answered = await reviewer(answer.replaceAll('100', '10'));
  assert.match(answered, /run the integration suite/);
  assert.match(await said, / {2}\| Pulled\. The suite is green/);
});

test('every word of an event is explained in /llms.txt, and every word there is one', async () => {
  const shell = ['show', 'talk'].map((name) => readFileSync(join(ROOT, `sdk/shell/${name}.sh`), 'utf8')).join('\n');
  const lines = [...shell.matchAll(/(?:line=|tell )"([A-Z]{3,}(?: DELIVERED)?)\b/g)];
  const printed = new Set(lines.map(([, word]) => word));
  const meanings = (await page('/llms.txt')).split('## What the lines mean')[1]?.split('## ')[0] ?? '';
  const explained = new Set([...meanings.matchAll(/`([A-Z]{3,}(?: DELIVERED)?)`/g)].map(([, word]) => word));
  assert.ok(printed.size > 10);
  assert.deepEqual([...explained].sort(), [...printed].sort());
});

test('every command that /llms.txt names is one of the client, and the other way round', async () => {
  const help = (await run(BASH, [CLIENT, 'help'])).stdout;
  const text = await page('/llms.txt');
  const commands = 'create say dm send_file wait listen show who log sessions invite leave'.split(' ');
  for (const command of commands) {
    assert.match(help, new RegExp(`\\b${command}\\b`));
    assert.match(text, new RegExp(`\\b${command}\\b`), `${command} in /llms.txt`);
  }
  const cases = readFileSync(join(ROOT, 'sdk/shell/main.sh'), 'utf8');
  const known = /^\t\t(say \| [a-z_ |]+)\)$/m.exec(cases)?.[1]?.split(' | ') ?? [];
  assert.deepEqual([...known, 'create', 'sessions'].sort(), [...commands].sort());
});

test('purpose, permissions and files stand in the first lines of /llms.txt and of the join page', async () => {
  for (const path of ['/llms.txt', `/c/${'0'.repeat(32)}`]) {
    const start = (await page(path)).split('\n').slice(0, 10).join('\n');
    assert.match(start, /end-to-end encrypted|encrypted channel/);
    assert.match(start, /It needs: network access/);
    assert.match(start, /It writes: /);
  }
});

test('no example of a page has a backtick or a dollar in a command, which some programs refuse', async () => {
  for (const path of ['/llms.txt', `/c/${'0'.repeat(32)}`, '/skill.md']) {
    for (const command of commands(await page(path))) assert.doesNotMatch(command, /[`$]|<</);
  }
});

test('the lines that the pages say to read are part 1 of the client and the command that checks the rest', async () => {
  const lines = readFileSync(CLIENT, 'utf8').split('\n');
  for (const path of ['/llms.txt', `/c/${'0'.repeat(32)}`]) {
    const last = Number(/lines 1 to (\d+):/.exec(await page(path))?.[1]);
    assert.match(lines[last - 1] ?? '', /^# sed .*Part 2/);
    assert.ok(last - lines.indexOf('# ==== Part 2: the rules ====') < 6);
  }
});

const LONGEST: Readonly<Record<string, number>> = {
  '/llms.txt': 3930, // with a CR for each line, and a longer URL, 4,095: Gemini CLI loses what follows

  '/c/0123456789abcdef0123456789abcdef': 3000,
  '/skill.md': 2500,
};

for (const [path, bytes] of Object.entries(LONGEST)) {
  test(`${path} is whole, filled in and short`, async () => {
    const text = await page(path);
    assert.ok(Buffer.byteLength(text) <= bytes, `${Buffer.byteLength(text)} bytes`);
    assert.doesNotMatch(text, /\{\{|undefined/);
    assert.ok(text.includes(bridge.url) || path === '/skill.md');
  });
}

test('npm start says where the bridge is and what to say', async () => {
  const env = { ...process.env, AGENTALK_PORT: '0', AGENTALK_DRAIN_DELAY: '0' };
  // A group of its own: npm puts a shell between itself and the bridge.
  const child = spawn('npm', ['start'], { cwd: ROOT, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let printed = '';
  await new Promise<void>((done, fail) => {
    child.on('exit', () => fail(new Error(printed)));
    child.stderr.on('data', (chunk: Buffer) => (printed += chunk.toString()));
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
