// A hundred thousand pages at once, under a clock that the test moves: what the script that is served asks of the site
// and of the server after a publication, and over outages.

import assert from "node:assert/strict";
import test from "node:test";
import { VideoNotifier } from "../notifier.esm.js";
import { hello, published, seeded } from "./support.js";

const PAGES = 100_000;
const SPREAD_MS = 30_000;
/** Over the window the server's own rate of reconnects is 2,000/s. */
const WINDOW_MS = 50_000;
const RATE = PAGES / (WINDOW_MS / 1000);

/** Timers by the millisecond: there are too many to look for the next. */
class Crowd {
  time = 0;
  #timers = new Map();
  random = seeded(1);

  runtime(connect) {
    return {
      connect,
      stream: connect,
      setTimeout: (callback, ms) => {
        const at = this.time + Math.ceil(ms);
        const timer = { at, callback };
        if (!this.#timers.has(at)) this.#timers.set(at, new Set());
        this.#timers.get(at).add(timer);
        return timer;
      },
      clearTimeout: (timer) => timer && this.#timers.get(timer.at)?.delete(timer),
      now: () => this.time,
      random: this.random,
      storage: () => null,
      complain: (message) => assert.fail(message),
    };
  }

  async pass(ms) {
    for (const until = this.time + ms; ; this.time++) {
      for (const { callback } of this.#timers.get(this.time) ?? []) callback();
      // And what they have set off.
      await null;
      this.#timers.delete(this.time);
      if (this.time === until) return;
    }
  }
}

test(`${PAGES} pages ask neither the site nor the server at once`, async (t) => {
  const crowd = new Crowd();
  const open = new Set();
  let isUp = true;
  /** How often in each second. */
  const [refetches, attempts] = [[], []];
  const count = (seconds, from) => {
    const second = Math.floor((crowd.time - from) / 1000);
    seconds[second] = (seconds[second] ?? 0) + 1;
  };
  let downAt = 0;
  const start = () => {
    const socket = { close: () => open.delete(socket), send() {}, addEventListener() {} };
    if (downAt) count(attempts, downAt);
    runtime.setTimeout(() => {
      if (!isUp) return socket.onclose?.({ code: 1006 });
      open.add(socket);
      say(socket, hello({ spread_ms: SPREAD_MS, reconnect_window_ms: WINDOW_MS, heartbeat_ms: 600_000 }));
    }, 1);
    return socket;
  };
  const runtime = crowd.runtime(start);
  const say = (socket, message) => socket.onmessage?.({ data: JSON.stringify(message) });

  let from = 0;
  for (let page = 0; page < PAGES; page++) {
    const notifier = new VideoNotifier("https://notify.test/ws", { storage: "none", runtime });
    const refetch = () => count(refetches, from);
    notifier.addEventListener("notification", () => notifier.refetch(refetch));
  }
  await crowd.pass(10_000);
  assert.equal(open.size, PAGES);

  from = crowd.time;
  for (const socket of open) say(socket, published(2));
  await crowd.pass(SPREAD_MS + 2000);
  const [most, all] = [Math.max(...refetches), refetches.reduce((sum, each) => sum + each, 0)];
  t.diagnostic(`refetches: ${most}/s at most in ${SPREAD_MS / 1000} s`);
  assert.equal(all, PAGES);
  assert.ok(most <= 3500, `${most}/s`);

  // Long enough that each page fails, some of them several times.
  for (const outageMs of [20_000, 180_000]) {
    attempts.length = 0;
    downAt = crowd.time;
    isUp = false;
    for (const socket of [...open]) {
      open.delete(socket);
      socket.onclose({ code: 1006 });
    }
    await crowd.pass(outageMs);
    isUp = true;
    await crowd.pass(2 * WINDOW_MS);
    assert.equal(open.size, PAGES);
    const peak = Math.max(...attempts.filter(Boolean));
    t.diagnostic(`${outageMs / 1000} s of outage: ${peak} attempts/s at most, where the server wants ${RATE}/s`);
    assert.ok(peak <= 1.1 * RATE, `${peak}/s`);
  }
});
