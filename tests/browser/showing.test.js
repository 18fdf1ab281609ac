// Which tab shows what, and when: each event once in a browser, where somebody sees it.

import assert from "node:assert/strict";
import { after, afterEach, beforeEach, test } from "node:test";
import { Engine, needs } from "./support/engine.js";
import { Server } from "./support/server.js";
import { OPEN, RECORD, WATCH } from "./support/sharing.js";
import { page, Site } from "./support/site.js";
import { eventually } from "./support/wait.js";

const engine = await Engine.start();
let server;
let site;
beforeEach(async () => {
  server = await Server.start();
  site = await Site.start();
  const script = (attributes = "") =>
    page(
      `<script>${RECORD}${WATCH}</script><script defer src="${server.origin}/notifier.js" ${attributes}></script>`,
      '<video></video><button onclick="document.querySelector(`video`).requestFullscreen()">Full screen</button>',
    );
  site.pages = { "/": script(), "/us": script('data-regions="US"'), "/plain": page("") };
});
afterEach(async () => {
  await engine.closeTabs();
  await site.close();
  await server.close();
});
after(() => engine.close());

async function open(path = "/", { newWindow = true } = {}) {
  const tab = await engine.open(`${site.origin}${path}`, { newWindow });
  if (path !== "/plain") await tab.until(OPEN);
  return tab;
}

/** In one window, where the next one hides it. */
const hidden = { newWindow: false };

/** Another page in front of them; they are told of it a moment later. */
async function cover(...tabs) {
  const front = await open("/plain", hidden);
  for (const tab of tabs) await tab.until("document.hidden");
  return front;
}

const shown = async (tabs) => (await Promise.all(tabs.map((tab) => tab.evaluate("shown")))).flat();

const toasts = async (tabs) => (await Promise.all(tabs.map((tab) => tab.toasts()))).flat();

/** Beyond the time within which several become one. */
async function apart(tab) {
  const from = await tab.evaluate("performance.now()");
  await tab.until(`performance.now() - ${from} > 300`);
}

test("twenty publications to eight windows that are all seen make twenty toasts", async () => {
  const tabs = [];
  while (tabs.length < 8) tabs.push(await open());
  for (const tab of tabs) assert.equal(await tab.evaluate("document.hidden"), false);
  const titles = Array.from({ length: 20 }, (_, index) => `title ${index}`);
  for (const title of titles) {
    await server.publish(title);
    await apart(tabs[0]);
  }
  for (const tab of tabs) await tab.until("heard.length === 20");
  assert.deepEqual((await shown(tabs)).toSorted(), titles.toSorted());
});

test("what is posted while all tabs are hidden is one summary in the first that is seen", needs("show"), async () => {
  const [first, second] = [await open("/"), await open("/", hidden)];
  await cover(first, second);
  for (const [region, count] of [
    ["US", 3],
    ["JP", 5],
    ["US", 4],
  ])
    await server.publish(`${region} ${count}`, { region, count });
  for (const tab of [first, second]) await tab.until("heard.length === 3");
  assert.deepEqual(await toasts([first, second]), []);
  await first.show();
  const summary = [
    "12 new trending videos · United States, Japan",
    "7 new trending videos · United States",
    "5 new trending videos · Japan",
  ].join("\n");
  await eventually(async () => (await first.toasts()).length === 1, { what: "a toast" });
  assert.deepEqual(await toasts([first, second]), [summary]);
  await second.show();
  await server.publish("seen in the second");
  await second.until("shown.length === 1");
  assert.deepEqual(await second.evaluate("shown"), ["seen in the second"]);
});

test("what waits is not lost with the tab: it is shown on the next page", async () => {
  const tab = await open("/", hidden);
  const other = await cover(tab);
  await server.publish("unseen");
  await tab.until("heard.length === 1");
  await tab.close();
  await other.close();
  const next = await open("/");
  await next.until("shown.length === 1");
  assert.deepEqual(await next.evaluate("[shown, heard]"), [["unseen"], ["unseen"]]);
  const last = await open("/");
  await server.publish("next");
  await eventually(async () => (await shown([next, last])).includes("next"), { what: "the next" });
  assert.deepEqual(await shown([next, last]), ["unseen", "next"]);
});

test("a tab that goes from page to page while another one leads shows what came on the way", async () => {
  const leader = await open("/", hidden);
  await cover(leader);
  const tab = await open("/");
  await tab.go(`${site.origin}/plain`);
  await server.publish("on the way");
  await leader.until("heard.length === 1");
  await tab.go(`${site.origin}/`);
  await tab.until("shown.length === 1");
  assert.deepEqual(await shown([leader, tab]), ["on the way"]);
});

test("during fullscreen toasts wait, in whatever window there is no other", async () => {
  const tab = await open("/");
  const { x, y } = await tab.evaluate("document.querySelector('button').getBoundingClientRect().toJSON()");
  await tab.evaluate(
    "void document.addEventListener('fullscreenchange', () => (window.isFull = document.fullscreenElement))",
  );
  await tab.click(x + 5, y + 5);
  await tab.until("Boolean(window.isFull)");
  await server.publish("one");
  await server.publish("two");
  await tab.until("heard.length === 2");
  assert.deepEqual(await tab.toasts(), []);
  await tab.evaluate("void document.exitFullscreen()");
  await tab.until("shown.length === 2");
  assert.deepEqual(await tab.toasts(), ["2 new trending videos · United States\none\ntwo"]);
});

test("under a modal dialog toasts wait until it is closed", async () => {
  const tab = await open("/");
  await tab.call(() => {
    document.body.append(Object.assign(document.createElement("dialog"), { id: "modal" }));
    document.getElementById("modal").showModal();
  });
  await server.publish("one");
  await tab.until("heard.length === 1");
  assert.deepEqual(await tab.toasts(), []);
  await tab.evaluate("document.getElementById('modal').close()");
  await tab.until("shown.length === 1");
  // One that is not modal leaves the page as it is.
  await tab.evaluate("document.getElementById('modal').show()");
  await server.publish("two");
  await tab.until("shown.length === 2");
});

test("a publication is shown where it is asked for, not where it is not", async () => {
  const us = await open("/us");
  const all = await open("/");
  await us.evaluate("dispatchEvent(new Event('focus'))");
  await server.publish("from Japan", { region: "JP" });
  await all.until("shown.length === 1");
  assert.deepEqual([await us.evaluate("shown"), await all.evaluate("shown")], [[], ["from Japan"]]);
});

test("muted lasts, holds in all tabs, and takes away what stands in them", async () => {
  const tabs = [await open("/"), await open("/")];
  await server.publish("stands");
  await eventually(async () => (await toasts(tabs)).length === 1, { what: "a toast" });
  const [showing, other] = (await tabs[0].evaluate("shown.length")) ? tabs : tabs.toReversed();
  await other.evaluate("VideoNotifier.instance.muted = true");
  await eventually(async () => (await toasts(tabs)).length === 0, { what: "no toast" });
  await server.publish("not shown");
  for (const tab of tabs) await tab.until("heard.length === 2");
  assert.equal(await showing.evaluate("VideoNotifier.instance.muted"), true);
  await showing.reload();
  await showing.until(OPEN);
  await server.publish("nor this");
  await showing.until("heard.includes('nor this')");
  assert.deepEqual(await toasts(tabs), []);
  await showing.evaluate("VideoNotifier.instance.muted = false");
  await server.publish("shown again");
  await eventually(async () => (await shown(tabs)).includes("shown again"), { what: "a toast" });
  assert.deepEqual(
    (await shown(tabs)).filter((title) => title !== "stands"),
    ["shown again"],
  );
});

test("what a page prevents is in the list of all tabs, and in no toast, now or later", async () => {
  const tabs = [await open("/"), await open("/")];
  for (const tab of tabs) {
    await tab.evaluate(
      `VideoNotifier.instance.addEventListener("notification", (event) => event.detail.region === "JP" && event.preventDefault())`,
    );
  }
  await server.publish("prevented", { region: "JP" });
  for (const tab of tabs) await tab.until("VideoNotifier.instance.history.length === 1");
  await tabs[0].evaluate("dispatchEvent(new Event('focus'))");
  await server.publish("shown");
  await eventually(async () => (await shown(tabs)).length === 1, { what: "a toast" });
  assert.deepEqual(await shown(tabs), ["shown"]);
});
