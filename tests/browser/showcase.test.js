// The server's own page at `/`: what it shows of the connection, and what a visitor can choose there.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { Chromium } from "./support/chromium.js";
import { Server } from "./support/server.js";
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

test("the command that it gives can be copied, and is taken by the server", async () => {
  const tab = await open("?regions=DE");
  const { origin } = server;
  await chromium.send("Browser.grantPermissions", {
    browserContextId: context,
    origin,
    permissions: ["clipboardReadWrite", "clipboardSanitizedWrite"],
  });
  await tab.show();
  await choose(tab, "[data-copies=post]");
  await tab.until("document.querySelector('[data-copies=post]').textContent === 'Copied'");
  const command = await tab.evaluate("navigator.clipboard.readText()");
  assert.equal(command, await tab.evaluate("document.querySelector('#post').textContent"));
  assert.ok(command.startsWith(`curl ${origin}/notify `), command);
  const [, body] = /-d '(.*)'$/s.exec(command);
  const { region, count, subscribers } = await server.post(JSON.parse(body));
  assert.deepEqual([region, count, subscribers], ["DE", 37, 1]);
  await feedIs(tab, "Germany: 37 new videos");
});
