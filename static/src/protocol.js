// What comes over the wire, read with distrust: messages, positions and close codes.
// The first step of the flow: socket -> protocol -> notifier -> page events and toasts.

/** The version of what is stored and exchanged between pages; a change that old pages can't read raises it. */
export const PROTOCOL = 1

/** The longest message that is looked at, in characters; the server sends at most 8 KiB. */
const LONGEST = 64 * 1024

/**
 * A place in the server's history, `EPOCH-OFFSET`.
 * @typedef {string} Position
 */

/**
 * One video of a notification. Fields beside these come through as the poster sent them.
 * @typedef {{ id: string | number, title: string, thumb?: unknown, url?: unknown, [field: string]: unknown }} Video
 */

/**
 * What a page is told of.
 * @typedef {object} Notification
 * @property {Position} id its position in the history
 * @property {string} region the region that the videos trend in
 * @property {number} count how many videos are new in all
 * @property {readonly Video[]} videos at most five of them
 * @property {Date} timestamp when the server accepted it
 */

/**
 * @typedef {{ position: Position, spreadMs: number, windowMs: number }} Pace
 * @typedef {{ type: 'hello', recovered: boolean | null, now: number, heartbeatMs: number } & Pace} Hello
 * @typedef {{ type: 'heartbeat' } & Pace} Heartbeat
 * @typedef {{ type: 'new_trending', notification: Notification }} NewTrending
 * @typedef {{ type: 'reconnect', afterMs: number }} Reconnect
 * @typedef {{ type: 'pong' }} Pong
 * @typedef {Hello | Heartbeat | NewTrending | Reconnect | Pong} Message
 */

/**
 * Reads a message; null for anything that is none, or of a type that this version does not know.
 * @param {unknown} text
 * @returns {Message | null}
 */
export function parseMessage(text) {
  if (typeof text !== 'string' || text.length > LONGEST) return null
  let raw
  try {
    raw = JSON.parse(text)
  } catch {
    return null
  }
  if (!isRecord(raw)) return null
  switch (raw.type) {
    case 'hello': {
      const pace = parsePace(raw)
      const now = Date.parse(String(raw.now))
      const heartbeatMs = millis(raw.heartbeat_ms, 50, 3_600_000)
      if (!pace || Number.isNaN(now) || heartbeatMs === null) return null
      const recovered = typeof raw.recovered === 'boolean' ? raw.recovered : null
      return { type: 'hello', recovered, now, heartbeatMs, ...pace }
    }
    case 'heartbeat': {
      const pace = parsePace(raw)
      return pace && { type: 'heartbeat', ...pace }
    }
    case 'new_trending': {
      const notification = parseNotification(raw)
      return notification && { type: 'new_trending', notification }
    }
    case 'reconnect':
      return { type: 'reconnect', afterMs: millis(raw.after_ms, 0, 600_000) ?? 0 }
    case 'pong':
      return { type: 'pong' }
    default:
      return null
  }
}

/**
 * Reads a publication; null where it lacks what makes it one.
 * @param {unknown} raw
 * @returns {Notification | null}
 */
export function parseNotification(raw) {
  if (!isRecord(raw) || !isPosition(raw.id) || typeof raw.region !== 'string') return null
  const timestamp = new Date(String(raw.timestamp))
  if (Number.isNaN(timestamp.getTime())) return null
  const videos = Array.isArray(raw.videos) ? raw.videos.filter(isVideo).slice(0, 5) : []
  const count = Number.isSafeInteger(raw.count) && Number(raw.count) >= 0 ? Number(raw.count) : videos.length
  return { id: raw.id, region: raw.region.slice(0, 32), count, videos, timestamp }
}

/**
 * @param {unknown} value
 * @returns {value is Position}
 */
export function isPosition(value) {
  return typeof value === 'string' && /^[a-z0-9]{8}-(0|[1-9][0-9]{0,18})$/.test(value)
}

/**
 * The two halves of a position. Offsets stay text: they may be larger than a number is exact.
 * @param {Position} position
 * @returns {[epoch: string, offset: string]}
 */
export function split(position) {
  const at = position.indexOf('-')
  return [position.slice(0, at), position.slice(at + 1)]
}

/**
 * Whether one offset lies before another, as numbers without leading zeros compare.
 * @param {string} one
 * @param {string} other
 */
export function isBefore(one, other) {
  return one.length < other.length || (one.length === other.length && one < other)
}

/**
 * What a client does after a close code: never come back, or come back after at least so many milliseconds;
 * `atOnce` where waiting would only make it worse.
 * @param {number} code
 * @returns {{ stop: boolean, leastMs: number, atOnce: boolean }}
 */
export function afterClose(code) {
  const stop = code === 1003 || code === 1009 || (code >= 4400 && code <= 4499)
  return { stop, leastMs: code === 1008 ? 60_000 : 0, atOnce: code === 4000 }
}

/**
 * @param {Record<string, unknown>} raw
 * @returns {Pace | null}
 */
function parsePace(raw) {
  if (!isPosition(raw.position)) return null
  const spreadMs = millis(raw.spread_ms, 0, 600_000) ?? 0
  const windowMs = millis(raw.reconnect_window_ms, 0, 600_000) ?? 0
  return { position: raw.position, spreadMs, windowMs }
}

/**
 * A duration within its bounds; null where it is no number.
 * @param {unknown} value
 * @param {number} least
 * @param {number} most
 */
function millis(value, least, most) {
  return typeof value === 'number' && Number.isFinite(value) ? Math.min(Math.max(value, least), most) : null
}

/**
 * @param {unknown} value
 * @returns {value is Video}
 */
function isVideo(value) {
  return isRecord(value) && typeof value.title === 'string'
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
function isRecord(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
