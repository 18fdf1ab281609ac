import assert from "node:assert/strict";
import test from "node:test";
import { Positions } from "../src/position.js";

/** A slot that several tabs share. */
function slot(value = null) {
  return {
    get: () => value,
    set: (next) => {
      value = JSON.parse(JSON.stringify(next));
    },
  };
}

test("nothing is known at first", () => {
  assert.equal(new Positions(slot(), []).since, null);
  assert.equal(new Positions(slot(), ["US"]).since, null);
});

test("the latest position is where to go on, and it outlives the page", () => {
  const kept = slot();
  const positions = new Positions(kept, ["US"]);
  positions.advance("a-9");
  positions.take("a-10");
  positions.advance("a-3");
  assert.equal(positions.since, "a-10");
  assert.equal(new Positions(kept, ["US"]).since, "a-10");
});

test("offsets beyond 2^53 are told apart", () => {
  const positions = new Positions(slot(), []);
  positions.advance("a-9007199254740993");
  positions.advance("a-9007199254740992");
  assert.equal(positions.since, "a-9007199254740993");
});

test("each region has its own position, and the oldest of those asked for counts", () => {
  const kept = slot();
  new Positions(kept, ["US"]).advance("a-10");
  new Positions(kept, ["JP", "GB"]).advance("a-50");
  assert.equal(new Positions(kept, ["US"]).since, "a-10");
  assert.equal(new Positions(kept, ["GB"]).since, "a-50");
  assert.equal(new Positions(kept, ["GB", "US"]).since, "a-10");
  assert.equal(new Positions(kept, ["GB", "FR"]).since, "a-50");
  assert.equal(new Positions(kept, ["FR"]).since, null);
  assert.equal(new Positions(kept, []).since, "a-10");
});

test("who has heard of all regions has heard of each", () => {
  const kept = slot();
  new Positions(kept, ["US"]).advance("a-10");
  new Positions(kept, []).advance("a-20");
  new Positions(kept, ["JP"]).advance("a-30");
  assert.equal(new Positions(kept, ["US"]).since, "a-20");
  assert.equal(new Positions(kept, ["JP"]).since, "a-30");
  assert.equal(new Positions(kept, []).since, "a-20");
});

test("an older since never moves a region back", () => {
  const positions = new Positions(slot(), ["US"]);
  positions.advance("a-10");
  positions.ask(["US", "JP"]);
  positions.advance("a-5");
  positions.ask(["US"]);
  assert.equal(positions.since, "a-10");
});

test("nothing is new twice, over reloads too, and 200 are remembered", () => {
  const kept = slot();
  const positions = new Positions(kept, []);
  for (let offset = 1; offset <= 300; offset++) assert.ok(positions.take(`a-${offset}`));
  const reloaded = new Positions(kept, []);
  assert.equal(reloaded.take("a-300"), false);
  assert.equal(reloaded.take("a-101"), false);
  assert.equal(reloaded.take("a-100"), true);
  assert.ok(kept.get().seen.length <= 200);
});

test("another tab does not make new things old for this one, but for the next page", () => {
  const kept = slot();
  const [one, two] = [new Positions(kept, []), new Positions(kept, [])];
  assert.ok(one.take("a-1"));
  assert.ok(two.take("a-2"));
  const next = new Positions(kept, []);
  assert.deepEqual([next.take("a-1"), next.take("a-2"), next.since], [false, false, "a-2"]);
  assert.ok(two.take("a-1"));
});

test("another epoch starts over", () => {
  const positions = new Positions(slot(), ["US"]);
  positions.take("a-10");
  positions.restart("b-3");
  assert.equal(positions.since, "b-3");
  assert.ok(positions.take("b-10"));
});

test("a history that went back takes positions and what was seen with it", () => {
  const kept = slot();
  const positions = new Positions(kept, []);
  positions.take("a-10");
  positions.restart("a-4");
  assert.equal(positions.since, "a-4");
  assert.ok(positions.take("a-10"));
  assert.equal(new Positions(kept, []).since, "a-10");
});

test("a position beyond the retention moves on, and what was seen stays seen", () => {
  const positions = new Positions(slot(), []);
  positions.take("a-10");
  positions.restart("a-400");
  assert.equal(positions.since, "a-400");
  assert.equal(positions.take("a-10"), false);
});

test("what nobody here has stored is ignored", () => {
  const good = { epoch: "a", offsets: { US: "1" }, seen: ["1"] };
  assert.equal(new Positions(slot(good), ["US"]).since, "a-1");
  for (const bad of [
    7,
    "x",
    [],
    {},
    { ...good, epoch: "<b>" },
    { ...good, offsets: { US: 1.5 } },
    { ...good, offsets: null },
    { ...good, seen: { length: 3 } },
    { ...good, seen: ["x"] },
  ]) {
    assert.equal(new Positions(slot(bad), ["US"]).since, null, JSON.stringify(bad));
  }
});
