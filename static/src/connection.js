/**
 * One connection to the server that comes back by itself: `shared.js` tells it where to connect to, and is told what
 * has arrived. It owns the socket, its timer, and the decision when it is lost and when to try again; it knows nothing
 * of positions, notifications, pages or tabs.
 *
 * Where a WebSocket does not open, something on the way may not let it through: the next attempt is over server-sent
 * events, and so in turn, until one opens. A stream that opens is kept for a while, and then a WebSocket tried again.
 *
 * Timers can't be trusted: those of a hidden tab run once a minute, those of a frozen one not at all, and a laptop
 * sleeps. So life is judged by comparing time stamps, whenever anything gives the occasion; a timer is one of them.
 *
 * @typedef {import("./protocol.js").Message} Message
 * @typedef {import("./runtime.js").Runtime} Runtime
 * @typedef {import("./runtime.js").Socket} Socket
 * @typedef {"connecting" | "open" | "waiting" | "closed"} State
 */

import { wait } from "./backoff.js";
import { receive } from "./inbox.js";
import { parse, reaction } from "./protocol.js";

/** How many heartbeats a connection may be silent before the server is asked whether it is there. */
const QUIET = 1.25;

/** How long the answer to that may take. */
const ANSWER_MS = 3_500;

/** How long a connection may take to open and to say hello. */
const OPENING_MS = 15_000;

/** How long a stream is enough. */
const STREAM_MS = 10 * 60_000;

/** A connection that did not stand this long does not count as a success: one that always breaks must back off. */
const STABLE_MS = 5_000;

/**
 * @param {() => string} url where to connect to, asked for anew each time: the position in it has moved
 * @param {(message: Message) => void} onMessage
 * @param {(state: State) => void} onState
 * @param {Runtime} runtime
 */
export function connection(url, onMessage, onState, runtime) {
  /** @type {State} */
  let state = "waiting";
  /** @type {Socket | null} */
  let socket = null;
  /** One at a time: for the next attempt while waiting, else for the next look at the time. @type {any} */
  let timer;

  /** When the next attempt is, or when the socket must have shown life again. */
  let due = 0;
  /** When the last text came, whatever it said. */
  let heardAt = 0;
  /** When this socket said hello; 0 until then. */
  let openedAt = 0;
  let heartbeatMs = 0;
  /** Whether it counts as lost when `due` comes. */
  let isAsked = true;
  /** @type {number | null} */
  let windowMs = null;
  /** What a `reconnect` on this socket asked for. @type {number | null} */
  let afterMs = null;

  let isStream = false;
  /** Until when a stream is enough. */
  let streamUntil = 0;
  /**
   * Attempts in a row that did not open: an odd number of them makes the next one a stream. Where a WebSocket has opened,
   * one that does not may be the server's restart: so there it counts from below.
   */
  let blocked = 0;

  /** Attempts that failed since a connection last stood. */
  let failed = 0;
  /** Whether the last loss was answered at once. A second in a row backs off, or two machines would only do this. */
  let cameAtOnce = false;
  /** Not before this time, whoever asks: the server wants it so. */
  let notBefore = 0;

  return {
    get state() {
      return state;
    },

    /** When it will have shown life, or done something else, if all is well. */
    get due() {
      return due;
    },

    /** The server wants no attempt before this. */
    get notBefore() {
      return notBefore;
    },

    reconnect,

    /** Connects, but not before that time, nor before the one that the server wants. @param {number} time */
    start(time) {
      notBefore = Math.max(notBefore, time);
      if (runtime.now() >= notBefore) connect();
      else dueAt(notBefore, connect);
    },

    /** Something has happened that makes it worth a look: the tab is visible again, or the network is back. */
    check() {
      const now = runtime.now();
      if (state === "waiting") {
        if (now >= notBefore) connect();
      } else if (isOverdue(now)) {
        reconnect();
      } else if (!isAsked && socket?.send && now - heardAt > 1000) {
        question();
      }
    },

    /** Lets go, for now or for good. @param {"waiting" | "closed"} next */
    stop(next) {
      drop();
      enter(next);
    },
  };

  /** Connects at once, in place of what there is. */
  function reconnect() {
    notBefore = 0;
    connect();
  }

  function connect() {
    drop();
    const now = runtime.now();
    openedAt = 0;
    afterMs = null;
    heardAt = now;
    isAsked = true;
    if (now >= streamUntil) blocked = Math.min(blocked, 0);
    isStream = blocked % 2 === 1;
    try {
      socket = (isStream ? runtime.stream : runtime.connect)(url());
    } catch (error) {
      if (isStream) return lost(1006);
      // Not the network: an address that no WebSocket takes, or one that the page's policy forbids.
      runtime.complain(`${error}`);
      enter("closed");
      return;
    }
    receive(socket, hear, reconnect);
    socket.onclose = ({ code, reason }) => lost(code, reason);
    expect(now + OPENING_MS);
    // Last: a listener may close it, and then no timer must be left to bring it back.
    enter("connecting");
  }

  /** @param {unknown} data */
  function hear(data) {
    const now = runtime.now();
    const message = parse(data, now);
    heardAt = now;
    windowMs = message?.windowMs ?? windowMs;
    afterMs = message?.afterMs ?? afterMs;
    const isHello = message?.type === "hello";
    if (isHello) {
      heartbeatMs = message.heartbeatMs;
      openedAt = now;
      if (!isStream) blocked = -1;
      expect(now + QUIET * heartbeatMs);
    } else if (openedAt) {
      // The timer finds out by itself that it fires too early: messages are many, and timers cost something.
      due = now + QUIET * heartbeatMs;
    }
    isAsked = !openedAt;
    const current = socket;
    if (isHello) enter("open");
    // A listener may have closed or replaced the connection.
    if (message && socket === current) onMessage(message);
    if (isStream && now >= streamUntil && socket === current) {
      failed = 0;
      cameAtOnce = false;
      connect();
    }
  }

  /** @param {number} code @param {string} [reason] */
  function lost(code, reason) {
    const now = runtime.now();
    const stood = openedAt && now - openedAt >= STABLE_MS;
    drop();
    const { comesBack, atLeastMs, atOnce } = reaction(code);
    if (!comesBack) {
      runtime.complain(`refused: ${code} ${reason}`);
      enter("closed");
      return;
    }
    if (stood) failed = 0;
    const turns = !openedAt && code === 1006 && ++blocked % 2 === 1;
    if (turns) streamUntil = now + STREAM_MS;
    // A page that needs a stream from the start has it at once.
    cameAtOnce = (atOnce || (turns && failed === 0)) && (stood || !cameAtOnce);
    const jittered = now + wait(failed, windowMs, atLeastMs, runtime.random);
    // At once is no place in the window: should it fail, one is drawn yet.
    if (!cameAtOnce) failed++;
    notBefore = now + Math.max(afterMs ?? 0, atLeastMs);
    dueAt(cameAtOnce ? now : afterMs === null ? jittered : notBefore, connect);
    enter("waiting");
  }

  /** Looks at the time again when the socket must have shown life. @param {number} deadline */
  function expect(deadline) {
    dueAt(deadline, () => {
      if (!isOverdue(runtime.now())) expect(due);
      else if (isAsked) lost(1006);
      else question();
    });
  }

  /** Whether the server is there. Over a stream it can't be asked; what is late may still come. */
  function question() {
    isAsked = true;
    socket?.send?.('{"type":"ping"}');
    expect(runtime.now() + ANSWER_MS);
  }

  /** @param {number} time @param {() => void} act then */
  function dueAt(time, act) {
    due = time;
    runtime.clearTimeout(timer);
    timer = runtime.setTimeout(act, Math.max(0, due - runtime.now()));
  }

  /** @param {number} now */
  function isOverdue(now) {
    // The clock was set back: start to count anew, rather than wait for it to get here again.
    if (now < heardAt) {
      due -= heardAt - now;
      heardAt = now;
    }
    return now >= due;
  }

  /** Lets go of the socket without waiting for it: one on a dead link takes minutes to close. */
  function drop() {
    runtime.clearTimeout(timer);
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.close(1000);
    socket = null;
  }

  /** Last in whatever it is called by: a listener may do anything. @param {State} next */
  function enter(next) {
    if (next === state) return;
    state = next;
    onState(next);
  }
}
