/**
 * Puts the parts together for a page: the client, the page's comings and goings, and the toasts. This alone names them
 * all. Outside of a page (in plain Node, in a worker) there is a client without toasts.
 *
 * @typedef {import("./client.js").Options & BrowserOptions} Options
 *
 * @typedef {object} BrowserOptions
 * @property {string} [link] the site's page of a region, with `{region}` in it
 * @property {boolean} [toasts] false: only events
 * @property {number} [toastSeconds] how long a toast stands
 * @property {string} [lang] instead of the page's language
 * @property {Partial<import("./runtime.js").Runtime>} [runtime] for tests
 */

import { Client } from "./client.js";
import { lifecycle } from "./lifecycle.js";
import { defaults } from "./runtime.js";
import { catalogues } from "./text.js";
import { toasts } from "./toast.js";

export class VideoNotifier extends Client {
  /** The one that the script tag has started. @type {VideoNotifier | null} */
  static instance = null;

  /** What toasts say, by language. */
  static texts = catalogues;

  /**
   * @param {string | URL} url the server's `/ws`; it may be relative to the page
   * @param {Options} [options]
   */
  constructor(url, options = {}) {
    const page = globalThis.document ? window : null;
    super(endpoint(url, page?.document.baseURI), options, {
      page: page && lifecycle(page),
      toasts: page && options.toasts !== false ? toastsOf(page, options) : null,
      runtime: { ...defaults, ...options.runtime },
    });
  }
}

/** @param {string | URL} url @param {string} [base] */
function endpoint(url, base) {
  const endpoint = new URL(url, base);
  // Older browsers do not take http for a WebSocket.
  endpoint.protocol = endpoint.protocol.replace(/^http/, "ws");
  return endpoint;
}

/** @param {Window} page @param {Options} options */
function toastsOf({ document, navigator }, { link, lang, toastSeconds }) {
  const languages = [lang, document.documentElement.lang, ...navigator.languages];
  return toasts(document, languages, link, toastSeconds && 1000 * toastSeconds);
}
