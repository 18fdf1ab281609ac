// The Node client `ws` against `/ws`: it knows RFC 6455 and nothing of this server.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { WebSocket } from "ws";
import { Inbox, PATIENCE, site } from "./server.js";

function connect(t, server, query = {}, options = {}) {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}/ws?${new URLSearchParams(query)}`, options);
  const inbox = new Inbox();
  socket.on("message", (data, binary) => {
    assert.equal(binary, false);
    inbox.push(JSON.parse(data));
  });
  const closed = once(socket, "close").then(([code]) => code);
  t.after(() => socket.terminate());
  return { socket, inbox, closed };
}

test("ws: hello comes first, and then a notification to the letter", PATIENCE, async (t) => {
  const server = await (await site(t)).start();
  const { inbox } = connect(t, server);
  const hello = await inbox.next();
  assert.equal(hello.type, "hello");
  assert.equal(hello.recovered, null);
  const posted = await server.post("US", "a1", "a2");
  assert.deepEqual(await inbox.nextButHeartbeats(), posted);
});

test("ws: a client that was away gets what it missed, once", PATIENCE, async (t) => {
  const server = await (await site(t)).start();
  const before = connect(t, server);
  await before.inbox.next();
  await server.post("US", "seen");
  const { id: since } = await before.inbox.nextButHeartbeats();
  before.socket.close();
  await before.closed;

  const missed = [];
  for (const region of ["US", "GB", "DE"]) missed.push(await server.post(region, `missed-${region}`));
  const { inbox } = connect(t, server, { since });
  const hello = await inbox.next();
  assert.deepEqual([hello.type, hello.recovered, hello.position], ["hello", true, since]);
  for (const each of missed) assert.deepEqual(await inbox.nextButHeartbeats(), each);
  // What comes next is what is posted next, once each: none of the above comes again.
  for (const id of ["live-1", "live-2", "live-3"]) {
    const live = await server.post("US", id);
    assert.deepEqual(await inbox.nextButHeartbeats(), live);
  }
});

test("ws: answering pings keeps a silent client connected", PATIENCE, async (t) => {
  const server = await (await site(t)).start();
  const { socket, inbox } = connect(t, server);
  let pings = 0;
  socket.on("ping", () => pings++);
  await inbox.next();
  // The server drops a client that was silent for three heartbeats.
  for (let heartbeat = 0; heartbeat < 8; heartbeat++) assert.equal((await inbox.next()).type, "heartbeat");
  assert.ok(pings >= 7, `${pings} pings`);
});

test("ws: a client that answers no ping is dropped after three heartbeats", PATIENCE, async (t) => {
  const server = await (await site(t)).start();
  const { inbox, closed } = connect(t, server, {}, { autoPong: false });
  await inbox.next();
  assert.notEqual(await closed, 1000);
});

test("ws: SIGTERM tells the client to come back and closes with 1012", PATIENCE, async (t) => {
  const server = await (await site(t)).start();
  const { inbox, closed } = connect(t, server);
  await inbox.next();
  const status = server.terminate();
  const reconnect = await inbox.nextButHeartbeats();
  assert.equal(reconnect.type, "reconnect");
  assert.ok(Number.isInteger(reconnect.after_ms));
  assert.equal(await closed, 1012);
  assert.equal(await status, 0);
});

for (const [name, sent, code] of [
  ["binary", Buffer.from([0, 1]), 1003],
  ["over 4 KiB", "x".repeat(5000), 1009],
]) {
  test(`ws: a message that is ${name} closes with ${code}`, PATIENCE, async (t) => {
    const server = await (await site(t)).start();
    const { socket, inbox, closed } = connect(t, server);
    await inbox.next();
    socket.send(sent);
    assert.equal(await closed, code);
  });
}

test("ws: an origin that is not allowed is told so after the upgrade", PATIENCE, async (t) => {
  const server = await (await site(t)).start({ NOTIFIER_ALLOWED_ORIGINS: "https://videos.example" });
  const refused = connect(t, server, {}, { origin: "https://other.example" });
  assert.equal(await refused.closed, 4403);
  const welcome = connect(t, server, {}, { origin: "https://videos.example" });
  assert.equal((await welcome.inbox.next()).type, "hello");
});
