/**
 * The same servers under wrk, a load generator that many use and that is not ours. A script of it is not told which
 * connection a request is for, so no listener of it can keep a cursor: what is delivered to listeners is load.mjs's.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder, run } from '../scripts/child-processes.mjs';
import { ciphertextOf, close, fetching, hex, open, pollOf, sendOf, textOf } from './connection.mjs';
import { cpuMsOfRunning, figuresOf, missing, interleave } from './measure.mjs';
import { CHARACTERS, program, withServers } from './servers.mjs';

/** @typedef {import('./connection.mjs').Channel} Channel */
/** @typedef {import('./connection.mjs').Request} Request */
/** @typedef {import('./measure.mjs').Figure} Figure */
/** @typedef {import('./servers.mjs').Server} Server */
/** @typedef {(request: Request) => Promise<string>} Asks */
/** @typedef {{rounds: number, seconds: number, folder: string}} Extent whole seconds: wrk takes no others */

const CONNECTIONS = 32;
const BY_WRK = `wrk with ${CONNECTIONS} connections, as many channels of two`;
const CIPHERTEXT = ciphertextOf(CHARACTERS);
const NOBODY = { id: hex(16), token: hex(32), cursor: 0 };

/**
 * Lets wrk send these in turn, as fast as the answers come.
 *
 * @param {Server} server
 * @param {Request[]} requests
 * @param {Omit<Extent, 'rounds'>} extent
 * @returns {Promise<{sample: number, cpuMs: number}>} answers for each second, and the server's CPU time for each
 */
async function wrk({ url, pid }, requests, { folder, seconds }) {
  const file = join(folder, 'requests');
  writeFileSync(file, requests.map((request) => textOf(request, new URL(url).host)).join('\0'), 'latin1');
  const before = cpuMsOfRunning(pid);
  const flags = ['-t', '1', '-c', String(CONNECTIONS), '-d', String(seconds), '-s', program('wrk.lua')];
  const { stdout, stderr } = await run('wrk', [...flags, url, '--', file]);
  const cpuMs = cpuMsOfRunning(pid) - before;
  const line = /^\{"done":.*\}$/m.exec(stdout)?.[0];
  if (line === undefined) throw new Error(`wrk counted nothing: ${stderr || stdout}`);
  const counted = JSON.parse(line);
  if (counted.failed > 0 || counted.done === 0) throw new Error(`wrk had no answer or a refusal: ${line}`);
  return { sample: counted.done / counted.seconds, cpuMs: cpuMs / counted.done };
}

/**
 * Both servers in turn, ours in new channels of two each time: as many as there are connections.
 *
 * @param {Extent} extent
 * @param {(channel: Channel, asks: Asks) => Promise<Request>} requestOf what wrk sends in a channel
 * @param {Request} toBaseline what it sends to the baseline
 */
async function compare({ rounds, ...extent }, requestOf, toBaseline) {
  return withServers(async (bridge, baseline) => {
    const asks = fetching(bridge.url);
    const inChannels = async () => {
      const channels = await Promise.all(Array.from({ length: CONNECTIONS }, () => open(asks, 2)));
      const requests = await Promise.all(channels.map((channel) => requestOf(channel, asks)));
      const result = await wrk(bridge, requests, extent);
      await Promise.all(channels.map((channel) => close(asks, channel)));
      return result;
    };
    const samples = await interleave(rounds, {
      bridge: inChannels,
      baseline: () => wrk(baseline, [toBaseline], extent),
    });
    return { ours: samples.bridge, baseline: { name: 'bare node:http', ...samples.baseline } };
  });
}

const message = (/** @type {Channel} */ { room, members: [sender = NOBODY] }) => sendOf(room, sender, CIPHERTEXT);

/** @param {Extent} extent @returns {Promise<Figure>} */
async function send(extent) {
  const toBaseline = { ...message({ room: '', members: [] }), path: '/send' };
  return {
    name: 'send',
    workload: `${BY_WRK}, 1 KB of text sealed to ${CHARACTERS} characters, a new nonce for each`,
    unit: '/s',
    ...(await compare(extent, async (channel) => message(channel), toBaseline)),
  };
}

/** @param {Extent} extent @returns {Promise<Figure>} */
async function poll(extent) {
  const held = async (/** @type {Channel} */ channel, /** @type {Asks} */ asks) => {
    await asks(message(channel));
    return pollOf(channel.room, channel.members[1] ?? NOBODY, 0);
  };
  return {
    name: 'poll',
    workload: `${BY_WRK}, each poll finds the same message of 1 KB; baseline: GETs of the same JSON`,
    unit: '/s',
    ...(await compare(extent, held, { method: 'GET', path: `/${CHARACTERS}` })),
  };
}

/** @param {{isQuick: boolean}} options */
export async function* wrkFigures({ isQuick }) {
  const isInstalled = await run('wrk', ['-v']).then(
    () => true,
    () => false,
  );
  if (!isInstalled) return yield missing('send, poll', 'wrk is not installed');
  const extent = { rounds: isQuick ? 1 : 5, seconds: isQuick ? 1 : 2, folder: makeFolder('bench') };
  yield* figuresOf({ send: () => send(extent), poll: () => poll(extent) });
}
