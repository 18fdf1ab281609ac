/**
 * A real Chromium, driven by its own protocol (CDP) and nothing between: tabs are as hidden, frozen and throttled as
 * a reader's are. One browser a test file; it and its profile go when `close` is called.
 */

import { Devtools, launch } from "./devtools.js";
import { BrowserTab } from "./tab.js";
import { eventually } from "./wait.js";

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--remote-debugging-port=0",
];

export class Chromium extends Devtools {
  static lacks = {};
  /** What holds back timers of hidden tabs, which else begins after five minutes; and for how long it does at least. */
  static throttling = { flags: ["--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/5"], heldMs: 15_000 };

  /** @param {...string} flags beside the usual ones */
  static async start(...flags) {
    return new Chromium(
      await launch({
        binary: process.env.CHROMIUM_BIN ?? "chromium",
        flags: (profile) => [...FLAGS, ...flags, `--user-data-dir=${profile}`],
      }),
    );
  }

  /** Tabs by session. */
  #tabs = new Map();
  /** Media features as pages see them. */
  #features = [];

  /**
   * Opens a tab: with a window of its own, so that it is visible whatever other tabs there are; or in the window of the
   * one before, which it hides.
   */
  async open(url, { context, before, newWindow = true, width = 1000, height = 700 } = {}) {
    const { targetId } = await this.send("Target.createTarget", {
      url: "about:blank",
      newWindow,
      browserContextId: context,
      ...(newWindow && { width, height }),
    });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const tab = new Tab(this, targetId, sessionId);
    this.#tabs.set(sessionId, tab);
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await tab.send(`${domain}.enable`);
    await tab.send("Emulation.setEmulatedMedia", { features: this.#features });
    if (before) await tab.send("Page.addScriptToEvaluateOnNewDocument", { source: before });
    if (url) await tab.go(url);
    return tab;
  }

  /** Pages that are opened from now on see these media features. @param {Record<string, string>} media */
  async prefer(media) {
    this.#features = Object.entries(media).map(([name, value]) => ({ name, value }));
  }

  /** Closes all tabs that it has opened. */
  async closeTabs() {
    for (const tab of this.#tabs.values()) await tab.close();
    this.#tabs.clear();
  }

  /** A storage of its own, as in a private window. */
  async context() {
    return (await this.send("Target.createBrowserContext", { disposeOnDetach: true })).browserContextId;
  }

  event({ method, params, sessionId }) {
    this.#tabs.get(sessionId)?.receive(method, params);
  }
}

class Tab extends BrowserTab {
  #browser;
  #target;
  #session;
  /** What the console and the browser's log said, in order. */
  console = [];
  /** Errors that nobody caught. */
  errors = [];
  /** Addresses of all WebSockets it has opened, in order. */
  sockets = [];
  #loads = 0;
  #isClosed = false;

  constructor(browser, target, session) {
    super();
    this.#browser = browser;
    this.#target = target;
    this.#session = session;
  }

  send(method, params) {
    return this.#browser.send(method, params, this.#session);
  }

  /** Goes there and waits until it is loaded. */
  async go(url) {
    await this.#loaded(() => this.send("Page.navigate", { url }));
  }

  async reload() {
    await this.#loaded(() => this.send("Page.reload"));
  }

  async back() {
    const { currentIndex, entries } = await this.send("Page.getNavigationHistory");
    const { id } = entries[currentIndex - 1];
    await this.send("Page.navigateToHistoryEntry", { entryId: id });
  }

  /** Shows it in its window, and hides the one that was shown. */
  async show() {
    await this.send("Page.bringToFront");
  }

  /** Ends its renderer, as a crash does. The answer never comes. */
  crash() {
    this.#isClosed = true;
    this.send("Page.crash").catch(() => {});
  }

  /** Cuts it off, as a tunnel does: what is open stays so, and nothing comes or goes. */
  async goOffline(offline = true) {
    const conditions = { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 };
    await this.send("Network.emulateNetworkConditions", conditions);
  }

  async freeze() {
    await this.send("Page.setWebLifecycleState", { state: "frozen" });
  }

  /** Is frozen, and the page is not told. Answers with how it goes on. */
  async stall() {
    await this.call(() => {
      for (const type of ["freeze", "resume"])
        addEventListener(type, (event) => event.stopImmediatePropagation(), true);
    });
    await this.freeze();
    return () => this.resume();
  }

  async resume() {
    await this.send("Page.setWebLifecycleState", { state: "active" });
  }

  /** What the expression is in the page, as JSON; promises are waited for. */
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
      userGesture: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  async press(key, { shift = false } = {}) {
    const event = {
      key,
      code: key,
      windowsVirtualKeyCode: { Tab: 9, Escape: 27, Enter: 13 }[key],
      modifiers: shift ? 8 : 0,
    };
    await this.send("Input.dispatchKeyEvent", {
      type: key === "Enter" ? "keyDown" : "rawKeyDown",
      text: key === "Enter" ? "\r" : undefined,
      ...event,
    });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }

  async moveMouse(x, y) {
    await this.send("Input.dispatchMouseEvent", { type: "mouseMoved", x, y });
  }

  async click(x, y) {
    for (const type of ["mousePressed", "mouseReleased"])
      await this.send("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 });
  }

  /** What a screen reader is given, in order. @returns {Promise<{ role: string, name: string }[]>} */
  async accessibilityTree() {
    const { nodes } = await this.send("Accessibility.getFullAXTree");
    return nodes
      .filter(({ ignored }) => !ignored)
      .map(({ role, name }) => ({ role: role.value, name: name?.value ?? "" }));
  }

  async screenshot(clip) {
    const { data } = await this.send("Page.captureScreenshot", { format: "png", clip });
    return Buffer.from(data, "base64");
  }

  /** Once is enough: a case that fails before it opens a tab leaves the one of the case before it to be closed. */
  async close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#browser.send("Target.closeTarget", { targetId: this.#target });
  }

  receive(method, params) {
    if (method === "Page.loadEventFired") this.#loads++;
    if (method === "Network.webSocketCreated") this.sockets.push(params.url);
    if (method === "Runtime.exceptionThrown") this.errors.push(params.exceptionDetails.exception?.description);
    if (method === "Runtime.consoleAPICalled") this.console.push(params.args.map(({ value }) => value).join(" "));
    if (method === "Log.entryAdded") this.console.push(params.entry.text);
  }

  async #loaded(act) {
    const loads = this.#loads;
    await act();
    await eventually(() => this.#loads > loads, { what: "the page is loaded" });
  }
}
