/**
 * The browser that the cases run in: the one that TEST_BROWSER names. What a browser lacks its class tells, so that a
 * case that takes it is skipped there, and says why.
 */

import { Chromium } from "./chromium.js";
import { Firefox } from "./firefox.js";
import { WebKit } from "./webkit.js";

export const ENGINES = [Chromium, Firefox, WebKit];

const { TEST_BROWSER = "Chromium" } = process.env;

export const Engine = ENGINES.find(({ name }) => name === TEST_BROWSER);
if (!Engine) throw new Error(`no browser ${TEST_BROWSER}: it is ${ENGINES.map(({ name }) => name).join(", ")}`);

/** The options of a case that takes what not every browser has. @param {string} [ability] */
export function needs(ability) {
  return { skip: Engine.lacks[ability] ?? false };
}
