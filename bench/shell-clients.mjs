/** Two that use the real client as agents do, a fresh shell for each call, and the bare curl that they are compared with. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BASH, CLIENT, makeFolder, run, start, startBridge } from '../scripts/child-processes.mjs';
import { until } from './measure.mjs';
import { startBaseline } from './servers.mjs';

/** @typedef {{folder: string, bridge: string, baseline: string}} Place a folder, and the URLs of the servers */

/** Gives `work` a place, and clears it up. @param {(place: Place) => AsyncGenerator<import('./measure.mjs').Figure>} work */
export async function* atPlace(work) {
  const folder = makeFolder('bench');
  const [bridge, baseline] = await Promise.all([startBridge(), startBaseline()]);
  yield* work({ folder, bridge: bridge.url, baseline: baseline.url });
  await Promise.all([bridge.stop(), baseline.stop()]);
}

const KiB = 1024;
/** The texts that are sent: how many bytes, and what their frames are when they are sealed, in base64. */
export const SIZES = [100, KiB, 64 * KiB].map((bytes) => ({
  size: bytes < KiB ? `${bytes} B` : bytes === KiB ? '1 KB' : `${bytes / KiB} KiB`,
  text: randomBytes(bytes).toString('base64').slice(0, bytes),
  characters: Math.ceil((bytes + 332) / 3) * 4,
  isLarge: bytes > KiB,
}));

/** Runs a program that has to end well. @param {string} program @param {string[]} args @returns its output and time */
export async function must(program, args, options = {}) {
  const result = await run(program, args, options);
  if (result.status === 0) return result;
  throw new Error(
    `status ${result.status}: ${program} ${args.join(' ').slice(0, 200)}\n${result.stdout}${result.stderr}`,
  );
}

/**
 * The same command in a new PID namespace. Numbers are given out there one after the other, so the next one says how
 * many processes and threads there have been, whatever else the machine does.
 *
 * @param {string[]} command
 */
const counting = (command) => [
  ...['unshare', '--user', '--map-root-user', '--pid', '--fork', BASH, '-c'],
  '"$@"; status=$?; sh -c \'echo "processes $(($$ - 2))"\'; exit $status',
  ...['count', ...command],
];

/**
 * How many processes and threads a command takes, itself included; undefined where that can't be counted.
 *
 * @param {string[]} command
 */
export async function processesOf(command) {
  const [program = '', ...args] = counting(command);
  const { stdout, status } = await run(program, args).catch(() => ({ stdout: '', status: 1 }));
  const count = /^processes (\d+)$/m.exec(stdout)?.[1];
  return status === 0 && count !== undefined ? Number(count) : undefined;
}

/** One participant and its session. */
export class Side {
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
  join(/** @type {string} */ link, isCounted = false) {
    const command = [BASH, CLIENT, 'join', '-', '--name', this.#name];
    const [program = '', ...args] = isCounted ? counting(command) : command;
    const child = start(program, args, { env: { AGENTALK_HOME: this.#home } });
    child.stdin.end(`${link}\n`);
    return child;
  }

  /** What an agent's tool call is: a new shell that sources the session file. `text` is its $1. */
  #call = (/** @type {string} */ code, text = '') => [
    '-c',
    `. '${this.#home}/agentalk-session-${this.#name}.env'; ${code}`,
    'bench',
    text,
  ];
  call = (/** @type {string} */ code, text = '') => must(BASH, this.#call(code, text));
  startCall = (/** @type {string} */ code) => start(BASH, this.#call(code));
  processesOf = (/** @type {string} */ code, text = '') => processesOf([BASH, ...this.#call(code, text)]);
}

/** When a client prints PAIRED, and its end with all that it has printed. */
function watch(/** @type {ReturnType<typeof start>} */ child) {
  let text = '';
  child.stderr.resume();
  const ended = /** @type {Promise<string>} */ (new Promise((resolve) => child.on('close', () => resolve(text))));
  const paired = /** @type {Promise<number>} */ (
    new Promise((resolve, reject) => {
      child.stdout.setEncoding('utf8').on('data', (/** @type {string} */ more) => {
        text += more;
        if (text.includes('agentalk: PAIRED')) resolve(performance.now());
      });
      child.on('error', reject);
      void ended.then(() => reject(new Error(`no PAIRED: ${text}`)));
    })
  );
  return { paired, ended };
}

/** Until somebody's poll waits at this bridge. */
export const somebodyWaits = (/** @type {string} */ bridge) =>
  until(async () => /^agentalk_polls_pending [1-9]/m.test(await (await fetch(`${bridge}/metrics`)).text()));

/**
 * Two that have paired.
 *
 * @returns how long `join` took to PAIRED, and the other until it printed that, too; and how many processes join took,
 *   if that is counted
 */
export async function pair(/** @type {Place} */ { folder, bridge }, isCounted = false) {
  const [laptop, server] = [new Side(folder, 'laptop'), new Side(folder, 'server')];
  const link = await laptop.create(bridge);
  const waiting = watch(laptop.startCall('agentalk_wait 20'));
  await somebodyWaits(bridge);
  const begun = performance.now();
  const joining = watch(server.join(link, isCounted));
  const [joinedAt, heardAt] = await Promise.all([joining.paired, waiting.paired]);
  const [text] = await Promise.all([joining.ended, waiting.ended]);
  const processes = Number(/^processes (\d+)$/m.exec(text)?.[1]);
  return { laptop, server, joinMs: joinedAt - begun, bothMs: Math.max(joinedAt, heardAt) - begun, processes };
}

const RECEIVE_FILE =
  'until [[ $shown = *"saved as"* ]]; do shown=$(agentalk_wait 30); [[ $shown != *"when you ask"* ]] || ' +
  '{ n=${shown##*show } && shown=$(agentalk_show "${n%%[!0-9]*}"); }; done; printf "%s\\n" "$shown"';

/**
 * Sends a file from one to the other, and compares what has come.
 *
 * @param {Side} from @param {Side} to @param {string} path
 * @param {(sentMs: number, receivedMs: number) => void} [tell]
 * @returns {Promise<number>} milliseconds of both calls together
 */
export async function sendFile(from, to, path, tell = () => {}) {
  const { ms } = await from.call(`agentalk_send_file '${path}'`);
  const { ms: more, stdout } = await to.call(RECEIVE_FILE);
  const copy = /saved as:\n {2}\| (.*)$/m.exec(stdout)?.[1] ?? '';
  if (!readFileSync(copy).equals(readFileSync(path))) throw new Error('another file came');
  rmSync(copy);
  tell(ms, more);
  return ms + more;
}

/**
 * From the start of say to the end of a wait on the other side.
 *
 * @param {Place} place @param {Side} from @param {Side} to @param {string} text
 * @returns {Promise<number>} milliseconds
 */
export async function sayToShown({ bridge }, from, to, text) {
  const waiting = to.call('agentalk_wait 20');
  await somebodyWaits(bridge);
  const begun = performance.now();
  const saying = from.call('agentalk_say "$1"', text);
  const { stdout } = await waiting;
  const elapsed = performance.now() - begun;
  await saying;
  if (!stdout.includes(text.slice(0, 40))) throw new Error(`the message did not come: ${stdout}`);
  return elapsed;
}

export const curl = async (/** @type {string[]} */ ...args) =>
  (await must('curl', ['-q', '-sS', '-o', '/dev/null', ...args])).ms;

/** A bare curl that posts a file: what is in it has so many characters when it is sealed. */
export function curlPost(/** @type {Place} */ { folder, baseline }, /** @type {number} */ characters) {
  const file = join(folder, `post-${characters}.json`);
  const fields = { participant_id: '0'.repeat(32), to: '*', nonce: '0'.repeat(24), tag: '0'.repeat(32) };
  writeFileSync(file, JSON.stringify({ ...fields, ciphertext: 'A'.repeat(characters) }));
  return () =>
    curl('-X', 'POST', '-H', 'Content-Type: application/json', '--data-binary', `@${file}`, `${baseline}/send`);
}

/** A bare curl that fetches an event with as many characters. */
export const curlGet =
  (/** @type {Place} */ { baseline }, /** @type {number} */ characters) =>
  () =>
    curl(`${baseline}/${characters}`);
