/** The other end of a talk, where a test needs no second program: the client at a plain shell, outside any cell. */
import { execFile } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../lib/root.ts';

const peers = new Set<Peer>();
process.on('exit', () => peers.forEach((peer) => peer.stop()));

export class Peer {
  readonly folder = mkdtempSync(join(tmpdir(), 'agentalk-peer-'));
  /** All that it was shown. */
  shown = '';

  constructor() {
    peers.add(this);
    for (const file of ['agentalk', 'agentalk.sh']) copyFileSync(join(ROOT, 'dist', file), join(this.folder, file));
    chmodSync(join(this.folder, 'agentalk'), 0o755);
  }

  /** Runs `./agentalk …`. @returns what it printed, to both streams */
  run(...args: readonly string[]): Promise<string> {
    const env = { PATH: process.env['PATH'], HOME: this.folder, AGENTALK_HOME: this.folder };
    return new Promise((resolve) => {
      const child = execFile('./agentalk', args, { cwd: this.folder, env }, (_, stdout, stderr) => {
        this.shown += stdout;
        resolve(stdout + stderr);
      });
      child.stdin?.end();
    });
  }

  /** Waits until it was shown this, looked for in what came since the last call. */
  async waitForOutput(pattern: RegExp, seconds = 60): Promise<string> {
    const end = Date.now() + seconds * 1000;
    for (let all = ''; ;) {
      all += await this.run('wait', '10');
      if (pattern.test(all)) return all;
      if (!peers.has(this)) throw new Error('the peer was stopped');
      if (Date.now() > end) throw new Error(`the peer was not shown ${pattern} within ${seconds} s, but:\n${all}`);
    }
  }

  stop(): void {
    peers.delete(this);
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}
