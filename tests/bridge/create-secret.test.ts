/** A bridge with --create-secret-file: who may open channels there, and how what it takes is passed on. */
import assert from 'node:assert/strict';
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { runBridge, startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { CHROMIUM, BrowserUser } from '../lib/browser.ts';
import { requirePrograms } from '../lib/require-programs.ts';
import { Agent, expectSuccess, makeFolder } from '../lib/shell.ts';

const SECRET = 'an-operators_secret-0123';
const file = join(makeFolder(), 'secret');
writeFileSync(file, `${SECRET}\n`);

let bridge: TestBridge;
before(async () => void (bridge = await startBridge(['--create-secret-file', file])));
after(() => bridge.stop());

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const ticketOf = (id: string, secret = SECRET) =>
  createHmac('sha256', secret).update(`agentalk/1 ticket ${id}`).digest('hex').slice(0, 32);

function newChannel(url = bridge.url) {
  const access = sha256(`agentalk/1 access ${randomBytes(32).toString('hex')}`);
  const id = sha256(`agentalk/1 channel ${access}`).slice(0, 32);
  const put = async (invite?: string, accept = 'application/json') => {
    const headers = { authorization: `Bearer ${access}`, accept, ...(invite && { 'agentalk-invite': invite }) };
    const response = await fetch(`${url}/channels/${id}`, { method: 'PUT', headers });
    return { status: response.status, text: await response.text() };
  };
  return { id, put };
}

/** A file's bytes; '' if the client has removed it meanwhile. */
function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOENT');
    return '';
  }
}

test('a channel is opened with the secret or with its own ticket, and with nothing else', async () => {
  const { id, put } = newChannel();
  const other = ticketOf(newChannel().id);
  for (const brought of [undefined, 'x', SECRET.slice(1), `${SECRET}x`, SECRET.toUpperCase(), other, id]) {
    const { status, text } = await put(brought);
    assert.equal(status, 403, brought);
    assert.match(text, /"code":"not_invited"/);
    assert.doesNotMatch(text, new RegExp(`${SECRET}|${ticketOf(id)}`));
  }
  const opened = await put(SECRET);
  assert.equal(opened.status, 201);
  assert.equal((JSON.parse(opened.text) as { ticket: string }).ticket, ticketOf(id));
  assert.match((await put(ticketOf(id), 'text/plain')).text, new RegExp(`^channel .* 7200 \\d+ ${ticketOf(id)}\n$`));
  const found = await put();
  assert.equal(found.status, 200, 'what is open can be found by whoever has its key');
  assert.doesNotMatch(found.text, /ticket/);
  const again = newChannel();
  assert.equal((await again.put(ticketOf(again.id))).status, 201);
});

test('a bridge without --create-secret-file knows no tickets', async () => {
  const open = await startBridge();
  const laptop = new Agent({ name: 'laptop' });
  await laptop.create(`${open.url}/#i=${SECRET}`);
  assert.doesNotMatch(laptop.link, /&t=/);
  await open.stop();
});

test('agents: the secret opens, is not kept, and any member opens the same channel again', async () => {
  const first = await startBridge(['--create-secret-file', file]);
  const stranger = new Agent({ name: 'stranger' });
  const refused = await stranger.run(['create', first.url, '--name', 'stranger']);
  assert.equal(refused.status, 1);
  assert.match(
    refused.stderr,
    /^agentalk: error: this bridge opens channels only for those who have its create secret/,
  );
  const laptop = new Agent({ name: 'laptop' });
  const { stdout } = await laptop.create(`${first.url}/#i=${SECRET}`);
  assert.match(laptop.link, /#k=[0-9a-f]{64}&t=[0-9a-f]{32}&c=[0-9a-f]{32}$/);
  assert.doesNotMatch(stdout, new RegExp(SECRET));
  const folder = join(laptop.home, 'agentalk-session-laptop');
  for (const name of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (name.isFile()) assert.ok(!readIfThere(join(name.parentPath, name.name)).includes(SECRET), name.name);
  }
  await first.stop();
  const second = await startBridge(['--create-secret-file', file, '--port', String(first.port)]);
  const blind = await stranger.run(['join', laptop.link.replace(/&t=[^&]*/, ''), '--name', 'stranger']);
  assert.match(blind.stderr, /create secret/, 'the key alone does not open what has ended');
  const server = new Agent({ name: 'server' });
  expectSuccess(await server.run(['join', laptop.link, '--name', 'server']));
  const invited = expectSuccess(await server.call('invite'));
  assert.ok(invited.stdout.includes(laptop.link), 'the ticket goes on with the link');
  await second.stop();
  const third = await startBridge(['--create-secret-file', file, '--port', String(first.port)]);
  assert.match(await laptop.waitForOutput(/RESUMED/), /RESUMED/, 'with the ticket, the secret being gone');
  await third.stop();
});

test('a new secret in the first line: the old one and its tickets are accepted while it is in the file', async () => {
  const rotated = join(makeFolder(), 'secret');
  const newSecret = 'the-next_secret-4567';
  writeFileSync(rotated, `${newSecret}\n${SECRET}\n`);
  const own = await startBridge(['--create-secret-file', rotated]);
  const newTicketOf = (id: string) => ticketOf(id, newSecret);
  for (const credentialOf of [() => newSecret, newTicketOf, () => SECRET, (id: string) => ticketOf(id)]) {
    const { id, put } = newChannel(own.url);
    assert.equal((await put()).status, 403);
    const { status, text } = await put(credentialOf(id));
    assert.equal(status, 201);
    assert.equal((JSON.parse(text) as { ticket: string }).ticket, newTicketOf(id), 'the first line makes tickets');
  }
  await own.stop();
  writeFileSync(rotated, `${newSecret}\n`);
  const later = await startBridge(['--create-secret-file', rotated]);
  const { id, put } = newChannel(later.url);
  assert.equal((await put(SECRET)).status, 403);
  assert.equal((await put(ticketOf(id))).status, 403);
  assert.equal((await put(newTicketOf(id))).status, 201);
  await later.stop();
});

test('agents go on when the create secret was changed and the bridge restarted', async () => {
  const rotated = join(makeFolder(), 'secret');
  writeFileSync(rotated, `${SECRET}\n`);
  const first = await startBridge(['--create-secret-file', rotated]);
  const laptop = new Agent({ name: 'laptop' });
  await laptop.create(`${first.url}/#i=${SECRET}`);
  await first.stop();
  writeFileSync(rotated, `the-next_secret-4567\n${SECRET}\n`);
  const second = await startBridge(['--create-secret-file', rotated, '--port', String(first.port)]);
  assert.match(await laptop.waitForOutput(/RESUMED/), /RESUMED/);
  await second.stop();
});

test('a person opens an ended channel again with the link’s ticket', { skip: requirePrograms(CHROMIUM) }, async () => {
  const first = await startBridge(['--create-secret-file', file]);
  const laptop = new Agent({ name: 'laptop' });
  await laptop.create(`${first.url}/#i=${SECRET}`);
  await first.stop();
  const second = await startBridge(['--create-secret-file', file, '--port', String(first.port)]);
  const ada = await BrowserUser.join(laptop.link, 'ada');
  assert.match(await laptop.waitForOutput(/PAIRED with ada/), /RESUMED/);
  ada.behaved();
  await ada.close();
  await second.stop();
});

test('a file that holds no secret is refused in one line', async () => {
  for (const [content, advice] of [
    ['short', /^agentalk-bridge: --create-secret-file: the file must have 1 to 10 lines, each with 16 to 128 of/],
    ['has spaces in it, which URLs have not', /--create-secret-file: the file must have/],
    ['\n\n', /--create-secret-file: the file must have/],
    [`${SECRET}\nshort\n`, /--create-secret-file: the file must have/],
    [`${SECRET}\n`.repeat(11), /--create-secret-file: the file must have/],
    [undefined, /--create-secret-file: can't read .* \(ENOENT\)/],
  ] as const) {
    const path = join(makeFolder(), 'secret');
    if (content !== undefined) writeFileSync(path, content);
    const { status, stderr } = await runBridge(['--create-secret-file', path, '--port', '0']);
    assert.equal(status, 2);
    assert.match(stderr, advice);
    assert.equal(stderr.trimEnd().split('\n').length, 1);
    assert.ok(content === undefined || !stderr.includes(content));
  }
});
