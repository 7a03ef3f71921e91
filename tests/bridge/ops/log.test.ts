/** The log: for eyes, and for what collects it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { startBridge } from '../../lib/bridge.ts';
import { Authority } from '../../lib/certificate.ts';
import { requirePrograms } from '../../lib/require-programs.ts';
import { BASH, makeFolder, until } from '../../lib/shell.ts';
import { ask } from './http-client.ts';

const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/.source;

async function stopped(args: readonly string[], inside: readonly string[] = []): Promise<string> {
  const bridge = await startBridge(args, { inside });
  bridge.kill('SIGTERM');
  await bridge.ended;
  return bridge.logs().replace(/^(listening on|Say to your agent).*\r?\n/gm, '');
}

test('where nobody looks, each line is a JSON object', async () => {
  const line = JSON.parse(await stopped([])) as Record<string, unknown>;
  assert.match(String(line['time']), new RegExp(`^${TIME}$`));
  assert.deepEqual({ ...line, time: '' }, { time: '', level: 'info', message: 'stopping', signal: 'SIGTERM' });
});

test('SIGHUP without a certificate and without a terminal changes nothing, and says so', async () => {
  const bridge = await startBridge();
  bridge.kill('SIGHUP');
  await until('its words', () => /"there is no certificate to be read again"/.test(bridge.logs()));
  assert.equal((await ask(bridge, '/ready')).status, 200);
  await bridge.stop();
});

test('on a terminal that is gone it ends', { skip: requirePrograms('script') }, async (t) => {
  const bridge = await startBridge([], { inside: IN_TERMINAL });
  const pid = Number(/^pid (\d+)\r?$/m.exec(bridge.logs())?.[1]);
  t.after(() => isAlive(pid) && process.kill(pid, 'SIGKILL'));
  bridge.kill('SIGKILL'); // `script`, which has the terminal: the kernel sends SIGHUP
  await bridge.ended;
  await until('its end', () => !isAlive(pid));
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test('--log-format text is for eyes', async () => {
  assert.match(await stopped(['--log-format', 'text']), new RegExp(`^${TIME} stopping signal=SIGTERM\n$`));
});

test('on a terminal it is text by itself', { skip: requirePrograms('script') }, async () => {
  const bridge = await startBridge([], { inside: IN_TERMINAL });
  const pid = Number(/^pid (\d+)\r?$/m.exec(bridge.logs())?.[1]);
  process.kill(pid, 'SIGTERM');
  await bridge.ended;
  assert.match(bridge.logs(), /^Say to your agent: Talk to my other Claude at http:\S+\r?$/m);
  assert.match(bridge.logs(), new RegExp(`^${TIME} stopping signal=SIGTERM\r?$`, 'm'));
});

/** util-linux's script gives what it runs a terminal. It takes one line of shell, so that says its own pid first. */
const IN_TERMINAL = ['sh', '-c', 'exec script -qec "echo pid \\$\\$; exec $*" /dev/null', 'sh'];

test('a bridge goes on when nobody reads its log any more', async () => {
  const folder = makeFolder();
  const authority = new Authority(folder);
  const { cert, key } = authority.issue();
  const inside = [BASH, '-c', 'exec "$@" 2> >(:)', 'bash'];
  const bridge = await startBridge(['--tls-cert', cert, '--tls-key', key], { inside });
  const endpoint = { url: bridge.url, ca: readFileSync(authority.cert) };
  for (let i = 0; i < 3; i++) {
    bridge.kill('SIGHUP'); // there is something to say each time
    assert.equal((await ask(endpoint, '/health')).text, 'ok\n');
  }
  bridge.kill('SIGTERM');
  assert.equal(await bridge.ended, 0);
});
