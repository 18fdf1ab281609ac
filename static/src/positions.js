// What this browser has seen: a position for each region, the latest ids, and whether it is muted. Kept in
// localStorage, so that it survives a navigation, or in memory where that is not wanted or not to be had.

import { isBefore, isPosition, PROTOCOL, split } from './protocol.js'

/** How many ids are remembered. More than a page gets within any moment that a reload can take. */
const SEEN = 200

/** Stands for all regions. No region has this name. */
const ALL = '*'

/**
 * @typedef {Pick<Storage, 'getItem' | 'setItem'>} Store
 * @typedef {{ epoch: string, offsets: Record<string, string>, seen: string[], muted: boolean }} State
 */

export class Positions {
  #key
  #store
  /** @type {State} */
  #state
  /** @type {Set<string>} */
  #seen

  /**
   * @param {string} endpoint positions of one server mean nothing to another
   * @param {Store | null} store null where nothing may be kept
   */
  constructor(endpoint, store) {
    this.#key = `video-notifier:${PROTOCOL}:${endpoint}`
    this.#store = store
    this.#state = this.#load()
    this.#seen = new Set(this.#state.seen)
  }

  /**
   * From where a subscription of these regions goes on: the oldest of their positions, so that none is missed. Null
   * where none is known.
   * @param {readonly string[]} regions none means all
   */
  since(regions) {
    const { epoch, offsets } = this.#state
    const names = regions.length > 0 ? regions : [ALL]
    /** @type {string | undefined} */
    let oldest
    for (const name of names) {
      const offset = latest(offsets[name], offsets[ALL])
      if (offset !== undefined && (oldest === undefined || isBefore(offset, oldest))) oldest = offset
    }
    return oldest === undefined ? null : `${epoch}-${oldest}`
  }

  /**
   * Everything of these regions up to a position has come.
   * @param {readonly string[]} regions none means all
   * @param {string} position
   */
  record(regions, position) {
    const [epoch, offset] = split(position)
    // Another history: what is known of the last one says nothing about it.
    if (epoch !== this.#state.epoch) this.#state = { ...this.#state, epoch, offsets: {} }
    const { offsets } = this.#state
    for (const name of regions.length > 0 ? regions : [ALL]) offsets[name] = latest(offsets[name], offset) ?? offset
    this.#save()
  }

  /**
   * What these regions had is lost; they go on from a position, even where they had come further.
   * @param {readonly string[]} regions none means all
   * @param {string} position
   */
  restart(regions, position) {
    const [epoch, offset] = split(position)
    const all = regions.length === 0
    const offsets = epoch === this.#state.epoch && !all ? this.#state.offsets : {}
    for (const name of all ? [ALL] : regions) offsets[name] = offset
    this.#state = { ...this.#state, epoch, offsets }
    this.#save(false)
  }

  /**
   * Remembers an id; whether it was new.
   * @param {string} id
   */
  see(id) {
    if (this.#seen.has(id)) return false
    this.#seen.add(id)
    for (const oldest of this.#seen) {
      if (this.#seen.size <= SEEN) break
      this.#seen.delete(oldest)
    }
    return true
  }

  get muted() {
    return this.#state.muted
  }

  set muted(muted) {
    this.#state.muted = muted
    this.#save()
  }

  /** @returns {State} */
  #load() {
    /** @type {State} */
    const state = { epoch: '', offsets: {}, seen: [], muted: false }
    try {
      const raw = JSON.parse(this.#store?.getItem(this.#key) ?? 'null')
      if (typeof raw?.epoch !== 'string') return state
      state.epoch = raw.epoch
      state.muted = raw.muted === true
      for (const [name, offset] of Object.entries(raw.offsets ?? {})) {
        if (isPosition(`${state.epoch}-${offset}`)) state.offsets[name] = String(offset)
      }
      if (Array.isArray(raw.seen)) state.seen = raw.seen.filter(isPosition).slice(-SEEN)
    } catch {
      // Broken or forbidden: start as a new browser does.
    }
    return state
  }

  /**
   * Other tabs write here too. Positions only rise, so the later one of each region stays, unless it was lost.
   * @param {boolean} [merge]
   */
  #save(merge = true) {
    if (!this.#store) return
    const { epoch, offsets, muted } = this.#state
    const kept = this.#load()
    const merged = merge && kept.epoch === epoch ? { ...kept.offsets } : {}
    for (const [name, offset] of Object.entries(offsets)) merged[name] = latest(merged[name], offset) ?? offset
    const seen = [...new Set([...kept.seen, ...this.#seen])].slice(-SEEN)
    try {
      this.#store.setItem(this.#key, JSON.stringify({ epoch, offsets: merged, seen, muted }))
    } catch {
      // Full or forbidden: this page goes on from memory.
    }
  }
}

/**
 * @param {string | undefined} one
 * @param {string | undefined} other
 */
function latest(one, other) {
  if (one === undefined || other === undefined) return one ?? other
  return isBefore(one, other) ? other : one
}
