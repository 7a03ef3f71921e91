/** What an agent waits for: the real client as it is used, a fresh shell for each call, beside a bare curl. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BASH, CLIENT } from '../processes.mjs';
import { sleep } from './connection.mjs';
import { cpuMsOfEnded, cpuMsOfGroup, figuresOf, takeTurns, until } from './measure.mjs';
import { SIZES, atPlace, curlGet, curlPost, must, pair } from './sides.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */
/** @typedef {import('./sides.mjs').Place} Place */
/** @typedef {typeof SIZES[0]} Size */

const KiB = 1024;
const MiB = KiB * KiB;

/** @param {Place} place @param {Size} size @param {number} rounds @returns {Promise<Figure>} */
async function say(place, { size, text, characters }, rounds) {
  const { laptop } = await pair(place);
  const samples = await takeTurns(rounds, {
    say: async () => (await laptop.call('agentalk_say "$1"', text)).ms,
    curl: curlPost(place, characters),
  });
  const processes = await laptop.processesOf('agentalk_say "$1"', text);
  return {
    name: `say ${size}`,
    workload: 'a new shell, session sourced, text signed, sealed, kept and sent; beside: the same bytes, sealed',
    unit: 'ms',
    ours: { ...samples.say, processes },
    beside: { name: 'curl POST', ...samples.curl, processes: 1 },
    ...(size === '1 KB' && { goal: { ratio: 5 } }),
  };
}

/** @param {Place} place @param {Size} size @param {number} rounds @returns {Promise<Figure>} */
async function dm(place, { size, text, characters }, rounds) {
  const { laptop } = await pair(place);
  const samples = await takeTurns(rounds, {
    dm: async () => (await laptop.call('agentalk_dm server "$1"', text)).ms,
    curl: curlPost(place, characters),
  });
  const processes = await laptop.processesOf('agentalk_dm server "$1"', text);
  return {
    name: `dm ${size}`,
    workload: 'the same to one, sealed for it alone',
    unit: 'ms',
    ours: { ...samples.dm, processes },
    beside: { name: 'curl POST', ...samples.curl, processes: 1 },
  };
}

/** @param {Place} place @param {Size} size @param {number} rounds @returns {Promise<Figure>} */
async function receive(place, { size, text, characters }, rounds) {
  const { laptop, server } = await pair(place);
  const samples = await takeTurns(rounds, {
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
    beside: { name: 'curl GET', ...samples.curl, processes: 1 },
    ...(size === '1 KB' && { goal: { ratio: 5 } }),
  };
}

/** @param {Place} place @param {number} rounds @returns {Promise<Figure[]>} */
async function pairing(place, rounds) {
  /** @type {number[]} */
  const both = [];
  const { join: ours } = await takeTurns(rounds, {
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
      goal: { value: 1000 },
    },
    {
      name: '… on both sides',
      workload: 'until the one that waited has printed it, too',
      unit: 'ms',
      ours: { samples: both.slice(1) },
    },
  ];
}

/** @param {Place} place @param {number} rounds @returns {Promise<Figure[]>} */
async function file(place, rounds) {
  const path = join(place.folder, 'random.bin');
  writeFileSync(path, randomBytes(MiB));
  const { laptop, server } = await pair(place);
  const sending = `agentalk_send_file '${path}'`;
  const receiving = 'until [[ $shown = *"saved as"* ]]; do shown=$(agentalk_wait 30); done; printf "%s\\n" "$shown"';
  /** @type {{samples: number[], cpuMs: number}[]} */
  const [sent, received] = [1, 2].map(() => ({ samples: [], cpuMs: 0 }));
  /** Does half of it, and notes time and CPU. */
  const half = async (
    /** @type {typeof sent} */ measured,
    /** @type {() => Promise<{ms: number, stdout: string}>} */ act,
  ) => {
    const before = cpuMsOfEnded();
    const result = await act();
    measured?.samples.push(result.ms);
    if (measured) measured.cpuMs += (cpuMsOfEnded() - before) / rounds;
    return result;
  };
  const contenders = {
    file: async () => {
      const { ms } = await half(sent, () => laptop.call(sending));
      const { ms: more, stdout } = await half(received, () => server.call(receiving));
      const copy = /saved as (.*)$/m.exec(stdout)?.[1] ?? '';
      if (!readFileSync(copy).equals(readFileSync(path))) throw new Error('another file came');
      return ms + more;
    },
    curl: async () => (await curlPost(place, (MiB * 4) / 3)()) + (await curlGet(place, (MiB * 4) / 3)()),
  };
  const samples = await takeTurns(rounds, contenders, { isLong: true });
  const [sendProcesses, receiveProcesses] = [await laptop.processesOf(sending), await server.processesOf(receiving)];
  const beside = { name: 'curl POST and GET', ...samples.curl, processes: 2 };
  return [
    {
      name: 'file of 1 MB',
      workload: '1 MB of random bytes, sent, then received and compared',
      unit: 'ms',
      ours: samples.file,
      beside,
      goal: { value: 12_000 },
    },
    {
      name: '… sent',
      workload: 'read, cut, signed, sealed, kept, sent',
      unit: 'ms',
      ours: { samples: [], ...sent, processes: sendProcesses },
    },
    {
      name: '… received',
      workload: 'fetched, opened, verified, put together',
      unit: 'ms',
      ours: { samples: [], ...received, processes: receiveProcesses },
    },
  ];
}

/** @param {Place} place @param {number} rounds @returns {Promise<Figure>} */
async function seal({ folder }, rounds) {
  const functions = join(folder, 'functions.sh');
  writeFileSync(functions, readFileSync(CLIENT, 'utf8').replace(/^main "\$@"\n$/m, ''));
  mkdirSync(join(folder, 'direct'), { recursive: true }); // where a session keeps its tables
  const text = join(folder, 'text');
  writeFileSync(text, Buffer.concat([Buffer.alloc(48), randomBytes(64 * KiB)]));
  const env = {
    LC_ALL: 'C',
    TMP: join(folder, 'seal'),
    S: folder,
    PASS: 'agentalk/1 room 0',
    IN: text,
    FUNCTIONS: functions,
  };
  const sealing = '. "$FUNCTIONS"; [ -e "$S/key" ] || make_key "$S/key" "$PASS" && seal "$S/key" additional <"$IN"';
  const bare =
    'openssl enc -aes-256-ctr -nosalt -md sha256 -pass env:PASS -iv 00000000000000000000000000000001 <"$IN" 2>/dev/null |' +
    ' openssl base64 -A >"$TMP.out"';
  const samples = await takeTurns(rounds, {
    seal: async () => (await must(BASH, ['-c', sealing], { env })).ms,
    openssl: async () => (await must(BASH, ['-c', bare], { env })).ms,
  });
  return {
    name: 'seal 64 KiB',
    workload:
      'a whole bash: the client read, AES-256-GCM with the tables of a session, base64; beside: openssl alone, without a tag',
    unit: 'ms',
    ours: samples.seal,
    beside: { name: 'openssl', ...samples.openssl },
    goal: { value: 350 },
  };
}

/** @param {Place} place @param {number} seconds @returns {Promise<Figure>} */
async function idle(place, seconds) {
  const { server } = await pair(place);
  const listener = server.startCall('agentalk_listen');
  let text = '';
  listener.stdout.setEncoding('utf8').on('data', (more) => (text += more));
  listener.stderr.resume();
  await until(() => text.includes('listening as'));
  await sleep(3); // the other, which no longer waits, has been noticed
  const before = cpuMsOfGroup(listener.pid);
  await sleep(seconds);
  const cpuMs = ((cpuMsOfGroup(listener.pid) - before) * 60) / seconds;
  process.kill(-(listener.pid ?? 0), 'SIGTERM');
  return {
    name: 'idle for a minute',
    workload: `CPU time of a listener in which nothing happens, all its processes, computed from ${seconds} s, to about ${Math.round(600 / seconds)} ms`,
    unit: 'ms',
    ours: { samples: Number.isNaN(cpuMs) ? [] : [cpuMs] },
  };
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
      file: () => file(place, isQuick ? 1 : 3),
      idle: () => idle(place, isQuick ? 16 : 60),
    });
  });
