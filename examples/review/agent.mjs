/**
 * One side of the demo: a name, a clone of the repository, and the real client in separate processes. What it knows of
 * the other side is what its client showed it.
 */
import { chmodSync, copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { CLIENT, run } from '../../scripts/child-processes.mjs';

/**
 * What the client showed: a message or a file from `from`, or what became of `from`.
 *
 * @typedef {{type: 'message', from: string, to: string, text: string}
 *   | {type: 'file', from: string, bytes: number, path: string}
 *   | {type: 'JOINED' | 'PAIRED' | 'LEFT', from: string}} Event
 */

/** Git as everybody has it: whatever is configured on this machine, the demo shows the same. */
const GIT = {
  ...{ GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null', GIT_PAGER: 'cat' },
  ...{ GIT_AUTHOR_NAME: 'demo', GIT_AUTHOR_EMAIL: 'demo@example.com' },
  ...{ GIT_COMMITTER_NAME: 'demo', GIT_COMMITTER_EMAIL: 'demo@example.com' },
};

export class Agent {
  name;
  /** Its folder; the clone of the repository is in it. */
  folder;
  #show;
  #home;
  #client;
  /** @type {Event[]} */
  #unread = [];

  /**
   * @param {string} name
   * @param {string} folder
   * @param {(agent: Agent, command: string, outcome?: string) => void} show is told what the agent does
   */
  constructor(name, folder, show) {
    this.name = name;
    this.folder = folder;
    this.#show = show;
    this.#home = join(folder, 'sessions');
    this.#client = join(folder, 'agentalk');
    mkdirSync(this.#home, { recursive: true });
    copyFileSync(CLIENT, this.#client);
    chmodSync(this.#client, 0o755);
  }

  get repository() {
    return join(this.folder, 'worker');
  }

  // Work in the repository

  /** Runs a command there and hands back what it printed; a status other than 0 is an error. */
  async git(/** @type {string[]} */ ...args) {
    return (await this.#mustRun('git', args, this.repository)).stdout;
  }

  /** Runs the repository's tests, and shows that. @returns {Promise<{pass: number, fail: number, ms: number}>} */
  async test() {
    const { stdout, ms } = await run(process.execPath, ['--test', '--test-reporter=tap'], { cwd: this.repository });
    const number = (/** @type {string} */ word) => Number(new RegExp(`^# ${word} (\\d+)$`, 'm').exec(stdout)?.[1]);
    const result = { pass: number('pass'), fail: number('fail'), ms: Math.round(ms) };
    this.#show(this, 'node --test', `${result.pass} pass, ${result.fail} fail`);
    return result;
  }

  /** Runs a program of node's on a file of the repository. @returns {Promise<{result: any, ms: number}>} its JSON */
  async measure(/** @type {string} */ program, /** @type {string} */ file) {
    const { stdout, ms } = await this.#mustRun(process.execPath, ['--expose-gc', program, file], this.repository);
    return { result: JSON.parse(stdout), ms: Math.round(ms) };
  }

  does(/** @type {string} */ command, /** @type {string | undefined} */ outcome = undefined) {
    this.#show(this, command, outcome);
  }

  // Talk: each call is a separate process, as a coding agent's tool calls are

  /** Opens a channel. @returns {Promise<string>} the line for the other agent */
  async create(/** @type {string} */ url) {
    this.does(`./agentalk create ${url} --name ${this.name}`);
    const { stdout } = await this.#mustRun(this.#client, ['create', url, '--name', this.name], this.folder);
    const line = /^Talk to my other .*$/m.exec(stdout)?.[0];
    if (line === undefined) throw new Error(`create printed no line for the other agent:\n${stdout}`);
    return line;
  }

  async join(/** @type {string} */ link) {
    this.does(`./agentalk join '${link.replace(/#.*/, '#k=…')}' --name ${this.name}`);
    // The link holds the key: it is passed on standard input, and no list of processes shows it.
    const args = ['join', '-', '--name', this.name];
    this.#hear((await this.#mustRun(this.#client, args, this.folder, link)).stdout);
  }

  say = (/** @type {string} */ text) => this.#talk(['say'], text);
  dm = (/** @type {string} */ to, /** @type {string} */ text) => this.#talk(['dm', to], text);
  sendFile = (/** @type {string} */ path) => this.#talk(['send_file', path]);

  async leave() {
    this.does('./agentalk leave');
    await this.#talk(['leave']);
  }

  /**
   * Waits until its client shows an event of this type; what came before and is of another type is passed over.
   *
   * @template {Event['type']} T
   * @param {T} type
   * @returns {Promise<Extract<Event, {type: T}>>}
   */
  async hear(type) {
    const patience = Date.now() + 20_000;
    for (;;) {
      const event = this.#unread.shift();
      if (event?.type === type) return /** @type {Extract<Event, {type: T}>} */ (event);
      if (event !== undefined) continue;
      if (Date.now() > patience) throw new Error(`${this.name} waited 20 s without success for: ${type}`);
      this.#hear(await this.#talk(['wait', '10']));
    }
  }

  async #talk(/** @type {string[]} */ args, input = '') {
    return (await this.#mustRun(this.#client, args, this.repository, input)).stdout;
  }

  /** Takes apart what the client printed: its lines, and a peer's words behind two spaces and a bar. */
  #hear(/** @type {string} */ output) {
    for (const line of output.split('\n')) {
      const [, from = '', to = ''] = /^agentalk: #\d+ from (\S+) to (all|you alone), /.exec(line) ?? [];
      const [, sender = '', bytes] = /^agentalk: FILE #\d+ from (\S+), (\d+) bytes:.* saved as:$/.exec(line) ?? [];
      const [, word, name = ''] = /^agentalk: (JOINED|PAIRED|LEFT)(?: with)? ([^\s.,:]+)[.,:]/.exec(line) ?? [];
      const last = this.#unread.at(-1);
      if (bytes) this.#unread.push({ type: 'file', from: sender, bytes: Number(bytes), path: '' });
      else if (last?.type === 'file' && last.path === '' && line.startsWith('  | ')) last.path = line.slice(4);
      else if (from) this.#unread.push({ type: 'message', from, to, text: '' });
      else if (word) this.#unread.push({ type: /** @type {'JOINED' | 'PAIRED' | 'LEFT'} */ (word), from: name });
      else if (last?.type === 'message' && line.startsWith('  | ')) last.text += `${line.slice(4)}\n`;
    }
  }

  async #mustRun(/** @type {string} */ program, /** @type {string[]} */ args, /** @type {string} */ cwd, input = '') {
    const result = await run(program, args, { cwd, input, env: { ...GIT, AGENTALK_HOME: this.#home } });
    if (result.status === 0) return result;
    const what = `${program} ${args.join(' ')}`;
    throw new Error(`${this.name}: status ${result.status} from ${what}\n${result.stdout}${result.stderr}`);
  }
}
