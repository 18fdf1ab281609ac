// The leader of eight tabs is lost again and again, in every way there is, under a stream of publications: no tab may
// miss one or hear one twice, and the next leader has to be there at once.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Engine } from "./support/engine.js";
import { Server } from "./support/server.js";
import { RECORD } from "./support/sharing.js";
import { page, Site } from "./support/site.js";
import { loseLeaders } from "./support/takeover.js";

const TABS = 8;
const LOSSES = Number(process.env.LEADER_LOSSES ?? 100);

/** How long it may take until the next leader has a connection, at the 95th percentile. */
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

/** Loses that many, on a site and with a server of its own; answers how soon the next ones were there. */
async function series(t) {
  const most = ["--history-max-count", "100000", "--replay-max", "10000", "--post-rate-per-ip", "1000"];
  const server = await Server.start("--history", "memory", ...most);
  const site = await Site.start();
  const script = `<script>${RECORD}</script><script defer src="${server.origin}/notifier.js"></script>`;
  site.pages = { "/": page(script), "/plain": page("") };
  try {
    return await loseLeaders({
      t,
      server,
      tabCount: TABS,
      losses: LOSSES,
      open: () => engine.open(`${site.origin}/`, { newWindow: false }),
      ways: Object.fromEntries(Object.entries(ways(`${site.origin}/plain`)).filter(([way]) => !(way in Engine.lacks))),
    });
  } finally {
    await engine.closeTabs();
    await site.close();
    await server.close();
  }
}

test(`${LOSSES} times the leader of ${TABS} tabs is lost`, { timeout: 290_000 }, async (t) => {
  // Whatever it takes, none may be lost or doubled. How long it takes is also up to what else the machine has to do:
  // where one series is too slow, the one in the middle of three counts.
  const took = [await series(t)];
  if (took[0] > TAKEOVER_MS) took.push(await series(t), await series(t));
  const middle = took.toSorted((one, other) => one - other)[(took.length - 1) / 2];
  assert.ok(middle <= TAKEOVER_MS, `${took} ms at the 95th percentile`);
});
