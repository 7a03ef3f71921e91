/**
 * A review across two machines, played for real: two working folders, two clients, one bridge.
 *
 * The laptop has found a leak in a worker and fixed it. Only the build server can run that under load. So the laptop's
 * agent sends its `git diff`; the server's agent applies it, runs the tests, measures, and answers with its numbers.
 * What the two say is put together from what really happened in this run, and they share nothing but the channel.
 * A step that fails ends the run with a status other than 0.
 */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Agent } from './agent.mjs';
import { BASH, makeFolder, run, startBridge } from '../../scripts/child-processes.mjs';
import { requirePrograms } from '../../scripts/require-programs.mjs';

const REPOSITORY = join(dirname(fileURLToPath(import.meta.url)), 'repository');
const STAGING = join(dirname(fileURLToPath(import.meta.url)), 'staging.mjs');

// ---- what is printed ----

const isColoured = process.stdout.isTTY && process.stdout.hasColors() && !process.env['NO_COLOR'];
/** @type {Record<string, string>} */
const STYLES = { laptop: '36', server: '33', bridge: '35', you: '1', faint: '2', good: '32' };
const styled = (/** @type {string} */ text, /** @type {string} */ style) =>
  isColoured ? `\x1b[${STYLES[style]}m${text}\x1b[0m` : text;

const begun = performance.now();

/** One step: when, whose, and what; further lines are set in under the first. */
function print(/** @type {string} */ who, /** @type {string} */ text) {
  const time = `${((performance.now() - begun) / 1000).toFixed(1)} s`.padStart(6);
  const [first, ...more] = text.trimEnd().split('\n');
  console.log(`${styled(time, 'faint')}  ${styled(who.padEnd(6), who)}  ${first}`);
  for (const line of more) console.log(`${' '.repeat(16)}${line}`);
}

function printCommand(
  /** @type {Agent} */ { name },
  /** @type {string} */ command,
  /** @type {string} */ outcome = '',
) {
  const [first, ...more] = outcome.split('\n');
  print(name, [styled(`$ ${command}`, 'faint') + (first ? `   ${first}` : ''), ...more].join('\n'));
}

/** What one side said, as the other side's client has shown it. */
function printMessage(
  /** @type {Agent} */ hearer,
  /** @type {{from: string, to: string, text: string}} */ { from, to, text },
) {
  const bar = styled('┃', from);
  const quoted = text.trimEnd().split('\n');
  const heading = styled(`says to ${to === 'all' ? 'all' : `${hearer.name} alone`}:`, from);
  print(from, [heading, ...quoted.map((line) => `${bar} ${line}`)].join('\n'));
}

function check(/** @type {boolean} */ isTrue, /** @type {string} */ claim) {
  if (!isTrue) throw new Error(`this should be so, and is not: ${claim}`);
}

// ---- the change, and the test that was missing ----

const FIX = /** @type {const} */ ([
  ['  #isRunning = false;\n\n', '  #isRunning = false;\n  #heartbeat;\n\n'],
  ['const heartbeat = setInterval', 'this.#heartbeat = setInterval'],
  ['    heartbeat.unref', '    this.#heartbeat.unref'],
  ['  stop() {\n', '  stop() {\n    clearInterval(this.#heartbeat);\n'],
]);

const SHUTDOWN_TEST = `
test('a stopped worker is silent', async () => {
  let heartbeats = 0;
  const worker = new Worker({ report: () => heartbeats++, heartbeatMs: 5 });
  worker.start();
  worker.stop();
  await delay(50);
  assert.equal(heartbeats, 0);
});
`;

function edit(/** @type {string} */ file, /** @type {readonly (readonly [string, string])[]} */ changes) {
  let text = readFileSync(file, 'utf8');
  for (const [before, after] of changes) {
    check(text.includes(before), `${file} contains ${before}`);
    text = text.replace(before, after);
  }
  writeFileSync(file, text);
}

/** Writes the working folder's `git diff` to a file next to the repository, and shows its size. */
async function saveDiff(/** @type {Agent} */ agent, /** @type {string} */ name, /** @type {string} */ path) {
  const file = join(agent.folder, name);
  writeFileSync(file, await agent.git('diff', '--', path));
  const summary = (await agent.git('diff', '--stat', '--', path)).trimEnd().split('\n').at(-1)?.trim() ?? '';
  agent.does(`git diff -- ${path} > ${name}`, summary);
  return { file, summary };
}

/** Waits for a file and says so. */
async function hearFile(/** @type {Agent} */ agent) {
  const file = await agent.hear('file');
  print(agent.name, `has a file from ${file.from}, ${file.bytes} bytes: ${basename(file.path)}`);
  return file;
}

/** Applies a diff that came as a file. */
async function apply(/** @type {Agent} */ agent, /** @type {{path: string}} */ { path }) {
  await agent.git('apply', '--index', path);
  agent.does(`git apply ${basename(path)}`);
}

const treeOf = async (/** @type {Agent} */ agent) => {
  await agent.git('add', '--all');
  return (await agent.git('write-tree')).trim();
};

// ---- the two sides ----

/** @param {Agent} laptop @param {string} url @param {(line: string) => void} handOff gives the user the line */
async function playLaptop(laptop, url, handOff) {
  handOff(await laptop.create(url));
  await laptop.hear('PAIRED');
  print('laptop', styled('PAIRED with server', 'good'));

  edit(join(laptop.repository, 'src/worker.mjs'), FIX);
  const fix = await saveDiff(laptop, 'timer.diff', 'src');
  const own = await laptop.test();
  check(own.fail === 0, 'the tests pass with the change');
  await laptop.say(
    `The worker leak is fixed, I think: stop() never cleared the heartbeat's timer, so each\n` +
      `worker that was replaced stayed in memory. ${fix.summary}.\n` +
      `Here ${own.pass} of ${own.pass + own.fail} tests pass, but I have no staging. The diff follows: can you run it?\n`,
  );
  await laptop.sendFile(fix.file);

  printMessage(laptop, await laptop.hear('message')); // it has it, and begins
  printMessage(laptop, await laptop.hear('message')); // its findings

  const test = join(laptop.repository, 'test/worker.test.mjs');
  writeFileSync(test, readFileSync(test, 'utf8') + SHUTDOWN_TEST);
  const shutdown = await saveDiff(laptop, 'shutdown-test.diff', 'test');
  await laptop.git('apply', '--reverse', fix.file);
  laptop.does('git apply --reverse timer.diff', 'once without the change');
  const without = await laptop.test();
  await laptop.git('apply', fix.file);
  laptop.does('git apply timer.diff', 'and once with it');
  const with_ = await laptop.test();
  check(without.fail === 1 && with_.fail === 0, 'the new test fails without the change and passes with it');
  await laptop.say(
    `Good catch. I wrote that test: without the change ${without.fail} of ${without.pass + without.fail} fails,` +
      ` with it all ${with_.pass} pass.\nIts diff follows.\n`,
  );
  await laptop.sendFile(shutdown.file);

  const verdict = await laptop.hear('message');
  printMessage(laptop, verdict);
  const tree = await treeOf(laptop);
  laptop.does('git write-tree', tree);
  check(verdict.text.includes(tree), 'both repositories hold the same tree');
  await laptop.dm('server', `Same tree here, so I commit. For the budget of our CI: how long did your runs take?\n`);
  printMessage(laptop, await laptop.hear('message'));
  await laptop.git('commit', '--quiet', '--message', 'Clear the heartbeat when a worker stops');
  laptop.does('git commit', (await laptop.git('log', '-1', '--format=%h %s')).trim());
  await laptop.leave();
  print('laptop', 'has left; its keys are erased');
}

/** @param {Agent} server @param {Promise<string>} pasted what the user pastes: the laptop's line */
async function playServer(server, pasted) {
  const link = /https?:\/\/\S+$/.exec(await pasted)?.[0] ?? '';
  const joining = performance.now();
  await server.join(link);
  await server.hear('PAIRED');
  print('server', styled('PAIRED with laptop', 'good') + `, ${Math.round(performance.now() - joining)} ms after join`);

  printMessage(server, await server.hear('message'));
  const diff = await hearFile(server);
  await server.say(`I have your diff. First a run without it, to compare.\n`);

  const before = { tests: await server.test(), staging: await stage(server) };
  await apply(server, diff);
  const after = { tests: await server.test(), staging: await stage(server) };
  const [heapBefore, heapAfter] = [before.staging.result.heapMegabytes, after.staging.result.heapMegabytes];
  const grown = (/** @type {number[]} */ heap) => (heap.at(-1) ?? 0) - (heap[0] ?? 0);
  check(before.staging.result.heartbeats > 0, 'without the change, stopped workers still speak');
  check(after.staging.result.heartbeats === 0, 'with the change, they are silent');
  check(grown(heapAfter) < grown(heapBefore) / 4, 'with the change, the heap grows far less');
  const row = (/** @type {number[]} */ numbers) => numbers.map((number) => number.toFixed(1).padStart(6)).join('');
  await server.say(
    `Confirmed. Heap in MB after 0, 100, … ${after.staging.result.workers} workers that came and went:\n` +
      `  without ${row(heapBefore)}\n` +
      `  with    ${row(heapAfter)}\n` +
      `Heartbeats of stopped workers within ${before.staging.result.listenMs} ms:` +
      ` ${before.staging.result.heartbeats} without, ${after.staging.result.heartbeats} with it.\n` +
      `One note: ${before.tests.pass} of ${before.tests.pass + before.tests.fail} tests passed before your change, too.` +
      ` Nothing tests the shutdown.\nCan you add that?\n`,
  );

  printMessage(server, await server.hear('message'));
  await apply(server, await hearFile(server));
  const final = await server.test();
  check(final.fail === 0 && final.pass === after.tests.pass + 1, 'the new test runs and passes here, too');
  const tree = await treeOf(server);
  await server.say(`All ${final.pass} pass here. If your tree is the one that I tested, commit it:\n${tree}\n`);

  printMessage(server, await server.hear('message'));
  const tests = before.tests.ms + after.tests.ms + final.ms;
  await server.dm(
    'laptop',
    `Tests ${tests} ms in three runs, staging ${before.staging.ms + after.staging.ms} ms in two.\n`,
  );
  const { from } = await server.hear('LEFT');
  print('server', `is told that ${from} has left`);
  await server.leave();
  print('server', 'has left; its keys are erased');
}

async function stage(/** @type {Agent} */ server) {
  const measured = await server.measure(STAGING, 'src/worker.mjs');
  const { heapMegabytes, heartbeats, workers } = measured.result;
  const heap = `heap ${heapMegabytes[0]} → ${heapMegabytes.at(-1)} MB`;
  server.does('node staging.mjs', `${workers} workers, ${heap}, ${heartbeats} stray heartbeats`);
  return measured;
}

// ---- the play ----

async function play() {
  const folder = makeFolder('demo');
  const [laptop, server] = ['laptop', 'server'].map((name) => new Agent(name, join(folder, name), printCommand));
  if (!laptop || !server) throw new Error('two play');

  console.log(
    `A review across two machines: here they are two folders, with two clients, and a bridge between them.\n`,
  );
  mkdirSync(laptop.repository, { recursive: true });
  cpSync(REPOSITORY, laptop.repository, { recursive: true });
  await laptop.git('init', '--quiet');
  await laptop.git('add', '--all');
  await laptop.git('commit', '--quiet', '--message', 'A worker');
  const cloned = await run('git', ['clone', '--quiet', laptop.repository, server.repository]);
  check(cloned.status === 0, `git clone works: ${cloned.stderr}`);

  const bridge = await startBridge();
  print('bridge', `listens on ${bridge.url}`);
  print('you', `tell the laptop's agent: Talk to my other agent at ${bridge.url}`);

  /** @type {(line: string) => void} */
  let handOff = () => {};
  const pasted = new Promise((resolve) => {
    handOff = (line) => {
      print('you', `paste its line into the server's agent:\n${styled(line.replace(/#k=(.{6}).*/, '#k=$1…'), 'you')}`);
      resolve(line);
    };
  });
  await Promise.all([playLaptop(laptop, bridge.url, handOff), playServer(server, pasted)]);

  const metrics = await (await fetch(`${bridge.url}/metrics`)).text();
  const total = (/** @type {string} */ name) =>
    Number(new RegExp(`^agentalk_${name}_total (\\d+)$`, 'm').exec(metrics)?.[1]);
  check(/^agentalk_channels 0$/m.test(metrics), 'the channel has ended with the last one out');
  await bridge.stop();
  const told = bridge
    .stderr()
    .split('\n')
    .filter((line) => line !== '' && !line.includes('"message":"stopping"'));
  check(told.length === 0, `the bridge had nothing to report but its end: ${told.join('; ')}`);
  print(
    'bridge',
    `carried ${total('messages')} sealed messages, ${total('message_bytes')} characters, and could read none`,
  );
}

requirePrograms('git', BASH, 'curl', 'openssl');
try {
  await play();
} catch (error) {
  console.error(`\nThe demo failed: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
}
