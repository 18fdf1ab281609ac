// Many tabs, one connection: who has it, who gets it when it is lost, and that nothing is lost or doubled on the way.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { Chromium } from "./support/chromium.js";
import { Server } from "./support/server.js";
import { leaderOf, OPEN, RECORD } from "./support/sharing.js";
import { page, publish, Site } from "./support/site.js";
import { eventually } from "./support/wait.js";

/** A page that its browser freezes without telling it. */
const UNTOLD = `
  for (const type of ["freeze", "resume"]) addEventListener(type, (event) => event.stopImmediatePropagation(), true);
`;

let chromium;
let context;
let server;
let site;
before(async () => {
  chromium = await Chromium.start();
});
beforeEach(async () => {
  context = await chromium.context();
  await chromium.open(undefined, { context });
  server = await Server.start("--heartbeat", "1s");
  site = await Site.start();
  site.pages = {
    "/": embed(),
    "/us": embed('data-regions="US"'),
    "/jp": embed('data-regions="JP"'),
    "/plain": page(""),
  };
});
afterEach(async () => {
  await chromium.send("Target.disposeBrowserContext", { browserContextId: context });
  await site.close();
  await server.close();
});
after(() => chromium?.close());

const embed = (attributes = "") => page(`<script defer src="${server.origin}/notifier.js" ${attributes}></script>`);

/** All in one window, so the last one is seen, and all others are hidden. */
async function open(path = "/", { before = "", ...options } = {}) {
  const tab = await chromium.open(`${site.origin}${path}`, {
    context,
    newWindow: false,
    before: RECORD + before,
    ...options,
  });
  await tab.until(OPEN);
  return tab;
}

async function openMany(count, ...options) {
  const tabs = [];
  while (tabs.length < count) tabs.push(await open(...options));
  return tabs;
}

const without = (tabs, tab) => tabs.filter((each) => each !== tab);

const subscribers = async (title) => (await server.publish(title)).subscribers;

/** Publishes once there is one connection, and waits until each of them has heard. */
async function assertShared(tabs, title) {
  let attempt = 0;
  await eventually(async () => (await subscribers(`${title} ${++attempt}`)) === 1, { what: "one connection" });
  for (const tab of tabs) await tab.until(`heard.includes("${title} ${attempt}")`);
  for (const tab of tabs)
    assert.deepEqual(await tab.evaluate("[heard.length - new Set(heard).size, gaps]"), [0, 0], "nothing twice, no gap");
}

test("eight tabs have one connection, and all hear of each publication once", async () => {
  const tabs = await openMany(8);
  assert.equal(tabs.flatMap(({ sockets }) => sockets).length, 1);
  for (const title of ["one", "two", "three"]) assert.equal(await subscribers(title), 1);
  for (const tab of tabs) {
    await tab.until("heard.length === 3");
    assert.deepEqual(await tab.evaluate("heard"), ["one", "two", "three"]);
  }
});

for (const [what, lose] of [
  ["is closed", (leader) => leader.close()],
  ["crashes", (leader) => leader.crash()],
  ["goes to another page", (leader) => leader.go(`${site.origin}/plain`)],
  ["is frozen", (leader) => leader.freeze()],
]) {
  test(`when the leader ${what}, the next one goes on`, async () => {
    const tabs = await openMany(3);
    await assertShared(tabs, "before");
    const leader = await leaderOf(tabs);
    await lose(leader);
    await assertShared(without(tabs, leader), "after");
  });
}

test("a leader that is frozen without a word is found out by its silence", async () => {
  const tabs = await openMany(3, "/", { before: UNTOLD });
  const leader = await leaderOf(tabs);
  await leader.freeze();
  const others = without(tabs, leader);
  await leaderOf(others);
  await server.publish("after");
  for (const tab of others) await tab.until("heard.includes('after')");

  await leader.resume();
  await assertShared(tabs, "resumed");
});

test("who looks at a tab whose leader is frozen without a word hears within two seconds", async () => {
  await server.close();
  server = await Server.start();
  site.pages["/"] = embed();
  const tabs = await openMany(3, "/", { before: UNTOLD });
  const leader = await leaderOf(tabs);
  const [seen] = without(tabs.slice(0, 2), leader);
  await leader.freeze();
  await server.publish("not heard of yet");
  const from = performance.now();
  await seen.show();
  await seen.until("heard.includes('not heard of yet')");
  assert.ok(performance.now() - from < 2000, `${performance.now() - from} ms`);
});

test("a frozen tab that waits for its turn keeps nobody else from theirs", async () => {
  for (const before of ["", UNTOLD]) {
    const [leader, next, last] = await openMany(3, "/", { before });
    await next.freeze();
    await leader.close();
    await leaderOf([last]);
    await server.publish("while frozen");
    await last.until("heard.includes('while frozen')");
    await next.resume();
    await next.until("heard.includes('while frozen')");
    await assertShared([next, last], "after");
    for (const tab of [next, last]) await tab.close();
  }
});

test("a leader in the back/forward cache has let go, and joins the others when it is back", async () => {
  const [leader, ...others] = await openMany(3);
  await leader.evaluate("window.kept = true");
  await leader.go(`${site.origin}/plain`);
  await assertShared(others, "while away");
  await leader.back();
  await leader.until("window.kept && heard.length > 0");
  await assertShared([leader, ...others], "back");
  assert.equal(await leader.evaluate("sockets.length"), 1);
});

test("a page from the back/forward cache comes back after the server was started anew", async () => {
  const [tab, other] = await openMany(2);
  await tab.go(`${site.origin}/plain`);
  await server.publish("before");
  await other.until("heard.length === 1");
  await server.kill();
  await server.launch();
  await server.publish("after");
  await tab.back();
  await tab.until("heard.length === 2");
  await other.until("heard.length === 2");
  await assertShared([tab, other], "at last");
});

test("tabs that go offline and online in turns end up with one connection, and miss nothing", async () => {
  const tabs = await openMany(3);
  for (let turn = 0; turn < 5; turn++) {
    for (const tab of tabs) await tab.goOffline(true);
    await server.publish(`offline ${turn}`);
    for (const tab of tabs) await tab.goOffline(false);
    await server.publish(`online ${turn}`);
  }
  const all = Array.from({ length: 5 }, (_, turn) => [`offline ${turn}`, `online ${turn}`]).flat();
  for (const tab of tabs) await tab.until("heard.length >= 10", { within: 20_000 });
  await leaderOf(tabs);
  for (const tab of tabs) assert.deepEqual(await tab.evaluate("[heard, gaps]"), [all, 0]);
  await assertShared(tabs, "at last");
});

test("close leaves no lock and no channel", async () => {
  const tabs = await openMany(2);
  const locks = (tab) =>
    tab.evaluate("navigator.locks.query().then(({ held, pending }) => held.length + pending.length)");
  assert.ok((await locks(tabs[0])) >= 4);
  for (const tab of tabs) {
    await tab.evaluate(`
      window.posts = 0;
      new BroadcastChannel("video-notifier/1 ws://127.0.0.1:${server.port}/ws").onmessage = () => posts++;
      VideoNotifier.instance.close();
    `);
  }
  await eventually(async () => (await locks(tabs[0])) === 0, { what: "no lock" });
  await eventually(async () => (await subscribers("to nobody")) === 0, { what: "no connection" });
  await tabs[1].evaluate("posts = 0");
  for (const tab of tabs) await tab.evaluate("dispatchEvent(new Event('pageshow')); dispatchEvent(new Event('focus'))");
  const from = await tabs[1].evaluate("performance.now()");
  await tabs[1].until(`performance.now() - ${from} > 3000`);
  assert.equal(await tabs[1].evaluate("posts"), 0);
});

test("tabs of different regions share a connection, and each hears of its own", async () => {
  const us = await open("/us", { newWindow: true });
  await server.publish("us 1");
  await us.until("heard.length === 1");
  const jp = await open("/jp", { newWindow: true });
  for (const region of ["GB", "JP", "US"]) await server.publish(`${region} 2`, { region });
  await us.until("heard.length === 2");
  await jp.until("heard.length === 1");
  assert.equal(us.sockets.length + jp.sockets.length, 2, "one, and one that asks for both");
  assert.match(us.sockets[1], /regions=US%2CJP/);

  const all = await open("/");
  await server.publish("GB 3", { region: "GB" });
  await all.until("heard.length === 1");
  // The next leader asks for all of it, though its own page does not.
  await us.close();
  await eventually(async () => (await server.publish("JP 4", { region: "JP" })).subscribers === 1);
  await server.publish("GB 5", { region: "GB" });
  await all.until("heard.at(-1) === 'GB 5'");
  assert.deepEqual(await all.evaluate("heard.filter((title) => title !== 'JP 4')"), ["GB 3", "GB 5"]);
  assert.deepEqual(await jp.evaluate("heard.filter((title) => title !== 'JP 4')"), ["JP 2"]);
});

test("a region that no tab asks for any more is caught up with by the next that does", async () => {
  const us = await open("/us");
  const jp = await open("/jp");
  await server.publish("heard", { region: "JP" });
  await jp.until("heard.length === 1");
  await jp.close();
  // The one that is left has noticed: nobody but itself holds a lock.
  await us.until("navigator.locks.query().then(({ held }) => held.length === 2)");
  await server.publish("in between", { region: "JP" });
  await server.publish("in between", { region: "US" });
  await us.until("heard.length === 1");
  const again = await open("/jp");
  await again.until("heard.length === 1");
  assert.deepEqual(await again.evaluate("heard"), ["in between"]);
});

test("setRegions and reconnect work in a tab that follows", async () => {
  const [leader, other] = [await open("/us"), await open("/us")];
  await other.evaluate("VideoNotifier.instance.setRegions(['JP'])");
  await other.until(OPEN);
  await server.publish("for the other", { region: "JP" });
  await server.publish("for the leader", { region: "US" });
  await other.until("heard.length === 1");
  await leader.until("heard.length === 1");
  assert.deepEqual(
    [await leader.evaluate("heard"), await other.evaluate("heard")],
    [["for the leader"], ["for the other"]],
  );
  await other.evaluate("VideoNotifier.instance.reconnect()");
  await leaderOf([other]);
  await leader.until(OPEN);
  assert.equal((await server.publish("again", { region: "JP" })).subscribers, 1);
});

test("the script and the module are two builds, and share a connection", async () => {
  site.pages["/module"] = page(`<script type="module">
    import { VideoNotifier } from "${server.origin}/notifier.esm.js";
    VideoNotifier.instance = new VideoNotifier("${server.origin}/ws");
    Object.assign(window, { VideoNotifier });
  </script>`);
  const tabs = [await open("/"), await open("/module")];
  await assertShared(tabs, "from the script");
  await tabs[0].close();
  const [, module] = tabs;
  await assertShared([module, await open("/")], "from the module");
});

test("scripts that share in another way, and other servers, are left alone", async () => {
  const script = await (await fetch(`${server.origin}/notifier.js`)).text();
  const other = script.replaceAll("video-notifier/1 ", "video-notifier/0 ");
  assert.notEqual(other, script);
  site.files = { "/other.js": other };
  site.pages["/other"] = page(`<script defer src="/other.js" data-url="${server.origin}/ws"></script>`);
  site.pages["/tenant"] = embed(`data-url="${server.origin}/ws?tenant=a"`);
  const tabs = [await open("/"), await open("/other"), await open("/tenant")];
  assert.equal(await subscribers("to all"), 3);
  for (const tab of tabs) await tab.until("heard.length === 1");
});

for (const [what, attributes, before] of [
  ["without locks", "", "Object.defineProperty(navigator, 'locks', { value: undefined });"],
  ["without channels", "", "window.BroadcastChannel = undefined;"],
  [
    "where locks are denied",
    "",
    "navigator.locks.request = async () => { throw new DOMException('', 'SecurityError'); };",
  ],
  ["that may store nothing", 'data-storage="none"', ""],
]) {
  test(`tabs ${what} have a connection each`, async () => {
    site.pages["/"] = embed(attributes);
    const tabs = await openMany(2, "/", { before });
    assert.equal(await subscribers("to both"), 2);
    for (const tab of tabs) await tab.until("heard.length === 1");
  });
}

test("the last of many tabs that come and go at once has the connection", async () => {
  const tabs = await Promise.all(Array.from({ length: 6 }, () => open("/")));
  await Promise.all(tabs.slice(0, 5).map((tab) => tab.close()));
  await assertShared(tabs.slice(5), "last");
});

test("windows in sight fetch anew once, and every tab gets what came of it", async () => {
  const tabs = [];
  for (const newWindow of [true, true, true, false]) tabs.push(await open("/", { newWindow }));
  for (const tab of tabs) {
    await tab.evaluate(`
      window.got = [];
      const notifier = VideoNotifier.instance;
      notifier.addEventListener("notification", ({ detail }) =>
        notifier.refetch(async () => {
          await fetch("/list");
          return detail.videos[0].title;
        }));
      notifier.addEventListener("refetch", ({ detail }) => got.push(detail.value));
    `);
  }
  const titles = Array.from({ length: 10 }, (_, number) => `list ${number}`);
  for (const title of titles) {
    await server.publish(title);
    for (const tab of tabs) await tab.until(`got.includes(${JSON.stringify(title)})`);
  }
  for (const tab of tabs) assert.deepEqual(await tab.evaluate("got"), titles);
  assert.equal(site.requests.filter((path) => path === "/list").length, titles.length);
});

test("where the page that fetches anew fails, it is told, and another tries", async () => {
  const tabs = [await open("/", { newWindow: true }), await open("/", { newWindow: true })];
  for (const tab of tabs) {
    await tab.evaluate(`
      window.got = [];
      window.failures = [];
      addEventListener("unhandledrejection", ({ reason }) => failures.push(reason.message));
      const notifier = VideoNotifier.instance;
      notifier.addEventListener("notification", () =>
        notifier.refetch(async () => {
          const { status } = await fetch("/list");
          if (status !== 200) throw new Error("no list");
          return "a list";
        }));
      notifier.addEventListener("refetch", ({ detail }) => got.push(detail.value));
    `);
  }
  await server.publish("a title");
  await eventually(() => site.requests.filter((path) => path === "/list").length === 2, { what: "both have tried" });
  for (const tab of tabs) await tab.until("failures.join() === 'no list'");
  site.pages["/list"] = "a list";
  await server.publish("another title");
  for (const tab of tabs) await tab.until("got.join() === 'a list'");
});
