/** The engines beside Chromium, which has cases of its own. */

import { Firefox } from "./firefox.js";
import { WebKit } from "./webkit.js";

export const ENGINES = [Firefox, WebKit];
