import assert from "node:assert/strict";
import test from "node:test";
import { parse, reaction } from "../src/protocol.js";
import { hello, published } from "./support.js";

const text = (message) => parse(JSON.stringify(message), 999_999_999_000);

/** What a type does not have. */
const none = {
  position: null,
  notification: null,
  recovered: true,
  clockMs: Number.NaN,
  heartbeatMs: 25_000,
  spreadMs: null,
  windowMs: null,
  afterMs: null,
};

test("a hello is read, and what it lacks is nothing", () => {
  assert.deepEqual(text(hello({ recovered: false })), {
    ...none,
    type: "hello",
    position: "aaaaaaaa-1",
    recovered: false,
    clockMs: 1000,
    heartbeatMs: 10_000,
    spreadMs: 30_000,
    windowMs: 20_000,
  });
  assert.deepEqual(text({ type: "hello", position: "a-0" }), { ...none, type: "hello", position: "a-0" });
});

test("a publication is read, with fields of videos that nobody knows yet", () => {
  const message = published(7, {
    videos: [
      { id: 5, title: "one", views: 9 },
      { id: "b", title: "" },
    ],
    count: 12,
  });
  assert.deepEqual(text(message), {
    ...none,
    type: "new_trending",
    position: "aaaaaaaa-7",
    notification: {
      id: "aaaaaaaa-7",
      region: "US",
      count: 12,
      videos: [
        { id: "5", title: "one", views: 9 },
        { id: "b", title: "" },
      ],
      timestamp: "2001-09-09T01:46:40Z",
    },
  });
});

test("what is wrong in a publication is put right, never passed on", () => {
  for (const count of ["<img src=x onerror=alert(1)>", -1, 0.5, 0, null, 2 ** 53, {}, [3], true]) {
    assert.equal(text(published(1, { count })).notification.count, 1, `${count}`);
  }
  for (const region of [undefined, null, 3, {}, ""]) {
    assert.equal(text(published(1, { region })).notification.region, "unknown");
  }
  for (const videos of [undefined, null, 3, "abc", {}, [null, 3, "a", {}, { title: 3 }]]) {
    const { videos: list, count } = text(published(1, { videos, count: 0 })).notification;
    assert.deepEqual([list, count], [[], 0]);
  }
  const many = Array.from({ length: 9 }, (_, id) => ({ id, title: "t" }));
  assert.equal(text(published(1, { videos: many })).notification.videos.length, 5);
});

test("a duration that no server means is cut to one that a timer can keep", () => {
  const { heartbeatMs, spreadMs, windowMs } = text(
    hello({ heartbeat_ms: 1e12, spread_ms: 1e12, reconnect_window_ms: 1e12 }),
  );
  assert.deepEqual([heartbeatMs, spreadMs, windowMs], [600_000, 600_000, 600_000]);
  assert.deepEqual(text({ type: "reconnect", after_ms: 1e12 }), { ...none, type: "reconnect", afterMs: 600_000 });
});

test("what can't be read is nothing", () => {
  const garbage = ["", "{", "null", "3", '"hello"', "[]", "{}", "\u0000", '{"type":"hello"}', '{"type":"toString"}'];
  for (const data of [...garbage, undefined, new ArrayBuffer(8), {}]) assert.equal(parse(data), null, String(data));
  for (const id of [
    undefined,
    null,
    7,
    "",
    "7",
    "a-",
    "-7",
    "a-07",
    "a-7 ",
    "A-7",
    "a-7-7",
    "a-99999999999999999999",
  ]) {
    assert.equal(text(published(1, { id })), null, `${id}`);
    assert.equal(text(hello({ position: id })), null, `${id}`);
    assert.equal(text({ type: "heartbeat", position: id }), null, `${id}`);
    assert.equal(text({ type: "reconnect", position: id }).position, null, `${id}`);
  }
});

test("what throws where it is read is dropped", () => {
  const hostile = { toString: 1, valueOf: 1 };
  for (const more of [{ videos: [{ id: hostile, title: "t" }] }, { timestamp: hostile }, { now: hostile }]) {
    assert.equal(text(published(1, more)), null, JSON.stringify(more));
  }
  assert.equal(text(hello({ now: hostile })), null);
});

test("what is far longer than any message is not even read", () => {
  const data = JSON.stringify(published(1, { more: "x".repeat(64 * 1024) }));
  assert.equal(parse(data), null);
  assert.notEqual(parse(data.replace(/x+/, "x")), null);
});

test("times that make no sense are not taken", () => {
  for (const after_ms of [-1, "5", null, undefined]) assert.equal(text({ type: "reconnect", after_ms }).afterMs, null);
  assert.equal(text({ type: "reconnect", after_ms: 1500 }).afterMs, 1500);
  assert.equal(text(hello({ heartbeat_ms: 0 })).heartbeatMs, 25_000);
});

test("a close code says whether to come back, and when", () => {
  for (const code of [1003, 1009, 4400, 4403, 4499]) assert.equal(reaction(code).comesBack, false, `${code}`);
  for (const code of [1000, 1001, 1002, 1005, 1006, 1007, 1011, 1012, 1013, 1015, 3000, 4001, 4399, 4500]) {
    assert.deepEqual(reaction(code), { comesBack: true, atLeastMs: 0, atOnce: false }, `${code}`);
  }
  assert.deepEqual(reaction(4000), { comesBack: true, atLeastMs: 0, atOnce: true });
  assert.deepEqual(reaction(1008), { comesBack: true, atLeastMs: 60_000, atOnce: false });
});
