/** What deploy/ has for load balancers, as the programs themselves see it: valid, and one channel at one bridge. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { until } from '../lib/shell.ts';
import { GROUPS, KINDS, haproxy, needs, nginx, startBalancer, validate } from './balancer.ts';

for (const kind of KINDS) {
  test(`${kind.file} is valid`, { skip: needs(kind) }, async () => {
    const { status, output } = await validate(kind);
    assert.equal(status, 0, output);
    // The one warning that is ours: tests keep away from port 80.
    assert.doesNotMatch(output.replace(/.*redirects are disabled.*/, ''), /\b(warn|warning|alert|emerg)\b/i);
  });
}

/** In a bridge's place: answers with its number, notes what came, and drops the next connection when told to. */
async function startFakeBridge(t: TestContext, number: number) {
  const stand = { number, port: 0, drops: 0, last: undefined as IncomingMessage | undefined, close: () => {} };
  const server = createServer((request, response) => {
    if (request.url !== '/ready' && request.url !== '/health') {
      stand.last = request;
      if (stand.drops > 0) {
        stand.drops--;
        return void request.socket.destroy();
      }
    }
    request.resume().on('end', () => response.end(String(number)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  stand.close = () => {
    server.close();
    server.closeAllConnections();
  };
  t.after(stand.close);
  stand.port = (server.address() as AddressInfo).port;
  return stand;
}

const id = () => randomBytes(16).toString('hex');
/** Each way in which a channel stands in a path. */
const pathsOf = (channel: string) => [
  `/channels/${channel}`,
  `/channels/${channel}/poll?since=1&wait=0`,
  `/c/${channel}`,
  `/channels/${channel}/send`,
];

describe('a load balancer without a bridge', { concurrency: KINDS.length }, () => {
  for (const kind of KINDS) {
    test(`${kind.name} logs no channel, not even where no bridge is left`, { skip: needs(kind) }, async (t) => {
      const stands = await Promise.all([1, 2, 3].map((number) => startFakeBridge(t, number)));
      const balancer = await startBalancer(
        kind,
        stands.map(({ port }) => port),
      );
      t.after(balancer.stop);
      for (const { close } of stands) close();
      const channel = id();
      const requests = pathsOf(channel).map(async (path) => {
        const answer = await balancer.fetch(balancer.url + path).catch(() => undefined); // or hung up
        assert.ok(!answer || answer.status >= 500, path);
      });
      await Promise.all(requests);
      const { stdout, stderr } = balancer.running;
      assert.ok(!(stdout + stderr).includes(channel), stdout + stderr);
    });
  }
});

for (const kind of GROUPS) {
  describe(kind.name, { skip: needs(kind) }, () => {
    test('sends a channel to one bridge, by any worker, and says who asks', async (t) => {
      const stands = await Promise.all([1, 2, 3].map((number) => startFakeBridge(t, number)));
      const balancer = await startBalancer(
        kind,
        stands.map(({ port }) => port),
      );
      t.after(() => balancer.stop());
      const forged = { 'x-forwarded-for': '1.2.3.4', 'x-forwarded-proto': 'http', 'x-agentalk-channel': id() };
      const ask = async (path: string, method = 'GET') => {
        const response = await balancer.fetch(balancer.url + path, { method, headers: forged });
        return { status: response.status, owner: await response.text() };
      };
      const ownerOf = async (channel: string) => {
        const answers = await Promise.all(pathsOf(channel).map((path) => ask(path)));
        const owners = new Set(answers.map(({ owner }) => owner));
        assert.equal(owners.size, 1, `${channel} went to ${[...owners].join(', ')}`);
        return [...owners][0] ?? '';
      };
      const channels = Array.from({ length: 60 }, id);
      const owners = new Map<string, string>();
      for (const channel of channels) owners.set(channel, await ownerOf(channel));
      for (const { number } of stands) {
        const share = [...owners.values()].filter((owner) => owner === String(number)).length;
        assert.ok(share >= 5, `bridge ${number} has ${share} of ${channels.length} channels`);
      }

      const { headers } = stands.find(({ last }) => last)?.last ?? assert.fail('nobody was asked');
      assert.equal(headers['x-forwarded-proto'], 'https');
      assert.equal(headers['x-forwarded-for'], '127.0.0.1');

      // One connection that drops is no reason to move: not by the worker that saw it, and not by the others.
      const [channel = ''] = channels;
      const owner = stands.find(({ number }) => String(number) === owners.get(channel)) ?? assert.fail('no owner');
      owner.drops = 3;
      while (owner.drops > 0) await ask(`/channels/${channel}/send`, 'POST');
      for (let i = 0; i < 10; i++) assert.equal(await ownerOf(channel), String(owner.number));

      assert.equal((await ask('/metrics')).status, 404);
    });

    test('a bridge that is gone: its channels, and no others, go to one other bridge each', async (t) => {
      const stands = await Promise.all([1, 2, 3].map((number) => startFakeBridge(t, number)));
      const balancer = await startBalancer(
        kind,
        stands.map(({ port }) => port),
      );
      t.after(() => balancer.stop());
      const ownerOf = async (channel: string) =>
        (await balancer.fetch(`${balancer.url}/channels/${channel}`, {})).text();
      const channels = Array.from({ length: 60 }, id);
      const before = await Promise.all(channels.map(ownerOf));
      // Nobody listens there any more. What was on its way there may be cut off.
      stands[0]?.close();
      let after: string[] = [];
      await until('all are answered', async () => {
        after = await Promise.all(channels.map((channel) => ownerOf(channel).catch(() => 'cut off')));
        return after.every((owner) => ['2', '3'].includes(owner));
      });
      channels.forEach((channel, i) => {
        if (before[i] !== '1') assert.equal(after[i], before[i], `${channel} moved for nothing`);
      });
      for (let i = 0; i < 4; i++) assert.deepEqual(await Promise.all(channels.map(ownerOf)), after);
    });
  });
}

const CONNECTION_LIMITS = [
  [nginx, 'limit_conn agentalk_clients 1000', 'limit_conn agentalk_clients 5', 429],
  [haproxy, 'sc0_conn_cur gt 1000', 'sc0_conn_cur gt 5', 'closed'],
] as const;
for (const [kind, shipped, lowered, outcome] of CONNECTION_LIMITS) {
  test(`${kind.name} limits the connections of one client`, { skip: needs(kind) }, async (t) => {
    const waiting: ServerResponse[] = [];
    const server = createServer((request, response) => {
      if (request.url?.startsWith('/channels/')) waiting.push(response);
      else response.end();
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
      server.close();
      server.closeAllConnections();
    });
    const { port } = server.address() as AddressInfo;
    const balancer = await startBalancer(kind, [port, port, port], [[shipped, lowered]]);
    t.after(() => balancer.stop());
    const poll = () =>
      balancer.fetch(`${balancer.url}/channels/${id()}/poll`).then(
        ({ status }) => status,
        () => 'closed',
      );
    const polls = Array.from({ length: 5 }, poll);
    await until('five polls wait', () => waiting.length === 5);
    assert.equal(await poll(), outcome, 'one more');
    for (const response of waiting) response.end();
    assert.deepEqual(await Promise.all(polls), [200, 200, 200, 200, 200]);
    await until('there is room again', async () => {
      const answer = await balancer.fetch(`${balancer.url}/health`).catch(() => undefined);
      return answer?.status === 200;
    });
  });
}
