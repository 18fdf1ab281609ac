/** Loses the leader of many tabs again and again, under a stream of publications: none may be lost or doubled on the way. */

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { leaderOf, OPEN } from "./sharing.js";

/** So close that some message is always in hand: Firefox ends a script in the middle when its tab is closed. */
const EVERY_MS = 5;

/**
 * @param {object} parts
 * @param {import("node:test").TestContext} parts.t
 * @param {import("./server.js").Server} parts.server
 * @param {number} parts.tabCount
 * @param {number} parts.losses
 * @param {() => Promise<import("./tab.js").BrowserTab>} parts.open
 * @param {Record<string, (leader: any) => any>} parts.ways to lose a leader, in turn; each answers with how the tab comes
 *   back, or nothing where it does not
 * @returns {Promise<number>} how many milliseconds it took until the next one had a connection, at the 95th percentile
 */
export async function loseLeaders({ t, server, tabCount, losses, open, ways }) {
  const openNext = async () => {
    const tab = await open();
    await tab.until(OPEN);
    return tab;
  };
  let tabs = [];
  while (tabs.length < tabCount) tabs.push(await openNext());

  const stream = publishing(server);
  const took = {};
  /** What pages had heard when they went for good. */
  const records = [];
  for (let loss = 0; loss < losses; loss++) {
    const [way, lose] = Object.entries(ways)[loss % Object.keys(ways).length];
    const leader = await leaderOf(tabs);
    const others = tabs.filter((tab) => tab !== leader);
    const heard = await leader.evaluate("heard");
    const from = Date.now();
    const comeBack = await lose(leader);
    const next = await leaderOf(others);
    took[way] = [...(took[way] ?? []), (await next.evaluate(`openedAt.find((time) => time > ${from})`)) - from];
    tabs = others;
    if (comeBack) {
      await comeBack();
      await leader.until(OPEN);
      tabs = [...others, leader];
    } else {
      records.push(heard);
      tabs = [...others, await openNext()];
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
    const missing = expected.filter((title) => !heard.includes(title));
    if (missing.length) t.diagnostic(`lost: ${missing}; the page began with ${heard.slice(0, 25)}`);
    lost += missing.length;
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
  return percentile(all, 0.95);
}

/** Publishes without a pause until it is told to end; then all titles, in order. */
function publishing(server) {
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
