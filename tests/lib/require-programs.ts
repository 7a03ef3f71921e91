/** What a test needs from the machine. Where it isn't there the test is skipped, and the run says so at its end. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

function isThere(command: string): boolean {
  const folders = command.includes('/') ? [''] : (process.env['PATH'] ?? '').split(delimiter);
  return folders.some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * For a test's `skip`: false where all of these commands are installed, else the reason.
 *
 * test('a session in zsh', { skip: need('zsh') }, () => …)
 */
export function requirePrograms(...commands: readonly string[]): string | false {
  const missing = commands.filter((command) => !isThere(command));
  return missing.length > 0 && `needs ${missing.join(' and ')}, not installed here`;
}
