/**
 * The start from a script tag: reads its attributes, which are all the configuration that most sites need.
 *
 *     <script defer src="https://notify.example.com/notifier.js" data-regions="US,GB"></script>
 */

import { VideoNotifier } from "./browser.js";

/**
 * @param {HTMLScriptElement} script the element that is running
 * @returns {VideoNotifier | null}
 */
export function start({ dataset, src }) {
  const { url, regions } = dataset;
  if ("manual" in dataset) return null;
  return new VideoNotifier(url || new URL("ws", src), { ...dataset, regions: regions?.split(",") });
}
