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
    // A video in full screen hides what is on the page, and under a modal dialog nothing takes clicks.
    attention: () =>
      document.hidden || document.fullscreenElement || document.querySelector(":modal")
        ? 0
        : document.hasFocus()
          ? 2
          : 1,
    watch({ check, online, leave, join, store }) {
      const end = new AbortController();
      const on = (/** @type {EventTarget} */ target, /** @type {string} */ event, /** @type {() => void} */ listener) =>
        target.addEventListener(event, listener, { signal: end.signal, capture: target === document });
      on(window, "pagehide", leave);
      on(window, "pageshow", join);
      on(window, "online", online);
      on(window, "focus", check);
      on(window, "storage", store);
      on(document, "visibilitychange", check);
      on(document, "fullscreenchange", check);
      // A dialog opens, or closes; that does not bubble.
      on(document, "toggle", check);
      // Of the document, not of the window.
      on(document, "freeze", leave);
      on(document, "resume", join);
      return () => end.abort();
    },
  };
}
