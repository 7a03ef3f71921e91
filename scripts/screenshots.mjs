/**
 * The pictures of docs/images: start page and room in a real Chromium, at a real bridge, where two real clients and a
 * person have a short talk about a leak. `npm run screenshots`, wherever CHROMIUM (or /usr/bin/chromium) is.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Agent } from '../examples/review/agent.mjs';
import { withPalette } from './quantize-png.mjs';
import { BASH, ROOT, makeFolder, start, startBridge } from './child-processes.mjs';

const IMAGES = join(ROOT, 'docs', 'images');
const MAX_BYTES = 120_000;

/** Faces as people's machines have them, where this one has them too. */
const FONTS = `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
<include ignore_missing="yes">/etc/fonts/fonts.conf</include>
${['system-ui Inter', 'sans Inter', 'sans-serif Inter', 'ui-monospace JetBrains Mono', 'monospace JetBrains Mono']
  .map((line) => /^(\S+) (.*)$/.exec(line) ?? [])
  .map(
    ([, generic, family]) =>
      `<match target="pattern"><test name="family"><string>${generic}</string></test>
<edit name="family" mode="prepend" binding="strong"><string>${family}</string></edit></match>`,
  )
  .join('\n')}</fontconfig>`;

const DIFF = `--- a/src/worker.js
+++ b/src/worker.js
@@ -18,6 +18,7 @@ export class Worker {
   stop() {
+    clearInterval(this.#heartbeat);
     this.#isRunning = false;
-    this.#queue.length = 0;
+    this.#queue.clear();
   }
`;

/** The client's own listening, as an agent's harness runs it, so that the room shows who listens. */
function listen(/** @type {Agent} */ { name, folder }) {
  const session = join(folder, 'sessions', `agentalk-session-${name}.env`);
  start(BASH, ['-c', `. '${session}'; agentalk_listen`], { env: { AGENTALK_HOME: join(folder, 'sessions') } });
}

async function main() {
  const folder = makeFolder('screenshots');
  writeFileSync(join(folder, 'fonts.conf'), FONTS);
  mkdirSync(IMAGES, { recursive: true });
  const bridge = await startBridge();
  const executablePath = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
  if (!existsSync(executablePath)) throw new Error(`${executablePath} is missing: CHROMIUM names another`);
  const browser = await chromium.launch({
    executablePath,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars'],
    env: { ...process.env, FONTCONFIG_FILE: join(folder, 'fonts.conf') },
  });
  const open = async (/** @type {'light' | 'dark'} */ colorScheme, width = 1200, height = 940) => {
    const context = await browser.newContext({
      ...{ colorScheme, viewport: { width, height }, deviceScaleFactor: 1 },
      ...{ reducedMotion: 'reduce', hasTouch: width < 600, isMobile: width < 600 },
    });
    return context.newPage();
  };
  /** @param {import('playwright-core').Page} page @param {string} name */
  const picture = async (page, name) => {
    const path = join(IMAGES, `${name}.png`);
    const png = withPalette(await page.screenshot());
    if (png.length > MAX_BYTES) throw new Error(`${path} would have ${png.length} bytes`);
    writeFileSync(path, png);
    console.log(`${name}.png  ${png.length} bytes`);
  };

  const page = await open('light');
  await page.setViewportSize({ width: 1200, height: 620 });
  await page.goto(bridge.url);
  await picture(page, 'start');
  await page.setViewportSize({ width: 1200, height: 940 });

  // ---- the talk ----

  const [laptop, server] = ['laptop', 'server'].map((name) => {
    mkdirSync(join(folder, name, 'worker'), { recursive: true });
    return new Agent(name, join(folder, name), () => {});
  });
  const line = await laptop.create(bridge.url);
  const [link = ''] = /\S+#k=[0-9a-f]{64}/.exec(line) ?? [];
  await Promise.all([laptop.hear('PAIRED'), server.join(link)]);
  [laptop, server].forEach(listen);
  const room = `${link}&topic=Worker%20leak%3A%20fix%20and%20review`;
  /** @param {import('playwright-core').Page} visitor @param {string | RegExp} words */
  const sees = (visitor, words) => visitor.locator('#log > li').filter({ hasText: words }).first().waitFor();

  await page.goto(room);
  await page.getByLabel('Your name in the room').fill('ada');
  await page.getByRole('button', { name: 'Join' }).click();
  await sees(page, 'PAIRED with server');
  const watcher = await open('dark', 390, 780);

  await laptop.say(
    `The worker leak is fixed, I think: \`stop()\` never cleared the heartbeat. I have no staging. Can you run it?\n\n\`\`\`diff\n${DIFF}\`\`\``,
  );
  await sees(page, 'Can you run');
  await server.say(
    'Applied on a new branch. 400 workers that came and went, heap in MB:\n\nbuild     before   after\nwithout      3.1    37.1\nwith         3.1     3.2\n\nThe leak is gone. There is no test of `stop()`, though.',
  );
  await sees(page, 'The leak is gone');
  await server.dm('ada', 'For you alone: staging is at 91 % of its disk. That is not this change.');
  await sees(page, '91 %');
  await page.locator('#text').fill('Good. Please add that test before you commit, laptop.');
  await page.locator('#text').press('Enter');
  const delivery = page.locator('#log > li', { hasText: 'Please add that test' }).locator('.delivery');
  await delivery
    .filter({ hasText: 'shown to' })
    .or(delivery.filter({ hasText: 'fetched by' }))
    .waitFor();
  await laptop.say('Added: it fails without the fix and passes with it. Committed.');
  await sees(page, 'Committed');
  await page.locator('#people li', { hasText: 'listening' }).nth(1).waitFor();
  await page.locator('#text').blur();
  await page.mouse.move(0, 0);
  await picture(page, 'room');
  await page.emulateMedia({ colorScheme: 'dark' });
  await picture(page, 'room-dark');
  await page.getByRole('button', { name: 'Timeline' }).click();
  await page.setViewportSize({ width: 1200, height: 420 });
  await page.mouse.move(0, 0);
  await picture(page, 'timeline');

  await watcher.goto(room);
  await watcher.getByRole('button', { name: 'Only watch' }).click();
  await sees(watcher, 'Committed');
  await sees(watcher, 'PAIRED with server');
  await watcher.locator('#log').evaluate((log) => log.scrollTo(0, 0));
  await picture(watcher, 'phone');

  await browser.close();
  await bridge.stop();
}

await main();
process.exit(); // ends the listeners
