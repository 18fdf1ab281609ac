// The pictures of the documentation: each is taken of what really stands on a page, after a look that it is all there
// and nothing is cut off. UPDATE_PICTURES=1 keeps them in docs/.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { after, afterEach, before, test } from "node:test";
import { Chromium } from "./support/chromium.js";
import { Server } from "./support/server.js";
import { Site } from "./support/site.js";
import { eventually } from "./support/wait.js";

const docs = new URL("../../docs/", import.meta.url);

/** A reader on a slow link must not wait for them. */
const MAX_BYTES = 60_000;

const PHONE = { width: 320, height: 640, scale: 1.5 };

/** Oldest first. */
const POSTS = [
  ["JP", 12, "Fireworks on a summer night", "A night train through Hokkaido"],
  ["US", 37, "A cat learns to swim", "Ten minutes of rain on a tin roof", "The fastest sandwich in Chicago"],
];

const names = new Intl.DisplayNames("en", { type: "region" });

/** A site for videos, as far as it takes one to see that it is one. */
const videos = (script, attributes) => `<!doctype html>
  <html ${attributes}>
  <meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Videos</title>
  <style>
    :root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif; background: light-dark(#f3f4f6, #0e1014) }
    body { margin: 24px; display: grid; gap: 20px 16px; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)) }
    h1 { font-size: 1.4rem; margin: 0; grid-column: 1 / -1 }
    div { aspect-ratio: 16 / 9; border-radius: 10px; background: light-dark(#dde1e7, #22262e) }
  </style>
  ${script}
  <body><h1>${attributes.includes("rtl") ? "סרטונים" : "Videos"}</h1>${"<div></div>".repeat(16)}`;

let chromium;
let server;
let site;
let tab;
before(async () => {
  chromium = await Chromium.start("--hide-scrollbars");
  server = await Server.start();
  site = await Site.start();
  const script = `<script defer src="${server.origin}/notifier.js" data-storage="none" data-link="/{region}"></script>`;
  site.pages = {
    "/": videos(script, 'lang="en"'),
    "/rtl": videos(script, 'lang="he" dir="rtl"'),
  };
});
afterEach(() => tab?.close());
after(async () => {
  await chromium?.close();
  await server?.close();
  await site?.close();
});

async function open(url, { scheme = "light", width, height, scale, mobile = false }) {
  tab = await chromium.open();
  await tab.send("Emulation.setDeviceMetricsOverride", {
    width,
    height,
    deviceScaleFactor: scale,
    mobile,
  });
  await tab.send("Emulation.setEmulatedMedia", {
    features: [{ name: "prefers-color-scheme", value: scheme }],
  });
  await tab.go(url);
  await tab.until("VideoNotifier.instance.state === 'open'");
}

/** Each becomes a toast of its own; none moves any more. */
async function post(posts) {
  for (const [region, count, ...titles] of posts) {
    const list = titles.map((title, index) => ({
      id: `${title} ${performance.now()}`,
      title,
      url: `/watch/${index}`,
    }));
    await server.post({ region, count, videos: list });
    await eventually(async () => (await tab.toasts()).some((text) => text.includes(titles[0])), { what: titles[0] });
    const last = await tab.evaluate("performance.now()");
    await tab.until(`performance.now() - ${last} > 300`);
  }
  await tab.call(async () => {
    const { shadowRoot } = document.querySelector("video-notifier-toasts");
    await Promise.all(shadowRoot.getAnimations().map(({ finished }) => finished));
  });
}

/** Each says in its first line how many there are and where, and lists the titles. */
async function assertToasts(posts) {
  const standing = await tab.toasts();
  assert.equal(standing.length, posts.length);
  for (const [index, [region, count, ...titles]] of posts.entries()) {
    const [headline, ...lines] = standing[index].split("\n");
    assert.ok(headline.startsWith(`${count} `) && headline.includes(names.of(region)), headline);
    assert.deepEqual(lines.slice(0, titles.length), titles);
  }
}

/**
 * Nothing that is to be seen is beyond the sides, in the page or in a toast, and no toast is beyond top and bottom, unless
 * they are higher than the window and can be scrolled.
 */
async function assertFits() {
  const beyond = await tab.call(() => {
    const { shadowRoot } = document.querySelector("video-notifier-toasts");
    const toasts = [...shadowRoot.querySelectorAll(".vw-toast")];
    const stack = shadowRoot.querySelector(".stack");
    const isHigher = stack.scrollHeight > stack.clientHeight;
    const all = [
      ...document.body.querySelectorAll("*"),
      ...toasts.flatMap((each) => [each, ...each.querySelectorAll("*")]),
    ];
    const found = all.filter((each) => {
      const { left, right, top, bottom, width } = each.getBoundingClientRect();
      const isOut =
        left < 0 || right > innerWidth || (!isHigher && toasts.includes(each) && (top < 0 || bottom > innerHeight));
      // A button's sign may be larger than the button.
      const isCut = each.clientWidth > 0 && each.scrollWidth > each.clientWidth && each.localName !== "button";
      return width > 0 && (isOut || isCut);
    });
    const scrolls = document.documentElement.scrollWidth > innerWidth ? ["the page scrolls sideways"] : [];
    return [...scrolls, ...found.map(({ localName, id, className }) => `${localName}#${id}.${className}`)];
  });
  assert.deepEqual(beyond, []);
}

async function picture(name) {
  const png = await tab.screenshot();
  assert.equal(png.subarray(1, 4).toString("latin1"), "PNG");
  assert.ok(png.length < MAX_BYTES, `${name}: ${png.length} bytes`);
  if (process.env.UPDATE_PICTURES) await writeFile(new URL(name, docs), png);
}

for (const [name, scheme] of [
  ["toast.png", "light"],
  ["toast-dark.png", "dark"],
]) {
  test(`two toasts stand at the edge of a page that is ${scheme}`, async () => {
    await open(`${site.origin}/`, {
      scheme,
      width: 760,
      height: 500,
      scale: 1.25,
    });
    await post(POSTS);
    await assertToasts(POSTS);
    await assertFits();
    await picture(name);
  });
}

test("on a phone a toast takes the width that there is, and no more", async () => {
  await open(`${site.origin}/`, { ...PHONE, mobile: true });
  await post(POSTS);
  await assertToasts(POSTS);
  await assertFits();
  await picture("toast-phone.png");
});

test("on a page that reads from the right the toast is on the left", async () => {
  await open(`${site.origin}/rtl`, { ...PHONE, width: 480, height: 320 });
  await post([["IL", 2, "חתול לומד לשחות", "גשם על גג פח"]]);
  const { left, right } = await tab.call(() =>
    document
      .querySelector("video-notifier-toasts")
      .shadowRoot.querySelector(".vw-toast")
      .getBoundingClientRect()
      .toJSON(),
  );
  assert.ok(left < 480 - right, `from ${left} to ${right}`);
  assert.match((await tab.toasts())[0], /חתול לומד לשחות\nגשם על גג פח/);
  await assertFits();
  await picture("toast-rtl.png");
});

test("the show-case shows the connection, the feed, what can be chosen, and a toast", async () => {
  await open(`${server.origin}/`, { width: 1040, height: 540, scale: 0.75 });
  await post(POSTS.slice(1));
  await assertToasts(POSTS.slice(1));
  const text = await tab.evaluate("document.body.innerText");
  for (const part of ["Connected", "/notify", "United States: 37 new videos", "한국어", "<script defer"])
    assert.ok(text.includes(part), part);
  await assertFits();
  await picture("showcase.png");
});

for (const query of ["", "?theme=dark&dir=rtl", "?regions=US,a-region-with-quite-a-long-name"]) {
  test(`the show-case fits on a phone: /${query}`, async () => {
    await open(`${server.origin}/${query}`, { ...PHONE, mobile: true });
    await post([["US", 123456, "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"]]);
    await tab.until("document.querySelectorAll('#feed > li').length > 0");
    await assertFits();
    // Twice the text.
    await tab.call(() => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(":root { font-size: 200% }");
      document.adoptedStyleSheets = [sheet];
    });
    await assertFits();
  });
}
