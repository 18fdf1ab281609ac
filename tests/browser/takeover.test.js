// The leader of eight tabs is lost over a hundred times, in every way there is, under a stream of publications: no tab
// may miss one or hear one twice, and the next leader has to be there at once.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { Chromium } from "./support/chromium.js";
import { Server } from "./support/server.js";
import { leaderOf, OPEN, RECORD } from "./support/sharing.js";
import { page, Site } from "./support/site.js";

const TABS = 8;
const LOSSES = Number(process.env.LEADER_LOSSES ?? 100);
const EVERY_MS = 20;
const TAKEOVER_MS = 250;

let chromium;
let server;
let site;
before(async () => {
  chromium = await Chromium.start();
  server = await Server.start("--history", "memory", "--history-max-count", "100000", "--replay-max", "10000");
  site = await Site.start();
  site.pages["/"] = page(`<script defer src="${server.origin}/notifier.js"></script>`);
  site.pages["/plain"] = page("");
});
after(async () => {
  await chromium?.close();
  await site?.close();
  await server?.close();
});

/** Ways to lose a leader; each answers with how the tab comes back, or nothing where it does not. */
const WAYS = {
  closed: (leader) => leader.close(),
  crashed: (leader) => leader.crash(),
  async frozen(leader) {
    await leader.freeze();
    return () => leader.resume();
  },
  async navigated(leader) {
    await leader.go(`${site.origin}/plain`);
    await leader.close();
  },
  async cached(leader) {
    await leader.go(`${site.origin}/plain`);
    return () => leader.back();
  },
};

test(`${LOSSES} times the leader of ${TABS} tabs is lost`, { timeout: 280_000 }, async (t) => {
  const context = await chromium.context();
  await chromium.open(undefined, { context });
  const open = async () => {
    const tab = await chromium.open(`${site.origin}/`, { context, newWindow: false, before: RECORD });
    await tab.until(OPEN);
    return tab;
  };
  let tabs = [];
  while (tabs.length < TABS) tabs.push(await open());

  const stream = publishing();
  const took = {};
  /** What pages had heard when they went for good. */
  const records = [];
  for (let loss = 0; loss < LOSSES; loss++) {
    const [way, lose] = Object.entries(WAYS)[loss % Object.keys(WAYS).length];
    const leader = await leaderOf(tabs);
    const others = tabs.filter((tab) => tab !== leader);
    const heard = await leader.evaluate("heard");
    const from = Date.now();
    const comeBack = await lose(leader);
    const next = await leaderOf(others);
    took[way] = [...(took[way] ?? []), (await next.evaluate("openedAt.find((time) => time > " + from + ")")) - from];
    tabs = others;
    if (comeBack) {
      await comeBack();
      await leader.until(OPEN);
      tabs = [...others, leader];
    } else {
      records.push(heard);
      tabs = [...others, await open()];
    }
  }

  const published = await stream.end();
  const last = published.at(-1);
  for (const tab of tabs) {
    await tab.until(`heard.includes("${last}")`);
    records.push(await tab.evaluate("heard"));
    assert.equal(await tab.evaluate("gaps"), 0);
  }
  let [lost, doubled, heardInAll] = [0, 0, 0];
  for (const heard of records) {
    const expected = published.slice(published.indexOf(heard[0]), published.indexOf(heard.at(-1)) + 1);
    lost += expected.filter((title) => !heard.includes(title)).length;
    doubled += heard.length - new Set(heard).size;
    heardInAll += heard.length;
  }
  t.diagnostic(
    `${published.length} published, ${heardInAll} heard by ${records.length} pages, ${lost} lost, ${doubled} doubled`,
  );
  for (const [way, times] of Object.entries(took)) t.diagnostic(`${way}: ${summary(times)}`);
  const all = Object.values(took).flat();
  t.diagnostic(`all: ${summary(all)}`);
  assert.deepEqual([lost, doubled], [0, 0]);
  assert.ok(percentile(all, 0.95) <= TAKEOVER_MS, `${percentile(all, 0.95)} ms at the 95th percentile`);
});

/** Publishes without a pause until it is told to end; then all titles, in order. */
function publishing() {
  const published = [];
  let goesOn = true;
  const done = (async () => {
    while (goesOn) {
      const title = `title ${published.length}`;
      await server.publish(title);
      published.push(title);
      await pause(EVERY_MS);
    }
  })();
  return {
    async end() {
      goesOn = false;
      await done;
      return published;
    },
  };
}

function percentile(values, share) {
  return values.toSorted((one, other) => one - other)[Math.ceil(share * values.length) - 1];
}

const summary = (times) =>
  `${times.length} times, median ${percentile(times, 0.5)} ms, 95th percentile ${percentile(times, 0.95)} ms, at most ${percentile(times, 1)} ms`;
