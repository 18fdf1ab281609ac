// One WebSocket at a time, and when to have the next: opens it, watches over it, and comes back after a loss.
// It hands messages on and knows nothing of what they mean to a page. No DOM.

import { Backoff } from './backoff.js'
import { afterClose, parseMessage } from './protocol.js'

/** How long a handshake may take until hello, in milliseconds. */
const HELLO_MS = 15_000

/** How many heartbeats may fail to come before the link is taken for dead. */
const SILENT_HEARTBEATS = 2.5

/** How long a link that looks dead has to answer a probe, in milliseconds. */
const PROBE_MS = 4000

/**
 * What a connection takes from the world; tests give their own.
 * @typedef {object} World
 * @property {typeof WebSocket} WebSocket
 * @property {(callback: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} now milliseconds; may jump
 * @property {() => number} random from 0 to 1
 */

/** @typedef {'connecting' | 'open' | 'waiting' | 'closed'} State */

/**
 * Whom a connection tells.
 * @typedef {object} Listener
 * @property {() => string} url asked before every handshake, since regions and position change
 * @property {(message: import('./protocol.js').Message) => void} message
 * @property {(state: State) => void} state
 * @property {(code: number, reason: string) => void} refused the server does not want this client back
 */

export class Connection {
  /** @type {State} */
  state = 'closed'

  #world
  #listener
  #backoff
  /** @type {WebSocket | null} */
  #socket = null
  /** The one timer: for hello, the next heartbeat, a probe or the next attempt. */
  #timer = null
  /** When the server was last heard. */
  #heard = 0
  #heartbeatMs = 0
  #probing = false
  /** Before this moment nothing makes it come back: the server was flooded. */
  #notBefore = 0

  /**
   * @param {World} world
   * @param {Listener} listener
   */
  constructor(world, listener) {
    this.#world = world
    this.#listener = listener
    this.#backoff = new Backoff(world.random)
  }

  /** Opens a socket, in place of the one there may be. */
  open() {
    this.#drop()
    this.#become('connecting')
    let socket
    try {
      socket = new this.#world.WebSocket(this.#listener.url())
    } catch (error) {
      // An address that is none will be none next time.
      this.#listener.refused(0, String(error))
      this.#become('closed')
      return
    }
    this.#socket = socket
    this.#heard = this.#world.now()
    socket.onmessage = (event) => this.#receive(event.data)
    socket.onclose = (event) => this.#lose(event.code, event.reason)
    this.#wait(HELLO_MS, () => this.#lose(1006, 'no hello'))
  }

  /** Ends it for good. */
  close() {
    this.#drop()
    this.#become('closed')
  }

  /** Something changed that a waiting client would want to know of: the network, or the user's eyes. */
  nudge() {
    if (this.state === 'waiting') {
      if (this.#world.now() >= this.#notBefore) this.open()
    } else if (this.state === 'open' && this.#silence() > this.#heartbeatMs / 2) {
      this.#probe()
    }
  }

  /** @param {unknown} data */
  #receive(data) {
    this.#heard = this.#world.now()
    const message = parseMessage(data)
    if (message?.type === 'hello') {
      this.#heartbeatMs = message.heartbeatMs
      this.#backoff.succeed()
    }
    if (message?.type === 'hello' || message?.type === 'heartbeat') this.#backoff.spreadOver(message.windowMs)
    if (message?.type === 'reconnect') this.#backoff.ask(message.afterMs)
    if (this.#heartbeatMs > 0) this.#watch()
    if (!message) return
    if (message.type === 'hello') this.#become('open')
    this.#listener.message(message)
  }

  /** Looks again when the heartbeat is overdue. Time stamps decide, not the timer, which a hidden tab gets late. */
  #watch() {
    this.#probing = false
    const limit = this.#heartbeatMs * SILENT_HEARTBEATS
    const check = () => {
      const silence = this.#silence()
      if (silence < limit) this.#wait(limit - silence, check)
      // Long overdue: the machine slept, or the tab did. What came meanwhile may still wait to be read.
      else if (silence > limit * 1.5) this.#probe()
      else this.#lose(1006, 'silent')
    }
    this.#wait(limit, check)
  }

  /** Asks for a sign of life, and takes the link for dead if none comes. */
  #probe() {
    if (this.#probing) return
    this.#probing = true
    if (this.#socket?.readyState === 1) this.#socket.send('{"type":"ping"}')
    this.#wait(PROBE_MS, () => this.#lose(1006, 'silent', true))
  }

  /**
   * The link is gone. `atOnce` comes back without a wait: for a loss that is this client's alone.
   * @param {number} code
   * @param {string} reason
   * @param {boolean} [atOnce]
   */
  #lose(code, reason, atOnce = false) {
    const wasOpen = this.state === 'open'
    this.#drop()
    const policy = afterClose(code)
    if (policy.stop) {
      this.#become('closed')
      this.#listener.refused(code, reason)
      return
    }
    // Only after a connection that stood: a server that says so to every handshake must not be asked in a loop.
    const skip = wasOpen && (atOnce || policy.atOnce)
    const delay = skip ? 0 : policy.leastMs + this.#backoff.next()
    this.#notBefore = this.#world.now() + policy.leastMs
    this.#become('waiting')
    this.#wait(delay, () => this.open())
  }

  #silence() {
    return this.#world.now() - this.#heard
  }

  /**
   * @param {number} ms
   * @param {() => void} then
   */
  #wait(ms, then) {
    this.#world.clearTimeout(this.#timer)
    this.#timer = this.#world.setTimeout(then, ms)
  }

  #drop() {
    this.#world.clearTimeout(this.#timer)
    this.#timer = null
    this.#probing = false
    this.#heartbeatMs = 0
    const socket = this.#socket
    if (!socket) return
    this.#socket = null
    socket.onmessage = socket.onclose = null
    socket.close()
  }

  /** @param {State} state */
  #become(state) {
    if (state === this.state) return
    this.state = state
    this.#listener.state(state)
  }
}
