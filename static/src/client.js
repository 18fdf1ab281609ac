/**
 * The notifier as a page sees it. What the connection delivers is put in order here: positions, what was seen before,
 * the list, the page's own listeners, and last the toasts. It knows neither the network, which `shared.js`
 * has, nor the DOM: `browser.js` hands in the page and its toasts.
 *
 * @typedef {import("./protocol.js").Notification} Notification
 * @typedef {import("./protocol.js").Message} Message
 * @typedef {import("./runtime.js").Runtime} Runtime
 *
 * @typedef {object} Options
 * @property {string[] | undefined} [regions] none means all
 * @property {string | null | undefined} [since] the position that the page was made at
 * @property {"local" | "none" | undefined} [storage] "none": nothing outlives the page
 * @property {number} [maxAge] in seconds; what is older goes to the list, not to a toast
 *
 * @typedef {object} Page what the client must know of the page that it is in
 * @property {() => number} attention how much the reader sees of it: 0 for nothing, and more for more
 * @property {(events: PageEvents) => () => void} watch answers with how to stop
 *
 * @typedef {object} PageEvents
 * @property {() => void} check it may be worth a look at the connection
 * @property {() => void} online there is a network again, or another one
 * @property {() => void} leave the page goes to where it can't hold a connection
 * @property {() => void} join it is back
 * @property {() => void} store another tab has stored something
 *
 * @typedef {object} Toasts
 * @property {(notification: Notification, age: number) => void} show in milliseconds
 * @property {() => void} clear takes away what stands
 * @property {() => void} close for good
 *
 * @typedef {object} Surroundings
 * @property {Page | null} page
 * @property {Toasts | null} toasts
 * @property {Runtime} runtime
 */

import { positions } from "./position.js";
import { refetches } from "./refetch.js";
import { covers } from "./roster.js";
import { sharedConnection } from "./shared.js";
import { slot } from "./storage.js";

/** How many notifications the list keeps. */
const MAX_HISTORY = 100;

/** How many it knows of; far more than can be on their way. */
const MAX_TOLD = 10_000;

const DEFAULT_MAX_AGE_S = 15 * 60;

/**
 * Events: `notification` (its `detail` is the notification; `preventDefault()` keeps the toast away), `statechange`,
 * `gap` (something may have been missed, so what the page shows should be fetched anew), and `refetch`: it was.
 */
export class Client extends EventTarget {
  /** @type {string[]} */
  #regions;
  #maxAgeMs;
  #toasts;
  #runtime;
  /** @type {ReturnType<typeof positions>} */
  #positions;
  /** @type {ReturnType<typeof sharedConnection>} */
  #connection;
  /** @type {ReturnType<typeof refetches>} */
  #refetch;
  #spreadMs = 0;
  /** @type {{ get(): unknown, set(value: unknown): void }} */
  #mutedSlot;
  /** Newest first. @type {Notification[]} */
  #history = [];
  /**
   * What this page knows of, and whether it has kept it from being shown. One may be shown before it is received, where
   * the leader is slow. @type {Map<string, boolean>}
   */
  #told = new Map();
  /** How far the server's clock is ahead of this one. */
  #clockMs = 0;
  #closed = false;
  #unwatch;

  /**
   * @param {URL} url of the server's `/ws`
   * @param {Options} options
   * @param {Surroundings} surroundings
   */
  constructor(url, options, surroundings) {
    super();
    const { page, toasts, runtime } = surroundings;
    const attention = page?.attention ?? (() => 1);
    this.#regions = clean(options.regions ?? []);
    const maxAge = Number.parseFloat(/** @type {any} */ (options.maxAge));
    this.#maxAgeMs = 1000 * (maxAge >= 0 ? maxAge : DEFAULT_MAX_AGE_S);
    this.#toasts = toasts;
    this.#runtime = runtime;

    const storage = options.storage === "none" ? () => null : runtime.storage;
    const place = `${url}`;
    this.#mutedSlot = slot(storage, "muted");
    this.#positions = positions(slot(storage, place), this.#regions, options.since);

    this.#connection = sharedConnection(
      url,
      this.#regions,
      this.#positions,
      page !== null && options.storage !== "none",
      slot(storage, `unshown:${place}`),
      () => (toasts ? attention() : 0),
      (message) => this.#receive(message),
      (notification) => this.#show(notification),
      (state) => this.#dispatch("statechange", { state }),
      (refetch) => {
        this.#refetch.hear(refetch);
        this.#dispatch("refetch", refetch);
      },
      runtime,
    );
    const { alone, check, online, leave, join, tell } = this.#connection;
    this.#refetch = refetches(attention, () => this.position, alone, tell, runtime);
    this.#unwatch = page?.watch({
      check: () => {
        check();
        this.#refetch.check();
      },
      online,
      leave,
      join,
      store: () => this.muted && this.#toasts?.clear(),
    });
    join();
  }

  /** `connecting`, `open`, `waiting` for the next attempt, or `closed`. */
  get state() {
    return this.#connection.state;
  }

  /** How far this page has got; null where it has heard nothing. */
  get position() {
    return this.#positions.since(this.#regions);
  }

  /** What was received on this page, newest first. */
  get history() {
    return [...this.#history];
  }

  /** Whether toasts are kept away. It is kept for later visits. */
  get muted() {
    return this.#mutedSlot.get() === true;
  }

  set muted(muted) {
    this.#mutedSlot.set(Boolean(muted));
    if (muted) this.#toasts?.clear();
  }

  /** Asks for other regions from now on; none means all. @param {string[]} regions */
  setRegions(regions) {
    const cleaned = clean(regions);
    if (cleaned.join() === this.#regions.join()) return;
    this.#regions = cleaned;
    // What was refused may be welcome now, but only `reconnect` brings back what has stopped.
    this.#connection.setRegions(cleaned);
  }

  /** Connects at once: in place of the connection there is, of a wait, or after the server refused. */
  reconnect() {
    if (!this.#closed) this.#connection.reconnect();
  }

  /**
   * Calls `fn` at a random moment within the time over which the server wants such requests to be spread, and in one
   * only of all tabs that ask for it, when somebody looks at one. Each tab gets a `refetch` event with what it gave.
   * Asked again before it was called, it is still called once.
   *
   * @param {() => unknown} fn what it gives, or promises, must be a value that can go to another tab
   * @param {string} key where a page asks for more than one thing: what this one is
   */
  refetch(fn, key = "") {
    if (!this.#closed) this.#refetch.ask(fn, key, this.#spreadMs);
  }

  /** For good. Nothing is left: no timer, no listener, no element. */
  close() {
    this.#closed = true;
    this.#unwatch?.();
    this.#refetch.close();
    this.#toasts?.close();
    this.#connection.close();
  }

  /** @param {Message} message */
  #receive({ type, position, recovered, clockMs, spreadMs, notification }) {
    this.#spreadMs = spreadMs ?? this.#spreadMs;
    if (type === "hello") this.#clockMs = clockMs || 0;
    if (!recovered) {
      this.#positions.restart(position);
      this.#dispatch("gap", { position });
    } else if (!notification || this.#positions.isNew(notification)) {
      if (position) this.#positions.advance(position);
      if (notification && covers(this.#regions, [notification.region])) this.#notify(notification);
    }
  }

  /** Tells of it, once. @param {Notification} notification @returns whether the page has prevented that it is shown */
  #notify(notification) {
    // A history that went back gives an id a second time, to something else.
    const key = notification.id + notification.timestamp;
    if (!this.#told.has(key)) {
      this.#history.unshift(notification);
      this.#history.splice(MAX_HISTORY);
      if (this.#told.size > MAX_TOLD) this.#told.clear();
      this.#told.set(key, !this.#dispatch("notification", notification, true));
    }
    return this.#told.get(key);
  }

  /** This is the one tab to show it. It may have come before this page did. @param {Notification} notification */
  #show(notification) {
    const isPrevented = this.#notify(notification);
    // One whose time can't be read counts as new.
    const age = this.#runtime.now() + this.#clockMs - Date.parse(notification.timestamp) || 0;
    if (!this.#closed && !this.muted && age <= this.#maxAgeMs && !isPrevented) this.#toasts?.show(notification, age);
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   * @param {boolean} [cancelable]
   * @returns {boolean} whether nobody prevented it
   */
  #dispatch(type, detail, cancelable) {
    return this.dispatchEvent(new CustomEvent(type, { detail, cancelable }));
  }
}

/** @param {string[]} regions */
function clean(regions) {
  return [...new Set(regions.map((region) => String(region).trim()))].filter(Boolean);
}
