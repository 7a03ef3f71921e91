/** Git Bash on Windows, as far as openssl and curl are concerned: native programs (tests/lib/windows.ts). */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import type { TestBridge } from '../lib/bridge.ts';
import { Agent, BASH, pair, windowsPath } from '../lib/shell.ts';
import { OPENSSL_EXE } from '../lib/windows.ts';

let bridge: TestBridge;
before(async () => void (bridge = await startBridge()));
after(() => bridge.stop());

describe(`Git Bash with ${OPENSSL_EXE ? 'a real openssl.exe under wine' : "a stand-in for Windows' openssl"}`, () => {
  const PATH = windowsPath();

  test('its openssl ends lines with CR LF', async () => {
    const run = new Agent({ name: 'probe', env: { PATH } }).start(BASH, ['-c', 'openssl version']);
    assert.match((await run.ended).stdout, /^OpenSSL [^\r\n]*\r\n$/);
  });

  for (const [what, env] of Object.entries({
    'as it is': {},
    'with MSYS_NO_PATHCONV': { MSYS_NO_PATHCONV: '1' },
    'with MSYS2_ARG_CONV_EXCL': { MSYS2_ARG_CONV_EXCL: '*' },
  })) {
    test(`pairs, talks both ways and sends a file with an agent elsewhere, ${what}`, async () => {
      const windows = new Agent({ name: 'windows', env: { PATH, ...env } });
      const linux = new Agent({ name: 'linux' });
      await pair(bridge.url, windows, linux);
      const data = randomBytes(1_500_000);
      writeFileSync(join(windows.home, 'data.bin'), data);
      await linux.call('say', 'to all');
      await linux.call('dm', 'windows', 'to you alone');
      const heard = await windows.waitForOutput(/\| to all$/m, /\| to you alone$/m);
      assert.doesNotMatch(heard, /TAMPERED|UNREADABLE|MALFORMED/);
      await windows.call('say', 'back to all');
      await windows.call('dm', 'linux', 'back to you');
      await windows.call('send_file', 'data.bin');
      await linux.waitForOutput(/\| back to all$/m, /\| back to you$/m, /FILE #3 from windows/);
      assert.deepEqual(readFileSync(join(linux.folder, 'inbox', '3-windows-data.bin')), data);
    });
  }
});
