/** Three participants: what is for all reaches two, what is for one reaches one, and the third can't have it. */
import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Sealed } from '../../sdk/protocol.ts';
import * as protocol from '../../sdk/protocol.ts';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { ExampleSession } from '../lib/example-session.ts';
import { Agent, expectFailure, pair, until } from '../lib/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const texts = (agent: Agent) => agent.inbox().map(({ bytes }) => bytes.toString());

async function three(): Promise<[Agent, Agent, Agent]> {
  const agents: [Agent, Agent, Agent] = [
    new Agent({ name: 'laptop' }),
    new Agent({ name: 'server' }),
    new Agent({ name: 'tester' }),
  ];
  await pair(bridge.url, ...agents);
  return agents;
}

test('a broadcast reaches two, a direct message one', async () => {
  const [laptop, server, tester] = await three();
  await laptop.call('say', 'for all');
  await laptop.call('dm', 'server', 'for the server');
  await laptop.pipe('for the tester', 'dm', 'tester');
  assert.match(await server.waitForOutput(/#2 from laptop/), /#1 from laptop to all[^]*#2 from laptop to you alone/);
  assert.match(await tester.waitForOutput(/#2 from laptop/), /#1 from laptop to all[^]*#2 from laptop to you alone/);
  assert.deepEqual(texts(server), ['for all', 'for the server']);
  assert.deepEqual(texts(tester), ['for all', 'for the tester']);
  assert.deepEqual(texts(laptop), []);

  await server.call('dm', 'laptop', 'back');
  await tester.call('say', 'to both');
  await laptop.waitForOutput(/#2 from/);
  await server.waitForOutput(/#3 from tester/);
  assert.deepEqual(texts(laptop).sort(), ['back', 'to both']);
  for (const agent of [laptop, server, tester]) {
    const { stdout } = await agent.call('log');
    assert.equal(stdout.includes('for the server'), agent !== tester);
    assert.equal(stdout.includes('for the tester'), agent !== server);
    assert.equal(stdout.includes('back'), agent !== tester);
  }
});

test('a direct message to somebody who is not here fails, and to one who left', async () => {
  const [laptop, server, tester] = await three();
  expectFailure(await laptop.begin('dm', 'nobody', 'text').ended, /server.*tester/);
  await tester.call('leave');
  await laptop.waitForOutput(/LEFT tester/);
  expectFailure(await laptop.begin('dm', 'tester', 'text').ended, /tester has left.*server/);
  await laptop.call('dm', 'server', 'still here');
  await server.waitForOutput(/still here/);
});

type Message = Sealed & { readonly type: string; readonly from: string; readonly to: string };
type Joined = { readonly type: string; readonly from: string; readonly card: Sealed };

/** All that the bridge gives to an agent, asked for by hand. */
async function eventsFor(agent: Agent): Promise<(Message | Joined)[]> {
  const [address = ''] = agent.link.split('#');
  const token = /^token ([0-9a-f]{64})$/im.exec(readFileSync(join(agent.folder, 'session'), 'utf8'))?.[1];
  const id = await protocol.deriveParticipantId(agent.key, agent.name);
  const response = await fetch(`${address.replace('/c/', '/channels/')}/poll?participant_id=${id}&since=0`, {
    headers: { Authorization: `Bearer ${token ?? assert.fail()}` },
  });
  assert.equal(response.status, 200);
  const { events } = (await response.json()) as { events: (Message | Joined)[] };
  return events;
}

const isDirect = (event: Message | Joined): event is Message =>
  event.type === 'message' && 'to' in event && event.to !== '*';

async function ecdhOf(agent: Agent): Promise<CryptoKey> {
  const keys = join(agent.folder, 'keys');
  const pem = readdirSync(keys).find((name) => name.startsWith('ecdh-')) ?? assert.fail('no key');
  const der = createPrivateKey(readFileSync(join(keys, pem))).export({
    type: 'pkcs8',
    format: 'der',
  });
  return crypto.subtle.importKey('pkcs8', Uint8Array.from(der), { name: 'ECDH', namedCurve: 'P-256' }, false, [
    'deriveBits',
  ]);
}

test('the third can neither fetch a direct message nor open it', async () => {
  const [laptop, server, tester] = await three();
  const secret = 'for the server alone';
  await laptop.call('dm', 'server', secret);
  await server.waitForOutput(/#1 from laptop/);
  const [k, channel] = [laptop.key, /[0-9a-f]{32}(?=#)/.exec(laptop.link)?.[0] ?? ''];
  const id = (agent: Agent) => protocol.deriveParticipantId(k, agent.name);
  const [laptopId, serverId, testerId] = [await id(laptop), await id(server), await id(tester)];

  const given = await eventsFor(tester);
  assert.ok(given.length > 0);
  assert.deepEqual(
    given.filter((event) => isDirect(event) && event.to !== testerId),
    [],
  );

  // The bridge, or whoever got hold of it, hands the third all that went from the laptop to the server.
  const stolen = (await eventsFor(server)).filter(isDirect).filter(({ from }) => from === laptopId);
  assert.ok(stolen.length > 0);
  const room = await protocol.aesKey(protocol.broadcastPassphrase(k));
  const sessions = new Map<string, protocol.Session>();
  for (const event of [...(await eventsFor(server)), ...(await eventsFor(laptop))]) {
    if (!('card' in event)) continue;
    const opened = await protocol.unsealCard(k, room, channel, event.from, '', event.card);
    assert.ok(opened.ok);
    sessions.set(opened.value.name, opened.value);
  }
  const session = (agent: Agent) => sessions.get(agent.name) ?? assert.fail(`no card of ${agent.name}`);
  const withKey = async (key: CryptoKey) => {
    const aad = protocol.additionalData(channel, laptopId, serverId, 'message');
    return Promise.all(stolen.map((message) => protocol.unseal(key, aad, message)));
  };
  const between = async (one: Agent, other: Agent) => {
    const { pub, sid } = session(other);
    const key = await protocol.directKey(k, await ecdhOf(one), session(one).sid, sid, pub);
    assert.ok(key.ok);
    return key.value;
  };

  const theirs = await withKey(await between(server, laptop));
  assert.ok(theirs.every(({ ok }) => ok));
  assert.ok(theirs.some((opened) => opened.ok && Buffer.from(opened.value).toString().endsWith(`\n\n${secret}`)));
  for (const key of [room, await between(tester, laptop), await between(tester, server)]) {
    for (const opened of await withKey(key)) assert.deepEqual(opened, { ok: false, reason: 'auth-failed' });
  }
});

test('what is said among twenty is believed by all', async () => {
  const first = await ExampleSession.create(bridge.url, { name: 'first' });
  const crowd = [first];
  for (let i = 1; i < 20; i++) crowd.push(await ExampleSession.join(first.link, { name: `member-${i}` }));
  for (const member of crowd) await member.say('I am here');
  const laptop = new Agent({ name: 'laptop' });
  await laptop.join(first.link);
  await until('all is heard', async () => {
    await laptop.call('wait', '0');
    return laptop.inbox().length === crowd.length;
  });
  await laptop.call('say', 'to all of you');
  await first.waitForOutput('to all of you');
  assert.deepEqual(
    first.entries.filter(({ type }) => /tampered|malformed|unreadable/.test(type)),
    [],
  );
  assert.doesNotMatch((await laptop.call('log')).stdout, /TAMPERED|MALFORMED|UNREADABLE/);
});
