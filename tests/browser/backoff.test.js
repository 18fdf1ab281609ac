// When a thousand pages come back after a loss: the script as it is served, in a real browser, with a clock that stands
// still and chance from a seed.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { seeded } from "../../static/test/support.js";
import { Engine } from "./support/engine.js";
import { page, Site } from "./support/site.js";

const RUNS = 1000;

const engine = await Engine.start();
let site;
let tab;
before(async () => {
  site = await Site.start();
  site.pages["/"] = page(`<script>${seeded}</script><script src="/notifier.js" data-manual></script>`);
  tab = await engine.open(`${site.origin}/`);
});
after(async () => {
  await engine.close();
  await site.close();
});

/** How long each page waits before each of the attempts after a loss, all of which fail: a list for each attempt. */
const waits = (attempts, more) =>
  tab.call(
    (runs, attempts, hello) => {
      const lists = Array.from({ length: attempts }, () => []);
      for (let seed = 0; seed < runs; seed++) {
        let socket;
        let timer;
        const connect = () => {
          socket = { close() {}, send() {} };
          return socket;
        };
        const setTimeout = (callback, ms) => {
          timer = { callback, ms };
        };
        const now = () => 1_000_000;
        const runtime = { connect, stream: connect, setTimeout, clearTimeout() {}, now, random: seeded(seed) };
        new VideoNotifier("/ws", { storage: "none", toasts: false, runtime });
        socket.onmessage({ data: JSON.stringify(hello) });
        for (const list of lists) {
          socket.onclose({ code: 1006 });
          list.push(timer.ms);
          timer.callback();
        }
      }
      return lists;
    },
    RUNS,
    attempts,
    { type: "hello", position: "aaaaaaaa-1", recovered: null, now: "2001-01-01T00:00:00Z", ...more },
  );

/** Each tenth of the range has its share: 100 of 1,000, and by chance hardly ever less than 60 or more than 140. */
function assertEven(values, range) {
  const tenths = Array(10).fill(0);
  for (const value of values) tenths[Math.floor((10 * value) / range)]++;
  assert.equal(tenths.length, 10, `within ${range} ms`);
  for (const share of tenths) assert.ok(share > 60 && share < 140, `even over ${range} ms: ${tenths}`);
}

test("the first retries of a thousand pages are spread evenly over the window that the server gave, later ones too", async () => {
  for (const values of await waits(3, { reconnect_window_ms: 50_000 })) assertEven(values, 50_000);
});

test("without a window retries are spread over a second, then over twice as long each time, up to half a minute", async () => {
  const ranges = [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
  for (const [attempt, values] of (await waits(ranges.length, {})).entries()) assertEven(values, ranges[attempt]);
});
