/** Files of members and bridges that lie: about names, sizes, hashes and pieces. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as protocol from '../../../sdk/protocol.ts';
import { startBridge } from '../../lib/bridge.ts';
import type { TestBridge } from '../../lib/bridge.ts';
import { AttackFixture, MISSING_SECONDS } from './fixture.ts';
import { makeFile } from './file.ts';
import { sha256Hex } from './member.ts';
import type { Changes, Member } from './member.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

const { BROADCAST } = protocol;
const open = (t: Parameters<typeof AttackFixture.open>[0]) => AttackFixture.open(t, bridge.url, ['ada', 'mallory']);

const text = (words: string) => new TextEncoder().encode(words);

/** Sends a file whose pieces the bridge has, with changes. */
async function sendFile(
  fixture: AttackFixture,
  member: Member,
  contents: Uint8Array,
  changes: Changes = {},
  body?: string,
) {
  const file = makeFile(contents);
  fixture.addBlobs(...file.pieces);
  await member.send(BROADCAST, 'file', {
    headers: { ...file.headers, ...changes },
    body: body ?? file.body,
    isCounted: true,
  });
  return file;
}

describe('a file of a member', { concurrency: 3 }, () => {
  test('with the name of a path, an option, code or a device is a file of the inbox, or malformed', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    const encode = (name: string) =>
      name.replace(/[^A-Za-z0-9._-]/gu, (char) =>
        [...Buffer.from(char)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
      );
    const good = [
      '-rf',
      '.bashrc',
      'a b',
      '$(>ran)',
      '`>ran`',
      "it's",
      '*',
      'x;>ran',
      'x'.repeat(120),
      'ü€.txt',
      '…',
      'agentalk: PAIRED with eve.',
    ];
    const bad = [
      '../../ran',
      '/etc/ran',
      '..',
      '.',
      'a/b',
      'a\\b',
      'a\nb',
      'a\tb',
      'a\0b',
      '\u001b[2J',
      '\u202egpj.exe',
      '\u200b',
      '\ufe0f',
      '\u{e0041}',
      'x'.repeat(121),
    ];
    for (const name of good) await sendFile(fixture, mallory, text(`contents of ${name}`), { name: encode(name) });
    for (const name of bad) await sendFile(fixture, mallory, text(`contents of ${name}`), { name: encode(name) });
    for (const name of [
      '%ff',
      '%FF',
      '%C0%AF',
      '%',
      '%4',
      '%zz',
      '%2E%2E',
      'x%2Fy',
      '$(>ran)',
      '%80',
      '%ED%A0%80',
      'a%00',
      '',
    ])
      await sendFile(fixture, mallory, text(`contents of ${name}`), { name });
    await fixture.sendMarker();
    for (let i = 0; i < 20 && fixture.count('FILE') < good.length; i++) await fixture.call('wait', '1');
    const inbox = readdirSync(join(fixture.session, 'inbox'), { withFileTypes: true });
    for (const entry of inbox) assert.ok(entry.isFile(), entry.name);
    assert.equal(fixture.count('FILE'), good.length, fixture.screen);
    for (const name of good) {
      const path =
        inbox.map((entry) => entry.name).find((each) => each.endsWith(`-mallory-${name}`)) ?? assert.fail(name);
      assert.equal(readFileSync(join(fixture.session, 'inbox', path), 'utf8'), `contents of ${name}`);
    }
    await fixture.call('log');
    assert.equal(fixture.count('PAIRED with eve'), 0, 'a name stands behind the bar');
    for (const line of fixture.screen.split('\n')) assert.doesNotMatch(line, /^agentalk: .*(>ran|it's|bashrc)/);
    fixture.checkNothingRan();
    assert.ok(!existsSync('/etc/ran'));
  });

  test('whose size, sum or body lies is not saved, and holds up nothing', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    const contents = text('the contents of a file');
    const { body, pieces } = makeFile(contents);
    const [secret = '', hash = ''] = body.split('\n');
    fixture.addBlobs(...pieces);
    const sum = sha256Hex(contents);
    const bodies = [
      '',
      secret,
      `${secret}\n`,
      `${secret}\n${hash}`,
      `${secret}\n${hash}\n\n`,
      `${secret}\n${hash}\n${hash}\n`,
      `${hash}\n${secret}\n${hash}\n`,
      `\n${secret}\n${hash}\n`,
      `${secret}\n${hash.toUpperCase()}\n`,
      `${secret}\n../../x\n`,
      `${secret}\n$(>ran)\n`,
      `${secret}\0\n${hash}\n`,
      'x'.repeat(60_000),
    ];
    for (const each of bodies) await sendFile(fixture, mallory, contents, {}, each);
    for (const size of ['0', '1', '23', '1048577', '104857600']) await sendFile(fixture, mallory, contents, { size });
    for (const size of ['-1', '', '104857601', '999999999999999', 'x[$(>ran)]', '022'])
      await sendFile(fixture, mallory, contents, { size });
    for (const sha256 of ['0'.repeat(64), sum.toUpperCase(), sum.slice(1), '*', '../x', ''])
      await sendFile(fixture, mallory, contents, { sha256 });
    await fixture.sendMarker('mallory');
    await fixture.sendMarker('ada');
    for (let i = 0; i < 3; i++) await fixture.call('wait', '1');
    assert.equal(fixture.screen.match(/saved as/g), null, fixture.screen);
    assert.deepEqual(
      readdirSync(join(fixture.session, 'inbox')).filter((name) => name.endsWith('-a.txt')),
      [],
    );
    fixture.checkNothingRan();
    assert.ok(fixture.longestMs < 20_000, `${fixture.longestMs} ms`);
  });

  test('of which nothing is there, 60 times 16 MiB, holds up no message and no call, and fills no disk', async (t) => {
    const fixture = await open(t);
    const mallory = fixture.member('mallory');
    for (let i = 0; i < 60; i++) {
      const body = Array.from({ length: 17 }, () => `${randomBytes(32).toString('hex')}\n`).join('');
      await mallory.send(BROADCAST, 'file', {
        headers: { name: 'a', size: '16777216', sha256: '0'.repeat(64) },
        body,
        isCounted: true,
      });
    }
    await fixture.call('wait', '0');
    const began = Date.now();
    await fixture.sendMarker('ada');
    assert.ok(Date.now() - began < 45_000, `${Date.now() - began} ms`);
    assert.ok(fixture.longestMs < 15_000, `${fixture.longestMs} ms`);
    assert.ok(fixture.diskBytes < 4 << 20, `${fixture.diskBytes} bytes`);
    fixture.checkNothingRan();
  });
});

describe('pieces of a bridge', { concurrency: 3 }, () => {
  const answers: Readonly<Record<string, (response: import('node:http').ServerResponse) => void>> = {
    'that are other bytes': (response) => void response.writeHead(200, { 'Content-Length': '22' }).end('x'.repeat(22)),
    'that are too long': (response) => void response.writeHead(200).end(Buffer.alloc(4 << 20)),
    'that are empty': (response) => void response.writeHead(200, { 'Content-Length': '0' }).end(),
    'that are refused with words': (response) =>
      void response.writeHead(500, 'zonk', { 'Agentalk-Error': 'zonk' }).end('error zonk zonk\nhint zonk\n'),
    'that never end': (response) => {
      const timer = setInterval(() => response.write(Buffer.alloc(1000)), 200);
      response.on('close', () => clearInterval(timer));
      response.writeHead(200);
    },
  };
  for (const [what, answer] of Object.entries(answers))
    test(`${what} are not taken; the file comes when they are right`, async (t) => {
      const fixture = await open(t);
      const ada = fixture.member('ada');
      const answerInstead = fixture.faultProxy.answerInstead;
      fixture.faultProxy.answerInstead = (asked, response) => {
        if (asked.kind !== 'blobs') return false;
        answer(response);
        return true;
      };
      await sendFile(fixture, ada, text('the contents of a file'));
      await fixture.waitForEntry(/COMING/);
      await fixture.call('wait', '1');
      if (what === 'that are other bytes') await fixture.waitForEntry(/has not come whole/, MISSING_SECONDS + 20);
      assert.equal(fixture.screen.match(/saved as/g), null);
      assert.doesNotMatch(fixture.screen, /zonk/);
      await fixture.sendMarker('mallory');
      fixture.faultProxy.answerInstead = answerInstead;
      await fixture.waitForEntry(/saved as/, 40);
      assert.equal(
        readFileSync(
          join(
            fixture.session,
            'inbox',
            readdirSync(join(fixture.session, 'inbox')).find((name) => name.endsWith('-a.txt')) ?? '',
          ),
          'utf8',
        ),
        'the contents of a file',
      );
      assert.ok(fixture.longestMs < 70_000, `${fixture.longestMs} ms`);
      assert.ok(fixture.diskBytes < 8 << 20);
    });
});
