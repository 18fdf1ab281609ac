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
 *
 * @typedef {object} Toast
 * @property {HTMLElement} element
 * @property {Element} content
 * @property {Notification[]} notifications
 * @property {number} startedAt when the first of them came
 * @property {number} age of the last of them, in milliseconds
 * @property {any} [timer]
 */

import { image, link, regionLink } from "./links.js";
import { style } from "./style.js";
import { text as textIn } from "./text.js";

export const ELEMENT = "video-notifier-toasts";

/** Notifications this close together become one toast. */
const GROUP_MS = 250;

const MAX_TOASTS = 3;

/** How many videos, or regions, a toast lists. */
const MAX_ITEMS = 3;

/** How long a toast stands, without the time that something holds it. */
export const LIFE_MS = 10_000;

/** How often it is looked whether time passes for one. */
const STEP_MS = 500;

/**
 * @param {Document} document
 * @param {readonly (string | undefined)[]} languages the best first
 * @param {string} [template] of links
 * @param {number} [lifeMs]
 * @returns {import("./client.js").Toasts}
 */
export function toasts(document, languages, template, lifeMs = LIFE_MS) {
  const text = textIn(languages);
  const base = document.location.href;
  /** Oldest first. @type {Toast[]} */
  let standing = [];
  /** What the pointer is over; what is taken away from under it gets no event of that. @type {Node | null} */
  let pointedAt;
  /** Where focus was before it came into a toast. @type {HTMLElement | null} */
  let cameFrom;
  /** Takes away every listener outside the element. */
  const end = new AbortController();

  const host = document.createElement(ELEMENT);
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(style);
  root.adoptedStyleSheets = [sheet];
  const live = make("div", "live", { role: "status" });
  const stack = make("section", "stack", { "aria-label": text.label });
  root.append(make("div", "frame", { lang: text.lang }, live, stack));
  attach();

  // Not `:hover`, which a finger leaves behind.
  on(stack, "pointerover", (event) => (pointedAt = event.target));
  on(stack, "pointerleave", () => (pointedAt = null));
  on(stack, "focusin", ({ relatedTarget }) => {
    if (!stack.contains(relatedTarget)) cameFrom = relatedTarget;
  });
  on(document, "keydown", (event) => {
    if (event.defaultPrevented || event.key !== "Escape") return;
    const toast = focused() ?? standing.at(-1);
    if (toast) dismiss(toast);
  });

  return {
    show(notification, age) {
      attach();
      const now = performance.now();
      const last = standing.at(-1);
      if (last && now - last.startedAt < GROUP_MS) {
        last.notifications.push(notification);
        last.age = age;
        fill(last);
        return;
      }
      const content = make("div", "content");
      const close = make("button", "close", { "aria-label": text.close }, "×");
      const element = make("article", "vw-toast", {}, content, close);
      const toast = { element, content, notifications: [notification], startedAt: now, age };
      close.onclick = () => dismiss(toast);
      stack.append(element);
      standing.push(toast);
      fill(toast);
      run(toast, lifeMs);
      if (standing.length <= MAX_TOASTS) return;
      // One has to go, but not from under the hands of who is reading it.
      const reading = focused();
      dismiss(/** @type {Toast} */ (standing.find((each) => each !== reading)));
    },
    clear,
    close() {
      end.abort();
      clear();
      host.remove();
    },
  };

  function clear() {
    standing.forEach(dismiss);
  }

  /** Frameworks that swap the page's body take the element with them. */
  function attach() {
    if (!host.isConnected) (document.body ?? document.documentElement).append(host);
  }

  /** @param {EventTarget} target @param {string} type @param {(event: any) => void} listener */
  function on(target, type, listener) {
    // Of a controller's properties these options are one: its signal.
    target.addEventListener(type, listener, end);
  }

  /** @param {Toast} toast */
  function fill({ content, notifications, age }) {
    const regions = [...new Set(notifications.map(({ region }) => region))];
    const headline = text.headline(count(notifications), regions);
    const several = regions.length > 1;
    const lines = several
      ? regions.map((name) => {
          const of = notifications.filter(({ region }) => region === name);
          return line(null, text.headline(count(of), [name]), pageOf(name));
        })
      : notifications
          .flatMap(({ videos }) => videos)
          .map(({ title, url, thumb }) => line(image(thumb, base), title, link(url, base)));
    const shown = lines.slice(0, MAX_ITEMS);
    const page = several ? null : pageOf(/** @type {string} */ (regions[0]));
    content.replaceChildren(make("h2", "headline", { dir: "auto" }, anchor(page, headline)));
    if (shown.length) {
      content.append(make("ul", "list", { role: "list" }, ...shown));
      const more = (several ? lines.length : count(notifications)) - shown.length;
      if (more > 0) content.append(make("p", "more", { dir: "auto" }, text.more(more)));
    }
    content.append(make("p", "time", { dir: "auto" }, text.ago(age)));
    // Once, whole, and without the names of links: what a screen reader says at a bad moment must be short.
    // A new text even where it says the same: no change would not be read.
    live.replaceChildren(headline);
  }

  /** @param {string | null} picture @param {string} title @param {string | null} url */
  function line(picture, title, url) {
    const line = make("li", "item", {}, make("span", "title", { lang: "", dir: "auto" }, anchor(url, title)));
    if (picture) {
      const thumb = make("img", "thumb", { alt: "", referrerpolicy: "no-referrer", src: picture });
      thumb.onerror = () => thumb.remove();
      line.prepend(thumb);
    }
    return line;
  }

  /** @param {string | null} url @param {string} text */
  function anchor(url, text) {
    return url ? make("a", "link", { href: url }, text) : text;
  }

  /** @param {string} region */
  function pageOf(region) {
    return regionLink(template, region, base);
  }

  /** @param {Toast} toast */
  function dismiss(toast) {
    clearTimeout(toast.timer);
    const hadFocus = focused() === toast;
    standing = standing.filter((each) => each !== toast);
    toast.element.remove();
    if (hadFocus) cameFrom?.focus({ preventScroll: true });
    if (!standing.length) live.replaceChildren();
  }

  /** The toast that has the focus. */
  function focused() {
    return standing.find(({ element }) => element.contains(root.activeElement));
  }

  /** @param {Toast} toast @param {number} leftMs */
  function run(toast, leftMs) {
    const stepMs = Math.min(leftMs, STEP_MS);
    toast.timer = setTimeout(() => {
      if (!isHeld()) leftMs -= stepMs;
      if (leftMs > 0) run(toast, leftMs);
      else dismiss(toast);
    }, stepMs);
  }

  /** No time passes for what nobody can see, nor under a pointer or the focus. */
  function isHeld() {
    return document.hidden || pointedAt?.isConnected || focused();
  }

  /**
   * @param {string} name
   * @param {string} part what the site's style may call it, and ours does
   * @param {Record<string, string>} [attributes]
   * @param {(Node | string)[]} children what is text goes in as text
   */
  function make(name, part, attributes, ...children) {
    const element = document.createElement(name);
    for (const [attribute, value] of Object.entries({ class: part, part, ...attributes }))
      element.setAttribute(attribute, value);
    element.append(...children);
    return element;
  }
}

/** @param {Notification[]} notifications */
function count(notifications) {
  return notifications.reduce((sum, each) => sum + each.count, 0);
}
