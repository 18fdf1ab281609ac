// When to connect again. Every wait is a random part of a span (full jitter), so that pages that were cut off
// together do not come back together.

const BASE_MS = 1000
const LONGEST_MS = 30_000

export class Backoff {
  #failures = 0
  #windowMs = 0
  /** @type {number | null} */
  #askedMs = null
  #random

  /** @param {() => number} random from 0 to 1 */
  constructor(random) {
    this.#random = random
  }

  /** The connection stands: the next failure is the first again. */
  succeed() {
    this.#failures = 0
    this.#askedMs = null
  }

  /**
   * Over how long the server wants its clients to spread, in milliseconds.
   * @param {number} windowMs
   */
  spreadOver(windowMs) {
    this.#windowMs = windowMs
  }

  /**
   * The server names the wait itself, before a planned restart.
   * @param {number} afterMs
   */
  ask(afterMs) {
    this.#askedMs = afterMs
  }

  /** How long to wait now, in milliseconds. */
  next() {
    if (this.#askedMs !== null) {
      const asked = this.#askedMs
      this.#askedMs = null
      return asked
    }
    const span = Math.min(BASE_MS * 2 ** Math.min(this.#failures, 10), LONGEST_MS)
    this.#failures += 1
    // Never less than the server's window: a second try of all at once would be as bad as a first.
    return this.#random() * Math.max(span, this.#windowMs)
  }
}
