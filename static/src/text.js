/**
 * What toasts say, in the reader's language: a catalogue has the few words, and Intl all the rest: plural forms, numbers,
 * times, and the names of regions.
 *
 * @typedef {Partial<Record<Intl.LDMLPluralRule, string>> & Words} Texts one language: how many there are, by plural form,
 *   where `#` stands for the count
 *
 * @typedef {object} Words
 * @property {string} other the form that each language has
 * @property {string} close
 */

/** By language, in ISO 639. A site may change and add some, before it starts a notifier. @type {Record<string, Texts>} */
export const catalogues = {
  en: { other: "# new trending videos", one: "# new trending video", close: "Close" },
  de: { other: "# neue Trendvideos", one: "# neues Trendvideo", close: "Schließen" },
  fr: { other: "# nouvelles vidéos tendance", one: "# nouvelle vidéo tendance", close: "Fermer" },
  es: { other: "# nuevos vídeos en tendencia", one: "# nuevo vídeo en tendencia", close: "Cerrar" },
  pt: { other: "# novos vídeos em alta", one: "# novo vídeo em alta", close: "Fechar" },
  hi: { other: "# नए ट्रेंडिंग वीडियो", one: "# नया ट्रेंडिंग वीडियो", close: "बंद करें" },
  ja: { other: "新着の急上昇動画 #本", close: "閉じる" },
  ko: { other: "새 인기 급상승 동영상 #개", close: "닫기" },
};

/** So many regions are named; of the others only the number is given. */
const MAX_NAMED = 3;

/** @param {readonly (string | undefined)[]} wanted languages, the best first */
export function text(wanted) {
  const lang = wanted.find((each) => languageOf(each) in catalogues) ?? "en";
  const words = /** @type {Texts} */ (catalogues[languageOf(lang)]);
  const plural = new Intl.PluralRules(lang);
  const number = new Intl.NumberFormat(lang);
  const names = new Intl.DisplayNames(lang, { type: "region" });
  const time = new Intl.RelativeTimeFormat(lang, { numeric: "auto" });

  return {
    /** For the `lang` attribute. */
    lang,
    label: words.other.replace(/ ?#\S* ?/, ""),
    close: words.close,
    headline,
    more,

    /** @param {number} ms how long since */
    ago(ms) {
      const minutes = Math.floor(ms / 60_000);
      if (minutes < 1) return time.format(0, "second");
      return minutes < 60 ? time.format(-minutes, "minute") : time.format(-Math.floor(minutes / 60), "hour");
    },
  };

  /** @param {number} count @param {string[]} codes */
  function headline(count, codes) {
    const videos = (words[plural.select(count)] ?? words.other).replace("#", () => number.format(count));
    const known = codes.filter((code) => code !== "unknown");
    if (!known.length) return videos;
    const named = known.splice(0, MAX_NAMED).map(nameOf).join(", ");
    return `${videos} · ${named}${known.length ? ` ${more(known.length)}` : ""}`;
  }

  /** @param {number} count of what is not listed */
  function more(count) {
    return `+${number.format(count)}`;
  }

  /** A region's name, where it has one: a site may have regions of its own. @param {string} code @returns {string} */
  function nameOf(code) {
    try {
      return /** @type {string} */ (names.of(code));
    } catch {
      return code;
    }
  }
}

/** "" where it is no language tag. @param {string | undefined} tag */
function languageOf(tag) {
  try {
    return new Intl.Locale(/** @type {string} */ (tag)).language;
  } catch {
    return "";
  }
}
