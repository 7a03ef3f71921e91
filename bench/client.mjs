/** What an agent waits for: the real client as it is used, a fresh shell for each call, compared with a bare curl. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { BASH, CLIENT } from '../scripts/child-processes.mjs';
import { sleep } from './connection.mjs';
import { cpuMsOfEnded, cpuMsOfGroup, figuresOf, interleave } from './measure.mjs';
import { SIZES, atPlace, curlGet, curlPost, must, pair, sendFile, somebodyWaits } from './shell-clients.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */
/** @typedef {import('./shell-clients.mjs').Place} Place */
/** @typedef {typeof SIZES[0]} Size */

const KiB = 1024;
const MiB = KiB * KiB;

/** @param {Place} place @param {Size} size @param {number} rounds @returns {Promise<Figure>} */
async function say(place, { size, text, characters }, rounds) {
  const { laptop } = await pair(place);
  const samples = await interleave(rounds, {
    say: async () => (await laptop.call('agentalk_say "$1"', text)).ms,
    curl: curlPost(place, characters),
  });
  const processes = await laptop.processesOf('agentalk_say "$1"', text);
  return {
    name: `say ${size}`,
    workload: 'a new shell, session sourced, text signed, sealed, kept and sent; baseline: the same bytes, sealed',
    unit: 'ms',
    ours: { ...samples.say, processes },
    baseline: { name: 'curl POST', ...samples.curl, processes: 1 },
    ...(size === '1 KB' && { target: { ratio: 8 } }),
  };
}

/** @param {Place} place @param {Size} size @param {number} rounds @returns {Promise<Figure>} */
async function dm(place, { size, text, characters }, rounds) {
  const { laptop } = await pair(place);
  const samples = await interleave(rounds, {
    dm: async () => (await laptop.call('agentalk_dm server "$1"', text)).ms,
    curl: curlPost(place, characters),
  });
  const processes = await laptop.processesOf('agentalk_dm server "$1"', text);
  return {
    name: `dm ${size}`,
    workload: 'the same to one, sealed for it alone',
    unit: 'ms',
    ours: { ...samples.dm, processes },
    baseline: { name: 'curl POST', ...samples.curl, processes: 1 },
  };
}

/** @param {Place} place @param {Size} size @param {number} rounds @returns {Promise<Figure>} */
async function receive(place, { size, text, characters }, rounds) {
  const { laptop, server } = await pair(place);
  const samples = await interleave(rounds, {
    wait: async () => {
      await laptop.call('agentalk_say "$1"', text);
      const before = cpuMsOfEnded();
      const { stdout, ms } = await server.call('agentalk_wait 10');
      if (!stdout.includes(text.slice(0, 40))) throw new Error(`the message did not come: ${stdout}`);
      return { sample: ms, cpuMs: cpuMsOfEnded() - before };
    },
    curl: curlGet(place, characters),
  });
  await laptop.call('agentalk_say "$1"', text);
  const processes = await server.processesOf('agentalk_wait 10');
  return {
    name: `receive and show ${size}`,
    workload: 'agentalk_wait with a message there: fetched, opened, verified, kept, shown',
    unit: 'ms',
    ours: { ...samples.wait, processes },
    baseline: { name: 'curl GET', ...samples.curl, processes: 1 },
  };
}

/** @param {Place} place @param {number} rounds @returns {Promise<Figure[]>} */
async function pairing(place, rounds) {
  /** @type {number[]} */
  const both = [];
  const { join: ours } = await interleave(rounds, {
    join: async () => {
      const { joinMs, bothMs } = await pair(place);
      both.push(bothMs);
      return joinMs;
    },
  });
  const counted = await pair(place, true).catch(() => undefined);
  return [
    {
      name: 'join to PAIRED',
      workload:
        'from the start of join, while the other waits, to its PAIRED; CPU of both, create included; processes of join',
      unit: 'ms',
      ours: { ...ours, processes: counted?.processes },
      target: { value: 1000 },
    },
    {
      name: '… on both sides',
      workload: 'until the one that waited has printed it, too',
      unit: 'ms',
      ours: { samples: both.slice(1) },
    },
  ];
}

/** @param {Place} place @param {number} megabytes @param {number} rounds @returns {Promise<Figure[]>} */
async function file(place, megabytes, rounds) {
  const size = megabytes * MiB;
  const path = join(place.folder, `random-${megabytes}.bin`);
  writeFileSync(path, randomBytes(size));
  const { laptop, server } = await pair(place);
  /** @type {number[][]} */
  const [sent = [], received = []] = [[], []];
  const contenders = {
    file: () =>
      sendFile(laptop, server, path, (sentMs, receivedMs) => {
        sent.push(sentMs);
        received.push(receivedMs);
      }),
    bare: barePipeline(place, path, size),
  };
  const samples = await interleave(rounds, contenders, { isLong: true });
  return [
    {
      name: `file of ${megabytes} MB`,
      workload: `${megabytes} MB of random bytes, sent, then received and compared; compared with openssl enc, curl -T, curl -o, openssl enc -d of the same bytes`,
      unit: 'ms',
      ours: samples.file,
      baseline: { name: 'openssl and curl', ...samples.bare, processes: 4 },
      ...(megabytes > 1 && { target: { ratio: 3 } }),
      note: 'measured before a wait went on for two seconds after a file, for its explanation; the two calls of the client take 140 ms by themselves; hashes of each piece and of the whole are in it, too',
    },
    {
      name: `… sent`,
      workload: 'encrypted, cut, hashed, uploaded, its message sealed and sent',
      unit: 'ms',
      ours: { samples: sent.slice(1) },
    },
    {
      name: `… received`,
      workload: 'its message opened and shown, pieces fetched and hashed, decrypted, hashed',
      unit: 'ms',
      ours: { samples: received.slice(1) },
    },
  ];
}

/** What the same bytes take without any protocol. */
function barePipeline(
  /** @type {Place} */ { folder, baseline },
  /** @type {string} */ path,
  /** @type {number} */ size,
) {
  const env = {
    PASS: 'agentalk/1 file 0',
    IN: path,
    OUT: join(folder, 'bare'),
    BASELINE: baseline,
    SIZE: String(size),
  };
  const code =
    'aes() { openssl enc -aes-256-ctr -nosalt -md sha256 -pass env:PASS -iv 00000000000000000000000000000000 "$@" 2>/dev/null; }; ' +
    'aes -in "$IN" -out "$OUT.enc" && curl -q -sS -H Expect: -o /dev/null -T "$OUT.enc" "$BASELINE/put" && ' +
    'curl -q -sS -o "$OUT.got" "$BASELINE/bytes/$SIZE" && aes -d -in "$OUT.got" -out "$OUT.dec"';
  return async () => (await must(BASH, ['-c', code], { env })).ms;
}

/** @param {Place} place @param {number} rounds @returns {Promise<Figure>} */
async function seal({ folder }, rounds) {
  const functions = join(folder, 'functions.sh');
  writeFileSync(functions, readFileSync(CLIENT, 'utf8').replace(/^start "\$@"\n$/m, ''));
  mkdirSync(join(folder, 'keys'), { recursive: true });
  const text = join(folder, 'text');
  writeFileSync(text, randomBytes(64 * KiB));
  const env = {
    TMP: join(folder, 'seal'),
    SESSION: folder,
    PASS: 'agentalk/1 room 0',
    IN: text,
    FUNCTIONS: functions,
  };
  const sealing =
    '. "$FUNCTIONS"; start_part_1; read_file "$IN"; text=("${BYTES[@]}"); make_key room "$PASS"; BODY=("${text[@]}"); seal room additional ""';
  const bare =
    'openssl enc -aes-256-ctr -nosalt -md sha256 -pass env:PASS -iv 00000000000000000000000000000001 <"$IN" 2>/dev/null |' +
    ' openssl base64 -A >"$TMP.out"';
  const samples = await interleave(rounds, {
    seal: async () => (await must(BASH, ['-p', '-c', sealing], { env })).ms,
    openssl: async () => (await must(BASH, ['-c', bare], { env })).ms,
  });
  return {
    name: 'seal 64 KiB',
    workload: 'a whole bash: the client read, AES-256-GCM, base64; compared with openssl alone, without a tag',
    unit: 'ms',
    ours: samples.seal,
    baseline: { name: 'openssl', ...samples.openssl },
    target: { value: 600 },
  };
}

/** @param {Place} place @param {number} seconds @returns {Promise<Figure[]>} */
async function idle(place, seconds) {
  const counter = await countConnections(place.bridge);
  const { server } = await pair({ ...place, bridge: counter.url });
  const listener = server.startCall('agentalk_listen');
  listener.stdout.resume();
  listener.stderr.resume();
  await somebodyWaits(place.bridge);
  await sleep(3); // the other, which no longer waits, has been noticed
  const [before, connectionsBefore] = [cpuMsOfGroup(listener.pid), counter.count()];
  await sleep(seconds);
  const cpuMs = ((cpuMsOfGroup(listener.pid) - before) * 60) / seconds;
  const connections = ((counter.count() - connectionsBefore) * 60) / seconds;
  process.kill(-(listener.pid ?? 0), 'SIGTERM');
  counter.stop();
  const listening = {
    name: 'idle for a minute',
    workload: `CPU time of a listener in which nothing happens, all its processes, computed from ${seconds} s, to about ${Math.round(600 / seconds)} ms`,
    unit: 'ms',
    ours: { samples: Number.isNaN(cpuMs) ? [] : [cpuMs] },
    target: { value: 40 },
  };
  return [
    /** @type {Figure} */ (listening),
    {
      name: 'connections for a minute',
      workload: `of the same listener, computed from ${seconds} s; with https each is a TLS handshake`,
      unit: 'connections',
      ours: { samples: [connections] },
      target: { value: 1.5 },
    },
  ];
}

/** A proxy before a server that counts its connections. */
async function countConnections(/** @type {string} */ url) {
  const { port, hostname } = new URL(url);
  let count = 0;
  const proxy = createServer((client) => {
    count++;
    const server = connect(Number(port), hostname);
    client.pipe(server).pipe(client);
    for (const [one, other] of [
      [client, server],
      [server, client],
    ]) {
      one?.on('error', () => {}).on('close', () => other?.destroy());
    }
  });
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', () => resolve(undefined)));
  const own = /** @type {import('node:net').AddressInfo} */ (proxy.address()).port;
  return { url: `http://127.0.0.1:${own}`, count: () => count, stop: () => void proxy.close() };
}

/** @param {{isQuick: boolean}} options @returns {AsyncGenerator<Figure>} */
export const clientFigures = ({ isQuick }) =>
  atPlace((place) => {
    const rounds = ({ isLarge = false }) => (isQuick ? (isLarge ? 2 : 5) : isLarge ? 9 : 21);
    const each = (
      /** @type {string} */ name,
      /** @type {(place: Place, size: Size, rounds: number) => Promise<Figure>} */ measure,
    ) => SIZES.map((size) => [`${name} ${size.size}`, () => measure(place, size, rounds(size))]);
    return figuresOf({
      ...Object.fromEntries(each('say', say)),
      ...Object.fromEntries(each('dm', dm)),
      ...Object.fromEntries(each('receive', receive)),
      join: () => pairing(place, isQuick ? 3 : 9),
      seal: () => seal(place, isQuick ? 3 : 9),
      file1: () => file(place, 1, isQuick ? 3 : 9),
      file10: () => file(place, 10, isQuick ? 3 : 9),
      ...(!isQuick && { file100: () => file(place, 100, 3) }),
      idle: () => idle(place, isQuick ? 16 : 60),
    });
  });
