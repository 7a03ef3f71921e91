/** The way from a bare machine to a bridge with TLS, as docs/self-hosting.md has it: its own commands, as far as they go here. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { startBridge } from '../lib/bridge.ts';
import { ROOT } from '../lib/root.ts';
import { Agent } from '../lib/shell.ts';
import { SINGLE, needs, startBalancer } from './balancer.ts';
import { inCopy, noCopy } from './overlay-root.ts';

const NAME = 'talk.example.org';
const page = readFileSync(join(ROOT, 'docs', 'self-hosting.md'), 'utf8');
/** The commands of the numbered steps. */
const steps = [...page.matchAll(/^ {3}```sh\n([^`]*)^ {3}```$/gm)].map(([, code = '']) => code.replace(/^ {3}/gm, ''));

test('the steps of self-hosting.md make a service and a Caddyfile', { skip: noCopy || needs(SINGLE) }, () => {
  const [packages = '', build = '', service = '', caddy = '', look = ''] = steps;
  // Not here: what is installed by them is here, and a copy of this machine has no systemd that runs.
  assert.match(packages, /apt-get install -y --no-install-recommends caddy nodejs$/m);
  assert.match(build, /^npm ci\nnpm run build\n$/);
  assert.match(look, new RegExp(`^curl -fsS https://${NAME}/ready$`, 'm'));
  const { status, stdout, stderr } = inCopy(`set -e
    mkdir /tmp/stand-in && PATH=/tmp/stand-in:$PATH
    printf '#!/bin/sh\\nexec "$@"\\n' >/tmp/stand-in/sudo
    printf '#!/bin/sh\\necho "systemctl $*"\\n' >/tmp/stand-in/systemctl
    chmod +x /tmp/stand-in/*
    mkdir -p /opt/node/bin && cp '${process.execPath}' /opt/node/bin/node
    cd '${ROOT}'
    ${service.trim()}
    ${caddy.trim()}
    cat /etc/agentalk/bridge.env
    grep '{$' /etc/caddy/Caddyfile
    HOME=/tmp caddy validate --adapter caddyfile --config /etc/caddy/Caddyfile 2>&1`);
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, new RegExp(`^AGENTALK_PUBLIC_URL=https://${NAME}$`, 'm'));
  assert.match(stdout, new RegExp(`^${NAME} \\{$`, 'm'));
  assert.match(stdout, /^systemctl reload caddy$/m);
  assert.match(stdout, /Valid configuration/);
});

test(
  'agents talk by https through that Caddyfile, and wait while the bridge starts again',
  { skip: needs(SINGLE) },
  async (t) => {
    const bridge = await startBridge(['--trusted-proxies', 'loopback']);
    t.after(() => bridge.stop());
    const caddy = await startBalancer(SINGLE, [bridge.port]);
    t.after(() => caddy.stop());
    const trust = ['--cacert', caddy.authority];
    const [ada, bob] = [new Agent({ name: 'ada' }), new Agent({ name: 'bob' })];
    await ada.create(caddy.url, ['--name', 'ada', ...trust]);
    const waiting = ada.waitForOutput(/PAIRED with bob/);
    await bob.join(ada.link, ['--name', 'bob', ...trust]);
    await waiting;
    await ada.pipe('before');
    await bob.waitForOutput(/before/);
    assert.match(await (await caddy.fetch(`${caddy.url}/llms.txt`)).text(), new RegExp(caddy.url), 'links are https');

    await bridge.stop();
    const asked = caddy.fetch(`${caddy.url}/ready`);
    const again = await startBridge(['--trusted-proxies', 'loopback', '--port', String(bridge.port)]);
    t.after(() => again.stop());
    assert.equal((await asked).status, 200, 'a request waits for the bridge');
    await ada.pipe('after');
    await bob.waitForOutput(/after/);
  },
);

/** The first block of a language below a heading. */
function block(heading: string, language: string): string {
  const [, rest = ''] = page.split(`\n${heading}\n`);
  return new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, 'm').exec(rest)?.[1] ?? assert.fail(heading);
}

test('our site can be imported into a Caddyfile with other sites', { skip: noCopy || needs(SINGLE) }, () => {
  const commands = block('### One bridge behind a Caddy that you run', 'sh');
  const { status, stdout, stderr } = inCopy(`set -e
    mkdir /tmp/stand-in && PATH=/tmp/stand-in:$PATH
    printf '#!/bin/sh\\nexec "$@"\\n' >/tmp/stand-in/sudo
    printf '#!/bin/sh\\necho "systemctl $*"\\n' >/tmp/stand-in/systemctl
    chmod +x /tmp/stand-in/*
    mkdir -p /etc/caddy
    printf 'other.example.org {\\n\\trespond ours\\n}\\n' >/etc/caddy/Caddyfile
    export HOME=/tmp
    cd '${ROOT}'
    ${commands.trim()}
    caddy adapt --config /etc/caddy/Caddyfile`);
  assert.equal(status, 0, stdout + stderr);
  for (const name of ['other.example.org', NAME]) assert.ok(stdout.includes(`"${name}"`), stdout);
  assert.match(stdout, /"dial":"127\.0\.0\.1:8787"/);
  assert.match(stdout, /^systemctl reload caddy$/m);
});

for (const directive of ['handle_path', 'handle']) {
  test(`below a path, by ${directive}: pages, agents and the redirect`, { skip: needs(SINGLE) }, async (t) => {
    const bridge = await startBridge([
      ...['--trusted-proxies', 'loopback', '--public-url', 'https://bridge.example/talk'],
    ]);
    t.after(() => bridge.stop());
    const site = block('### Below a path', 'caddy').replace('handle_path', directive);
    const caddy = await startBalancer({ ...SINGLE, text: `\n{\n}\n\n${site}`, basePath: '/talk' }, [bridge.port]);
    t.after(() => caddy.stop());
    assert.equal((await caddy.fetch(caddy.url)).status, 302, 'without its last slash');
    const page = await (await caddy.fetch(`${caddy.url}/`)).text();
    assert.ok(page.includes('https://bridge.example/talk/agentalk.sh'), page);
    assert.equal((await caddy.fetch(`${caddy.url}/metrics`)).status, 404);
    const [ada, bob] = [new Agent({ name: 'ada' }), new Agent({ name: 'bob' })];
    const trust = ['--cacert', caddy.authority];
    await ada.create(caddy.url, ['--name', 'ada', ...trust]);
    assert.ok(ada.link.startsWith(`${caddy.url}/c/`), ada.link);
    const waiting = ada.waitForOutput(/PAIRED with bob/);
    await bob.join(ada.link, ['--name', 'bob', ...trust]);
    await waiting;
  });
}
