// The toast and the server's own page under axe: WCAG 2.2 A and AA, and the best practices, in every look they have.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import axe from "axe-core";
import { Engine, needs } from "./support/engine.js";
import { Server } from "./support/server.js";
import { page, publish, Site } from "./support/site.js";
import { eventually } from "./support/wait.js";

const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

const engine = await Engine.start();
let site;
let server;
let tab;
before(async () => {
  site = await Site.start();
  const attributes = 'data-storage="none" data-link="/trending?region={region}"';
  const body = "<main><h1>A page</h1><p>With text.</p></main>";
  site.pages["/"] = page(`<script defer src="/notifier.js" ${attributes}></script>`, body);
  site.pages["/rtl"] = site.pages["/"].replace("<html", '<html dir="rtl"');
  // A picture must load, or it is gone.
  site.pages["/a.svg"] = ['<svg xmlns="http://www.w3.org/2000/svg"/>', { "content-type": "image/svg+xml" }];
  server = await Server.start();
  await server.publish("a title", { count: 12 });
});
afterEach(() => engine.closeTabs());
after(async () => {
  await engine.close();
  await site?.close();
  await server?.close();
});

async function open(url, media) {
  await engine.prefer(media);
  tab = await engine.open(url);
  await tab.until("VideoNotifier.instance.state === 'open'");
  for (const [feature, value] of Object.entries(media)) await tab.until(`matchMedia("(${feature}: ${value})").matches`);
  await tab.evaluate(`(() => { ${axe.source} })()`);
}

/** With all that it can hold: links, pictures, titles of both directions, and the rest in a number. */
async function openToast(path, media) {
  await open(`${site.origin}${path}`, media);
  const titles = ["A cat learns to swim", "שלום עולם", "Knots"];
  const videos = titles.map((title, id) => ({ id, title, url: "/watch", thumb: "/a.svg" }));
  publish(site.sockets.at(-1), { count: 37, videos });
  await settled();
}

/** A toast stands, and does not move any more: halfway in, its colours are not its own. */
async function settled() {
  await eventually(async () => (await tab.toasts()).length === 1, { what: "a toast" });
  await tab.call(async () => {
    const { shadowRoot } = document.querySelector("video-notifier-toasts");
    for (const { finished } of shadowRoot.getAnimations()) await finished;
  });
}

/** What is wrong, what axe can't tell, in lines, and the rules that found something to look at. */
function audit() {
  return tab.call(async (values) => {
    const { violations, incomplete, passes } = await axe.run({ runOnly: values });
    const lines = (rules) =>
      rules.flatMap(({ id, nodes }) =>
        nodes.map((node) => `${id}: ${node.target.flat().join(" ")} ${node.failureSummary}`),
      );
    return { violations: lines(violations), incomplete: lines(incomplete), passes: passes.map(({ id }) => id) };
  }, RULES);
}

async function assertAccessible() {
  const { violations, incomplete, passes } = await audit();
  assert.deepEqual(violations, []);
  // The sign on the close button is no text that somebody would say; the button's name is "Close".
  const open = incomplete.filter((line) => !line.startsWith("label-content-name-mismatch: video-notifier-toasts "));
  assert.deepEqual(open, [], "nothing is left for the eye to tell");
  for (const rule of ["color-contrast", "target-size", "region", "button-name", "link-name"])
    assert.ok(passes.includes(rule), `${rule} had nothing to look at`);
}

const LOOKS = {
  "in the light": ["/", { "prefers-color-scheme": "light" }],
  "in the dark": ["/", { "prefers-color-scheme": "dark" }],
  "in forced colours": ["/", { "forced-colors": "active" }, "forced colours"],
  "in dark forced colours": ["/", { "forced-colors": "active", "prefers-color-scheme": "dark" }, "dark forced colours"],
  "from the right": ["/rtl", {}],
  "with reduced motion": ["/", { "prefers-reduced-motion": "reduce" }],
};

for (const [look, [path, media, ability]] of Object.entries(LOOKS)) {
  test(`axe finds nothing wrong with a toast ${look}`, needs(ability), async () => {
    await openToast(path, media);
    await assertAccessible();
  });
}

for (const scheme of ["light", "dark"]) {
  test(`axe finds nothing wrong with the server's page, ${scheme}, with a toast and without`, async () => {
    await open(`${server.origin}/`, { "prefers-color-scheme": scheme });
    await tab.until("document.querySelectorAll('#feed > li').length > 0");
    await assertAccessible();
    await server.publish("another");
    await settled();
    await assertAccessible();
  });
}

test("axe would find what is wrong in a toast: colours that can't be read, and a button without a name", async () => {
  await openToast("/", { "prefers-color-scheme": "light" });
  await tab.call(() => {
    document.documentElement.style.setProperty("--vn-color", "#bbb");
    const close = document.querySelector("video-notifier-toasts").shadowRoot.querySelector("button");
    close.removeAttribute("aria-label");
    close.textContent = "";
  });
  const { violations } = await audit();
  for (const rule of ["color-contrast", "button-name"])
    assert.ok(
      violations.some((line) => line.startsWith(`${rule}: video-notifier-toasts `)),
      violations.join("\n"),
    );
});
