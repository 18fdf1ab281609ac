/** What the cases about many tabs with one connection have in common. */

import { eventually } from "./wait.js";

export const OPEN = "VideoNotifier.instance.state === 'open'";

/**
 * Writes down all that the page is told, what sockets it opens, and errors that nobody caught. Times by the page's own
 * clock: the driver of a busy browser answers late.
 */
export const RECORD = `
  window.errors = [];
  addEventListener("error", ({ message }) => errors.push(message));
  addEventListener("unhandledrejection", ({ reason }) => errors.push(String(reason)));
  window.heard = [];
  window.gaps = 0;
  window.openedAt = [];
  window.sockets = [];
  window.WebSocket = class extends WebSocket {
    constructor(url) {
      super(url);
      sockets.push(this);
      this.addEventListener("message", ({ data }) => data.includes('"hello"') && openedAt.push(Date.now()));
    }
  };
  addEventListener("DOMContentLoaded", () => {
    VideoNotifier.instance?.addEventListener("statechange", ({ detail }) => {
      if (detail.state === "open") window.openAfterMs ??= performance.now();
    });
    VideoNotifier.instance?.addEventListener("notification", ({ detail }) => {
      heard.push(detail.videos[0].title);
      window.heardAfterMs = performance.now();
    });
    VideoNotifier.instance?.addEventListener("gap", () => gaps++);
  });
`;

/** Writes down each headline and title that was ever shown, and takes the toast away to make room. */
export const WATCH = `
  window.shown = [];
  addEventListener("DOMContentLoaded", () => {
    const root = document.querySelector("video-notifier-toasts")?.shadowRoot;
    if (!root) return;
    new MutationObserver(() => {
      for (const toast of root.querySelectorAll(".vw-toast")) {
        const titles = [...toast.querySelectorAll(".title")].map(({ textContent }) => textContent);
        for (const title of titles) if (!shown.includes(title)) shown.push(title);
      }
    }).observe(root, { childList: true, subtree: true });
  });
`;

const HAS_SOCKET = "sockets.some(({ readyState }) => readyState === 1)";

/** The one with the connection, once there is exactly one. */
export function leaderOf(tabs) {
  return eventually(
    async () => {
      const leaders = [];
      for (const tab of tabs) if (await tab.evaluate(HAS_SOCKET)) leaders.push(tab);
      return leaders.length === 1 && leaders[0];
    },
    { what: "one leader" },
  );
}
