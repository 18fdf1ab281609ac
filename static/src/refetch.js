/**
 * When a notification is out, every open page wants the new list from the site in the same moment. So `client.js`
 * leaves such a request here: it is made at a random moment of the time that the server gives for it, and only while
 * somebody is looking.
 *
 * @param {{ isVisible: () => boolean, runtime: import("./runtime.js").Runtime }} parts
 */
export function refetches({ isVisible, runtime }) {
  /** What is to be called, and its timer; null once it only waits for the page to be visible. @type {Map<() => void, any>} */
  const pending = new Map();

  /** Calls what is due, where the page is visible. */
  function check() {
    if (!isVisible()) return;
    for (const [fn, timer] of pending) {
      if (timer !== null) continue;
      pending.delete(fn);
      fn();
    }
  }

  return {
    /** @param {() => void} fn @param {number} spreadMs over how long to spread */
    ask(fn, spreadMs) {
      if (pending.has(fn)) return;
      const due = () => {
        pending.set(fn, null);
        check();
      };
      pending.set(fn, runtime.setTimeout(due, runtime.random() * spreadMs));
    },

    check,

    close() {
      for (const timer of pending.values()) runtime.clearTimeout(timer);
      pending.clear();
    },
  };
}
