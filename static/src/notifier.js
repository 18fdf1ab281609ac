// The class that pages use: puts connection, positions and toasts together and lives with the page.

import { Connection } from './connection.js'
import { Positions } from './positions.js'
import { isPosition } from './protocol.js'
import { Text } from './text.js'
import { Toasts } from './toasts.js'

/** How long notifications are gathered into one toast, in milliseconds. */
const GATHER_MS = 250

/** How many notifications `history` holds. */
const HISTORY = 50

/** What is older than this, in seconds, is news to nobody. */
const MAX_AGE_S = 15 * 60

/**
 * @typedef {import('./protocol.js').Notification} Notification
 * @typedef {import('./connection.js').World} World
 */

/**
 * @typedef {object} Options
 * @property {readonly string[]} [regions] the regions to hear of; none means all
 * @property {string} [link] template of the site's page for a region, `/trending?region={region}`
 * @property {string} [since] the position that the page was rendered at, for a browser that has none of its own
 * @property {'local' | 'none'} [storage] where positions are kept; `none` keeps them in memory
 * @property {number} [maxAge] in seconds: what is older goes to `history`, not to a toast
 * @property {boolean} [toasts] whether to show toasts at all
 * @property {string} [language] of the toasts; else that of the page
 * @property {Partial<import('./text.js').Catalogue>} [words] the page's own words
 * @property {Partial<World>} [world] what tests replace
 */

export class VideoNotifier extends EventTarget {
  /**
   * The instance that the script tag started, if it did.
   * @type {VideoNotifier | undefined}
   */
  static page

  /** @type {Notification[]} */
  #history = []
  /** @type {string[]} */
  #regions
  #url
  #options
  #world
  #document
  #positions
  #connection
  /** @type {Toasts | null} */
  #toasts = null
  /** Gathered for the next toast. */
  /** @type {Notification[]} */
  #waiting = []
  #gathering = null
  /** Where this page's own subscription stands. */
  /** @type {string | null} */
  #position = null
  /** How far the server's clock is ahead of this one. */
  #ahead = 0
  #spreadMs = 0
  /** @type {Map<() => void, any>} */
  #refetches = new Map()
  #listeners = new AbortController()
  #isClosed = false

  /**
   * Connects at once.
   * @param {string | URL} url of the server's `/ws`
   * @param {Options} [options]
   */
  constructor(url, options = {}) {
    super()
    this.#options = options
    this.#regions = [...(options.regions ?? [])]
    this.#document = globalThis.document
    this.#url = new URL(url, this.#document?.baseURI)
    this.#url.protocol = this.#url.protocol.replace('http', 'ws')
    this.#world = {
      WebSocket: globalThis.WebSocket,
      setTimeout: (/** @type {() => void} */ then, /** @type {number} */ ms) => globalThis.setTimeout(then, ms),
      clearTimeout: (/** @type {any} */ timer) => globalThis.clearTimeout(timer),
      now: () => Date.now(),
      random: () => Math.random(),
      ...options.world,
    }
    this.#positions = new Positions(this.#url.host + this.#url.pathname, store(options.storage))
    this.#position = this.#positions.since(this.#regions) ?? (isPosition(options.since) ? options.since : null)
    this.#connection = new Connection(this.#world, {
      url: () => this.#address(),
      message: (message) => this.#receive(message),
      state: (state) => this.dispatchEvent(new CustomEvent('statechange', { detail: { state } })),
      refused: (code, reason) => console.error(`video-notifier: ${this.#url.origin} refused (${code}): ${reason}`),
    })
    if (this.#document) this.#live(this.#document)
    this.#connection.open()
  }

  /** `connecting`, `open`, `waiting` for the next attempt, or `closed` for good. */
  get state() {
    return this.#connection.state
  }

  /** All notifications up to here have come; null before the first hello. */
  get position() {
    return this.#position
  }

  /** The latest notifications, newest first. What a toast said stays here. */
  get history() {
    return [...this.#history]
  }

  /** Whether no toasts are shown; remembered by the browser. Events and `history` go on. */
  get muted() {
    return this.#positions.muted
  }

  set muted(muted) {
    this.#positions.muted = Boolean(muted)
  }

  /** Ends it for good and leaves nothing behind: no timer, listener or element. */
  close() {
    this.#isClosed = true
    this.#listeners.abort()
    this.#world.clearTimeout(this.#gathering)
    for (const timer of this.#refetches.values()) this.#world.clearTimeout(timer)
    this.#refetches.clear()
    this.#connection.close()
    this.#toasts?.close()
    this.#toasts = null
  }

  /** Connects anew, at once. After `close()` it does nothing. */
  reconnect() {
    if (!this.#isClosed) this.#connection.open()
  }

  /**
   * Hears of other regions from now on.
   * @param {readonly string[]} regions none means all
   */
  setRegions(regions) {
    const wanted = [...new Set(regions)]
    const same = wanted.length === this.#regions.length && wanted.every((name) => this.#regions.includes(name))
    if (same || this.#isClosed) return
    this.#regions = wanted
    this.#position = this.#positions.since(wanted)
    this.#connection.open()
  }

  /**
   * Calls `fn` once, after a random part of the span that the server gave last, so that the pages together don't ask
   * the site at the same moment; and only while the page can be seen.
   * @param {() => void} fn called once, however often it is given before
   */
  refetch(fn) {
    if (this.#isClosed || this.#refetches.has(fn)) return
    const call = () => {
      if (this.#document?.hidden) {
        const { signal } = this.#listeners
        this.#document.addEventListener('visibilitychange', call, { once: true, signal })
        return
      }
      this.#refetches.delete(fn)
      fn()
    }
    this.#refetches.set(fn, this.#world.setTimeout(call, this.#world.random() * this.#spreadMs))
  }

  #address() {
    const url = new URL(this.#url)
    if (this.#regions.length > 0) url.searchParams.set('regions', this.#regions.join(','))
    if (this.#position) url.searchParams.set('since', this.#position)
    return url.href
  }

  /** @param {import('./protocol.js').Message} message */
  #receive(message) {
    switch (message.type) {
      case 'hello':
        this.#ahead = message.now - this.#world.now()
        this.#spreadMs = message.spreadMs
        if (message.recovered === false) {
          const since = this.#position
          this.#position = message.position
          this.#positions.restart(this.#regions, message.position)
          this.dispatchEvent(new CustomEvent('gap', { detail: { since, position: message.position } }))
        } else this.#advance(message.position)
        break
      case 'heartbeat':
        this.#spreadMs = message.spreadMs
        this.#advance(message.position)
        break
      case 'new_trending': {
        const { notification } = message
        const isNew = this.#positions.see(notification.id)
        this.#advance(notification.id)
        if (isNew) this.#announce(notification)
        break
      }
    }
  }

  /** @param {string} position */
  #advance(position) {
    this.#position = position
    this.#positions.record(this.#regions, position)
  }

  /** @param {Notification} notification */
  #announce(notification) {
    this.#history = [notification, ...this.#history].slice(0, HISTORY)
    const event = new CustomEvent('notification', { detail: notification, cancelable: true })
    const wanted = this.dispatchEvent(event)
    const age = this.#serverNow() - notification.timestamp.getTime()
    if (!wanted || this.muted || !this.#toasts || age > (this.#options.maxAge ?? MAX_AGE_S) * 1000) return
    this.#waiting.push(notification)
    this.#gather()
  }

  /** Shows what came within a moment as one toast; a film in full screen is not disturbed. */
  #gather() {
    if (this.#gathering !== null || this.#waiting.length === 0) return
    const show = () => {
      this.#gathering = null
      if (this.muted || this.#document?.fullscreenElement) return
      this.#toasts?.show(this.#waiting, this.#serverNow())
      this.#waiting = []
    }
    // A hidden tab gets its timers late, but those of no length at once; its toast stands until it is looked at.
    this.#gathering = this.#world.setTimeout(show, this.#document?.hidden ? 0 : GATHER_MS)
  }

  #serverNow() {
    return this.#world.now() + this.#ahead
  }

  /**
   * Lives with the page: sleeps when it does, wakes when it does.
   * @param {Document} document
   */
  #live(document) {
    const { signal } = this.#listeners
    const { language, words, link, toasts } = this.#options
    if (toasts !== false) {
      const text = new Text(language ?? document.documentElement.lang ?? '', words)
      this.#toasts = new Toasts(document, text, link, this.#world)
    }
    const wake = () => {
      if (document.hidden) return
      this.#connection.nudge()
      this.#gather()
    }
    // A page that is frozen or cached would hold a socket that nobody reads. It resumes by position.
    let asleep = false
    const sleep = () => {
      asleep ||= this.#connection.state !== 'closed'
      this.#connection.close()
    }
    const resume = () => {
      if (asleep) this.#connection.open()
      asleep = false
    }
    document.addEventListener('visibilitychange', wake, { signal })
    document.addEventListener('fullscreenchange', wake, { signal })
    document.addEventListener('freeze', sleep, { signal })
    document.addEventListener('resume', resume, { signal })
    addEventListener('online', () => this.#connection.nudge(), { signal })
    addEventListener('pagehide', sleep, { signal })
    addEventListener('pageshow', (event) => event.persisted && resume(), { signal })
  }
}

/**
 * @param {'local' | 'none' | undefined} wanted
 * @returns {Storage | null}
 */
function store(wanted) {
  try {
    // Throws where the page may not store, as in a sandboxed frame.
    return wanted === 'none' ? null : (globalThis.localStorage ?? null)
  } catch {
    return null
  }
}
