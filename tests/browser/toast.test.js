// The toast as readers meet it: by eye, by ear, by mouse and by keyboard.

import assert from "node:assert/strict";
import { after, afterEach, beforeEach, test } from "node:test";
import { Engine, needs } from "./support/engine.js";
import { page, publish, Site } from "./support/site.js";
import { eventually } from "./support/wait.js";

const engine = await Engine.start();
let site;
let tab;
beforeEach(async () => {
  site = await Site.start();
  const script = '<script defer src="/notifier.js" data-manual></script>';
  const start = (options) =>
    `<script>addEventListener("DOMContentLoaded", () => {
      window.notifier = new VideoNotifier("/ws", { storage: "none", ...${JSON.stringify(options)} });
      window.root = document.querySelector("video-notifier-toasts").shadowRoot;
    })</script>`;
  const body = '<button id="before">before</button> <input id="field">';
  site.pages["/"] = page(script + start({}), body);
  site.pages["/short"] = page(script + start({ toastSeconds: 0.4 }), body);
  site.pages["/rtl"] = page(script + start({}), body).replace("<html", '<html dir="rtl"');
});
afterEach(async () => {
  await engine.closeTabs();
  await engine.prefer({});
  await site.close();
});
after(() => engine.close());

async function open(path = "/", { newWindow = true } = {}) {
  tab = await engine.open(`${site.origin}${path}`, { newWindow });
  await tab.until("notifier.state === 'open'");
}

async function show(title = "a title", more = {}) {
  publish(site.sockets.at(-1), { videos: [{ id: 1, title, url: "/watch" }], ...more });
  await eventually(async () => (await tab.toasts()).some((text) => text.includes(title)), { what: `toast: ${title}` });
}

/** Several, each beyond the time within which they would become one. */
async function showApart(...titles) {
  for (const title of titles) {
    const last = await tab.evaluate("Date.now()");
    await tab.until(`Date.now() - ${last} > 300`);
    await show(title);
  }
}

const toasts = (count) => tab.until(`root.querySelectorAll(".vw-toast").length === ${count}`);

/** A box on the page: of the first element of the toasts that the selector finds. */
const box = (selector) =>
  tab.call((selector) => root.querySelector(selector).getBoundingClientRect().toJSON(), selector);

const focused = () => tab.evaluate("root.activeElement?.localName ?? document.activeElement.id");

test("the status region is there before any toast, and empty", async () => {
  await open();
  const status = await tab.call(() => {
    const [region, ...more] = root.querySelectorAll("[role=status]");
    return [region.textContent, region.isConnected, more.length, root.mode, root.querySelectorAll(".vw-toast").length];
  });
  assert.deepEqual(status, ["", true, 0, "open", 0]);
  assert.ok(
    (await tab.accessibilityTree()).some(({ role }) => role === "status"),
    "in the accessibility tree",
  );
});

test("what is said is the headline, and no button is in what is said", async () => {
  await open();
  await show("a title", { count: 12 });
  const said = await tab.call(() => {
    const region = root.querySelector("[role=status]");
    return [region.textContent, region.querySelectorAll("button, a").length];
  });
  assert.deepEqual(said, ["12 new trending videos · United States", 0]);
  const tree = await tab.accessibilityTree();
  assert.ok(tree.some(({ role, name }) => role === "region" && name === "new trending videos"));
  assert.ok(tree.some(({ role, name }) => role === "button" && name === "Close"));
  assert.ok(tree.some(({ role, name }) => role === "link" && name === "a title"));
});

test("what is said twice is said again", async () => {
  await open();
  await show("first");
  await tab.call(() => {
    window.changes = 0;
    const options = { childList: true, characterData: true, subtree: true };
    new MutationObserver(() => window.changes++).observe(root.querySelector("[role=status]"), options);
  });
  await showApart("second");
  await tab.until("changes > 0");
  assert.equal(
    await tab.evaluate("root.querySelector('[role=status]').textContent"),
    "1 new trending video · United States",
  );
});

test("a title is of no language that anybody knows, whatever that of the page", async () => {
  await open();
  await show("日本語の題名");
  assert.deepEqual(
    await tab.call(() => [".frame", ".title"].map((each) => root.querySelector(each).getAttribute("lang"))),
    ["en", ""],
  );
});

test("the close button is a target of at least 24 pixels, and closes by mouse", async () => {
  await open();
  await show();
  const { x, y, width, height } = await box("button");
  assert.ok(width >= 24 && height >= 24, `${width} x ${height}`);
  await tab.click(x + width / 2, y + height / 2);
  await toasts(0);
});

test("a toast never takes the focus", async () => {
  await open();
  await tab.evaluate("document.getElementById('field').focus()");
  await show();
  assert.equal(await focused(), "field");
});

test("Tab reaches the toast, Escape closes it, and focus is back where it was", async () => {
  await open();
  await tab.evaluate("document.getElementById('field').focus()");
  await show();
  await tab.press("Tab");
  assert.equal(await focused(), "a");
  await tab.press("Tab");
  assert.equal(await focused(), "button");
  await tab.press("Tab", { shift: true });
  assert.equal(await focused(), "a");
  await tab.press("Escape");
  await toasts(0);
  assert.equal(await focused(), "field");
});

test("Enter on the close button closes, and gives focus back too", async () => {
  await open();
  await tab.evaluate("document.getElementById('before').focus()");
  await show();
  await tab.evaluate("root.querySelector('button').focus()");
  await tab.press("Enter");
  await toasts(0);
  assert.equal(await focused(), "before");
});

test("Escape from elsewhere closes the newest, and leaves focus alone", async () => {
  await open();
  await tab.evaluate("document.getElementById('field').focus()");
  await showApart("older", "newer");
  await tab.press("Escape");
  await toasts(1);
  assert.match((await tab.toasts())[0], /older/);
  assert.equal(await focused(), "field");
});

test("an Escape that the page has used closes nothing", async () => {
  await open();
  await show();
  await tab.evaluate("document.body.addEventListener('keydown', (event) => event.preventDefault())");
  await tab.press("Escape");
  await toasts(1);
});

test("a toast goes by itself, but not under the mouse, nor with the focus in it", async () => {
  await open("/short");
  await show("goes");
  await toasts(0);

  /** Ten times the life of a toast, as long as the hold lasts. */
  const stays = async () => {
    const from = await tab.evaluate("performance.now()");
    await tab.until(`performance.now() - ${from} > 1600`);
    assert.equal((await tab.toasts()).length, 1);
  };

  await show("under the mouse");
  const { x, y } = await box(".vw-toast");
  await tab.moveMouse(x + 20, y + 20);
  await stays();
  await tab.moveMouse(1, 1);
  await toasts(0);

  // One is closed under the mouse, and the other is not under it.
  await show("under the mouse again");
  await tab.moveMouse(x + 20, y + 20);
  await showApart("below it");
  const close = await box("button");
  await tab.click(close.x + close.width / 2, close.y + close.height / 2);
  await toasts(0);

  await show("with the focus");
  await tab.evaluate("root.querySelector('button').focus()");
  await stays();
  await tab.evaluate("document.getElementById('field').focus()");
  await toasts(0);
});

test("a toast that stands when its tab is hidden waits until somebody can see it", async () => {
  await open("/short", { newWindow: "show" in Engine.lacks });
  await show("unseen");
  const showAgain = await hide();
  const from = await tab.evaluate("performance.now()");
  await tab.until(`performance.now() - ${from} > 1600`);
  assert.deepEqual([await tab.evaluate("document.hidden"), (await tab.toasts()).length], [true, 1]);
  await showAgain();
  await toasts(0);
});

/** Another tab is shown in the same window; where none can be shown again, the page is only told so. */
async function hide() {
  if (!("show" in Engine.lacks)) {
    await engine.open("about:blank", { newWindow: false });
    await tab.until("document.hidden");
    return () => tab.show();
  }
  await tab.call(() => {
    window.isHidden = true;
    Object.defineProperty(document, "hidden", { get: () => window.isHidden });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  return () => tab.evaluate("((isHidden = false), document.dispatchEvent(new Event('visibilitychange')))");
}

test("what comes in the same moment is one toast: of one region, or of several", async () => {
  await open();
  const socket = site.sockets[0];
  for (const region of ["US", "JP", "US"]) publish(socket, { region, count: 2 });
  await tab.until("notifier.history.length === 3");
  assert.deepEqual(await tab.toasts(), [
    [
      "6 new trending videos · United States, Japan",
      "4 new trending videos · United States",
      "2 new trending videos · Japan",
    ].join("\n"),
  ]);
});

test("a toast says how old it is", async () => {
  await open();
  const [socket] = site.sockets;
  publish(socket, { timestamp: new Date(Date.now() - 5.5 * 60_000).toISOString() });
  await tab.until("notifier.history.length === 1");
  const time = () =>
    tab.call(() => document.querySelector("video-notifier-toasts").shadowRoot.querySelector(".time")?.innerText);
  assert.equal(await time(), "5 minutes ago");
  publish(socket, { timestamp: "soon" });
  await tab.until("notifier.history.length === 2");
  assert.equal(await time(), "now");
});

test("eight regions in the same moment are one toast", async () => {
  await open();
  for (const region of ["US", "JP", "GB", "FR", "DE", "BR", "IN", "KR"]) publish(site.sockets[0], { region, count: 3 });
  await tab.until("notifier.history.length === 8");
  assert.deepEqual(await tab.toasts(), [
    [
      "24 new trending videos · United States, Japan, United Kingdom +5",
      "3 new trending videos · United States",
      "3 new trending videos · Japan",
      "3 new trending videos · United Kingdom",
      "+5",
    ].join("\n"),
  ]);
});

test("at most three stand at once, the newest ones", async () => {
  await open();
  await showApart("one", "two", "three", "four");
  await toasts(3);
  assert.deepEqual(
    (await tab.toasts()).map((text) => text.split("\n")[1]),
    ["two", "three", "four"],
  );
  assert.equal(await tab.evaluate("notifier.history.length"), 4);
});

test("the toast that has the focus is not the one that makes room", async () => {
  await open();
  await show("being read");
  await tab.evaluate("root.querySelector('button').focus()");
  await showApart("two", "three", "four");
  await toasts(3);
  assert.deepEqual(
    (await tab.toasts()).map((text) => text.split("\n")[1]),
    ["being read", "three", "four"],
  );
  assert.equal(await focused(), "button");
});

test("muted shows nothing and takes away what stands", async () => {
  await open();
  await show("stands");
  await tab.evaluate("notifier.muted = true");
  await toasts(0);
  publish(site.sockets[0]);
  await tab.until("notifier.history.length === 2");
  await toasts(0);
});

test("the site's own style does not come in, and its properties and parts do", async () => {
  await open();
  await show();
  const color = (selector, property) =>
    tab.call((selector, property) => getComputedStyle(root.querySelector(selector))[property], selector, property);
  await tab.call(() => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(`
      * { color: rgb(1, 1, 1) !important; font-size: 99px }
      video-notifier-toasts { --vn-background: rgb(2, 2, 2) }
      video-notifier-toasts::part(close) { background: rgb(3, 3, 3) }
    `);
    document.adoptedStyleSheets = [sheet];
  });
  assert.notEqual(await color(".title", "color"), "rgb(1, 1, 1)");
  assert.notEqual(await color(".title", "fontSize"), "99px");
  assert.equal(await color(".vw-toast", "backgroundColor"), "rgb(2, 2, 2)");
  assert.equal(await color("button", "backgroundColor"), "rgb(3, 3, 3)");
});

test("at 320 pixels and 200 % text nothing is cut off at the sides", async () => {
  // A frame, for WebKit has no window as narrow as that.
  site.pages["/narrow"] = page("", '<iframe src="/" width="320" height="640" style="border: 0"></iframe>');
  tab = await engine.open(`${site.origin}/narrow`);
  await tab.until("frames[0].notifier?.state === 'open'");
  await tab.evaluate("void (window.root = frames[0].root, frames[0].document.documentElement.style.fontSize = '32px')");
  const title = "A title that is quite long, Donaudampfschifffahrtselektrizitätenhauptbetriebswerk";
  publish(site.sockets[0], { count: 123456, videos: [{ id: 1, title, url: "/watch" }] });
  await toasts(1);
  const { left, right } = await box(".vw-toast");
  assert.ok(left >= 0 && right <= 320, `${left} to ${right}`);
  const [inner, outer] = [await box(".content"), await box("button")];
  assert.ok(inner.right <= outer.left && outer.right <= 320, "the button is in view, beside the text");
  assert.deepEqual(
    await tab.evaluate("[frames[0].innerWidth, frames[0].document.documentElement.scrollWidth <= 320]"),
    [320, true],
  );
  const [whole, seen] = await tab.evaluate(
    "(({ scrollHeight, clientHeight }) => [scrollHeight, clientHeight])(root.querySelector('.title'))",
  );
  assert.ok(whole <= seen, `${seen} of ${whole} pixels of a title are to be seen`);
});

/** A property of a toast on a page whose reader prefers this. */
async function styleFor(property, media) {
  await engine.prefer(media);
  await open();
  for (const [feature, value] of Object.entries(media)) await tab.until(`matchMedia("(${feature}: ${value})").matches`);
  await show();
  return tab.call((property) => getComputedStyle(root.querySelector(".vw-toast"))[property], property);
}

test("it moves only where motion is welcome", async () => {
  assert.equal(await styleFor("animationName", {}), "in");
  assert.equal(await styleFor("animationName", { "prefers-reduced-motion": "reduce" }), "none");
});

test("it is darker where dark is", async () => {
  const light = await styleFor("backgroundColor", { "prefers-color-scheme": "light" });
  assert.notEqual(await styleFor("backgroundColor", { "prefers-color-scheme": "dark" }), light);
});

test("in forced colours it still has a border", needs("forced colours"), async () => {
  assert.equal(await styleFor("borderTopStyle", { "forced-colors": "active" }), "solid");
});

test("it is on the other side of a page that reads from the right, and titles have their own direction", async () => {
  await open();
  await show("latin");
  assert.ok((await box(".vw-toast")).left > 500);
  await tab.close();
  await open("/rtl");
  await show("שלום עולם");
  assert.ok((await box(".vw-toast")).right < 500);
  const directions = await tab.call(() =>
    [".title", ".vw-toast"].map((each) => getComputedStyle(root.querySelector(each)).direction),
  );
  assert.deepEqual(directions, ["rtl", "rtl"]);
  await tab.evaluate("((notifier.muted = true), (notifier.muted = false))");
  await show("latin again");
  assert.equal(await tab.evaluate("getComputedStyle(root.querySelector('.title')).direction"), "ltr");
});

test("the tag sets the language and how long a toast stays, and a site may add a language", async () => {
  const script = (attributes) => `<script defer src="/notifier.js" data-storage="none" ${attributes}></script>`;
  const opened = async (html) => {
    site.pages["/tag"] = page(html);
    tab = await engine.open(`${site.origin}/tag`);
    await tab.until("VideoNotifier.instance?.state === 'open'");
    await tab.evaluate("void (window.root = document.querySelector('video-notifier-toasts').shadowRoot)");
  };
  await opened(script('data-lang="de" data-toast-seconds="0.4"'));
  publish(site.sockets.at(-1), { count: 1234 });
  await tab.until("root.querySelector('[role=status]').textContent === '1.234 neue Trendvideos · Vereinigte Staaten'");
  await toasts(0);
  // As docs/CLIENT.md has it.
  await opened(`${script("data-manual")}<script>
    addEventListener("DOMContentLoaded", () => {
      VideoNotifier.texts.nl = { other: "# nieuwe trending video’s", one: "# nieuwe trending video", close: "Sluiten" };
      VideoNotifier.instance = new VideoNotifier("/ws", { lang: "nl", storage: "none" });
    });
  </script>`);
  publish(site.sockets.at(-1), { count: 2 });
  await tab.until("root.querySelector('[role=status]').textContent === '2 nieuwe trending video’s · Verenigde Staten'");
  assert.equal(await tab.evaluate("root.querySelector('button').getAttribute('aria-label')"), "Sluiten");
});

test("a framework that swaps the body does not lose the toasts", async () => {
  await open();
  await tab.evaluate("document.body = document.createElement('body')");
  await show("after the swap");
  assert.equal(await tab.evaluate("document.querySelectorAll('video-notifier-toasts').length"), 1);
});

test("a script that is loaded twice still makes one notifier", async () => {
  const script = '<script src="/notifier.js" data-storage="none"></script>';
  site.pages["/twice"] = page(script + script);
  tab = await engine.open(`${site.origin}/twice`);
  await tab.until("VideoNotifier.instance.state === 'open'");
  const count = "document.querySelectorAll('video-notifier-toasts').length";
  assert.deepEqual([await tab.evaluate(count), site.sockets.length], [1, 1]);
});
