/** A built bridge as a separate process, on a free port. It ends by stop(), or after the last test of its file. */
import { spawn } from 'node:child_process';
import type { ChildProcess, ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { atEnd } from './at-end.ts';
import { ROOT } from './root.ts';

export const BRIDGE = join(ROOT, 'dist', 'bridge.js');

export interface TestBridge {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** All that it has written so far, to both streams. */
  logs(): string;
  kill(signal: NodeJS.Signals): void;
  /** Its exit status, or the signal that ended it, once it has ended and all that it wrote is here. */
  readonly ended: Promise<number | NodeJS.Signals>;
  /** Ends it at once, waiting polls or not. */
  stop(): Promise<void>;
}

const running = new Set<ChildProcess>();
atEnd(() => running.forEach((child) => child.kill('SIGKILL')));

/**
 * The environment of a child: ours without what would set the bridge up differently.
 *
 * @param more what a test wants to add
 */
const environment = (more: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(AGENTALK_|npm_|NODE_TEST)/.test(name))),
  ...more,
});

/** Runs bridge.js until it ends by itself: for --help, refused flags and the like. */
export async function runBridge(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, [BRIDGE, ...args], { env: environment(env) });
  running.add(child);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const [status] = (await once(child, 'close')) as [number | null];
  running.delete(child);
  return { status, stdout, stderr };
}

interface Options {
  readonly env?: NodeJS.ProcessEnv;
  readonly file?: string;
  readonly inside?: readonly string[];
  readonly fd?: number;
}

/**
 * Starts a bridge and waits until it is ready. Port 0 and no drain window, unless `args` say so.
 *
 * @param args further flags; of a flag that comes twice the last one counts
 * @param options `file` is another bridge.js than dist's, `inside` a program and its arguments that end by running what
 *   comes after them, `fd` is to be its descriptor 3
 */
export async function startBridge(args: readonly string[] = [], options: Options = {}): Promise<TestBridge> {
  const flags = ['--port', '0', '--drain-delay', '0', ...args];
  const [program = '', ...rest] = [...(options.inside ?? []), process.execPath, options.file ?? BRIDGE, ...flags];
  const stdio = ['pipe' as const, 'pipe' as const, 'pipe' as const, ...(options.fd === undefined ? [] : [options.fd])];
  const child = spawn(program, rest, { env: environment(options.env ?? {}), stdio }) as ChildProcessWithoutNullStreams;
  running.add(child);
  let written = '';
  const ended = new Promise<number | NodeJS.Signals>((resolve) => {
    child.once('close', (status: number | null, signal: NodeJS.Signals | null) => {
      running.delete(child);
      resolve(status ?? signal ?? 'SIGKILL');
    });
  });
  const url = await new Promise<string>((resolve, reject) => {
    const take = (chunk: Buffer) => {
      written += chunk.toString();
      const [, found] = /^listening on (\S+)$/m.exec(written) ?? [];
      if (found !== undefined) resolve(found);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    void ended.then((how) => reject(new Error(`the bridge ended with ${how} before it was ready: ${written}`)));
  });
  return {
    url,
    port: Number(new URL(url).port),
    pid: child.pid ?? 0,
    logs: () => written,
    kill: (signal) => void child.kill(signal),
    ended,
    async stop() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
