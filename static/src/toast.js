/**
 * What the reader sees: one element at the edge of the page, with a toast for each notification, or for several that
 * come in the same moment. `client.js` decides what is shown; nothing here touches the network or the storage.
 *
 * All text goes in as text, all URLs by way of `links.js`, and the style as a constructed sheet: it works, and stays
 * harmless, under any content security policy.
 *
 * The status region that screen readers read from is in the document before there is anything to read, and has no
 * buttons in it. Focus is never taken; where it was in a toast that goes, it returns to where it came from.
 *
 * @typedef {import("./protocol.js").Notification} Notification
 * @typedef {import("./protocol.js").Video} Video
 */

import { image, link, regionLink } from "./links.js";
import { style } from "./style.js";
import { Text } from "./text.js";

export const ELEMENT = "video-notifier-toasts";

/** Notifications this close together become one toast. */
const GROUP_MS = 250;

const MAX_TOASTS = 3;

/** How many videos, or regions, a toast lists. */
const MAX_ITEMS = 3;

/** How long a toast stands while nothing holds it. */
export const LIFE_MS = 10_000;

/**
 * @typedef {object} Toast
 * @property {HTMLElement} element
 * @property {Element} content
 * @property {Notification[]} notifications
 * @property {number} startedAt when the first of them came
 * @property {number} leftMs how long it will stand
 * @property {number} resumedAt since when its time runs
 * @property {any} timer null while it is held
 */

export class Toasts {
  /** @type {Document} */
  #document;
  /** @type {string | undefined} */
  #linkTemplate;
  /** @type {Text} */
  #text;
  #lifeMs;
  #host;
  #live;
  #stack;
  /** Oldest first. @type {Toast[]} */
  #toasts = [];
  /** Each keeps all toasts from going. @type {Set<"hover" | "focus" | "hidden">} */
  #holds = new Set();
  /** Where focus was before it came into a toast. @type {HTMLElement | null} */
  #cameFrom = null;
  /** Takes away every listener outside the element. */
  #end = new AbortController();

  /**
   * @param {Document} document
   * @param {{ link?: string | undefined, languages: readonly string[], lifeMs?: number | undefined }} options
   */
  constructor(document, { link, languages, lifeMs = LIFE_MS }) {
    this.#document = document;
    this.#linkTemplate = link;
    this.#text = new Text(languages);
    this.#lifeMs = lifeMs;

    this.#host = document.createElement(ELEMENT);
    const root = this.#host.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(style);
    root.adoptedStyleSheets = [sheet];
    this.#live = this.#make("div", { class: "live", role: "status", "aria-atomic": "true", lang: this.#text.lang });
    this.#stack = this.#make("section", {
      class: "stack",
      part: "stack",
      "aria-label": this.#text.label,
      lang: this.#text.lang,
    });
    this.#stack.hidden = true;
    const frame = this.#make("div", { class: "frame" });
    frame.append(this.#live, this.#stack);
    root.append(frame);
    this.#attach();
    this.#listen();
  }

  /** @param {Notification} notification */
  show(notification) {
    this.#attach();
    const now = Date.now();
    const last = this.#toasts.at(-1);
    if (last && Math.abs(now - last.startedAt) < GROUP_MS) {
      last.notifications.push(notification);
      this.#fill(last);
      return;
    }
    const toast = this.#build(notification, now);
    this.#stack.hidden = false;
    this.#stack.append(toast.element);
    this.#toasts.push(toast);
    this.#fill(toast);
    this.#run(toast);
    if (this.#toasts.length <= MAX_TOASTS) return;
    // One has to go, but not from under the hands of who is reading it.
    const focused = this.#focused();
    this.#dismiss(/** @type {Toast} */ (this.#toasts.find((each) => each !== focused)));
  }

  clear() {
    for (const toast of [...this.#toasts]) this.#dismiss(toast);
  }

  close() {
    this.#end.abort();
    this.clear();
    this.#host.remove();
  }

  /** Frameworks that swap the page's body take the element with them. */
  #attach() {
    if (!this.#host.isConnected) (this.#document.body ?? this.#document.documentElement).append(this.#host);
  }

  #listen() {
    const { signal } = this.#end;
    const stack = this.#stack;
    stack.addEventListener("pointerenter", () => this.#hold("hover"));
    stack.addEventListener("pointerleave", () => this.#release("hover"));
    stack.addEventListener("focusin", ({ relatedTarget }) => {
      if (!this.#holds.has("focus")) this.#cameFrom = relatedTarget instanceof HTMLElement ? relatedTarget : null;
      this.#hold("focus");
    });
    stack.addEventListener("focusout", ({ relatedTarget }) => {
      if (!(relatedTarget instanceof Node && stack.contains(relatedTarget))) this.#release("focus");
    });
    const visibility = () => (this.#document.hidden ? this.#hold("hidden") : this.#release("hidden"));
    this.#document.addEventListener("visibilitychange", visibility, { signal });
    visibility();
    this.#document.addEventListener(
      "keydown",
      (event) => {
        if (event.key !== "Escape" || event.defaultPrevented) return;
        const toast = this.#focused() ?? this.#toasts.at(-1);
        if (toast) this.#dismiss(toast);
      },
      { signal },
    );
  }

  /** @param {Notification} notification @param {number} now @returns {Toast} */
  #build(notification, now) {
    const element = this.#make("article", { class: "vw-toast", part: "toast" });
    const content = this.#make("div", { class: "content", part: "content" });
    const close = this.#make("button", { type: "button", part: "close", "aria-label": this.#text.close }, "×");
    element.append(content, close);
    const toast = {
      element,
      content,
      notifications: [notification],
      startedAt: now,
      leftMs: this.#lifeMs,
      resumedAt: now,
      timer: null,
    };
    close.addEventListener("click", () => this.#dismiss(toast));
    return toast;
  }

  /** @param {Toast} toast */
  #fill({ content, notifications }) {
    /** @type {Map<string, Notification[]>} */
    const regions = new Map();
    for (const each of notifications) regions.set(each.region, [...(regions.get(each.region) ?? []), each]);
    const headline = this.#text.headline(count(notifications), [...regions.keys()]);
    const title = this.#make("h2", { part: "title" });
    content.replaceChildren(title);

    const [region, second] = regions.keys();
    if (region === undefined || second !== undefined) {
      title.textContent = headline;
      const lines = [...regions].map(([name, of]) =>
        this.#line(null, this.#text.headline(count(of), [name]), this.#regionLink(name)),
      );
      content.append(...this.#list(lines, lines.length));
    } else {
      title.append(this.#anchor(this.#regionLink(region), headline));
      const videos = notifications.flatMap((each) => each.videos);
      const lines = videos.slice(0, MAX_ITEMS).map((video) => this.#video(video));
      content.append(...this.#list(lines, count(notifications)));
    }
    // Once, whole, and without the names of links: what a screen reader says at a bad moment must be short.
    this.#live.textContent = headline;
  }

  /** @param {Element[]} lines @param {number} total @returns {Element[]} */
  #list(lines, total) {
    if (lines.length === 0) return [];
    const shown = lines.slice(0, MAX_ITEMS);
    const list = this.#make("ul", { part: "list", role: "list" });
    list.append(...shown);
    if (total === shown.length) return [list];
    return [list, this.#make("p", { class: "more", part: "more" }, this.#text.more(total - shown.length))];
  }

  /** @param {Video} video */
  #video({ title, url, thumb }) {
    const base = this.#document.location.href;
    return this.#line(image(thumb, base), title, link(url, base));
  }

  /** @param {string | null} picture @param {string} text @param {string | null} url */
  #line(picture, text, url) {
    const line = this.#make("li", { part: "item" });
    if (picture) {
      const img = this.#make("img", { part: "thumb", alt: "", referrerpolicy: "no-referrer", decoding: "async" });
      img.addEventListener("error", () => img.remove());
      img.setAttribute("src", picture);
      line.append(img);
    }
    const title = this.#make("span", { class: "title", dir: "auto" });
    title.append(this.#anchor(url, text));
    line.append(title);
    return line;
  }

  /** @param {string | null} url @param {string} text */
  #anchor(url, text) {
    return url ? this.#make("a", { href: url, part: "link" }, text) : text;
  }

  /** @param {string} region */
  #regionLink(region) {
    return regionLink(this.#linkTemplate, region, this.#document.location.href);
  }

  /** @param {Toast} toast */
  #dismiss(toast) {
    const index = this.#toasts.indexOf(toast);
    if (index < 0) return;
    this.#pause(toast);
    const hadFocus = this.#focused() === toast;
    this.#toasts.splice(index, 1);
    toast.element.remove();
    // An element that is taken away gets no event of leaving it.
    if (hadFocus) {
      this.#release("focus");
      this.#cameFrom?.focus({ preventScroll: true });
    }
    if (this.#toasts.length > 0) return;
    this.#stack.hidden = true;
    this.#live.textContent = "";
    this.#release("hover");
  }

  /** The toast that has the focus. */
  #focused() {
    const active = this.#host.shadowRoot?.activeElement ?? null;
    return active && this.#toasts.find(({ element }) => element.contains(active));
  }

  /** @param {"hover" | "focus" | "hidden"} reason */
  #hold(reason) {
    this.#holds.add(reason);
    for (const toast of this.#toasts) this.#pause(toast);
  }

  /** @param {"hover" | "focus" | "hidden"} reason */
  #release(reason) {
    if (this.#holds.delete(reason)) for (const toast of this.#toasts) this.#run(toast);
  }

  /** @param {Toast} toast */
  #run(toast) {
    if (this.#holds.size > 0 || toast.timer !== null) return;
    toast.resumedAt = Date.now();
    toast.timer = setTimeout(() => this.#dismiss(toast), toast.leftMs);
  }

  /** @param {Toast} toast */
  #pause(toast) {
    if (toast.timer === null) return;
    clearTimeout(toast.timer);
    toast.timer = null;
    toast.leftMs = Math.max(0, toast.leftMs - (Date.now() - toast.resumedAt));
  }

  /**
   * @param {string} name
   * @param {Record<string, string>} attributes
   * @param {string} [text]
   */
  #make(name, attributes, text = "") {
    const element = this.#document.createElement(name);
    for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
    element.textContent = text;
    return element;
  }
}

/** @param {Notification[]} notifications */
function count(notifications) {
  return notifications.reduce((sum, each) => sum + each.count, 0);
}
