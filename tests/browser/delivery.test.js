// What arrives, and that it arrives once: the real server, the real script, over reloads, restarts and losses.

import assert from "node:assert/strict";
import { after, afterEach, test } from "node:test";
import { Engine, needs } from "./support/engine.js";
import { Server } from "./support/server.js";
import { OPEN, RECORD } from "./support/sharing.js";
import { page, Site } from "./support/site.js";
import { eventually } from "./support/wait.js";

const engine = await Engine.start();
afterEach(() => engine.closeTabs());
after(() => engine.close());

async function open(url) {
  const tab = await engine.open(url);
  await tab.until(OPEN);
  return tab;
}

test("one post is told to each of two tabs, and shown in one, within a second, with the exact text", async (t) => {
  const server = await serve(t);
  const site = await elsewhere(t, server);
  const tabs = [await open(`${site.origin}/one`), await open(`${site.origin}/two`)];
  const from = performance.now();
  await server.post({
    region: "GB",
    count: 1234,
    videos: [
      { id: 1, title: "Ten & <b>ten</b> make 20" },
      { id: "b", title: "“Quotes” — and 日本語" },
    ],
  });
  const text = [
    "1,234 new trending videos · United Kingdom",
    "Ten & <b>ten</b> make 20",
    "“Quotes” — and 日本語",
    "+1,232",
  ];
  const toasts = async () => (await Promise.all(tabs.map((tab) => tab.toasts()))).flat();
  await eventually(async () => (await toasts()).length > 0, { what: "a toast" });
  assert.ok(performance.now() - from < 1000, `${performance.now() - from} ms`);
  for (const tab of tabs) {
    await tab.until("heard.length === 1");
    assert.deepEqual(await tab.evaluate("errors"), []);
  }
  assert.deepEqual(await toasts(), [text.join("\n")]);
});

test("what was posted during a reload or on the way between pages arrives, and nothing twice", async (t) => {
  const server = await serve(t);
  // A record that outlives each page, for what comes in the moment that it goes.
  const site = await elsewhere(t, server, {
    before: `addEventListener("DOMContentLoaded", () => {
      VideoNotifier.instance?.addEventListener("notification", ({ detail }) => {
        sessionStorage.heard = (sessionStorage.heard ?? "") + detail.videos[0].title + " ";
      });
    })`,
  });
  const tab = await open(`${site.origin}/one`);
  await server.publish("first");
  await tab.until("sessionStorage.heard === 'first '");
  await tab.go("about:blank");
  await server.publish("second");
  await tab.go(`${site.origin}/two`);
  await tab.until("sessionStorage.heard === 'first second '");
  // Before the reload, during it or after: it arrives.
  await Promise.all([tab.reload(), server.publish("third")]);
  await tab.reload();
  await tab.until(OPEN);
  await server.publish("fourth");
  await tab.until("sessionStorage.heard.endsWith('fourth ')");
  assert.equal(await tab.evaluate("sessionStorage.heard"), "first second third fourth ");
});

test("a page from the back/forward cache joins again and catches up", needs("cache"), async (t) => {
  const server = await serve(t);
  const site = await elsewhere(t, server);
  const tab = await open(`${site.origin}/one`);
  await tab.evaluate("void (window.kept = true)");
  await tab.go(`${site.origin}/plain`);
  await server.publish("while away");
  await tab.back();
  await tab.until("location.pathname === '/one' && heard.length === 1");
  assert.deepEqual(await tab.evaluate("[kept, heard]"), [true, ["while away"]]);
});

test("a frozen page lets go of its connection, and catches up when it is resumed", needs("freeze"), async (t) => {
  const server = await serve(t);
  const site = await elsewhere(t, server);
  const tab = await open(`${site.origin}/one`);
  const subscribers = async (title) => (await server.publish(title)).subscribers;
  assert.equal(await subscribers("before"), 1);
  await tab.until("heard.length === 1");
  await tab.freeze();
  let frozen = 0;
  await eventually(async () => (await subscribers(`frozen ${++frozen}`)) === 0, { what: "it has let go" });
  await tab.resume();
  await tab.until(`heard.includes("frozen ${frozen}")`);
  const heard = await tab.evaluate("heard");
  assert.deepEqual(heard, ["before", ...Array.from({ length: frozen }, (_, index) => `frozen ${index + 1}`)]);
});

test("data-regions are all that arrives, and setRegions changes them", async (t) => {
  const server = await serve(t);
  const site = await elsewhere(t, server, { attributes: 'data-regions="US, JP"' });
  const tab = await open(`${site.origin}/one`);
  await server.publish("not asked for", { region: "GB" });
  await server.publish("asked for", { region: "JP" });
  await tab.until("heard.length === 1");
  await tab.evaluate("VideoNotifier.instance.setRegions(['GB'])");
  await tab.until(OPEN);
  await server.publish("not asked for any more", { region: "JP" });
  await server.publish("asked for now", { region: "GB" });
  await tab.until("heard.length === 2");
  assert.deepEqual(await tab.evaluate("heard"), ["asked for", "asked for now"]);
});

test("data-manual starts nothing until the page does", async (t) => {
  const server = await serve(t);
  const site = await elsewhere(t, server, { attributes: "data-manual" });
  const tab = await engine.open(`${site.origin}/one`);
  const there = "[VideoNotifier.instance, document.querySelector('video-notifier-toasts'), sockets.length]";
  assert.deepEqual(await tab.evaluate(there), [null, null, 0]);
  await tab.evaluate(`void (window.mine = new VideoNotifier("${server.origin}/ws"))`);
  await tab.until("mine.state === 'open'");
  await server.publish("by hand");
  await eventually(async () => (await tab.toasts())[0]?.includes("by hand"), { what: "a toast" });
});

test("data-storage=none stores nothing, and still goes on where it was after a loss", async (t) => {
  const server = await serve(t);
  const site = await elsewhere(t, server, { attributes: 'data-storage="none"' });
  const tab = await open(`${site.origin}/one`);
  await server.publish("before");
  await tab.until("heard.length === 1");
  await tab.evaluate("VideoNotifier.instance.reconnect()");
  await tab.until(OPEN);
  assert.match(await tab.evaluate("sockets.at(-1).url"), /[?&]since=[0-9a-z]+-1$/);
  assert.deepEqual(await tab.evaluate("[localStorage.length, sessionStorage.length, document.cookie]"), [0, 0, ""]);
});

test("a page that only knows the old wire goes on working", async (t) => {
  const server = await serve(t, "--heartbeat", "500ms");
  const site = await Site.start();
  t.after(() => site.close());
  site.pages["/"] = page(`<script>
    window.types = []; window.titles = []; window.closed = false;
    const socket = new WebSocket("ws://127.0.0.1:${server.port}/ws");
    const ping = () => socket.send('{"type":"ping"}');
    socket.onopen = () => { ping(); setInterval(ping, 30000); };
    socket.onclose = () => { closed = true; };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      types.push(message.type);
      if (message.type === "new_trending") titles.push(message.region + message.count + message.videos[0].title);
    };
  </script>`);
  const tab = await engine.open(`${site.origin}/`);
  await tab.until("types.includes('pong')");
  // Far beyond the three heartbeats after which a client that shows no life is dropped.
  await tab.until("types.filter((type) => type === 'heartbeat').length === 8");
  await server.publish("for the old", { region: "JP", count: 7 });
  await tab.until("titles.length === 1");
  assert.deepEqual(await tab.evaluate("[titles, closed, types[0]]"), [["JP7for the old"], false, "hello"]);
});

async function serve(t, ...flags) {
  const server = await Server.start(...flags);
  t.after(() => server.close());
  return server;
}

/** A site of its own whose pages load the script from the server, as sites do, and may run something before it. */
async function elsewhere(t, server, { attributes = "", before = "" } = {}) {
  const site = await Site.start();
  t.after(() => site.close());
  const script = `<script defer src="${server.origin}/notifier.js" ${attributes}></script>`;
  const recorded = page(`<script>${RECORD}${before}</script>${script}`);
  site.pages = { "/one": recorded, "/two": recorded, "/plain": page("") };
  return site;
}
