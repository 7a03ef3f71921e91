/** The simulation's methods are those of the programs: each channel has the same owner in both, whoever is down. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { haproxy, ketama, rendezvous } from '../../scripts/hash-rings.mjs';
import { ROOT } from '../lib/root.ts';
import { until } from '../lib/shell.ts';
import { GROUPS, needs, startBalancer } from './balancer.ts';

const METHODS = { nginx: ketama, HAProxy: haproxy(16), Caddy: rendezvous };
const CHANNELS = Array.from({ length: 200 }, (_, i) =>
  createHash('sha256').update(String(i)).digest('hex').slice(0, 32),
);

/** In a bridge's place: says its number. */
async function startFakeBridge(t: TestContext, number: number) {
  const server = createServer((_, response) => response.end(String(number))).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  t.after(close);
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, close };
}

/** Caddy has another hash function since 2.7; the method is the same. */
const isOther = (name: string) => name === 'Caddy' && !/^v?2\.6\./.test(execFileSync('caddy', ['version']).toString());

for (const kind of GROUPS) {
  test(`the simulation knows which bridge has a channel behind ${kind.name}`, { skip: needs(kind) }, async (t) => {
    if (isOther(kind.name)) return t.diagnostic('compared with Caddy 2.6 only');
    const stands = await Promise.all([0, 1, 2].map((number) => startFakeBridge(t, number)));
    const addresses = stands.map(({ address }) => address);
    const balancer = await startBalancer(
      kind,
      addresses.map((address) => Number(address.split(':')[1])),
    );
    t.after(() => balancer.stop());
    const ask = async (channel: string) => {
      const answer = await balancer.keptFetch(`${balancer.url}/channels/${channel}`).catch(() => undefined);
      return answer?.status === 200 ? Number(await answer.text()) : -1;
    };
    const ring = METHODS[kind.name as keyof typeof METHODS](addresses);
    assert.deepEqual(
      await Promise.all(CHANNELS.map(ask)),
      CHANNELS.map((channel) => ring.owner(channel)),
    );

    stands[1]?.close();
    let real: number[] = [];
    await until('all are answered', async () => {
      real = await Promise.all(CHANNELS.map(ask));
      return !real.includes(-1);
    });
    const down = new Set([1]);
    assert.deepEqual(
      real,
      CHANNELS.map((channel) => ring.owner(channel, down)),
    );
  });
}

test('the table in bench/scaling.md is what npm run simulate:hashing prints', () => {
  const printed = execFileSync(process.execPath, [
    join(ROOT, 'scripts', 'simulate-hashing.mjs'),
    '--bridges',
    '3',
  ]).toString();
  const page = readFileSync(join(ROOT, 'bench', 'scaling.md'), 'utf8');
  const rows = (text: string) => (text.match(/^\| 3 .*\|$/gm) ?? []).map((row) => row.replace(/ +/g, ' '));
  assert.equal(rows(page).length, 4);
  assert.deepEqual(rows(page), rows(printed));
});
