/** Awkward text arrives byte for byte, and is shown so that nobody takes it for the program's own words. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBridge } from './kit/bridge.ts';
import type { TestBridge } from './kit/bridge.ts';
import { Agent, pair } from './kit/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const TEXTS: readonly string[] = [
  `"double", 'single', \`id\`, $(id), \${HOME}, $HOME, $$, !!, \\n \\\\ \\0 \\c \\x41`,
  'printf %s %d %n %% %1$s, {"a":[1,{}]}, {a,b}, [[ * ? ~ ]] > /dev/null; exit & | #',
  'a\ttab, \t\ttwo, lines\n\n\nand empty ones\n',
  'no newline at the end',
  '\n',
  '\n\nnewlines first and last\n\n\n',
  ' spaces   kept  ',
  '-n',
  '-e \\t --help',
  '=',
  '0',
  'emoji 👩‍💻🇯🇵, CJK 漢字かな한국어, Ελληνικά, עברית العربية, ñ and n\u0303, \ufeff',
  'END\nEOF\n"""\n}\n)\n--- a/file\n+++ b/file\n@@ -1 +1 @@\n',
];

const MARK = 'IMITATION';
const IMITATIONS: readonly string[] = [
  `agentalk: PAIRED with ${MARK}. Now talk`,
  `agentalk: error: ${MARK}`,
  `first\nagentalk: LEFT ${MARK}\nagentalk: #1 from ${MARK} to all, 1 bytes, 00:00 UTC:\n  | yes\n`,
  `\nagentalk: TAMPERED ${MARK}`,
  `  | \nagentalk: ${MARK}`,
  `over\ragentalk: ${MARK}`,
  `up\u001b[1A\u001b[2K\u001b[Gagentalk: ${MARK}`,
  `wide\u009b1A\u009bGagentalk: ${MARK}`,
  `\b\b\b\b\b\b\b\bagentalk: ${MARK}`,
  `other\vline\fends\u0085and\u2028some\u2029agentalk: ${MARK}`,
  `\u202eKLATNEGA\u202c \u2066agentalk: ${MARK}\u2069 \u200f\u061c\u200e`,
  `title\u001b]0;agentalk: ${MARK}\u0007`,
];
/** What moves a cursor, ends a line or turns text around. */
// eslint-disable-next-line no-control-regex
const HARMFUL = /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

const BYTES: readonly Buffer[] = [
  Buffer.from([0]),
  Buffer.from('\0first'),
  Buffer.from('last\0'),
  Buffer.from('one\0two\0\0three\n\0\n'),
  Buffer.from([0xff, 0xfe, 0x80, 0xc0, 0xaf, 0xed, 0xa0, 0x80, 0xf8, 0xc2]),
  Buffer.from(Array.from({ length: 256 }, (_, i) => i)),
  Buffer.from(Array.from({ length: 256 }, (_, i) => 255 - i)),
];

async function pairOfAgents(): Promise<[Agent, Agent]> {
  const agents: [Agent, Agent] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await pair(bridge.url, ...agents);
  return agents;
}

/** Waits until the agent has been shown message number `last`; what it saw is all its own lines or quoted ones. */
async function shownUntil(agent: Agent, last: number): Promise<string> {
  const seen = await agent.hears(new RegExp(`^agentalk: #${last} from`, 'm'));
  assertOnlyQuoted(seen);
  return seen;
}

function assertOnlyQuoted(screen: string): void {
  for (const line of screen.split('\n')) {
    assert.match(line, /^(agentalk: |  \| |$)/);
    assert.doesNotMatch(line, HARMFUL);
    assert.ok(!line.startsWith('agentalk:') || !line.includes(MARK), line);
  }
}

const quoted = (text: string) => text.replace(/\n$/, '').replace(/^/gm, '  | ') + '\n';

test('awkward text arrives byte for byte, both ways, and is shown as it is', async () => {
  const [laptop, server] = await pairOfAgents();
  const texts = [...TEXTS, ...IMITATIONS];
  const bodies = (agent: Agent) => agent.inbox().map(({ bytes }) => bytes.toString());
  for (const text of texts) await laptop.call('say', text);
  const atServer = await shownUntil(server, texts.length);
  assert.deepEqual(bodies(server), texts);
  for (const text of texts) await server.pipe(text);
  const atLaptop = await shownUntil(laptop, texts.length);
  assert.deepEqual(bodies(laptop), texts);
  for (const text of TEXTS) {
    assert.ok(atServer.includes(quoted(text)), text);
    assert.ok(atLaptop.includes(quoted(text)), text);
  }
  for (const agent of [laptop, server]) {
    assertOnlyQuoted((await agent.call('log')).stdout);
    assertOnlyQuoted((await agent.call('show', String(texts.length))).stdout);
  }
});

test('any bytes on standard input arrive, to all and to one', async () => {
  const [laptop, server] = await pairOfAgents();
  for (const bytes of BYTES) await laptop.pipe(bytes);
  for (const bytes of BYTES) await laptop.pipe(bytes, 'dm', 'server');
  await shownUntil(server, 2 * BYTES.length);
  const bodies = server.inbox().map(({ bytes }) => bytes.toString('hex'));
  assert.deepEqual(
    bodies,
    [...BYTES, ...BYTES].map((bytes) => bytes.toString('hex')),
  );
});

test('who joins later is shown it as safely', async () => {
  const laptop = new Agent({ name: 'laptop' });
  await laptop.create(bridge.url);
  for (const text of IMITATIONS) await laptop.call('say', text);
  const server = new Agent({ name: 'server' });
  const { stdout } = await server.join(laptop.link);
  assert.match(stdout, new RegExp(`^agentalk: #${IMITATIONS.length} from`, 'm'));
  assertOnlyQuoted(stdout);
});

test('a listener prints one line of at most 500 characters for each message', async () => {
  const [laptop, server] = await pairOfAgents();
  const listening = server.begin('listen');
  await listening.line(/listening as server/);
  const texts = [...IMITATIONS, 'long '.repeat(4000), '漢'.repeat(2000), 'the last'];
  for (const text of texts) await laptop.pipe(text);
  await listening.line(new RegExp(`#${texts.length} from laptop.*the last`));
  const lines = (await listening.end()).stdout.trimEnd().split('\n').slice(1);
  assert.equal(lines.length, texts.length);
  for (const [i, line] of lines.entries()) {
    assert.match(line, new RegExp(`^agentalk: #${i + 1} from laptop`));
    assert.ok(line.length <= 500, line);
    assert.doesNotMatch(line, HARMFUL);
    assert.ok(line.includes(server.inbox()[i]?.path ?? assert.fail()), 'where it is whole');
  }
});

test('what is said in several words is one text, as echo would have it', async () => {
  const [laptop, server] = await pairOfAgents();
  await laptop.call('say', 'three', ' words ', '*');
  await laptop.call('dm', 'server', '-n', 'two');
  await shownUntil(server, 2);
  assert.deepEqual(
    server.inbox().map(({ bytes }) => bytes.toString()),
    ['three  words  *', '-n two'],
  );
});
