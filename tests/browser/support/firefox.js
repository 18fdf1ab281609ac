/**
 * A real Firefox, driven by WebDriver BiDi, which it speaks itself: there is no driver between. Each tab has a process of
 * its own, which can be killed, or made to stand still without the page being told.
 */

import { Devtools, launch } from "./devtools.js";
import { click, move, press } from "./input.js";
import { BrowserTab } from "./tab.js";
import { eventually } from "./wait.js";

const FLAGS = ["--headless", "--no-remote", "--remote-debugging-port=0", "--remote-allow-system-access"];

/** Else tabs of one site share a few processes, and with one tab others would be gone too. */
const PREFERENCES = 'user_pref("dom.ipc.processCount.webIsolated", 100);';

/** The preferences behind what a reader prefers: where each is, and its number for a value. */
const MEDIA = {
  "prefers-color-scheme": ["layout.css.prefers-color-scheme.content-override", { dark: 0, light: 1 }],
  "prefers-reduced-motion": ["ui.prefersReducedMotion", { reduce: 1 }],
  "forced-colors": ["browser.display.document_color_use", { active: 2 }],
};

/** Roles that have names of their own here. */
const ROLES = { pushbutton: "button", statusbar: "status" };

export class Firefox extends Devtools {
  static lacks = {
    freeze: "no command freezes a page and tells it",
    "dark forced colours": "forced colours are light, whatever else is preferred",
    cache: "a page with an open WebSocket or a lock is not kept for back and forward",
  };

  static throttling = { flags: [], heldMs: 900 };

  static async start() {
    const launched = await launch({
      binary: process.env.FIREFOX_BIN ?? "firefox-esr",
      flags: (profile) => [...FLAGS, "--profile", profile],
      files: { "user.js": PREFERENCES },
      path: "/session",
    });
    const firefox = new Firefox(launched);
    await firefox.send("session.new", { capabilities: {} });
    return firefox;
  }

  #tabs = [];

  /** Opens a tab: with a window of its own, so that it is seen; or in the window of the one before, which it hides. */
  async open(url, { newWindow = true } = {}) {
    const { context } = await this.send("browsingContext.create", { type: newWindow ? "window" : "tab" });
    const tab = new Tab(this, context);
    this.#tabs.push(tab);
    if (url) await tab.go(url);
    return tab;
  }

  /** Closes all tabs that it has opened. */
  async closeTabs() {
    for (const tab of this.#tabs.splice(0)) await tab.close();
  }

  /** Pages see these media features. @param {Record<string, string>} media */
  async prefer(media) {
    for (const [feature, [preference, numbers]] of Object.entries(MEDIA)) {
      const number = numbers[media[feature]];
      const set = number === undefined ? "clearUserPref" : "setIntPref";
      await this.inBrowser(`void Services.prefs.${set}("${preference}", ${number})`);
    }
  }

  /** What the expression is in the browser itself, not in a page. */
  async inBrowser(expression) {
    const { contexts } = await this.send("browsingContext.getTree", { "moz:scope": "chrome", maxDepth: 0 });
    return this.evaluate(contexts[0].context, expression);
  }

  /** What the expression is there, as JSON; promises are waited for. */
  async evaluate(context, expression) {
    const { result, exceptionDetails } = await this.send("script.evaluate", {
      expression: `(async () => JSON.stringify(await (${expression})))()`,
      target: { context },
      awaitPromise: true,
      userActivation: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    return result.value === undefined ? undefined : JSON.parse(result.value);
  }
}

class Tab extends BrowserTab {
  #browser;
  #context;
  #isClosed = false;

  constructor(browser, context) {
    super();
    this.#browser = browser;
    this.#context = context;
  }

  #send(method, params) {
    return this.#browser.send(method, { context: this.#context, ...params });
  }

  /** Goes there and waits until it is loaded. */
  async go(url) {
    await this.#send("browsingContext.navigate", { url, wait: "complete" });
  }

  async reload() {
    await this.#send("browsingContext.reload", { wait: "complete" });
  }

  async back() {
    await this.#send("browsingContext.traverseHistory", { delta: -1 });
  }

  /** Shows it in its window, and hides the one that was shown. */
  async show() {
    await this.#send("browsingContext.activate");
  }

  evaluate(expression) {
    return this.#browser.evaluate(this.#context, expression);
  }

  async press(key, options) {
    await this.#send("input.performActions", { actions: press(key, options) });
  }

  async moveMouse(x, y) {
    await this.#send("input.performActions", { actions: move(x, y) });
  }

  async click(x, y) {
    await this.#send("input.performActions", { actions: click(x, y) });
  }

  async goOffline(offline = true) {
    const networkConditions = offline ? { type: "offline" } : null;
    await this.#browser.send("emulation.setNetworkConditions", { contexts: [this.#context], networkConditions });
  }

  /** What a screen reader is given, in order. @returns {Promise<{ role: string, name: string }[]>} */
  async accessibilityTree() {
    const read = ({ embedderElement }) => {
      const service = Cc["@mozilla.org/accessibilityService;1"].getService(Ci.nsIAccessibilityService);
      const nodes = [];
      const walk = (node) => {
        nodes.push({ role: service.getStringRole(node.role), name: node.name ?? "" });
        for (let child = node.firstChild; child; child = child.nextSibling) walk(child);
      };
      const frame = service.getAccessibleFor(embedderElement);
      if (frame?.firstChild) walk(frame.firstChild);
      return nodes;
    };
    // It is made when somebody asks for it, and a moment after what it tells of.
    let last;
    const nodes = await eventually(async () => {
      const nodes = await this.#inBrowser(read);
      const isSettled = nodes.length > 0 && JSON.stringify(nodes) === last;
      last = JSON.stringify(nodes);
      return isSettled && nodes;
    });
    return nodes.map(({ role, name }) => ({ role: ROLES[role] ?? role, name }));
  }

  /** Its process stands still, as that of a frozen tab does; but nobody tells the page. Answers with how it goes on. */
  async stall() {
    const pid = await this.#process();
    process.kill(pid, "SIGSTOP");
    return () => process.kill(pid, "SIGCONT");
  }

  async crash() {
    process.kill(await this.#process(), "SIGKILL");
  }

  /** Once is enough: a case closes what it opened, and what it left is closed after it. */
  async close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#send("browsingContext.close");
  }

  #process() {
    return this.#inBrowser(({ currentWindowGlobal }) => currentWindowGlobal.osPid);
  }

  /** Calls a function in the browser itself, with what it has of this tab. */
  #inBrowser(fn) {
    const manager =
      'ChromeUtils.importESModule("chrome://remote/content/shared/NavigableManager.sys.mjs").NavigableManager';
    return this.#browser.inBrowser(`(${fn})(${manager}.getBrowsingContextById("${this.#context}"))`);
  }
}
