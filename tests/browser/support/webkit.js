/**
 * A real WebKit: WebKitGTK's MiniBrowser, on a display of its own, driven by WebDriver. Each tab has a process of its own,
 * which can be made to stand still without the page being told.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { press } from "./keys.js";
import { freePort } from "./server.js";
import { BrowserTab } from "./tab.js";
import { eventually, stop } from "./wait.js";

export class WebKit {
  /** WebKitWebDriver ends the session with any page that crashes. */
  static survivesCrashes = false;
  static keepsPagesWithLocks = true;

  static async start() {
    const home = await mkdtemp(join(tmpdir(), "video-notifier-webkit-"));
    const display = spawn("Xvfb", ["-displayfd", "3", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"], {
      stdio: ["ignore", "ignore", "ignore", "pipe"],
    });
    const [number] = await once(display.stdio[3], "data");
    const port = await freePort();
    const driver = spawn("WebKitWebDriver", [`--port=${port}`], {
      env: { ...process.env, DISPLAY: `:${String(number).trim()}`, HOME: home },
      stdio: "ignore",
    });
    const webkit = new WebKit([driver, display], home, `http://127.0.0.1:${port}`);
    await eventually(() => webkit.#ask("GET", "/status"), { what: "WebKitWebDriver is ready" });
    const { sessionId } = await webkit.#ask("POST", "/session", { capabilities: {} });
    webkit.#address += `/session/${sessionId}`;
    webkit.#first = await webkit.#ask("GET", "/window");
    return webkit;
  }

  #children;
  #home;
  #address;
  /** The tab that it started with, which stays. */
  #first;
  /** Where commands go to. */
  #handle;
  /** Settles when the last command has been answered. */
  #last = Promise.resolve();

  constructor(children, home, address) {
    this.#children = children;
    this.#home = home;
    this.#address = address;
  }

  /** Opens a tab: with a window of its own, so that it is seen; or in the window of the one before, which it hides. */
  async open(url, { newWindow = true } = {}) {
    const type = newWindow ? "window" : "tab";
    const { handle } = await this.send(this.#first, "POST", "/window/new", { type });
    const tab = new Tab(this, handle);
    await tab.go(url);
    return tab;
  }

  /** Commands go to the tab that was chosen last: so there must be one at a time. */
  send(handle, method, path, body) {
    return this.#next(async () => {
      if (this.#handle !== handle) await this.#ask("POST", "/window", { handle });
      this.#handle = handle;
      return this.#ask(method, path, body);
    });
  }

  /** Of all processes of this browser's pages, the one that has a worker. */
  async processWithWorker() {
    for (const pid of await readdir("/proc")) {
      const read = (file) => readFile(`/proc/${pid}/${file}`, "utf8").catch(() => "");
      if (!(await read("cmdline")).includes("WebKitWebProcess") || !(await read("environ")).includes(this.#home))
        continue;
      for (const task of await readdir(`/proc/${pid}/task`))
        if ((await read(`task/${task}/comm`)) === "WebCore: Worker\n") return Number(pid);
    }
  }

  async close() {
    await this.#next(() => this.#ask("DELETE", "")).catch(() => {});
    for (const child of this.#children) await stop(child);
    await rm(this.#home, { recursive: true, force: true, maxRetries: 5 });
  }

  #next(act) {
    const done = this.#last.then(act);
    this.#last = done.catch(() => {});
    return done;
  }

  async #ask(method, path, body) {
    const answer = await fetch(this.#address + path, { method, body: body && JSON.stringify(body) });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${path}: ${value.error}: ${value.message}`);
    return value;
  }
}

class Tab extends BrowserTab {
  #browser;
  #handle;
  #isClosed = false;

  constructor(browser, handle) {
    super();
    this.#browser = browser;
    this.#handle = handle;
  }

  #send(method, path, body = {}) {
    return this.#browser.send(this.#handle, method, path, method === "POST" ? body : undefined);
  }

  /** Goes there and waits until it is loaded. */
  async go(url) {
    await this.#send("POST", "/url", { url });
  }

  async back() {
    await this.#send("POST", "/back");
  }

  /** What the expression is in the page, as JSON; promises are waited for. */
  evaluate(expression) {
    return this.#send("POST", "/execute/sync", { script: `return (${expression})`, args: [] });
  }

  async press(key, options) {
    await this.#send("POST", "/actions", { actions: press(key, options) });
  }

  /** Its process stands still, as that of a frozen tab does; but nobody tells the page. Answers with how it goes on. */
  async freeze() {
    // Which process it is nobody says; so it gets a mark that can be seen from outside.
    await this.evaluate("void (window.mark = new Worker('data:text/javascript,'))");
    const pid = await eventually(() => this.#browser.processWithWorker(), { what: "the process of the page" });
    await this.evaluate("mark.terminate()");
    process.kill(pid, "SIGSTOP");
    return () => process.kill(pid, "SIGCONT");
  }

  /** Once is enough: a case closes what it opened, and what it left is closed after it. */
  async close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#send("DELETE", "/window");
  }
}
