// Tabs that nobody sees for long: their timers run once a second, in Chromium once a minute, and nothing must be taken
// for lost by that. Nobody asks them anything in that time: to be asked is to be woken.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { ENGINES } from "../support/engine.js";
import { Server } from "../support/server.js";
import { OPEN, RECORD } from "../support/sharing.js";
import { page, Site } from "../support/site.js";

const HIDDEN_MS = Number(process.env.HIDDEN_MS ?? 600_000);
const EVERY_MS = 2000;

/** Writes down when each publication came, and when timers ran that a page sets in a timer: those are held back. */
const WATCH = `
  window.heardAt = [];
  window.ticks = [];
  addEventListener("DOMContentLoaded", () =>
    VideoNotifier.instance?.addEventListener("notification", () => heardAt.push(Date.now())));
  function tick() {
    if (document.hidden) ticks.push(performance.now());
    setTimeout(tick, 100);
  }
  tick();
`;

describe("hidden", { concurrency: true }, () => {
  for (const Engine of ENGINES) {
    test(`${Engine.name}: tabs that are hidden for long keep their one connection, and hear at once`, async (t) => {
      const engine = await Engine.start(...Engine.throttling.flags);
      t.after(() => engine.close());
      const server = await Server.start("--heartbeat", "1s");
      t.after(() => server.close());
      const site = await Site.start();
      t.after(() => site.close());
      const script = `<script>${RECORD}${WATCH}</script><script defer src="${server.origin}/notifier.js"></script>`;
      site.pages = { "/": page(script), "/plain": page("") };
      const tabs = [];
      while (tabs.length < 3) {
        const tab = await engine.open(`${site.origin}/`, { newWindow: false });
        await tab.until(OPEN);
        tabs.push(tab);
      }
      await engine.open(`${site.origin}/plain`, { newWindow: false });

      const sentAt = [];
      for (const from = performance.now(); performance.now() - from < HIDDEN_MS; await pause(EVERY_MS)) {
        sentAt.push(Date.now());
        const { subscribers } = await server.publish(`title ${sentAt.length}`);
        assert.equal(subscribers, 1);
      }

      const late = [];
      for (const tab of tabs) {
        const [titles, times, gaps] = await tab.evaluate("[heard, heardAt, gaps]");
        assert.deepEqual([titles, gaps], [sentAt.map((_, index) => `title ${index + 1}`), 0]);
        late.push(...times.map((time, index) => time - sentAt[index]));
      }
      assert.ok(Math.max(...late) < 1000, `${Math.max(...late)} ms`);
      const opened = await Promise.all(tabs.map((tab) => tab.evaluate("sockets.length")));
      assert.equal(
        opened.reduce((sum, count) => sum + count),
        1,
      );
      const ticks = await tabs[0].evaluate("ticks");
      const held = Math.max(...ticks.slice(1).map((tick, index) => tick - ticks[index]));
      t.diagnostic(`${sentAt.length} published, each heard of within ${Math.max(...late)} ms`);
      t.diagnostic(`${Engine.name}: timers paused for up to ${(held / 1000).toFixed(1)} s`);
      assert.ok(held > Engine.throttling.heldMs, "timers were held back");
    });
  }
});
