/** Where there is no network, the client says first what the environment proves, and the exact setting that opens it. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Agent, expectSuccess, expectFailure } from '../lib/shell.ts';

let bridge: TestBridge;
let closedUrl: string;
before(async () => {
  bridge = await startBridge();
  const gone = await startBridge();
  closedUrl = gone.url;
  await gone.stop();
});
after(() => bridge.stop());

type Environment = Readonly<Record<string, string>>;

/** Creates a channel, which must fail with these words at once and leave nothing. */
async function refused(url: string, env: Environment, words: RegExp, agent = new Agent({ env })): Promise<void> {
  const begun = Date.now();
  expectFailure(await agent.run(['create', url]), words);
  assert.ok(Date.now() - begun < 5000, 'it does not try again where that is of no use');
  assert.deepEqual(agent.traces(), []);
}

/** A proxy that refuses everything, CONNECT and plain requests. */
async function refusingProxy(status: number): Promise<{ url: string; server: Server }> {
  const server = createServer((_, response) => response.writeHead(status).end('not allowed here\n'));
  server.on('connect', (_, socket) => socket.end(`HTTP/1.1 ${status} Refused\r\nContent-Length: 0\r\n\r\n`));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

const CODEX = { CODEX_SANDBOX_NETWORK_DISABLED: '1' };
const CLAUDE = { SANDBOX_RUNTIME: '1', CLAUDECODE: '1' };

test('in the sandbox of Codex', async () => {
  const setting =
    /error: Codex's sandbox has no network .*hint: .*outside.*sandbox_workspace_write\.network_access=true/;
  await refused(closedUrl, CODEX, setting);
  await refused('https://bridge.invalid', CODEX, setting);
});

test('the same variable outside that sandbox, or with a network, proves nothing', async () => {
  const outside = new Agent({ env: CODEX });
  mkdirSync(join(outside.home, '.codex'));
  expectFailure(await outside.run(['create', closedUrl]), /takes no connection/);
  expectSuccess(await new Agent({ env: CODEX }).run(['create', bridge.url]));
});

test('in the sandbox of Claude Code', async (t) => {
  const proxy = await refusingProxy(403);
  t.after(() => proxy.server.close());
  const allow =
    /Claude Code's sandbox.*bridge\.example .*hint: ask your user to add bridge\.example to sandbox\.network\.allowedDomains/;
  await refused('http://bridge.example:8787', { ...CLAUDE, http_proxy: proxy.url }, allow);
  await refused('https://bridge.example', { ...CLAUDE, HTTPS_PROXY: proxy.url }, allow);
  await refused(closedUrl, CLAUDE, /Claude Code's sandbox.*hint: run the same command without the sandbox/);
});

for (const status of [403, 407]) {
  test(`a proxy that refuses with ${status}`, async (t) => {
    const proxy = await refusingProxy(status);
    t.after(() => proxy.server.close());
    const words = new RegExp(`proxy .*refuses bridge\\.example \\(${status}\\).*hint: .*no_proxy=bridge\\.example`);
    await refused('http://bridge.example', { http_proxy: proxy.url }, words);
    await refused('https://bridge.example:8443', { https_proxy: proxy.url }, words);
  });
}

test('a bridge that refuses is no proxy', async (t) => {
  const server = await refusingProxy(403);
  t.after(() => server.server.close());
  expectFailure(await new Agent().run(['create', server.url]), /status 403/);
});

test('a proxy before a bridge of this machine, and no proxy there', async () => {
  const env = { http_proxy: closedUrl };
  const hint = /hint: .*proxy of this environment.*no_proxy=127\.0\.0\.1/;
  expectFailure(await new Agent({ env }).run(['create', bridge.url]), hint);
  expectSuccess(await new Agent({ env: { ...env, no_proxy: '127.0.0.1' } }).run(['create', bridge.url]));
});

test('a .curlrc is not read, and that is said where it may matter', async () => {
  const agent = new Agent();
  writeFileSync(join(agent.home, '.curlrc'), 'proxy = http://127.0.0.1:1\n');
  expectSuccess(await agent.run(['create', bridge.url]));
  const other = new Agent();
  writeFileSync(join(other.home, '.curlrc'), 'proxy = http://127.0.0.1:1\n');
  expectFailure(await other.run(['create', closedUrl]), /hint: the \.curlrc .*https_proxy.*--cacert/);
});

test('curl from snap can’t write in a hidden or a temporary folder', async () => {
  const agent = new Agent();
  const snap = join(agent.home, 'snap', 'bin');
  mkdirSync(snap, { recursive: true });
  writeFileSync(join(snap, 'curl'), '#!/bin/sh\nexit 23\n', { mode: 0o755 });
  const env = { PATH: `${snap}:${process.env['PATH']}` };
  const result = await agent.run(['create', bridge.url], { env });
  expectFailure(result, /error: curl from snap.*hint: install curl as a package/);
});

test('words that can’t be sent in a sandbox: what helps, and that they are kept', async () => {
  const agent = new Agent();
  const gone = await startBridge();
  await agent.create(gone.url);
  await gone.stop();
  const begun = Date.now();
  const { stdout } = await agent.run(['say', 'words'], { env: CODEX });
  assert.ok(Date.now() - begun < 8000, 'it does not try on');
  assert.match(stdout, /not sent yet: Codex's sandbox has no network\. It is kept .*What helps: run the same command/);
  const waited = await agent.run(['wait', '1'], { env: CODEX });
  assert.match(waited.stdout, /no news: Codex's sandbox .*What helps: /);
});

test('a bridge of this machine: said at create, with the tunnel for an agent elsewhere', async () => {
  const port = new URL(bridge.url).port;
  const tunnel = new RegExp(`this machine alone.* ssh -R ${port}:127\\.0\\.0\\.1:${port} `);
  assert.match((await new Agent().create(bridge.url)).stdout, tunnel);
  const agent = new Agent();
  const file = join(agent.home, 'invite');
  const { stdout } = expectSuccess(await agent.run(['create', bridge.url, '--invite-file', file]));
  assert.match(stdout, tunnel);
  assert.doesNotMatch(stdout, /#k=/);
  assert.match(readFileSync(file, 'utf8'), /#k=/);
});
