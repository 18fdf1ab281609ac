// Starts a notifier from its own script tag, as its data attributes say.

import { VideoNotifier } from './notifier.js'

/** @param {HTMLOrSVGScriptElement | null} script */
export function start(script) {
  if (!(script instanceof HTMLScriptElement) || script.dataset.manual !== undefined) return
  const { url, regions, link, since, storage, maxAge } = script.dataset
  /** @type {import('./notifier.js').Options} */
  const options = {
    regions: (regions ?? '')
      .split(',')
      .map((name) => name.trim())
      .filter(Boolean),
  }
  if (link) options.link = link
  if (since) options.since = since
  if (storage === 'none') options.storage = 'none'
  if (Number(maxAge) > 0) options.maxAge = Number(maxAge)
  VideoNotifier.page = new VideoNotifier(new URL(url ?? 'ws', new URL(url ? document.baseURI : script.src)), options)
}
