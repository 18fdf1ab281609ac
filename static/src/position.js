/**
 * How far this browser has got, and so where to go on: `client.js` puts in every position that a message carries, and
 * takes out the `since` of its next connection.
 *
 * Positions are kept per region. A browser that was on the US page, then on the JP page, and comes back to the US
 * page, must not be told that it has seen what it has not. ALL stands for all regions together.
 *
 * A position says that everything of its region up to there has come. So what comes from below it has come before: a
 * `since` that is older than what one of its regions has got to brings some things a second time.
 *
 * @typedef {{ get(): unknown, set(value: unknown): void }} Slot
 */

const ALL = "*";

const PATTERN = /^([0-9a-z]{1,32})-(0|[1-9]\d{0,18})$/;

/** @param {unknown} text @returns {text is string} */
export function isPosition(text) {
  return typeof text === "string" && PATTERN.test(text);
}

/**
 * Below 0 where the one is before the other, above 0 where it is after. Positions of different epochs have no order, nor
 * has what is none: NaN.
 *
 * @param {unknown} one
 * @param {unknown} other
 */
export function compare(one, other) {
  const [[, epoch, offset = 0], [, otherEpoch, otherOffset = 0]] = [read(one), read(other)];
  return epoch && epoch === otherEpoch ? Number(BigInt(offset) - BigInt(otherOffset)) : Number.NaN;
}

/**
 * They survive reloads and the way from page to page in `storage.js`.
 *
 * @param {Slot} slot where they are kept
 * @param {string[]} asked the regions that are asked for; none means all
 * @param {unknown} [start] where the page itself stands, wherever other pages have got to
 */
export function positions(slot, asked, start) {
  const known = isPosition(start) ? new Map(names().map((name) => [name, start])) : stored(slot);

  return {
    /** @param {string[]} regions what is asked for from now on */
    ask(regions) {
      asked = regions;
    },

    since,

    /** Whether it comes for the first time. @param {{ id: string, region: string }} notification */
    isNew: (notification) => isAfter(notification, known),

    /** Whether it comes for the first time to any tab. @param {{ id: string, region: string }} notification */
    isFirst: (notification) => isAfter(notification, stored(slot)),

    advance,

    /**
     * The server says where this subscription starts; all before that is gone for good. In the same epoch it is behind
     * what is known here where the server lost a part of its history: a backup was played back.
     *
     * @param {string} position
     */
    restart(position) {
      if (compare(position, since()) < 0) {
        known.clear();
        slot.set(null);
      }
      advance(position);
    },
  };

  /** Where to go on: the oldest of what is asked for; null where nothing is known. @returns {string | null} */
  function since(regions = asked) {
    const names = regions.length ? regions : [...known.keys()];
    return (
      names
        .map((name) => of(name, known))
        .filter(isPosition)
        .sort(compare)[0] ?? null
    );
  }

  /** By what the asked regions are known. */
  function names() {
    return asked.length ? asked : [ALL];
  }

  /** Everything that was asked for has been received up to here. @param {string} position */
  function advance(position) {
    for (const [region, other] of known) if (Number.isNaN(compare(other, position))) known.delete(region);
    for (const region of names()) known.set(region, later(known.get(region), position));
    // Joined with what another tab has put there: the next page must find what either has got to.
    const joined = stored(slot);
    for (const [region, mine] of known) joined.set(region, later(joined.get(region), mine));
    slot.set(Object.fromEntries(joined));
  }
}

/** @param {string} region @param {Map<string, string>} positions */
function of(region, positions) {
  return later(positions.get(region), positions.get(ALL));
}

/** @param {{ id: string, region: string }} notification @param {Map<string, string>} positions */
function isAfter({ id, region }, positions) {
  return !(compare(id, of(region, positions)) <= 0);
}

/** @param {unknown} position @returns {string[]} */
function read(position) {
  return PATTERN.exec(`${position}`) ?? [];
}

/**
 * Positions by region. Anything of this origin can write to the storage, and so could an older version: what can't be
 * read is not there.
 *
 * @param {Slot} slot
 * @returns {Map<string, string>}
 */
function stored(slot) {
  return new Map(Object.entries(slot.get() ?? {}).filter(([, position]) => isPosition(position)));
}

/**
 * The other, unless it is known to be earlier.
 *
 * @template {string | undefined} T
 * @param {string | undefined} one
 * @param {T} other
 * @returns {T}
 */
function later(one, other) {
  return /** @type {T} */ (compare(one, other) > 0 ? one : (other ?? one));
}
