import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { gzipSync } from "node:zlib";
import { hello, World } from "./support.js";

test("the built module can be imported and used in plain Node", async () => {
  const { VideoNotifier } = await import("../notifier.esm.js");
  assert.equal(VideoNotifier.instance, null);
  const world = new World();
  const notifier = new VideoNotifier("https://notify.test/ws?tenant=1", {
    regions: ["US"],
    runtime: world.runtime(),
  });
  assert.equal(world.socket.url.href, "wss://notify.test/ws?tenant=1&regions=US");
  world.socket.says(hello());
  assert.equal(notifier.state, "open");
  notifier.close();
  assert.equal(world.timers.size, 0);
});

test("the script for a tag does nothing in plain Node, and does not throw", async () => {
  await import("../notifier.js");
  assert.equal(globalThis.VideoNotifier, undefined);
});

test("an address that is none is told to who gave it", async () => {
  const { VideoNotifier } = await import("../src/browser.js");
  assert.throws(() => new VideoNotifier("/ws"), TypeError);
});

for (const file of ["notifier.js", "notifier.esm.js"]) {
  test(`${file} is no more than 8 KB for the one who loads it`, () => {
    const content = readFileSync(new URL(`../${file}`, import.meta.url));
    assert.ok(gzipSync(content, { level: 9 }).length <= 8 * 1024);
  });
}
