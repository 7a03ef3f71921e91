/**
 * The load balancers of deploy/, each started from the very file that is shipped there. What differs in a test stands in
 * its table: addresses, paths, and more workers than a small machine would have.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { requirePrograms } from '../lib/require-programs.ts';
import { ROOT } from '../lib/root.ts';
import { Running, makeFolder, pathOf, until } from '../lib/shell.ts';

/** What is put in the place of what, in order. What a file doesn't have fails the test: then the table is out of date. */
type Changes = readonly (readonly [shipped: string, here: string])[];

interface Place {
  readonly folder: string;
  readonly port: number;
  readonly bridges: readonly number[];
}

interface Kind {
  readonly name: string;
  readonly file: string;
  readonly program: string;
  /** In the place of the file's text. */
  readonly text?: string;
  /** Of the bridge's URL. */
  readonly basePath?: string;
  changes(place: Place): Changes;
  /** The whole configuration, made of the changed file. */
  whole(place: Place, changed: string): string;
  check(config: string): readonly string[];
  run(config: string): readonly string[];
  /** The certificate of who signed for it. */
  authority(place: Place): string;
}

/** Three servers at the ports of deploy/ become those of the test. */
const servers = ({ bridges }: Place): Changes =>
  bridges.map((port, i) => [`127.0.0.1:${8787 + i}`, `127.0.0.1:${port}`] as const);

export const nginx: Kind = {
  name: 'nginx',
  file: 'deploy/nginx/agentalk.conf',
  program: 'nginx',
  changes: (place) => [
    ['listen 443 ssl', `listen 127.0.0.1:${place.port} ssl`],
    ['listen [::]:443 ssl;', ''],
    ['/etc/ssl/agentalk/bridge.example.pem', join(place.folder, 'bridge.pem')],
    ['/etc/ssl/agentalk/bridge.example.key', join(place.folder, 'bridge.key')],
    ['/var/log/nginx/error.log', 'stderr'],
    ...servers(place),
  ],
  // It is a part of nginx.conf; this is the rest, with the errors on the screen and all files in the folder.
  whole: ({ folder }, changed) => `
    daemon off;
    worker_processes 4;
    pid ${folder}/pid;
    error_log stderr warn;
    events { worker_connections 1024; }
    http {
      access_log off;
      ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((use) => `${use}_temp_path ${folder}/${use};`).join(' ')}
      ${changed}
    }`,
  check: (config) => ['-t', '-c', config],
  run: (config) => ['-c', config],
  authority: ({ folder }) => join(folder, 'bridge.pem'),
};

export const haproxy: Kind = {
  name: 'HAProxy',
  file: 'deploy/haproxy/haproxy.cfg',
  program: 'haproxy',
  changes: (place) => [
    ['bind :443', `bind 127.0.0.1:${place.port}`],
    ['/etc/haproxy/bridge.example.pem', join(place.folder, 'both.pem')],
    ['\tuser haproxy\n\tgroup haproxy\n', '\tnbthread 4\n'],
    ['maxconn 20000', 'maxconn 2000'],
    ...servers(place),
  ],
  whole: (_, changed) => changed,
  check: (config) => ['-c', '-f', config],
  run: (config) => ['-db', '-f', config],
  authority: ({ folder }) => join(folder, 'bridge.pem'),
};

/** Caddy makes the certificate for localhost itself, with its internal authority; it must not tell the system of it. */
const caddyHere = ({ folder, port }: Place): Changes => [
  [
    '\n{\n',
    `\n{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n\tdefault_bind 127.0.0.1\n\tstorage file_system ${folder}\n`,
  ],
  ['\nbridge.example {', `\nlocalhost:${port} {`],
];

export const SINGLE: Kind = {
  name: 'Caddy, one bridge',
  file: 'deploy/caddy/Caddyfile',
  program: 'caddy',
  changes: (place) => [...caddyHere(place), ...servers(place).slice(0, 1)],
  whole: (_, changed) => changed,
  check: (config) => ['validate', '--adapter', 'caddyfile', '--config', config],
  run: (config) => ['run', '--adapter', 'caddyfile', '--config', config],
  authority: ({ folder }) => join(folder, 'pki', 'authorities', 'local', 'root.crt'),
};

const caddy: Kind = { ...SINGLE, name: 'Caddy', file: 'deploy/caddy/Caddyfile.multi' };
caddy.changes = (place) => [...caddyHere(place), ...servers(place)];

export const GROUPS: readonly Kind[] = [nginx, haproxy, caddy];
export const KINDS: readonly Kind[] = [...GROUPS, SINGLE];

export const needs = (kind: Kind) => requirePrograms(kind.program, 'openssl');

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The shipped file with the changes made: its path, and where everything else is. */
async function prepare(kind: Kind, bridges: readonly number[], more: Changes = []) {
  const place: Place = { folder: makeFolder(), port: await freePort(), bridges };
  const [certificate, key] = [join(place.folder, 'bridge.pem'), join(place.folder, 'bridge.key')];
  const names = 'subjectAltName=DNS:localhost,IP:127.0.0.1';
  const how = [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-subj',
    '/CN=localhost',
    '-days',
    '2',
  ];
  execFileSync('openssl', ['req', '-x509', ...how, '-addext', names, '-keyout', key, '-out', certificate], {
    stdio: 'ignore',
  });
  writeFileSync(join(place.folder, 'both.pem'), readFileSync(certificate, 'utf8') + readFileSync(key, 'utf8'));
  let text = kind.text ?? readFileSync(join(ROOT, kind.file), 'utf8');
  for (const [shipped, here] of [...kind.changes(place), ...more]) {
    assert.ok(text.includes(shipped), `${kind.file} has no ${JSON.stringify(shipped)} any more`);
    text = text.replaceAll(shipped, here);
  }
  const config = join(place.folder, 'config');
  writeFileSync(config, kind.whole(place, text));
  return { place, config };
}

const environment = (folder: string) => ({
  PATH: process.env['PATH'] ?? '',
  HOME: folder,
  XDG_DATA_HOME: folder,
  XDG_CONFIG_HOME: folder,
});

/** What the program itself says of the shipped file: its status and its words. */
export async function validate(kind: Kind): Promise<{ status: number | null; output: string }> {
  const { place, config } = await prepare(kind, [18_787, 18_788, 18_789]);
  const options = { env: environment(place.folder), encoding: 'utf8' } as const;
  const { status, stdout, stderr } = spawnSync(pathOf(kind.program), kind.check(config), options);
  return { status, output: stdout + stderr };
}

export interface Balancer {
  readonly url: string;
  /** The file with the certificate to trust. */
  readonly authority: string;
  readonly running: Running;
  /** As the global fetch, and trusting that certificate; a connection of its own each time, so that any worker has it. */
  readonly fetch: typeof fetch;
  /** The same over connections that stay open. */
  readonly keptFetch: typeof fetch;
  stop(): Promise<void>;
}

/** @param more changes to the shipped file */
export async function startBalancer(kind: Kind, bridges: readonly number[], more?: Changes): Promise<Balancer> {
  const { place, config } = await prepare(kind, bridges, more);
  for (const name of ['client_body', 'proxy']) mkdirSync(join(place.folder, name));
  const running = new Running(pathOf(kind.program), kind.run(config), { env: environment(place.folder) });
  let isOver = false;
  void running.ended.then(() => (isOver = true));
  const authority = kind.authority(place);
  const url = `https://localhost:${place.port}${kind.basePath ?? ''}`;
  await until(`${kind.name} lets the bridges be reached`, async () => {
    assert.ok(!isOver, running.stdout + running.stderr);
    if (!existsSync(authority)) return false;
    const answer = await fetchTrusting(authority)(`${url}/health`).catch(() => undefined);
    return answer?.status === 200;
  });
  const agent = new Agent({ keepAlive: true });
  return {
    url,
    authority,
    running,
    fetch: fetchTrusting(authority),
    keptFetch: fetchTrusting(authority, agent),
    async stop() {
      agent.destroy();
      await running.end('SIGKILL');
    },
  };
}

/** Node's fetch takes no certificate of ours. */
function fetchTrusting(authority: string, agent: Agent | false = false): typeof fetch {
  const ca = readFileSync(authority);
  return (input, { method = 'GET', headers = {}, body, signal } = {}) =>
    new Promise<Response>((resolve, reject) => {
      const options = { method, ca, headers: headers as Record<string, string>, agent };
      const outgoing = request(String(input), { ...options, ...(signal ? { signal } : {}) }, (incoming) => {
        const parts: Buffer[] = [];
        incoming.on('data', (part: Buffer) => parts.push(part));
        incoming.on('error', reject);
        incoming.on('end', () => {
          const status = incoming.statusCode ?? 0;
          const type = incoming.headers['content-type'] ?? '';
          resolve(new Response(Buffer.concat(parts), { status, headers: { 'content-type': type } }));
        });
      });
      outgoing.on('error', reject);
      outgoing.end(body as string | undefined);
    });
}
