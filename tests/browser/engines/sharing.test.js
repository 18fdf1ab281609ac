// Many tabs with one connection, in Firefox and WebKit: what ../sharing.test.js, ../delivery.test.js and ../stream.test.js
// have of Chromium.
//
// What they have and this has not: pages that are frozen and told so, and a browser that is offline, are Chromium's own to
// bring about. WebKitWebDriver ends the session with any page that crashes, and can't show a tab that another one hides.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { ENGINES } from "../support/engine.js";
import { HttpProxy } from "../support/proxy.js";
import { Server } from "../support/server.js";
import { leaderOf, OPEN, RECORD } from "../support/sharing.js";
import { page, Site } from "../support/site.js";
import { eventually } from "../support/wait.js";

for (const Engine of ENGINES.slice(1)) describe(Engine.name, () => cases(Engine));

function cases(Engine) {
  const inEngine = (name, run) => test(`${Engine.name}: ${name}`, run);

  let engine;
  let server;
  let site;
  let opened;
  before(async () => {
    engine = await Engine.start();
  });
  beforeEach(async () => {
    opened = [];
    site = await Site.start();
    await serve("--heartbeat", "1s");
  });
  afterEach(async () => {
    for (const tab of opened) await tab.close();
    await site.close();
    await server.close();
  });
  after(() => engine?.close());

  async function serve(...flags) {
    await server?.close();
    server = await Server.start(...flags);
    site.pages = { "/": embed(), "/us": embed('data-regions="US"'), "/plain": page("") };
  }

  const embed = (attributes = "", origin = server.origin) =>
    page(`<script>${RECORD}</script><script defer src="${origin}/notifier.js" ${attributes}></script>`);

  /** All in one window, so the last one is seen, and all others are hidden. */
  async function open(path = "/") {
    const tab = await engine.open(`${site.origin}${path}`, { newWindow: false });
    opened.push(tab);
    await tab.until(OPEN);
    return tab;
  }

  async function openMany(count, path) {
    const tabs = [];
    while (tabs.length < count) tabs.push(await open(path));
    return tabs;
  }

  const without = (tabs, tab) => tabs.filter((each) => each !== tab);

  /** Waits at the server: WebDriver gives a tab the focus to ask it, and then it looks after its leader. */
  const connections = (count) =>
    eventually(async () => (await server.connections()) === count, { what: `${count} connections`, within: 20_000 });

  /** Publishes once there is one connection, and waits until each of them has heard. */
  async function assertShared(tabs, title) {
    await connections(1);
    await server.publish(title);
    for (const tab of tabs) await tab.until(`heard.includes("${title}")`);
    for (const tab of tabs)
      assert.deepEqual(
        await tab.evaluate("[heard.length - new Set(heard).size, gaps]"),
        [0, 0],
        "nothing twice, no gap",
      );
  }

  inEngine("eight tabs have one connection, and all hear of each publication once", async () => {
    const tabs = await openMany(8);
    assert.equal(await server.connections(), 1);
    for (const title of ["one", "two", "three"]) await server.publish(title);
    for (const tab of tabs) {
      await tab.until("heard.length === 3");
      assert.deepEqual(await tab.evaluate("heard"), ["one", "two", "three"]);
    }
    assert.equal(await server.connections(), 1);
  });

  for (const [what, lose] of [
    ["is closed", (leader) => leader.close()],
    ["goes to another page", (leader) => leader.go(`${site.origin}/plain`)],
    ...(!("crash" in Engine.lacks) ? [["crashes", (leader) => leader.crash()]] : []),
  ]) {
    inEngine(`when the leader ${what}, the next one goes on`, async () => {
      const tabs = await openMany(3);
      await assertShared(tabs, "before");
      const leader = await leaderOf(tabs);
      await lose(leader);
      await assertShared(without(tabs, leader), "after");
    });
  }

  inEngine("a leader that stands still without a word is found out, and joins the others when it goes on", async () => {
    const tabs = await openMany(3);
    const leader = await leaderOf(tabs);
    const resume = await leader.stall();
    try {
      const others = without(tabs, leader);
      await connections(2);
      await server.publish("while it stands still");
      for (const tab of others) await tab.until("heard.includes('while it stands still')");
    } finally {
      resume();
    }
    await leader.until("heard.includes('while it stands still')");
    await assertShared(tabs, "after");
  });

  inEngine("a tab that stands still while it waits for its turn keeps nobody else from theirs", async () => {
    const [leader, next, last] = await openMany(3);
    const resume = await next.stall();
    try {
      await leader.close();
      await connections(0);
      await connections(1);
      await server.publish("while it stands still");
      await last.until("heard.includes('while it stands still')");
    } finally {
      resume();
    }
    await next.until("heard.includes('while it stands still')");
    await assertShared([next, last], "after");
  });

  inEngine("a leader that goes away and back has let go, and catches up with the others", async () => {
    const [leader, ...others] = await openMany(3);
    await leader.go(`${site.origin}/plain`);
    await assertShared(others, "while away");
    await leader.back();
    if (!("cache" in Engine.lacks)) await leader.until("heard.includes('while away')");
    else await leader.until(OPEN);
    await assertShared([leader, ...others], "back");
  });

  inEngine("after a kill of the server all come back by themselves, and have missed nothing", async () => {
    const tabs = await openMany(3);
    await server.publish("before");
    for (const tab of tabs) await tab.until("heard.length === 1");
    await server.kill();
    for (const tab of tabs) await tab.until(`!(${OPEN})`);
    await server.launch();
    await server.publish("after");
    for (const tab of tabs) {
      await tab.until("heard.length === 2", { within: 15_000 });
      assert.deepEqual(await tab.evaluate("[heard, gaps]"), [["before", "after"], 0]);
    }
    assert.equal(await server.connections(), 1);
  });

  inEngine(
    "a history that is lost with the server makes a gap event in each tab, and what follows arrives",
    async () => {
      await serve("--history", "memory");
      const tabs = await openMany(2);
      await server.publish("before");
      for (const tab of tabs) await tab.until("heard.length === 1");
      await server.kill();
      for (const tab of tabs) await tab.until(`!(${OPEN})`);
      await server.launch();
      for (const tab of tabs) await tab.until("gaps === 1", { within: 15_000 });
      await server.publish("after");
      for (const tab of tabs) {
        await tab.until("heard.length === 2");
        assert.deepEqual(await tab.evaluate("[heard, gaps]"), [["before", "after"], 1]);
      }
    },
  );

  inEngine("tabs of different regions share a connection, and each hears of its own", async () => {
    const [all, us] = [await open("/"), await open("/us")];
    for (const region of ["GB", "US"]) await server.publish(region, { region });
    await all.until("heard.length === 2");
    await us.until("heard.length === 1");
    assert.deepEqual([await us.evaluate("heard"), await server.connections()], [["US"], 1]);
  });

  inEngine("the module is imported, and shares a connection with the script", async () => {
    site.pages["/module"] = page(`<script>${RECORD}</script><script type="module">
      import { VideoNotifier } from "${server.origin}/notifier.esm.js";
      VideoNotifier.instance = new VideoNotifier("${server.origin}/ws");
      Object.assign(window, { VideoNotifier });
    </script>`);
    const tabs = [await open("/"), await open("/module")];
    await assertShared(tabs, "from the script");
    await tabs[0].close();
    await assertShared([tabs[1], await open("/")], "from the module");
  });

  inEngine("where no WebSocket gets through, all tabs have one stream, and one that is cut goes on", async (t) => {
    const proxy = await HttpProxy.start(server);
    t.after(() => proxy.close());
    site.pages["/"] = embed("", proxy.origin);
    const tabs = await openMany(3);
    await server.publish("over the stream");
    for (const tab of tabs) await tab.until("heard.length === 1");
    assert.deepEqual([proxy.attempts, proxy.streams.length], [1, 1]);
    proxy.cut();
    await server.publish("after the cut");
    for (const tab of tabs) await tab.until("heard.length === 2", { within: 20_000 });
    assert.equal(proxy.standing.length, 1);
    const [leader, ...others] = tabs;
    await leader.close();
    await eventually(() => proxy.standing.length === 1, { what: "the next stream" });
    await server.publish("from the next");
    for (const tab of others) {
      await tab.until("heard.length === 3");
      assert.deepEqual(await tab.evaluate("[heard, gaps]"), [["over the stream", "after the cut", "from the next"], 0]);
    }
  });
}
