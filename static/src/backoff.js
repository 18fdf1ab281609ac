/**
 * How long to wait before the next attempt to connect. Owns the arithmetic and nothing else: `connection.js` asks it,
 * and knows what happened before.
 *
 * A server that restarts loses all its clients in one moment, and would meet them all again in one moment. So the first
 * wait is drawn from the whole window that the server gave: attempts come no faster than it can take them. One that fails
 * comes again a window later, when it is in nobody's way: drawn from the window anew, second tries would come on top of
 * the first ones of others, and over a long outage the server would meet twice what it asked for. Backoff comes on top
 * of that, drawn from the whole of its range ("full jitter").
 */

/** The range of the backoff at first, which doubles with each attempt that fails, up to the ceiling. */
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
  return atLeastMs + (failed ? (windowMs ?? 0) + random() * backoff : random() * (windowMs ?? backoff));
}
