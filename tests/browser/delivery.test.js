// What arrives, and that it arrives once: the real server, the real script, over reloads, restarts and losses.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { Chromium } from "./support/chromium.js";
import { Server } from "./support/server.js";
import { page, Site } from "./support/site.js";
import { eventually } from "./support/wait.js";

const OPEN = "VideoNotifier.instance.state === 'open'";

/** Writes down all that the page is told, from the first message on. */
const RECORD = `
  window.heard = [];
  window.gaps = 0;
  addEventListener("DOMContentLoaded", () => {
    VideoNotifier.instance?.addEventListener("notification", ({ detail }) => heard.push(detail.videos[0].title));
    VideoNotifier.instance?.addEventListener("gap", () => gaps++);
  });
`;

let chromium;
let context;
before(async () => {
  chromium = await Chromium.start();
});
beforeEach(async () => {
  context = await chromium.context();
});
after(() => chromium?.close());

const open = (url) => chromium.open(url, { context, before: RECORD });

test("one post is told to each of two tabs, and shown in one, within a second, with the exact text", async (t) => {
  const server = await serve(t);
  const tabs = [await open(`${server.origin}/`), await open(`${server.origin}/`)];
  for (const tab of tabs) await tab.until(OPEN);
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
    assert.equal(await tab.evaluate("document.getElementById('feed').children.length"), 1);
    assert.deepEqual(tab.errors, []);
  }
  assert.deepEqual(await toasts(), [text.join("\n")]);
});

test("what was posted during a reload or on the way between pages arrives, and nothing twice", async (t) => {
  const server = await serve(t);
  const site = await elsewhere(t, server);
  // A record that outlives each page, for what comes in the moment that it goes.
  const tab = await chromium.open(`${site.origin}/one`, {
    context,
    before: `addEventListener("DOMContentLoaded", () => {
      VideoNotifier.instance?.addEventListener("notification", ({ detail }) => {
        sessionStorage.heard = (sessionStorage.heard ?? "") + detail.videos[0].title + " ";
      });
    })`,
  });
  await tab.until(OPEN);
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

test("a page from the back/forward cache joins again and catches up", async (t) => {
  const server = await serve(t);
  const site = await elsewhere(t, server);
  const tab = await open(`${site.origin}/one`);
  await tab.until(OPEN);
  await tab.evaluate("window.kept = true");
  await tab.go(`${site.origin}/plain`);
  await server.publish("while away");
  await tab.back();
  await tab.until("location.pathname === '/one' && heard.length === 1");
  assert.equal(await tab.evaluate("window.kept"), true, "the page came from the cache");
  assert.deepEqual(await tab.evaluate("heard"), ["while away"]);
});

test("a frozen page lets go of its connection, and catches up when it is resumed", async (t) => {
  const server = await serve(t);
  const tab = await open(`${server.origin}/`);
  await tab.until(OPEN);
  const subscribers = async (title) => (await server.publish(title)).subscribers;
  assert.equal(await subscribers("before"), 1);
  await tab.until("heard.length === 1");
  await tab.send("Page.setWebLifecycleState", { state: "frozen" });
  let frozen = 0;
  await eventually(async () => (await subscribers(`frozen ${++frozen}`)) === 0, { what: "it has let go" });
  await tab.send("Page.setWebLifecycleState", { state: "active" });
  await tab.until(`heard.includes("frozen ${frozen}")`);
  const heard = await tab.evaluate("heard");
  assert.deepEqual(heard, ["before", ...Array.from({ length: frozen }, (_, index) => `frozen ${index + 1}`)]);
});

test("after a kill of the server it comes back by itself and has missed nothing", async (t) => {
  const server = await serve(t);
  const tab = await open(`${server.origin}/`);
  await tab.until(OPEN);
  await server.publish("before");
  await tab.until("heard.length === 1");
  await server.kill();
  await tab.until("VideoNotifier.instance.state !== 'open'");
  await server.launch();
  await server.publish("after");
  await tab.until("heard.length === 2", { within: 15_000 });
  assert.deepEqual(await tab.evaluate("[heard, gaps]"), [["before", "after"], 0]);
});

test("a history that is lost with the server makes a gap event, and what follows arrives", async (t) => {
  const server = await serve(t, "--history", "memory");
  const tab = await open(`${server.origin}/`);
  await tab.until(OPEN);
  await server.publish("before");
  await tab.until("heard.length === 1");
  await server.kill();
  await tab.until("VideoNotifier.instance.state !== 'open'");
  await server.launch();
  await tab.until("gaps === 1", { within: 15_000 });
  await server.publish("after");
  await tab.until("heard.length === 2");
  assert.deepEqual(await tab.evaluate("[heard, gaps]"), [["before", "after"], 1]);
});

test("data-regions are all that arrives, and setRegions changes them", async (t) => {
  const server = await serve(t);
  const site = await elsewhere(t, server, 'data-regions="US, JP"');
  const tab = await open(`${site.origin}/one`);
  await tab.until(OPEN);
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
  const site = await elsewhere(t, server, "data-manual");
  const tab = await open(`${site.origin}/one`);
  assert.equal(await tab.evaluate("VideoNotifier.instance"), null);
  assert.equal(await tab.evaluate("document.querySelector('video-notifier-toasts')"), null);
  assert.deepEqual(tab.sockets, []);
  await tab.evaluate(`window.mine = new VideoNotifier("${server.origin}/ws"); 0`);
  await tab.until("mine.state === 'open'");
  await server.publish("by hand");
  await eventually(async () => (await tab.toasts())[0]?.includes("by hand"), { what: "a toast" });
});

test("data-storage=none stores nothing, and still goes on where it was after a loss", async (t) => {
  const server = await serve(t);
  const site = await elsewhere(t, server, 'data-storage="none"');
  const tab = await open(`${site.origin}/one`);
  await tab.until(OPEN);
  await server.publish("before");
  await tab.until("heard.length === 1");
  await tab.evaluate("VideoNotifier.instance.reconnect()");
  await tab.until(OPEN);
  assert.match(tab.sockets.at(-1), /[?&]since=[0-9a-z]+-1$/);
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
  const tab = await open(`${site.origin}/`);
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

/** A site of its own whose pages load the script from the server, as sites do. */
async function elsewhere(t, server, attributes = "") {
  const site = await Site.start();
  t.after(() => site.close());
  const script = `<script defer src="${server.origin}/notifier.js" ${attributes}></script>`;
  site.pages = { "/one": page(script), "/two": page(script), "/plain": page("") };
  return site;
}
