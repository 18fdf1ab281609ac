/**
 * A site of the test's own, with any pages and headers; and a server for sockets that does whatever the test wants, for
 * what the real one never does.
 */

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const script = new URL("../../../static/notifier.js", import.meta.url);

export class Site {
  /** Pages by path: HTML, or the headers with it. @type {Record<string, string | [string, object]>} */
  pages = {};
  /** Scripts by path. @type {Record<string, string>} */
  files = {};
  /** Sockets that stand, in order. */
  sockets = [];
  /** What was asked for, in order: paths. */
  requests = [];
  /** What to do with a new socket; it is given what the client asked for, too. */
  onSocket = (socket) => hello(socket);
  /** Whether pings are answered. */
  answers = true;

  static async start() {
    const site = new Site();
    site.server = createServer((request, response) => site.#answer(request, response));
    site.server.listen(0, "127.0.0.1");
    await once(site.server, "listening");
    site.origin = `http://127.0.0.1:${site.server.address().port}`;
    const sockets = new WebSocketServer({ server: site.server });
    sockets.on("connection", (socket, request) => {
      const { pathname, searchParams } = new URL(request.url, site.origin);
      site.requests.push(pathname);
      site.sockets.push(socket);
      socket.on("message", () => site.answers && say(socket, { type: "pong" }));
      site.onSocket(socket, searchParams);
    });
    return site;
  }

  async close() {
    for (const socket of this.sockets) socket.terminate();
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, "close");
  }

  async #answer({ url }, response) {
    const { pathname } = new URL(url, this.origin);
    this.requests.push(pathname);
    if (pathname === "/notifier.js") {
      response.writeHead(200, { "content-type": "text/javascript" });
      return response.end(await readFile(script));
    }
    if (pathname in this.files) {
      response.writeHead(200, { "content-type": "text/javascript" });
      return response.end(this.files[pathname]);
    }
    const page = this.pages[pathname];
    if (page === undefined) return response.writeHead(404).end();
    const [html, headers] = typeof page === "string" ? [page, {}] : page;
    response.writeHead(200, { "content-type": "text/html; charset=utf-8", ...headers });
    response.end(html);
  }
}

export const page = (script, body = "") => `<!doctype html><html lang="en"><title>a page</title>${script}<body>${body}`;

export function hello(socket, more) {
  say(socket, {
    type: "hello",
    position: "aaaaaaaa-1",
    recovered: null,
    now: new Date().toISOString(),
    heartbeat_ms: 25_000,
    spread_ms: 0,
    reconnect_window_ms: 0,
    ...more,
  });
}

let offset = 1;

export function publish(socket, more) {
  say(socket, {
    type: "new_trending",
    id: `aaaaaaaa-${++offset}`,
    region: "US",
    count: 1,
    videos: [{ id: "a", title: "a title" }],
    timestamp: new Date().toISOString(),
    ...more,
  });
}

export function say(socket, message) {
  socket.send(typeof message === "string" ? message : JSON.stringify(message));
}
