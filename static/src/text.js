/**
 * What toasts say, in the reader's language: a catalogue has the sentences, and Intl has all the rest: plural forms,
 * numbers, lists, and the names of regions.
 *
 * @typedef {object} Catalogue one language; `{count}` and so on stand for what is put in
 * @property {Record<string, string>} videos by plural form, for one region
 * @property {Record<string, string>} videosOf no region known
 * @property {Record<string, string>} more what the list leaves out
 * @property {Record<string, string>} regions too many to name
 * @property {string} label of the place where toasts are
 * @property {string} close
 */

/** By language, in ISO 639. @type {Record<string, Catalogue>} */
export const catalogues = {
  en: {
    videos: { one: "{count} new trending video in {region}", other: "{count} new trending videos in {region}" },
    videosOf: { one: "{count} new trending video", other: "{count} new trending videos" },
    more: { one: "and {count} more", other: "and {count} more" },
    regions: { one: "{count} region", other: "{count} regions" },
    label: "New videos",
    close: "Close",
  },
};

/** So many regions are named one by one. */
const MAX_NAMED = 3;

export class Text {
  /** @type {Catalogue} */
  #catalogue;
  #plural;
  #number;
  #list;
  #names;
  /** @type {string} for the `lang` attribute */
  lang;

  /** @param {readonly string[]} wanted languages, the best first */
  constructor(wanted) {
    this.lang = wanted.find(isKnown) ?? "en";
    this.#catalogue = /** @type {Catalogue} */ (catalogues[language(this.lang)]);
    this.#plural = new Intl.PluralRules(this.lang);
    this.#number = new Intl.NumberFormat(this.lang);
    this.#list = new Intl.ListFormat(this.lang);
    this.#names = new Intl.DisplayNames(this.lang, { type: "region" });
  }

  get label() {
    return this.#catalogue.label;
  }

  get close() {
    return this.#catalogue.close;
  }

  /** @param {number} count @param {string[]} regions */
  headline(count, regions) {
    const known = regions.filter((region) => region !== "unknown");
    if (known.length === 0) return this.#form(this.#catalogue.videosOf, count);
    const named = known.length <= MAX_NAMED;
    const region = named
      ? this.#list.format(known.map((code) => this.region(code)))
      : this.#form(this.#catalogue.regions, known.length);
    return this.#form(this.#catalogue.videos, count, region);
  }

  /** @param {number} count */
  more(count) {
    return this.#form(this.#catalogue.more, count);
  }

  /** A region's name, where it has one: a site may have regions of its own. @param {string} code */
  region(code) {
    try {
      return this.#names.of(code) ?? code;
    } catch {
      return code;
    }
  }

  /** @param {Record<string, string>} forms @param {number} count @param {string} [region] */
  #form(forms, count, region = "") {
    const form = forms[this.#plural.select(count)] ?? forms.other ?? "";
    const values = { count: this.#number.format(count), region };
    return form.replace(/\{(count|region)\}/g, (_, name) => values[/** @type {"count" | "region"} */ (name)]);
  }
}

/** @param {string} lang */
function isKnown(lang) {
  try {
    return Intl.getCanonicalLocales(lang).length > 0 && language(lang) in catalogues;
  } catch {
    return false;
  }
}

/** @param {string} lang */
function language(lang) {
  return new Intl.Locale(lang).language;
}
