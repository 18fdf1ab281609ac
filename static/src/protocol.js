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
 * @typedef {object} Pace over how long pages should spread what they would else all do at once
 * @property {number | null} spreadMs their own requests to the site
 * @property {number | null} windowMs their first attempt to connect again
 *
 * @typedef {{ type: "hello", position: string, recovered: boolean | null, now: number | null,
 *   heartbeatMs: number | null } & Pace} Hello
 * @typedef {{ type: "heartbeat", position: string } & Pace} Heartbeat
 * @typedef {{ type: "new_trending", notification: Notification }} NewTrending
 * @typedef {{ type: "reconnect", afterMs: number }} Reconnect
 * @typedef {Hello | Heartbeat | NewTrending | Reconnect} Message
 */

import { parse as parsePosition } from "./position.js";

/** Messages have at most 8 KiB; what is far longer is not worth the time to read it. */
const MAX_LENGTH = 64 * 1024;

const MAX_VIDEOS = 5;

/** The longest that a server may put its clients off: it never asks for more, so more is not from it. */
const MAX_WAIT_MS = 10 * 60_000;

/** A timer set to more than 24 days fires at once. */
const MAX_HEARTBEAT_MS = 24 * 3_600_000;

/**
 * @param {unknown} data what a socket delivered
 * @returns {Message | null}
 */
export function parse(data) {
  if (typeof data !== "string" || data.length > MAX_LENGTH) return null;
  let fields;
  try {
    fields = JSON.parse(data);
  } catch {
    return null;
  }
  if (typeof fields !== "object" || fields === null) return null;
  switch (fields.type) {
    case "hello":
      return parsePosition(fields.position) && { ...hello(fields), ...pace(fields) };
    case "heartbeat":
      return parsePosition(fields.position) && { type: "heartbeat", position: fields.position, ...pace(fields) };
    case "new_trending":
      return parsePosition(fields.id) && { type: "new_trending", notification: notification(fields) };
    case "reconnect":
      return { type: "reconnect", afterMs: milliseconds(fields.after_ms, MAX_WAIT_MS) ?? 0 };
    default:
      return null;
  }
}

/**
 * What to do when a connection has closed.
 *
 * @typedef {{ comesBack: false } | { comesBack: true, atLeastMs: number, atOnce: boolean }} Reaction
 * @param {number} code
 * @returns {Reaction}
 */
export function reaction(code) {
  const refused = code === 1003 || code === 1009 || (code >= 4400 && code <= 4499);
  if (refused) return { comesBack: false };
  return {
    comesBack: true,
    // 1008: this client, or one behind the same address, asked too much.
    atLeastMs: code === 1008 ? 60_000 : 0,
    // 4000: the position is lost, and only a new connection can say so; nothing is overloaded.
    atOnce: code === 4000,
  };
}

/** @param {any} fields @returns {Omit<Hello, keyof Pace>} */
function hello({ position, recovered, now, heartbeat_ms }) {
  const at = typeof now === "string" ? Date.parse(now) : Number.NaN;
  return {
    type: "hello",
    position,
    recovered: typeof recovered === "boolean" ? recovered : null,
    now: Number.isNaN(at) ? null : at,
    heartbeatMs: milliseconds(heartbeat_ms, MAX_HEARTBEAT_MS) || null,
  };
}

/** @param {any} fields @returns {Pace} */
function pace({ spread_ms, reconnect_window_ms }) {
  return {
    spreadMs: milliseconds(spread_ms, MAX_WAIT_MS),
    windowMs: milliseconds(reconnect_window_ms, MAX_WAIT_MS),
  };
}

/**
 * The server has checked all of it when it was posted; a page must not depend on that.
 *
 * @param {any} fields @returns {Notification}
 */
function notification({ id, region, count, videos, timestamp }) {
  const list = (Array.isArray(videos) ? videos : []).slice(0, MAX_VIDEOS).filter(isVideo);
  return {
    id,
    region: typeof region === "string" && region !== "" ? region : "unknown",
    count: Number.isSafeInteger(count) && count >= list.length ? count : list.length,
    videos: list.map((video) => ({ ...video, id: String(video.id) })),
    timestamp: typeof timestamp === "string" ? timestamp : "",
  };
}

/** @param {any} video */
function isVideo(video) {
  return typeof video === "object" && video !== null && typeof video.title === "string";
}

/** @param {unknown} value @param {number} most @returns {number | null} */
function milliseconds(value, most) {
  return typeof value === "number" && value >= 0 ? Math.min(value, most) : null;
}
