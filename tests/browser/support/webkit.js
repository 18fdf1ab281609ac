/**
 * A real WebKit: WebKitGTK's MiniBrowser, on a display of its own, driven by WebDriver. Each tab has a process of its own,
 * which can be made to stand still without the page being told.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { click, move, press } from "./input.js";
import { freePort } from "./server.js";
import { BrowserTab } from "./tab.js";
import { eventually, stop } from "./wait.js";

/** What a reader prefers, in the settings of GTK. */
const MEDIA = {
  "prefers-color-scheme": { dark: "gtk-theme-name=Adwaita-dark", light: "gtk-theme-name=Adwaita" },
  "prefers-reduced-motion": { reduce: "gtk-enable-animations=0" },
};

export class WebKit {
  static lacks = {
    freeze: "no command freezes a page and tells it",
    crash: "WebKitWebDriver ends the session with any page that crashes",
    show: "WebKitWebDriver can't show a tab that another one hides",
    "forced colours": "WebKitGTK knows of no forced colours",
    "dark forced colours": "WebKitGTK knows of no forced colours",
  };

  static throttling = { flags: [], heldMs: 900 };

  static async start() {
    const webkit = new WebKit();
    await webkit.#launch("");
    return webkit;
  }

  #children = [];
  #home;
  #address;
  /** The tab that it started with, which stays. */
  #first;
  /** Where commands go to. */
  #handle;
  /** Settles when the last command has been answered. */
  #last = Promise.resolve();
  #tabs = [];
  /** Those of GTK that it was started with. */
  #settings;

  async #launch(settings) {
    this.#settings = settings;
    this.#home = await mkdtemp(join(tmpdir(), "video-notifier-webkit-"));
    await mkdir(join(this.#home, ".config/gtk-3.0"), { recursive: true });
    await writeFile(join(this.#home, ".config/gtk-3.0/settings.ini"), `[Settings]\n${settings}\n`);
    const display = spawn("Xvfb", ["-displayfd", "3", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"], {
      stdio: ["ignore", "ignore", "ignore", "pipe"],
    });
    const [number] = await once(display.stdio[3], "data");
    const port = await freePort();
    const driver = spawn("WebKitWebDriver", [`--port=${port}`], {
      env: { ...process.env, DISPLAY: `:${String(number).trim()}`, HOME: this.#home, XDG_CONFIG_HOME: "" },
      stdio: "ignore",
    });
    this.#children = [driver, display];
    this.#address = `http://127.0.0.1:${port}`;
    await eventually(() => this.#ask("GET", "/status"), { what: "WebKitWebDriver is ready" });
    const { sessionId } = await this.#ask("POST", "/session", { capabilities: {} });
    this.#address += `/session/${sessionId}`;
    this.#handle = this.#first = await this.#ask("GET", "/window");
  }

  /** Pages see these media features. It takes them only when it starts. @param {Record<string, string>} media */
  async prefer(media) {
    const settings = Object.entries(media).map(([feature, value]) => MEDIA[feature]?.[value] ?? "");
    if (settings.join("\n") === this.#settings) return;
    await this.closeTabs();
    await this.close();
    await this.#launch(settings.join("\n"));
  }

  /** Opens a tab: with a window of its own, so that it is seen; or in the window of the one before, which it hides. */
  async open(url, { newWindow = true } = {}) {
    const type = newWindow ? "window" : "tab";
    const { handle } = await this.send(this.#first, "POST", "/window/new", { type });
    const tab = new Tab(this, handle);
    this.#tabs.push(tab);
    if (url) await tab.go(url);
    return tab;
  }

  /** Closes all tabs that it has opened. */
  async closeTabs() {
    for (const tab of this.#tabs.splice(0)) await tab.close();
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

  async reload() {
    await this.#send("POST", "/refresh");
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

  async moveMouse(x, y) {
    await this.#send("POST", "/actions", { actions: move(x, y) });
  }

  async click(x, y) {
    await this.#send("POST", "/actions", { actions: click(x, y) });
  }

  /** What a screen reader is given of each element that is rendered, in order. */
  async accessibilityTree() {
    const list = `
      const all = (root) => [...root.querySelectorAll("*")].flatMap((each) =>
        each.shadowRoot ? all(each.shadowRoot) : each.checkVisibility() ? each : []);
      return all(document.body);`;
    const nodes = [];
    for (const element of await this.#send("POST", "/execute/sync", { script: list, args: [] })) {
      const [path] = Object.values(element).map((id) => `/element/${id}`);
      const role = await this.#send("GET", `${path}/computedrole`);
      nodes.push({ role, name: await this.#send("GET", `${path}/computedlabel`) });
    }
    return nodes;
  }

  /** Its process stands still, as that of a frozen tab does; but nobody tells the page. Answers with how it goes on. */
  async stall() {
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
