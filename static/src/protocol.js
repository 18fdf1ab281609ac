/**
 * What comes over the wire, made into values that can be trusted: text in, one `Message` or nothing out. And what a
 * close code means. `connection.js` and `client.js` never see a field that was not looked at here.
 *
 * Nothing that a server sends is an error: what can't be read is dropped, and so are types and fields that a later
 * server may add.
 *
 * @typedef {object} Video
 * @property {string} id
 * @property {string} title
 * @property {string} [thumb] as it came: `links.js` decides whether it is used
 * @property {string} [url] likewise
 *
 * @typedef {object} Notification
 * @property {string} id its position
 * @property {string} region `unknown` where the poster gave none
 * @property {number} count how many videos there are in all
 * @property {Video[]} videos at most five of them
 * @property {string} timestamp when it was published, RFC 3339
 *
 * @typedef {object} Message one shape for all types: what a type does not have is null
 * @property {"hello" | "heartbeat" | "new_trending" | "reconnect"} type
 * @property {string} position how far the subscription has got with this; null in `reconnect`
 * @property {Notification | null} notification
 * @property {boolean} recovered false where something may have been missed
 * @property {number} clockMs how far the server's clock is ahead of this one; NaN where it did not say
 * @property {number} heartbeatMs
 * @property {number | null} spreadMs over how long pages should spread their own requests to the site
 * @property {number | null} windowMs likewise their attempts to connect again
 * @property {number | null} afterMs when to come back, in a `reconnect`; where it names no time, it is spread as any loss is
 */

import { isPosition } from "./position.js";

/** Messages have at most 8 KiB; what is far longer is not worth the time to read it. */
const MAX_LENGTH = 64 * 1024;

const MAX_VIDEOS = 5;

/** Taken where a server does not say how often its heartbeats come. */
const DEFAULT_HEARTBEAT_MS = 25_000;

/** The longest of all times that a server names: it never asks for more, so more is not from it. */
const MAX_MS = 10 * 60_000;

/**
 * @param {any} data what a socket delivered
 * @param {number} at when it did
 * @returns {Message | null}
 */
export function parse(data, at) {
  try {
    return data.length > MAX_LENGTH ? null : message(JSON.parse(data), at);
  } catch {
    // It can't be read, or is made to throw where it is.
    return null;
  }
}

/** @param {any} fields @param {number} at @returns {Message | null} */
function message(fields, at) {
  const { type, recovered, now, heartbeat_ms, spread_ms, reconnect_window_ms, after_ms } = fields ?? {};
  const publication = type === "new_trending" ? notification(fields) : null;
  const given = publication ? publication.id : fields?.position;
  const position = isPosition(given) ? given : null;
  const moves = publication || type === "hello" || type === "heartbeat";
  if (moves ? position === null : type !== "reconnect") return null;
  return {
    type,
    position: /** @type {string} */ (position),
    notification: publication,
    recovered: recovered !== false,
    clockMs: Date.parse(`${now}`) - at,
    heartbeatMs: milliseconds(heartbeat_ms) || DEFAULT_HEARTBEAT_MS,
    spreadMs: milliseconds(spread_ms),
    windowMs: milliseconds(reconnect_window_ms),
    afterMs: milliseconds(after_ms),
  };
}

/**
 * What to do when a connection has closed.
 *
 * @param {number} code
 */
export function reaction(code) {
  return {
    comesBack: !/^(1003|1009|44..)$/.test(`${code}`),
    // 1008: this client, or one behind the same address, asked too much.
    atLeastMs: code === 1008 ? 60_000 : 0,
    // 4000: the position is lost, and only a new connection can say so; nothing is overloaded.
    atOnce: code === 4000,
  };
}

/**
 * The server has checked all of it when it was posted; a page must not depend on that.
 *
 * @param {any} fields
 * @returns {Notification | null}
 */
export function notification(fields) {
  const { id, region, count, videos, timestamp } = fields ?? {};
  if (!isPosition(id)) return null;
  const list = (Array.isArray(videos) ? videos : []).slice(0, MAX_VIDEOS).filter(isVideo);
  return {
    id,
    region: region && typeof region === "string" ? region : "unknown",
    count: Math.max(list.length, Number.isSafeInteger(count) ? count : 0),
    videos: list.map((video) => ({ ...video, id: String(video.id) })),
    timestamp: `${timestamp ?? ""}`,
  };
}

/** @param {any} video */
function isVideo(video) {
  return typeof video?.title === "string";
}

/** @param {unknown} value @returns {number | null} */
function milliseconds(value) {
  return typeof value === "number" && value >= 0 ? Math.min(value, MAX_MS) : null;
}
