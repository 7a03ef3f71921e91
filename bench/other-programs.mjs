/**
 * Other programs from Debian's packages on the same work: magic-wormhole hands a file to another machine, mosquitto is an
 * MQTT broker that passes messages on. Where one is not installed its row says so.
 */
import { randomBytes } from 'node:crypto';
import { createServer, connect } from 'node:net';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { start } from '../scripts/child-processes.mjs';
import { sleep } from './connection.mjs';
import { interleave, until } from './measure.mjs';
import { SIZES, must, pair, sayToShown, sendFile } from './shell-clients.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */
/** @typedef {import('./shell-clients.mjs').Place} Place */

const MiB = 1024 * 1024;

export const freePort = () =>
  /** @type {Promise<number>} */ (
    new Promise((resolve) => {
      const server = createServer().listen(0, '127.0.0.1', () => {
        const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
        server.close(() => resolve(port));
      });
    })
  );

/** Starts a server that says nothing when it is ready, and waits until it takes connections. */
async function startAt(/** @type {number} */ port, /** @type {string} */ program, /** @type {string[]} */ args) {
  const child = start(program, args);
  child.stdout.resume();
  child.stderr.resume();
  /** @type {Error | undefined} */
  let failed;
  child.on('error', (error) => (failed = error));
  child.on('exit', () => (failed ??= new Error(`${program} ended at once`)));
  const accepts = () =>
    /** @type {Promise<boolean>} */ (
      new Promise((resolve) => {
        const socket = connect(port, '127.0.0.1', () => resolve(true));
        socket.on('error', () => resolve(false)).on('connect', () => socket.destroy());
      })
    );
  await until(async () => failed !== undefined || (await accepts()));
  if (failed) throw new Error(`${program} can't be run: ${failed.message}`);
  return () => void process.kill(-(child.pid ?? 0), 'SIGTERM');
}

/** @param {Place} place @param {number} megabytes @param {number} rounds @returns {Promise<Figure>} */
export async function wormhole(place, megabytes, rounds) {
  const { folder } = place;
  const path = join(folder, 'to-send.bin');
  writeFileSync(path, randomBytes(megabytes * MiB));
  const { laptop, server } = await pair(place);
  const port = await freePort();
  const mailbox = ['wormhole-mailbox', `--port=tcp:${port}:interface=127.0.0.1`, `--channel-db=${join(folder, 'db')}`];
  const stop = await startAt(port, 'twist3', mailbox);
  const options = ['--relay-url', `ws://127.0.0.1:${port}/v1`, '--transit-helper', ''];
  let count = 0;
  const samples = await interleave(rounds, {
    file: () => sendFile(laptop, server, path),
    wormhole: async () => {
      const code = `${++count}-bench-${count}`;
      const copy = join(folder, `received-${count}.bin`);
      const begun = performance.now();
      const sending = must('wormhole', [...options, 'send', '--hide-progress', '--code', code, path]);
      const receive = ['receive', '--hide-progress', '--accept-file', '--output-file', copy, code];
      await must('wormhole', [...options, ...receive]);
      const elapsed = performance.now() - begun;
      await sending;
      if (!readFileSync(copy).equals(readFileSync(path))) throw new Error('another file came');
      rmSync(copy);
      return elapsed;
    },
  });
  stop();
  return {
    name: `file of ${megabytes} MB`,
    workload:
      `${megabytes} MB of random bytes, sent by agentalk_send_file and kept by the bridge, then received by agentalk_wait; ` +
      'baseline: wormhole send and wormhole receive at the same time, with a code that is known, over a mailbox server ' +
      'of this run: the bytes go from one to the other directly, and nothing is kept',
    unit: 'ms',
    ours: samples.file,
    baseline: { name: 'magic-wormhole', ...samples.wormhole },
  };
}

/** @param {Place} place @param {number} rounds @returns {Promise<Figure>} */
export async function mosquitto(place, rounds) {
  const { laptop, server } = await pair(place);
  const [, { text = '' } = {}] = SIZES;
  const port = await freePort();
  const stop = await startAt(port, 'mosquitto', ['-p', String(port)]);
  const address = ['-h', '127.0.0.1', '-p', String(port), '-q', '1', '-t', 'bench'];
  const samples = await interleave(rounds, {
    client: () => sayToShown(place, laptop, server, text),
    mosquitto: async () => {
      const receiving = must('mosquitto_sub', [...address, '-C', '1']);
      await sleep(0.1); // until it has subscribed
      const begun = performance.now();
      const sending = must('mosquitto_pub', [...address, '-m', text]);
      const { stdout } = await receiving;
      const elapsed = performance.now() - begun;
      await sending;
      if (!stdout.includes(text)) throw new Error(`another message came: ${stdout}`);
      return elapsed;
    },
  });
  stop();
  return {
    name: 'say to shown, 1 KB',
    workload:
      'agentalk_say of 1 KB, from its start to the end of agentalk_wait on the other side: sealed, signed, verified, kept; ' +
      'baseline: mosquitto_pub to mosquitto_sub at QoS 1, in the clear',
    unit: 'ms',
    ours: samples.client,
    baseline: { name: 'mosquitto', ...samples.mosquitto },
  };
}
