// What a thousand pages want in the same moment: the script as it is served, in a real browser, with a clock that
// stands still and chance from a seed.

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

/**
 * How long each page waits after the server has said hello: before its `refetch`, and before each of the attempts after
 * a loss, all of which fail; a list of all pages for each.
 */
const waits = ({ attempts = 0, ...more }) =>
  tab.call(
    (runs, attempts, hello) => {
      const lists = { refetch: [], attempts: Array.from({ length: attempts }, () => []) };
      for (let seed = 0; seed < runs; seed++) {
        let socket;
        let timer;
        const connect = () => {
          socket = { close() {}, send() {}, addEventListener() {} };
          return socket;
        };
        const setTimeout = (callback, ms) => {
          timer = { callback, ms };
        };
        const now = () => 1_000_000;
        const runtime = { connect, stream: connect, setTimeout, clearTimeout() {}, now, random: seeded(seed) };
        const notifier = new VideoNotifier("/ws", { storage: "none", toasts: false, runtime });
        socket.onmessage({ data: JSON.stringify(hello) });
        notifier.refetch(() => {});
        lists.refetch.push(timer.ms);
        for (const list of lists.attempts) {
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
function assertEven(values, range, from = 0) {
  const tenths = Array(10).fill(0);
  for (const value of values) tenths[Math.floor((10 * (value - from)) / range)]++;
  assert.equal(Object.keys(tenths).length, 10, `within ${range} ms after ${from} ms`);
  for (const share of tenths) assert.ok(share > 60 && share < 140, `even over ${range} ms: ${tenths}`);
}

test("first retries are spread evenly over the window that the server gave, and later ones come a window later", async () => {
  const windowMs = 50_000;
  const { attempts } = await waits({ attempts: 3, reconnect_window_ms: windowMs });
  const [first, second, third] = attempts;
  assertEven(first, windowMs);
  assertEven(second, 2000, windowMs);
  assertEven(third, 4000, windowMs);
});

test("without a window retries are spread over a second, then twice as long each time, up to half a minute", async () => {
  const ranges = [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
  const { attempts } = await waits({ attempts: ranges.length });
  for (const [attempt, values] of attempts.entries()) assertEven(values, ranges[attempt]);
});

test("refetches are spread evenly over the time that the server gave", async () => {
  const { refetch } = await waits({ spread_ms: 30_000 });
  assertEven(refetch, 30_000);
});
