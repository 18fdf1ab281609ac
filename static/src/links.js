// Which URLs a notification may take a user, or an image, to. Everything that a browser could run is left out.

/**
 * A link that may be followed: http(s), or a path of the page's own site.
 * @param {unknown} url
 * @param {string} base the page's address
 * @returns {string | null}
 */
export function safeLink(url, base) {
  const parsed = parse(url, base)
  return parsed && /^https?:$/.test(parsed.protocol) ? parsed.href : null
}

/**
 * An image that may be loaded: https, or the page's own site.
 * @param {unknown} url
 * @param {string} base the page's address
 * @returns {string | null}
 */
export function safeImage(url, base) {
  const parsed = parse(url, base)
  if (!parsed) return null
  return parsed.protocol === 'https:' || parsed.origin === new URL(base).origin ? safeLink(url, base) : null
}

/**
 * The site's own page for a region, from the template that the page gave.
 * @param {string | undefined} template such as `/trending?region={region}`
 * @param {string} region
 * @param {string} base the page's address
 */
export function regionLink(template, region, base) {
  if (!template) return null
  try {
    return safeLink(template.replaceAll('{region}', encodeURIComponent(region)), base)
  } catch {
    // Half a surrogate pair can't be encoded.
    return null
  }
}

/**
 * Absolute http(s) URLs and paths that start with one slash; what else a URL can be, such as `//host`, is nobody's
 * intention here.
 * @param {unknown} url
 * @param {string} base
 */
function parse(url, base) {
  if (typeof url !== 'string' || !/^(https?:\/\/|\/(?![/\\]))[^\s\\\p{Cc}]*$/iu.test(url)) return null
  try {
    return new URL(url, base)
  } catch {
    return null
  }
}
