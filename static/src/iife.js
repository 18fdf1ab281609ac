/** `notifier.js`: what a script tag loads. It makes `window.VideoNotifier`, and starts it unless told not to. */

import { start } from "./auto.js";
import { VideoNotifier } from "./browser.js";

// A page that loads the script twice, as some frameworks do on their way from page to page, still has one notifier.
if (globalThis.window && !window.VideoNotifier) {
  window.VideoNotifier = VideoNotifier;
  const script = /** @type {HTMLScriptElement | null} */ (document.currentScript);
  // There is none in a module, which starts nothing.
  if (script) VideoNotifier.instance = start(script);
}
