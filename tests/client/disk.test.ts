/** A full disk: each call says so and fails, nothing is left half-done, and with room again all goes on. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { requirePrograms } from '../lib/require-programs.ts';
import { Agent, BASH, expectSuccess, installClient, makeFolder } from '../lib/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const canMount = () => spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0;
const skip = requirePrograms('unshare', 'mount', 'umount', 'df') || (!canMount() && 'needs a user who may mount');

/**
 * What bash code prints, run in a mount namespace of its own, as lines. There `disk OPTIONS` puts a new small disk under
 * $AGENTALK_HOME, `client` is the client, and `outcome COMMAND …` prints a command's status and errors in one line.
 */
async function onSmallDisk(agent: Agent, code: string, ...args: readonly string[]): Promise<string[]> {
  const functions = `
    client=$1 && shift
    disk() { umount "$AGENTALK_HOME" 2>/dev/null; mount -t tmpfs -o "$1" tmpfs "$AGENTALK_HOME"; }
    client() { "$BASH" "$client" "$@"; }
    outcome() {
      local errors status
      errors=$("$@" 2>&1 >/dev/null)
      status=$?
      printf '%s %s\\n' "$status" "\${errors//$'\\n'/ ⏎ }"
    }`;
  const client = join(makeFolder(), 'agentalk');
  installClient(client);
  const running = agent.start('unshare', ['-m', BASH, '-c', functions + code, '-', client, ...args]);
  return expectSuccess(await running.ended)
    .stdout.trimEnd()
    .split('\n');
}

const FULL = /^1 agentalk: error: (?=.*disk (is )?full)[^⏎]+ ⏎ agentalk: hint: [^⏎]+$/;
const traces = (name: string) => `traces: agentalk-session-${name} agentalk-session-${name}.env`;

test('create makes a whole session or none, however little room there is', { skip }, async () => {
  const code = `
    for room in 4 40 80 120 400 500 560 600 700 1400; do
      disk size="$room"k
      outcome client create "$1" --name laptop
      echo traces: $(ls "$AGENTALK_HOME")
    done`;
  const lines = await onSmallDisk(new Agent(), code, bridge.url);
  for (let i = 0; i < lines.length; i += 2) {
    const isDone = lines[i] === '0 ';
    if (!isDone) assert.match(lines[i] ?? '', FULL);
    assert.equal(lines[i + 1], isDone ? traces('laptop') : 'traces:');
  }
  assert.equal(lines[0]?.[0], '1');
  assert.equal(lines.at(-2), '0 ');
});

test('create makes a whole session or none, however few files there may be', { skip }, async () => {
  const code = `
    for ((files = 1; files < 40; files += 2)); do
      disk size=4m,nr_inodes="$files"
      outcome client create "$1" --name laptop
      echo traces: $(ls "$AGENTALK_HOME")
    done`;
  const lines = await onSmallDisk(new Agent(), code, bridge.url);
  for (let i = 0; i < lines.length; i += 2) {
    const isDone = lines[i] === '0 ';
    if (!isDone) assert.match(lines[i] ?? '', FULL);
    assert.equal(lines[i + 1], isDone ? traces('laptop') : 'traces:');
  }
  assert.equal(lines[0]?.[0], '1');
  assert.equal(lines.at(-2), '0 ');
});

test(
  'a session says that its disk is full, keeps what it says it keeps, and goes on when there is room',
  { skip },
  async (t) => {
    const server = new Agent({ name: 'server' });
    await server.create(bridge.url);
    await server.call('say', 'said before');
    const listening = server.begin('listen');
    t.after(() => listening.end());
    const code = `
    disk size=4m
    client join "$1" --name laptop >/dev/null && . "$AGENTALK_HOME/agentalk-session-laptop.env"
    leave() {
      local i free session=$AGENTALK_HOME/agentalk-session-laptop
      rm -f "$AGENTALK_HOME/filler"
      # A call removes what it no longer needs in the background.
      for ((i = 0; i < 40; i++)); do
        [ -n "$(ls "$session/tmp")" ] || break
        sleep 0.05
      done
      free=$(df -Pk "$AGENTALK_HOME" | { read -r && read -r _ _ _ free _ && echo "$free"; })
      dd if=/dev/zero of="$AGENTALK_HOME/filler" bs=1024 count=$((free - $1)) 2>/dev/null
    }
    all() { local words; words=$("$@" 2>&1); printf '%s %s\\n' "$?" "\${words//$'\\n'/ ⏎ }"; }
    for room in 0 4 20 80 120; do
      leave "$room"
      all agentalk_say "with $room"
      all agentalk_dm server "direct with $room"
      outcome agentalk_wait 0
    done
    rm "$AGENTALK_HOME/filler"
    outcome agentalk_say 'with room'
    outcome agentalk_wait 0
    cat "$AGENTALK_HOME/agentalk-session-laptop/inbox/"*`;
    const lines = await onSmallDisk(new Agent(), code, server.link);
    assert.deepEqual(lines.slice(-3), ['0 ', '0 ', 'said before']);
    const rooms = [0, 4, 20, 80, 120];
    const said: string[] = [];
    for (const [i, line] of lines.slice(0, -3).entries()) {
      const isKept = /^1 agentalk: not sent yet: .*disk is full.*It is kept/.test(line);
      if (!isKept && !line.startsWith('0 ')) assert.match(line, FULL);
      const words = ['with', 'direct with'][i % 3];
      if (words !== undefined && (isKept || line.startsWith('0 '))) said.push(`${words} ${rooms[Math.floor(i / 3)]}`);
    }
    assert.match(lines[0] ?? '', FULL); // with no room at all
    await listening.line(/with room/);
    await listening.end();
    const texts = server.inbox().map(({ bytes }) => bytes.toString());
    const isTo = (isDirect: boolean) => (text: string) => text.startsWith('direct') === isDirect;
    assert.deepEqual(texts.filter(isTo(false)), [...said.filter(isTo(false)), 'with room']);
    assert.deepEqual(texts.filter(isTo(true)), said.filter(isTo(true)));
  },
);
