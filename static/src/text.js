// What is said, in the reader's language: words from a catalogue, numbers, names and times from Intl.
// A language is added by an entry in CATALOGUES.

/**
 * `{count}`, `{region}`, `{regions}` stand for what is filled in; `one`, `other` … are Intl's plural categories.
 * @typedef {object} Catalogue
 * @property {Partial<Record<Intl.LDMLPluralRule, string>>} news of one region
 * @property {Partial<Record<Intl.LDMLPluralRule, string>>} newsAnywhere where the region is not known
 * @property {Partial<Record<Intl.LDMLPluralRule, string>>} newsOfSeveral of more than one region
 * @property {string} open the link to the site's page
 * @property {string} close the button
 * @property {string} label the name of the toasts' landmark
 */

/** @type {Record<string, Catalogue>} */
const CATALOGUES = {
  en: {
    news: { one: '{count} new trending video in {region}', other: '{count} new trending videos in {region}' },
    newsAnywhere: { one: '{count} new trending video', other: '{count} new trending videos' },
    newsOfSeveral: { one: '{count} new trending video: {regions}', other: '{count} new trending videos: {regions}' },
    open: 'Watch now',
    close: 'Close',
    label: 'Notifications',
  },
}

export class Text {
  /** The language that the words are in. */
  language
  #words
  #plural
  #number
  #list
  #names
  #relative

  /**
   * @param {string} language as in `<html lang>`; one that has no catalogue is spoken in English
   * @param {Partial<Catalogue>} [override] the page's own words
   */
  constructor(language, override) {
    const known = Intl.getCanonicalLocales(isLocale(language) ? language : 'en')[0] ?? 'en'
    const base = known.split('-')[0] ?? 'en'
    this.language = CATALOGUES[base] ? known : 'en'
    this.#words = { .../** @type {Catalogue} */ (CATALOGUES[base] ?? CATALOGUES.en), ...override }
    this.#plural = new Intl.PluralRules(this.language)
    this.#number = new Intl.NumberFormat(this.language)
    this.#list = new Intl.ListFormat(this.language)
    this.#names = new Intl.DisplayNames(this.language, { type: 'region', fallback: 'code' })
    this.#relative = new Intl.RelativeTimeFormat(this.language, { numeric: 'auto' })
  }

  get open() {
    return this.#words.open
  }

  get close() {
    return this.#words.close
  }

  get label() {
    return this.#words.label
  }

  /**
   * The headline of one toast.
   * @param {readonly import('./protocol.js').Notification[]} notifications at least one
   */
  headline(notifications) {
    const count = notifications.reduce((sum, { count }) => sum + count, 0)
    const regions = [...new Set(notifications.map(({ region }) => region))].filter((region) => region !== 'unknown')
    const names = regions.map((region) => this.region(region))
    const { news, newsAnywhere, newsOfSeveral } = this.#words
    const forms = names.length === 0 ? newsAnywhere : names.length === 1 ? news : newsOfSeveral
    const form = forms[this.#plural.select(count)] ?? forms.other ?? ''
    /** @type {Record<string, string>} */
    const parts = { count: this.#number.format(count), region: names[0] ?? '', regions: this.#list.format(names) }
    return form.replace(/\{(count|regions?)\}/g, (_, name) => parts[name] ?? '')
  }

  /**
   * A region by its name in the reader's language, where it is a country.
   * @param {string} region
   */
  region(region) {
    return /^[A-Z]{2}$/.test(region) ? (this.#names.of(region) ?? region) : region
  }

  /**
   * How long ago something was.
   * @param {number} ms
   */
  ago(ms) {
    const minutes = Math.round(ms / 60_000)
    if (minutes < 60) return this.#relative.format(-Math.max(minutes, 0), 'minute')
    const hours = Math.round(minutes / 60)
    return hours < 24 ? this.#relative.format(-hours, 'hour') : this.#relative.format(-Math.round(hours / 24), 'day')
  }
}

/** @param {string} language */
function isLocale(language) {
  try {
    return Intl.getCanonicalLocales(language).length > 0
  } catch {
    return false
  }
}
