/** Stand-ins for what the client takes from its surroundings: time that moves when it is told, sockets of paper. */

/** Numbers that look random, the same for the same seed (mulberry32). */
export function seeded(seed) {
  let state = (seed * 0x9e3779b9) | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A runtime whose time stands still until `pass` is called. */
export class World {
  time = 1_000_000_000_000;
  /** Timers that have not run, by number. */
  timers = new Map();
  /** All that was ever connected, in order. */
  sockets = [];
  complaints = [];
  stored = new Map();
  random = () => 0.5;
  #lastTimer = 0;

  runtime() {
    return {
      connect: (url) => {
        const socket = new PaperSocket(url);
        this.sockets.push(socket);
        return socket;
      },
      stream: (url) => {
        const socket = new PaperSocket(url);
        socket.isStream = true;
        socket.send = undefined;
        this.sockets.push(socket);
        return socket;
      },
      setTimeout: (callback, ms) => this.at(this.time + ms, callback),
      clearTimeout: (timer) => this.timers.delete(timer),
      now: () => this.time,
      random: () => this.random(),
      storage: () => ({
        getItem: (key) => this.stored.get(key) ?? null,
        setItem: (key, value) => this.stored.set(key, value),
      }),
      complain: (message) => this.complaints.push(message),
    };
  }

  at(time, callback) {
    this.timers.set(++this.#lastTimer, { at: time, callback });
    return this.#lastTimer;
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** Time passes, and timers run when they are due. */
  pass(ms) {
    const until = this.time + ms;
    for (;;) {
      let next;
      for (const timer of this.timers) if (timer[1].at <= until && !(next?.[1].at <= timer[1].at)) next = timer;
      if (!next) break;
      this.timers.delete(next[0]);
      this.time = Math.max(this.time, next[1].at);
      next[1].callback();
    }
    this.time = until;
  }

  /** The machine sleeps: time passes, and no timer runs. */
  sleep(ms) {
    this.time += ms;
  }

  /** When the next timer is due, in milliseconds from now. */
  get untilNext() {
    return Math.min(...[...this.timers.values()].map(({ at }) => at)) - this.time;
  }
}

/** Hands out messages as browsers do: to each listener, the property's included. */
export class Inbox {
  onmessage = null;
  /** Which listener to the next message the browser ends. @type {"counter" | "handler" | null} */
  ended = null;
  #counters = [];
  #lostItsHandler = false;

  addEventListener(_type, listener) {
    this.#counters.push(listener);
  }

  deliver(data) {
    // It ends one script, and not the one after that as well.
    const ended = this.ended === "counter" && this.#lostItsHandler ? null : this.ended;
    if (ended !== "counter") for (const count of this.#counters) count();
    if (ended !== "handler") this.onmessage?.({ data });
    this.#lostItsHandler = ended === "handler";
    this.ended = null;
  }
}

class PaperSocket extends Inbox {
  onclose = null;
  sent = [];
  isClosed = false;
  isStream = false;

  constructor(url) {
    super();
    this.url = new URL(url);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.isClosed = true;
  }

  /** The server says something. */
  says(message) {
    this.deliver(typeof message === "string" ? message : JSON.stringify(message));
  }

  /** The server ends it. */
  ends(code, reason = "") {
    this.onclose?.({ code, reason });
  }
}

export const hello = (more) => ({
  type: "hello",
  position: "aaaaaaaa-1",
  recovered: null,
  now: "2001-09-09T01:46:40Z",
  heartbeat_ms: 10_000,
  spread_ms: 30_000,
  reconnect_window_ms: 20_000,
  ...more,
});

export const published = (offset, more) => ({
  type: "new_trending",
  id: `aaaaaaaa-${offset}`,
  region: "US",
  count: 1,
  videos: [{ id: "v", title: "a title" }],
  timestamp: "2001-09-09T01:46:40Z",
  ...more,
});
