/** A terminal with a person before it: tmux, on a socket of its own. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class Terminal {
  readonly #folder = mkdtempSync(join(tmpdir(), 'agentalk-terminal-'));
  readonly #socket = join(this.#folder, 'socket');

  /** @param command words that are run in it; it stays open when they have ended, so that the last screen can be read */
  constructor(command: readonly string[]) {
    const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    this.#tmux('new-session', '-d', '-x', '160', '-y', '50', `${quoted}; echo "ended with status $?"; sleep 3600`);
  }

  /** Lines without spaces at their ends, and no empty ones. */
  screen(): string {
    const text = this.#tmux('capture-pane', '-p');
    return text
      .split('\n')
      .map((line) => line.trimEnd())
      .filter(Boolean)
      .join('\n');
  }

  /** A key as tmux names it: `Enter`, `Down`, or what it types. */
  press(key: string): void {
    this.#tmux('send-keys', key);
  }

  close(): void {
    spawnSync('tmux', ['-S', this.#socket, 'kill-server'], { stdio: 'ignore' });
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #tmux(...args: readonly string[]): string {
    return execFileSync('tmux', ['-S', this.#socket, '-f', '/dev/null', ...args], { encoding: 'utf8' });
  }
}
