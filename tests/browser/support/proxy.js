/** A proxy before the real server, of the kind that lets requests through, but no WebSocket. */

import { once } from "node:events";
import { createServer, request as send } from "node:http";

export class HttpProxy {
  /** What it does with a WebSocket: "refuse" answers, "drop" hangs up, "swallow" says nothing, "pass" lets it through. */
  upgrades = "refuse";
  /** Requests for the stream, in order; and those that stand. */
  streams = [];
  /** WebSockets that were asked for. */
  attempts = 0;
  #server;
  #target;
  #sockets = new Set();
  /** WebSockets that it lets through, both ends. */
  #links = new Set();
  #isDown = false;

  /** @param {{ port: number }} target */
  static async start(target) {
    const proxy = new HttpProxy();
    proxy.#target = target;
    proxy.#server = createServer((request, response) => proxy.#forward(request, response));
    proxy.#server.on("connection", (socket) => {
      if (proxy.#isDown) return socket.destroy();
      proxy.#sockets.add(socket);
      socket.on("close", () => proxy.#sockets.delete(socket));
    });
    proxy.#server.on("upgrade", (request, socket, head) => proxy.#upgrade(request, socket, head));
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    proxy.origin = `http://127.0.0.1:${proxy.#server.address().port}`;
    return proxy;
  }

  get standing() {
    return this.streams.filter(({ destroyed }) => !destroyed);
  }

  /** As a network that is gone: what is open stays so, and nothing comes through; what is new is refused. */
  goDown() {
    this.#isDown = true;
    for (const [socket, other] of this.#links) {
      other.unpipe(socket);
      socket.unpipe(other);
    }
    this.#links.clear();
  }

  /** What was open before it went down never hears of it. */
  goUp() {
    this.#isDown = false;
  }

  /** Ends all streams. */
  cut() {
    for (const stream of this.standing) stream.destroy();
  }

  async close() {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #forward(request, response) {
    if (request.url.startsWith("/events")) {
      response.url = new URL(request.url, this.origin);
      this.streams.push(response);
    }
    const onward = this.#ask(request);
    onward.on("response", (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.writeHead(502).end());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  }

  #upgrade(request, socket, head) {
    this.attempts++;
    socket.on("error", () => {});
    if (this.upgrades === "refuse") return socket.end("HTTP/1.1 501 Not Implemented\r\nConnection: close\r\n\r\n");
    if (this.upgrades === "drop") return socket.destroy();
    if (this.upgrades === "swallow") return;
    const onward = this.#ask(request);
    onward.on("upgrade", (answer, other, more) => {
      const headers = Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}`);
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${headers.join("\r\n")}\r\n\r\n`);
      socket.write(more);
      other.write(head);
      other.on("error", () => socket.destroy());
      socket.on("close", () => other.destroy());
      other.pipe(socket).pipe(other);
      const link = [socket, other];
      this.#links.add(link);
      socket.on("close", () => this.#links.delete(link));
    });
    onward.on("error", () => socket.destroy());
    onward.end();
  }

  #ask({ method, url, headers }) {
    return send({ host: "127.0.0.1", port: this.#target.port, method, path: url, headers });
  }
}
