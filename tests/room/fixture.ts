/** What each of these tests has: a bridge, agents that listen until all is over, and whether there is a browser. */
import { after, before } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { CHROMIUM, BrowserUser } from '../lib/browser.ts';
import { requirePrograms } from '../lib/require-programs.ts';
import { Agent } from './agent.ts';

export const skip = requirePrograms(CHROMIUM);
export let bridge: TestBridge;
const listening: Agent[] = [];

before(async () => void (bridge = await startBridge()));
after(async () => {
  await Promise.all(listening.map((agent) => agent.stop()));
  await bridge.stop();
});

/** Listens until all is over. */
export function listens(agent: Agent): Agent {
  listening.push(agent.start());
  return agent;
}

/** A member of a new channel, which listens. */
export const opener = async (name: string) => listens(await Agent.create(bridge.url, { name }));
export const joiner = async (link: string, name: string) => listens(await Agent.join(link, { name }));

/** An agent that listens, and a person who came by its link; both are PAIRED. `base` is where the person's bridge is. */
export async function agentAndPerson(base = bridge.url): Promise<{ laptop: Agent; ada: BrowserUser }> {
  const laptop = await opener('laptop');
  const ada = await BrowserUser.join(laptop.link.replace(bridge.url, base), 'ada');
  await laptop.paired('ada');
  await ada.waitForEntry('PAIRED with laptop');
  return { laptop, ada };
}

/** Two agents and a person, all PAIRED. */
export async function agentsAndPerson(options: Parameters<typeof BrowserUser.join>[2] = {}) {
  const laptop = await opener('laptop');
  const ada = await BrowserUser.join(laptop.link, 'ada', options);
  const server = await joiner(laptop.link, 'server');
  await Promise.all([laptop.paired('ada'), server.paired('ada'), server.paired('laptop'), laptop.paired('server')]);
  await ada.waitForEntry('PAIRED with server');
  await ada.waitForEntry('PAIRED with laptop');
  return { laptop, server, ada, page: ada.page };
}

/** Closes the window, if the page has behaved. */
export async function done(user: BrowserUser): Promise<void> {
  user.behaved();
  await user.close();
}
