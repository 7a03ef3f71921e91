/** examples/client.ts, which was written from docs/protocol.md alone, passes the vectors and talks over a real bridge. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { Client } from '../examples/client.ts';
import type { Entry } from '../examples/client/entries.ts';
import { startBridge } from './kit/bridge.ts';
import { exampleDriver } from './kit/example-driver.ts';
import { runInterop, runVectors } from './kit/vectors.ts';

runVectors('examples/client', exampleDriver);
runInterop('examples/client', exampleDriver);

/** What a client's user reads of messages, in order. */
const textsOf = ({ entries }: Client): string[] =>
  entries.flatMap((entry) => (entry.type === 'message' ? [`${entry.name}: ${entry.text}`] : []));
const typesOf = ({ entries }: Client): Entry['type'][] => entries.map(({ type }) => type);

describe('examples/client over a bridge', () => {
  const bridge = startBridge();
  after(async () => (await bridge).stop());

  test('two pair and talk', async () => {
    const { url } = await bridge;
    const ada = await Client.create(url, { name: 'ada' });
    const bob = await Client.join(ada.link, { name: 'bob', kind: 'human' });
    await ada.poll();
    await bob.poll();
    await ada.poll();
    assert.deepEqual(typesOf(ada), ['joined', 'paired']);
    assert.deepEqual(typesOf(bob), ['joined', 'paired']);
    await ada.say('hello');
    await bob.direct('ada', 'to you');
    await ada.poll();
    await bob.poll();
    assert.deepEqual(textsOf(ada), ['bob: to you']);
    assert.deepEqual(textsOf(bob), ['ada: hello']);
  });
});
