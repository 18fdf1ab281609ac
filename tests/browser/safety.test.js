// What others write never becomes more than text, and no page's policy is broken by it. The server would refuse most of
// this when it is posted; a page must not depend on that.

import assert from "node:assert/strict";
import { after, afterEach, beforeEach, test } from "node:test";
import { Engine } from "./support/engine.js";
import { HOSTILE_TEXTS, HOSTILE_URLS, STRICT, WATCH } from "./support/hostile.js";
import { hello, page, publish, Site, say } from "./support/site.js";
import { eventually } from "./support/wait.js";

const engine = await Engine.start();
let site;
let tab;
beforeEach(async () => {
  site = await Site.start();
  // From a file, for the strict policy lets no other script run.
  site.files["/watch.js"] = WATCH;
  const attributes = 'data-storage="none" data-link="/trending?region={region}"';
  const script = `<script src="/watch.js"></script><script defer src="/notifier.js" ${attributes}></script>`;
  site.pages = { "/open": page(script), "/strict": [page(script), { "content-security-policy": STRICT }] };
});
afterEach(async () => {
  await engine.closeTabs();
  await site.close();
});
after(() => engine.close());

async function open(path) {
  tab = await engine.open(`${site.origin}${path}`);
  await tab.until("VideoNotifier.instance.state === 'open'");
}

/** Publishes, and answers with what stands in the one toast that there is then. */
async function toastOf(fields) {
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
    const [toast] = root.querySelectorAll(".vw-toast");
    return {
      count: root.querySelectorAll(".vw-toast").length,
      headline: toast.querySelector("h2").textContent,
      live: root.querySelector("[role=status]").textContent,
      titles: [...toast.querySelectorAll(".title")].map(({ textContent }) => textContent),
      elements: [...new Set([...root.querySelectorAll("*")].map(({ localName }) => localName))].sort(),
      links: [...toast.querySelectorAll("a")].map(({ href }) => href),
      images: [...toast.querySelectorAll("img")].map(({ src }) => src),
      attributes: [...new Set([...root.querySelectorAll("*")].flatMap((each) => each.getAttributeNames()))],
    };
  });
}

const PLAIN = ["a", "article", "button", "div", "h2", "li", "p", "section", "span", "ul"];

async function assertHarmless() {
  assert.deepEqual(await tab.evaluate("[pwned, errors]"), [[], []]);
  assert.equal(await tab.evaluate("location.pathname + document.title"), await tab.evaluate("'/open' + 'a page'"));
  assert.deepEqual(await tab.evaluate("Object.keys(Object.prototype)"), []);
}

test("hostile text in any field is shown as it is, and runs nothing", async () => {
  assert.ok(HOSTILE_TEXTS.length >= 50, `${HOSTILE_TEXTS.length} texts`);
  await open("/open");
  for (const text of HOSTILE_TEXTS) {
    const video = { id: text, title: text, thumb: text, url: text, [text]: text };
    const shown = await toastOf({ region: text, count: text, videos: [video], timestamp: text });
    assert.equal(shown.count, 1, text);
    assert.deepEqual(shown.titles, [text]);
    // A count that is no number is the number of videos.
    assert.equal(shown.headline, `1 new trending video · ${text}`);
    assert.equal(shown.live, shown.headline);
    // Some are names that a region may have; nothing else becomes a link.
    const region = /^\w{1,32}$/.test(text) ? [`${site.origin}/trending?region=${text}`] : [];
    assert.deepEqual([shown.links, shown.images], [region, []], text);
    for (const name of shown.elements) assert.ok(PLAIN.includes(name), name);
    assert.ok(!shown.attributes.some((name) => /^on|^style$|^srcdoc$/.test(name)), shown.attributes.join());
  }
  await assertHarmless();
});

test("a count is a whole number or it is counted", async () => {
  await open("/open");
  for (const [count, text] of [
    [1e6, "1,000,000"],
    [0, "1"],
    [-5, "1"],
    [1.5, "1"],
    [2 ** 60, "1"],
    ["9", "1"],
    [{ valueOf: "x" }, "1"],
    [["<b>"], "1"],
    [null, "1"],
  ]) {
    const { headline } = await toastOf({ count });
    assert.equal(headline.split(" ")[0], text, JSON.stringify(count));
  }
});

test("hostile addresses become neither a link nor a picture, and harmless ones do", async () => {
  await open("/open");
  for (const url of HOSTILE_URLS) {
    const { links, images, titles } = await toastOf({ region: url, videos: [{ id: 1, title: "t", url, thumb: url }] });
    assert.deepEqual([links, images, titles], [[], [], ["t"]], JSON.stringify(url));
  }
  // One that loads: a picture that does not is gone at any moment.
  site.pages["/a.svg"] = ['<svg xmlns="http://www.w3.org/2000/svg"/>', { "content-type": "image/svg+xml" }];
  const videos = [{ id: 1, title: "t", url: "/watch?v=1", thumb: "/a.svg" }];
  const { links, images, attributes } = await toastOf({ region: "US", videos });
  assert.deepEqual(links, [`${site.origin}/trending?region=US`, `${site.origin}/watch?v=1`]);
  assert.deepEqual(images, [`${site.origin}/a.svg`]);
  assert.ok(attributes.includes("referrerpolicy"), "whoever serves it learns where the reader is");
  await assertHarmless();
});

test("a hostile data-link makes no link", async () => {
  const templates = [
    "{region}",
    "javascript:alert(1)//{region}",
    "data:text/html,{region}",
    "//{region}.test/",
    "java\tscript:alert(1)",
  ];
  for (const template of templates) {
    site.pages["/open"] = page(
      `<script src="/watch.js"></script><script defer src="/notifier.js" data-storage="none"></script>
      <script>document.scripts[1].dataset.link = ${JSON.stringify(template)}</script>`,
    );
    await open("/open");
    // Regions that would make one of it.
    for (const region of ["US", "javascript", "evil"]) {
      const { links, titles } = await toastOf({ region });
      assert.deepEqual([links, titles], [[], ["a title"]], template);
    }
    await assertHarmless();
    await tab.close();
  }
});

test("a picture that does not load goes away", async () => {
  await open("/open");
  const { titles } = await toastOf({ videos: [{ id: 1, title: "t", thumb: "/not-there.png" }] });
  assert.deepEqual(titles, ["t"]);
  // Before the toast goes by itself.
  const gone = "document.querySelector('video-notifier-toasts').shadowRoot.querySelector('img') === null";
  await tab.until(gone, { within: 5000 });
  assert.equal((await tab.toasts()).length, 1);
  await eventually(() => site.requests.includes("/not-there.png"), { what: "it was asked for" });
});

test("a page with a strict policy and Trusted Types sees a styled toast and no violation", async () => {
  await open("/strict");
  const shown = await toastOf({ videos: [{ id: 1, title: "<img src=x onerror=alert(1)>", url: "/watch" }] });
  assert.deepEqual(shown.titles, ["<img src=x onerror=alert(1)>"]);
  const display = `getComputedStyle(document.querySelector("video-notifier-toasts").shadowRoot.querySelector(".vw-toast")).display`;
  assert.equal(await tab.evaluate(display), "grid");
  // The icon is the browser's own idea.
  const violations = "violations.filter((each) => !each.endsWith('/favicon.ico'))";
  assert.deepEqual(await tab.evaluate(`[${violations}, pwned, errors]`), [[], [], []]);
  // That the policy is in force, and would have been seen to be broken.
  await tab.evaluate("void document.body.setAttribute('style', 'color: red')");
  await tab.until(`${violations}.length > 0`);
  const isRefused = await tab.call(() => {
    try {
      document.body.innerHTML = "<b>";
    } catch {
      return true;
    }
    return !("trustedTypes" in window);
  });
  assert.ok(isRefused, "text that is not trusted");
});

test("messages that are malformed, huge or unknown are ignored, and the connection goes on", async () => {
  await open("/open");
  const socket = site.sockets.at(-1);
  for (const text of HOSTILE_TEXTS) socket.send(text);
  for (const value of [null, 1, [], {}, { type: null }, { type: "new_trending" }, { type: "__proto__" }])
    say(socket, value);
  publish(socket, { id: 7 });
  publish(socket, { id: "<b>-1" });
  publish(socket, { more: "x".repeat(1024 * 1024) });
  say(socket, { type: "hello", position: {} });
  say(socket, { type: "heartbeat", position: "../../etc" });
  say(socket, { type: "later", position: "aaaaaaaa-99" });
  say(socket, "{".repeat(60_000));
  say(socket, "[".repeat(60_000));
  socket.send(Buffer.from([0, 255, 1]), { binary: true });
  hello(socket, { heartbeat_ms: -1, spread_ms: "x", later: { a: 1 } });
  publish(socket, { videos: [{ id: 1, title: "after it all" }], later: [1] });
  await tab.until("heard.length === 1");
  assert.equal(await tab.evaluate("heard[0].videos[0].title"), "after it all");
  assert.equal(site.sockets.length, 1);
  await assertHarmless();
});
