/** Wrong inputs and trouble: what failed, what to do, a status that shows it, and nothing half-done. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { FaultProxy } from '../lib/fault-proxy.ts';
import {
  Agent,
  BASH,
  POSIX_TOOLS,
  expectSuccess,
  expectFailure,
  pair,
  pathOf,
  polling,
  toolFolder,
  until,
} from '../lib/shell.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

/** Folders that can't be written are mounts of their own. */
const skip =
  spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status !== 0 && 'needs a user who may mount';
const WRONG_KEY = '0123456789abcdef'.repeat(4);

async function link(): Promise<string> {
  const laptop = new Agent();
  await laptop.create(bridge.url);
  return laptop.link;
}

/** A command line that must fail and leave nothing. */
async function refused(args: readonly string[], words: RegExp, agent = new Agent(), options = {}): Promise<void> {
  expectFailure(await agent.run(args, options), words);
  assert.deepEqual(agent.traces(), []);
}

test('a taken name gets a suffix, and the output says so', async () => {
  const laptop = new Agent({ name: 'laptop' });
  await laptop.create(bridge.url);
  const other = new Agent({ name: 'laptop' });
  const { stdout } = await other.join(laptop.link);
  assert.match(stdout, /name laptop was taken: you are laptop-2/);
  const third = new Agent({ name: 'laptop' });
  await third.join(laptop.link);
  assert.deepEqual([other.name, third.name], ['laptop-2', 'laptop-3']);
  const waiting = laptop.begin('wait');
  await waiting.line(/JOINED laptop-3/);
  await waiting.end();
});

test('a name that another session of this folder has gets a suffix too', async () => {
  const first = new Agent({ name: 'laptop' });
  await first.create(bridge.url);
  const second = new Agent({ name: 'laptop', home: first.home });
  const { stdout } = await second.join(first.link);
  assert.match(stdout, /name laptop was taken: you are laptop-2/);
  const { stdout: sessions } = await first.run(['sessions']);
  assert.match(sessions, /^agentalk: laptop, made .*\nagentalk: laptop-2, made .*\n/);
});

test('the suffix fits into the longest name', async () => {
  const name = 'a'.repeat(32);
  const first = new Agent({ name });
  await first.create(bridge.url);
  const second = new Agent({ name });
  await second.join(first.link);
  assert.equal(second.name, `${'a'.repeat(29)}-2`);
});

test('a name that is none', async () => {
  for (const name of ['Laptop', '-x', '.x', 'a b', 'a..b', '../x', 'a/b', 'ü', 'a'.repeat(33), 'a\nb', '$(id)']) {
    await refused(['create', bridge.url, '--name', name], /name/);
  }
  await refused(['create', bridge.url, '--name'], /name/);
});

test('a link whose channel has ended opens it again, and says that nobody is there', async () => {
  const laptop = new Agent({ name: 'laptop' });
  await laptop.create(bridge.url);
  await laptop.call('leave');
  const server = new Agent({ name: 'server' });
  const { stdout } = await server.join(laptop.link);
  assert.match(stdout, /nobody was in the channel any more: it is open again/);
  const back = new Agent({ name: 'laptop' });
  await back.join(laptop.link);
  await Promise.all([server.waitForOutput(/PAIRED with laptop/), back.waitForOutput(/PAIRED with server/)]);
});

test('a link that is wrong, cut off or without its key', async () => {
  const whole = await link();
  const [address = '', key = ''] = whole.replace(/&.*$/, '').split('#k=');
  const flipped = key.replace(/.$/, (digit) => (digit === '0' ? '1' : '0'));
  await refused(['join', `${address}#k=${flipped}`], /link/);
  await refused(['join', `${address}#k=${WRONG_KEY}`], /link/);
  await refused(['join', `${address}#k=${key.slice(0, 63)}`], /no whole link.*64/);
  await refused(['join', `${address}#k=${key.toUpperCase()}`], /no whole link.*64/);
  await refused(['join', `${address}#k=`], /no whole link.*64/);
  await refused(['join', address], /no whole link/);
  await refused(['join', `${address}#`], /no whole link/);
  await refused(['join', bridge.url], /no whole link/);
  await refused(['join', address.replace(/.$/, (digit) => (digit === '0' ? '1' : '0')) + `#k=${key}`], /link/);
  await refused(['join', ''], /which link/);
  await refused(['join'], /which link/);
  await refused(['join', '-'], /no link came/, new Agent(), { input: '' });
  await refused(['join', '-'], /no whole link/, new Agent(), { input: `${address}\n` });
  await refused(['join', '/nonexistent'], /link/);
  await refused(['create', whole], /link to join.*join/);
});

test('no word of what was typed or came from outside is repeated with its tricks', async () => {
  await refused(['join', `http://x\u001b[2J\n$(id)/c/${'0'.repeat(32)}#k=${WRONG_KEY}`], /./);
  await refused(['create', 'http://ex ample'], /URL/);
  await refused(['create', '$(touch here)'], /URL/);
  await refused(['create'], /which bridge/);
});

test('commands and options that there are not', async () => {
  await refused(['destroy'], /no command/);
  await refused(['create', bridge.url, '--nmae', 'x'], /no option --nmae/);
  const { stdout } = expectSuccess(await new Agent().run(['help']));
  assert.match(stdout, /create.*\n.*join/);
});

test('a bridge that is not there', async () => {
  const gone = await startBridge();
  await gone.stop();
  const [address = '', key = ''] = (await link()).split('#');
  await Promise.all([
    refused(['create', gone.url], /takes no connection: .*network/),
    refused(['create', 'http://bridge.invalid'], /name of \S+ can't be found: .*network/),
    refused(['join', `${address.replace(bridge.url, gone.url)}#${key}`], /takes no connection/),
  ]);
});

test('something that is no bridge', async () => {
  // The base path of its URL says what it answers.
  const server = createServer(({ url = '' }, response) => {
    const [, status = '404', type = 'html'] = url.split('/');
    response
      .writeHead(Number(status), { 'Content-Type': `text/${type}` })
      .end('<html>\u001b[2J error x `id` $(id)\n</html>');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const responses = [200, 302, 403, 404, 502].flatMap((status) => [`${status}/html`, `${status}/plain`]);
  await Promise.all(responses.map((path) => refused(['create', `${url}/${path}`], /bridge|answer/)));
  server.close();
});

test('a bridge that takes no more says so', async (t) => {
  const small = await startBridge(['--max-participants', '1']);
  t.after(() => small.stop());
  const laptop = new Agent();
  await laptop.create(small.url);
  await refused(['join', laptop.link, '--name', 'server'], /as many participants as the bridge allows/);
});

test('a join that was killed leaves nothing in the way of the next one', async (t) => {
  const laptop = new Agent({ name: 'laptop' });
  const own = await startBridge();
  t.after(() => own.stop());
  const proxy = await FaultProxy.start(own.url);
  t.after(() => proxy.stop());
  await laptop.create(own.url);
  const link = laptop.link.replace(own.url, proxy.urlFor('server'));
  const participants = async () => {
    const metrics = await (await fetch(`${own.url}/metrics`)).text();
    return Number(/^agentalk_participants (\d+)$/m.exec(metrics)?.[1]);
  };
  const server = new Agent({ name: 'server' });
  const moments: Readonly<Record<string, () => boolean | Promise<boolean>>> = {
    'its folder is there': () => server.traces().length > 0,
    'it asks the bridge': () => proxy.asked.has('server join'),
    'the bridge knows it': async () => (await participants()) === 2,
  };
  proxy.plan = ({ kind }) => (kind === 'join' ? { what: 'delay', ms: 1500 } : { what: 'pass' });
  for (const [moment, isThere] of Object.entries(moments)) {
    const joining = server.start(BASH, [server.client, 'join', link, '--name', 'server']);
    await until(moment, isThere);
    await joining.end('SIGKILL');
    assert.deepEqual(server.traces(), ['agentalk-session-server'], moment);
    assert.doesNotMatch((await server.run(['sessions'])).stdout, /^agentalk: server[, ]/m);
  }
  proxy.plan = () => ({ what: 'pass' });
  const { stdout } = await server.join(link);
  assert.match(stdout, /joined as server on/);
  assert.deepEqual(server.traces().sort(), ['agentalk-session-server', 'agentalk-session-server.env']);
  await Promise.all([laptop.waitForOutput(/PAIRED with server/), server.waitForOutput(/PAIRED with laptop/)]);
  assert.equal(await participants(), 2);
});

test('a session that is being made is no leftover', async (t) => {
  const laptop = new Agent({ name: 'laptop' });
  await laptop.create(bridge.url);
  const proxy = await FaultProxy.start(bridge.url);
  t.after(() => proxy.stop());
  proxy.plan = ({ kind }) => (kind === 'join' ? { what: 'delay', ms: 1000 } : { what: 'pass' });
  const server = new Agent({ name: 'server' });
  const first = server.start(BASH, [
    server.client,
    'join',
    laptop.link.replace(bridge.url, proxy.urlFor('server')),
    '--name',
    'server',
  ]);
  await until('it asks the bridge', () => proxy.asked.has('server join'));
  const second = await server.join(laptop.link);
  assert.match(second.stdout, /name server was taken: you are server-2/);
  assert.match(expectSuccess(await first.ended).stdout, /joined as server on/);
});

test('a tool that is missing is named', async () => {
  for (const missing of ['curl', 'openssl', 'od', 'split', 'wc']) {
    const tools = toolFolder(['bash', 'curl', 'openssl', ...POSIX_TOOLS].filter((tool) => tool !== missing));
    await refused(['create', bridge.url], new RegExp(`\\b${missing}\\b.*install`), new Agent(), {
      env: { PATH: tools },
    });
  }
});

/** Where the output says that the session is. */
const placeOf = (stdout: string) =>
  /^agentalk: .* The session is in (.*)\/agentalk-session-[^/]*$/m.exec(stdout)?.[1] ?? assert.fail(stdout);

test(
  'sessions are in the first folder that can be written: AGENTALK_HOME, /tmp, TMPDIR, the working folder',
  { skip },
  async () => {
    const place = realpathSync(mkdtempSync('/var/tmp/agentalk-test-'));
    try {
      for (const name of ['home', 'tmpdir', 'work']) mkdirSync(join(place, name));
      const agent = new Agent({ name: 'laptop', home: join(place, 'work') });
      const env = { AGENTALK_HOME: join(place, 'home'), TMPDIR: join(place, 'tmpdir') };
      const create = ['create', bridge.url, '--name', 'laptop'];
      assert.equal(placeOf(expectSuccess(await agent.run(create, { env })).stdout), env.AGENTALK_HOME);
      rmSync(env.AGENTALK_HOME, { recursive: true });
      writeFileSync(env.AGENTALK_HOME, 'no folder');
      const code = `closed=$1 && shift
      mount -t tmpfs -o ro tmpfs /tmp; for folder in $closed; do mount -o bind,ro "$folder" "$folder"; done
      "$BASH" "$0" "$@" 2>&1 && "$BASH" "$0" say 'still here'`;
      const without = (...closed: string[]) =>
        agent.start('unshare', ['-m', BASH, '-c', code, agent.client, closed.join(' '), ...create], { env }).ended;
      for (const [closed, expected] of [
        [[], env.TMPDIR],
        [[env.TMPDIR], join(agent.home, '.agentalk')],
      ] as const) {
        const { stdout } = expectSuccess(await without(...closed));
        assert.equal(placeOf(stdout), expected);
        assert.match(stdout, /^agentalk: sent/m);
        if (closed.length === 0) rmSync(join(env.TMPDIR, 'agentalk-session-laptop'), { recursive: true });
      }
      assert.equal(readFileSync(join(agent.home, '.agentalk', '.gitignore'), 'utf8'), '*\n');
      rmSync(join(agent.home, '.agentalk'), { recursive: true });
      const { stdout, status } = await without(env.TMPDIR, agent.home);
      assert.match(stdout, /^agentalk: error: no folder for sessions can be written.*\n.*AGENTALK_HOME/);
      assert.notEqual(status, 0);
    } finally {
      rmSync(place, { recursive: true });
    }
  },
);

test('where AGENTALK_HOME is not to be written in, the session is in /tmp, and found there', async () => {
  const agent = new Agent({ name: `fallback-${process.pid}`, unprivileged: true });
  chmodSync(agent.home, 0o555);
  const { stdout } = expectSuccess(await agent.run(['create', bridge.url, '--name', agent.name]));
  assert.equal(placeOf(stdout), '/tmp');
  assert.match(expectSuccess(await agent.run(['leave'])).stdout, /left/);
  for (const end of ['', '.env']) rmSync(`/tmp/agentalk-session-${agent.name}${end}`, { recursive: true });
});

test('a message of 64 KiB goes, one byte more does not', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await pair(bridge.url, laptop, server);
  const text = 'x'.repeat(65536);
  for (const command of [['say'], ['dm', 'server']] as const) {
    const [name, ...to] = command;
    const code = `agentalk_${name} "$@"`;
    expectFailure(await laptop.shell(code, to, { input: `${text}y` }).ended, /65536 bytes.*send_file/);
    expectFailure(await laptop.shell(code, [...to, `${text}y`]).ended, /65536 bytes.*send_file/);
    await laptop.pipe(text, name, ...to);
  }
  await laptop.call('say', 'after it');
  await server.waitForOutput(/after it/);
  writeFileSync(join(laptop.home, 'long'), `${text}y`);
  expectFailure(await laptop.begin('say', '--file', 'long').ended, /65536 bytes.*send_file/);
  const endless = laptop.start(BASH, ['-c', 'while :; do echo endless; done | "$0" "$1" say -', BASH, laptop.client]);
  expectFailure(await endless.ended, /65536 bytes.*send_file/);
  assert.deepEqual(
    server.inbox().map(({ bytes }) => bytes.length),
    [65536, 65536, 8],
  );
});

test('wrong calls in a session', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await pair(bridge.url, laptop, server);
  const wrong = async (words: RegExp, command: string, ...args: readonly string[]) =>
    expectFailure(await laptop.begin(command, ...args).ended, words);
  await wrong(/nothing to say/, 'say');
  await wrong(/nothing to say/, 'say', '');
  await wrong(/nothing to say/, 'dm', 'server');
  await wrong(/nothing to say/, 'dm', 'server', '');
  await wrong(/whom/, 'dm');
  await wrong(/seconds/, 'wait', 'soon');
  await wrong(/seconds/, 'wait', '-1');
  await wrong(/seconds/, 'wait', 'a[$(touch ran)]');
  await wrong(/message/, 'show');
  await wrong(/no message/, 'show', '7');
  await wrong(/message/, 'show', 'a[$(touch ran)]');
  await wrong(/file/, 'send_file');
  await wrong(/file/, 'send_file', 'nonexistent');
  await wrong(/folder/, 'send_file', '.');
  writeFileSync(join(laptop.home, 'empty'), '');
  await wrong(/nobody here.*server/, 'send_file', 'empty', 'nobody');
  await laptop.call('say', 'the only one');
  await server.waitForOutput(/the only one/);
  assert.equal(server.inbox().length, 1);
  assert.doesNotMatch((await laptop.run(['sessions'])).stdout, /ran/);
  assert.throws(() => chmodSync(join(laptop.home, 'ran'), 0), { code: 'ENOENT' });
});

test('wait without news ends with status 0 and says what to call', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await laptop.create(bridge.url);
  assert.match((await laptop.call('wait', '1')).stdout, /nobody else is in the channel.*\.\/agentalk wait$/m);
  await server.join(laptop.link);
  assert.match((await server.call('wait', '1')).stdout, /no news from laptop.*\.\/agentalk wait$/m);
  assert.match((await server.call('wait', '0')).stdout, /no news from laptop.*\.\/agentalk wait$/m);
});

test('a session that was left', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await pair(bridge.url, laptop, server);
  await laptop.call('say', 'last words');
  await laptop.call('leave');
  for (const [command, ...args] of [['say', 'x'], ['dm', 'server', 'x'], ['wait'], ['who'], ['leave']] as const) {
    expectFailure(await laptop.begin(command, ...args).ended, /left/);
  }
  assert.match(
    (await laptop.call('log')).stdout,
    /PAIRED with server\. You opened the channel, so you speak first\.[^]*\| last words/,
  );
  await server.waitForOutput(/last words/, /LEFT laptop/);
  const { stdout } = await laptop.run(['sessions']);
  assert.match(stdout, /laptop has left/);
});

test('a call whose keys another one erases meanwhile seals nothing', async () => {
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await pair(bridge.url, laptop, server);
  await laptop.call('dm', 'server', 'once'); // so that its key is there
  await server.waitForOutput(/once/);
  const file = join(laptop.home, 'file');
  writeFileSync(file, 'contents');
  const keys = join(laptop.folder, 'keys');
  const sent = readdirSync(join(laptop.folder, 'outbox'));
  const commands = [
    ['say', 'unsealed'],
    ['dm', 'server', 'unsealed'],
    ['send_file', file],
    ['send_file', file, 'server'],
  ] as const;
  for (const name of readdirSync(keys)) if (/^(sign|ecdh|direct|room)/.test(name)) rmSync(join(keys, name));
  for (const [command, ...args] of commands) expectFailure(await laptop.begin(command, ...args).ended, /./);
  rmSync(keys, { recursive: true });
  for (const [command, ...args] of commands) {
    expectFailure(await laptop.begin(command, ...args).ended, /this session has left the channel/);
  }
  assert.deepEqual(readdirSync(join(laptop.folder, 'outbox')), sent);
});

test('a bridge that goes away under a session', async () => {
  const stopping = await startBridge();
  const [laptop, server] = [new Agent({ name: 'laptop' }), new Agent({ name: 'server' })];
  await pair(stopping.url, laptop, server);
  const waiting = laptop.begin('wait', '3');
  await polling(stopping.url, 1);
  await stopping.stop();
  const waited = expectSuccess(await waiting.ended);
  assert.match(waited.stdout, /takes no connection/);
  expectFailure(await laptop.begin('who').ended, /takes no connection/);
});

test('an openssl that computes wrongly is named as such, before anything is sent', async () => {
  const tools = toolFolder(['bash', 'curl', ...POSIX_TOOLS]);
  const stub = join(tools, 'openssl');
  // Each wrong in one byte of what it encrypts.
  writeFileSync(
    stub,
    `#!${BASH}\n[ "$1" != enc ] || { '${pathOf('openssl')}' "$@" | '${pathOf('tr')}' '\\0-\\377' '\\1-\\377\\0'; exit; }\nexec '${pathOf('openssl')}' "$@"\n`,
  );
  chmodSync(stub, 0o755);
  await refused(['create', bridge.url], /openssl computes wrongly.*nothing was sent/, new Agent(), {
    env: { PATH: tools },
  });
});
