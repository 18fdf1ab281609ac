/**
 * Which tab leads: the one that holds a lock of that name. The browser frees it when the tab goes, however it goes, and
 * gives it to the next. Each tab also holds a lock of its own, by which others learn that it is gone. `shared.js` says
 * what a leader does.
 *
 * A page that goes to where it runs no more must end its part: it would be given the lock, and could not know.
 *
 * @param {object} parts
 * @param {LockManager} parts.locks
 * @param {string} parts.name
 * @param {string} parts.id of this tab
 * @param {() => void} parts.onPresent others can see by now that this tab is there
 * @param {() => void} parts.onElected also where the page may have no locks: then each tab leads itself
 * @param {() => void} parts.onDeposed another tab has taken the lock
 */
export function election({ locks, name, id, onPresent, onElected, onDeposed }) {
  const end = new AbortController();
  const { signal } = end;
  /** What the lock was given for last. A tab may seize it just as its turn comes, and depose itself. */
  let term = {};

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
      if (error.name !== "AbortError") return onElected();
      if (term === mine) onDeposed();
      // One that had seized it still stands where it stood before.
      if (!options.steal) stand();
    });
  }

  /**
   * From when it is given until the end.
   *
   * @param {string} lock @param {LockOptions} options @param {() => void} onGiven
   */
  function hold(lock, options, onGiven) {
    return locks.request(lock, options, () => {
      if (signal.aborted) return;
      onGiven();
      return new Promise((resolve) => signal.addEventListener("abort", resolve));
    });
  }
}
