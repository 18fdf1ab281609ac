/**
 * Stand-ins for what the tabs of one browser share: locks and channels of paper, which take as much time as the test
 * says, and tabs that freeze, crash and go like real ones.
 */

import { setMaxListeners } from "node:events";
import { Client } from "../src/client.js";
import { Inbox, World } from "./support.js";

export class Browser {
  world = new World();
  tabs = [];
  /** How long a message, or the news of a lock, is on its way. */
  delay = () => 1;
  /** Whether the server answers pings. */
  answers = true;
  #locks = new Map();
  #channels = [];

  open(options = {}) {
    const tab = new Tab(this, this.tabs.length, options);
    this.tabs.push(tab);
    return tab;
  }

  /** Sockets that are not closed. */
  get connections() {
    return this.world.sockets.filter(({ isClosed }) => !isClosed);
  }

  locks(tab) {
    return {
      request: (name, { mode = "exclusive", steal = false, signal }, callback) =>
        new Promise((resolve, reject) => {
          const lock = this.#locks.get(name) ?? { held: [], waiting: [] };
          this.#locks.set(name, lock);
          const request = { tab, mode, callback, resolve, reject };
          if (signal) setMaxListeners(0, signal);
          signal?.addEventListener("abort", () => {
            if (!lock.waiting.includes(request)) return;
            lock.waiting = lock.waiting.filter((each) => each !== request);
            reject(new DOMException("aborted", "AbortError"));
            this.#grant(lock);
          });
          if (steal) {
            for (const holder of lock.held.splice(0))
              holder.tab.run(() => holder.reject(new DOMException("stolen", "AbortError")));
            lock.waiting.unshift(request);
          } else {
            lock.waiting.push(request);
          }
          this.#grant(lock);
        }),
    };
  }

  #grant(lock) {
    while (lock.waiting.length) {
      const [next] = lock.waiting;
      const fits = lock.held.every(({ mode }) => mode === "shared" && next.mode === "shared");
      if (!fits) return;
      lock.waiting.shift();
      lock.held.push(next);
      next.tab.run(async () => {
        const answer = await next.callback();
        if (!lock.held.includes(next)) return;
        lock.held = lock.held.filter((each) => each !== next);
        next.resolve(answer);
        this.#grant(lock);
      });
    }
  }

  channel(tab, name) {
    const channel = Object.assign(new Inbox(), {
      tab,
      name,
      isOpen: true,
      /** When the last message to each gets there: none overtakes another. */
      arrivals: new Map(),
      postMessage: (data) => {
        const text = JSON.stringify(data, (_, value) => (Number.isNaN(value) ? null : value));
        for (const other of this.#channels) {
          if (other === channel || other.name !== name || !other.isOpen) continue;
          const at = Math.max(channel.arrivals.get(other) ?? 0, this.world.time + this.delay());
          channel.arrivals.set(other, at);
          this.world.at(at, () => other.isOpen && other.deliver(JSON.parse(text)));
        }
      },
      close: () => {
        channel.isOpen = false;
      },
    });
    this.#channels.push(channel);
    return channel;
  }

  /** A tab that is no more holds nothing, and waits for nothing. */
  forget(tab) {
    for (const channel of this.#channels) if (channel.tab === tab) channel.isOpen = false;
    for (const lock of this.#locks.values()) {
      lock.held = lock.held.filter((each) => each.tab !== tab);
      lock.waiting = lock.waiting.filter((each) => each.tab !== tab);
      this.#grant(lock);
    }
  }

  /** Time passes, one timer at a time, and what they have set off gets done. */
  async pass(ms) {
    const until = this.world.time + ms;
    await settle();
    while (this.world.timers.size && this.world.time + this.world.untilNext <= until) {
      this.world.pass(Math.max(0, this.world.untilNext));
      await settle();
    }
    this.world.pass(until - this.world.time);
    await settle();
  }
}

class Tab {
  heard = [];
  gaps = 0;
  toasts = [];
  states = [];
  isFrozen = false;
  isGone = false;
  isVisible = true;
  hasFocus = false;
  /** How much later than they are due its timers run. */
  lateness = 0;
  events = null;
  channel = null;
  #browser;
  /** What a frozen tab has not got to. */
  #held = [];

  constructor(browser, number, options) {
    this.#browser = browser;
    const { world } = browser;
    const runtime = world.runtime();
    this.client = new Client(new URL("wss://notify.test/ws"), options, {
      page: {
        attention: () => Number(this.isVisible) && 1 + Number(this.hasFocus),
        watch: (events) => {
          this.events = events;
          return () => {};
        },
      },
      toasts: { show: ({ id }) => this.toasts.push(id), clear: () => {}, close: () => {} },
      runtime: {
        ...runtime,
        random: () => (world.random() + number / 1000) % 1,
        setTimeout: (callback, ms) => {
          const timer = { isCleared: false };
          const act = () => timer.isCleared || callback();
          timer.number = runtime.setTimeout(() => this.run(act), ms + this.lateness);
          return timer;
        },
        // One that was due while the tab was frozen can still be cleared.
        clearTimeout: (timer) => {
          if (!timer) return;
          timer.isCleared = true;
          runtime.clearTimeout(timer.number);
        },
        connect: (url) => this.#guard(runtime.connect(url)),
        stream: (url) => this.#guard(runtime.stream(url)),
        locks: () => browser.locks(this),
        channel: (name) => {
          this.channel = browser.channel(this, name);
          return this.channel;
        },
      },
    });
    this.client.addEventListener("notification", ({ detail }) => this.heard.push(detail.id));
    this.client.addEventListener("gap", () => this.gaps++);
    this.client.addEventListener("statechange", ({ detail }) => this.states.push(detail.state));
  }

  /** Does it, once it is not frozen; never, if it is gone. */
  run(act) {
    if (this.isGone) return;
    if (this.isFrozen) this.#held.push(act);
    else act();
  }

  /** A frozen tab's socket is open, and nobody listens. What comes meanwhile is lost, and the socket with it. */
  #guard(socket) {
    const { says, ends, send } = socket;
    socket.send &&= (text) => {
      send.call(socket, text);
      const { answers, world, delay } = this.#browser;
      if (answers) world.at(world.time + delay(), () => socket.says({ type: "pong" }));
    };
    socket.says = (message) => {
      if (this.isFrozen) socket.isLost = true;
      else if (!this.isGone && !socket.isLost) says.call(socket, message);
    };
    socket.ends = (...reason) => this.run(() => ends.apply(socket, reason));
    socket.tab = this;
    return socket;
  }

  hide() {
    this.isVisible = false;
    this.events.check();
  }

  look() {
    this.isVisible = true;
    this.events.check();
  }

  /** Without telling it. */
  freeze() {
    if (this.isVisible && !this.isFrozen) this.hide();
    this.isFrozen = true;
  }

  resume() {
    this.isFrozen = false;
    for (const socket of this.#browser.connections) if (socket.tab === this && socket.isLost) socket.ends(1006);
    for (const act of this.#held.splice(0)) this.run(act);
  }

  leave() {
    this.events.leave();
  }

  join() {
    this.events.join();
  }

  close() {
    this.client.close();
    this.isGone = true;
    this.#browser.forget(this);
  }

  crash() {
    this.isGone = true;
    for (const socket of this.#browser.connections) if (socket.tab === this) socket.isClosed = true;
    this.#browser.forget(this);
  }
}

/** What promises have set off gets done. */
export async function settle() {
  for (let turn = 0; turn < 8; turn++) await null;
}
