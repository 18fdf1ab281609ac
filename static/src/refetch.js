/**
 * When a notification is out, every open page wants the new list from the site in the same moment. So `client.js`
 * leaves such a request here: it is made at a random moment of the time that the server gives for it, and only while
 * somebody is looking.
 */

export class Refetch {
  /** Over how long to spread, as the server said last. */
  spreadMs = 0;
  /** What is to be called, and its timer; null once it only waits for the page to be visible. @type {Map<() => void, any>} */
  #pending = new Map();
  /** @type {() => boolean} */
  #isVisible;
  /** @type {import("./runtime.js").Runtime} */
  #runtime;

  /** @param {{ isVisible: () => boolean, runtime: import("./runtime.js").Runtime }} parts */
  constructor({ isVisible, runtime }) {
    this.#isVisible = isVisible;
    this.#runtime = runtime;
  }

  /** @param {() => void} fn */
  ask(fn) {
    if (this.#pending.has(fn)) return;
    const { setTimeout, random } = this.#runtime;
    this.#pending.set(
      fn,
      setTimeout(() => {
        this.#pending.set(fn, null);
        this.check();
      }, random() * this.spreadMs),
    );
  }

  /** Calls what is due, where the page is visible. */
  check() {
    if (!this.#isVisible()) return;
    for (const [fn, timer] of this.#pending) {
      if (timer !== null) continue;
      this.#pending.delete(fn);
      fn();
    }
  }

  close() {
    for (const timer of this.#pending.values()) this.#runtime.clearTimeout(timer);
    this.#pending.clear();
  }
}
