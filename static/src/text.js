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

/** @param {readonly string[]} wanted languages, the best first */
export function text(wanted) {
  const lang = wanted.find(isKnown) ?? "en";
  const catalogue = /** @type {Catalogue} */ (catalogues[language(lang)]);
  const plural = new Intl.PluralRules(lang);
  const number = new Intl.NumberFormat(lang);
  const list = new Intl.ListFormat(lang);
  const names = new Intl.DisplayNames(lang, { type: "region" });

  return {
    /** For the `lang` attribute. */
    lang,
    label: catalogue.label,
    close: catalogue.close,

    /** @param {number} count @param {string[]} regions */
    headline(count, regions) {
      const known = regions.filter((region) => region !== "unknown");
      if (known.length === 0) return form(catalogue.videosOf, count);
      const region = known.length <= MAX_NAMED ? list.format(known.map(nameOf)) : form(catalogue.regions, known.length);
      return form(catalogue.videos, count, region);
    },

    /** @param {number} count */
    more: (count) => form(catalogue.more, count),
  };

  /** A region's name, where it has one: a site may have regions of its own. @param {string} code */
  function nameOf(code) {
    try {
      return names.of(code) ?? code;
    } catch {
      return code;
    }
  }

  /** @param {Record<string, string>} forms @param {number} count @param {string} [region] */
  function form(forms, count, region = "") {
    const form = forms[plural.select(count)] ?? forms.other ?? "";
    const values = { count: number.format(count), region };
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
