// The leader of eight tabs is lost again and again, in every way there is, under a stream of publications: no tab may
// miss one or hear one twice, and the next leader has to be there at once.

import { after, test } from "node:test";
import { Engine } from "./support/engine.js";
import { Server } from "./support/server.js";
import { RECORD } from "./support/sharing.js";
import { page, Site } from "./support/site.js";
import { loseLeaders } from "./support/takeover.js";

const TABS = 8;
const LOSSES = Number(process.env.LEADER_LOSSES ?? 100);
const TAKEOVER_MS = 250;

const engine = await Engine.start();
after(() => engine.close());

/** Ways to lose a leader; each answers with how the tab comes back, or nothing where it does not. */
const ways = (plain) => ({
  closed: (leader) => leader.close(),
  crash: (leader) => leader.crash(),
  async freeze(leader) {
    await leader.freeze();
    return () => leader.resume();
  },
  async navigated(leader) {
    await leader.go(plain);
    await leader.close();
  },
  async cache(leader) {
    await leader.go(plain);
    return () => leader.back();
  },
});

test(`${LOSSES} times the leader of ${TABS} tabs is lost`, { timeout: 280_000 }, async (t) => {
  const most = ["--history-max-count", "100000", "--replay-max", "10000", "--post-rate-per-ip", "1000"];
  const server = await Server.start("--history", "memory", ...most);
  t.after(() => server.close());
  const site = await Site.start();
  t.after(() => site.close());
  const script = `<script>${RECORD}</script><script defer src="${server.origin}/notifier.js"></script>`;
  site.pages = { "/": page(script), "/plain": page("") };
  t.after(() => engine.closeTabs());
  await loseLeaders({
    t,
    server,
    tabCount: TABS,
    losses: LOSSES,
    takeoverMs: TAKEOVER_MS,
    open: () => engine.open(`${site.origin}/`, { newWindow: false }),
    ways: Object.fromEntries(Object.entries(ways(`${site.origin}/plain`)).filter(([way]) => !(way in Engine.lacks))),
  });
});
