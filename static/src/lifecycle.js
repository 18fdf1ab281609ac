/**
 * The page's comings and goings, for `client.js`. A page in the back/forward cache, or frozen, can't hold a connection:
 * what is sent to it is lost without a sign. So it leaves by itself, and joins again when it is back.
 *
 * @param {Window & typeof globalThis} window
 * @returns {import("./client.js").Page}
 */
export function lifecycle(window) {
  const { document } = window;
  return {
    isVisible: () => !document.hidden,
    watch({ check, leave, join }) {
      const end = new AbortController();
      const on = (/** @type {EventTarget} */ target, /** @type {string} */ event, /** @type {() => void} */ listener) =>
        target.addEventListener(event, listener, { signal: end.signal });
      on(window, "pagehide", leave);
      on(window, "pageshow", join);
      on(window, "online", check);
      on(document, "visibilitychange", () => document.hidden || check());
      // Of the document, not of the window.
      on(document, "freeze", leave);
      on(document, "resume", join);
      return () => end.abort();
    },
  };
}
