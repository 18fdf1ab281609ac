/** What a script has set and not taken away again, for the cases about `close`. */

/**
 * Runs in the page, before the script: counts in `timers` and `listeners` what `notifier.js` sets from then on. Drivers
 * have some of their own.
 */
export function countLeftovers() {
  const isOurs = () => new Error().stack.includes("/notifier.js");
  window.timers = new Set();
  const { setTimeout, clearTimeout } = window;
  window.setTimeout = (callback, ms) => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      callback();
    }, ms);
    if (isOurs()) timers.add(timer);
    return timer;
  };
  window.clearTimeout = (timer) => {
    timers.delete(timer);
    clearTimeout(timer);
  };
  window.listeners = new Set();
  for (const target of [window, document]) {
    const { addEventListener } = target;
    target.addEventListener = (type, listener, options) => {
      if (isOurs()) {
        const entry = { type };
        listeners.add(entry);
        options.signal.addEventListener("abort", () => listeners.delete(entry));
      }
      addEventListener.call(target, type, listener, options);
    };
  }
}
