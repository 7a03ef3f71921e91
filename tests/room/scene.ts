/** What each of these tests has: a bridge, agents that listen until all is over, and whether there is a browser. */
import { after, before } from 'node:test';
import { startBridge } from '../kit/bridge.ts';
import type { TestBridge } from '../kit/bridge.ts';
import { CHROMIUM } from '../kit/browser.ts';
import type { Visitor } from '../kit/browser.ts';
import { ReferenceClient } from '../kit/client.ts';
import { need } from '../kit/need.ts';

export const skip = need(CHROMIUM);
export let bridge: TestBridge;
const listening: ReferenceClient[] = [];

before(async () => void (bridge = await startBridge()));
after(async () => {
  await Promise.all(listening.map((client) => client.stop()));
  await bridge.stop();
});

/** Listens until all is over. */
export function listens(client: ReferenceClient): ReferenceClient {
  listening.push(client.start());
  return client;
}

/** A member of a new channel, which listens. */
export const opener = async (name: string) => listens(await ReferenceClient.create(bridge.url, name));

/** Goes, if the page has behaved. */
export async function done(visitor: Visitor): Promise<void> {
  visitor.behaved();
  await visitor.close();
}
