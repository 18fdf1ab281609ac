// The server under test: the real binary, one process and one fresh data folder
// for each test. conftest.py does the same for the Python clients.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

const BINARY = path.resolve(
  process.env.VIDEO_NOTIFIER_BIN ?? path.join(import.meta.dirname, "../../target/release/video-notifier"),
);
const TOKEN = "interop-token";

// Far above what any test here takes: a hang is a failure, not a wait.
export const PATIENCE = { timeout: 20_000 };

/** A folder that lasts as long as the test, and servers on it that end with it. */
export async function site(t) {
  const folder = await mkdtemp(path.join(tmpdir(), "video-notifier-"));
  const servers = [];
  t.after(async () => {
    for (const server of servers) await server.kill();
    await rm(folder, { recursive: true });
  });
  return {
    /** Resolves once the server has said that it listens. */
    async start({ port = 0, ...settings } = {}) {
      const server = new Server(path.join(folder, "data"), port, settings);
      servers.push(server);
      await server.listening;
      return server;
    },
  };
}

class Server {
  constructor(data, port, settings) {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("NOTIFIER_")));
    this.process = spawn(BINARY, {
      env: {
        ...env,
        NOTIFIER_LISTEN: `127.0.0.1:${port}`,
        NOTIFIER_DATA_DIR: data,
        NOTIFIER_TOKEN: TOKEN,
        // Pings come often, so that a client that does not answer them is dropped within a test.
        NOTIFIER_HEARTBEAT: "500ms",
        ...settings,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.exited = once(this.process, "exit").then(([code]) => code);
    this.listening = new Promise((resolve, reject) => {
      let log = "";
      for (const stream of [this.process.stdout, this.process.stderr]) {
        // Reads to the end, so that a full pipe never stops the server.
        createInterface(stream).on("line", (line) => {
          log += `${line}\n`;
          const port = Number(/127\.0\.0\.1:(\d+)/.exec(line)?.[1] ?? 0);
          if (port !== 0) resolve((this.port = port));
        });
      }
      this.process.on("close", () => reject(new Error(`the server ended before it listened:\n${log}`)));
      this.process.on("error", reject);
    });
  }

  /** Publishes videos with a title that needs every byte of UTF-8, and returns what a client has to get, to the letter. */
  async post(region, ...ids) {
    const videos = ids.map((id) => ({ id, title: `${id}: «ß» 動画 🎬 <b>&amp;`, url: `/watch/${id}` }));
    const answer = await fetch(`http://127.0.0.1:${this.port}/notify`, {
      method: "POST",
      headers: { authorization: `Bearer ${TOKEN}` },
      body: JSON.stringify({ region, videos }),
    });
    assert.equal(answer.status, 200);
    const { id, timestamp } = await answer.json();
    return { type: "new_trending", id, region, count: ids.length, videos: videos.slice(0, 5), timestamp };
  }

  terminate() {
    this.process.kill("SIGTERM");
    return this.exited;
  }

  async kill() {
    this.process.kill("SIGKILL");
    await this.exited;
  }
}

/** What a client receives, to be taken one by one and in order. */
export class Inbox {
  #waiting = [];
  #messages = [];

  push(message) {
    const take = this.#waiting.shift();
    if (take) take(message);
    else this.#messages.push(message);
  }

  next() {
    if (this.#messages.length > 0) return Promise.resolve(this.#messages.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async nextButHeartbeats() {
    for (;;) {
      const message = await this.next();
      if (message.type !== "heartbeat") return message;
    }
  }
}

/** A way to the server that can be cut, and that refuses while it is down. */
export async function bridge(t, server) {
  const sockets = new Set();
  let down = false;
  let refused = () => {};
  const proxy = net.createServer((client) => {
    if (down) {
      client.resetAndDestroy();
      return refused();
    }
    const upstream = net.connect(server.port, "127.0.0.1");
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ]) {
      sockets.add(from);
      from.on("error", () => {}).on("close", () => to.destroy());
      from.pipe(to);
    }
  });
  await once(proxy.listen(0, "127.0.0.1"), "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  return {
    port: proxy.address().port,
    /** Cuts every connection; resolves when a client has tried in vain to come back. */
    cut() {
      down = true;
      const tried = new Promise((resolve) => (refused = resolve));
      for (const socket of sockets) socket.resetAndDestroy();
      sockets.clear();
      return tried;
    },
    restore() {
      down = false;
    },
  };
}
