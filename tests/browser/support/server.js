/**
 * The real server: a process, a port and a data folder of its own.
 *
 * The binary is VIDEO_NOTIFIER_BIN, else what was built here last, the release first.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually, stop } from "./wait.js";

const target = new URL("../../../target/", import.meta.url).pathname;
const binary =
  process.env.VIDEO_NOTIFIER_BIN ??
  ["release", "debug"].map((profile) => `${target}${profile}/video-notifier`).find(existsSync);

export const TOKEN = "a-token-for-tests";

export class Server {
  static async start(...flags) {
    if (!binary) throw new Error("no server: cargo build, or VIDEO_NOTIFIER_BIN");
    const server = new Server();
    server.data = await mkdtemp(join(tmpdir(), "video-notifier-server-"));
    server.port = await freePort();
    server.flags = flags;
    await server.launch();
    return server;
  }

  get origin() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** On the port and the data that it had before. */
  async launch() {
    const listen = ["--listen", `127.0.0.1:${this.port}`, "--data-dir", this.data, "--token", TOKEN];
    this.child = spawn(binary, [...listen, ...this.flags], { stdio: ["ignore", "ignore", "pipe"] });
    this.log = "";
    this.child.stderr.on("data", (text) => {
      this.log += text;
    });
    await eventually(
      async () => {
        if (this.child.exitCode !== null) throw new Error(`the server ended: ${this.log}`);
        return (await fetch(`${this.origin}/readyz`)).ok;
      },
      { what: "the server is ready" },
    );
  }

  /** As if the machine had lost its power. */
  async kill() {
    await stop(this.child, "SIGKILL");
  }

  async close() {
    await stop(this.child);
    await rm(this.data, { recursive: true, force: true });
  }

  /** How many clients it has, as it tells Prometheus. */
  async connections() {
    const answer = await fetch(`${this.origin}/metrics`, { headers: { authorization: `Bearer ${TOKEN}` } });
    const counts = (await answer.text()).matchAll(/^\w*_connections\{.*\} (\d+)$/gm);
    return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
  }

  /** Posts; the receipt. */
  async post(notification) {
    const answer = await fetch(`${this.origin}/notify`, {
      method: "POST",
      headers: { authorization: `Bearer ${TOKEN}` },
      body: JSON.stringify(notification),
    });
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** Posts one video with this title, and an id that no other has. */
  async publish(title, { region = "US", ...more } = {}) {
    return this.post({ region, videos: [{ id: `${title}-${performance.now()}`, title }], ...more });
  }
}

export async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}
