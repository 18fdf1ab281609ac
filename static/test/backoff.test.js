import assert from "node:assert/strict";
import test from "node:test";
import { BASE_MS, CEILING_MS, wait } from "../src/backoff.js";
import { seeded } from "./support.js";

const RUNS = 1000;

/** The waits of many clients, one seed each. */
const waits = ({ failed, windowMs, atLeastMs }) =>
  Array.from({ length: RUNS }, (_, seed) => wait(failed, windowMs, atLeastMs, seeded(seed)));

/** Each tenth of the range has its share: 100 of 1,000, and by chance hardly ever less than 60 or more than 140. */
function assertEven(values, from, range) {
  const tenths = Array(10).fill(0);
  for (const value of values) {
    assert.ok(value >= from && value < from + range, `${value} is within ${from} and ${from + range}`);
    tenths[Math.floor((10 * (value - from)) / range)]++;
  }
  for (const share of tenths) assert.ok(share > 60 && share < 140, `even: ${tenths}`);
}

test("a first retry is spread evenly over the window that the server gave", () => {
  assertEven(waits({ failed: 0, windowMs: 50_000, atLeastMs: 0 }), 0, 50_000);
});

test("without a window the first retry is spread over the base", () => {
  assertEven(waits({ failed: 0, windowMs: null, atLeastMs: 0 }), 0, BASE_MS);
});

test("each attempt that fails doubles the range, up to the ceiling", () => {
  for (const [failed, range] of [
    [1, 2000],
    [2, 4000],
    [3, 8000],
    [4, 16_000],
    [5, CEILING_MS],
    [2000, CEILING_MS],
  ]) {
    assertEven(waits({ failed, windowMs: null, atLeastMs: 0 }), 0, range);
    assertEven(waits({ failed, windowMs: 0, atLeastMs: 0 }), 0, range);
  }
});

test("an attempt that follows on one that failed comes a window later, and backs off beyond it", () => {
  for (const [failed, range] of [
    [1, 2000],
    [2, 4000],
    [2000, CEILING_MS],
  ]) {
    assertEven(waits({ failed, windowMs: 50_000, atLeastMs: 0 }), 50_000, range);
  }
});

test("what a close code demands comes on top, and is spread too", () => {
  assertEven(waits({ failed: 0, windowMs: null, atLeastMs: 60_000 }), 60_000, BASE_MS);
});

test("a window of nothing is a retry at once", () => {
  assert.deepEqual(new Set(waits({ failed: 0, windowMs: 0, atLeastMs: 0 })), new Set([0]));
});
