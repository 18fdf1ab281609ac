/**
 * What outlives the page: a few small values in localStorage, or in memory where that is not to be had (a private
 * window, a frame without an origin, a full disk) or where the page wants nothing stored. Whoever uses it can't tell.
 */

/** Keys name the major version of the protocol: what another one has stored means nothing here. */
const PREFIX = "video-notifier/1 ";

/**
 * One value's place.
 *
 * @param {() => any} open gives the store; it may throw, or give nothing
 * @param {string} name
 * @returns {{ get(): unknown, set(value: unknown): void }} of JSON values; null where there is none
 */
export function slot(open, name) {
  const key = PREFIX + name;
  /** What could not be stored. @type {unknown} */
  let memory;
  return {
    get() {
      try {
        return memory ?? JSON.parse(open().getItem(key));
      } catch {
        return null;
      }
    },
    set(value) {
      memory = undefined;
      try {
        open().setItem(key, JSON.stringify(value));
      } catch {
        memory = value;
      }
    },
  };
}
