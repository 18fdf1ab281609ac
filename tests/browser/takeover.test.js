// The leader of eight tabs is lost over a hundred times, in every way there is, under a stream of publications: no tab
// may miss one or hear one twice, and the next leader has to be there at once.

import { after, before, test } from "node:test";
import { Chromium } from "./support/chromium.js";
import { Server } from "./support/server.js";
import { RECORD } from "./support/sharing.js";
import { page, Site } from "./support/site.js";
import { loseLeaders } from "./support/takeover.js";

const TABS = 8;
const LOSSES = Number(process.env.LEADER_LOSSES ?? 100);
const TAKEOVER_MS = 250;

let chromium;
let server;
let site;
before(async () => {
  chromium = await Chromium.start();
  server = await Server.start("--history", "memory", "--history-max-count", "100000", "--replay-max", "10000");
  site = await Site.start();
  site.pages["/"] = page(`<script defer src="${server.origin}/notifier.js"></script>`);
  site.pages["/plain"] = page("");
});
after(async () => {
  await chromium?.close();
  await site?.close();
  await server?.close();
});

/** Ways to lose a leader; each answers with how the tab comes back, or nothing where it does not. */
const WAYS = {
  closed: (leader) => leader.close(),
  crashed: (leader) => leader.crash(),
  async frozen(leader) {
    await leader.freeze();
    return () => leader.resume();
  },
  async navigated(leader) {
    await leader.go(`${site.origin}/plain`);
    await leader.close();
  },
  async cached(leader) {
    await leader.go(`${site.origin}/plain`);
    return () => leader.back();
  },
};

test(`${LOSSES} times the leader of ${TABS} tabs is lost`, { timeout: 280_000 }, async (t) => {
  const context = await chromium.context();
  await chromium.open(undefined, { context });
  await loseLeaders({
    t,
    server,
    tabCount: TABS,
    losses: LOSSES,
    takeoverMs: TAKEOVER_MS,
    open: () => chromium.open(`${site.origin}/`, { context, newWindow: false, before: RECORD }),
    ways: WAYS,
  });
});
