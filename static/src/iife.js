/** `notifier.js`: what a script tag loads. It makes `window.VideoNotifier`, and starts it unless told not to. */

import { start } from "./auto.js";
import { VideoNotifier } from "./browser.js";

// A page that loads the script twice, as some frameworks do on their way from page to page, still has one notifier.
if (globalThis.window && !("VideoNotifier" in window)) {
  Object.assign(window, { VideoNotifier });
  VideoNotifier.instance = start(/** @type {HTMLScriptElement | null} */ (document.currentScript));
}
