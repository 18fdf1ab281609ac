/**
 * The browser that the cases run in: all of them in one, the one that BROWSER names. What a case takes and a browser
 * lacks is told here and nowhere else, so that the case is skipped there, and says why.
 */

import { Chromium } from "./chromium.js";
import { Firefox } from "./firefox.js";
import { WebKit } from "./webkit.js";

export const ENGINES = [Chromium, Firefox, WebKit];

export const Engine = ENGINES.find(({ name }) => name === (process.env.BROWSER ?? "Chromium"));

/** The options of a case that takes what not every browser has. @param {string} [ability] */
export function needs(ability) {
  return { skip: Engine.lacks[ability] ?? false };
}
