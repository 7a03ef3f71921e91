/** The invite on its way from one agent to the other: as programs, mail and people change it, and as a file. */
import assert from 'node:assert/strict';
import { readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Agent, BASH, LINK, expectSuccess, expectFailure, pair } from '../lib/shell.ts';

let bridge: TestBridge;
const laptop = new Agent({ name: 'laptop' });
let link = '';
before(async () => {
  bridge = await startBridge();
  await laptop.create(bridge.url);
  link = laptop.link;
});
after(() => bridge.stop());

const SENTENCE = 'Talk to my other agent — curl this URL to start: ';
const NO_BREAK_SPACE = '\u00a0';

/** Breaks a text into lines of so many characters. */
const wrapped = (text: string, width: number, end: string) =>
  Array.from({ length: Math.ceil(text.length / width) }, (_, i) => text.slice(i * width, (i + 1) * width)).join(end);

/** What somebody may paste, of the link. Each has the whole of it. */
const PASTED: Readonly<Record<string, (link: string) => string>> = {
  'as it is': (link) => link,
  'the whole sentence': (link) => SENTENCE + link,
  'the sentence twice, with what invite prints besides': (link) =>
    `agentalk: give your user this line:\n\n${SENTENCE}${link}\n\nagentalk: A person can join too, in a browser: ${link}\n`,
  'with a byte order mark and CRLF': (link) => `\ufeff${SENTENCE}${link}\r\n`,
  'wrapped at 76': (link) => `${wrapped(SENTENCE + link, 76, '\n')}\n`,
  'wrapped at 40 with CRLF and indented': (link) => wrapped(link, 40, '\r\n    '),
  'in angle brackets': (link) => `Join <${link}>, please.`,
  'in round brackets with a full stop': (link) => `(see ${link}).`,
  'with a full stop': (link) => `${link}.`,
  'with words behind it': (link) => `${link} and bring a cafe`,
  'as a link of Markdown': (link) => `[agentalk](${link})`,
  'in backquotes': (link) => `\`${link}\``,
  'in single quotes': (link) => `'${link}'`,
  'in double quotes': (link) => `"${link}",`,
  'in typographic quotes': (link) => `“${link}”`,
  'with no-break spaces around it': (link) => NO_BREAK_SPACE + link + NO_BREAK_SPACE,
  'with %23 for the #': (link) => link.replace('#', '%23'),
  'with more parameters': (link) => `${link}&z=later&y=more`,
  'without the sum of the client': (link) => link.replace(/&c=.*/, ''),
  'wrapped and quoted in mail': (link) => `> ${wrapped(SENTENCE + link, 70, '\n> ')}\n`,
  'quoted in mail': (link) => `> ${SENTENCE}\n> ${link}\n`,
};

describe('a link that was pasted', { concurrency: 3 }, () => {
  for (const [what, paste] of Object.entries(PASTED))
    test(`${what} is read whole: as an argument, on standard input, from a file`, async () => {
      const agent = new Agent({ name: 'x' });
      // The channel of another key: so far a client gets only with the whole link, and no request is made.
      const wrong = link.replace(/(?<=\/c\/.{31})./, (digit) => (digit === '0' ? '1' : '0'));
      const file = join(agent.home, 'invite.txt');
      writeFileSync(file, paste(wrong));
      for (const [source, input] of [
        [paste(wrong), ''],
        ['-', paste(wrong)],
        ['invite.txt', ''],
        [file, ''],
      ] as const)
        expectFailure(
          await agent.run(['join', source, '--name', 'x'], { input }),
          /link and key don't belong together/,
        );
    });

  test('as its sentence joins', async () => {
    const agent = new Agent({ name: 'pasted' });
    const { stdout } = expectSuccess(
      await agent.run(['join', '-', '--name', 'pasted'], { input: `\ufeff${SENTENCE}\r\n${link}.\r\n` }),
    );
    assert.ok(stdout.includes(`joined as pasted on ${bridge.url}.`), stdout);
    assert.doesNotMatch(stdout, /warning/, 'the sum of the client was read, too');
  });
});

describe('--invite-file', () => {
  const create = (agent: Agent, file: string, umask = '000') =>
    agent.start(BASH, [
      '-c',
      `umask ${umask}; "$@"`,
      BASH,
      BASH,
      agent.client,
      ...['create', bridge.url, '--name', agent.name, '--invite-file', file],
    ]).ended;

  test('has the line for the other agent, for its owner alone, and nothing of it is printed', async () => {
    const agent = new Agent({ name: 'opener' });
    const { stdout, stderr } = expectSuccess(await create(agent, 'invite.txt'));
    const path = join(agent.home, 'invite.txt');
    const line = readFileSync(path, 'utf8');
    assert.equal(line, `${SENTENCE}${LINK.exec(line)?.[0]}\n`);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const key = /#k=(\w{64})/.exec(line)?.[1] ?? assert.fail(line);
    assert.ok(!(stdout + stderr).includes(key));
    const other = new Agent({ name: 'joiner' });
    expectSuccess(await other.run(['join', path, '--name', 'joiner']));
  });

  test('overwrites nothing, follows no symlink, and opens nothing where it cannot be written', async () => {
    const agent = new Agent({ name: 'careful' });
    writeFileSync(join(agent.home, 'mine'), 'mine');
    symlinkSync(join(agent.home, 'target'), join(agent.home, 'symlink'));
    symlinkSync(join(agent.home, 'mine'), join(agent.home, 'symlink to mine'));
    for (const [i, file] of ['mine', 'symlink', 'symlink to mine', 'nowhere/x', '.'].entries()) {
      agent.name = `careful${i}`;
      const result = await create(agent, file);
      expectFailure(result, /--invite-file.*nothing was opened/);
      assert.deepEqual(agent.traces(), []);
    }
    assert.equal(readFileSync(join(agent.home, 'mine'), 'utf8'), 'mine');
    assert.throws(() => statSync(join(agent.home, 'target')));
  });
});

test('say --wait and dm --wait send, then wait: one call has the answer', async () => {
  const [ada, bob] = [new Agent({ name: 'ada' }), new Agent({ name: 'bob' })];
  await pair(bridge.url, ada, bob);
  for (const words of [
    ['say', '--wait', '20', 'ask', 'all'],
    ['dm', 'bob', '--wait', '20', 'ask bob'],
    ['say', 'ask again', '--wait', '20'],
  ]) {
    const asking = ada.begin(...(words as [string, ...string[]]));
    await bob.waitForOutput(/\| ask/);
    await bob.call('say', 'the answer');
    const { status, stdout } = await asking.ended;
    assert.equal(status, 0);
    assert.match(stdout, /^agentalk: sent[^]*\| the answer[^]*next: answer with/m);
  }
  assert.match(
    (await ada.call('dm', 'bob', '--wait', '0', 'no time')).stdout,
    /sent[^]*no news from bob in 0 s\. Next/,
  );
  assert.deepEqual(
    bob.inbox().map(({ bytes }) => bytes.toString()),
    ['ask all', 'ask bob', 'ask again'],
  );
});
