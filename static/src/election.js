/**
 * Which tab leads: the one that holds a lock of that name. The browser frees it when the tab goes, however it goes, and
 * gives it to the next. Each tab also holds a lock of its own, by which others learn that it is gone. `shared.js` says
 * what a leader does.
 *
 * A page that goes to where it runs no more must end its part: it would be given the lock, and could not know.
 *
 * @param {LockManager} locks
 * @param {string} name
 * @param {string} id of this tab
 * @param {() => void} onPresent others can see by now that this tab is there
 * @param {(alone?: boolean) => void} onElected with `true` where the page may have no locks: then each tab leads itself
 * @param {() => void} onDeposed another tab has taken the lock
 */
export function election(locks, name, id, onPresent, onElected, onDeposed) {
  const end = new AbortController();
  const { signal } = end;
  /** What the lock was given for last. A tab may seize it just as its turn comes, and depose itself. */
  let term = {};

  /** The end of this tab's part. */
  const over = new Promise((resolve) => signal.addEventListener("abort", resolve));

  hold(name + id, { signal }, onPresent).catch(() => {});
  stand();

  return {
    /** Leads from now on, whoever does. */
    seize() {
      stand({ steal: true });
    },

    /** @param {string} other @param {() => void} onGone when that tab is no more, or has ended its part */
    watch(other, onGone) {
      // Shared: one that never wakes to give it back keeps nobody else from it.
      locks.request(name + other, { mode: "shared", signal }, onGone).catch(() => {});
    },

    /** Runs it while no other tab runs one of that name. @param {string} what @param {() => Promise<void>} run */
    alone(what, run) {
      hold(`${name} ${what}`, { signal }, run).catch((error) => {
        // Its own failure is for whoever looks after this page.
        if (!signal.aborted) throw error;
      });
    },

    end: () => end.abort(),
  };

  /** @param {LockOptions} options */
  function stand(options = { signal }) {
    const mine = {};
    let isOver = false;
    hold(name, options, () => {
      // WebKit still gives the lock to a page that was suspended while it was given and seized.
      if (isOver) return;
      term = mine;
      onElected();
    }).catch((error) => {
      isOver = true;
      if (signal.aborted) return;
      if (error.name !== "AbortError") return onElected(true);
      if (term === mine) onDeposed();
      // One that had seized it still stands where it stood before.
      if (!options.steal) stand();
    });
  }

  /**
   * From when it is given until what it was given for is done, or else until the end.
   *
   * @param {string} lock @param {LockOptions} options @param {() => void | Promise<void>} onGiven
   */
  function hold(lock, options, onGiven) {
    return locks.request(lock, options, () => signal.aborted || Promise.race([over, onGiven() ?? over]));
  }
}
