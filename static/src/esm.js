/** `notifier.esm.js`: the same for those who import it. Nothing starts by itself. */

export { VideoNotifier } from "./browser.js";
