/**
 * The start from a script tag: reads its attributes, which are all the configuration that most sites need.
 *
 *     <script defer src="https://notify.example.com/notifier.js" data-regions="US,GB"></script>
 */

import { VideoNotifier } from "./browser.js";

/**
 * @param {HTMLOrSVGScriptElement | null} script the element that is running; null in a module, which starts nothing
 * @returns {VideoNotifier | null}
 */
export function start(script) {
  if (!(script instanceof HTMLScriptElement)) return null;
  const { manual, url, regions, link, since, storage, maxAge } = script.dataset;
  if (manual !== undefined) return null;
  return new VideoNotifier(url || new URL("ws", script.src), {
    regions: regions?.split(",") ?? [],
    link,
    since: since ?? null,
    storage: storage === "none" ? "none" : "local",
    maxAge: seconds(maxAge),
  });
}

/** @param {string | undefined} text */
function seconds(text) {
  const number = Number(text?.trim() || Number.NaN);
  return number >= 0 ? number : undefined;
}
