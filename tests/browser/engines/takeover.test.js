// As ../takeover.test.js, in Firefox and WebKit: the leader of eight tabs is lost again and again, under a stream of
// publications. No browser tells how to freeze a page but Chromium, and WebKitWebDriver does not survive one that crashes.

import { after, before, describe, test } from "node:test";
import { ENGINES } from "../support/engine.js";
import { Server } from "../support/server.js";
import { RECORD } from "../support/sharing.js";
import { page, Site } from "../support/site.js";
import { loseLeaders } from "../support/takeover.js";

const TABS = 8;
const LOSSES = Number(process.env.LEADER_LOSSES ?? 30);
/** Twice what Chromium has: on a busy machine Firefox, a process for each tab, waits for its turn. */
const TAKEOVER_MS = 500;

for (const Engine of ENGINES.slice(1)) {
  describe(Engine.name, () => {
    let engine;
    let server;
    let site;
    before(async () => {
      engine = await Engine.start();
      server = await Server.start("--history", "memory", "--history-max-count", "100000", "--replay-max", "10000");
      site = await Site.start();
      const script = `<script>${RECORD}</script><script defer src="${server.origin}/notifier.js"></script>`;
      site.pages = { "/": page(script), "/plain": page("") };
    });
    after(async () => {
      await engine?.close();
      await site?.close();
      await server?.close();
    });

    const ways = {
      closed: (leader) => leader.close(),
      async navigated(leader) {
        await leader.go(`${site.origin}/plain`);
        await leader.close();
      },
      ...(!("crash" in Engine.lacks) && { crashed: (leader) => leader.crash() }),
      ...(!("cache" in Engine.lacks) && {
        async cached(leader) {
          await leader.go(`${site.origin}/plain`);
          return () => leader.back();
        },
      }),
    };

    test(`${Engine.name}: ${LOSSES} times the leader of ${TABS} tabs is lost`, { timeout: 120_000 }, (t) =>
      loseLeaders({
        t,
        server,
        tabCount: TABS,
        losses: LOSSES,
        takeoverMs: TAKEOVER_MS,
        open: () => engine.open(`${site.origin}/`, { newWindow: false }),
        ways,
      }),
    );
  });
}
