/**
 * One connection to the server that comes back by itself: `client.js` tells it where to connect to, and is told what
 * has arrived. It owns the WebSocket, its timers, and the decision when it is lost and when to try again; it knows
 * nothing of positions, notifications or pages.
 *
 * Timers can't be trusted: those of a hidden tab run once a minute, those of a frozen one not at all, and a laptop
 * sleeps. So life is judged by comparing time stamps, whenever anything gives the occasion; a timer is one of them.
 *
 * @typedef {import("./protocol.js").Message} Message
 * @typedef {import("./runtime.js").Runtime} Runtime
 * @typedef {"connecting" | "open" | "waiting" | "closed"} State
 */

import { wait } from "./backoff.js";
import { parse, reaction } from "./protocol.js";

/** How many heartbeats may be missed before a connection counts as lost. */
const PATIENCE = 2.5;

/** Taken until a server says how often its heartbeats come. */
const DEFAULT_HEARTBEAT_MS = 25_000;

/** How long a connection may take to open and to say hello. */
const OPENING_MS = 15_000;

/** How long the answer to a question may take, once somebody is looking. */
const ANSWER_MS = 4_000;

/** A connection that did not stand this long does not count as a success: one that always breaks must back off. */
const STABLE_MS = 5_000;

export class Connection {
  /** Where to connect to, asked for anew each time: the position in it has moved. @type {() => string} */
  #url;
  /** @type {(message: Message) => void} */
  #onMessage;
  /** @type {(state: State) => void} */
  #onState;
  /** @type {Runtime} */
  #runtime;

  /** @type {State} */
  #state = "waiting";
  /** @type {import("./runtime.js").Socket | null} */
  #socket = null;
  /** One at a time: for the next attempt while waiting, else for the next look at the time. @type {any} */
  #timer = null;
  /** Whether the page is away, in the back/forward cache or frozen: then nothing is tried. */
  #away = false;

  /** When the socket must have shown life again. */
  #deadline = 0;
  /** When the last text came, whatever it said. */
  #heardAt = 0;
  /** When this socket said hello; null until then. @type {number | null} */
  #openedAt = null;
  #heartbeatMs = DEFAULT_HEARTBEAT_MS;
  /** @type {number | null} */
  #windowMs = null;
  /** What a `reconnect` on this socket asked for. @type {number | null} */
  #afterMs = null;

  /** Attempts that failed since a connection last stood. */
  #failed = 0;
  /** Whether the last loss was answered at once. A second in a row backs off, or two machines would only do this. */
  #cameAtOnce = false;
  /** Not before this time, whoever asks: the server wants it so. */
  #notBefore = 0;

  /**
   * @param {object} parts
   * @param {() => string} parts.url
   * @param {(message: Message) => void} parts.onMessage
   * @param {(state: State) => void} parts.onState
   * @param {Runtime} parts.runtime
   */
  constructor({ url, onMessage, onState, runtime }) {
    this.#url = url;
    this.#onMessage = onMessage;
    this.#onState = onState;
    this.#runtime = runtime;
  }

  get state() {
    return this.#state;
  }

  /** Connects at once, in place of what there is. */
  reconnect() {
    this.#drop();
    this.#notBefore = 0;
    if (this.#away) this.#enter("waiting");
    else this.#connect();
  }

  /** Something has happened that makes it worth a look: the tab is visible again, or the network is back. */
  check() {
    if (this.#away || this.#state === "closed") return;
    const now = this.#runtime.now();
    if (this.#state === "waiting") {
      if (now >= this.#notBefore) this.#connect();
    } else if (this.#isOverdue(now)) {
      this.reconnect();
    } else if (this.#state === "open" && now - this.#heardAt > 1000) {
      this.#socket?.send('{"type":"ping"}');
      this.#expect(Math.min(this.#deadline, now + ANSWER_MS));
    }
  }

  /** The page goes to where it can't hold a connection. */
  leave() {
    this.#away = true;
    if (this.#state === "closed") return;
    this.#drop();
    this.#enter("waiting");
  }

  /** It is back. */
  join() {
    if (!this.#away) return;
    this.#away = false;
    this.check();
    // The server wants it later.
    if (this.#state === "waiting") this.#connectIn(this.#notBefore - this.#runtime.now());
  }

  /** For good, or until somebody calls `reconnect`. */
  close() {
    this.#drop();
    this.#enter("closed");
  }

  #connect() {
    this.#stopTimer();
    const now = this.#runtime.now();
    this.#openedAt = null;
    this.#afterMs = null;
    this.#heardAt = now;
    let socket;
    try {
      socket = this.#runtime.connect(this.#url());
    } catch (error) {
      // Not the network: an address that no WebSocket takes, or one that the page's policy forbids.
      this.#runtime.complain(`can't connect: ${error}`);
      this.close();
      return;
    }
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
    this.#expect(now + OPENING_MS);
    // Last: a listener may close it, and then no timer must be left to bring it back.
    this.#enter("connecting");
  }

  /** @param {unknown} data */
  #hear(data) {
    const message = parse(data);
    const now = this.#runtime.now();
    this.#heardAt = now;
    if (message && "windowMs" in message) this.#windowMs = message.windowMs ?? this.#windowMs;
    if (message?.type === "hello") {
      this.#heartbeatMs = message.heartbeatMs ?? DEFAULT_HEARTBEAT_MS;
      this.#openedAt = now;
      this.#expect(now + PATIENCE * this.#heartbeatMs);
    } else if (this.#openedAt !== null) {
      // The timer finds out by itself that it fires too early: messages are many, and timers cost something.
      this.#deadline = now + PATIENCE * this.#heartbeatMs;
    }
    if (message?.type === "reconnect") this.#afterMs = message.afterMs;
    const socket = this.#socket;
    if (message?.type === "hello") this.#enter("open");
    // A listener may have closed or replaced the connection.
    if (message && socket === this.#socket) this.#onMessage(message);
  }

  /** @param {number} code @param {string} [reason] */
  #lost(code, reason) {
    const now = this.#runtime.now();
    const stood = this.#openedAt !== null && now - this.#openedAt >= STABLE_MS;
    const afterMs = this.#afterMs;
    this.#drop();
    const answer = reaction(code);
    if (!answer.comesBack) {
      this.#runtime.complain(`the server refused the connection for good: ${code} ${reason ?? ""}`.trim());
      this.#enter("closed");
      return;
    }
    if (stood) this.#failed = 0;
    const atOnce = answer.atOnce && (stood || !this.#cameAtOnce);
    this.#cameAtOnce = atOnce;
    const { atLeastMs } = answer;
    const jittered = wait({
      failed: this.#failed++,
      windowMs: this.#windowMs,
      atLeastMs,
      random: this.#runtime.random,
    });
    this.#notBefore = now + Math.max(afterMs ?? 0, atLeastMs);
    this.#enter("waiting");
    this.#connectIn(atOnce ? 0 : afterMs === null ? jittered : this.#notBefore - now);
  }

  /** @param {number} ms */
  #connectIn(ms) {
    if (this.#state !== "waiting") return;
    this.#stopTimer();
    this.#timer = this.#runtime.setTimeout(() => this.#connect(), Math.max(0, ms));
  }

  /** Looks at the time again when the socket must have shown life. @param {number} deadline */
  #expect(deadline) {
    this.#deadline = deadline;
    this.#stopTimer();
    this.#timer = this.#runtime.setTimeout(() => {
      const now = this.#runtime.now();
      if (this.#isOverdue(now)) this.#lost(1006);
      else this.#expect(this.#deadline);
    }, deadline - this.#runtime.now());
  }

  /** @param {number} now */
  #isOverdue(now) {
    // The clock was set back: start to count anew, rather than wait for it to get here again.
    if (now < this.#heardAt) this.#deadline -= this.#heardAt - now;
    this.#heardAt = Math.min(this.#heardAt, now);
    return now >= this.#deadline;
  }

  /** Lets go of the socket without waiting for it: one on a dead link takes minutes to close. */
  #drop() {
    this.#stopTimer();
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close(1000);
  }

  #stopTimer() {
    this.#runtime.clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** @param {State} state */
  #enter(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#onState(state);
  }
}
