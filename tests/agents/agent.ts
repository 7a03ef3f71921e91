/**
 * A real coding-agent program in a cell, with a scripted model behind it, and, in a terminal, a person before it who says
 * yes. What the program was told and asked is counted, and written to a record: dist/agents/records/NAME.txt.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { appendFileSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ROOT } from '../lib/root.ts';
import type { Call } from './dialects.ts';
import { Model } from './model.ts';
import type { Turn } from './model.ts';
import { PROGRAMS } from './programs.ts';
import type { Program, ProgramName, ShellOptions } from './programs.ts';
import { questionOn } from './questions.ts';
import type { Question } from './questions.ts';
import { Terminal } from './terminal.ts';
import { installedAt } from './versions.ts';

const DEV = 1000;
export const RECORDS = join(ROOT, 'dist', 'agents', 'records');
const CELL = join(ROOT, 'tests', 'agents', 'cell.sh');

export interface StartOptions {
  readonly mode?: string;
  readonly prompt?: string;
  /** With a terminal and a person, or without (`codex exec`, `claude -p` and the like). */
  readonly isInteractive?: boolean;
  /** More flags, and more environment. */
  readonly flags?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** What else a person has set up: called with the program's HOME before it starts. */
  readonly prepare?: (home: string) => void;
}

export class Agent {
  readonly program: Program;
  /** What a person was asked, in order, and during which command. */
  readonly questions: { readonly question: Question; readonly command: string }[] = [];
  readonly home: string;
  /** How it calls the client: as the lines of the client say. */
  call = './agentalk';
  /** Whether the person says yes for ever where that is offered. */
  isKeeping = true;
  /** What the person has typed or the program has printed, for the record of a failure. */
  output = '';
  readonly #record: string;
  #model!: Model;
  #child: ChildProcess | undefined;
  #terminal: Terminal | undefined;
  #command = '';
  #turn!: Turn;
  #isWatching = true;

  private constructor(
    readonly name: ProgramName,
    label: string,
  ) {
    this.program = PROGRAMS[name];
    this.home = mkdtempSync(join(tmpdir(), `agentalk-${name}-`));
    mkdirSync(RECORDS, { recursive: true });
    this.#record = join(RECORDS, `${label}.txt`);
    writeFileSync(this.#record, '');
    agents.add(this);
  }

  /** Starts a program; it is ready when it has asked the model for the first time. @param label of its record */
  static async start(name: ProgramName, label: string, options: StartOptions = {}): Promise<Agent> {
    const agent = new Agent(name, label);
    try {
      await agent.#start(options);
    } catch (error) {
      agent.note(`*** ${String(error)}\n${agent.output || (agent.#terminal?.screen() ?? '')}`);
      agent.stop();
      throw error;
    }
    return agent;
  }

  get project(): string {
    return join(this.home, 'project');
  }

  /** What the user, or the program, told the model at the start. */
  get turn(): Turn {
    return this.#turn;
  }

  get besides() {
    return this.#model.besides;
  }

  /** Runs a command by the program's shell tool, and goes on with it until it has ended. */
  async run(command: string, options: ShellOptions = {}): Promise<string> {
    this.#command = command;
    let turn = await this.use(this.program.shell(command, options), options.seconds);
    let all = turn.results.join('\n');
    for (let call = this.program.goOn?.(all); call !== undefined;) {
      turn = await this.use(call, 180);
      const more = turn.results.join('\n');
      all += `\n${more}`;
      call = this.program.goOn?.(more);
    }
    this.#command = '';
    return all;
  }

  /** Uses any tool once. */
  async use(call: Call, seconds = 120): Promise<Turn> {
    this.note(`=== ${call.name} ${call.input ?? JSON.stringify(call.args)}`);
    const begun = Date.now();
    this.#model.act({ calls: [call] });
    this.#turn = await this.#model.listen((seconds + 120) * 1000);
    this.note(`--- after ${Date.now() - begun} ms\n${this.#turn.results.join('\n')}\n${this.#turn.user}`);
    return this.#turn;
  }

  /** Ends the model's turn with some words. */
  finish(text = 'Done.'): void {
    this.note(`=== says ${text}`);
    this.#model.act({ text });
  }

  /** After `finish`: the program begins a turn by itself, because something woke it. */
  async woken(seconds: number): Promise<Turn> {
    this.#turn = await this.#model.listen(seconds * 1000);
    this.note(`--- woken\n${this.#turn.results.join('\n')}\n${this.#turn.user}`);
    return this.#turn;
  }

  screen(): string {
    return this.#terminal?.screen() ?? '';
  }

  /** Keys as tmux names them, at the pace of a hand. */
  async press(...keys: readonly string[]): Promise<void> {
    for (const key of keys) {
      this.#terminal?.press(key);
      await pause(150);
    }
  }

  note(text: string): void {
    appendFileSync(this.#record, `${new Date().toISOString().slice(11, 19)} ${text}\n`);
  }

  stop(): void {
    this.#isWatching = false;
    agents.delete(this);
    this.#model?.close();
    this.#terminal?.close();
    this.#child?.kill('SIGKILL');
    // What it had started ends with its process namespace; its files go then.
    rmSync(this.home, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }

  async #start(options: StartOptions): Promise<void> {
    const { mode = 'default', prompt = 'Do as the script says.', isInteractive = false, flags = [] } = options;
    const { program } = this;
    this.#model = await Model.start(program.shellTool);
    mkdirSync(this.project);
    program.configure(this.home, this.#model.url);
    spawnSync('git', ['init', '-q', this.project]);
    options.prepare?.(this.home);
    giveTo(this.home);
    const all = [...(program.modes[mode] ?? fail(`${program.title} has no mode ${mode}`)), ...flags];
    const words = isInteractive ? program.interactive(prompt, all) : program.headless(prompt, all);
    const values = Object.entries({ ...program.environment(this.#model.url), ...options.environment });
    const assignments = values.map(([key, value]) => `${key}=${value}`);
    const { folder, executable } = installedAt(this.name);
    const command = [CELL, process.execPath, folder, this.home, ...assignments, '--', executable, ...words];
    this.note(`*** ${program.title} ${mode}: ${words.join(' ')}`);
    if (isInteractive) {
      this.#terminal = new Terminal(command);
      void this.#watch();
    } else {
      // In a session without a terminal: one that reached for ours would stop us all.
      this.#child = spawn(command[0]!, command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
      this.#child.stdout?.on('data', (chunk: Buffer) => (this.output += chunk.toString()));
      this.#child.stderr?.on('data', (chunk: Buffer) => (this.output += chunk.toString()));
      this.#child.on('exit', (status, signal) => {
        this.note(`*** it has ended: ${signal ?? status}\n${this.output.slice(-3000)}`);
        this.#model.end(`${program.title} has ended: ${signal ?? status}`);
      });
    }
    this.#turn = await this.#model.listen(180_000); // a program of 100 MB on a busy machine
    this.note(`--- it is told\n${this.#turn.user}`);
  }

  /** The person: looks at the screen, and says yes. */
  async #watch(): Promise<void> {
    let answered = '';
    for (let since = 0; this.#isWatching; await pause(250)) {
      const question = questionOn(this.screen(), this.isKeeping);
      if (question === undefined) {
        answered = '';
        continue;
      }
      if (question.id === answered && Date.now() - since < 5000) continue;
      if (question.isCounted) this.questions.push({ question, command: this.#command });
      this.note(`??? ${question.text}\n    answered: ${question.answer}`);
      await this.press(...question.keys);
      answered = question.id;
      since = Date.now();
    }
  }
}

const agents = new Set<Agent>();
process.on('exit', () => agents.forEach((agent) => agent.stop()));

function fail(message: string): never {
  throw new Error(message);
}

/** The cell's user owns its HOME. */
function giveTo(folder: string): void {
  chownSync(folder, DEV, DEV);
  for (const entry of readdirSync(folder, { recursive: true, encoding: 'utf8' }))
    chownSync(join(folder, entry), DEV, DEV);
}
