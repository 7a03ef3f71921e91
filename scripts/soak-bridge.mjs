/**
 * npm run soak:bridge [-- --minutes N --channels N]: honest load, first alone and then with attackers, ten minutes in total.
 * 2,000 channels talk as shell clients do (soak-bridge-clients.mjs), by TLS through Caddy where that is installed; the
 * attackers (soak-bridge-attack.mjs) are held to a fifth of a core. Then everybody leaves. It prints what was refused to the
 * honest ones, how long they waited with and without attack, and the bridge's memory before and afterwards. The status is
 * 1 if one of them was refused anything, if their 99th percentile is more than twice as long under attack, or if the heap
 * has not come back to its level.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { BRIDGE, ROOT, makeFolder, run, start, startServer } from './child-processes.mjs';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    channels: { type: 'string', default: '2000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});
const phaseMs = (Number(values.minutes) / 2) * 60_000;
const channels = Number(values.channels);
if (!(phaseMs > 0) || !(channels > 0)) throw new Error('--minutes and --channels are numbers above 0');

const ADDRESSES = 500;
/** Below this a difference between two percentiles is the machine's, not the attack's. */
const NOISE_MS = 20;
const ATTACKERS_CORE = 0.2;
/** What the heap may have more than before: code that was compiled meanwhile, caches of node's own. */
const MAX_MORE_BYTES = 4 * 1024 * 1024;
const FLAGS = ['--trusted-proxies', 'loopback', '--away-after', '120', '--expire-after', '240'];

const folder = makeFolder('soak');
const probe = join(folder, 'probe.cjs');
writeFileSync(
  probe,
  `process.on('SIGUSR2', () => {
     for (let n = 0; n < 4; n++) gc();
     process.stderr.write(JSON.stringify(process.memoryUsage()) + '\\n');
   });`,
);

const mib = (/** @type {number} */ bytes) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
const ms = (/** @type {number} */ value) => `${value.toFixed(1)} ms`;

/** @returns {Promise<number>} */
const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(address !== null && typeof address === 'object' ? address.port : 0));
    });
  });

/** Caddy with TLS before the bridge. Undefined where it is not installed. */
async function startCaddy(/** @type {string} */ bridgeUrl) {
  const version = await run('caddy', ['version']).catch(() => undefined);
  if (!version || version.status !== 0) return undefined;
  const [cert, key, config] = ['cert.pem', 'key.pem', 'Caddyfile'].map((name) => join(folder, name));
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  await run('openssl', ['req', '-x509', ...curve, ...subject, '-keyout', key ?? '', '-out', cert ?? '']);
  const port = await freePort();
  writeFileSync(
    config ?? '',
    `{\n\tadmin off\n\tauto_https off\n\tlog {\n\t\tlevel ERROR\n\t}\n}\n:${port} {\n\ttls ${cert} ${key}\n` +
      `\treverse_proxy ${bridgeUrl.replace('http://', '')} {\n\t\tflush_interval -1\n\t}\n}\n`,
  );
  const env = { XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder };
  const caddy = start('caddy', ['run', '--config', config ?? '', '--adapter', 'caddyfile'], { env });
  caddy.stdout.resume();
  caddy.stderr.resume();
  await delay(2000);
  return { url: `https://127.0.0.1:${port}`, ca: cert ?? '', version: version.stdout.split(' ')[0] };
}

/** A child that answers each command with a line of JSON. @param {string} script @param {string[]} args */
function startChild(script, ...args) {
  const child = start(process.execPath, [join(ROOT, 'scripts', script), ...args]);
  child.stderr.pipe(process.stderr);
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    pid: child.pid ?? 0,
    async ask(/** @type {string} */ command) {
      child.stdin.write(`${command}\n`);
      return JSON.parse((await lines.next()).value);
    },
    async end() {
      child.stdin.end();
      return JSON.parse((await lines.next()).value ?? '{}');
    },
  };
}

/** Seconds of processor time that a process has used (Linux). */
function cpuSeconds(/** @type {number} */ pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Stops a process whenever it has used more than its share of a core. Returns what ends that, and gives the share. */
function holdTo(/** @type {number} */ share, /** @type {number} */ pid) {
  const begun = Date.now();
  const used = () => cpuSeconds(pid) / ((Date.now() - begun) / 1000);
  const timer = setInterval(() => process.kill(pid, used() > share ? 'SIGSTOP' : 'SIGCONT'), 20);
  return () => {
    clearInterval(timer);
    process.kill(pid, 'SIGCONT');
    return used();
  };
}

async function metric(/** @type {string} */ name) {
  const text = await (await fetch(`${bridge.url}/metrics`, { headers: { connection: 'close' } })).text();
  return Number(new RegExp(`^agentalk_${name} (\\d+)`, 'm').exec(text)?.[1]);
}

/** The bridge's memory when nobody is there any more. @returns {Promise<NodeJS.MemoryUsage>} */
async function memoryWhenEmpty() {
  for (let seconds = 0; (await metric('channels')) > 0; seconds++) {
    if (seconds > 300) throw new Error('after five minutes there are still channels');
    await delay(1000);
  }
  const before = bridge.stderr().length;
  process.kill(bridge.pid, 'SIGUSR2');
  while (!bridge.stderr().slice(before).endsWith('\n')) await delay(10);
  return JSON.parse(bridge.stderr().slice(before));
}

/** @param {string} when @param {any} counted */
function show(when, counted) {
  const { requests, handshakes, refused, send, deliver, blob } = counted;
  console.log(
    `${when}: ${requests} requests, ${handshakes} connections; ` +
      `send p50 ${ms(send.p50)}, p99 ${ms(send.p99)} (${send.count}); ` +
      `delivery p50 ${ms(deliver.p50)}, p99 ${ms(deliver.p99)} (${deliver.count}); blob p99 ${ms(blob.p99)} (${blob.count})`,
  );
  const kinds = Object.entries(refused).map(([what, count]) => `${what}: ${count}`);
  console.log(`  refused: ${kinds.length === 0 ? 'nothing' : kinds.join(', ')}`);
  return counted;
}

const bridge = await startServer(['--expose-gc', '--require', probe, BRIDGE, '--port', '0', ...FLAGS]);
const caddy = await startCaddy(bridge.url);
const target = { url: caddy?.url ?? bridge.url, ca: caddy?.ca, addresses: ADDRESSES };
const clientsOf = (/** @type {number} */ count, /** @type {number} */ rampSeconds) =>
  startChild('soak-bridge-clients.mjs', JSON.stringify({ ...target, channels: count, rampSeconds }));
console.log(`${channels} channels, ${caddy ? `TLS through Caddy ${caddy.version}` : 'no Caddy: without TLS'}`);

const warmUp = clientsOf(Math.min(channels, 100), 1);
await delay(20_000);
await warmUp.ask('stop');
const before = await memoryWhenEmpty();
console.log(`before: heap ${mib(before.heapUsed)}, buffers ${mib(before.external)}, resident ${mib(before.rss)}`);

const rampSeconds = Math.max(10, channels / 20);
const clients = clientsOf(channels, rampSeconds);
while ((await metric('channels')) < channels * 0.99) await delay(1000);
await delay(10_000);
show('while they came', await clients.ask('mark'));
await delay(phaseMs);
const quiet = show('without attack', await clients.ask('mark'));

const attackers = startChild('soak-bridge-attack.mjs', bridge.url, values.seed);
const release = holdTo(ATTACKERS_CORE, attackers.pid);
await delay(phaseMs);
const attacked = show('under attack', await clients.ask('mark'));
const share = release();
const attackerAnswers = await attackers.end();
const attackerRequests = Object.values(attackerAnswers).reduce((sum, count) => sum + count, 0);
console.log(`  the attackers used ${(share * 100).toFixed()} % of a core for ${attackerRequests} requests`);
console.log(`  resident ${mib(Number(await processMemory()))} at the end of it`);
await clients.ask('stop');

async function processMemory() {
  const text = await (await fetch(`${bridge.url}/metrics`, { headers: { connection: 'close' } })).text();
  return /^process_resident_memory_bytes (\d+)/m.exec(text)?.[1];
}

let after = await memoryWhenEmpty();
const more = () => after.heapUsed + after.external - before.heapUsed - before.external;
for (let n = 0; n < 24 && more() > MAX_MORE_BYTES; n++) {
  await delay(5000); // blocks that are free go back to the system one after the other
  after = await memoryWhenEmpty();
}
console.log(`after: heap ${mib(after.heapUsed)}, buffers ${mib(after.external)}, resident ${mib(after.rss)}`);
const log = bridge
  .stderr()
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('{"rss"'));
await bridge.stop();

const failures = [];
const refusals = { ...quiet.refused, ...attacked.refused };
if (Object.keys(refusals).length > 0) failures.push(`honest clients were refused: ${JSON.stringify(refusals)}`);
for (const what of ['send', 'deliver']) {
  const [alone, beside] = [quiet[what].p99, attacked[what].p99];
  if (beside > 2 * alone + NOISE_MS) failures.push(`${what}: p99 ${ms(beside)} under attack, ${ms(alone)} without`);
}
if (more() > MAX_MORE_BYTES) failures.push(`the bridge keeps ${mib(more())} more than before`);
if (log.length > 0) failures.push(`it logged: ${log.slice(0, 3).join('\n')}`);
for (const failure of failures) console.error(`FAILED ${failure}`);
console.log(failures.length === 0 ? 'all is well' : `${failures.length} failures`);
process.exit(failures.length === 0 ? 0 : 1);
