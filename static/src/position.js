/**
 * How far this browser has got, and so where to go on: `client.js` puts in every position that a message carries, and
 * takes out the `since` of its next connection.
 *
 * Positions are kept per region. A browser that was on the US page, then on the JP page, and comes back to the US
 * page, must not be told that it has seen what it has not. ALL stands for all regions together.
 *
 * They survive reloads and the way from page to page in `storage.js`, together with the offsets that were seen
 * lately: a `since` that is older than what one of its regions has got to brings some things a second time.
 *
 * @typedef {{ epoch: string, offset: string }} Position
 * @typedef {object} Stored
 * @property {string} epoch
 * @property {Record<string, string>} offsets by region
 * @property {string[]} seen oldest first
 * @typedef {{ get(): unknown, set(value: unknown): void }} Slot
 */

const ALL = "*";

/** How many offsets to remember; more than a page that was away for a night is sent in a row. */
const MAX_SEEN = 200;

/** Offsets go beyond 2^53, so they stay text. @type {RegExp} */
const PATTERN = /^([0-9a-z]{1,32})-(0|[1-9]\d{0,18})$/;

/**
 * @param {unknown} text
 * @returns {Position | null}
 */
export function parse(text) {
  const match = typeof text === "string" ? PATTERN.exec(text) : null;
  return match && { epoch: /** @type {string} */ (match[1]), offset: /** @type {string} */ (match[2]) };
}

export class Positions {
  /** @type {Slot} */
  #slot;
  /** @type {string[]} */
  #regions;
  #epoch = "";
  /** By region. @type {Map<string, string>} */
  #offsets = new Map();
  /** Offsets, oldest first. @type {Set<string>} */
  #seen = new Set();

  /**
   * @param {Slot} slot where they are kept
   * @param {string[]} regions what is asked for; none means all
   */
  constructor(slot, regions) {
    this.#slot = slot;
    this.#regions = regions;
    const stored = read(slot.get());
    if (stored) {
      this.#epoch = stored.epoch;
      this.#offsets = new Map(Object.entries(stored.offsets));
      this.#seen = new Set(stored.seen);
    }
  }

  /** @param {string[]} regions what is asked for from now on */
  ask(regions) {
    this.#regions = regions;
  }

  /** Where to go on: the oldest of what is asked for; null where nothing is known. @returns {string | null} */
  get since() {
    const names = this.#regions.length ? this.#regions : [...this.#offsets.keys()];
    const known = names.map((name) => this.#of(name)).filter((offset) => offset !== undefined);
    return known.length ? `${this.#epoch}-${known.reduce(older)}` : null;
  }

  /**
   * Everything that was asked for has been received up to here.
   *
   * @param {string} text
   */
  advance(text) {
    this.#move(text);
    this.#save();
  }

  /**
   * The server says where this subscription starts; all before that is gone for good. In the same epoch it is behind
   * what is known here where the server lost a part of its history: a backup was played back.
   *
   * @param {string} text
   */
  restart(text) {
    const { epoch, offset } = /** @type {Position} */ (parse(text));
    const since = parse(this.since);
    const wentBack = since?.epoch === epoch && older(since.offset, offset) === offset && since.offset !== offset;
    if (wentBack) {
      this.#forget(epoch);
      this.#slot.set(null);
    }
    this.advance(text);
  }

  /**
   * A notification has arrived. It also says how far the subscription has got.
   *
   * @param {string} text
   * @returns {boolean} whether it is new
   */
  take(text) {
    const { offset } = this.#move(text);
    const isNew = !this.#seen.has(offset);
    if (isNew) {
      this.#seen.add(offset);
      trim(this.#seen);
    }
    this.#save();
    return isNew;
  }

  /** @param {string} text */
  #move(text) {
    const position = /** @type {Position} */ (parse(text));
    if (position.epoch !== this.#epoch) this.#forget(position.epoch);
    if (this.#regions.length === 0) {
      this.#offsets = new Map([[ALL, newer(this.#of(ALL), position.offset)]]);
    } else {
      for (const region of this.#regions) this.#offsets.set(region, newer(this.#of(region), position.offset));
    }
    return position;
  }

  /** @param {string} region */
  #of(region) {
    const all = this.#offsets.get(ALL);
    const own = this.#offsets.get(region);
    return own === undefined || all === undefined ? (own ?? all) : newer(own, all);
  }

  /** @param {string} epoch */
  #forget(epoch) {
    this.#epoch = epoch;
    this.#offsets.clear();
    this.#seen.clear();
  }

  /** Joined with what another tab has put there: each must find what either has seen. */
  #save() {
    const stored = read(this.#slot.get());
    const offsets = Object.fromEntries(this.#offsets);
    let seen = this.#seen;
    if (stored?.epoch === this.#epoch) {
      for (const [region, offset] of Object.entries(stored.offsets)) offsets[region] = newer(offsets[region], offset);
      seen = trim(new Set([...stored.seen, ...seen]));
    }
    this.#slot.set({ epoch: this.#epoch, offsets, seen: [...seen] });
  }
}

/**
 * Anything of this origin can write to the storage, and so could an older version.
 *
 * @param {any} value
 * @returns {Stored | null}
 */
function read(value) {
  const isOffset = (/** @type {unknown} */ offset) => parse(`x-${offset}`) !== null;
  const { epoch, offsets, seen } = value ?? {};
  const readable =
    parse(`${epoch}-0`) &&
    typeof offsets === "object" &&
    offsets !== null &&
    Object.values(offsets).every(isOffset) &&
    Array.isArray(seen) &&
    seen.every(isOffset);
  return readable ? { epoch, offsets, seen } : null;
}

/** @param {Set<string>} seen */
function trim(seen) {
  for (const offset of seen) {
    if (seen.size <= MAX_SEEN) break;
    seen.delete(offset);
  }
  return seen;
}

/** @param {string} one @param {string} other */
function older(one, other) {
  const [a, b] = [one.padStart(19, "0"), other.padStart(19, "0")];
  return a < b ? one : other;
}

/** @param {string | undefined} one @param {string} other */
function newer(one, other) {
  return one === undefined || older(one, other) === one ? other : one;
}
