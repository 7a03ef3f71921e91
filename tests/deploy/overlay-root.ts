/** A copy of this machine's files, which is gone with its process: what is written there is in memory. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { requirePrograms } from '../lib/require-programs.ts';
import { makeFolder } from '../lib/shell.ts';

const OVERLAY = `set -e
  mount -t tmpfs tmpfs "$1"
  mkdir "$1/upper" "$1/work" "$1/root"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
  shift
  exec chroot "$0" "$@"`;
/** Runs a script there, as root of it. */
export const inCopy = (script: string) => {
  const folder = makeFolder();
  const args = ['-m', 'sh', '-c', OVERLAY, join(folder, 'root'), folder, 'sh', '-c', script];
  const { status, stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8' });
  return { status, stdout, stderr };
};
/** For a test's `skip`. */
export const noCopy =
  requirePrograms('unshare', 'mount', 'chroot', 'useradd', 'systemd-analyze') ||
  (inCopy('test -f /etc/debian_version').status !== 0 && 'needs Debian, and a user who may mount an overlay');
