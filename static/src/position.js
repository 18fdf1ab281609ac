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
 * @typedef {{ epoch: string, offset: bigint }} Position
 * @typedef {{ get(): unknown, set(value: unknown): void }} Slot
 */

const ALL = "*";

const PATTERN = /^([0-9a-z]{1,32})-(0|[1-9]\d{0,18})$/;

/**
 * @param {unknown} text
 * @returns {Position | null}
 */
export function parse(text) {
  const match = typeof text === "string" ? PATTERN.exec(text) : null;
  return match && { epoch: /** @type {string} */ (match[1]), offset: BigInt(/** @type {string} */ (match[2])) };
}

/** Positions of different epochs can't be compared: neither is before the other. @param {unknown} one @param {unknown} other */
export function isBefore(one, other) {
  const [a, b] = [parse(one), parse(other)];
  return a !== null && b !== null && a.epoch === b.epoch && a.offset < b.offset;
}

/**
 * They survive reloads and the way from page to page in `storage.js`.
 *
 * @param {Slot} slot where they are kept
 * @param {string[]} asked the regions that are asked for; none means all
 */
export function positions(slot, asked) {
  let { epoch, offsets } = read(slot.get());

  /** @param {string} region */
  const of = (region) => later(offsets.get(region), offsets.get(ALL));

  /** Joined with what another tab has put there: the next page must find what either has got to. */
  function save() {
    const stored = read(slot.get());
    const joined = new Map(offsets);
    if (stored.epoch === epoch)
      for (const [region, offset] of stored.offsets) joined.set(region, later(joined.get(region), offset));
    slot.set(Object.fromEntries([...joined].map(([region, offset]) => [region, `${epoch}-${offset}`])));
  }

  return {
    /** @param {string[]} regions what is asked for from now on */
    ask(regions) {
      asked = regions;
    },

    /** Where to go on: the oldest of what is asked for; null where nothing is known. @returns {string | null} */
    since(regions = asked) {
      const known = (regions.length ? regions : [...offsets.keys()]).map(of).filter((offset) => offset !== undefined);
      const [oldest] = known.sort((one, other) => (one < other ? -1 : 1));
      return oldest === undefined ? null : `${epoch}-${oldest}`;
    },

    /** Whether it comes for the first time. @param {{ id: string, region: string }} notification */
    isNew({ id, region }) {
      const { epoch: its, offset } = /** @type {Position} */ (parse(id));
      return its !== epoch || offset > (of(region) ?? -1n);
    },

    /** Everything that was asked for has been received up to here. @param {string} text */
    advance(text) {
      const position = /** @type {Position} */ (parse(text));
      if (position.epoch !== epoch) {
        epoch = position.epoch;
        offsets = new Map();
      }
      for (const region of asked.length ? asked : [ALL])
        offsets.set(region, later(offsets.get(region), position.offset));
      save();
    },

    /**
     * The server says where this subscription starts; all before that is gone for good. In the same epoch it is behind
     * what is known here where the server lost a part of its history: a backup was played back.
     *
     * @param {string} text
     */
    restart(text) {
      if (isBefore(text, this.since())) {
        epoch = "";
        slot.set(null);
      }
      this.advance(text);
    },
  };
}

/**
 * Anything of this origin can write to the storage, and so could an older version: what can't be read is not there.
 *
 * @param {any} value
 */
function read(value) {
  let epoch = "";
  /** By region. @type {Map<string, bigint>} */
  const offsets = new Map();
  for (const [region, text] of Object.entries(value ?? {})) {
    const position = parse(text);
    if (!position || (epoch && position.epoch !== epoch)) continue;
    epoch = position.epoch;
    offsets.set(region, position.offset);
  }
  return { epoch, offsets };
}

/**
 * @template {bigint | undefined} T
 * @param {bigint | undefined} one
 * @param {T} other
 * @returns {bigint | T}
 */
function later(one, other) {
  return one !== undefined && (other === undefined || one > other) ? one : other;
}
