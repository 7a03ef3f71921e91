/** What must not outlast a test file: processes and folders. */
import { after } from 'node:test';

/**
 * Runs an action after the last test of this file, and when this process exits. Without the first, a child that is left
 * keeps the process alive until the time limit, such as after a failed assertion. Call it while a module is loaded: within
 * a test it would belong to that test.
 */
export function atEnd(action: () => void): void {
  process.on('exit', action);
  if (process.env['NODE_TEST_CONTEXT'] !== undefined) after(action); // a script may use these modules, too
}
