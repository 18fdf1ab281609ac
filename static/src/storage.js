/**
 * What outlives the page: a few small values in localStorage, or in memory where that is not to be had (a private
 * window, a frame without an origin, a full disk) or where the page wants nothing stored. Whoever uses it can't tell.
 */

/** Keys name the major version of the protocol: what another one has stored means nothing here. */
const PREFIX = "video-notifier:1:";

export class Storage {
  /** @type {() => Pick<globalThis.Storage, "getItem" | "setItem">} */
  #open;
  /** What could not be stored, by key. @type {Map<string, unknown>} */
  #memory = new Map();

  /**
   * @param {() => any} open gives the store; it may throw, or give nothing
   */
  constructor(open) {
    this.#open = open;
  }

  /**
   * One value's place.
   *
   * @param {string} name
   * @returns {{ get(): unknown, set(value: unknown): void }} of JSON values; null where there is none
   */
  slot(name) {
    const key = PREFIX + name;
    return {
      get: () => {
        if (this.#memory.has(key)) return this.#memory.get(key);
        try {
          return JSON.parse(this.#open().getItem(key) ?? "null");
        } catch {
          return null;
        }
      },
      set: (value) => {
        try {
          this.#open().setItem(key, JSON.stringify(value));
          this.#memory.delete(key);
        } catch {
          this.#memory.set(key, value);
        }
      },
    };
  }
}
