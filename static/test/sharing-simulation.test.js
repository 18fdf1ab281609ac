// Many tabs, a server of paper and random events in virtual time, one order of events a seed: whatever happens, no tab
// misses a publication of its regions, or hears one twice, and in the end there is one connection.

import assert from "node:assert/strict";
import test from "node:test";
import { hello, published, seeded } from "./support.js";
import { Browser } from "./tabs.js";

const SEEDS = Number(process.env.SHARING_SEEDS ?? 300);
const STEPS = 120;
const REGIONS = ["US", "JP", "GB"];
const EPOCH = "aaaaaaaa";

test(`${SEEDS} orders of events`, async () => {
  for (let seed = 1; seed <= SEEDS; seed++) await simulate(seed);
});

async function simulate(seed) {
  const random = seeded(seed);
  /** In every other order no tab is frozen, and none takes another's place: then nothing is ever shown twice. */
  const isCalm = seed % 2 === 0;
  const below = (limit) => Math.floor(random() * limit);
  const pick = (list) => list[below(list.length)];
  const browser = new Browser();
  const { world } = browser;
  world.random = random;
  browser.delay = () => below(pick([2, 2, 2, 40]));
  const server = new Server(browser, random);

  const watched = [];
  const open = () => {
    const regions = pick([[], [], ["US"], ["JP"], ["US", "GB"]]);
    const tab = browser.open({ regions });
    tab.isVisible = random() < 0.3;
    watched.push({ tab, regions, from: null });
  };
  const alive = () => watched.filter(({ tab }) => !tab.isGone);
  open();

  for (let step = 0; step < STEPS; step++) {
    for (const each of alive()) if (each.from === null && each.tab.client.state === "open") each.from = server.head;
    const { tab } = pick(alive());
    const event = pick([
      () => server.publish(pick(REGIONS)),
      () => server.publish(pick(REGIONS)),
      () => {
        for (let count = pick([2, 10, 120]); count > 0; count--) server.publish(pick(REGIONS));
      },
      () => alive().length < 6 && open(),
      () => alive().length > 1 && tab.crash(),
      () => alive().length > 1 && !tab.isFrozen && tab.close(),
      () => !tab.isFrozen && tab.leave(),
      () => !tab.isFrozen && tab.join(),
      () => !isCalm && tab.freeze(),
      () => tab.resume(),
      () => !tab.isFrozen && tab.look(),
      () => !tab.isFrozen && tab.hide(),
      () => !isCalm && !tab.isFrozen && tab.client.reconnect(),
      () => server.cut(),
      () => {
        const inbox = pick([tab.channel, ...browser.connections]);
        if (inbox) inbox.ended = pick(["counter", "handler"]);
      },
      () => server.beat(),
      () => {
        server.takesSockets = !server.takesSockets;
      },
    ]);
    event();
    await browser.pass(pick([0, 1, 5, 20, 100, 1000, 20_000]));
  }

  for (const { tab } of alive()) {
    tab.resume();
    tab.join();
    tab.look();
  }
  for (let turn = 0; turn < 30; turn++) {
    server.beat();
    await browser.pass(5000);
  }
  const where = `seed ${seed}`;
  const shown = browser.tabs.flatMap(({ toasts }) => toasts);
  if (isCalm) assert.equal(new Set(shown).size, shown.length, `${where}: shown twice`);
  assert.equal(browser.connections.length, 1, where);
  for (const { tab, regions, from } of alive()) {
    const number = `${where}, tab ${browser.tabs.indexOf(tab)}`;
    assert.equal(tab.client.state, "open", number);
    const heard = tab.heard.map((id) => Number(id.split("-")[1]));
    assert.equal(new Set(heard).size, heard.length, `${number}: heard twice: ${heard}`);
    // What is to be shown may come before its turn.
    const inTurn = heard.filter((offset) => !tab.toasts.includes(`${EPOCH}-${offset}`));
    assert.deepEqual(
      inTurn,
      inTurn.toSorted((one, other) => one - other),
      `${number}: in order`,
    );
    const expected = server.log.filter(
      ({ region, offset }) => from !== null && offset > from && (regions.length === 0 || regions.includes(region)),
    );
    const missed = expected.map(({ offset }) => offset).filter((offset) => !heard.includes(offset));
    assert.deepEqual(missed, [], `${number}: missed`);
    assert.equal(tab.gaps, 0, `${number}: gaps`);
  }
}

/** Keeps all, and answers as the protocol says, each connection in its own time. */
class Server {
  log = [];
  head = 0;
  /** Whether WebSockets get through; streams do. */
  takesSockets = true;
  #browser;
  #random;

  constructor(browser, random) {
    this.#browser = browser;
    this.#random = random;
    const { world } = browser;
    const push = world.sockets.push.bind(world.sockets);
    world.sockets.push = (socket) => {
      this.#after(() => this.#accept(socket));
      return push(socket);
    };
  }

  publish(region) {
    const entry = { offset: ++this.head, region };
    this.log.push(entry);
    for (const socket of this.#browser.connections) if (socket.accepts?.(entry)) this.#send(socket, entry);
  }

  beat() {
    for (const socket of this.#browser.connections) {
      if (socket.accepts) this.#say(socket, { type: "heartbeat", position: `${EPOCH}-${this.head}` });
    }
  }

  /** Loses all its connections. */
  cut() {
    for (const socket of this.#browser.connections) {
      socket.accepts = null;
      this.#after(() => socket.ends(1006), socket);
    }
  }

  #accept(socket) {
    if (socket.isClosed) return;
    if (!socket.isStream && !this.takesSockets) return socket.ends(1006);
    const regions = socket.url.searchParams.get("regions")?.split(",");
    const since = socket.url.searchParams.get("since");
    const start = since === null ? this.head : Number(since.split("-")[1]);
    assert.ok(start <= this.head, "a position that was never given");
    socket.accepts = ({ region }) => !socket.isClosed && (!regions || regions.includes(region));
    this.#say(socket, hello({ position: `${EPOCH}-${start}`, recovered: since === null ? null : true }));
    for (const entry of this.log) if (entry.offset > start && socket.accepts(entry)) this.#send(socket, entry);
  }

  #send(socket, { offset, region }) {
    this.#say(socket, published(offset, { region }));
  }

  #say(socket, message) {
    this.#after(() => !socket.isClosed && socket.says(message), socket);
  }

  /** What goes over one connection keeps its order. */
  #after(act, socket = {}) {
    const { world } = this.#browser;
    const at = Math.max(socket.lastAt ?? 0, world.time + Math.floor(this.#random() * 30));
    socket.lastAt = at;
    world.at(at, act);
  }
}
