/**
 * The tabs that a leader connects for, as `shared.js` has heard of them: what they ask for together, and which of them
 * somebody looks at.
 *
 * @typedef {object} Member
 * @property {string[]} regions none means all
 * @property {number} attention how much the reader sees of it: 0 for nothing, and more for more
 */

/** What the server takes in one address; more are asked for as all. */
const MAX_REGIONS = 64;

/** In the order of who came or changed last. @extends {Map<string, Member>} */
export class Roster extends Map {
  /** The regions of all. */
  get regions() {
    const lists = [...this.values()].map(({ regions }) => regions);
    const all = [...new Set(lists.flat())];
    return all.length > MAX_REGIONS || lists.some((list) => !list.length) ? [] : all;
  }

  /** The tab that is looked at most, and was last, of those that ask for the region; "" where there is none. @param {string} region */
  viewer(region) {
    let [best, most] = ["", 1];
    for (const [tab, { regions, attention }] of this) {
      if (attention >= most && covers(regions, [region])) [best, most] = [tab, attention];
    }
    return best;
  }
}

/** Whether who asks for the one hears of the other. @param {string[]} wide @param {string[]} narrow */
export function covers(wide, narrow) {
  return !wide.length || (!!narrow.length && narrow.every((region) => wide.includes(region)));
}
