// Tabs that nobody sees for long: their timers run once a minute, and nothing must be taken for lost by that.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Chromium } from "../support/chromium.js";
import { Server } from "../support/server.js";
import { OPEN, RECORD } from "../support/sharing.js";
import { page, Site } from "../support/site.js";

const HIDDEN_MS = Number(process.env.HIDDEN_MS ?? 600_000);

let chromium;
let server;
let site;
before(async () => {
  // Such throttling sets in after five minutes, else.
  chromium = await Chromium.start("--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/5");
  server = await Server.start("--heartbeat", "1s");
  site = await Site.start();
  site.pages["/"] = page(`<script defer src="${server.origin}/notifier.js"></script>`);
});
after(async () => {
  await chromium?.close();
  await site?.close();
  await server?.close();
});

test("tabs that are hidden for long keep their one connection, and hear at once", async (t) => {
  const context = await chromium.context();
  const tabs = [];
  await chromium.open(undefined, { context });
  while (tabs.length < 3) {
    const tab = await chromium.open(`${site.origin}/`, { context, newWindow: false, before: RECORD });
    await tab.until(OPEN);
    tabs.push(tab);
  }
  await chromium.open(undefined, { context, newWindow: false });
  // The timers that a page sets in a timer are held back.
  await tabs[0].evaluate(`
    window.ticks = [];
    (function tick() { ticks.push(performance.now()); setTimeout(tick, 100); })();
  `);
  const from = performance.now();
  for (let title = 0; performance.now() - from < HIDDEN_MS; title++) {
    await server.publish(`title ${title}`);
    const sent = performance.now();
    for (const tab of tabs) await tab.until(`heard.length === ${title + 1}`);
    assert.ok(performance.now() - sent < 1000, `${performance.now() - sent} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
  const ticks = await tabs[0].evaluate("ticks");
  const pause = Math.max(...ticks.slice(1).map((tick, index) => tick - ticks[index]));
  t.diagnostic(`timers paused for up to ${Math.round(pause / 1000)} s`);
  assert.ok(pause > 15_000, "timers were held back");
  assert.equal(tabs.flatMap(({ sockets }) => sockets).length, 1);
});
