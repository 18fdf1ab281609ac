// A server that misbehaves: the script in a real browser against sockets that the test has in its hand.

import assert from "node:assert/strict";
import { after, afterEach, beforeEach, test } from "node:test";
import { Engine } from "./support/engine.js";
import { countLeftovers } from "./support/leftovers.js";
import { hello, page, publish, Site, say } from "./support/site.js";
import { eventually } from "./support/wait.js";

const engine = await Engine.start();
let site;
let tab;
beforeEach(async () => {
  site = await Site.start();
  site.pages["/"] = page('<script defer src="/notifier.js" data-storage="none"></script>');
  site.pages["/manual"] = page('<script defer src="/notifier.js" data-storage="none" data-manual></script>');
});
afterEach(async () => {
  await engine.closeTabs();
  await site.close();
});
after(() => engine.close());

async function open(path = "/") {
  tab = await engine.open(`${site.origin}${path}`);
}

const state = () => tab.evaluate("VideoNotifier.instance.state");
const sockets = (count) => eventually(() => site.sockets.length >= count, { what: `${count} sockets` });

for (const code of [1003, 1009, 4400, 4403]) {
  test(`close code ${code} stops it, and the console says why`, async () => {
    const listen = "window.said = []; console.warn = console.error = (...words) => said.push(words.join(' '));";
    site.pages["/"] = site.pages["/"].replace("<script", `<script>${listen}</script><script`);
    site.onSocket = (socket) => socket.close(code, "because of this");
    await open();
    await tab.until("VideoNotifier.instance.state === 'closed'");
    await tab.until(`said.some((line) => line.includes("${code} because of this"))`);
    // Being looked at does not change its mind; being told to does.
    await tab.evaluate("dispatchEvent(new Event('online'))");
    assert.deepEqual([await state(), site.sockets.length], ["closed", 1]);
    site.onSocket = (socket) => hello(socket);
    await tab.evaluate("VideoNotifier.instance.reconnect()");
    await tab.until("VideoNotifier.instance.state === 'open'");
  });
}

for (const code of [1000, 1001, 1011, 1012, 1013, 4000, 4001]) {
  test(`after close code ${code} it comes back`, async () => {
    site.onSocket = (socket) => {
      hello(socket);
      if (site.sockets.length === 1) socket.close(code);
    };
    await open();
    await sockets(2);
    await tab.until("VideoNotifier.instance.state === 'open'");
  });
}

test("after a connection that just breaks it comes back, with its position", async () => {
  const asked = [];
  site.onSocket = (socket, query) => {
    asked.push(query.get("since"));
    hello(socket, { position: "aaaaaaaa-41" });
  };
  await open();
  await tab.until("VideoNotifier.instance.state === 'open'");
  site.sockets[0].terminate();
  await sockets(2);
  assert.deepEqual(asked.slice(0, 2), [null, "aaaaaaaa-41"]);
});

test("after close code 1008 it stays away for now", async () => {
  site.onSocket = (socket) => {
    hello(socket);
    socket.close(1008);
  };
  await open();
  await tab.until("VideoNotifier.instance.state === 'waiting'");
  await tab.evaluate("dispatchEvent(new Event('online'))");
  // Any other loss would have been answered by now: the window is nothing.
  assert.deepEqual([await state(), site.sockets.length], ["waiting", 1]);
});

test("a planned restart is waited for as long as the server says", async () => {
  let from;
  let waited;
  site.onSocket = (socket) => {
    if (site.sockets.length > 1) waited = performance.now() - from;
    hello(socket);
    if (site.sockets.length > 1) return;
    say(socket, { type: "reconnect", after_ms: 700 });
    from = performance.now();
    socket.close(1012);
  };
  await open();
  await sockets(2);
  assert.ok(waited >= 700 && waited < 2000, `${waited} ms`);
});

test("a link that is silent though it looks open is found within one and a half heartbeats", async () => {
  const heartbeat_ms = 24_000;
  site.answers = false;
  site.onSocket = (socket) => hello(socket, { heartbeat_ms });
  await open();
  const from = performance.now();
  await eventually(() => site.sockets[0]?.readyState === 3, { what: "it is let go", within: 2 * heartbeat_ms });
  const silentMs = performance.now() - from;
  assert.ok(silentMs <= 1.5 * heartbeat_ms, `${silentMs} ms`);
  await sockets(2);
});

test("a link that beats is left alone", async (t) => {
  let questions = 0;
  site.onSocket = (socket) => {
    socket.on("message", () => questions++);
    hello(socket, { heartbeat_ms: 1000 });
    let beat = 1;
    const beats = setInterval(() => say(socket, { type: "heartbeat", position: `aaaaaaaa-${++beat}` }), 200);
    t.after(() => clearInterval(beats));
  };
  await open();
  // Three times what silence would have taken until it asks.
  await tab.until("VideoNotifier.instance.position === 'aaaaaaaa-21'");
  assert.deepEqual([site.sockets.length, questions], [1, 0]);
});

test("a tab that is looked at again finds a dead link within five seconds", async () => {
  site.answers = false;
  await open();
  await tab.until("VideoNotifier.instance.state === 'open'");
  const [socket] = site.sockets;
  const pinged = new Promise((resolve) => socket.once("message", (data) => resolve(String(data))));
  // A second of silence is what makes it ask; and nobody answers here.
  let looked = 0;
  await eventually(async () => {
    looked = performance.now();
    await tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))");
    return Promise.race([pinged, new Promise((resolve) => setTimeout(resolve, 100))]);
  });
  assert.equal(await pinged, '{"type":"ping"}');
  await sockets(2);
  const took = performance.now() - looked;
  assert.ok(took <= 5000, `${took} ms`);
});

test("within a second of coming online it is open, whether its link was dead or an attempt hung", async (t) => {
  await open();
  await tab.until("VideoNotifier.instance.state === 'open'");
  for (const before of ["open", "connecting"]) {
    // What there is gets no answer any more, as in a network that is gone.
    site.onSocket = () => {};
    if (before === "connecting") await tab.evaluate("VideoNotifier.instance.reconnect()");
    await tab.until(`VideoNotifier.instance.state === '${before}'`);
    if (before === "connecting") await sockets(3);
    site.onSocket = (socket) => hello(socket);
    const took = await tab.evaluate(`new Promise((resolve) => {
      const from = performance.now();
      const { instance } = VideoNotifier;
      instance.addEventListener("statechange", () => instance.state === "open" && resolve(performance.now() - from));
      dispatchEvent(new Event("online"));
    })`);
    t.diagnostic(`${before}: open after ${Math.round(took)} ms`);
    assert.ok(took <= 1000, `${took} ms`);
  }
});

test("preventDefault keeps the toast away, and the list has it", async () => {
  await open();
  await tab.until("VideoNotifier.instance.state === 'open'");
  await tab.evaluate(
    "VideoNotifier.instance.addEventListener('notification', (event) => event.preventDefault(), { once: true })",
  );
  publish(site.sockets[0], { videos: [{ id: 1, title: "kept away" }] });
  await tab.until("VideoNotifier.instance.history.length === 1");
  publish(site.sockets[0], { videos: [{ id: 1, title: "shown" }] });
  await tab.until("VideoNotifier.instance.history.length === 2");
  assert.deepEqual(await tab.toasts(), ["1 new trending video · United States\nshown"]);
});

test("what is older than data-max-age by the server's clock goes to the list only", async () => {
  site.pages["/"] = page('<script defer src="/notifier.js" data-storage="none" data-max-age="60"></script>');
  site.onSocket = (socket) => {
    hello(socket, { now: "2001-01-01T00:10:00Z" });
    publish(socket, { timestamp: "2001-01-01T00:08:59Z", videos: [{ id: 1, title: "old" }] });
    publish(socket, { timestamp: "2001-01-01T00:09:30Z", videos: [{ id: 1, title: "new" }] });
  };
  await open();
  await tab.until("VideoNotifier.instance.history.length === 2");
  assert.deepEqual(await tab.toasts(), ["1 new trending video · United States\nnew"]);
});

test("data-since is where it goes on, and data-url is where it connects to", async () => {
  let query;
  site.onSocket = (socket, asked) => {
    query = asked;
    hello(socket, { recovered: true, position: "aaaaaaaa-17" });
  };
  const attributes = `data-url="${site.origin}/other/ws?tenant=a" data-since="aaaaaaaa-17" data-regions="US,GB"`;
  site.pages["/"] = page(`<script defer src="/notifier.js" data-storage="none" ${attributes}></script>`);
  await open();
  await tab.until("VideoNotifier.instance.state === 'open'");
  assert.deepEqual(Object.fromEntries(query), { tenant: "a", regions: "US,GB", since: "aaaaaaaa-17" });
  assert.ok(site.requests.includes("/other/ws"), "beneath the path of data-url");
});

test("a frame without an origin of its own, where storage throws, works too", async () => {
  const script = `<script src=&quot;${site.origin}/notifier.js&quot;></script>`;
  site.pages["/"] = page("", `<iframe sandbox="allow-scripts" srcdoc="${script}"></iframe>`);
  await open();
  await sockets(1);
  publish(site.sockets[0]);
  say(site.sockets[0], { type: "reconnect", after_ms: 0 });
  site.sockets[0].close(1012);
  let since;
  site.onSocket = (socket, query) => {
    since = query.get("since");
    hello(socket);
  };
  await sockets(2);
  assert.match(since, /^aaaaaaaa-\d+$/);
});

test("close leaves no socket, timer, listener or element", async () => {
  await open("/manual");
  await tab.call(countLeftovers);
  await tab.evaluate("void (window.mine = new VideoNotifier('/ws', { storage: 'none' }))");
  await tab.until("mine.state === 'open'");
  publish(site.sockets[0]);
  await eventually(async () => (await tab.toasts()).length === 1, { what: "a toast" });
  await tab.evaluate("mine.refetch(() => {})");
  const counts = "[timers.size, listeners.size, document.querySelectorAll('video-notifier-toasts').length]";
  const [timers, listeners, elements] = await tab.evaluate(counts);
  assert.ok(timers >= 2 && listeners >= 6 && elements === 1, `${timers} ${listeners} ${elements}`);
  await tab.evaluate("mine.close()");
  assert.deepEqual(await tab.evaluate(counts), [0, 0, 0]);
  await eventually(() => site.sockets[0].readyState === 3, { what: "the socket is closed" });
  await tab.evaluate(
    "void [dispatchEvent(new Event('online')), dispatchEvent(new Event('pageshow')), mine.reconnect()]",
  );
  assert.deepEqual([await tab.evaluate("mine.state"), site.sockets.length], ["closed", 1]);
});
