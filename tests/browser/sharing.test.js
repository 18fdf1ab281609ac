// Many tabs, one connection: who has it, who gets it when it is lost, and that nothing is lost or doubled on the way.

import assert from "node:assert/strict";
import { after, afterEach, beforeEach, test } from "node:test";
import { Engine, needs } from "./support/engine.js";
import { countLeftovers } from "./support/leftovers.js";
import { HttpProxy } from "./support/proxy.js";
import { Server } from "./support/server.js";
import { leaderOf, OPEN, RECORD } from "./support/sharing.js";
import { page, Site } from "./support/site.js";
import { eventually } from "./support/wait.js";

const engine = await Engine.start();
let server;
let site;
beforeEach(async () => {
  site = await Site.start();
  await serve("--heartbeat", "1s");
});
afterEach(async () => {
  await engine.closeTabs();
  await site.close();
  await server.close();
});
after(() => engine.close());

/** Another server than the one before. */
async function serve(...flags) {
  await server?.close();
  server = await Server.start(...flags);
  site.pages = {
    "/": embed(),
    "/us": embed('data-regions="US"'),
    "/jp": embed('data-regions="JP"'),
    "/plain": page(""),
  };
}

/** A page with the script, which may run something before it. */
const embed = (attributes = "", { before = "", origin = server.origin } = {}) =>
  page(`<script>${RECORD}${before}</script><script defer src="${origin}/notifier.js" ${attributes}></script>`);

/** All in one window, so the last one is seen, and all others are hidden. */
async function open(path = "/", { newWindow = false } = {}) {
  const tab = await engine.open(`${site.origin}${path}`, { newWindow });
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

/** How many connections they have asked for. */
async function opened(tabs) {
  const counts = await Promise.all(tabs.map((tab) => tab.evaluate("sockets.length")));
  return counts.reduce((sum, count) => sum + count);
}

/** Publishes once there is one connection, and waits until each of them has heard. */
async function assertShared(tabs, title) {
  await connections(1);
  await server.publish(title);
  for (const tab of tabs) await tab.until(`heard.includes("${title}")`);
  for (const tab of tabs)
    assert.deepEqual(await tab.evaluate("[heard.length - new Set(heard).size, gaps]"), [0, 0], "nothing twice, no gap");
}

/** Kills the server, and starts it again once each of them knows. */
async function restart(tabs) {
  await server.kill();
  for (const tab of tabs) await tab.until(`!(${OPEN})`);
  await server.launch();
}

test("eight tabs have one connection, and all hear of each publication once", async () => {
  const tabs = await openMany(8);
  assert.equal(await opened(tabs), 1);
  for (const title of ["one", "two", "three"]) assert.equal((await server.publish(title)).subscribers, 1);
  for (const tab of tabs) {
    await tab.until("heard.length === 3");
    assert.deepEqual(await tab.evaluate("heard"), ["one", "two", "three"]);
  }
});

for (const [what, lose, ability] of [
  ["is closed", (leader) => leader.close()],
  ["crashes", (leader) => leader.crash(), "crash"],
  ["goes to another page", (leader) => leader.go(`${site.origin}/plain`)],
  ["is frozen", (leader) => leader.freeze(), "freeze"],
]) {
  test(`when the leader ${what}, the next one goes on`, needs(ability), async () => {
    const tabs = await openMany(3);
    await assertShared(tabs, "before");
    const leader = await leaderOf(tabs);
    await lose(leader);
    await assertShared(without(tabs, leader), "after");
  });
}

test("a leader that stands still without a word is found out, and joins the others when it goes on", async () => {
  const tabs = await openMany(3);
  const leader = await leaderOf(tabs);
  const resume = await leader.stall();
  try {
    await connections(2);
    await server.publish("while it stands still");
    for (const tab of without(tabs, leader)) await tab.until("heard.includes('while it stands still')");
  } finally {
    await resume();
  }
  await leader.until("heard.includes('while it stands still')");
  await assertShared(tabs, "after");
});

test("who looks at a tab whose leader stands still hears within two seconds", needs("show"), async () => {
  await serve();
  const tabs = await openMany(3);
  const leader = await leaderOf(tabs);
  const [seen] = without(tabs.slice(0, 2), leader);
  const resume = await leader.stall();
  try {
    await server.publish("not heard of yet");
    await seen.evaluate(
      "void document.addEventListener('visibilitychange', () => (window.seenAfterMs = performance.now()))",
    );
    await seen.show();
    await seen.until("heard.includes('not heard of yet')");
    const tookMs = await seen.evaluate("heardAfterMs - seenAfterMs");
    assert.ok(tookMs > 0 && tookMs < 2000, `${tookMs} ms`);
  } finally {
    await resume();
  }
});

for (const [what, stop, ability] of [
  [
    "is frozen",
    async (tab) => {
      await tab.freeze();
      return () => tab.resume();
    },
    "freeze",
  ],
  ["stands still without a word", (tab) => tab.stall()],
]) {
  test(`a tab that ${what} while it waits for its turn keeps nobody else from theirs`, needs(ability), async () => {
    const [leader, next, last] = await openMany(3);
    const resume = await stop(next);
    try {
      await leader.close();
      await last.until("sockets.length === 1", { within: 20_000 });
      await server.publish("while it stands still");
      await last.until("heard.includes('while it stands still')");
    } finally {
      await resume();
    }
    await next.until("heard.includes('while it stands still')");
    await assertShared([next, last], "after");
  });
}

test("a leader that goes away and back has let go, and joins the others", async () => {
  const [leader, ...others] = await openMany(3);
  await leader.evaluate("void (window.kept = true)");
  await leader.go(`${site.origin}/plain`);
  await assertShared(others, "while away");
  await leader.back();
  // From the cache where there is one: it has missed something. A new page has not.
  if ("cache" in Engine.lacks) await leader.until(OPEN);
  else await leader.until("window.kept && heard.includes('while away')");
  await assertShared([leader, ...others], "back");
});

test("a page that was kept comes back after the server was started anew", needs("cache"), async () => {
  const [tab, other] = await openMany(2);
  await tab.evaluate("void (window.kept = true)");
  await tab.go(`${site.origin}/plain`);
  await server.publish("before");
  await other.until("heard.length === 1");
  await restart([other]);
  await server.publish("after");
  await tab.back();
  for (const each of [tab, other]) await each.until("heard.length === 2", { within: 20_000 });
  assert.equal(await tab.evaluate("kept"), true);
  await assertShared([tab, other], "at last");
});

test("after a kill of the server all come back by themselves, and have missed nothing", async () => {
  const tabs = await openMany(3);
  await server.publish("before");
  for (const tab of tabs) await tab.until("heard.length === 1");
  await restart(tabs);
  await server.publish("after");
  for (const tab of tabs) {
    await tab.until("heard.length === 2", { within: 20_000 });
    assert.deepEqual(await tab.evaluate("[heard, gaps]"), [["before", "after"], 0]);
  }
  assert.equal(await server.connections(), 1);
});

test("a history that is lost with the server makes a gap event in each tab, and what follows arrives", async () => {
  await serve("--history", "memory");
  const tabs = await openMany(2);
  await server.publish("before");
  for (const tab of tabs) await tab.until("heard.length === 1");
  await restart(tabs);
  for (const tab of tabs) await tab.until("gaps === 1", { within: 20_000 });
  await server.publish("after");
  for (const tab of tabs) {
    await tab.until("heard.length === 2");
    assert.deepEqual(await tab.evaluate("[heard, gaps]"), [["before", "after"], 1]);
  }
});

/** Tabs whose link is in the test's hand. */
async function openBehindProxy(t, count) {
  const proxy = await HttpProxy.start(server);
  t.after(() => proxy.close());
  proxy.upgrades = "pass";
  site.pages["/"] = embed("", { origin: proxy.origin });
  return { proxy, tabs: await openMany(count) };
}

test("a link that stalls though it looks open is found out, and what was missed arrives", async (t) => {
  const { proxy, tabs } = await openBehindProxy(t, 2);
  await server.publish("before");
  for (const tab of tabs) await tab.until("heard.length === 1");
  proxy.goDown();
  await server.publish("while it stalls");
  proxy.goUp();
  for (const tab of tabs) {
    await tab.until("heard.length === 2", { within: 20_000 });
    assert.deepEqual(await tab.evaluate("[heard, gaps]"), [["before", "while it stalls"], 0]);
  }
  assert.equal(proxy.attempts, 2);
});

test("tabs that go offline and online in turns end up with one connection, and miss nothing", async (t) => {
  const { proxy, tabs } = await openBehindProxy(t, 3);
  for (let turn = 0; turn < 5; turn++) {
    proxy.goDown();
    for (const tab of tabs) await tab.goOffline(true);
    await server.publish(`offline ${turn}`);
    proxy.goUp();
    for (const tab of tabs) await tab.goOffline(false);
    await server.publish(`online ${turn}`);
  }
  const all = Array.from({ length: 5 }, (_, turn) => [`offline ${turn}`, `online ${turn}`]).flat();
  for (const tab of tabs) {
    await tab.until("heard.length >= 10", { within: 30_000 });
    assert.deepEqual(await tab.evaluate("[heard, gaps]"), [all, 0]);
  }
  await assertShared(tabs, "at last");
});

test("close leaves no connection, lock, timer, listener, element or word on the channel", async () => {
  site.pages["/"] = embed("", { before: `(${countLeftovers})();` });
  const tabs = await openMany(2);
  const left = (tab) =>
    tab.call(async () => {
      const { held, pending } = await navigator.locks.query();
      const elements = document.querySelectorAll("video-notifier-toasts").length;
      return { timers: timers.size, listeners: listeners.size, elements, locks: held.length + pending.length };
    });
  for (const tab of tabs) {
    await tab.evaluate("void VideoNotifier.instance.refetch(() => {})");
    const { timers, listeners, elements, locks } = await left(tab);
    assert.ok(timers >= 1 && listeners >= 6 && elements === 1 && locks >= 4, JSON.stringify(await left(tab)));
  }
  for (const tab of tabs) {
    await tab.call((name) => {
      window.posts = 0;
      new BroadcastChannel(name).onmessage = () => posts++;
      VideoNotifier.instance.close();
    }, `video-notifier/1 ws://127.0.0.1:${server.port}/ws`);
  }
  await connections(0);
  await eventually(async () => (await left(tabs[0])).locks === 0, { what: "no lock" });
  await tabs[1].evaluate("void (posts = 0)");
  for (const tab of tabs)
    await tab.evaluate("void ['online', 'pageshow', 'focus'].map((type) => dispatchEvent(new Event(type)))");
  const from = await tabs[1].evaluate("performance.now()");
  await tabs[1].until(`performance.now() - ${from} > 3000`);
  for (const tab of tabs) assert.deepEqual(await left(tab), { timers: 0, listeners: 0, elements: 0, locks: 0 });
  assert.deepEqual([await tabs[1].evaluate("posts"), await server.connections()], [0, 0]);
});

test("tabs of different regions share a connection, and each hears of its own", async () => {
  const us = await open("/us", { newWindow: true });
  await server.publish("us 1");
  await us.until("heard.length === 1");
  const jp = await open("/jp", { newWindow: true });
  for (const region of ["GB", "JP", "US"]) await server.publish(`${region} 2`, { region });
  await us.until("heard.length === 2");
  await jp.until("heard.length === 1");
  assert.equal(await opened([us, jp]), 2, "one, and one that asks for both");
  assert.match(await us.evaluate("sockets[1].url"), /regions=US%2CJP/);

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
  site.pages["/module"] = page(`<script>${RECORD}</script><script type="module">
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
  const attributes = `data-url="${server.origin}/ws"`;
  site.pages["/other"] = page(`<script>${RECORD}</script><script defer src="/other.js" ${attributes}></script>`);
  site.pages["/tenant"] = embed(`data-url="${server.origin}/ws?tenant=a"`);
  const tabs = [await open("/"), await open("/other"), await open("/tenant")];
  assert.equal((await server.publish("to all")).subscribers, 3);
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
    site.pages["/"] = embed(attributes, { before });
    const tabs = await openMany(2);
    assert.equal((await server.publish("to both")).subscribers, 2);
    for (const tab of tabs) await tab.until("heard.length === 1");
    const seen = await open("/", { newWindow: true });
    await seen.call(() => {
      VideoNotifier.instance.addEventListener("refetch", ({ detail }) => {
        window.got = detail.value;
      });
      VideoNotifier.instance.refetch(() => "fetched");
    });
    await seen.until("window.got === 'fetched'");
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
    await tab.call(() => {
      window.got = [];
      const notifier = VideoNotifier.instance;
      notifier.addEventListener("notification", ({ detail }) =>
        notifier.refetch(async () => {
          await fetch(document.hidden ? "/hidden" : "/list");
          return detail.videos[0].title;
        }),
      );
      notifier.addEventListener("refetch", ({ detail }) => got.push(detail.value));
    });
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
    await tab.call(() => {
      window.got = [];
      window.failures = [];
      addEventListener("unhandledrejection", ({ reason }) => failures.push(reason.message));
      const notifier = VideoNotifier.instance;
      notifier.addEventListener("notification", () =>
        notifier.refetch(async () => {
          const { status } = await fetch("/list");
          if (status !== 200) throw new Error("no list");
          return "a list";
        }),
      );
      notifier.addEventListener("refetch", ({ detail }) => got.push(detail.value));
    });
  }
  await server.publish("a title");
  await eventually(() => site.requests.filter((path) => path === "/list").length === 2, { what: "both have tried" });
  for (const tab of tabs) await tab.until("failures.join() === 'no list'");
  site.pages["/list"] = "a list";
  await server.publish("another title");
  for (const tab of tabs) await tab.until("got.join() === 'a list'");
});
