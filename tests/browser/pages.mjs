// The dashboard and the page of an edge, in Chromium: live, by keyboard alone, without anything from elsewhere, and
// without what axe finds fault with. Makes screenshots in light and dark, for a desktop and a phone.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { chromium } from "playwright-core";
import { ncps } from "./ncps.mjs";
import { upstream } from "./upstream.mjs";

const [program, screenshots] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const BROWSER = process.env.CHROMIUM ?? "/usr/bin/chromium";
const QUIET = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];
const SIZES = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };
const NAMES = ["firefox-149.0", "linux-6.18.2", "gcc-15.2.0", "python3-3.13.9", "glibc-2.42", "systemd-258.2",
  "rustc-1.95.0", "openssl-3.6.0", "git-2.52.0", "llvm-21.1.7", "nodejs-24.11.1", "postgresql-18.1", "ffmpeg-8.0.1",
  "mesa-25.3.1", "qtbase-6.10.1", "texlive-2025", "chromium-156.0", "libreoffice-25.8", "go-1.26.0", "emacs-30.2"];
const paths = Object.fromEntries(NAMES.map((name, n) => [name, 60_000 + 40_000 * n]));

const step = (what) => console.log(`browser: ${what}`);

// A client of the cache: the narinfo, then the NAR, so many times.
async function fetched(server, { narinfo, nar }, times = 1) {
  for (let n = 0; n < times; n += 1) {
    for (const path of [narinfo, nar]) {
      const answer = await fetch(server.edge + path);
      assert.equal(answer.status, 200, path);
      await answer.arrayBuffer();
    }
  }
}

// Everything that the browser asks for or complains of.
function watched(context) {
  const seen = { hosts: new Set(), complaints: [] };
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "data:") seen.hosts.add(url.hostname);
  });
  context.on("console", (said) => {
    if (["error", "warning"].includes(said.type())) seen.complaints.push(said.text());
  });
  context.on("weberror", (error) => seen.complaints.push(String(error.error())));
  return seen;
}

// axe is told to the page by the browser itself, past the page's policy.
async function isAccessible(page, what) {
  const found = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`);
  const told = found.violations.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.map((n) => n.html).join("\n  ")}`);
  assert.deepEqual(told, [], `${what} has what axe finds fault with`);
  assert.ok(found.passes.length > 10, "axe has looked");
}

async function isShownEverywhere(page, name) {
  for (const colorScheme of ["light", "dark"]) {
    for (const [size, viewport] of Object.entries(SIZES)) {
      const what = `${name}-${colorScheme}-${size}`;
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.setViewportSize(viewport);
      await pause(300);
      const wide = await page.evaluate("document.scrollingElement.scrollWidth");
      assert.ok(wide <= viewport.width, `${what} is ${wide} wide`);
      await isAccessible(page, what);
      await page.screenshot({ path: join(screenshots, `${what}.png`), fullPage: true });
    }
  }
  await page.setViewportSize(SIZES.desktop);
}

const text = (page, id) => page.locator(`#${id}`).textContent();

// Waits until a part of the page says this. The page itself may evaluate nothing for us.
async function says(page, id, expected) {
  let last = "";
  for (const until = Date.now() + 30_000; Date.now() < until; await pause(100)) {
    last = await text(page, id);
    if (last.includes(expected)) return;
  }
  assert.fail(`#${id} does not say ${expected}, but ${last}`);
}

async function isLive(page, server, cache) {
  await page.waitForSelector('#live[data-state="good"]');
  await page.evaluate("window.untouched = true");
  const before = await text(page, "nar-hits");
  assert.match(before, /^0 of 0$/);
  await fetched(server, cache.fixtures[0]);
  // From here on it lies in the store.
  await pause(1000);
  await fetched(server, cache.fixtures[0], 2);
  await says(page, "nar-hits", "2 of 3");
  await says(page, "top", "firefox-149.0");
  assert.ok(await page.evaluate("window.untouched"), "without being loaded again");
}

async function showsTransfers(page, server, cache) {
  cache.pace.ms = 6000;
  const running = fetched(server, cache.fixtures[1]);
  await says(page, "transfers", "linux-6.18.2");
  cache.pace.ms = 0;
  await running;
  await says(page, "transfers", "Nothing is fetched");
}

// What has the focus: its role or name, and that it can be seen.
const focused = (page) => page.evaluate(() => {
  const at = document.activeElement, box = at.getBoundingClientRect();
  const name = at.getAttribute("aria-label") ?? at.textContent.trim();
  return { tag: at.localName, id: at.id, name, seen: box.width > 1 && box.bottom > 0 && box.top < innerHeight };
});

async function worksByKeyboard(page) {
  await page.evaluate("document.activeElement.blur(); scrollTo(0, 0)");
  await page.keyboard.press("Tab");
  assert.equal((await focused(page)).name, "Skip to the figures");
  await page.keyboard.press("Enter");
  assert.equal((await focused(page)).id, "main");
  const stops = [];
  for (let at = null; at?.name !== "Last events"; stops.push(at)) {
    assert.ok(stops.length < 30, `never comes to the end: ${JSON.stringify(stops)}`);
    await page.keyboard.press("Tab");
    at = await focused(page);
    assert.ok(at.seen && at.name, `a focus that nobody sees: ${JSON.stringify(at)}`);
    if (at.name === "Bandwidth as a table") {
      await page.keyboard.press("Enter");
      assert.ok(await page.locator("#bandwidth-table table").isVisible());
    }
  }
  const names = stops.map((stop) => stop.name);
  for (const expected of ["Bandwidth as a table", "Bandwidth by minute", "Hit ratio as a table",
    "Edges and their health", "Upstreams and their health"]) {
    assert.ok(names.includes(expected), `${expected} among ${names}`);
  }
  await page.locator("#bandwidth-table").evaluate((at) => { at.parentElement.open = false; });
  await page.evaluate("document.activeElement.blur(); scrollTo(0, 0)");
}

async function namesStayText(page) {
  assert.ok((await text(page, "fleet")).includes("<b>edge</b>"));
  assert.equal(await page.locator("#fleet b").count(), 0);
}

async function whatDoesNotChangeStays(page) {
  await page.evaluate("window.cell = document.querySelector('#upstreams tbody th').firstChild");
  await pause(5000);
  assert.ok(await page.evaluate("window.cell.isConnected"), "it could not be selected and copied");
}

// The process stands still, as where its machine does: the connection stays, and nothing comes.
async function tellsThatNothingComes(page, server) {
  server.signal("SIGSTOP");
  await says(page, "live", "no news since");
  server.signal("SIGCONT");
  await says(page, "live", "live");
}

async function canBePaused(page, server, cache) {
  await page.locator("#pause").press("Enter");
  await says(page, "live", "paused at");
  const before = await text(page, "nar-hits");
  await fetched(server, cache.fixtures[0]);
  await pause(12_000);
  assert.equal(await text(page, "nar-hits"), before);
  await page.locator("#pause").press("Enter");
  await says(page, "live", "live");
}

async function tellsThatATokenEnded(page, server) {
  await server.cli("token", "revoke", "dashboard");
  await says(page, "live", "the token counts no more");
  const times = async () => JSON.parse(await server.cli("edges", "--output", "json")).refused.at(-1)?.times ?? 0;
  const before = await times();
  await page.locator("#pause").press("Enter");
  await page.locator("#pause").press("Enter");
  await pause(12_000);
  assert.equal(await times(), before, "it knocks no more");
}

async function main() {
  const cache = await upstream(paths);
  const server = await ncps(program, [
    `--upstream-cache=${cache.url}`, `--upstream-public-key=${cache.key}`, "--upstream-cache=http://127.0.0.1:9?optional=1&priority=10",
    "--cache-hostname=cache.lan", "--edge-name=<b>edge</b>", "--cache-max-size=6M",
  ]);
  const token = await server.cli("token", "create", "dashboard", "--scope", "admin");
  const profile = mkdtempSync(join(tmpdir(), "ncps-profile-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: BROWSER, args: QUIET, viewport: SIZES.desktop, httpCredentials: { username: "me", password: token },
  });
  try {
    const seen = watched(context), page = await context.newPage();
    await page.goto(`${server.control}/`);
    step("a number changes while a client fetches");
    await isLive(page, server, cache);
    step("a running transfer is shown");
    await showsTransfers(page, server, cache);
    step("other clients come and go for a while");
    for (let n = 0; n < 40; n += 1) {
      await fetched(server, cache.fixtures[(n * 7) % cache.fixtures.length], 1 + (n % 3));
      await pause(1200);
    }
    await namesStayText(page);
    await says(page, "upstreams", "away");
    await says(page, "evicted", "to make room");
    step("nothing comes any more, and again");
    await whatDoesNotChangeStays(page);
    await tellsThatNothingComes(page, server);
    step("everything by keyboard");
    await worksByKeyboard(page);
    await canBePaused(page, server, cache);
    step("screenshots and axe");
    await isShownEverywhere(page, "dashboard");
    await page.goto(`${server.edge}/`);
    assert.ok((await page.locator("main").textContent()).includes(`extra-substituters = ${server.edge}`));
    await isShownEverywhere(page, "edge");
    assert.deepEqual([...seen.hosts], ["127.0.0.1"], "nothing is asked of anybody else");
    assert.deepEqual(seen.complaints, [], "the console stays empty");
    step("a token that ends");
    await page.goto(`${server.control}/`);
    await page.waitForSelector('#live[data-state="good"]');
    await tellsThatATokenEnded(page, server);
  } finally {
    await context.close();
    await server.end();
    cache.server.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

await main();
step("all is well");
