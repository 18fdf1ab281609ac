// What `notifier.js`, the build for a script tag, makes: a global. It exports nothing.

import type { VideoNotifier as Notifier } from "./notifier.js";

declare global {
  var VideoNotifier: typeof Notifier;
}
