import assert from "node:assert/strict";
import test from "node:test";
import { Client } from "../src/client.js";
import { hello, published, seeded, World } from "./support.js";

/** A client in a world of its own, with a list of all that its page was told. */
function start({ world = new World(), ...options } = {}) {
  const told = [];
  const page = { visible: true, events: null };
  const toasts = {
    shown: [],
    isClosed: false,
    show: ({ id }) => toasts.shown.push(id),
    clear: () => toasts.shown.splice(0),
    close: () => {
      toasts.isClosed = true;
    },
  };
  const client = new Client(new URL("wss://notify.test/ws"), options, {
    page: {
      attention: () => Number(page.visible),
      watch: (events) => {
        page.events = events;
        return () => {
          page.events = null;
        };
      },
    },
    toasts,
    runtime: world.runtime(),
  });
  for (const type of ["notification", "statechange", "gap"]) {
    client.addEventListener(type, ({ detail }) => told.push([type, detail.id ?? detail.state ?? detail.position]));
  }
  return { world, client, told, page, toasts };
}

const since = (socket) => socket.url.searchParams.get("since");

test("it connects, opens with hello, and tells of what comes once", () => {
  const { world, client, told, toasts } = start({ regions: ["US", " GB ", "US"] });
  assert.equal(world.socket.url.href, "wss://notify.test/ws?regions=US%2CGB");
  assert.equal(client.state, "connecting");
  world.socket.says(hello());
  world.socket.says(published(2));
  world.socket.says(published(2));
  assert.deepEqual(told, [
    ["statechange", "open"],
    ["notification", "aaaaaaaa-2"],
  ]);
  assert.deepEqual(toasts.shown, ["aaaaaaaa-2"]);
  assert.deepEqual(
    client.history.map(({ id }) => id),
    ["aaaaaaaa-2"],
  );
  assert.equal(client.position, "aaaaaaaa-2");
});

test("it goes on from the position of the latest message, whatever that was", () => {
  const { world } = start();
  world.socket.says(hello());
  world.socket.says(published(2));
  world.socket.says({ type: "heartbeat", position: "aaaaaaaa-8" });
  world.socket.ends(1006);
  world.pass(20_000);
  assert.equal(since(world.socket), "aaaaaaaa-8");
});

test("the next page goes on where this one was, and shows nothing twice", () => {
  const { world, client } = start();
  world.socket.says(hello());
  world.socket.says(published(5));
  client.close();
  const { told } = start({ world });
  assert.equal(since(world.socket), "aaaaaaaa-5");
  world.socket.says(hello({ recovered: true, position: "aaaaaaaa-5" }));
  world.socket.says(published(5));
  assert.deepEqual(told, [["statechange", "open"]]);
});

test("where nothing may be stored, nothing is", () => {
  const { world, client } = start({ storage: "none" });
  world.socket.says(hello());
  world.socket.says(published(5));
  client.muted = true;
  assert.deepEqual([world.stored.size, client.muted, client.position], [0, true, "aaaaaaaa-5"]);
  start({ world, storage: "none" });
  assert.equal(since(world.socket), null);
});

test("a page is caught up from the position that it was made at, and shows nothing that was shown before", () => {
  const world = new World();
  start({ world });
  world.socket.says(hello());
  world.socket.says(published(7));
  start({ world, since: "<script>" });
  assert.equal(since(world.socket), "aaaaaaaa-7");
  const { client, toasts } = start({ world, since: "aaaaaaaa-3" });
  assert.equal(since(world.socket), "aaaaaaaa-3");
  world.socket.says(hello({ recovered: true, position: "aaaaaaaa-3" }));
  world.socket.says(published(7));
  world.socket.says(published(8));
  assert.deepEqual(
    client.history.map(({ id }) => id),
    ["aaaaaaaa-8", "aaaaaaaa-7"],
  );
  assert.deepEqual(toasts.shown, ["aaaaaaaa-8"]);
});

test("a gap is told when the server can't prove that there is none", () => {
  for (const [recovered, gaps] of [
    [true, 0],
    [null, 0],
    [false, 1],
  ]) {
    const { world, told } = start();
    world.socket.says(hello({ recovered }));
    assert.equal(told.filter(([type]) => type === "gap").length, gaps);
  }
});

test("what is old, prevented or muted goes to the list, not to a toast", () => {
  const { world, client, toasts } = start({ maxAge: 60 });
  // The server's clock is an hour behind; age is by that clock.
  world.socket.says(hello({ now: "2001-09-09T00:46:40Z" }));
  world.socket.says(published(2, { timestamp: "2001-09-09T00:45:39Z" }));
  world.socket.says(published(3, { timestamp: "2001-09-09T00:45:41Z" }));
  client.addEventListener("notification", (event) => event.preventDefault(), { once: true });
  world.socket.says(published(4, { timestamp: "2001-09-09T00:46:40Z" }));
  world.socket.says(published(5, { timestamp: "not a time" }));
  assert.deepEqual(toasts.shown, ["aaaaaaaa-3", "aaaaaaaa-5"]);
  client.muted = true;
  assert.deepEqual(toasts.shown, []);
  world.socket.says(published(6, { timestamp: "2001-09-09T00:46:40Z" }));
  assert.deepEqual(toasts.shown, []);
  assert.equal(client.history.length, 5);
  assert.equal(start({ world }).client.muted, true);
});

test("what comes while nobody looks waits, and what is then too old goes to the list only", () => {
  const { world, client, page, toasts } = start({ maxAge: 60 });
  world.socket.says(hello());
  page.visible = false;
  page.events.check();
  world.socket.says(published(2));
  world.pass(5000);
  world.socket.says({ type: "heartbeat", position: "aaaaaaaa-3" });
  world.socket.says(published(4, { timestamp: "2001-09-09T01:47:30Z" }));
  assert.deepEqual([toasts.shown, client.history.length], [[], 2]);
  world.pass(7000);
  world.socket.says({ type: "heartbeat", position: "aaaaaaaa-4" });
  world.time += 55_000;
  page.visible = true;
  page.events.check();
  assert.deepEqual([toasts.shown, client.history.length], [["aaaaaaaa-4"], 2]);
  page.events.check();
  assert.deepEqual(toasts.shown, ["aaaaaaaa-4"]);
});

test("what waits is shown by the next page, which is told of it first", () => {
  const { world, client, page } = start();
  world.socket.says(hello());
  page.visible = false;
  page.events.check();
  for (let offset = 2; offset < 40; offset++) world.socket.says(published(offset));
  client.close();
  const next = start({ world });
  const waiting = Array.from({ length: 20 }, (_, index) => `aaaaaaaa-${20 + index}`);
  assert.deepEqual(next.toasts.shown, waiting);
  assert.deepEqual(
    next.client.history.map(({ id }) => id),
    waiting.toReversed(),
  );
  assert.deepEqual(start({ world }).toasts.shown, []);
});

test("what the page prevents is not shown later either", () => {
  const { world, client, page, toasts } = start();
  world.socket.says(hello());
  page.visible = false;
  page.events.check();
  client.addEventListener("notification", (event) => event.preventDefault(), { once: true });
  world.socket.says(published(2));
  world.socket.says(published(3));
  page.visible = true;
  page.events.check();
  assert.deepEqual(toasts.shown, ["aaaaaaaa-3"]);
});

test("whatever is stored where something should wait is no harm", () => {
  for (const stored of [
    "7",
    '"x"',
    "{}",
    "[null, 7, {}, []]",
    '[{ "id": "<b>" }]',
    '[{ "id": "aaaaaaaa-1", "videos": 3 }]',
    "{",
  ]) {
    const world = new World();
    world.stored.set("video-notifier/1 unshown:notify.test/ws", stored);
    const { toasts } = start({ world });
    world.socket.says(hello());
    world.socket.says(published(2, { timestamp: new Date(world.time).toISOString() }));
    assert.equal(toasts.shown.at(-1), "aaaaaaaa-2", stored);
  }
});

test("muted in another tab clears this one", () => {
  const { world, client, toasts, page } = start();
  world.socket.says(hello());
  world.socket.says(published(2));
  page.events.store();
  assert.equal(toasts.shown.length, 1);
  start({ world }).client.muted = true;
  page.events.store();
  assert.deepEqual([toasts.shown, client.muted], [[], true]);
});

test("a first retry takes a place in the server's window, and each later one comes a window later and backs off beyond it", () => {
  const { world, client } = start();
  world.socket.says(hello({ reconnect_window_ms: 6000 }));
  world.pass(6000);
  world.random = () => 0.25;
  world.socket.ends(1012);
  assert.equal(client.state, "waiting");
  assert.equal(world.untilNext, 1500);
  for (const wait of [6500, 7000, 8000, 10_000, 13_500, 13_500]) {
    world.pass(world.untilNext);
    world.socket.ends(1006);
    assert.equal(world.untilNext, wait);
  }
});

test("who came at once and failed takes a place in the server's window first", () => {
  const { world } = start();
  world.socket.says(hello({ reconnect_window_ms: 6000 }));
  world.pass(6000);
  world.random = () => 0.25;
  for (const [code, wait] of [
    [4000, 0],
    [1013, 1500],
    [1013, 6500],
  ]) {
    world.socket.ends(code);
    assert.equal(world.untilNext, wait);
    world.pass(wait);
  }
});

test("one that always breaks after hello backs off; one that stood starts anew", () => {
  const { world } = start();
  const breaks = () => {
    world.socket.says(hello({ reconnect_window_ms: 200 }));
    world.socket.ends(1006);
  };
  for (const wait of [100, 1200, 2200]) {
    breaks();
    assert.equal(world.untilNext, wait);
    world.pass(wait);
  }
  world.socket.says(hello({ reconnect_window_ms: 200 }));
  world.pass(5000);
  world.socket.ends(1006);
  assert.equal(world.untilNext, 100);
});

test("a planned restart is obeyed to the millisecond, even by one who looks", () => {
  const { world, page } = start();
  world.socket.says(hello());
  world.socket.says({ type: "reconnect", after_ms: 3210 });
  world.socket.ends(1012);
  assert.equal(world.untilNext, 3210);
  page.events.check();
  page.events.leave();
  page.events.join();
  assert.equal(world.sockets.length, 1);
  world.pass(3209);
  assert.equal(world.sockets.length, 1);
  world.pass(1);
  assert.equal(world.sockets.length, 2);
});

test("no server can put it off for more than ten minutes", () => {
  const { world } = start();
  world.socket.says(hello());
  world.socket.says({ type: "reconnect", after_ms: 1e12 });
  world.socket.ends(1012);
  assert.equal(world.untilNext, 600_000);
});

test("after a flood it waits at least a minute, even when somebody looks", () => {
  const { world, page } = start();
  world.socket.says(hello());
  world.socket.ends(1008);
  page.events.check();
  world.pass(59_999);
  assert.equal(world.sockets.length, 1);
  world.pass(20_001);
  assert.equal(world.sockets.length, 2);
});

test("other regions are no way around the wait after a flood, and are asked for after it", () => {
  const { world, client } = start();
  world.socket.says(hello());
  world.socket.ends(1008);
  client.setRegions(["JP"]);
  world.pass(59_999);
  assert.deepEqual([client.state, world.sockets.length], ["waiting", 1]);
  world.pass(20_001);
  assert.equal(world.socket.url.searchParams.get("regions"), "JP");
});

test("a lost position is asked for anew at once, but not over and over", () => {
  const { world } = start();
  world.socket.says(hello());
  world.socket.ends(4000);
  assert.equal(world.untilNext, 0);
  world.pass(0);
  world.socket.says(hello());
  world.socket.ends(4000);
  assert.ok(world.untilNext >= 1000);
});

test("a refusal for good stops it, and says why; reconnect tries again", () => {
  for (const code of [1003, 1009, 4400, 4403]) {
    const { world, client } = start();
    world.socket.ends(code, "this origin is not allowed");
    assert.equal(client.state, "closed");
    assert.deepEqual([world.timers.size, world.complaints.length], [0, 1]);
    assert.match(world.complaints[0], new RegExp(`${code} this origin is not allowed`));
    client.reconnect();
    assert.equal(client.state, "connecting");
  }
});

test("silence for one and a quarter heartbeats makes it ask, and is a lost connection where no answer comes", () => {
  const { world } = start();
  world.socket.says(hello({ heartbeat_ms: 20_000 }));
  world.pass(24_000);
  world.socket.says("what is this?");
  world.pass(24_999);
  assert.deepEqual(world.socket.sent, []);
  world.pass(1);
  assert.deepEqual(world.socket.sent, [{ type: "ping" }]);
  world.pass(3499);
  world.socket.says({ type: "pong" });
  world.pass(25_000);
  assert.deepEqual([world.socket.sent.length, world.socket.isClosed], [2, false]);
  // And so within one and a half heartbeats of the last life.
  world.pass(3500);
  assert.deepEqual([world.sockets.length, world.sockets[0].isClosed], [1, true]);
});

test("one that opens and never says hello is given up", () => {
  const { world, client } = start();
  world.socket.says("HTTP?");
  world.pass(15_000);
  assert.deepEqual([world.sockets[0].isClosed, client.state, world.sockets.length], [true, "connecting", 2]);
});

test("a machine that has slept finds out when it wakes, without a timer", () => {
  const { world, page } = start();
  world.socket.says(hello());
  world.sleep(3_600_000);
  page.events.check();
  assert.deepEqual([world.sockets.length, world.sockets[0].isClosed], [2, true]);
});

test("who looks again asks the server, and does not wait long for the answer", () => {
  for (const answers of [true, false]) {
    const { world, page } = start();
    world.socket.says(hello());
    world.pass(2000);
    page.events.check();
    assert.deepEqual(world.socket.sent, [{ type: "ping" }]);
    world.pass(1000);
    if (answers) world.socket.says({ type: "pong" });
    world.pass(3000);
    assert.equal(world.sockets[0].isClosed, !answers);
  }
});

test("a clock that is set back does not make a dead connection look alive", () => {
  const { world } = start();
  world.socket.says(hello());
  world.time -= 3_600_000;
  for (const timer of world.timers.values()) timer.at -= 3_600_000;
  world.pass(51_000);
  assert.equal(world.sockets[0].isClosed, true);
});

/** Whether each attempt was a stream. */
const streams = ({ sockets }) => sockets.map(({ isStream }) => isStream);

test("where no WebSocket opens a stream does, at once and from the same position", () => {
  const { world, client } = start({ since: "aaaaaaaa-7" });
  world.socket.ends(1006);
  assert.equal(world.untilNext, 0);
  world.pass(0);
  assert.deepEqual([streams(world), since(world.socket)], [[false, true], "aaaaaaaa-7"]);
  world.socket.says(hello({ recovered: true, position: "aaaaaaaa-7" }));
  assert.equal(client.state, "open");
});

test("one that swallows the request counts as one that does not open", () => {
  const { world } = start();
  world.pass(15_000);
  assert.deepEqual(streams(world), [false, true]);
});

test("where neither opens they take turns, and only the first turn is at once", () => {
  const { world } = start();
  for (const wait of [0, 500, 1000, 2000, 4000]) {
    world.socket.ends(1006);
    assert.equal(world.untilNext, wait);
    world.pass(wait);
  }
  assert.deepEqual(streams(world), [false, true, false, true, false, true]);
});

test("where a WebSocket has opened, one that does not is no reason, two are", () => {
  const { world } = start();
  world.socket.says(hello({ reconnect_window_ms: 0 }));
  world.pass(10_000);
  for (let attempt = 0; attempt < 3; attempt++) {
    world.socket.ends(1006);
    world.pass(world.untilNext);
  }
  assert.deepEqual(streams(world), [false, false, false, true]);
});

test("a server that refuses a WebSocket has been reached by it", () => {
  const { world } = start();
  world.socket.ends(1013);
  world.pass(world.untilNext);
  assert.deepEqual(streams(world), [false, false]);
});

test("a stream that ends is opened again, and a WebSocket tried after ten minutes", () => {
  const { world, client } = start();
  world.socket.ends(1006);
  world.pass(0);
  const beats = (ms) => {
    for (let passed = 0; passed < ms; passed += 10_000) {
      world.pass(10_000);
      world.socket.says({ type: "heartbeat", position: "aaaaaaaa-9" });
    }
  };
  world.socket.says(hello());
  beats(300_000);
  world.socket.ends(1006);
  world.pass(world.untilNext);
  assert.deepEqual([streams(world), since(world.socket)], [[false, true, true], "aaaaaaaa-9"]);
  world.socket.says(hello({ recovered: true, position: "aaaaaaaa-9" }));
  beats(280_000);
  assert.equal(world.sockets.length, 3);
  beats(10_000);
  assert.deepEqual(
    [streams(world).slice(3), world.sockets[2].isClosed, since(world.socket)],
    [[false], true, "aaaaaaaa-9"],
  );
  // It still does not get through: nobody waits.
  world.socket.ends(1006);
  world.pass(0);
  assert.deepEqual(streams(world).slice(3), [false, true]);
  world.socket.says(hello());
  beats(610_000);
  world.socket.says(hello());
  assert.deepEqual([streams(world).slice(5), client.state], [[false], "open"]);
  beats(610_000);
  assert.equal(world.sockets.length, 6);
});

test("a stream is not asked, and lost by its silence", () => {
  const { world, page } = start();
  world.socket.ends(1006);
  world.pass(0);
  world.socket.says(hello({ heartbeat_ms: 20_000 }));
  world.pass(20_000);
  page.events.check();
  world.pass(8499);
  assert.equal(world.sockets[1].isClosed, false);
  world.pass(1);
  assert.equal(world.sockets[1].isClosed, true);
});

test("where there are no streams a WebSocket is tried again", () => {
  const world = new World();
  const runtime = world.runtime();
  const stream = () => {
    throw new ReferenceError("EventSource is not defined");
  };
  world.runtime = () => ({ ...runtime, stream });
  const { client } = start({ world });
  world.socket.ends(1006);
  world.pass(0);
  assert.deepEqual([client.state, world.complaints], ["waiting", []]);
  world.pass(world.untilNext);
  assert.deepEqual(streams(world), [false, false]);
});

test("a page that goes away lets go, tries nothing, and joins again", () => {
  const { world, client, page } = start();
  world.socket.says(hello());
  page.events.leave();
  assert.deepEqual([world.socket.isClosed, client.state, world.timers.size], [true, "waiting", 0]);
  page.events.check();
  client.setRegions(["JP"]);
  assert.equal(world.sockets.length, 1);
  page.events.join();
  assert.equal(client.state, "connecting");
  assert.equal(world.socket.url.searchParams.get("regions"), "JP");
});

test("coming online or into view while waiting tries at once", () => {
  for (const event of ["online", "check"]) {
    const { world, page } = start();
    world.socket.ends(1013);
    page.events[event]();
    assert.equal(world.sockets.length, 2);
  }
});

test("coming online does not wait for what was begun in the network of before", () => {
  const { world, client, page } = start();
  page.events.online();
  assert.deepEqual([world.sockets.length, world.sockets[0].isClosed], [2, true], "an attempt that hangs");
  world.socket.says(hello());
  page.events.online();
  assert.deepEqual([world.sockets.length, world.sockets[1].isClosed], [3, true], "a link that may be dead");
  world.socket.says(hello());
  world.socket.ends(4403);
  page.events.online();
  assert.deepEqual([world.sockets.length, client.state], [3, "closed"], "what was refused for good");
});

test("other regions are asked for by a new connection, the same ones are not", () => {
  const { world, client } = start({ regions: ["US"] });
  world.socket.says(hello());
  world.socket.says(published(9));
  client.setRegions(["US"]);
  assert.equal(world.sockets.length, 1);
  client.setRegions(["JP"]);
  assert.deepEqual([world.sockets.length, world.sockets[0].isClosed, since(world.socket)], [2, true, null]);
  world.socket.says(hello({ position: "aaaaaaaa-30" }));
  client.setRegions(["JP", "US"]);
  assert.equal(since(world.socket), "aaaaaaaa-9");
});

test("refetch is spread over the server's time, is called once, and waits for somebody to look", async () => {
  const delays = [];
  for (let seed = 0; seed < 1000; seed++) {
    const world = new World();
    world.random = seeded(seed);
    const { client, page } = start({ world });
    world.socket.says(hello());
    let calls = 0;
    const others = world.timers.size;
    client.refetch(() => assert.fail("the later one is asked for"));
    client.refetch(() => calls++);
    assert.equal(world.timers.size, others + 1);
    const timer = [...world.timers.values()].at(-1);
    delays.push(timer.at - world.time);
    page.visible = false;
    timer.callback();
    assert.equal(calls, 0);
    page.visible = true;
    page.events.check();
    page.events.check();
    world.pass(100);
    await null;
    assert.equal(calls, 1);
  }
  assert.ok(delays.every((delay) => delay >= 0 && delay < 30_000));
  for (let third = 0; third < 3; third++) {
    const share = delays.filter((delay) => Math.floor(delay / 10_000) === third).length;
    assert.ok(share > 270 && share < 400, `even: ${share}`);
  }
});

test("close leaves nothing behind, whatever it was about to do", () => {
  for (const prepare of [
    () => {},
    ({ world }) => world.socket.says(hello()),
    ({ world }) => world.socket.ends(1006),
    ({ client }) => client.refetch(() => {}),
    ({ page }) => page.events.leave(),
  ]) {
    const { page, ...parts } = start();
    prepare({ page, ...parts });
    const { client, world, toasts } = parts;
    client.close();
    assert.deepEqual([client.state, world.timers.size, page.events, toasts.isClosed], ["closed", 0, null, true]);
    client.reconnect();
    client.setRegions(["JP"]);
    client.refetch(() => {});
    assert.deepEqual([client.state, world.timers.size, world.sockets.length], ["closed", 0, 1]);
  }
});

test("a listener may close it in the middle of anything", () => {
  for (const type of ["statechange", "gap", "notification"]) {
    const { world, client, toasts } = start();
    client.addEventListener(type, () => client.close());
    world.socket.says(hello({ recovered: false }));
    world.socket.says(published(2));
    world.socket.says(published(3));
    assert.deepEqual([client.state, world.timers.size, toasts.shown], ["closed", 0, []], type);
  }
});

test("a listener that closes it at the news of any state has closed it for good", () => {
  for (const state of ["connecting", "open", "waiting"]) {
    const { world, client } = start();
    client.addEventListener("statechange", ({ detail }) => detail.state === state && client.close());
    world.socket.says(hello());
    world.socket.ends(1006);
    world.pass(600_000);
    const connected = world.sockets.length;
    world.pass(600_000);
    assert.deepEqual([client.state, world.timers.size, world.sockets.length], ["closed", 0, connected], state);
  }
});

test("a storage that throws is as good as none", () => {
  const world = new World();
  const runtime = world.runtime();
  world.runtime = () => ({
    ...runtime,
    storage: () => {
      throw new DOMException("denied", "SecurityError");
    },
  });
  const { client } = start({ world });
  world.socket.says(hello());
  world.socket.says(published(5));
  client.muted = true;
  assert.deepEqual([client.position, client.muted], ["aaaaaaaa-5", true]);
});
