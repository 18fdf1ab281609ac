/**
 * The start from a script tag: reads its attributes, which are all the configuration that most sites need.
 *
 *     <script defer src="https://notify.example.com/notifier.js" data-regions="US,GB"></script>
 */

import { VideoNotifier } from "./browser.js";

/**
 * @param {HTMLScriptElement | null} script the element that is running; null in a module, which starts nothing
 * @returns {VideoNotifier | null}
 */
export function start(script) {
  const { manual, url, regions, link, since, storage, maxAge } = script?.dataset ?? {};
  if (!script || manual !== undefined) return null;
  return new VideoNotifier(url || new URL("ws", script.src), {
    regions: regions?.split(","),
    link,
    since,
    storage: storage === "none" ? storage : undefined,
    maxAge: Number.parseFloat(`${maxAge}`),
  });
}
