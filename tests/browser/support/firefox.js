/**
 * A real Firefox, driven by WebDriver BiDi, which it speaks itself: there is no driver between. Each tab has a process of
 * its own, which can be killed, or made to stand still without the page being told.
 */

import { Devtools, launch } from "./devtools.js";
import { press } from "./keys.js";
import { BrowserTab } from "./tab.js";

const FLAGS = ["--headless", "--no-remote", "--remote-debugging-port=0", "--remote-allow-system-access"];

/** Else tabs of one site share a few processes, and with one tab others would be gone too. */
const PREFERENCES = 'user_pref("dom.ipc.processCount.webIsolated", 100);';

/** Runs in the browser itself: the process of a tab. */
const PROCESS_OF = `(context) => {
  const { NavigableManager } = ChromeUtils.importESModule("chrome://remote/content/shared/NavigableManager.sys.mjs");
  return NavigableManager.getBrowsingContextById(context).currentWindowGlobal.osPid;
}`;

export class Firefox extends Devtools {
  static survivesCrashes = true;
  /** A page that holds a lock, or waits for one, does not get into Firefox's back/forward cache. */
  static keepsPagesWithLocks = false;

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

  /** Opens a tab: with a window of its own, so that it is seen; or in the window of the one before, which it hides. */
  async open(url, { newWindow = true } = {}) {
    const { context } = await this.send("browsingContext.create", { type: newWindow ? "window" : "tab" });
    const tab = new Tab(this, context);
    await tab.go(url);
    return tab;
  }

  async processOf(context) {
    const { contexts } = await this.send("browsingContext.getTree", { "moz:scope": "chrome", maxDepth: 0 });
    const { result } = await this.send("script.callFunction", {
      functionDeclaration: PROCESS_OF,
      arguments: [{ type: "string", value: context }],
      target: { context: contexts[0].context },
      awaitPromise: false,
    });
    return result.value;
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

  async back() {
    await this.#send("browsingContext.traverseHistory", { delta: -1 });
  }

  /** Shows it in its window, and hides the one that was shown. */
  async show() {
    await this.#send("browsingContext.activate");
  }

  /** What the expression is in the page, as JSON; promises are waited for. */
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.#browser.send("script.evaluate", {
      expression: `(async () => JSON.stringify(await (${expression})))()`,
      target: { context: this.#context },
      awaitPromise: true,
      userActivation: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    return result.value === undefined ? undefined : JSON.parse(result.value);
  }

  async press(key, options) {
    await this.#send("input.performActions", { actions: press(key, options) });
  }

  /** Its process stands still, as that of a frozen tab does; but nobody tells the page. Answers with how it goes on. */
  async freeze() {
    const pid = await this.#browser.processOf(this.#context);
    process.kill(pid, "SIGSTOP");
    return () => process.kill(pid, "SIGCONT");
  }

  async crash() {
    process.kill(await this.#browser.processOf(this.#context), "SIGKILL");
  }

  /** Once is enough: a case closes what it opened, and what it left is closed after it. */
  async close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#send("browsingContext.close");
  }
}
