import assert from "node:assert/strict";
import test from "node:test";
import { parse } from "../src/protocol.js";
import { hello, published } from "./support.js";
import { Browser } from "./tabs.js";

const asked = ({ url }) => [url.searchParams.get("regions"), url.searchParams.get("since")];

/** So many tabs, the first of which has the connection, which is open. */
async function start(...options) {
  const browser = new Browser();
  const tabs = options.map((each) => browser.open(each));
  await browser.pass(100);
  const { world } = browser;
  world.socket.says(hello());
  await browser.pass(10);
  return { browser, world, tabs };
}

const states = (tabs) => tabs.map(({ client }) => client.state);

test("tabs have one connection, are in the state that it is in, and hear the same", async () => {
  const browser = new Browser();
  const tabs = [browser.open(), browser.open(), browser.open()];
  await browser.pass(100);
  const { world } = browser;
  assert.deepEqual([world.sockets.length, ...states(tabs)], [1, "connecting", "connecting", "connecting"]);
  world.socket.says(hello());
  world.socket.says(published(2));
  await browser.pass(10);
  world.socket.says(published(3));
  await browser.pass(10);
  for (const { client, heard } of tabs) {
    assert.deepEqual([client.state, client.position, heard], ["open", "aaaaaaaa-3", ["aaaaaaaa-2", "aaaaaaaa-3"]]);
  }
  world.socket.ends(1012);
  await browser.pass(10);
  assert.deepEqual([world.sockets.length, ...states(tabs)], [1, "waiting", "waiting", "waiting"]);
});

test("a tab that comes later has what it missed, from the leader", async () => {
  const { browser, world, tabs } = await start({});
  world.socket.says(published(5));
  world.socket.says(published(6));
  // Its page was made at this position; the browser has been further.
  world.stored.clear();
  const late = browser.open({ since: "aaaaaaaa-5" });
  await browser.pass(10);
  assert.deepEqual([late.client.state, late.heard, tabs[0].heard.length], ["open", ["aaaaaaaa-6"], 2]);
  assert.equal(world.sockets.length, 1);
});

test("many who come at once make one ping, where the server was silent", async () => {
  const { browser, world } = await start({});
  browser.answers = false;
  await browser.pass(2000);
  for (let tab = 0; tab < 30; tab++) browser.open();
  await browser.pass(100);
  assert.deepEqual(world.socket.sent, [{ type: "ping" }]);
});

test("a tab that was away for longer than the leader remembers has the server asked", async () => {
  const { browser, world, tabs } = await start({}, {});
  world.socket.says(published(2));
  await browser.pass(10);
  tabs[1].leave();
  for (let offset = 3; offset < 200; offset++) world.socket.says(published(offset));
  tabs[1].join();
  await browser.pass(10);
  assert.deepEqual([browser.connections.length, asked(world.socket)], [1, [null, "aaaaaaaa-2"]]);
  world.socket.says(hello({ recovered: true, position: "aaaaaaaa-2" }));
  for (let offset = 3; offset < 200; offset++) world.socket.says(published(offset));
  await browser.pass(10);
  for (const { heard, gaps } of tabs) assert.deepEqual([heard.length, new Set(heard).size, gaps], [198, 198, 0]);
});

for (const [what, lose] of [
  ["crashes", (tab) => tab.crash()],
  ["closes", (tab) => tab.client.close()],
  ["goes away", (tab) => tab.leave()],
]) {
  test(`when the leader ${what}, the next goes on from where it is`, async () => {
    const { browser, world, tabs } = await start({}, {}, {});
    world.socket.says(published(2));
    await browser.pass(10);
    lose(tabs[0]);
    await browser.pass(10);
    assert.deepEqual([browser.connections.length, asked(world.socket)], [1, [null, "aaaaaaaa-2"]]);
    world.socket.says(hello({ recovered: true, position: "aaaaaaaa-2" }));
    world.socket.says(published(3));
    await browser.pass(10);
    for (const { heard } of tabs.slice(1)) assert.deepEqual(heard, ["aaaaaaaa-2", "aaaaaaaa-3"]);
  });
}

test("a frozen leader does not answer, and loses its place: at once where somebody looks", async () => {
  for (const [look, within] of [
    [(tab) => tab.look(), 1700],
    [() => {}, 25_000 + 2000 + 1700],
  ]) {
    const { browser, world, tabs } = await start({}, {});
    tabs[0].freeze();
    look(tabs[1]);
    await browser.pass(1000);
    assert.equal(world.sockets.length, 1);
    await browser.pass(within - 1000);
    assert.deepEqual([world.sockets.length, world.sockets[1].tab], [2, tabs[1]]);
    world.socket.says(hello({ recovered: true }));
    tabs[0].resume();
    await browser.pass(100);
    assert.deepEqual([browser.connections.length, ...states(tabs)], [1, "open", "open"]);
  }
});

test("who looks again and again does not wait the longer for a frozen leader", async () => {
  const { browser, world, tabs } = await start({}, {});
  tabs[0].freeze();
  for (let waited = 0; waited < 1800; waited += 300) {
    tabs[1].look();
    await browser.pass(300);
  }
  assert.deepEqual([world.sockets.length, world.sockets[1]?.tab], [2, tabs[1]]);
});

test("a frozen leader that once began to connect is not believed for ever", async () => {
  const browser = new Browser();
  const [leader] = [browser.open(), browser.open()];
  await browser.pass(100);
  leader.freeze();
  await browser.pass(20_000);
  assert.deepEqual([browser.world.sockets.length, browser.world.sockets[1].tab], [2, browser.tabs[1]]);
});

for (const ended of ["handler", "counter"]) {
  test(`a leader whose ${ended} the browser ends with a message in hand loses it for nobody`, async () => {
    const { browser, world, tabs } = await start({}, {}, {});
    world.socket.says(published(2));
    world.socket.ended = ended;
    world.socket.says(published(3));
    world.socket.says(published(4));
    if (ended === "handler") {
      assert.equal(world.socket.url.searchParams.get("since"), "aaaaaaaa-2");
      world.socket.says(hello({ position: "aaaaaaaa-2", recovered: true }));
      for (const offset of [3, 4]) world.socket.says(published(offset));
    }
    await browser.pass(100);
    for (const { heard, gaps } of tabs)
      assert.deepEqual([heard, gaps], [["aaaaaaaa-2", "aaaaaaaa-3", "aaaaaaaa-4"], 0]);
    assert.equal(browser.connections.length, 1);
  });

  test(`a tab that follows, and whose ${ended} the browser ends with a message in hand, asks for it`, async () => {
    const { browser, world, tabs } = await start({}, {}, {});
    world.socket.says(published(2));
    await browser.pass(10);
    tabs[1].channel.ended = ended;
    for (const offset of [3, 4]) world.socket.says(published(offset));
    await browser.pass(100);
    for (const { heard, gaps } of tabs)
      assert.deepEqual([heard, gaps], [["aaaaaaaa-2", "aaaaaaaa-3", "aaaaaaaa-4"], 0]);
    assert.equal(world.sockets.length, 1);
  });
}

test("a leader that the browser ends in the middle of a message loses it for nobody", async () => {
  const { browser, world, tabs } = await start({}, {}, {});
  world.socket.says(published(2));
  const { channel } = tabs[0];
  const { postMessage } = channel;
  channel.postMessage = () => {
    throw new Error("ended here");
  };
  assert.throws(() => world.socket.says(published(3)));
  channel.postMessage = postMessage;
  world.socket.says(published(4));
  assert.equal(world.socket.url.searchParams.get("since"), "aaaaaaaa-2");
  world.socket.says(hello({ position: "aaaaaaaa-2", recovered: true }));
  for (const offset of [3, 4]) world.socket.says(published(offset));
  await browser.pass(100);
  for (const { heard, gaps } of tabs) assert.deepEqual([heard, gaps], [["aaaaaaaa-2", "aaaaaaaa-3", "aaaaaaaa-4"], 0]);
});

test("a tab that waits for the lock and is frozen blocks nobody for long", async () => {
  const { browser, world, tabs } = await start({}, {}, {});
  tabs[1].freeze();
  tabs[0].crash();
  for (let waited = 0; world.sockets.length === 1; waited++) {
    assert.ok(waited < 30);
    await browser.pass(1000);
  }
  assert.equal(world.socket.tab, tabs[2]);
  world.socket.says(hello({ recovered: true }));
  tabs[1].resume();
  await browser.pass(100);
  assert.deepEqual([browser.connections.length, ...states(tabs.slice(1))], [1, "open", "open"]);
});

test("while the server is away, tabs do not try more often than one would", async () => {
  const { browser, world, tabs } = await start({}, {}, {}, {});
  for (const tab of tabs) tab.isVisible = false;
  const attempts = world.sockets.length;
  const down = setDown(world);
  await browser.pass(10 * 60_000);
  down();
  // The window is 20 s, and half of the ceiling of 30 s on average; hidden tabs that suspect the leader would add to it.
  const made = world.sockets.length - attempts;
  assert.ok(made >= 15 && made <= 22, `${made} attempts`);
  assert.equal(new Set(world.sockets.map(({ tab }) => tab)).size, 1);
});

test("nor do they where attempts take long to fail, and tabs come meanwhile", async () => {
  const { browser, world } = await start({}, {});
  const down = setDown(world, 2000);
  await browser.pass(1000);
  const attempts = world.sockets.length;
  browser.open({});
  browser.open({});
  await browser.pass(10 * 60_000);
  down();
  const made = world.sockets.length - attempts;
  // Each newcomer may be a reason to try at once.
  assert.ok(made >= 15 && made <= 24, `${made} attempts`);
});

/** Refuses connections from now on, each after a while, until the answer is called. */
function setDown(world, afterMs = 0) {
  world.socket.ends(1006);
  const runtime = world.sockets.push;
  world.sockets.push = function (socket) {
    world.at(world.time + afterMs, () => socket.ends(1006));
    return runtime.call(this, socket);
  };
  return () => {
    delete world.sockets.push;
  };
}

test("a tab that asks to connect does so at once, whoever waits; so does the next leader that somebody looks at", async () => {
  for (const act of [
    ([, follower]) => follower.client.reconnect(),
    async ([leader, follower], browser) => {
      leader.close();
      await browser.pass(10);
      follower.look();
    },
  ]) {
    const { browser, world, tabs } = await start({}, {});
    tabs[1].hide();
    await browser.pass(6000);
    world.socket.ends(1006);
    await browser.pass(10);
    assert.deepEqual(states(tabs), ["waiting", "waiting"]);
    await act(tabs, browser);
    await browser.pass(100);
    assert.equal(world.sockets.length, 2);
  }
});

test("one tab that asks for what the server can't read takes the connection from no other", async () => {
  const { browser, world, tabs } = await start({ regions: ["US"] }, { regions: ["US"] });
  const push = world.sockets.push;
  world.sockets.push = function (socket) {
    const isBad = socket.url.searchParams.get("regions").includes(";");
    world.at(world.time + 1, () => (isBad ? socket.ends(4400) : socket.says(hello({ recovered: true }))));
    return push.call(this, socket);
  };
  const bad = browser.open({ regions: ["US;GB"] });
  await browser.pass(60_000);
  assert.deepEqual(states([...tabs, bad]), ["open", "open", "closed"]);
});

test("a tab that was away too long is told so by itself", async () => {
  const { browser, world, tabs } = await start({ regions: ["US"] });
  world.socket.says(hello({ recovered: true, position: "aaaaaaaa-400" }));
  world.socket.says(published(500));
  const late = browser.open({ regions: ["GB"], since: "aaaaaaaa-5" });
  await browser.pass(100);
  assert.deepEqual(asked(world.socket), ["US,GB", "aaaaaaaa-5"]);
  world.socket.says(hello({ recovered: false, position: "aaaaaaaa-600" }));
  await browser.pass(100);
  assert.deepEqual(asked(world.socket), ["US,GB", "aaaaaaaa-500"]);
  world.socket.says(hello({ recovered: true, position: "aaaaaaaa-500" }));
  world.socket.says(published(550));
  world.socket.says(published(551, { region: "GB" }));
  await browser.pass(2000);
  world.socket.says({ type: "heartbeat", position: "aaaaaaaa-600" });
  await browser.pass(100);
  assert.deepEqual([tabs[0].gaps, late.gaps, browser.connections.length], [0, 1, 1]);
  world.socket.says(published(601, { region: "GB" }));
  await browser.pass(100);
  assert.deepEqual([tabs[0].heard, late.heard.at(-1)], [["aaaaaaaa-500", "aaaaaaaa-550"], "aaaaaaaa-601"]);
  assert.deepEqual(states([...tabs, late]), ["open", "open"]);
});

test("what waits is shown though no event tells that the tab is seen again", async () => {
  const { browser, world, tabs } = await start({}, {});
  for (const tab of tabs) tab.hide();
  await browser.pass(10);
  let offset = 10;
  for (const tab of tabs) {
    world.socket.says(published(++offset));
    await browser.pass(10);
    assert.deepEqual(tab.toasts, []);
    tab.isVisible = true;
    world.socket.says({ type: "heartbeat", position: `aaaaaaaa-${offset}` });
    await browser.pass(10);
    assert.deepEqual(tab.toasts, [`aaaaaaaa-${offset}`]);
    tab.hide();
    await browser.pass(10);
  }
});

test("the next leader waits as long as the last one would have", async () => {
  const { browser, world, tabs } = await start({}, {});
  world.socket.says({ type: "reconnect", after_ms: 60_000 });
  world.socket.ends(1012);
  await browser.pass(10);
  tabs[0].crash();
  await browser.pass(10);
  tabs[1].look();
  await browser.pass(59_000);
  assert.equal(world.sockets.length, 1);
  await browser.pass(1000);
  assert.equal(world.sockets.length, 2);
});

test("regions are asked for together, each from where it is, and go when nobody asks for them", async () => {
  const { browser, world, tabs } = await start({ regions: ["US"] });
  world.socket.says(published(5));
  const jp = browser.open({ regions: ["JP"] });
  await browser.pass(100);
  assert.deepEqual([browser.connections.length, asked(world.socket)], [1, ["US,JP", "aaaaaaaa-5"]]);
  world.socket.says(hello({ recovered: true, position: "aaaaaaaa-5" }));
  world.socket.says(published(6));
  world.socket.says(published(7, { region: "JP" }));
  await browser.pass(10);
  assert.deepEqual([tabs[0].heard, jp.heard], [["aaaaaaaa-5", "aaaaaaaa-6"], ["aaaaaaaa-7"]]);

  jp.crash();
  await browser.pass(10);
  world.socket.says(published(8, { region: "JP" }));
  world.socket.says(published(9));
  await browser.pass(10);
  const again = browser.open({ regions: ["JP"] });
  await browser.pass(100);
  assert.deepEqual(asked(world.socket), ["US,JP", "aaaaaaaa-7"]);
  world.socket.says(hello({ recovered: true, position: "aaaaaaaa-7" }));
  world.socket.says(published(8, { region: "JP" }));
  world.socket.says(published(9));
  await browser.pass(10);
  assert.deepEqual([tabs[0].heard.length, again.heard], [3, ["aaaaaaaa-8"]]);
});

const shown = (tabs) => tabs.map(({ toasts }) => toasts.map((id) => Number(id.slice(9))));

test("each publication is shown in one tab: the one that has the focus, else the last that was looked at", async () => {
  const { browser, world, tabs } = await start({}, {}, {});
  tabs[1].look();
  await browser.pass(10);
  world.socket.says(published(2));
  tabs[0].look();
  await browser.pass(10);
  world.socket.says(published(3));
  tabs[2].hasFocus = true;
  tabs[2].look();
  tabs[1].look();
  await browser.pass(10);
  world.socket.says(published(4));
  tabs[2].hide();
  await browser.pass(10);
  world.socket.says(published(5));
  await browser.pass(10);
  assert.deepEqual(shown(tabs), [[3], [2, 5], [4]]);
  assert.deepEqual(
    tabs.map(({ heard }) => heard.length),
    [4, 4, 4],
  );
});

test("what comes while no tab is seen is shown in the first that is, whoever led then", async () => {
  const { browser, world, tabs } = await start({}, {}, {});
  for (const tab of tabs) tab.hide();
  await browser.pass(10);
  world.socket.says(published(2));
  world.socket.says(published(3));
  await browser.pass(10);
  tabs[0].crash();
  await browser.pass(10);
  world.socket.says(hello({ recovered: true, position: "aaaaaaaa-3" }));
  world.socket.says(published(4));
  await browser.pass(10);
  tabs[2].look();
  await browser.pass(10);
  tabs[1].look();
  await browser.pass(100);
  assert.deepEqual(shown(tabs), [[], [], [2, 3, 4]]);
});

test("a tab is not chosen for what it does not ask for, or when it shows no toasts", async () => {
  const { browser, world, tabs } = await start({ regions: ["US"] }, { regions: ["JP"] });
  await browser.pass(10);
  world.socket.says(hello());
  world.socket.says(published(2, { region: "JP" }));
  world.socket.says(published(3, { region: "US" }));
  await browser.pass(10);
  assert.deepEqual(shown(tabs), [[3], [2]]);
});

test("what a tab catches up with that another has shown is not shown again", async () => {
  const { browser, world, tabs } = await start({}, {});
  tabs[1].leave();
  await browser.pass(10);
  world.socket.says(published(2));
  tabs[1].join();
  await browser.pass(10);
  world.stored.clear();
  const late = browser.open({ since: "aaaaaaaa-1" });
  await browser.pass(100);
  assert.deepEqual([shown(tabs), late.heard, late.toasts], [[[2], []], ["aaaaaaaa-2"], []]);
});

test("the next leader asks for what all have, in one connection", async () => {
  const { browser, world } = await start({ regions: ["US"] }, { regions: ["US"] }, { regions: ["JP"] });
  world.socket.says(hello());
  await browser.pass(10);
  const before = world.sockets.length;
  browser.tabs[0].crash();
  await browser.pass(50);
  assert.deepEqual([world.sockets.length - before, asked(world.socket)[0]], [1, "US,JP"]);
});

test("tabs that come while it connects make one more connection, not one each", async () => {
  const browser = new Browser();
  for (const region of ["US", "JP", "GB", "FR", "DE"]) browser.open({ regions: [region] });
  await browser.pass(100);
  assert.equal(browser.world.sockets.length, 1);
  browser.world.socket.says(hello());
  await browser.pass(100);
  assert.deepEqual([browser.world.sockets.length, asked(browser.world.socket)[0]], [2, "US,JP,GB,FR,DE"]);
  browser.world.socket.says(hello());
  await browser.pass(100);
  assert.deepEqual(states(browser.tabs), Array(5).fill("open"));
});

test("more regions than the server takes are asked for as all, and each tab hears of its own", async () => {
  const many = (name) => ({ regions: Array.from({ length: 40 }, (_, index) => `${name}${index}`) });
  const { browser, world, tabs } = await start(many("a"), many("b"));
  await browser.pass(10);
  assert.deepEqual(asked(world.socket)[0], null);
  world.socket.says(hello());
  world.socket.says(published(2, { region: "b7" }));
  world.socket.says(published(3, { region: "c" }));
  await browser.pass(10);
  assert.deepEqual([tabs[0].heard, tabs[1].heard], [[], ["aaaaaaaa-2"]]);
});

test("a tab from another epoch is told of a gap, and the others are not", async () => {
  const { browser, world, tabs } = await start({}, {});
  world.socket.says(published(2));
  world.stored.clear();
  const stale = browser.open({ since: "bbbbbbbb-7" });
  await browser.pass(100);
  assert.deepEqual([stale.client.state, stale.gaps, stale.client.position], ["open", 1, "aaaaaaaa-2"]);
  assert.deepEqual([tabs[0].gaps, tabs[1].gaps, browser.connections.length], [0, 0, 1]);
});

test("a gap that the server tells of is told to all", async () => {
  const { browser, world, tabs } = await start({}, {});
  world.socket.ends(4000);
  await browser.pass(100);
  world.socket.says(hello({ recovered: false, position: "cccccccc-9" }));
  await browser.pass(100);
  for (const { gaps, client } of tabs) assert.deepEqual([gaps, client.position], [1, "cccccccc-9"]);
});

test("a refusal for good is found out by each tab for itself, once", async () => {
  const browser = new Browser();
  for (let tab = 0; tab < 3; tab++) browser.open();
  await browser.pass(100);
  for (let turn = 0; turn < 5; turn++) {
    browser.world.socket.ends(4403);
    await browser.pass(100);
  }
  assert.deepEqual(states(browser.tabs), ["closed", "closed", "closed"]);
  assert.equal(browser.world.sockets.length, 3);
  browser.tabs[1].client.reconnect();
  await browser.pass(100);
  assert.equal(browser.world.sockets.length, 4);
});

test("reconnect in a tab that follows makes it lead", async () => {
  const { browser, world, tabs } = await start({}, {});
  tabs[1].client.reconnect();
  await browser.pass(100);
  assert.deepEqual([browser.connections.length, world.socket.tab], [1, tabs[1]]);
});

test("a leader with a stream, which can't be pinged, answers unless it is frozen", async () => {
  const browser = new Browser();
  const leader = browser.open();
  await browser.pass(10);
  const { world } = browser;
  world.socket.ends(1006);
  await browser.pass(10);
  world.socket.says(hello());
  world.socket.says(published(2));
  const next = browser.open();
  await browser.pass(10);
  assert.deepEqual([world.sockets.length, world.socket.isStream, ...states(browser.tabs)], [2, true, "open", "open"]);
  world.socket.says(published(3));
  await browser.pass(10);
  assert.deepEqual([leader.heard.length, next.heard], [2, ["aaaaaaaa-3"]]);
  leader.freeze();
  next.look();
  await browser.pass(1800);
  assert.equal(world.socket.tab, next);
});

test("close leaves no lock, channel or timer", async () => {
  for (const which of [0, 1]) {
    const { browser, world, tabs } = await start({}, {});
    tabs[which].client.close();
    await browser.pass(100);
    tabs[1 - which].client.close();
    await browser.pass(100);
    assert.deepEqual([world.timers.size, browser.connections.length], [0, 0]);
    const posted = [];
    browser.channel(null, "video-notifier/1 wss://notify.test/ws").onmessage = ({ data }) => posted.push(data);
    await browser.pass(600_000);
    assert.deepEqual([posted, world.timers.size], [[], 0]);
    browser.open();
    await browser.pass(10);
    assert.equal(browser.connections.length, 1);
  }
});

test("a tab that shows many before its leader has let it in hears each of them once", async () => {
  const browser = new Browser();
  const name = "video-notifier/1 wss://notify.test/ws";
  const leader = { run: (act) => act() };
  browser.locks(leader).request(name, {}, () => new Promise(() => {}));
  const channel = browser.channel(leader, name);
  let tab = "";
  channel.onmessage = ({ data }) => {
    tab = data.from;
  };
  const { client, heard } = browser.open({ since: "aaaaaaaa-1" });
  await browser.pass(10);
  const post = (messages, more) =>
    channel.postMessage({ from: "leader", state: "open", due: 1e15, regions: [], messages, ...more });
  const messages = Array.from({ length: 150 }, (_, index) => parse(JSON.stringify(published(index + 2)), 0));
  for (const { notification } of messages) post([], { show: notification, to: tab });
  await browser.pass(10);
  assert.deepEqual([heard.length, client.position], [150, "aaaaaaaa-1"]);
  post([parse(JSON.stringify(hello({ position: "aaaaaaaa-1", recovered: true })), 0), ...messages], { to: tab });
  await browser.pass(10);
  assert.deepEqual([heard.length, client.position], [150, "aaaaaaaa-151"]);
});

test("a leader that is slow to answer asks the server for what it has kept no longer", async () => {
  const { browser, world } = await start({});
  // The timers of a tab that is not looked at are held back; messages are not.
  const channel = browser.channel({}, "video-notifier/1 wss://notify.test/ws");
  channel.postMessage({ from: "late", regions: [], since: "aaaaaaaa-1", attention: 0 });
  const answers = [];
  channel.onmessage = ({ data }) => data.to === "late" && answers.push(...data.messages);
  browser.tabs[0].lateness = 500;
  await browser.pass(2);
  for (let offset = 2; offset < 120; offset++) world.socket.says(published(offset));
  await browser.pass(1000);
  assert.deepEqual([answers, asked(world.socket), world.sockets.length], [[], [null, "aaaaaaaa-1"], 2]);
});
