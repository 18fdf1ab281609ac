// What the user sees: toasts in a shadow root of their own. The last step of the flow; it knows no network.
//
// Text is only ever set as text, styles come as a constructed sheet: a page with a strict content security policy and
// Trusted Types needs no exception.

import { regionLink, safeImage, safeLink } from './links.js'
import { STYLE } from './style.js'

/** How long a toast stands while nobody looks at it closely, in milliseconds. */
const STANDS_MS = 12_000

/** How many toasts stand at once; one more sends the oldest away. */
const MOST = 3

/** How many videos a toast shows. */
const VIDEOS = 3

/** The key that takes the focus to the newest toast, and back. */
const KEY = 'F8'

/**
 * @typedef {import('./protocol.js').Notification} Notification
 * @typedef {{ element: HTMLElement, timer: any, left: number, since: number }} Toast
 */

export class Toasts {
  #document
  #text
  #link
  #world
  #host
  #status
  #stack
  /** @type {Toast[]} oldest first */
  #toasts = []
  /** Where the focus was before it came here. */
  /** @type {Element | null} */
  #before = null
  #paused = false
  #listeners = new AbortController()

  /**
   * @param {Document} document
   * @param {import('./text.js').Text} text
   * @param {string | undefined} link template of the site's page for a region
   * @param {Pick<import('./connection.js').World, 'setTimeout' | 'clearTimeout' | 'now'>} world
   */
  constructor(document, text, link, world) {
    this.#document = document
    this.#text = text
    this.#link = link
    this.#world = world
    this.#host = document.createElement('video-notifier-toasts')
    const root = this.#host.attachShadow({ mode: 'open' })
    const sheet = new CSSStyleSheet()
    sheet.replaceSync(STYLE)
    root.adoptedStyleSheets = [sheet]
    const region = this.#element('section', 'vw-region', root)
    region.setAttribute('part', 'region')
    region.setAttribute('aria-label', text.label)
    region.lang = text.language
    // In the document before it says anything: a region that comes with its words is not read out.
    this.#status = this.#element('div', 'vw-status', region)
    this.#status.setAttribute('role', 'status')
    this.#stack = this.#element('ol', 'vw-stack', region)
    this.#listen(region)
    ;(document.body ?? document.documentElement).append(this.#host)
  }

  /**
   * Shows one toast for all of these.
   * @param {readonly Notification[]} notifications at least one, newest last
   * @param {number} now by the server's clock
   */
  show(notifications, now) {
    const headline = this.#text.headline(notifications)
    const element = this.#element('li', 'vw-toast')
    element.setAttribute('part', 'toast')
    element.tabIndex = -1
    this.#fill(element, headline, notifications, now)
    this.#stack.append(element)
    const toast = { element, timer: null, left: STANDS_MS, since: 0 }
    this.#toasts.push(toast)
    this.#status.textContent = headline
    if (!this.#isPaused()) this.#start(toast)
    const [oldest] = this.#toasts
    if (oldest && this.#toasts.length > MOST) this.#remove(oldest)
  }

  /** How many stand. */
  get count() {
    return this.#toasts.length
  }

  /** Removes every trace. */
  close() {
    this.#listeners.abort()
    for (const toast of [...this.#toasts]) this.#remove(toast)
    this.#host.remove()
  }

  /**
   * @param {HTMLElement} element
   * @param {string} headline
   * @param {readonly Notification[]} notifications
   * @param {number} now
   */
  #fill(element, headline, notifications, now) {
    const newest = /** @type {Notification} */ (notifications.at(-1))
    const base = this.#document.baseURI
    const body = this.#element('div', 'vw-body', element)
    const title = this.#element('p', 'vw-headline', body)
    title.setAttribute('part', 'headline')
    title.textContent = headline
    const time = this.#element('time', 'vw-time', body)
    time.dateTime = newest.timestamp.toISOString()
    time.textContent = this.#text.ago(now - newest.timestamp.getTime())

    const list = this.#element('ul', 'vw-videos', body)
    for (const video of notifications.flatMap(({ videos }) => videos).slice(0, VIDEOS)) {
      const item = this.#element('li', 'vw-video', list)
      this.#image(item, safeImage(video.thumb, base))
      const url = safeLink(video.url, base)
      const name = this.#element(url ? 'a' : 'span', 'vw-title', item)
      if (url) name.setAttribute('href', url)
      // Titles are in whatever language the video is in.
      name.dir = 'auto'
      name.textContent = video.title
    }
    const link = regionLink(this.#link, newest.region, base)
    if (link) {
      const open = this.#element('a', 'vw-open', body)
      open.setAttribute('part', 'link')
      open.setAttribute('href', link)
      open.textContent = this.#text.open
    }
    const close = this.#element('button', 'vw-close', element)
    close.type = 'button'
    close.setAttribute('part', 'close')
    close.setAttribute('aria-label', this.#text.close)
    close.textContent = '×'
    close.addEventListener('click', () => this.#dismiss(element))
  }

  /**
   * @param {Element} parent
   * @param {string | null} url
   */
  #image(parent, url) {
    if (!url) return
    const image = this.#element('img', 'vw-thumb', parent)
    image.alt = ''
    image.referrerPolicy = 'no-referrer'
    image.decoding = 'async'
    image.addEventListener('error', () => image.remove())
    image.src = url
  }

  /** @param {HTMLElement} region */
  #listen(region) {
    const { signal } = this.#listeners
    const update = () => this.#update()
    region.addEventListener('pointerenter', update, { signal })
    region.addEventListener('pointerleave', update, { signal })
    region.addEventListener(
      'focusin',
      (event) => {
        if (!this.#before && event.relatedTarget instanceof Element) this.#before = event.relatedTarget
        update()
      },
      { signal },
    )
    region.addEventListener(
      'focusout',
      ({ relatedTarget }) => {
        if (!(relatedTarget instanceof Node && region.contains(relatedTarget))) this.#before = null
        update()
      },
      { signal },
    )
    region.addEventListener(
      'keydown',
      (event) => {
        if (event.key !== 'Escape' || !(event.target instanceof Element)) return
        const toast = event.target.closest('.vw-toast')
        if (toast instanceof HTMLElement) this.#dismiss(toast)
        event.stopPropagation()
      },
      { signal },
    )
    this.#document.addEventListener(
      'keydown',
      (event) => {
        if (event.key !== KEY || event.defaultPrevented) return
        const newest = this.#toasts.at(-1)
        if (!newest) return
        event.preventDefault()
        if (this.#hasFocus()) return this.#restoreFocus()
        this.#before = this.#document.activeElement
        newest.element.focus()
      },
      { signal },
    )
    this.#document.addEventListener('visibilitychange', update, { signal })
  }

  /** Starts or stops the clocks of all toasts. */
  #update() {
    const paused = this.#isPaused()
    if (paused === this.#paused) return
    this.#paused = paused
    for (const toast of this.#toasts) {
      if (paused) this.#stop(toast)
      else this.#start(toast)
    }
  }

  #isPaused() {
    return this.#document.hidden || this.#stack.matches(':hover') || this.#hasFocus()
  }

  #hasFocus() {
    return this.#host.shadowRoot?.activeElement != null
  }

  /** @param {Toast} toast */
  #start(toast) {
    toast.since = this.#world.now()
    toast.timer = this.#world.setTimeout(() => this.#remove(toast), toast.left)
  }

  /** @param {Toast} toast */
  #stop(toast) {
    this.#world.clearTimeout(toast.timer)
    // Whoever looked away comes back to some time left.
    toast.left = Math.max(toast.left - (this.#world.now() - toast.since), STANDS_MS / 3)
  }

  /** @param {HTMLElement} element */
  #dismiss(element) {
    const at = this.#toasts.findIndex((toast) => toast.element === element)
    const toast = this.#toasts[at]
    if (!toast) return
    const hadFocus = this.#hasFocus()
    const next = this.#toasts[at + 1] ?? this.#toasts[at - 1]
    // First the focus: an element that goes takes it away to nowhere.
    if (hadFocus && next) next.element.focus()
    else if (hadFocus) this.#restoreFocus()
    this.#remove(toast)
  }

  /** @param {Toast} toast */
  #remove(toast) {
    this.#world.clearTimeout(toast.timer)
    this.#toasts = this.#toasts.filter((other) => other !== toast)
    toast.element.remove()
    this.#update()
  }

  #restoreFocus() {
    const before = this.#before
    this.#before = null
    if (before instanceof HTMLElement && before.isConnected && before !== this.#document.body) before.focus()
    else if (this.#host.shadowRoot?.activeElement instanceof HTMLElement) this.#host.shadowRoot.activeElement.blur()
  }

  /**
   * @template {keyof HTMLElementTagNameMap} Name
   * @param {Name} name
   * @param {string} className
   * @param {Node} [parent]
   * @returns {HTMLElementTagNameMap[Name]}
   */
  #element(name, className, parent) {
    const element = this.#document.createElement(name)
    element.className = className
    parent?.appendChild(element)
    return element
  }
}
