import assert from "node:assert/strict";
import test from "node:test";
import { hello, published } from "./support.js";
import { Browser } from "./tabs.js";

/** Tabs that fetch anew with each notification, over a second, and what each of them fetched and got. */
async function start(count, fetched = (tab) => Promise.resolve(`of ${tab}`)) {
  const browser = new Browser();
  const tabs = Array.from({ length: count }, () => browser.open());
  const calls = [];
  const got = tabs.map(() => []);
  tabs.forEach(({ client }, tab) => {
    const fetchAnew = () => {
      calls.push(tab);
      return fetched(tab);
    };
    client.addEventListener("notification", () => client.refetch(fetchAnew));
    client.addEventListener("refetch", ({ detail }) => got[tab].push(detail.value));
  });
  await browser.pass(100);
  const { world } = browser;
  world.socket.says(hello({ spread_ms: 1000 }));
  await browser.pass(10);
  return { browser, world, tabs, calls, got };
}

test("eight tabs in sight fetch once, and all get it", async () => {
  for (const delay of [0, 1, 20]) {
    const { browser, world, calls, got } = await start(8);
    browser.delay = () => delay;
    world.socket.says(published(2));
    await browser.pass(3000);
    assert.equal(calls.length, 1, `${delay} ms`);
    assert.deepEqual(got, Array(8).fill([`of ${calls[0]}`]));
    world.socket.says(published(3));
    await browser.pass(3000);
    assert.equal(calls.length, 2);
    assert.equal(got[7].length, 2);
  }
});

test("all at the same moment are one as well", async () => {
  const { browser, world, calls, got } = await start(8, (tab) => browser.world.time && Promise.resolve(tab));
  world.random = () => -8 / 1000;
  world.socket.says(hello({ spread_ms: 0 }));
  world.socket.says(published(2));
  await browser.pass(3000);
  assert.equal(calls.length, 1);
  assert.deepEqual(got, Array(8).fill(calls));
});

test("only a tab in sight fetches; the others wait until somebody looks, or one has fetched", async () => {
  const { browser, world, tabs, calls, got } = await start(3);
  for (const tab of tabs) tab.isVisible = false;
  world.socket.says(published(2));
  await browser.pass(3000);
  assert.deepEqual(calls, []);
  tabs[1].isVisible = true;
  tabs[1].events.check();
  await browser.pass(200);
  assert.deepEqual([calls, got], [[1], [["of 1"], ["of 1"], ["of 1"]]]);
  tabs[2].isVisible = true;
  tabs[2].events.check();
  await browser.pass(3000);
  assert.deepEqual(calls, [1]);
});

test("where the tab that fetches is lost or fails, the next one does", async () => {
  const crash = (browser, tab) => {
    tab.isGone = true;
    browser.forget(tab);
  };
  const freeze = (_, tab) => {
    tab.events.leave();
    tab.isFrozen = true;
  };
  for (const lose of [crash, freeze]) {
    const { browser, world, tabs, calls, got } = await start(3, (tab) =>
      calls.length === 1 ? new Promise(() => {}) : Promise.resolve(tab),
    );
    world.socket.says(published(2));
    await browser.pass(3000);
    assert.equal(calls.length, 1);
    lose(browser, tabs[calls[0]]);
    await browser.pass(3000);
    assert.equal(calls.length, 2, lose.name);
    for (const tab of [0, 1, 2]) if (tab !== calls[0]) assert.deepEqual(got[tab], [calls[1]]);
  }
});

test("what was begun before a notification is not what it asks for", async () => {
  let answer;
  const { browser, world, calls, got } = await start(2, (tab) =>
    calls.length === 1
      ? new Promise((resolve) => {
          answer = resolve;
        })
      : Promise.resolve(tab),
  );
  world.socket.says(published(2));
  await browser.pass(3000);
  world.socket.says(published(3));
  await browser.pass(3000);
  assert.equal(calls.length, 1);
  answer("old");
  await browser.pass(3000);
  assert.equal(calls.length, 2);
  assert.deepEqual(got, Array(2).fill(["old", calls[1]]));
});

test("requests of different keys are different ones", async () => {
  const { browser, tabs, got } = await start(2);
  for (const { client } of tabs) {
    client.refetch(() => "list", "list");
    client.refetch(() => "comments", "comments");
  }
  await browser.pass(3000);
  for (const each of got) assert.deepEqual(each.toSorted(), ["comments", "list"]);
});
