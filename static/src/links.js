/**
 * Which URLs are used at all. Where others have written them, the answer is a list of what is allowed, never of what
 * is not: http and https, or a path on this site. `toast.js` has its links and pictures from here.
 */

/** What the server takes too: http(s), or a path, but not `//host`, which is another site. */
const SHAPE = /^(https?:\/)?\/(?!\/)/i;

/** Browsers skip some of these when they read a URL, and take `\` for `/`: `/<tab>/host` would pass as a path. */
const CONTROLS = /[\\\p{Cc}]/u;

const REGION = /^[\w-]{1,32}$/;

/** Whether it has the shape of a region, which is all that is known of it here. @param {string} text */
export function isRegion(text) {
  return REGION.test(text);
}

/**
 * @param {any} text
 * @param {string} base the page's own address
 * @returns {string | null} an absolute URL; null where it is not allowed
 */
export function link(text, base) {
  try {
    return SHAPE.test(text) && !CONTROLS.test(text) ? new URL(text, new URL(base).origin).href : null;
  } catch {
    return null;
  }
}

/**
 * A picture may be less than a link: on a page that came over https it has to as well.
 *
 * @param {unknown} text
 * @param {string} base
 */
export function image(text, base) {
  const url = link(text, base);
  return base.startsWith("http:") || url?.startsWith("https:") ? url : null;
}

/**
 * The site's page for a region. What is a region has nothing in it that would have to be encoded.
 *
 * @param {unknown} template with `{region}` in it
 * @param {string} region
 * @param {string} base
 */
export function regionLink(template, region, base) {
  return isRegion(region) && region !== "unknown" ? link(`${template}`.replaceAll("{region}", region), base) : null;
}
