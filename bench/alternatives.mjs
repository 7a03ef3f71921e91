/**
 * What else one could take, in the same run: a client that seals with node and builds its JSON with jq, and a relay that
 * pipes what one curl sends to another one.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BASH, run, start } from '../scripts/child-processes.mjs';
import { ciphertextOf, fetching, open, pollOf, sendOf, sleep } from './connection.mjs';
import { cpuMsOfEnded, figuresOf, missing, interleave, until } from './measure.mjs';
import { freePort, mosquitto, wormhole } from './other-programs.mjs';
import { CHARACTERS } from './servers.mjs';
import { SIZES, atPlace, curlPost, must, pair, processesOf, sayToShown } from './shell-clients.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */
/** @typedef {import('./shell-clients.mjs').Place} Place */
/** @typedef {typeof SIZES[0]} Size */

// ---- sealing with node and jq ----

const SEALING = `const { createCipheriv, createHash, randomBytes } = require('node:crypto');
const nonce = randomBytes(12);
const cipher = createCipheriv('aes-256-gcm', createHash('sha256').update('agentalk/1 room 0').digest(), nonce);
const sealed = Buffer.concat([cipher.update(require('node:fs').readFileSync(0)), cipher.final()]);
console.log(nonce.toString('hex'), sealed.toString('base64'), cipher.getAuthTag().toString('hex'));`;
const WITH_JQ = `jq -R -c 'split(" ") | {participant_id: "0", to: "*", nonce: .[0], ciphertext: .[1], tag: .[2]}'`;
const WITHOUT_JQ = `node -e '
const [nonce, ciphertext, tag] = require("node:fs").readFileSync(0, "latin1").trim().split(" ");
console.log(JSON.stringify({ participant_id: "0", to: "*", nonce, ciphertext, tag }));'`;

/** @param {Place} place @param {Size} size @param {number} rounds @returns {Promise<Figure[]>} */
async function nodeAndJq(place, { size, text, characters }, rounds) {
  const hasJq = await run('jq', ['--version']).then(
    () => true,
    () => false,
  );
  const { laptop } = await pair(place);
  const script =
    `printf %s "$1" | node -e "$2" | ${hasJq ? WITH_JQ : WITHOUT_JQ} | curl -q -sS -o /dev/null ` +
    `-H 'Content-Type: application/json' -H 'Authorization: Bearer 0' -H Expect: --data-binary @- '${place.baseline}/send'`;
  const command = [BASH, '-c', script, 'bench', text, SEALING];
  const samples = await interleave(rounds, {
    say: async () => (await laptop.call('agentalk_say "$1"', text)).ms,
    node: async () => (await must(BASH, command.slice(1))).ms,
    curl: curlPost(place, characters),
  });
  const processes = await processesOf(command);
  const name = hasJq ? 'node, jq and curl' : 'node twice and curl';
  const note = hasJq ? '' : 'jq is not installed: node builds the JSON, too';
  const moreWork = 'agentalk_say signs (ECDSA by openssl), keeps what it said until it is confirmed, and needs no node';
  return [
    {
      name: `say ${size}`,
      workload:
        'agentalk_say as above; baseline: a bash that seals with node -e (AES-256-GCM), builds JSON with jq and posts it; no signature, no copy kept, no order',
      unit: 'ms',
      ours: { ...samples.say, processes: await laptop.processesOf('agentalk_say "$1"', text) },
      baseline: { name, ...samples.node, processes },
      ...(size === '1 KB' && { target: { ratio: 0.5 } }),
      note: [note, moreWork].filter(Boolean).join('; '),
    },
    {
      name: `${name} ${size}`,
      workload: `the same bash; baseline: a bare curl`,
      unit: 'ms',
      ours: { ...samples.node, processes },
      baseline: { name: 'curl POST', ...samples.curl, processes: 1 },
      note,
    },
  ];
}

// ---- from one curl to another ----

/** Fetched for this run, into a folder that goes with it. */
async function startPipingServer(/** @type {string} */ folder) {
  const flags = ['--no-audit', '--no-fund', '--no-save', '--prefix', folder];
  const { status, stderr } = await run('npm', ['install', ...flags, 'piping-server@latest'], { cwd: folder });
  if (status !== 0)
    throw new Error(`piping-server could not be installed (npm ended with ${status})`, { cause: stderr });
  const port = await freePort();
  const program = join(folder, 'node_modules', '.bin', 'piping-server');
  const child = start(process.execPath, [program, '--host=127.0.0.1', `--http-port=${port}`]);
  child.stdout.resume();
  child.stderr.resume();
  const url = `http://127.0.0.1:${port}`;
  await until(() => fetch(`${url}/version`).then(({ ok }) => ok, () => false)); // prettier-ignore
  const version = (await (await fetch(`${url}/version`)).text()).trim();
  return { url, version, stop: () => process.kill(child.pid ?? 0, 'SIGTERM') };
}

/** The arguments of two curls, of which one gets what the other sends. @typedef {{get: string[], post: string[]}} Curls */

/** @param {Curls} curls @returns {Promise<number>} milliseconds from the start of the sender, and the other waits already */
async function latency({ get, post }) {
  const receiving = must('curl', ['-q', '-sS', ...get]);
  await sleep(0.05); // until it waits: neither server says so to a curl
  const begun = performance.now();
  const sending = must('curl', ['-q', '-sS', ...post]);
  const { stdout } = await receiving;
  const elapsed = performance.now() - begun;
  await sending;
  if (stdout.length < CHARACTERS) throw new Error('a curl has received too little');
  return elapsed;
}

const MESSAGES = 10;
/** @param {() => Promise<Curls>} next @returns messages each second, one after the other, and the curls' CPU for each */
async function rate(next) {
  const [begun, before] = [performance.now(), cpuMsOfEnded()];
  for (let i = 0; i < MESSAGES; i++) {
    const { get, post } = await next();
    await Promise.all([must('curl', ['-q', '-sS', ...get]), must('curl', ['-q', '-sS', ...post])]);
  }
  const sample = (MESSAGES * 1000) / (performance.now() - begun);
  return { sample, cpuMs: (cpuMsOfEnded() - before) / MESSAGES };
}

/** @param {Place} place @returns {Promise<() => Promise<Curls>>} */
async function throughBridge({ folder, bridge }) {
  const json = ['-H', 'Content-Type: application/json', '-H', 'Expect:'];
  const { room, members } = await open(fetching(bridge), 2);
  const [sender, receiver] = members;
  if (!sender || !receiver) throw new Error('nobody has joined');
  const file = join(folder, 'message.json');
  return async () => {
    const message = sendOf(room, sender, ciphertextOf(CHARACTERS));
    writeFileSync(file, message.body ?? '');
    const poll = pollOf(room, receiver, 20);
    receiver.cursor++;
    return {
      get: ['-H', `Authorization: Bearer ${receiver.token}`, bridge + poll.path],
      post: [
        ...json,
        '-H',
        `Authorization: Bearer ${sender.token}`,
        '--data-binary',
        `@${file}`,
        bridge + message.path,
      ],
    };
  };
}

/** @param {Place} place @param {string} url @returns {() => Promise<Curls>} */
function throughPiping({ folder }, url) {
  const file = join(folder, 'piped.json');
  writeFileSync(file, 'A'.repeat(CHARACTERS + 200)); // what is around a ciphertext in a request
  let count = 0;
  return async () => {
    const path = `${url}/bench${++count}`;
    return { get: [path], post: ['-H', 'Expect:', '-T', file, path] };
  };
}

/** @param {Place} place @param {number} rounds @returns {Promise<Figure[]>} */
async function curlToCurl(place, rounds) {
  const bridged = await throughBridge(place);
  const { laptop, server } = await pair(place);
  const [, { text = '' } = {}] = SIZES;
  const ours = {
    bridge: async () => latency(await bridged()),
    client: () => sayToShown(place, laptop, server, text),
  };
  /** @type {Awaited<ReturnType<typeof startPipingServer>> | undefined} */
  let piping;
  let why = '';
  try {
    piping = await startPipingServer(place.folder);
  } catch (error) {
    why = missing('', error).missing ?? '';
  }
  const piped = piping && throughPiping(place, piping.url);
  /** @type {Record<string, () => Promise<number>>} */
  const timed = { ...ours, ...(piped && { piping: async () => latency(await piped()) }) };
  const times = await interleave(rounds, timed);
  /** @type {Record<string, () => ReturnType<typeof rate>>} */
  const rated = { bridge: () => rate(bridged), ...(piped && { piping: () => rate(piped) }) };
  const rates = await interleave(rounds, rated);
  piping?.stop();
  const baseline = (/** @type {Record<string, import('./measure.mjs').Measured>} */ { piping: measured }) => ({
    ...(piping && measured && { baseline: { name: `piping-server ${piping.version}`, ...measured } }),
    ...(why && { missing: `baseline: ${why}` }),
  });
  const bytes = 'what 1 KB of text is when it is sealed';
  const none = { samples: [] };
  return [
    {
      name: 'curl to curl',
      workload: `${bytes}, through the bridge, from the start of one curl to the end of the other, which waits; baseline: the same bytes through piping-server`,
      unit: 'ms',
      ours: times['bridge'] ?? none,
      ...baseline(times),
    },
    {
      name: 'curl to curl, rate',
      workload: `${bytes}, ${MESSAGES} messages one after the other, both curls started at the same time`,
      unit: '/s',
      ours: rates['bridge'] ?? none,
      ...baseline(rates),
    },
    {
      name: 'say to shown',
      workload:
        'agentalk_say of 1 KB, from its start to the end of agentalk_wait on the other side: sealed, signed, verified, kept; baseline: curl to curl',
      unit: 'ms',
      ours: times['client'] ?? none,
      ...baseline(times),
    },
  ];
}

/** @param {{isQuick: boolean}} options */
export const peerFigures = ({ isQuick }) =>
  atPlace((place) => {
    const rounds = ({ isLarge = false }) => (isQuick ? (isLarge ? 2 : 5) : isLarge ? 9 : 21);
    const sealing = SIZES.map((size) => [`node ${size.size}`, () => nodeAndJq(place, size, rounds(size))]);
    return figuresOf({
      ...Object.fromEntries(sealing),
      curls: () => curlToCurl(place, isQuick ? 3 : 11),
      'mosquitto 1 KB': () => mosquitto(place, isQuick ? 3 : 11),
      'magic-wormhole 10 MB': () => wormhole(place, 10, isQuick ? 2 : 7),
    });
  });
