/**
 * A real Chromium at a bridge. Each Visitor is a window with a storage of its own, as another person on another machine
 * would have; it notes whatever a page does that no page of ours may: an error, a request that leaves the bridge.
 */
import assert from 'node:assert/strict';
import { after } from 'node:test';
import { chromium } from 'playwright-core';
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core';

export const CHROMIUM = '/usr/bin/chromium';
const FLAGS = [
  ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
  '--host-resolver-rules=MAP plain.example 127.0.0.1', // a bridge that is not on localhost
];

let launched: Promise<Browser> | undefined;
after(async () => (await launched)?.close());

function browser(): Promise<Browser> {
  return (launched ??= chromium.launch({ executablePath: CHROMIUM, args: FLAGS }));
}

export class BrowserUser {
  /** What should not have been; empty is good. */
  readonly complaints: string[] = [];

  private constructor(
    readonly context: BrowserContext,
    readonly page: Page,
    origin: string,
  ) {
    page.on('pageerror', (error) => this.complaints.push(`error: ${error.message}`));
    page.on('dialog', (dialog) => {
      this.complaints.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on('console', (message) => {
      // A request that the bridge refuses or that finds no bridge is noted by the browser itself, as an error.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) {
        this.complaints.push(`console: ${message.text()}`);
      }
    });
    context.on('request', (request) => {
      if (!/^(data|blob):/.test(request.url()) && new URL(request.url()).origin !== origin) {
        this.complaints.push(`request: ${request.url()}`);
      }
    });
  }

  /** A new window, blank. */
  static async at(bridge: string, options: BrowserContextOptions = {}): Promise<BrowserUser> {
    const context = await (await browser()).newContext({ reducedMotion: 'reduce', acceptDownloads: true, ...options });
    context.setDefaultTimeout(30_000);
    return new BrowserUser(context, await context.newPage(), new URL(bridge).origin);
  }

  /** Comes into a room by its link, under a name. */
  static async join(link: string, name: string, options: BrowserContextOptions = {}): Promise<BrowserUser> {
    const user = await BrowserUser.at(link, options);
    await user.page.goto(link);
    await user.page.getByLabel('Your name in the room').fill(name);
    await user.page.getByRole('button', { name: 'Join' }).click();
    await user.page.locator('#state.online').waitFor();
    return user;
  }

  /** Writes as a person does, to everybody or to one. */
  async say(text: string, to = ''): Promise<void> {
    await this.page.locator('#to').selectOption(to);
    await this.page.locator('#text').fill(text);
    await this.page.locator('#text').press('Enter');
  }

  /** Until the transcript has this; gives the entry. */
  async waitForEntry(words: string | RegExp): Promise<string> {
    const item = this.page.locator('#log > li').filter({ hasText: words }).first();
    try {
      await item.waitFor();
    } catch (error) {
      throw new Error(`no ${String(words)} in:\n${await this.page.locator('body').innerText()}`, { cause: error });
    }
    return item.innerText();
  }

  /** Fails if the page did what it may not. */
  behaved(): void {
    assert.deepEqual(this.complaints, []);
  }

  close(): Promise<void> {
    return this.context.close();
  }
}
