// The Node client `eventsource` against `/events`: it knows server-sent events,
// comes back with Last-Event-ID by itself, and knows nothing of this server.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EventSource } from "eventsource";
import { bridge, Inbox, PATIENCE, site } from "./server.js";

function connect(t, port, query = {}, options = {}) {
  const source = new EventSource(`http://127.0.0.1:${port}/events?${new URLSearchParams(query)}`, options);
  const inbox = new Inbox();
  source.onmessage = ({ data, lastEventId }) => inbox.push({ ...JSON.parse(data), lastEventId });
  t.after(() => source.close());
  return { source, inbox };
}

/** An event's id is the position that its message carries. */
const event = (posted) => ({ ...posted, lastEventId: posted.id });

test("eventsource: hello comes first, and then a notification to the letter", PATIENCE, async (t) => {
  const server = await (await site(t)).start();
  const { inbox } = connect(t, server.port);
  const hello = await inbox.next();
  assert.equal(hello.type, "hello");
  assert.equal(hello.recovered, null);
  assert.equal(hello.lastEventId, hello.position);
  const posted = await server.post("US", "a1", "a2");
  assert.deepEqual(await inbox.nextButHeartbeats(), event(posted));
});

test("eventsource: only the asked regions come", PATIENCE, async (t) => {
  const server = await (await site(t)).start();
  const { inbox } = connect(t, server.port, { regions: "GB,DE" });
  await inbox.next();
  await server.post("US", "a1");
  const posted = await server.post("DE", "a2");
  assert.deepEqual(await inbox.nextButHeartbeats(), event(posted));
});

test("eventsource: a page resumes with since after being away", PATIENCE, async (t) => {
  const server = await (await site(t)).start();
  const before = connect(t, server.port);
  const { position: since } = await before.inbox.next();
  before.source.close();
  const missed = await server.post("US", "missed");
  const { inbox } = connect(t, server.port, { since });
  assert.equal((await inbox.next()).recovered, true);
  assert.deepEqual(await inbox.nextButHeartbeats(), event(missed));
});

test("eventsource: a cut connection comes back by itself and gets what it missed, once", PATIENCE, async (t) => {
  const server = await (await site(t)).start();
  const way = await bridge(t, server);
  // A `since` that has grown old: Last-Event-ID has to win over it.
  const { inbox } = connect(t, way.port, { since: "otherone-1" });
  assert.equal((await inbox.next()).recovered, false);
  const seen = await server.post("US", "seen");
  assert.deepEqual(await inbox.nextButHeartbeats(), event(seen));

  await way.cut();
  const missed = [];
  for (const region of ["US", "GB", "DE"]) missed.push(await server.post(region, `missed-${region}`));
  way.restore();

  const hello = await inbox.nextButHeartbeats();
  assert.deepEqual([hello.type, hello.recovered], ["hello", true]);
  for (const each of missed) assert.deepEqual(await inbox.nextButHeartbeats(), event(each));
  for (const id of ["live-1", "live-2", "live-3"]) {
    const live = await server.post("US", id);
    assert.deepEqual(await inbox.nextButHeartbeats(), event(live));
  }
});

test("eventsource: SIGTERM ends the stream, and a new server is found and nothing missed", PATIENCE, async (t) => {
  const { start } = await site(t);
  const first = await start();
  const { inbox } = connect(t, first.port);
  const { position } = await inbox.next();
  const status = first.terminate();
  const reconnect = await inbox.nextButHeartbeats();
  assert.equal(reconnect.type, "reconnect");
  assert.ok(Number.isInteger(reconnect.after_ms));
  assert.equal(await status, 0);

  const second = await start({ port: first.port });
  // Perhaps before the client is back, perhaps after: it must get it either way.
  const posted = await second.post("US", "from-the-new-server");
  const hello = await inbox.nextButHeartbeats();
  assert.deepEqual([hello.type, hello.recovered], ["hello", true]);
  assert.equal(hello.position.split("-")[0], position.split("-")[0]);
  assert.deepEqual(await inbox.nextButHeartbeats(), event(posted));
});

test("eventsource: an origin that is not allowed is refused", PATIENCE, async (t) => {
  const server = await (await site(t)).start({ NOTIFIER_ALLOWED_ORIGINS: "https://videos.example" });
  const from = (origin) => ({
    fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, Origin: origin } }),
  });
  const refused = connect(t, server.port, {}, from("https://other.example"));
  const error = await new Promise((resolve) => (refused.source.onerror = resolve));
  assert.equal(error.code, 403);
  assert.equal(refused.source.readyState, EventSource.CLOSED);
  const welcome = connect(t, server.port, {}, from("https://videos.example"));
  assert.equal((await welcome.inbox.next()).type, "hello");
});
