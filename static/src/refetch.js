/**
 * When a notification is out, every open page wants the new list from the site in the same moment. So `client.js`
 * leaves such a request here: it is made at a random moment of the time that the server gives for it, in one tab that
 * somebody looks at, and what comes of it is for all tabs.
 *
 * @typedef {object} Refetch
 * @property {string} key of the request
 * @property {string | null} position how far the tab had got that made it
 * @property {unknown} value what came of it
 *
 * @typedef {object} Request
 * @property {() => unknown} fn
 * @property {string | null} wanted how far the page had got when it asked last
 * @property {any} timer
 * @property {boolean} [isDue]
 */

import { compare } from "./position.js";

/** How long it may take until all tabs know what one of them does. */
const SETTLE_MS = 100;

/**
 * @param {() => unknown} isVisible
 * @param {() => string | null} position
 * @param {(key: string, run: () => Promise<void>) => void} alone runs it while no other tab runs one of that name
 * @param {(refetch: Refetch) => void} tell all tabs, this one too
 * @param {import("./runtime.js").Runtime} runtime
 */
export function refetches(isVisible, position, alone, tell, runtime) {
  /** @type {Map<string, Request>} */
  const pending = new Map();

  /** Makes what is due, where the page is visible. */
  function check() {
    if (isVisible()) for (const [key, request] of pending) if (request.isDue) alone(key, () => make(key, request));
  }

  /** @param {string} key @param {Request} request */
  async function make(key, request) {
    // Another tab may only just have made it, or not yet know that it is to be made.
    await new Promise((resolve) => {
      request.timer = runtime.setTimeout(/** @type {() => void} */ (resolve), SETTLE_MS);
    });
    if (pending.get(key) !== request) return;
    pending.delete(key);
    tell({ key, position: position(), value: await request.fn() });
  }

  return {
    /** @param {() => unknown} fn @param {string} key what tells it from others @param {number} spreadMs over how long to spread */
    ask(fn, key, spreadMs) {
      const due = () => {
        request.isDue = true;
        check();
      };
      /** @type {Partial<Request>} */
      const request = pending.get(key) ?? { timer: runtime.setTimeout(due, runtime.random() * spreadMs) };
      request.fn = fn;
      request.wanted = position();
      pending.set(key, /** @type {Request} */ (request));
    },

    /** Some tab has made one: is it as new as what is asked for here? @param {Refetch} refetch */
    hear({ key, position }) {
      const { wanted, timer, isDue } = pending.get(key) ?? {};
      if (!(compare(wanted, position) <= 0)) return;
      pending.delete(key);
      // What is due comes to nothing by itself, and gives its turn back.
      if (!isDue) runtime.clearTimeout(timer);
    },

    check,

    close() {
      for (const [, { timer }] of pending) runtime.clearTimeout(timer);
      pending.clear();
    },
  };
}
