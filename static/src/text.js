/**
 * What toasts say, in the reader's language: a catalogue has the sentences, and Intl has all the rest: plural forms,
 * numbers, lists, and the names of regions.
 *
 * @typedef {object} Catalogue one language; `{count}` and so on stand for what is put in
 * @property {Record<string, string>} videos by plural form
 * @property {string} where the same, in a region or several
 * @property {string} regions too many to name
 * @property {string} more what the list leaves out
 * @property {string} label of the place where toasts are
 * @property {string} close
 */

/** By language, in ISO 639. @type {Record<string, Catalogue>} */
export const catalogues = {
  en: {
    videos: { one: "{count} new trending video", other: "{count} new trending videos" },
    where: "{videos} in {regions}",
    regions: "{count} regions",
    more: "and {count} more",
    label: "New videos",
    close: "Close",
  },
};

/** So many regions are named one by one. */
const MAX_NAMED = 3;

/** @param {readonly string[]} wanted languages, the best first */
export function text(wanted) {
  const lang = wanted.find(isKnown) ?? "en";
  const catalogue = /** @type {Catalogue} */ (catalogues[new Intl.Locale(lang).language]);
  const plural = new Intl.PluralRules(lang);
  const number = new Intl.NumberFormat(lang);
  const list = new Intl.ListFormat(lang);
  const names = new Intl.DisplayNames(lang, { type: "region" });

  return {
    /** For the `lang` attribute. */
    lang,
    label: catalogue.label,
    close: catalogue.close,

    /** @param {number} count @param {string[]} codes */
    headline(count, codes) {
      const { videos, where, regions } = catalogue;
      const headline = fill(videos[plural.select(count)] ?? videos.other ?? "", { count: number.format(count) });
      const known = codes.filter((code) => code !== "unknown");
      if (known.length === 0) return headline;
      const named = known.length <= MAX_NAMED;
      return fill(where, {
        videos: headline,
        regions: named ? list.format(known.map(nameOf)) : fill(regions, { count: number.format(known.length) }),
      });
    },

    /** @param {number} count */
    more: (count) => fill(catalogue.more, { count: number.format(count) }),
  };

  /** A region's name, where it has one: a site may have regions of its own. @param {string} code */
  function nameOf(code) {
    try {
      return names.of(code) ?? code;
    } catch {
      return code;
    }
  }
}

/** @param {string} sentence @param {Record<string, string>} values */
function fill(sentence, values) {
  return sentence.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** @param {string} lang */
function isKnown(lang) {
  try {
    return new Intl.Locale(lang).language in catalogues;
  } catch {
    return false;
  }
}
