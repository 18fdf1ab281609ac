// What a page sees of the script, in Firefox and WebKit: toasts in one window, hostile text, policies, keys, frames, and
// that nothing stays. ../safety.test.js, ../showing.test.js, ../toast.test.js and ../connection.test.js have more of it.
//
// No browser but Chromium gives its accessibility tree, or lets a case choose colours and motion.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { ENGINES } from "../support/engine.js";
import { HOSTILE_TEXTS, HOSTILE_URLS, STRICT, WATCH as TRAP } from "../support/hostile.js";
import { countLeftovers } from "../support/leftovers.js";
import { Server } from "../support/server.js";
import { OPEN, RECORD, WATCH } from "../support/sharing.js";
import { page, publish, Site, say } from "../support/site.js";
import { eventually } from "../support/wait.js";

for (const Engine of ENGINES.slice(1)) describe(Engine.name, () => cases(Engine));

function cases(Engine) {
  const inEngine = (name, run) => test(`${Engine.name}: ${name}`, run);

  let engine;
  let site;
  let opened;
  before(async () => {
    engine = await Engine.start();
  });
  beforeEach(async () => {
    opened = [];
    site = await Site.start();
    site.files["/trap.js"] = TRAP;
    const script = '<script src="/trap.js"></script><script defer src="/notifier.js" data-storage="none"></script>';
    site.pages = {
      "/": page(script, '<input id="field"><button id="after">after</button>'),
      "/strict": [page(script), { "content-security-policy": STRICT }],
    };
  });
  afterEach(async () => {
    for (const tab of opened) await tab.close();
    await site.close();
  });
  after(() => engine?.close());

  async function open(path = "/") {
    const tab = await engine.open(`${site.origin}${path}`);
    opened.push(tab);
    await tab.until(OPEN);
    return tab;
  }

  /** Publishes, and answers with what stands in the one toast that there is then. */
  async function toastOf(tab, fields) {
    await tab.call(() => {
      const { instance } = VideoNotifier;
      instance.muted = true;
      instance.muted = false;
      heard.length = 0;
    });
    publish(site.sockets.at(-1), fields);
    await tab.until("heard.length === 1");
    return tab.call(() => {
      const root = document.querySelector("video-notifier-toasts").shadowRoot;
      const all = [...root.querySelectorAll("*")];
      return {
        count: root.querySelectorAll(".vw-toast").length,
        headline: root.querySelector("h2").textContent,
        titles: [...root.querySelectorAll(".title")].map(({ textContent }) => textContent),
        addresses: all.flatMap((each) => ["href", "src"].map((name) => each.getAttribute(name)).filter(Boolean)),
        scripts: all.filter((each) => /^(script|iframe|object|embed|style|link|svg|math|input)$/.test(each.localName))
          .length,
        handlers: all.flatMap((each) => each.getAttributeNames()).filter((name) => /^on|^style$|^srcdoc$/.test(name)),
      };
    });
  }

  inEngine("publications to four windows that are all seen are shown once each", async (t) => {
    const server = await Server.start();
    t.after(() => server.close());
    site.pages["/"] = page(
      `<script>${RECORD}${WATCH}</script><script defer src="${server.origin}/notifier.js"></script>`,
    );
    const tabs = [await open(), await open(), await open(), await open()];
    for (const tab of tabs) assert.equal(await tab.evaluate("document.hidden"), false);
    const titles = Array.from({ length: 5 }, (_, index) => `title ${index}`);
    const shown = async () => (await Promise.all(tabs.map((tab) => tab.evaluate("shown")))).flat();
    for (const title of titles) {
      await server.publish(title);
      await eventually(async () => (await shown()).includes(title), { what: `a toast: ${title}` });
      // Beyond the time within which several become one.
      const from = await tabs[0].evaluate("performance.now()");
      await tabs[0].until(`performance.now() - ${from} > 300`);
    }
    for (const tab of tabs) await tab.until("heard.length === 5");
    assert.deepEqual((await shown()).toSorted(), titles);
  });

  inEngine("hostile text in any field is shown as it is, and runs nothing", async () => {
    const tab = await open();
    for (const text of HOSTILE_TEXTS) {
      const video = { id: text, title: text, thumb: text, url: text, [text]: text };
      const shown = await toastOf(tab, { region: text, count: text, videos: [video], timestamp: text });
      const headline = `1 new trending video · ${text}`;
      assert.deepEqual(shown, { count: 1, headline, titles: [text], addresses: [], scripts: 0, handlers: [] });
    }
    for (const url of HOSTILE_URLS) {
      const { addresses } = await toastOf(tab, { videos: [{ id: 1, title: "t", url, thumb: url }] });
      assert.deepEqual(addresses, [], JSON.stringify(url));
    }
    const { addresses } = await toastOf(tab, { videos: [{ id: 1, title: "t", url: "/watch?v=1" }] });
    assert.deepEqual(addresses, [`${site.origin}/watch?v=1`], "a harmless one is a link");
    assert.deepEqual(await tab.evaluate("[pwned, location.pathname, document.title]"), [[], "/", "a page"]);
  });

  inEngine("a page with a strict policy and Trusted Types sees a styled toast and no violation", async () => {
    const tab = await open("/strict");
    const { titles } = await toastOf(tab, {
      videos: [{ id: 1, title: "<img src=x onerror=alert(1)>", url: "/watch" }],
    });
    assert.deepEqual(titles, ["<img src=x onerror=alert(1)>"]);
    const display = `getComputedStyle(document.querySelector("video-notifier-toasts").shadowRoot.querySelector(".vw-toast")).display`;
    assert.equal(await tab.evaluate(display), "grid");
    // The icon is the browser's own idea.
    const violations = "violations.filter((each) => !each.endsWith('/favicon.ico'))";
    assert.deepEqual(await tab.evaluate(`[${violations}, pwned]`), [[], []]);
    // That the policy is in force, and would have been seen to be broken.
    await tab.evaluate("void document.body.setAttribute('style', 'color: red')");
    await tab.until(`${violations}.length > 0`);
  });

  inEngine("a toast takes no focus; Tab reaches it, Escape closes it, and focus is back where it was", async () => {
    const tab = await open();
    const focused = () =>
      tab.evaluate(
        "document.querySelector('video-notifier-toasts').shadowRoot.activeElement?.localName ?? document.activeElement.id",
      );
    await tab.evaluate("document.getElementById('after').focus()");
    publish(site.sockets[0], { videos: [{ id: 1, title: "a title", url: "/watch" }] });
    await eventually(async () => (await tab.toasts()).length === 1, { what: "a toast" });
    assert.equal(await focused(), "after");
    await tab.press("Tab");
    assert.equal(await focused(), "a");
    await tab.press("Tab");
    assert.equal(await focused(), "button");
    await tab.press("Tab", { shift: true });
    assert.equal(await focused(), "a");
    await tab.press("Escape");
    await eventually(async () => (await tab.toasts()).length === 0, { what: "no toast" });
    assert.equal(await focused(), "after");
  });

  inEngine("a frame without an origin of its own has a connection of its own", async () => {
    const script = `<script src=&quot;${site.origin}/notifier.js&quot;></script>`;
    site.pages["/framed"] = page("", `<iframe sandbox="allow-scripts" srcdoc="${script}"></iframe>`);
    opened.push(await engine.open(`${site.origin}/framed`), await engine.open(`${site.origin}/framed`));
    await eventually(() => site.sockets.length === 2, { what: "two sockets" });
    publish(site.sockets[0]);
    say(site.sockets[0], { type: "reconnect", after_ms: 0 });
    site.sockets[0].close(1012);
    await eventually(() => site.sockets.length === 3, { what: "it comes back" });
  });

  inEngine("close leaves no connection, lock, timer, listener or element", async (t) => {
    const server = await Server.start();
    t.after(() => server.close());
    site.pages["/"] = page(
      `<script>(${countLeftovers})()</script><script defer src="${server.origin}/notifier.js"></script>`,
    );
    const tab = await open();
    await server.publish("a title");
    await eventually(async () => (await tab.toasts()).length === 1, { what: "a toast" });
    await tab.evaluate("void VideoNotifier.instance.refetch(() => {})");
    const left = () =>
      tab.call(async () => {
        const { held, pending } = await navigator.locks.query();
        const elements = document.querySelectorAll("video-notifier-toasts").length;
        return { timers: timers.size, listeners: listeners.size, elements, locks: held.length + pending.length };
      });
    const { timers, listeners, elements, locks } = await left();
    assert.ok(timers >= 2 && listeners >= 3 && elements === 1 && locks === 2, JSON.stringify(await left()));
    await tab.evaluate("void VideoNotifier.instance.close()");
    await eventually(async () => (await left()).locks === 0, { what: "no lock" });
    await tab.evaluate("void ['online', 'pageshow', 'focus'].map((type) => dispatchEvent(new Event(type)))");
    await eventually(async () => (await server.connections()) === 0, { what: "no connection" });
    assert.deepEqual(await left(), { timers: 0, listeners: 0, elements: 0, locks: 0 });
  });
}
