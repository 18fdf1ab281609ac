/**
 * How long to wait before the next attempt to connect. Owns the arithmetic and nothing else: `connection.js` asks it,
 * and knows what happened before.
 *
 * A server that restarts loses all its clients in one moment, and would meet them all again in one moment. So each
 * wait is drawn from the whole of its range ("full jitter"): whatever the reason, attempts never line up. And each range
 * is at least the window that the server gave: one that is still down after the first round, or full, would else meet
 * the second round within two seconds.
 */

/** The range of the first waits, which doubles with each attempt that fails, up to the ceiling. */
export const BASE_MS = 1000;
export const CEILING_MS = 30_000;

/**
 * @param {number} failed how many attempts have failed since a connection last stood
 * @param {number | null} windowMs over how long the server asked for attempts to be spread, where it has
 * @param {number} atLeastMs how long it must be in any case
 * @param {() => number} random from 0 to below 1
 * @returns {number} milliseconds
 */
export function wait(failed, windowMs, atLeastMs, random) {
  const backoff = Math.min(CEILING_MS, BASE_MS * 2 ** failed);
  const range = failed === 0 ? (windowMs ?? backoff) : Math.max(windowMs ?? 0, backoff);
  return atLeastMs + random() * range;
}
