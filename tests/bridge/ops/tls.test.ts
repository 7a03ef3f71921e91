/** A bridge with a certificate of its own: for curl, for the client, through a renewal. */
import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { before, test } from 'node:test';
import { connect } from 'node:tls';
import { EventEmitter, once } from 'node:events';
import { RateLimits } from '../../../bridge/rate-limits.ts';
import { resolveConfig } from '../../../bridge/ops/config.ts';
import { startBridge } from '../../lib/bridge.ts';
import type { TestBridge } from '../../lib/bridge.ts';
import { Authority } from '../../lib/certificate.ts';
import type { Files } from '../../lib/certificate.ts';
import { Agent, expectFailure, makeFolder, until as wait } from '../../lib/shell.ts';
import { Member, ask, until } from './http-client.ts';
import type { Endpoint } from './http-client.ts';

let authority: Authority;
let files: Files;
before(() => {
  authority = new Authority(makeFolder());
  files = authority.issue();
});

const flags = ({ cert, key }: Files) => ['--tls-cert', cert, '--tls-key', key];
const metricsOf = (bridge: TestBridge): Endpoint => ({ url: /^metrics on (\S+)$/m.exec(bridge.logs())?.[1] ?? '' });
const endpointOf = ({ url }: TestBridge): Endpoint => ({ url, ca: readFileSync(authority.cert) });

/** Puts another pair where the bridge looks for it. */
function replace(by: Files): void {
  copyFileSync(by.cert, files.cert);
  copyFileSync(by.key, files.key);
}

/** The number of the certificate that a new connection is shown. */
async function serial({ port }: TestBridge): Promise<number> {
  const socket = connect({ port, host: '127.0.0.1', ca: readFileSync(authority.cert) });
  await once(socket, 'secureConnect');
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return parseInt(serialNumber, 16);
}

test('the URL, the pages and the client speak of https', async () => {
  const bridge = await startBridge(flags(files));
  assert.match(bridge.url, /^https:\/\/127\.0\.0\.1:\d+$/);
  const { text } = await ask(endpointOf(bridge), '/llms.txt');
  assert.ok(text.includes(`${bridge.url}/agentalk.sh`) && !text.includes('http://127'), text);
  await bridge.stop();
});

test('two clients talk over it with --cacert, and not without', async () => {
  const bridge = await startBridge([...flags(files), '--metrics-listen', '127.0.0.1:0']);
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  const cacert = (agent: Agent) => ['--cacert', authority.cert, '--name', agent.name];
  const refused = await laptop.run(['create', bridge.url, '--name', 'laptop']);
  expectFailure(refused, /a private authority.*--cacert FILE/);
  await laptop.create(bridge.url, cacert(laptop));
  await Promise.all([laptop.waitForOutput(/PAIRED with server/), server.join(laptop.link, cacert(server))]);
  await laptop.pipe('over TLS');
  await server.waitForOutput(/over TLS/);
  await bridge.stop();
});

test('what one address may do holds where another socket asks than the one that was welcome, as with TLS', () => {
  const { limits, proxies } = resolveConfig(['--request-rate-per-ip', '5', '--max-connections-per-ip', '2'], {});
  const rateLimits = new RateLimits(limits, proxies);
  const socketOf = (remoteAddress: string) => Object.assign(new EventEmitter(), { remoteAddress }) as unknown as Socket;
  const ask = (address: string) => {
    try {
      rateLimits.onRequest({ socket: socketOf(address), headers: {} } as unknown as IncomingMessage);
      return 'answered';
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  rateLimits.onConnection(socketOf('203.0.113.5'));
  const answers = Array.from({ length: 7 }, () => ask('203.0.113.5'));
  assert.deepEqual(answers, [...Array(5).fill('answered'), ...Array(2).fill('too_many_requests')]);
  assert.equal(ask('203.0.113.6'), 'answered');
  const connections = [1, 2, 3].map(() => socketOf('203.0.113.7'));
  connections.forEach((socket) => rateLimits.onConnection(socket));
  assert.equal(ask('203.0.113.7'), 'too_many_connections');
  connections[0]?.emit('close');
  assert.equal(ask('203.0.113.7'), 'answered');
  for (let i = 0; i < 7; i++) assert.equal(ask('127.0.0.1'), 'answered', 'loopback has no limits');
});

test('SIGHUP: new connections get the new certificate, a poll that waits goes on', async () => {
  const bridge = await startBridge([...flags(files), '--metrics-listen', '127.0.0.1:0']);
  const a = await Member.enter(endpointOf(bridge));
  const b = await Member.enter(endpointOf(bridge), a);
  const poll = b.poll(2, 30);
  await until(metricsOf(bridge), /^agentalk_polls_pending 1$/m);
  const before = await serial(bridge);
  replace(authority.issue());
  bridge.kill('SIGHUP');
  await wait('the renewal', () => /certificate reloaded/.test(bridge.logs()));
  assert.notEqual(await serial(bridge), before);
  assert.equal((await a.say()).status, 200);
  assert.match((await poll).text, /"type":"message"/);
  await bridge.stop();
});

test('SIGHUP with a pair that is not in order: said in the log, and the old one stays', async () => {
  const bridge = await startBridge(flags(files));
  const before = await serial(bridge);
  const other = authority.issue();
  const expired = authority.issue(-1);
  const bad: [words: RegExp, corrupt: () => void][] = [
    [/--tls-cert has no certificate in PEM/, () => writeFileSync(files.cert, 'none')],
    [/--tls-key is not the key of --tls-cert/, () => copyFileSync(other.cert, files.cert)],
    [/--tls-cert expired on \d{4}-\d\d-\d\d/, () => replace(expired)],
  ];
  for (const [words, corrupt] of bad) {
    corrupt();
    bridge.kill('SIGHUP');
    await wait(String(words), () => words.test(bridge.logs()));
    assert.equal(await serial(bridge), before);
  }
  replace(other);
  bridge.kill('SIGHUP');
  await wait('the renewal', () => /certificate reloaded/.test(bridge.logs()));
  assert.notEqual(await serial(bridge), before);
  await bridge.stop();
});

test('what is no TLS is counted, and its connection closed', async () => {
  const bridge = await startBridge([...flags(files), '--metrics-listen', '127.0.0.1:0']);
  const plain = request(bridge.url.replace('https:', 'http:'));
  plain.end();
  await once(plain, 'error');
  await until(metricsOf(bridge), /^agentalk_connections_rejected_total\{reason="tls"\} 1$/m);
  await until(metricsOf(bridge), /^agentalk_connections 0$/m);
  assert.equal((await ask(endpointOf(bridge), '/llms.txt')).status, 200);
  await bridge.stop();
});
