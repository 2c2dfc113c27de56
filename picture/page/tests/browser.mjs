// What the tests of all pages share. `TARGET` is the directory of the programs, and `CHROMIUM` the browser.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, afterEach, before } from "node:test";
import { chromium } from "playwright-core";

export const ROOT = resolve(import.meta.dirname, "../../..");
export const TARGET = resolve(ROOT, process.env.TARGET ?? "target/debug");
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export const directory = mkdtempSync(join(tmpdir(), "quorate-pages-"));
let browser;

before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
});

afterEach(async () => {
  for (const context of browser?.contexts() ?? []) await context.close();
});

after(async () => {
  await browser?.close();
  rmSync(directory, { recursive: true });
});

export function run(program, ...args) {
  return execFileSync(join(TARGET, program), args, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] }).toString();
}

/** Opens a page that may load only what fits `allowed`. A message on the console fails the test. */
export async function open(url, allowed, viewport = { width: 1280, height: 720 }, bypassCSP = true) {
  // Waiting for a condition in a page needs `eval`, which the laboratory's page forbids.
  const page = await browser.newPage({ viewport, bypassCSP });
  if (bypassCSP) page.on("console", (message) => assert.fail(`console: ${message.text()}`));
  page.on("pageerror", (error) => assert.fail(`${error}`));
  page.on("request", (request) => assert.match(request.url(), allowed, "the page loads nothing else"));
  await page.goto(url);
  return page;
}
