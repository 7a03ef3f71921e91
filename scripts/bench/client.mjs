/** What an agent waits for: the real client as it is used, a fresh shell for each call, beside a bare curl. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BASH, CLIENT, makeFolder, run, start, startBridge, startServer } from '../processes.mjs';
import { cpuMsOfEnded, takeTurns, until } from './measure.mjs';

/** @typedef {import('./measure.mjs').Figure} Figure */
/** @typedef {{folder: string, bridge: string, floor: string}} Place */

const KiB = 1024;
const TEXT = randomBytes(KiB).toString('base64').slice(0, KiB);

/** Runs a program that has to end well. @param {string} program @param {string[]} args @returns its output and time */
async function must(program, args, options = {}) {
  const result = await run(program, args, options);
  if (result.status === 0) return result;
  throw new Error(
    `status ${result.status}: ${program} ${args.join(' ').slice(0, 200)}\n${result.stdout}${result.stderr}`,
  );
}

/** One participant and its session. */
class Side {
  #home;
  #name;

  constructor(/** @type {string} */ folder, /** @type {string} */ name) {
    this.#home = join(folder, `${name}-${randomBytes(4).toString('hex')}`);
    this.#name = name;
    mkdirSync(this.#home);
  }

  /** @returns {Promise<string>} the join URL */
  async create(/** @type {string} */ bridge) {
    const args = [CLIENT, 'create', bridge, '--name', this.#name];
    const { stdout } = await must(BASH, args, { env: { AGENTALK_HOME: this.#home } });
    return /\S+#k=\S+$/m.exec(stdout)?.[0] ?? '';
  }

  /** Starts `join` and hands back its process: PAIRED comes while it runs. */
  join(/** @type {string} */ link) {
    const child = start(BASH, [CLIENT, 'join', '-', '--name', this.#name], { env: { AGENTALK_HOME: this.#home } });
    child.stdin.end(`${link}\n`);
    return child;
  }

  /** What an agent's tool call is: a new shell that sources the session file. */
  #call = (/** @type {string} */ code) => [
    '-c',
    `. '${this.#home}/agentalk-session-${this.#name}.env'; ${code}`,
    'bench',
    TEXT,
  ];
  call = (/** @type {string} */ code) => must(BASH, this.#call(code));
  startCall = (/** @type {string} */ code) => start(BASH, this.#call(code));
}

/** When a client prints PAIRED, and its end. */
function watch(/** @type {ReturnType<typeof start>} */ child) {
  let text = '';
  child.stderr.resume();
  const ended = new Promise((resolve) => child.on('close', resolve));
  const paired = /** @type {Promise<number>} */ (
    new Promise((resolve, reject) => {
      child.stdout.setEncoding('utf8').on('data', (/** @type {string} */ more) => {
        text += more;
        if (text.includes('agentalk: PAIRED')) resolve(performance.now());
      });
      void ended.then(() => reject(new Error(`no PAIRED:\n${text}`)));
    })
  );
  return { paired, ended };
}

/** Two that have paired. @returns how long `join` took to PAIRED, and the other until it printed that, too */
async function pair(/** @type {Place} */ { folder, bridge }) {
  const [laptop, server] = [new Side(folder, 'laptop'), new Side(folder, 'server')];
  const link = await laptop.create(bridge);
  const waiting = watch(laptop.startCall('agentalk_wait 20'));
  await until(async () => /^agentalk_waiting_polls 1$/m.test(await (await fetch(`${bridge}/metrics`)).text()));
  const begun = performance.now();
  const joining = watch(server.join(link));
  const [joinedAt, heardAt] = await Promise.all([joining.paired, waiting.paired]);
  await Promise.all([joining.ended, waiting.ended]);
  return { laptop, server, joinMs: joinedAt - begun, bothMs: Math.max(joinedAt, heardAt) - begun };
}

const curl = async (/** @type {string[]} */ ...args) =>
  (await must('curl', ['-q', '-sS', '-o', '/dev/null', ...args])).ms;

/** A bare curl that posts a file. */
function curlPost(/** @type {Place} */ { folder, floor }, /** @type {number} */ bytes) {
  const file = join(folder, `post-${bytes}.json`);
  const fields = { participant_id: '0'.repeat(32), to: '*', nonce: '0'.repeat(24), tag: '0'.repeat(32) };
  writeFileSync(file, JSON.stringify({ ...fields, ciphertext: 'A'.repeat(bytes) }));
  return () => curl('-X', 'POST', '-H', 'Content-Type: application/json', '--data-binary', `@${file}`, `${floor}/send`);
}

/** @param {Place} place @param {number} rounds @returns {Promise<Figure>} */
async function say(place, rounds) {
  const { laptop } = await pair(place);
  const samples = await takeTurns(rounds, {
    say: async () => (await laptop.call('agentalk_say "$1"')).ms,
    curl: curlPost(place, 1808),
  });
  return {
    name: 'say 1 KB',
    workload:
      'a new shell, session sourced, 1 KB of text signed, sealed, kept and sent; beside: the same bytes, sealed',
    unit: 'ms',
    ours: samples.say,
    beside: { name: 'curl POST', ...samples.curl },
    goal: { ratio: 7 },
  };
}

/** @param {Place} place @param {number} rounds @returns {Promise<Figure>} */
async function dm(place, rounds) {
  const { laptop } = await pair(place);
  const samples = await takeTurns(rounds, {
    dm: async () => (await laptop.call('agentalk_dm server "$1"')).ms,
    curl: curlPost(place, 1808),
  });
  return {
    name: 'dm 1 KB',
    workload: 'the same to one, sealed for it alone',
    unit: 'ms',
    ours: samples.dm,
    beside: { name: 'curl POST', ...samples.curl },
  };
}

/** @param {Place} place @param {number} rounds @returns {Promise<Figure>} */
async function receive(place, rounds) {
  const { laptop, server } = await pair(place);
  const samples = await takeTurns(rounds, {
    wait: async () => {
      await laptop.call('agentalk_say "$1"');
      const before = cpuMsOfEnded();
      const { stdout, ms } = await server.call('agentalk_wait 10');
      if (!stdout.includes(TEXT.slice(0, 40))) throw new Error(`the message did not come:\n${stdout}`);
      return { sample: ms, cpuMs: cpuMsOfEnded() - before };
    },
    curl: () => curl(`${place.floor}/1900`),
  });
  return {
    name: 'receive 1 KB',
    workload: 'agentalk_wait with a message of 1 KB there: fetched, opened, verified, kept, shown',
    unit: 'ms',
    ours: samples.wait,
    beside: { name: 'curl GET', ...samples.curl },
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
  return [
    {
      name: 'join to PAIRED',
      workload: 'from the start of join, while the other waits, to its PAIRED; CPU of both, create included',
      unit: 'ms',
      ours,
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
  const MiB = KiB * KiB;
  const path = join(place.folder, 'random.bin');
  writeFileSync(path, randomBytes(MiB));
  const { laptop, server } = await pair(place);
  /** @type {number[]} */
  const sending = [];
  /** @type {number[]} */
  const receiving = [];
  const contenders = {
    file: async () => {
      const sent = await laptop.call(`agentalk_send_file '${path}'`);
      let [received, shown] = [0, ''];
      while (!shown.includes('saved as')) {
        const { ms, stdout } = await server.call('agentalk_wait 30');
        received += ms;
        shown = stdout;
      }
      const copy = /saved as (.*)$/m.exec(shown)?.[1] ?? '';
      if (!readFileSync(copy).equals(readFileSync(path))) throw new Error('another file came');
      sending.push(sent.ms);
      receiving.push(received);
      return sent.ms + received;
    },
    curl: async () => (await curlPost(place, (MiB * 4) / 3)()) + (await curl(`${place.floor}/${(MiB * 4) / 3}`)),
  };
  const samples = await takeTurns(rounds, contenders, { isLong: true });
  const beside = { name: 'curl POST and GET', ...samples.curl };
  const workload = '1 MB of random bytes, sent, then received and compared';
  return [
    { name: 'file of 1 MB', workload, unit: 'ms', ours: samples.file, beside, goal: { value: 12_000 } },
    { name: '… sent', workload: 'read, cut, signed, sealed, kept, sent', unit: 'ms', ours: { samples: sending } },
    {
      name: '… received',
      workload: 'fetched, opened, verified, put together',
      unit: 'ms',
      ours: { samples: receiving },
    },
  ];
}

/** @param {Place} place @param {number} rounds @returns {Promise<Figure>} */
async function seal({ folder }, rounds) {
  const functions = join(folder, 'functions.sh');
  writeFileSync(functions, readFileSync(CLIENT, 'utf8').replace(/^main "\$@"\n$/m, ''));
  const text = join(folder, 'text');
  writeFileSync(text, Buffer.concat([Buffer.alloc(16), randomBytes(64 * KiB)]));
  const env = { LC_ALL: 'C', TMP: folder, PASS: 'agentalk/1 room 0', IN: text, FUNCTIONS: functions };
  const sealing = '. "$FUNCTIONS"; cat "$IN" >"$TMP/frame" && seal "$PASS" "$(hash_key "$PASS")" additional 65536';
  const bare =
    'openssl enc -aes-256-ctr -nosalt -md sha256 -pass env:PASS -iv 00000000000000000000000000000001 <"$IN" 2>/dev/null |' +
    ' openssl base64 -A >"$TMP/out"';
  const samples = await takeTurns(rounds, {
    seal: async () => (await must(BASH, ['-c', sealing], { env })).ms,
    openssl: async () => (await must(BASH, ['-c', bare], { env })).ms,
  });
  return {
    name: 'seal 64 KiB',
    workload: 'a whole bash: the client read, AES-256-GCM, base64; beside: openssl alone, without a tag',
    unit: 'ms',
    ours: samples.seal,
    beside: { name: 'openssl', ...samples.openssl },
    goal: { value: 500 },
  };
}

/** @param {{isQuick: boolean}} options @returns {AsyncGenerator<Figure>} */
export async function* clientFigures({ isQuick }) {
  const folder = makeFolder('bench');
  const [bridge, floor] = await Promise.all([
    startBridge(),
    startServer([fileURLToPath(new URL('floor.mjs', import.meta.url))]),
  ]);
  const place = { folder, bridge: bridge.url, floor: floor.url };
  yield say(place, isQuick ? 5 : 21);
  yield dm(place, isQuick ? 5 : 11);
  yield receive(place, isQuick ? 5 : 21);
  yield* await pairing(place, isQuick ? 3 : 7);
  yield seal(place, isQuick ? 3 : 7);
  yield* await file(place, isQuick ? 1 : 2);
  await Promise.all([bridge.stop(), floor.stop()]);
}
