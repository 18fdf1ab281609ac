/**
 * A browser that is driven by JSON messages over a WebSocket of its own, with no driver between: Chromium (CDP) and
 * Firefox (BiDi) are started, asked and ended alike. It and its profile go when `close` is called.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import WebSocket from "ws";
import { stop } from "./wait.js";

/**
 * Starts it, with a profile of its own.
 *
 * @param {object} parts
 * @param {string} parts.binary
 * @param {(profile: string) => string[]} parts.flags
 * @param {Record<string, string>} [parts.files] what is in the profile before it starts
 * @param {string} [parts.path] where it listens for commands, beneath the address that it tells
 */
export async function launch({ binary, flags, files = {}, path = "" }) {
  const profile = await mkdtemp(join(tmpdir(), "video-notifier-browser-"));
  for (const [name, content] of Object.entries(files)) await writeFile(join(profile, name), content);
  const child = spawn(binary, [...flags(profile), "about:blank"], { stdio: ["ignore", "ignore", "pipe"] });
  let address;
  for await (const line of createInterface({ input: child.stderr })) {
    address = /listening on (ws:\S+)/.exec(line)?.[1];
    if (address) break;
  }
  child.stderr.resume();
  if (!address) throw new Error(`${binary} did not start`);
  const socket = new WebSocket(`${address}${path}`, { perMessageDeflate: false, maxPayload: 64 * 1024 * 1024 });
  await once(socket, "open");
  return { child, profile, socket };
}

export class Devtools {
  #launched;
  #lastId = 0;
  /** Commands without an answer yet, by id. */
  #pending = new Map();

  /** @param {Awaited<ReturnType<typeof launch>>} launched */
  constructor(launched) {
    this.#launched = launched;
    launched.socket.on("message", (data) => this.#receive(JSON.parse(data)));
  }

  send(method, params = {}, sessionId = undefined) {
    const id = ++this.#lastId;
    this.#launched.socket.send(JSON.stringify({ id, method, params, sessionId }));
    return new Promise((resolve, reject) => this.#pending.set(id, { method, resolve, reject }));
  }

  /** What it says unasked. */
  event() {}

  async close() {
    const { child, profile, socket } = this.#launched;
    socket.close();
    await stop(child);
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }

  #receive(answer) {
    const { id, result, error } = answer;
    if (!this.#pending.has(id)) return this.event(answer);
    const { method, resolve, reject } = this.#pending.get(id);
    this.#pending.delete(id);
    // CDP has an object here, BiDi a code and the words beside it.
    if (error) reject(new Error(`${method}: ${error.message ?? answer.message}`));
    else resolve(result);
  }
}
