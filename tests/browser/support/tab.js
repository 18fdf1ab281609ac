/** What a case asks of a tab, whatever browser it is in. Each browser has a class of its own, which knows how to get there. */

import { eventually } from "./wait.js";

export class BrowserTab {
  /** Calls a function in the page. What it is given must be JSON. */
  call(fn, ...values) {
    return this.evaluate(`(${fn})(...${JSON.stringify(values)})`);
  }

  /** Waits until the expression is true in the page. */
  until(expression, options) {
    return eventually(() => this.evaluate(expression), { what: expression, ...options });
  }

  /** The page is told so; where the browser can do more, it is so. */
  async goOffline(offline = true) {
    await this.evaluate(`void dispatchEvent(new Event("${offline ? "offline" : "online"}"))`);
  }

  /** The texts of the toasts that stand, oldest first, as a reader sees them but for the time: one line an element. */
  toasts() {
    return this.call(() =>
      [
        ...(document.querySelector("video-notifier-toasts")?.shadowRoot.querySelectorAll(".vw-toast .content") ?? []),
      ].map((content) =>
        [...content.querySelectorAll(".headline, .item, .more")].map((line) => line.innerText.trim()).join("\n"),
      ),
    );
  }
}
