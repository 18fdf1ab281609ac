/**
 * What the client takes from its surroundings beside the page. Tests put their own in its place; importing the
 * defaults touches nothing that plain Node has not.
 *
 * @typedef {object} Runtime
 * @property {(url: string) => Socket} connect by WebSocket
 * @property {(url: string) => Socket} stream the same by other means, where no WebSocket gets through
 * @property {(callback: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} now milliseconds; it goes on while the machine sleeps, and may jump
 * @property {() => number} random from 0 to below 1
 * @property {() => any} storage a `Storage`; may throw
 * @property {() => any} locks a `LockManager`; may throw, or be none
 * @property {(name: string) => BroadcastChannel} channel
 * @property {(message: string) => void} complain for the people who build the page
 *
 * @typedef {object} Socket what the client needs of a WebSocket; one that can't send has no `send`
 * @property {(type: "message", listener: () => void) => void} addEventListener
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onclose
 * @property {(text: string) => void} [send]
 * @property {(code?: number) => void} close
 */

import { eventStream } from "./event-stream.js";

/** @type {Runtime} */
export const defaults = {
  connect: (url) => new WebSocket(url),
  stream: eventStream,
  setTimeout: (callback, ms) => setTimeout(callback, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  now: Date.now,
  random: Math.random,
  storage: () => localStorage,
  locks: () => navigator.locks,
  channel: (name) => new BroadcastChannel(name),
  complain: (message) => console.error(`video-notifier: ${message}`),
};
