/**
 * Server-sent events in the shape of a WebSocket, for `connection.js`: some proxies let no WebSocket through. The same
 * messages come, from `/events` beside `/ws`; nothing can be sent, so there is no `send`.
 *
 * An EventSource comes back by itself after some failures and never after others. So it is not let to: what is lost is
 * over, and whoever opened it opens another.
 *
 * @param {string} url of the `/ws`
 * @returns {import("./runtime.js").Socket}
 */
export function eventStream(url) {
  const address = url.replace("ws", "http").replace(/[^/?]*(\?.*)?$/, "events$1");
  const stream = /** @type {any} */ (new EventSource(address));
  stream.onerror = () => stream.onclose?.({ code: 1006 });
  return stream;
}
