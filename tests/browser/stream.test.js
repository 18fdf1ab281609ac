// Where something on the way lets no WebSocket through, it goes on over server-sent events, as if nothing was.

import assert from "node:assert/strict";
import { after, afterEach, beforeEach, test } from "node:test";
import { Engine } from "./support/engine.js";
import { HttpProxy } from "./support/proxy.js";
import { Server } from "./support/server.js";
import { OPEN, RECORD } from "./support/sharing.js";
import { page, Site } from "./support/site.js";
import { eventually } from "./support/wait.js";

const engine = await Engine.start();
let server;
let proxy;
let site;
beforeEach(async () => {
  server = await Server.start("--heartbeat", "1s");
  proxy = await HttpProxy.start(server);
  site = await Site.start();
  const script = (attributes = "") =>
    page(`<script>${RECORD}</script><script defer src="${proxy.origin}/notifier.js" ${attributes}></script>`);
  site.pages = { "/": script(), "/us": script('data-regions="US"'), "/plain": page("") };
});
afterEach(async () => {
  await engine.closeTabs();
  await site.close();
  await proxy.close();
  await server.close();
});
after(() => engine.close());

async function open(path = "/", { newWindow = false } = {}) {
  const tab = await engine.open(`${site.origin}${path}`, { newWindow });
  await tab.until(OPEN, { within: 20_000 });
  return tab;
}

for (const [upgrades, withinMs] of [
  ["refuse", 2000],
  ["drop", 2000],
  ["swallow", 17_000],
]) {
  test(`a proxy that does this to a WebSocket: ${upgrades}`, async () => {
    proxy.upgrades = upgrades;
    const tab = await open("/us");
    const tookMs = await tab.evaluate("openAfterMs");
    assert.ok(tookMs < withinMs, `${tookMs} ms`);
    await server.publish("over the stream");
    await server.publish("not asked for", { region: "JP" });
    await server.publish("so too", { region: "US" });
    await tab.until("heard.length === 2");
    assert.deepEqual(await tab.evaluate("heard"), ["over the stream", "so too"]);
    assert.deepEqual([proxy.attempts, proxy.streams.length, await tab.evaluate("errors")], [1, 1, []]);
  });
}

test("a stream that is cut goes on from where it was, and nothing is lost or doubled", async () => {
  const tab = await open();
  for (let cut = 0; cut < 3; cut++) {
    await server.publish(`before ${cut}`);
    proxy.cut();
    await server.publish(`after ${cut}`);
    await tab.until(`heard.includes("after ${cut}")`, { within: 20_000 });
  }
  const expected = Array.from({ length: 3 }, (_, cut) => [`before ${cut}`, `after ${cut}`]).flat();
  assert.deepEqual(await tab.evaluate("[heard, gaps]"), [expected, 0]);
  for (const { url } of proxy.streams.slice(1)) assert.match(url.searchParams.get("since"), /^[0-9a-z]+-\d+$/);
});

test("a stream that a proxy answers with an error is opened again", async () => {
  const tab = await open();
  await server.kill();
  await tab.until(`!(${OPEN})`);
  // Its waits double, and are drawn at random.
  const hurried = (check, what) =>
    eventually(
      async () => {
        await tab.evaluate("dispatchEvent(new Event('online'))");
        return check();
      },
      { what },
    );
  await hurried(() => proxy.streams.length > 2, "another attempt, answered with 502");
  await server.launch();
  await server.publish("after");
  await hurried(() => tab.evaluate("heard.length === 1"), "what was published");
});

test("eight tabs have one stream, and the site's own requests still get through", async () => {
  const tabs = [];
  while (tabs.length < 8) tabs.push(await open());
  assert.equal(proxy.streams.length, 1);
  await server.publish("to all");
  for (const tab of tabs) await tab.until("heard.length === 1");
  // Browsers have six connections for a host that speaks HTTP/1.1.
  for (const tab of tabs)
    assert.equal(await tab.evaluate(`fetch("${proxy.origin}/notifications").then(({ ok }) => ok)`), true);

  const [leader, ...others] = tabs;
  await leader.close();
  await eventually(() => proxy.standing.length === 1, { what: "the next stream" });
  await server.publish("after");
  for (const tab of others) {
    await tab.until("heard.length === 2");
    assert.deepEqual(await tab.evaluate("[heard, gaps]"), [["to all", "after"], 0]);
  }
});

test("a leader with a stream that stands still without a word is found out, at once by who looks", async () => {
  const [leader, seen] = [await open(), await open("/", { newWindow: true })];
  const resume = await leader.stall();
  try {
    await server.publish("not heard of yet");
    await seen.call(() => {
      window.seenAfterMs = performance.now();
      dispatchEvent(new Event("focus"));
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await seen.until("heard.includes('not heard of yet')");
    const tookMs = await seen.evaluate("heardAfterMs - seenAfterMs");
    assert.ok(tookMs > 0 && tookMs < 2500, `${tookMs} ms`);
  } finally {
    await resume();
  }
  await eventually(() => proxy.standing.length === 1, { what: "one stream" });
});

test("on the next page a WebSocket is tried first, and taken where it opens", async () => {
  const tab = await open();
  await server.publish("over the stream");
  await tab.until("heard.length === 1");
  proxy.upgrades = "pass";
  await tab.go(`${site.origin}/plain`);
  await server.publish("in between");
  await tab.go(`${site.origin}/`);
  await tab.until(OPEN);
  await tab.until("heard.length === 1");
  assert.deepEqual(await tab.evaluate("heard"), ["in between"]);
  assert.deepEqual([proxy.streams.length, proxy.standing.length, proxy.attempts], [1, 0, 2]);
});
